"""What the modes share that make a function ready only when it is called.

Validation comes with it: a function that nobody calls is neither decoded nor validated, as the
specification's appendix allows, unless the engine is told to validate eagerly.

Source: WebAssembly core specification 3.0, appendix "Implementation limitations", validation.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from wasinn_runtime.binary.code import Body
from wasinn_runtime.engines.core import runtime_imports
from wasinn_runtime.engines.entries import EntryTable
from wasinn_runtime.engines.linked import load
from wasinn_runtime.engines.place import Code
from wasinn_runtime.engines.symbols import FunctionMap
from wasinn_runtime.errors import Internal
from wasinn_runtime.lower.outline import ENTRIES_SYMBOL, callees
from wasinn_runtime.valid.validate import valid_body, validate, validate_sections

if TYPE_CHECKING:
    from wasinn_runtime.engines.module import Module

__all__ = ["Lazy"]


class Lazy:
    """A module whose functions become ready one by one. Modes override ``make_ready``."""

    interpreted = False
    has_bodies = True
    migratable = False

    def __init__(self, module: Module) -> None:
        self.engine = module.engine
        self.parsed = module.parsed
        self.layout = module.layout
        self.places = {index: i for i, index in enumerate(module.escaping)}
        self.imported = module.parsed.imported_functions
        self._lock = threading.RLock()
        self._module = weakref.ref(module)
        self._objects: list[Code] = []
        if module.engine.config.validate == "eager":
            validate(self.parsed)
        else:
            validate_sections(self.parsed)

    def publish(self, entries: EntryTable) -> None:
        """Let each function become ready at its first call."""
        self.entries = entries
        entries.defer_all(id(self))
        for index in self.places:
            if index >= self.imported:
                entries.open(index)

    def body(self, index: int) -> Body:
        """A function's body, decoded and validated.

        Raises:
            Malformed, Invalid: why the module can not run it.
        """
        return valid_body(self.parsed, index)

    def label(self, index: int) -> str:
        """See ``machine.lazy.LazyCode``."""
        return self.parsed.function_label(index)

    def callees(self, body: Body) -> set[int]:
        """The functions of this module that a body calls by number."""
        return {index for index in callees(body) if index >= self.imported}

    def link(self, image: bytes) -> int:
        """Bring compiled functions into the process; the address of their table of entries."""
        code = load(image, runtime_imports())
        self._objects.append(code)
        module = self._module()
        if module is not None:
            self.engine.add_map(FunctionMap(module, code))
        return code.addresses[ENTRIES_SYMBOL]

    def prepare(self, index: int) -> None:
        """See ``machine.lazy.LazyCode``. Threads that come at once wait for the first."""
        with self._lock:
            if self.entries.is_deferred(index):
                self.make_ready(index)

    def keep(self) -> None:
        """See ``modes.ModuleCode``."""

    def heat(self, index: int, loop: int) -> None:
        """See ``machine.lazy.LazyCode``; only modes whose code counts are ever told."""
        raise Internal(f"function {index} became hot where nothing counts")

    def make_ready(self, index: int) -> None:
        """Put working entries in place of function ``index``'s."""
        raise NotImplementedError
