"""Mode ``llvm-jit``: the whole module through LLVM's optimiser before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.engines.core import runtime_imports
from wasinn_runtime.engines.entries import EntryTable
from wasinn_runtime.engines.linked import load
from wasinn_runtime.engines.symbols import FunctionMap
from wasinn_runtime.errors import Invalid
from wasinn_runtime.lower.outline import ENTRIES_SYMBOL
from wasinn_runtime.valid.validate import valid_body, validate, validate_sections

if TYPE_CHECKING:
    from wasinn_runtime.engines.module import Module

__all__ = ["LlvmJit", "checked_ir"]


class LlvmJit:
    """One object with all of a module's functions, from the cache or compiled now."""

    interpreted = False
    migratable = False
    has_bodies = True

    def __init__(self, module: Module) -> None:
        engine, parsed = module.engine, module.parsed
        # A cached image proves that the same bytes were validated before, by the same proposals.
        image = engine.image(
            "module",
            [parsed.digest, repr(sorted(parsed.features))],
            lambda: checked_ir(parsed),
            engine.config.opt_level,
            (ENTRIES_SYMBOL,),
        )
        self.code = load(image, runtime_imports())
        self._reachable = [i for i in module.escaping if i >= parsed.imported_functions]
        engine.add_map(FunctionMap(module, self.code))

    def publish(self, entries: EntryTable) -> None:
        """Fill the table with what may be called from outside."""
        entries.compiled_all(self._reachable, self.code.addresses[ENTRIES_SYMBOL])

    def keep(self) -> None:
        """See ``modes.ModuleCode``: all that there is was kept before it was run."""


def checked_ir(parsed: ParsedModule) -> str:
    """The IR of a whole module, which is validated on the way.

    Raises:
        Malformed, Invalid: why it is not a module.
    """
    from wasinn_runtime.lower.units import module_unit

    try:
        validate_sections(parsed)
        first = parsed.imported_functions
        defined = range(first, first + len(parsed.code))
        return module_unit(parsed, ((index, valid_body(parsed, index)) for index in defined))
    except Invalid:
        validate(parsed)  # bytes that are malformed further on win over what is invalid
        raise
