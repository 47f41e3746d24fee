"""Reads ELF64 object files as LLVM writes them: sections, symbols, relocations. Links nothing.

Objects come from our own compiler or our own cache, whose entries carry a digest; this reader
still checks bounds, through ``struct``.

Source: System V ABI, chapter 4 (object files).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from wasinn_runtime.errors import Internal

__all__ = ["EM_AARCH64", "EM_X86_64", "Object", "Relocation", "Section", "Symbol"]

EM_X86_64, EM_AARCH64 = 62, 183
_RELOCATABLE = 1
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS = 1, 2, 4, 8
_SHT_X86_64_UNWIND = 0x70000001  # what .eh_frame is on x86-64
_CONTENTS = (_SHT_PROGBITS, _SHT_NOBITS, _SHT_X86_64_UNWIND)
_SHF_WRITE, _SHF_ALLOC, _SHF_EXEC = 1, 2, 4
_STB_LOCAL, _STB_WEAK = 0, 2
_STT_FUNC = 2
_SHN_UNDEF, _SHN_LORESERVE = 0, 0xFF00

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")

# Offset in the section, kind, number of the symbol, addend.
Relocation = tuple[int, int, int, int]


@dataclass(slots=True)
class Section:
    """A section that takes memory at run time.

    Attributes:
        index: its number in the file.
        data: its bytes, or None for ``size`` zeros.
    """

    index: int
    name: str
    data: memoryview | None
    size: int
    alignment: int
    is_writable: bool
    is_code: bool
    relocations: list[Relocation] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Symbol:
    """``section`` is 0 for symbols that others define, -1 for what is no place in memory."""

    name: str
    section: int
    offset: int
    size: int
    is_function: bool
    is_local: bool
    is_weak: bool


class Object:
    """A parsed object file.

    Args:
        image: its bytes.

    Raises:
        Internal: it is not an ELF64 little-endian relocatable object.
    """

    def __init__(self, image: bytes) -> None:
        try:
            self._parse(image)
        except (struct.error, IndexError, ValueError) as error:
            raise Internal(f"compiled code is not a sound object file: {error}") from error

    def _parse(self, image: bytes) -> None:
        identity, kind, machine, *_, sections_at, _, _, _, _, entry_bytes, count, names = (
            _HEADER.unpack_from(image)
        )
        if identity[:6] != b"\x7fELF\x02\x01" or kind != _RELOCATABLE:
            raise ValueError("expected an ELF64 little-endian relocatable file")
        self.machine: int = machine
        self.sections: dict[int, Section] = {}
        self.symbols: list[Symbol] = []
        view = memoryview(image)
        if count == 0:  # more sections than fit in the field: the first header has the number
            count = _SECTION.unpack_from(image, sections_at)[5]
        headers = [_SECTION.unpack_from(image, sections_at + i * entry_bytes) for i in range(count)]
        names_at = headers[names][4]
        for index, header in enumerate(headers):
            name, kind, flags, _, offset, size, _, _, alignment, _ = header
            if flags & _SHF_ALLOC and kind in _CONTENTS:
                data = None if kind == _SHT_NOBITS else view[offset : offset + size]
                if data is not None and len(data) != size:
                    raise ValueError("a section reaches beyond the file")
                is_writable, is_code = bool(flags & _SHF_WRITE), bool(flags & _SHF_EXEC)
                text = _text(image, names_at + name)
                alignment = max(alignment, 1)
                section = Section(index, text, data, size, alignment, is_writable, is_code)
                self.sections[index] = section
        for _, kind, _, _, offset, size, link, info, _, _ in headers:
            if kind == _SHT_SYMTAB:
                self.symbols = list(_symbols(image, offset, size, headers[link][4]))
            elif kind == _SHT_RELA and info in self.sections:
                self.sections[info].relocations = [
                    (place, about & 0xFFFFFFFF, about >> 32, addend)
                    for place, about, addend in _RELA.iter_unpack(view[offset : offset + size])
                ]


def _text(image: bytes, start: int) -> str:
    return image[start : image.index(b"\0", start)].decode()


def _symbols(image: bytes, offset: int, size: int, names_at: int) -> Iterator[Symbol]:
    for name, info, _, section, value, length in _SYMBOL.iter_unpack(
        memoryview(image)[offset : offset + size]
    ):
        if section >= _SHN_LORESERVE:
            section = _SHN_UNDEF if section == 0xFFF2 else -1  # common: none; absolute: file names
        yield Symbol(
            _text(image, names_at + name),
            section,
            value,
            length,
            is_function=info & 15 == _STT_FUNC,
            is_local=info >> 4 == _STB_LOCAL,
            is_weak=info >> 4 == _STB_WEAK,
        )
