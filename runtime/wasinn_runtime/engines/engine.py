"""Engines: how modules are compiled, and what all modules of the process share."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wasinn_runtime.engines.cache import CodeCache, default_cache_dir
from wasinn_runtime.engines.compile import compiled
from wasinn_runtime.engines.core import core, runtime_imports, watch_interrupts
from wasinn_runtime.engines.linked import load
from wasinn_runtime.engines.modes import DEFAULT_MODE, FEATURES_OF_MODE, MODES
from wasinn_runtime.engines.place import Code
from wasinn_runtime.engines.symbols import FunctionMap
from wasinn_runtime.errors import LimitExceeded, UsageError
from wasinn_runtime.lower.outline import trampoline_names
from wasinn_runtime.machine.native import Core, Trampolines, reserve
from wasinn_runtime.spec.types import FuncType

__all__ = ["Config", "Engine"]


@dataclass(frozen=True, slots=True)
class Config:
    """How an engine compiles and runs.

    Attributes:
        mode: the running mode, one of ``MODES``.
        opt_level: LLVM's optimisation level, 0 to 3. The default is 2: what 3 adds, mostly
            unrolling, makes some loops slower (benchmarks/README.md) and none much faster.
        cache: keep compiled code on disk.
        cache_dir: where; None for ``default_cache_dir()``.
        max_stack_bytes: stack that one call into a guest may use.
        validate: ``lazy`` lets modes that make functions ready one by one also validate them then;
            ``eager`` validates whole modules first.
        features: the proposals that modules may use, such as those of ``parse_features("2.0")``;
            None for all that the mode knows.
        verify_ir: run LLVM's verifier on what we generate (slow; for tests).
    """

    mode: str = DEFAULT_MODE
    opt_level: int = 2
    cache: bool = True
    cache_dir: Path | None = None
    max_stack_bytes: int = 1 << 20
    validate: str = "lazy"
    features: frozenset[str] | None = None
    verify_ir: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UsageError(f"unknown mode {self.mode!r}; there is {', '.join(MODES)}")
        unknown = (self.features or frozenset()) - FEATURES_OF_MODE[self.mode]
        if unknown:
            raise UsageError(f"mode {self.mode!r} does not know {', '.join(sorted(unknown))}")
        if self.validate not in ("lazy", "eager"):
            raise UsageError(f"validate is {self.validate!r}; expected 'lazy' or 'eager'")
        if self.opt_level not in range(4):
            raise UsageError(f"opt_level is {self.opt_level}; expected 0, 1, 2 or 3")


_signatures: dict[FuncType, int] = {}
_types_by_number: list[FuncType] = []
# Generated code may look up the supertype of each.
_MOST_NUMBERED = 1 << 22
_trampolines: dict[FuncType, Trampolines] = {}
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
        known = FEATURES_OF_MODE[self.config.mode]
        self.features = known if self.config.features is None else self.config.features
        self.cache = CodeCache(directory / "code") if self.config.cache else None
        self._maps: list[FunctionMap] = []

    # -- what stores ask for ---------------------------------------------------------------------

    def signature(self, ty: FuncType) -> int:
        """The process-wide number of a function type; equal types have equal numbers."""
        number = _signatures.get(ty)
        if number is None:
            above = 0 if ty.supertype is None else self.signature(ty.supertype)
            with _lock:
                number = _signatures.get(ty)
                if number is None:
                    number = len(_types_by_number) + 1
                    if number >= _MOST_NUMBERED:
                        raise LimitExceeded(f"{number:,} function types are in use in this process")
                    _types_by_number.append(ty)
                    if ty.definition is not None:
                        self._note_supertype(number, above)
                    _signatures[ty] = number
        return number

    def _note_supertype(self, number: int, above: int) -> None:
        """Let generated code find the type that a type declares to be a subtype of."""
        place = ctypes.c_uint64.from_address(self.core.addresses["wasinn_supertypes"])
        if not place.value:
            place.value = reserve(8 * _MOST_NUMBERED, writable=True)
        ctypes.c_uint64.from_address(place.value + 8 * number).value = above

    def type_of_signature(self, number: int) -> FuncType:
        return _types_by_number[number - 1]

    def trampolines(self, ty: FuncType) -> Trampolines:
        """The adapters between the entries of functions of a signature."""
        found = _trampolines.get(ty)
        if found is None:
            self.prepare_trampolines([ty])
            found = _trampolines[ty]
        return found

    def prepare_trampolines(self, types: Sequence[FuncType]) -> None:
        """Build or load the trampolines of several signatures at once."""
        with _lock:
            needed: dict[tuple[str, str, str], list[FuncType]] = {}
            for ty in types:
                if ty not in _trampolines:
                    needed.setdefault(trampoline_names(ty), []).append(ty)
            if not needed:
                return
            firsts = [group[0] for _, group in sorted(needed.items())]
            names = tuple(name for ty in firsts for name in trampoline_names(ty))

            def write_ir() -> str:
                from wasinn_runtime.lower.units import trampoline_unit

                return trampoline_unit(firsts)

            image = self.image("trampolines", names, write_ir, 2, names)
            code = load(image, runtime_imports())
            _trampoline_code.append(code)
            for symbols, group in needed.items():
                adapters = Trampolines(*(code.addresses[symbol] for symbol in symbols))
                _trampolines.update(dict.fromkeys(group, adapters))

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
        self,
        kind: str,
        parts: Sequence[str | bytes],
        write_ir: Callable[[], str],
        opt_level: int,
        exports: Sequence[str],
    ) -> bytes:
        """Linked code from the cache, or compiled now; see ``compiled``."""
        verify = self.config.verify_ir
        return compiled(self.cache, kind, parts, write_ir, opt_level, exports, verify)
