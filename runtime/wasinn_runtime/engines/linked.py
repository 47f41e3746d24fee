"""Linked code as the cache keeps it, so that a start places it and links nothing.

Linking is Python and takes longer than all else when code comes from the cache: it is done once,
where the code is compiled. What is kept is trusted as far as the cache is, see ``cache.py``; files
that come from elsewhere are AOT files, see ``aot_format.py``.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING

from wasinn_runtime.engines.place import Code, Mapped, SymbolTable, address_of, seal

if TYPE_CHECKING:
    from wasinn_runtime.engines.link import Image

__all__ = ["load", "pack"]

_NUMBER_BYTES = 4
# The numbers that come first: bytes of the facts, words, functions, bytes of their symbols.
_HEAD = 4


def pack(image: Image) -> bytes:
    """All of an image for this machine in one piece.

    First come numbers of 4 bytes: ``_HEAD``, places of words, places and sizes of functions. Then
    the facts as JSON, the functions' symbols, a line each, and the memory.
    """
    facts = json.dumps([image.parts, image.exports, image.imports, image.unwind]).encode()
    symbols = "\n".join(name for _, _, name in image.functions).encode()
    numbers = array("I", [len(facts), len(image.words), len(image.functions), len(symbols)])
    numbers.extend(image.words)
    numbers.extend(at for at, _, _ in image.functions)
    numbers.extend(size for _, size, _ in image.functions)
    return b"".join((numbers.tobytes(), facts, symbols, image.memory))


class _Symbols:
    """The functions of an image; what is kept of it for messages."""

    def __init__(self, numbers: bytes, names: bytes) -> None:
        self._numbers, self._names = numbers, names

    def symbols(self) -> SymbolTable:
        cells = memoryview(self._numbers).cast("I")
        count = len(cells) // 2
        return SymbolTable(cells[:count], cells[count:], self._names.decode().split("\n"))


def load(packed: bytes, imports: Mapping[str, int]) -> Code:
    """Put a packed image into this process.

    Args:
        packed: what ``pack`` made.
        imports: addresses of the symbols it uses, beside the C library's.

    Raises:
        Internal: it uses a symbol that nobody defines.
        LimitExceeded: there is no memory for it.
    """
    view = memoryview(packed)
    facts_bytes, words, functions, symbols_bytes = view[: _HEAD * _NUMBER_BYTES].cast("I")
    at = _NUMBER_BYTES * (_HEAD + words + 2 * functions)
    numbers = view[:at].cast("I")
    parts, exports, outside, unwind = json.loads(packed[at : at + facts_bytes])
    at += facts_bytes
    names = packed[at : at + symbols_bytes]
    memory = view[at + symbols_bytes :]
    mapped = Mapped(len(memory))
    try:
        mapped.view[:] = memory
        return seal(
            mapped,
            0,
            numbers[_HEAD : _HEAD + words],
            [(place, address_of(name, imports) + addend) for place, name, addend in outside],
            parts,
            exports,
            unwind,
            _Symbols(numbers[_HEAD + words :].tobytes(), names),
        )
    except BaseException:
        mapped.release()
        raise
