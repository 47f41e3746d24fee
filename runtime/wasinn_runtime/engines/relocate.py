"""Relocations of x86-64 and aarch64, as far as our compiler writes them. Places nothing.

All addresses are offsets in an image whose first byte will lie on a page boundary.

Sources: System V ABI, AMD64 supplement, table 4.9; ELF for the Arm 64-bit Architecture,
section 5.7.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod

from wasinn_runtime.engines.elf import EM_AARCH64, EM_X86_64
from wasinn_runtime.errors import Internal, LimitExceeded

__all__ = ["CPUS", "Cpu"]

_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")


class Cpu(ABC):
    """What the linker must know of a kind of CPU.

    Attributes:
        name: for messages.
        page_bytes: the largest page size its kernels use: parts of an image with different
            protections begin on such a boundary.
        stub_bytes: size of the code that reaches a function elsewhere in the process.
        word: the relocation that puts a whole address into 8 bytes.
        through_got: relocations that mean the place where a symbol's address is kept.
        branches: those that may go to a stub instead.
    """

    name: str
    page_bytes: int
    stub_bytes = 16
    word: int
    through_got: frozenset[int]
    branches: frozenset[int]

    @abstractmethod
    def stub(self, place: int, slot: int) -> bytes:
        """Code at ``place`` that jumps where the slot says."""

    @abstractmethod
    def apply(self, memory: bytearray, kind: int, place: int, value: int) -> None:
        """Write a reference to ``value`` (symbol plus addend, or slot plus addend).

        Raises:
            Internal: our compiler never writes that kind, or the value does not fit.
            LimitExceeded: the code has become too large for it.
        """

    def unknown(self, kind: int) -> Internal:
        return Internal(f"relocation type {kind} for {self.name} is not known to the linker")


class _Amd64(Cpu):
    name = "x86-64"
    page_bytes = 4096
    word = 1
    through_got = frozenset({9, 41, 42})  # GOTPCREL, GOTPCRELX, REX_GOTPCRELX
    branches = frozenset({2, 4})  # PC32, PLT32

    def stub(self, place: int, slot: int) -> bytes:
        return b"\xff\x25" + _I32.pack(slot - place - 6)  # jmp *slot(%rip)

    def apply(self, memory: bytearray, kind: int, place: int, value: int) -> None:
        if kind in self.branches or kind in self.through_got:
            try:
                _I32.pack_into(memory, place, value - place)
            except struct.error:
                raise LimitExceeded("the compiled code does not fit into 2 GiB") from None
        elif kind == 24:  # PC64
            _I64.pack_into(memory, place, value - place)
        else:
            raise self.unknown(kind)


# Access sizes, as powers of two, of the load and store instructions with a page offset.
_LO12_SHIFT = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4, 312: 3}
_PAGE = frozenset({275, 276, 311})  # ADR_PREL_PG_HI21 with and without check, ADR_GOT_PAGE
# Position of the lowest bit and number of bits of word offsets: LD_PREL_LO19, TSTBR14, CONDBR19,
# JUMP26, CALL26.
_WORD_OFFSETS = {273: (5, 19), 279: (5, 14), 280: (5, 19), 282: (0, 26), 283: (0, 26)}


class _Arm64(Cpu):
    name = "aarch64"
    page_bytes = 1 << 16
    word = 257
    through_got = frozenset({311, 312})  # ADR_GOT_PAGE, LD64_GOT_LO12_NC
    branches = frozenset({282, 283})  # JUMP26, CALL26

    def stub(self, place: int, slot: int) -> bytes:
        code = bytearray(struct.pack("<3I", 0x90000010, 0xF9400210, 0xD61F0200))
        _page_offset(code, 0, (slot >> 12) - (place >> 12))  # adrp x16, slot
        _patch(code, 4, (slot & 0xFFF) >> 3, 10)  # ldr x16, [x16, :lo12:slot]
        return bytes(code)  # br x16

    def apply(self, memory: bytearray, kind: int, place: int, value: int) -> None:
        if kind in _WORD_OFFSETS:
            low, bits = _WORD_OFFSETS[kind]
            offset = value - place
            if offset & 3:
                raise Internal(f"relocation type {kind} to an odd place")
            self._fits(offset >> 2, bits)
            _patch(memory, place, (offset >> 2) & ((1 << bits) - 1), low)
        elif kind in _PAGE:
            pages = (value >> 12) - (place >> 12)
            self._fits(pages, 21)
            _page_offset(memory, place, pages)
        elif kind in _LO12_SHIFT:
            shift = _LO12_SHIFT[kind]
            if value & ((1 << shift) - 1):
                raise Internal(f"relocation type {kind} to a misaligned place")
            _patch(memory, place, (value & 0xFFF) >> shift, 10)
        elif kind == 261:  # PREL32
            self._fits(value - place, 32)
            _I32.pack_into(memory, place, value - place)
        elif kind == 260:  # PREL64
            _I64.pack_into(memory, place, value - place)
        elif kind == 274:  # ADR_PREL_LO21
            self._fits(value - place, 21)
            _page_offset(memory, place, value - place)
        else:
            raise self.unknown(kind)

    def _fits(self, value: int, bits: int) -> None:
        if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
            raise LimitExceeded(
                "the compiled code is too large: aarch64 calls reach 128 MiB, data references 4 GiB"
            )


def _patch(memory: bytearray, place: int, field: int, low: int) -> None:
    """Add a field to an instruction whose bits there are still 0."""
    (word,) = _U32.unpack_from(memory, place)
    _U32.pack_into(memory, place, word | field << low)


def _page_offset(memory: bytearray, place: int, value: int) -> None:
    """The split 21-bit immediate of adr and adrp."""
    _patch(memory, place, value & 3, 29)
    _patch(memory, place, value >> 2 & 0x7FFFF, 5)


CPUS: dict[int, Cpu] = {EM_X86_64: _Amd64(), EM_AARCH64: _Arm64()}
