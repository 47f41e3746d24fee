"""Engines and modules: from bytes to code that instances can run, through the cache."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from wasinn_runtime.binary.code import Body, decode_body
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.engines.cache import CodeCache, default_cache_dir
from wasinn_runtime.engines.compile import compiled
from wasinn_runtime.engines.core import core, runtime_imports, watch_interrupts
from wasinn_runtime.engines.link import Code, load
from wasinn_runtime.engines.symbols import FunctionMap
from wasinn_runtime.errors import Invalid, UsageError
from wasinn_runtime.lower.units import (
    ENTRIES_SYMBOL,
    escaping_functions,
    layout_of,
    module_unit,
    trampoline_names,
    trampoline_unit,
)
from wasinn_runtime.machine.native import Core
from wasinn_runtime.spec.opcodes import FEATURES_2_0
from wasinn_runtime.spec.types import ExternKind, ExternType, FuncType
from wasinn_runtime.valid.validate import validate, validate_function, validate_sections

__all__ = ["MODES", "Config", "Engine", "Module"]

MODES = ("llvm-jit",)


@dataclass(frozen=True, slots=True)
class Config:
    """How an engine compiles and runs.

    Attributes:
        mode: the running mode; ``llvm-jit`` is what there is.
        opt_level: LLVM's optimisation level, 0 to 3. The default is 2: what 3 adds, mostly
            unrolling, makes some loops slower (benchmarks/README.md) and none much faster.
        cache: keep compiled code on disk.
        cache_dir: where; None for ``default_cache_dir()``.
        max_stack_bytes: stack that one call into a guest may use.
        verify_ir: run LLVM's verifier on what we generate (slow; for tests).
    """

    mode: str = "llvm-jit"
    opt_level: int = 2
    cache: bool = True
    cache_dir: Path | None = None
    max_stack_bytes: int = 1 << 20
    verify_ir: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(f"unknown mode {self.mode!r}; there is {', '.join(MODES)}")
        if self.opt_level not in range(4):
            raise UsageError(f"opt_level is {self.opt_level}; expected 0, 1, 2 or 3")


_signatures: dict[FuncType, int] = {}
_types_by_number: list[FuncType] = []
_trampolines: dict[FuncType, tuple[int, int]] = {}
_lock = threading.RLock()
_trampoline_code: list[Code] = []


class Engine:
    """Compiles modules. Cheap to make; share one between threads and stores.

    Args:
        config: how; the default is full speed with the cache on.
    """

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.core: Core = core()
        if threading.current_thread() is threading.main_thread():
            watch_interrupts(self.core)
        self.max_stack_bytes = self.config.max_stack_bytes
        directory = self.config.cache_dir or default_cache_dir()
        self.cache = CodeCache(directory / "code") if self.config.cache else None
        self._maps: list[FunctionMap] = []

    # -- what stores ask for ---------------------------------------------------------------------

    def signature(self, ty: FuncType) -> int:
        """The process-wide number of a function type; equal types have equal numbers."""
        number = _signatures.get(ty)
        if number is None:
            with _lock:
                number = _signatures.get(ty)
                if number is None:
                    _types_by_number.append(ty)
                    number = _signatures[ty] = len(_types_by_number)
        return number

    def type_of_signature(self, number: int) -> FuncType:
        return _types_by_number[number - 1]

    def trampolines(self, ty: FuncType) -> tuple[int, int]:
        """Addresses of the ways into and out of guest code for a signature."""
        found = _trampolines.get(ty)
        if found is None:
            self.prepare_trampolines([ty])
            found = _trampolines[ty]
        return found

    def prepare_trampolines(self, types: Sequence[FuncType]) -> None:
        """Build or load the trampolines of several signatures at once."""
        with _lock:
            needed: dict[tuple[str, str], list[FuncType]] = {}
            for ty in types:
                if ty not in _trampolines:
                    needed.setdefault(trampoline_names(ty), []).append(ty)
            if not needed:
                return
            firsts = [group[0] for _, group in sorted(needed.items())]
            names = tuple(name for ty in firsts for name in trampoline_names(ty))
            image = self.image("trampolines", names, lambda: trampoline_unit(firsts), 2)
            code = load(image, names, runtime_imports())
            _trampoline_code.append(code)
            for (enter, leave), group in needed.items():
                for ty in group:
                    _trampolines[ty] = (code.addresses[enter], code.addresses[leave])

    def describe_address(self, pc: int) -> str | None:
        """Which guest function a code address lies in, for messages."""
        with _lock:
            maps = list(self._maps)
        for function_map in maps:
            label = function_map.label_at(pc)
            if label is not None:
                return label
        return None

    # -- compiling -------------------------------------------------------------------------------

    def add_map(self, function_map: FunctionMap) -> None:
        with _lock:
            self._maps = [m for m in self._maps if m.alive]
            self._maps.append(function_map)

    def image(
        self, kind: str, parts: Sequence[str | bytes], write_ir: Callable[[], str], opt_level: int
    ) -> bytes:
        """An object file from the cache, or compiled now; see ``compiled``."""
        return compiled(self.cache, kind, parts, write_ir, opt_level, self.config.verify_ir)


class Module:
    """A compiled module; instances of it may be made in any store of the engine, on any thread.

    Args:
        engine: what compiles it.
        data: the binary format.
        name: what to call it in messages.

    Raises:
        Malformed: the bytes are not a module.
        Invalid: it breaks a validation rule.
    """

    def __init__(
        self, engine: Engine, data: bytes | bytearray | memoryview, name: str = "<module>"
    ) -> None:
        self.engine = engine
        self.parsed = decode(bytes(data), name, FEATURES_2_0)
        self.layout = layout_of(self.parsed)
        self.escaping: Sequence[int] = escaping_functions(self.parsed)
        # A cached image proves that the same bytes were validated before.
        image = engine.image(
            "module", [self.parsed.data], self._checked_ir, engine.config.opt_level
        )
        self._code = load(image, (ENTRIES_SYMBOL,), runtime_imports())
        self._data = ctypes.c_char_p(self.parsed.data)
        self.data_address = ctypes.cast(self._data, ctypes.c_void_p).value or 0
        types = [self.parsed.func_type(i) for i in self.escaping]
        types += [self.parsed.func_type(i) for i in range(self.parsed.imported_functions)]
        engine.prepare_trampolines(types)
        self.signatures: Sequence[int] = [engine.signature(ty) for ty in self.parsed.types]
        self.entries: Sequence[tuple[int, int, int] | None] = self._read_entries()
        engine.add_map(FunctionMap(self, self._code))

    @classmethod
    def from_file(cls, engine: Engine, path: str | os.PathLike[str]) -> Module:
        """Read and compile a file.

        Raises:
            OSError: it can not be read.
            Malformed, Invalid: as the constructor.
        """
        return cls(engine, Path(path).read_bytes(), os.fspath(path))

    @staticmethod
    def validate(data: bytes | bytearray | memoryview, name: str = "<module>") -> None:
        """Decode and validate only.

        Raises:
            Malformed, Invalid: why it is not a module.
        """
        validate(decode(bytes(data), name, FEATURES_2_0))

    def llvm_ir(self) -> str:
        """The LLVM IR generated for it, before optimisation."""
        return self._checked_ir()

    def assembly(self) -> str:
        """The machine code LLVM makes of it, as text."""
        from wasinn_runtime.engines.llvm import host_target, to_assembly

        return to_assembly(self._checked_ir(), host_target(), self.engine.config.opt_level)

    @property
    def imports(self) -> list[tuple[str, str, ExternType]]:
        """Module name, name and type of each import."""
        found = []
        for i in self.parsed.imports:
            ty = self.parsed.types[i.type_index] if i.type_index is not None else i.type
            assert ty is not None
            found.append((i.module, i.name, ty))
        return found

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
            else:
                found.append((e.name, p.globals_[e.index]))
        return found

    def _checked_ir(self) -> str:
        try:
            validate_sections(self.parsed)
            return module_unit(self.parsed, self._valid_bodies())
        except Invalid:
            validate(self.parsed)  # bytes that are malformed further on win over what is invalid
            raise

    def _valid_bodies(self) -> Iterator[tuple[int, Body]]:
        parsed = self.parsed
        for i in range(len(parsed.code)):
            body = decode_body(parsed, i)
            validate_function(parsed, i, body)
            yield parsed.imported_functions + i, body

    def _read_entries(self) -> list[tuple[int, int, int] | None]:
        imported = self.parsed.imported_functions
        count = sum(index >= imported for index in self.escaping)
        table = self._code.addresses[ENTRIES_SYMBOL]
        addresses = iter((ctypes.c_uint64 * count).from_address(table))
        entries: list[tuple[int, int, int] | None] = []
        for index in self.escaping:
            ty = self.parsed.func_type(index)
            enter, _ = self.engine.trampolines(ty)
            if index < imported:
                entries.append(None)
            else:
                entries.append((next(addresses), self.engine.signature(ty), enter))
        return entries
