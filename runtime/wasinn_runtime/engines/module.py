"""Modules: decoded bytes with code in the engine's mode, ready to be instantiated."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.engines.aot_format import is_aot
from wasinn_runtime.engines.engine import Engine
from wasinn_runtime.engines.entries import EntryTable
from wasinn_runtime.engines.modes import DEFAULT_MODE, FEATURES_OF_MODE, ModuleCode, code_of_mode
from wasinn_runtime.errors import UsageError
from wasinn_runtime.lower.outline import escaping_functions, layout_of
from wasinn_runtime.spec.types import ExternKind, ExternType
from wasinn_runtime.valid.validate import validate

__all__ = ["Module"]


class Module:
    """A compiled module; instances of it may be made in any store of the engine, on any thread.

    Args:
        engine: what compiles it.
        data: the binary format.
        name: what to call it in messages.

    Raises:
        UsageError: text was given, or an AOT file.
        Malformed: the bytes are not a module.
        Invalid: it breaks a validation rule.
    """

    def __init__(
        self, engine: Engine, data: bytes | bytearray | memoryview, name: str = "<module>"
    ) -> None:
        if isinstance(cast("object", data), str):
            raise UsageError(
                "expected a module's bytes, got text: Module.from_file reads a file; tools such as "
                "wasm-tools turn the text format into bytes"
            )
        content = bytes(data)
        if is_aot(content):
            # Native code: nobody who expects a sandboxed module may run it by accident.
            raise UsageError(
                f"{name} is an AOT file, not a module; it holds native code, which no sandbox "
                "holds: if you trust it as you trust a program, load it with Module.from_aot, or "
                "run it under a name that ends in .aot"
            )
        mode = engine.config.mode
        self._set_up(engine, decode(content, name, engine.features), code_of_mode(mode))

    def _set_up(
        self, engine: Engine, parsed: ParsedModule, code: Callable[[Module], ModuleCode]
    ) -> None:
        self.engine = engine
        self.parsed = parsed
        self.layout = layout_of(self.parsed)
        self.escaping: Sequence[int] = escaping_functions(self.parsed)
        self.code: ModuleCode = code(self)
        self._data = ctypes.c_char_p(self.parsed.data)
        self.data_address = ctypes.cast(self._data, ctypes.c_void_p).value or 0
        types = [self.parsed.func_type(i) for i in self.escaping]
        types += [self.parsed.func_type(i) for i in range(self.parsed.imported_functions)]
        engine.prepare_trampolines(types)
        self.signatures: Sequence[int] = [engine.signature(ty) for ty in self.parsed.types]
        self.entries = EntryTable(engine, self.parsed)
        self.entries_address = self.entries.address
        self.code.publish(self.entries)
        self.interpreted = self.code.interpreted
        self.migratable = self.code.migratable

    @classmethod
    def from_file(cls, engine: Engine, path: str | os.PathLike[str]) -> Module:
        """Read and compile a file.

        Raises:
            OSError: it can not be read.
            Malformed, Invalid: as the constructor.
        """
        return cls(engine, Path(path).read_bytes(), os.fspath(path))

    @classmethod
    def from_aot(
        cls,
        engine: Engine,
        image: str | os.PathLike[str] | bytes | bytearray | memoryview,
        name: str | None = None,
        *,
        source: bytes | None = None,
    ) -> Module:
        """Load what ``wasinn compile`` made. It is native code: trust it as you trust a program.

        Args:
            engine: for whose stores; its mode does not matter.
            image: the file's path, or its bytes.
            name: what to call it in messages; the path by default.
            source: the module that it must have been compiled from, if that is to be checked.

        Raises:
            OSError: it can not be read.
            UnusableImage: it is damaged, or made for something else than this.
        """
        from wasinn_runtime.engines.aot import AotCode, load_image

        loaded = load_image(image, name=name, source=source)
        module = cls.__new__(cls)
        module._set_up(engine, loaded.parsed, lambda m: AotCode(m, loaded))
        return module

    def keep(self) -> None:
        """Put into the cache what runs so far made ready, if that will save a later start time.

        ``Host`` and ``wasinn run`` call it when a guest has ended. It takes some milliseconds when
        there is something new, and nothing otherwise.
        """
        self.code.keep()

    @staticmethod
    def validate(data: bytes | bytearray | memoryview, name: str = "<module>") -> None:
        """Decode and validate only.

        Raises:
            Malformed, Invalid: why it is not a module.
        """
        validate(decode(bytes(data), name, FEATURES_OF_MODE[DEFAULT_MODE]))

    def llvm_ir(self) -> str:
        """The LLVM IR generated for it, before optimisation.

        Raises:
            UsageError: it came from an AOT file, where there are no bodies.
        """
        from wasinn_runtime.engines.llvm_jit import checked_ir

        if not self.code.has_bodies:
            raise UsageError(f"{self.parsed.where} holds compiled code only, no WebAssembly code")
        return checked_ir(self.parsed)

    def assembly(self) -> str:
        """The machine code LLVM makes of it, as text."""
        from wasinn_runtime.engines.llvm import host_target, to_assembly

        return to_assembly(self.llvm_ir(), host_target(), self.engine.config.opt_level)

    @property
    def imports(self) -> list[tuple[str, str, ExternType]]:
        """Module name, name and type of each import."""
        return [(i.module, i.name, self.parsed.import_type(i)) for i in self.parsed.imports]

    @property
    def exports(self) -> list[tuple[str, ExternType]]:
        """Name and type of each export."""
        p = self.parsed
        found: list[tuple[str, ExternType]] = []
        for e in p.exports:
            if e.kind is ExternKind.FUNC:
                found.append((e.name, p.func_type(e.index)))
            elif e.kind is ExternKind.MEMORY:
                found.append((e.name, p.memories[e.index]))
            elif e.kind is ExternKind.TABLE:
                found.append((e.name, p.tables[e.index]))
            elif e.kind is ExternKind.TAG:
                found.append((e.name, p.tag_type(e.index)))
            else:
                found.append((e.name, p.globals_[e.index]))
        return found
