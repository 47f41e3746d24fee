"""Writes binary modules for tests, section by section, correct or not. No validity is checked."""

from __future__ import annotations

from collections.abc import Iterable

HEADER = b"\0asm\1\0\0\0"
I32, I64, F32, F64, FUNCREF, EXTERNREF = b"\x7f", b"\x7e", b"\x7d", b"\x7c", b"\x70", b"\x6f"
END = b"\x0b"


def u32(value: int) -> bytes:
    """The shortest unsigned LEB128 form."""
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | 0x80 if value else low)
        if not value:
            return bytes(out)


def vec(items: Iterable[bytes]) -> bytes:
    parts = list(items)
    return u32(len(parts)) + b"".join(parts)


def name(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return u32(len(data)) + data


def section(number: int, content: bytes) -> bytes:
    return bytes([number]) + u32(len(content)) + content


def custom(title: str | bytes, content: bytes) -> bytes:
    return section(0, name(title) + content)


def func_type(params: bytes = b"", results: bytes = b"") -> bytes:
    """``params`` and ``results``: one byte a type."""
    return b"\x60" + u32(len(params)) + params + u32(len(results)) + results


def body(code: bytes, runs: Iterable[tuple[int, bytes]] = ()) -> bytes:
    """A function body; ``code`` without the final end."""
    content = vec(u32(count) + type_ for count, type_ in runs) + code + END
    return u32(len(content)) + content


def function_module(
    code: bytes,
    params: bytes = b"",
    results: bytes = b"",
    runs: Iterable[tuple[int, bytes]] = (),
    extra: bytes = b"",
) -> bytes:
    """A module of one function; ``extra`` holds sections that go between types and code."""
    return (
        HEADER
        + section(1, vec([func_type(params, results)]))
        + section(3, vec([u32(0)]))
        + extra
        + section(10, vec([body(code, runs)]))
    )


def sections_of(module: bytes) -> list[tuple[int, bytes]]:
    """Number and content of each section of a correct module."""
    found, at = [], len(HEADER)
    while at < len(module):
        number, size, shift = module[at], 0, 0
        while True:
            at, size, shift = at + 1, size | (module[at + 1] & 0x7F) << shift, shift + 7
            if not module[at] & 0x80:
                break
        found.append((number, module[at + 1 : at + 1 + size]))
        at += 1 + size
    return found
