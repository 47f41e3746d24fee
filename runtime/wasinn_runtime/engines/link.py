"""Puts compiled code into this process: one mapping per object, relocated, then sealed.

Why not LLVM's own JIT linker: it maps the parts of an object separately, and in a process that
reserves terabytes for guests they can end up too far apart for 32-bit references, which aborts the
process. One mapping can not. It also lets a cached module start without loading LLVM at all.

No page is ever writable and executable at once. Source: System V ABI, AMD64 supplement, table 4.9.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Mapping, Sequence

from wasinn_runtime.engines.elf import EM_X86_64, Object, Relocation, Section
from wasinn_runtime.errors import Internal, LimitExceeded
from wasinn_runtime.machine.native import when_gone

__all__ = ["Code", "load"]

_ABS64, _PC32, _PLT32, _GOTPCREL = 1, 2, 4, 9
_PC64, _GOTPCRELX, _REX_GOTPCRELX = 24, 41, 42
_RELATIVE = frozenset({_PC32, _PLT32})
_THROUGH_GOT = frozenset({_GOTPCREL, _GOTPCRELX, _REX_GOTPCRELX})

# jmp *0(%rip), then the address: how code reaches what lies more than 2 GiB away.
_STUB = b"\xff\x25\x00\x00\x00\x00"
_STUB_BYTES = 16

# What LLVM may call without being told to. Anything else in an object is a defect.
_LIBRARY = frozenset(
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

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_READ, _WRITE, _EXECUTE = 1, 2, 4
_PRIVATE_ANONYMOUS = 0x22


class Code:
    """An object file linked into this process. Its memory goes when the last reference does.

    Attributes:
        addresses: of the exported symbols.
        functions: address, size and name of every function, in order of address.
    """

    def __init__(self, addresses: dict[str, int], functions: list[tuple[int, int, str]]) -> None:
        self.addresses = addresses
        self.functions = functions


def load(image: bytes, exports: Sequence[str], imports: Mapping[str, int]) -> Code:
    """Link an object file into this process.

    Args:
        image: an object file for this machine.
        exports: symbols whose addresses are wanted.
        imports: addresses of the symbols it uses, beside the C library's.

    Raises:
        Internal: the object holds what our compiler never writes.
        LimitExceeded: there is no memory for it.
    """
    parsed = Object(image)
    if parsed.machine != EM_X86_64:
        raise Internal(f"compiled code is for ELF machine {parsed.machine}, not for x86-64")
    return _Linker(parsed, imports).link(exports)


def _protection(section: Section) -> int:
    if section.is_code:
        return _READ | _EXECUTE
    return _READ | _WRITE if section.is_writable else _READ


def _pages(size: int) -> int:
    return (size + mmap.PAGESIZE - 1) & -mmap.PAGESIZE


class _Linker:
    def __init__(self, parsed: Object, imports: Mapping[str, int]) -> None:
        self.parsed = parsed
        self.imports = imports
        self.bases: dict[int, int] = {}
        outside = [i for i, s in enumerate(parsed.symbols) if s.section == 0 and s.name]
        self.stubs = {symbol: n for n, symbol in enumerate(outside)}
        self.offsets: dict[int, int] = {}
        # (offset, bytes, protection) of each part of the mapping; stubs come after the code.
        self.parts: list[tuple[int, int, int]] = []
        self.stubs_at = self.got_at = 0
        self.total = 0
        self._lay_out()

    def _lay_out(self) -> None:
        for protection in (_READ | _EXECUTE, _READ, _READ | _WRITE):
            start = at = self.total
            for section in self.parsed.sections.values():
                if _protection(section) == protection:
                    at = -(-at // section.alignment) * section.alignment
                    self.offsets[section.index] = at
                    at += section.size
            if protection == _READ | _EXECUTE:
                self.stubs_at = at = -(-at // _STUB_BYTES) * _STUB_BYTES
                at += _STUB_BYTES * len(self.stubs)
            elif protection == _READ:
                self.got_at = at = -(-at // 8) * 8
                at += 8 * len(self.parsed.symbols)
            self.total = start + _pages(at - start)
            if self.total > start:
                self.parts.append((start, self.total - start, protection))

    def link(self, exports: Sequence[str]) -> Code:
        memory = _libc.mmap(None, self.total, _READ | _WRITE, _PRIVATE_ANONYMOUS, -1, 0)
        if memory is None or memory == ctypes.c_void_p(-1).value:
            reason = os.strerror(ctypes.get_errno())
            raise LimitExceeded(f"no memory for {self.total:,} bytes of compiled code: {reason}")
        try:
            self.base = int(memory)
            self._fill(memoryview((ctypes.c_ubyte * self.total).from_address(self.base)).cast("B"))
            for start, size, protection in self.parts:
                if _libc.mprotect(self.base + start, size, protection):
                    reason = os.strerror(ctypes.get_errno())
                    raise LimitExceeded(f"could not protect compiled code: {reason}")
            code = self._code(exports)
        except BaseException:
            _libc.munmap(memory, self.total)
            raise
        when_gone(code, _libc.munmap, memory, self.total)
        return code

    def _fill(self, memory: memoryview) -> None:
        self.targets = [
            self._outside(s.name)
            if s.section == 0 and s.name
            else self.base + self.offsets.get(s.section, 0) + s.offset
            for s in self.parsed.symbols
        ]
        for symbol, number in self.stubs.items():
            stub = _STUB + struct.pack("<Q", self.targets[symbol])
            at = self.stubs_at + number * _STUB_BYTES
            memory[at : at + len(stub)] = stub
        for section in self.parsed.sections.values():
            at = self.offsets[section.index]
            if section.data is not None:
                memory[at : at + section.size] = section.data
            for relocation in section.relocations:
                self._relocate(memory, at, relocation)

    def _relocate(self, memory: memoryview, at: int, r: Relocation) -> None:
        place = at + r.offset
        target = self.targets[r.symbol]
        if r.kind in _RELATIVE:
            if r.symbol in self.stubs:
                target = self.base + self.stubs_at + self.stubs[r.symbol] * _STUB_BYTES
            struct.pack_into("<i", memory, place, target + r.addend - self.base - place)
        elif r.kind == _ABS64:
            struct.pack_into("<Q", memory, place, target + r.addend)
        elif r.kind == _PC64:
            struct.pack_into("<q", memory, place, target + r.addend - self.base - place)
        elif r.kind in _THROUGH_GOT:
            slot = self.got_at + 8 * r.symbol
            struct.pack_into("<Q", memory, slot, target)
            struct.pack_into("<i", memory, place, slot + r.addend - place)
        else:
            raise Internal(f"relocation type {r.kind} in compiled code is not known to the linker")

    def _outside(self, name: str) -> int:
        address = self.imports.get(name)
        if address is not None:
            return address
        if name in _LIBRARY or name in _CORE_LIBRARY:
            return ctypes.cast(getattr(_libc, name), ctypes.c_void_p).value or 0
        raise Internal(f"compiled code refers to {name!r}, which nobody defines")

    def _code(self, exports: Sequence[str]) -> Code:
        named = {
            s.name: self.targets[i]
            for i, s in enumerate(self.parsed.symbols)
            if s.section > 0 and s.name
        }
        functions = sorted(
            (self.targets[i], s.size, s.name)
            for i, s in enumerate(self.parsed.symbols)
            if s.is_function and s.section > 0
        )
        missing = [name for name in exports if name not in named]
        if missing:
            raise Internal(f"compiled code lacks {', '.join(missing)}")
        return Code({name: named[name] for name in exports}, functions)
