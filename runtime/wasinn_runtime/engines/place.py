"""Puts linked images into this process: fills in addresses, then seals the pages.

No page is ever writable and executable at once.
"""

from __future__ import annotations

import bisect
import ctypes
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property
from typing import Protocol

from wasinn_runtime.engines.elf import EM_AARCH64, EM_X86_64
from wasinn_runtime.errors import Internal, LimitExceeded
from wasinn_runtime.machine.native import when_gone

__all__ = [
    "LIBRARY",
    "UNWIND_LIBRARY",
    "Code",
    "Mapped",
    "Names",
    "SymbolTable",
    "address_of",
    "map_memory",
    "seal",
    "this_machine",
]

# What LLVM may call without being told to. Anything else in an object is a defect.
LIBRARY = frozenset(
    {"memcpy", "memmove", "memset", "memcmp", "bcmp"}
    | {f"{name}{suffix}" for name in ("ceil", "floor", "trunc", "rint", "nearbyint", "roundeven",
                                      "fmin", "fmax", "sqrt", "fma") for suffix in ("", "f")}
)  # fmt: skip

# What the core, and it alone, uses of the C library.
_CORE_LIBRARY = frozenset(
    {
        "_setjmp",
        "longjmp",
        "mprotect",
        "pthread_getspecific",
        "pthread_self",
        "pthread_setspecific",
        "sigaction",
    }
)

# For guests that throw: in the compiler's own library, which is loaded only then.
UNWIND_LIBRARY = frozenset(
    {"_Unwind_ForcedUnwind", "_Unwind_GetRegionStart", "_Unwind_Resume", "__gcc_personality_v0"}
)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_READ_WRITE = 3
_PRIVATE_ANONYMOUS = 0x22
_MACHINES = {"x86_64": EM_X86_64, "aarch64": EM_AARCH64}


class Names(Protocol):
    """Symbols by their number in a table."""

    def __getitem__(self, index: int, /) -> str: ...


class SymbolTable:
    """Functions by their place in an image.

    Args:
        starts: offsets of their first bytes, ascending.
        sizes: their lengths, in the same order.
        names: their symbols, in the same order.
    """

    def __init__(
        self,
        starts: array[int] | memoryview[int],
        sizes: array[int] | memoryview[int],
        names: Names,
    ) -> None:
        self._starts, self._sizes, self._names = starts, sizes, names

    def at(self, offset: int) -> str | None:
        """The symbol of the function that a byte of the image belongs to."""
        number = bisect.bisect_right(self._starts, offset) - 1
        if number < 0 or offset >= self._starts[number] + self._sizes[number]:
            return None
        return self._names[number]


class Code:
    """An image in this process. Its memory goes when the last reference does.

    Attributes:
        base: address of its first byte.
        addresses: of the exported symbols.
    """

    def __init__(self, base: int, addresses: dict[str, int], symbols: _Symbols) -> None:
        self.base = base
        self.addresses = addresses
        self._source = symbols

    @cached_property
    def _symbols(self) -> SymbolTable:
        return self._source.symbols()

    def symbol_at(self, pc: int) -> str | None:
        """The symbol of the function that a code address lies in; None if in none of these."""
        return self._symbols.at(pc - self.base) if pc >= self.base else None


class _Symbols(Protocol):
    def symbols(self) -> SymbolTable: ...


class Mapped:
    """Private memory of this process that can be written to until ``seal``.

    Attributes:
        base: address of the first byte.
        view: its bytes.
    """

    def __init__(self, size: int) -> None:
        self.base = map_memory(size)
        self.size = size
        self.view = memoryview((ctypes.c_ubyte * size).from_address(self.base)).cast("B")

    def release(self) -> None:
        """Give the memory back, when nothing was made of it."""
        self.view.release()
        _libc.munmap(self.base, self.size)


def this_machine() -> int:
    """The ELF number of this machine's CPU; 0 for one that nothing is compiled for."""
    return _MACHINES.get(os.uname().machine, 0)


def map_memory(size: int) -> int:
    """Zeroed private pages.

    Raises:
        LimitExceeded: there is no memory for them.
    """
    memory = _libc.mmap(None, size, _READ_WRITE, _PRIVATE_ANONYMOUS, -1, 0)
    if memory is None or memory == ctypes.c_void_p(-1).value:
        reason = os.strerror(ctypes.get_errno())
        raise LimitExceeded(f"no memory for {size:,} bytes of compiled code: {reason}")
    return int(memory)


def seal(
    mapped: Mapped,
    start: int,
    words: Iterable[int],
    addresses: Iterable[tuple[int, int]],
    parts: Sequence[tuple[int, int, int]],
    exports: Mapping[str, int],
    unwind: tuple[int, int],
    symbols: _Symbols,
) -> Code:
    """Make code of bytes that are in place: write addresses, protect, tell the unwinder.

    Args:
        mapped: the memory; it belongs to the result afterwards.
        start: where in it the image begins.
        words, parts, exports, unwind: as in ``link.Image``.
        addresses: (place, address) of each word that wants the address of something elsewhere.
        symbols: asked for the functions when somebody wants to know.

    Raises:
        LimitExceeded: the system does not let us.
    """
    base = mapped.base + start
    cells = mapped.view[start : start + ((mapped.size - start) & ~7)].cast("Q")
    for at in words:
        cells[at >> 3] += base
    for at, address in addresses:
        cells[at >> 3] = address
    for at, size, protection in parts:
        if _libc.mprotect(base + at, size, protection):
            reason = os.strerror(ctypes.get_errno())
            raise LimitExceeded(f"could not protect compiled code: {reason}")
    _synchronise(base, parts)
    code = Code(base, {name: base + at for name, at in exports.items()}, symbols)
    if unwind[1]:
        tables = base + unwind[0]
        _unwinder().__register_frame(ctypes.c_void_p(tables))
        when_gone(code, _forget, mapped.base, mapped.size, tables)
    else:
        when_gone(code, _libc.munmap, mapped.base, mapped.size)
    return code


def _synchronise(base: int, parts: Sequence[tuple[int, int, int]]) -> None:
    """Let the CPU see new instructions, where its caches do not by themselves."""
    if this_machine() == EM_AARCH64:
        for at, size, protection in parts:
            if protection & 4:
                start = ctypes.c_void_p(base + at)
                _unwinder().__clear_cache(start, ctypes.c_void_p(base + at + size))


def _forget(base: int, size: int, tables: int) -> None:
    _unwinder().__deregister_frame(ctypes.c_void_p(tables))
    _libc.munmap(base, size)


@cache
def _unwinder() -> ctypes.CDLL:
    """The compiler's library, which every C++ program has.

    Raises:
        Internal: it is not there.
    """
    try:
        return ctypes.CDLL("libgcc_s.so.1")
    except OSError as error:
        raise Internal(f"the library that unwinds stacks is missing: {error}") from error


def address_of(name: str, imports: Mapping[str, int]) -> int:
    """Where something is that an image uses: in the core, or in a library.

    Raises:
        Internal: nobody defines it.
    """
    address = imports.get(name)
    if address is not None:
        return address
    if name in LIBRARY or name in _CORE_LIBRARY:
        return ctypes.cast(getattr(_libc, name), ctypes.c_void_p).value or 0
    if name in UNWIND_LIBRARY:
        return ctypes.cast(getattr(_unwinder(), name), ctypes.c_void_p).value or 0
    raise Internal(f"compiled code refers to {name!r}, which nobody defines")
