"""Linkers: definitions by module and name, from which instances take their imports."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.errors import LinkError, UsageError
from wasinn_runtime.machine.blueprint import CompiledModule
from wasinn_runtime.machine.hostfunc import HostFunc
from wasinn_runtime.machine.instance import Extern, Instance
from wasinn_runtime.machine.store import Compiler, Store
from wasinn_runtime.spec.types import FuncType

__all__ = ["Linker"]


class Linker:
    """Names for what guests may import. Definitions of host functions serve any number of stores.

    Args:
        engine: whose modules it links.
        advise: says what would provide an import, by module and name, where nobody defines the
            module; it makes messages better and links nothing.
    """

    def __init__(self, engine: Compiler, advise: Callable[[str, str], str] | None = None) -> None:
        self.engine = engine
        self._advise = advise
        self.allow_shadowing = False
        self._definitions: dict[tuple[str, str], Extern | HostFunc] = {}

    def define(self, module: str, name: str, item: Extern | HostFunc) -> None:
        """Define one import.

        Raises:
            UsageError: it is defined already and ``allow_shadowing`` is False.
        """
        key = (module, name)
        if key in self._definitions and not self.allow_shadowing:
            raise UsageError(
                f"{module!r} {name!r} is defined twice; set allow_shadowing to replace"
            )
        self._definitions[key] = item

    def define_func(
        self,
        module: str,
        name: str,
        type: FuncType,
        function: Callable[..., object],
        *,
        access_caller: bool = False,
        unsigned: bool = False,
    ) -> None:
        """Define an import by a Python function; see ``HostFunc`` for the options."""
        self.define(module, name, HostFunc(type, function, access_caller, unsigned))

    def define_instance(self, module: str, instance: Instance) -> None:
        """Define all exports of an instance under a module name."""
        for name, item in instance.exports.items():
            self.define(module, name, item)

    def get(self, module: str, name: str) -> Extern | HostFunc | None:
        """A definition, or None."""
        return self._definitions.get((module, name))

    def imports_of(self, module: CompiledModule) -> list[Extern | HostFunc]:
        """The definitions of a module's imports, in order.

        Raises:
            LinkError: some have none; the message lists all of them.
        """
        found = []
        missing = []
        for wanted in module.parsed.imports:
            item = self._definitions.get((wanted.module, wanted.name))
            if item is None:
                missing.append((wanted.module, wanted.name))
            else:
                found.append(item)
        if missing:
            raise LinkError(self._complaint(module.parsed, missing))
        return found

    def instantiate(self, store: Store, module: CompiledModule) -> Instance:
        """Make an instance with imports from this linker.

        Raises:
            LinkError, Trap, LimitExceeded: as ``Instance``.
        """
        return Instance(store, module, self.imports_of(module))

    def _complaint(self, parsed: ParsedModule, missing: list[tuple[str, str]]) -> str:
        lines = [
            f"unknown import: {parsed.where} needs {len(missing)} definitions that nobody gives:"
        ]
        modules = sorted({module for module, _ in self._definitions})
        for module, name in missing:
            hint = ""
            if module in modules:
                names = [n for m, n in self._definitions if m == module]
                near = difflib.get_close_matches(name, names, 3)
                hint = f" (did you mean {', '.join(near)}?)" if near else ""
            elif self._advise is not None:
                hint = f" ({self._advise(module, name)})"
            else:
                near = difflib.get_close_matches(module, modules, 3)
                hint = f" (modules there are: {', '.join(near or modules) or 'none'})"
            lines.append(f"  {module!r} {name!r}{hint}")
        return "\n".join(lines)
