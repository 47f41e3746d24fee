"""Bytes, LEB128 integers and names at a moving position. Knows no section and no instruction.

Lengths are checked against the bytes that are there before anything is made from them, so no
allocation follows a number that a file merely claims.

Source: WebAssembly core specification 2.0, section 5.2.
"""

from __future__ import annotations

from wasinn_runtime.errors import Malformed

__all__ = ["UNEXPECTED_END", "Reader", "signed", "unsigned"]

UNEXPECTED_END = "unexpected end of section or function"


def unsigned(data: bytes, pos: int, bits: int, where: str) -> tuple[int, int]:
    """Reads an unsigned LEB128 integer of at most ``bits`` bits.

    Returns:
        The value and the position after it.

    Raises:
        Malformed: the encoding is too long, or the value does not fit.
        IndexError: the data ends first.
    """
    start = pos
    value = shift = 0
    while True:
        byte = data[pos]
        if shift >= bits:
            raise Malformed(f"integer representation too long for u{bits}", start, where)
        room = bits - shift
        if room < 7 and byte & 0x7F >= 1 << room:
            # One more byte would not fit anyway: which of the two is wrong follows the
            # order in which the specification's rules apply.
            raise Malformed(f"integer too large for u{bits}", start, where)
        value |= (byte & 0x7F) << shift
        shift += 7
        pos += 1
        if byte < 0x80:
            return value, pos


def signed(data: bytes, pos: int, bits: int, where: str) -> tuple[int, int]:
    """Reads a signed LEB128 integer of at most ``bits`` bits; see :func:`unsigned`."""
    start = pos
    value = shift = 0
    while True:
        byte = data[pos]
        if shift >= bits:
            raise Malformed(f"integer representation too long for s{bits}", start, where)
        room = bits - shift
        if room < 7:
            # The unused bits must repeat the sign bit.
            mask = (-1 << (room - 1)) & 0x7F
            if byte & mask not in (0, mask):
                raise Malformed(f"integer too large for s{bits}", start, where)
        value |= (byte & 0x7F) << shift
        shift += 7
        pos += 1
        if byte < 0x80:
            return (value - (1 << shift) if byte & 0x40 else value), pos


class Reader:
    """A position in a module's bytes.

    Running over the end of the data raises IndexError from :meth:`byte` and the integers;
    the caller of a whole section turns that into ``Malformed`` once.

    Args:
        data: the whole module.
        where: the module's name in messages.
    """

    __slots__ = ("data", "pos", "where")

    def __init__(self, data: bytes, where: str, pos: int = 0) -> None:
        self.data = data
        self.where = where
        self.pos = pos

    def malformed(self, message: str, offset: int | None = None) -> Malformed:
        return Malformed(message, self.pos if offset is None else offset, self.where)

    def byte(self) -> int:
        value = self.data[self.pos]
        self.pos += 1
        return value

    def u32(self) -> int:
        value = self.data[self.pos]
        if value < 0x80:
            self.pos += 1
            return value
        value, self.pos = unsigned(self.data, self.pos, 32, self.where)
        return value

    def flag(self) -> int:
        """A one-bit integer."""
        value, self.pos = unsigned(self.data, self.pos, 1, self.where)
        return value

    def length(self) -> int:
        """A number of bytes, or of things of at least one byte each, that must still follow."""
        start = self.pos
        value = self.u32()
        # Counting the length's own byte is what the suite's verdicts rest on; a length too
        # great by one is found by whoever reads that far.
        left = len(self.data) - start
        if value > left:
            raise self.malformed(f"length out of bounds: {value}, but {left - 1} bytes left", start)
        return value

    def count(self, most: int, what: str) -> int:
        """The number of entries of a vector.

        Raises:
            Malformed: more than the file can hold, or than the implementation takes.
        """
        start = self.pos
        value = self.length()
        if value > most:
            raise self.malformed(f"too many {what}: {value}, at most {most} are supported", start)
        return value

    def skip(self, size: int) -> int:
        """Steps over ``size`` bytes that must be there; returns the position before them."""
        start = self.pos
        if start + size > len(self.data):
            raise IndexError(start)
        self.pos = start + size
        return start

    def name(self, most: int) -> str:
        """A UTF-8 string of at most ``most`` bytes."""
        at = self.pos
        size = self.length()
        if size > most:
            raise self.malformed(f"name too long: {size} bytes, at most {most} are supported", at)
        start = self.skip(size)
        try:
            return self.data[start : start + size].decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.malformed(
                f"malformed UTF-8 encoding: {error.reason}", start + error.start
            ) from error
