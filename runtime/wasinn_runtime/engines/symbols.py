"""Which guest function a code address lies in, from the object file's symbol table.

Read only when a trap needs a name. An ELF64 reader for exactly that; source: System V ABI,
chapter 4.
"""

from __future__ import annotations

import bisect
import struct
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wasinn_runtime.engines.engine import Module

__all__ = ["FunctionMap"]

_SHT_SYMTAB = 2
_STT_FUNC = 2


def function_symbols(image: bytes) -> list[tuple[int, int, int, str]]:
    """Section, offset in it, size and name of each function symbol of an ELF64 object."""
    sections_at = struct.unpack_from("<Q", image, 40)[0]
    entry_bytes, count = struct.unpack_from("<HH", image, 58)
    headers = [
        struct.unpack_from("<IIQQQQIIQQ", image, sections_at + i * entry_bytes)
        for i in range(count)
    ]
    found = []
    for _, kind, _, _, offset, size, link, _, _, _ in headers:
        if kind != _SHT_SYMTAB:
            continue
        names_at = headers[link][4]
        for at in range(offset, offset + size, 24):
            name, info, _, section, value, length = struct.unpack_from("<IBBHQQ", image, at)
            if info & 15 == _STT_FUNC:
                end = image.index(b"\0", names_at + name)
                found.append((section, value, length, image[names_at + name : end].decode()))
    return found


class FunctionMap:
    """Code addresses of one module's functions.

    Args:
        module: the module; the map does not keep it alive.
        image: its object file.
        entries: addresses of some of its functions, which place the rest.
    """

    def __init__(self, module: Module, image: bytes, entries: Mapping[int, int]) -> None:
        self._module = weakref.ref(module)
        self._image = image
        self._entries = entries
        self._starts: list[int] | None = None
        self._functions: list[tuple[int, int, int]] = []

    @property
    def alive(self) -> bool:
        return self._module() is not None

    def _build(self) -> list[int]:
        symbols = {
            int(name[1:]): (section, value, length)
            for section, value, length, name in function_symbols(self._image)
            if name[0] == "f" and name[1:].isdigit()
        }
        # LLVM puts functions that can only fail into a section of their own.
        bases = {
            symbols[index][0]: address - symbols[index][1]
            for index, address in self._entries.items()
            if index in symbols
        }
        self._functions = sorted(
            (bases[section] + value, length, index)
            for index, (section, value, length) in symbols.items()
            if section in bases
        )
        return [start for start, _, _ in self._functions]

    def label_at(self, pc: int) -> str | None:
        """``function 12 (score)`` when the address lies in this module's code, else None."""
        module = self._module()
        if module is None:
            return None
        if self._starts is None:
            self._starts = self._build()
        place = bisect.bisect_right(self._starts, pc) - 1
        if place < 0:
            return None
        start, length, index = self._functions[place]
        return module.parsed.function_label(index) if pc < start + length else None
