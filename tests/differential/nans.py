"""Makes each NaN of arithmetic canonical at once, in a module's bytes: results then have one value.

WebAssembly leaves the sign and the payload of such a NaN open, and what reads a float's bits sees
them. Copying, ``neg``, ``abs`` and ``copysign`` leave nothing open and are not touched.

Source: WebAssembly core specification 3.0, section 4.3.3, NaN propagation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from wasinn_runtime.binary.code import Body, decode_body
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.spec.opcodes import ROWS, Opcode

__all__ = ["SHAPE_OF_NANS", "canonical_nans"]

_ARITHMETIC = frozenset(
    (
        *("add", "sub", "mul", "div", "sqrt", "min", "max"),
        *("ceil", "floor", "trunc", "nearest", "demote", "promote"),
    )
)
_SHAPES = ("f32", "f64", "f32x4", "f64x2")


def _shape_of_nans() -> Iterator[tuple[Opcode, str]]:
    for row in ROWS:
        shape, _, word = row.name.partition(".")
        if shape in _SHAPES and word.split("_")[0] in _ARITHMETIC:
            yield row, shape


SHAPE_OF_NANS = dict(_shape_of_nans())
"""The rows whose NaNs may be any of several, and the shape of their results."""

_CODE = b"\x0a"
_OPCODES = {row.name: row.code for row in ROWS}
_TYPES = {"f32": b"\x7d", "f64": b"\x7c", "v128": b"\x7b"}
_NAN = {"f32": struct.pack("<I", 0x7FC00000), "f64": struct.pack("<Q", 0x7FF8 << 48)}
_NAN |= {"f32x4": _NAN["f32"] * 4, "f64x2": _NAN["f64"] * 2}


def _unsigned(value: int) -> bytes:
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _read(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next byte is."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _instruction(name: str, immediate: bytes = b"") -> bytes:
    code = _OPCODES[name]
    prefix, number = code >> 16, code & 0xFFFF
    return (bytes([prefix]) + _unsigned(number) if prefix else bytes([number])) + immediate


def _type_of(shape: str) -> str:
    return shape if shape in _TYPES else "v128"


def _made_canonical(shape: str, local: int) -> bytes:
    """The topmost value, or the canonical NaN where it (or a lane of it) is one."""
    number = _unsigned(local)
    get = _instruction("local.get", number)
    parts = [_instruction("local.tee", number)]
    parts += [_instruction(f"{_type_of(shape)}.const", _NAN[shape]), get, get]
    parts += [_instruction(f"{shape}.eq")]
    parts += [_instruction("select" if shape in _TYPES else "v128.bitselect")]
    return b"".join(parts)


def _rewritten(data: bytes, body: Body, params: int) -> bytes:
    """A function's declared locals and code."""
    shapes = {SHAPE_OF_NANS[row] for row, _, _ in body.instructions if row in SHAPE_OF_NANS}
    types = sorted({_type_of(shape) for shape in shapes})
    first = params + sum(count for count, _ in body.locals)
    local = {ty: first + number for number, ty in enumerate(types)}
    starts = [offset for _, _, offset in body.instructions]
    runs, after_runs = _read(data, body.start)
    parts = [_unsigned(runs + len(types)), data[after_runs : starts[0]]]
    parts += [b"\x01" + _TYPES[ty] for ty in types]
    ends = [*starts[1:], body.end]
    for (row, _, start), end in zip(body.instructions, ends, strict=True):
        parts.append(data[start:end])
        if row in SHAPE_OF_NANS:
            shape = SHAPE_OF_NANS[row]
            parts.append(_made_canonical(shape, local[_type_of(shape)]))
    return b"".join(parts)


def _with_code(data: bytes, bodies: Sequence[bytes]) -> bytes:
    """The module with other bodies."""
    parts, at = [data[:8]], 8
    while at < len(data):
        size, content = _read(data, at + 1)
        end = content + size
        if data[at : at + 1] == _CODE:
            code = [_unsigned(len(bodies))]
            code += [_unsigned(len(body)) + body for body in bodies]
            whole = b"".join(code)
            parts.append(_CODE + _unsigned(len(whole)) + whole)
        else:
            parts.append(data[at:end])
        at = end
    return b"".join(parts)


def canonical_nans(data: bytes, features: frozenset[str]) -> bytes:
    """A valid module in which whatever may give several NaNs gives the canonical one.

    Args:
        data: the module.
        features: the proposals that it may use.

    Raises:
        Invalid, Malformed: it uses another, or our decoder is wrong.
    """
    parsed = decode(data, "module", features)
    bodies = []
    for number in range(len(parsed.code)):
        params = len(parsed.func_type(parsed.imported_functions + number).params)
        bodies.append(_rewritten(data, decode_body(parsed, number), params))
    return _with_code(data, bodies)
