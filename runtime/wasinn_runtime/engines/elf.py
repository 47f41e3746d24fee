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

__all__ = ["EM_X86_64", "Object", "Relocation", "Section", "Symbol"]

EM_X86_64 = 62
_RELOCATABLE = 1
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS = 1, 2, 4, 8
_SHF_WRITE, _SHF_ALLOC, _SHF_EXEC = 1, 2, 4
_STT_FUNC = 2
_SHN_UNDEF, _SHN_LORESERVE = 0, 0xFF00

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")


@dataclass(frozen=True, slots=True)
class Relocation:
    offset: int
    kind: int
    symbol: int
    addend: int


@dataclass(slots=True)
class Section:
    """A section that takes memory at run time.

    Attributes:
        index: its number in the file.
        data: its bytes, or None for ``size`` zeros.
    """

    index: int
    data: memoryview | None
    size: int
    alignment: int
    is_writable: bool
    is_code: bool
    relocations: list[Relocation] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Symbol:
    """``section`` is 0 for symbols that others define."""

    name: str
    section: int
    offset: int
    size: int
    is_function: bool


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
        identity, kind, machine, *_, sections_at, _, _, _, _, entry_bytes, count, _ = (
            _HEADER.unpack_from(image)
        )
        if identity[:6] != b"\x7fELF\x02\x01" or kind != _RELOCATABLE:
            raise ValueError("expected an ELF64 little-endian relocatable file")
        self.machine: int = machine
        self.sections: dict[int, Section] = {}
        self.symbols: list[Symbol] = []
        view = memoryview(image)
        headers = [_SECTION.unpack_from(image, sections_at + i * entry_bytes) for i in range(count)]
        for index, header in enumerate(headers):
            _, kind, flags, _, offset, size, _, _, alignment, _ = header
            if flags & _SHF_ALLOC and kind in (_SHT_PROGBITS, _SHT_NOBITS) and size:
                data = None if kind == _SHT_NOBITS else view[offset : offset + size]
                if data is not None and len(data) != size:
                    raise ValueError("a section reaches beyond the file")
                is_writable, is_code = bool(flags & _SHF_WRITE), bool(flags & _SHF_EXEC)
                section = Section(index, data, size, max(alignment, 1), is_writable, is_code)
                self.sections[index] = section
        for _, kind, _, _, offset, size, link, info, _, _ in headers:
            if kind == _SHT_SYMTAB:
                self.symbols = list(_symbols(image, offset, size, headers[link][4]))
            elif kind == _SHT_RELA and info in self.sections:
                relocations = self.sections[info].relocations
                for place, about, addend in _RELA.iter_unpack(view[offset : offset + size]):
                    relocations.append(Relocation(place, about & 0xFFFFFFFF, about >> 32, addend))


def _symbols(image: bytes, offset: int, size: int, names_at: int) -> Iterator[Symbol]:
    for name, info, _, section, value, length in _SYMBOL.iter_unpack(
        memoryview(image)[offset : offset + size]
    ):
        if section >= _SHN_LORESERVE:
            section = _SHN_UNDEF if section == 0xFFF2 else -1  # common: none; absolute: file names
        start = names_at + name
        text = image[start : image.index(b"\0", start)].decode()
        yield Symbol(text, section, value, length, info & 15 == _STT_FUNC)
