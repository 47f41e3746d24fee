"""Constants that LLVM shall not recognise: those beside which it drops that NaNs become quiet.

LLVM folds ``x * 1``, ``x / 1``, ``x + -0`` and ``x - 0`` to ``x`` and takes the quieting of a
signalling NaN for optional. A constant made with a zero that LLVM does not know to be one, the
highest bit of the context's address, can not be folded by. It costs an instruction or two, which
leave every loop.
"""

from __future__ import annotations

import re
import struct

from wasinn_runtime.lower.meanings import float_immediate
from wasinn_runtime.lower.writer import LLVM_TYPE, FunctionWriter
from wasinn_runtime.spec.opcodes import Opcode
from wasinn_runtime.spec.types import ValType

__all__ = ["arithmetic_operands", "flowing"]

_FLOATS = frozenset({ValType.F32, ValType.F64})
_FLOAT_LITERAL = re.compile(r"bitcast \(i\d+ (\d+) to ")


def _literals(*values: float) -> frozenset[str]:
    """How a float of either width is written."""
    return frozenset(
        float_immediate(ty, int.from_bytes(struct.pack(code, value), "little"))
        for ty, code in ((ValType.F32, "<f"), (ValType.F64, "<d"))
        for value in values
    )


_ZEROS, _ONES = _literals(0.0, -0.0), _literals(1.0, -1.0)
_FOLDED_BY = {"fadd": _ZEROS, "fsub": _ZEROS, "fmul": _ONES, "fdiv": _ONES}


def _opaque(w: FunctionWriter, ty: ValType, literal: str) -> str:
    """The value of a literal, unknown to LLVM."""
    width = "i32" if ty in (ValType.I32, ValType.F32) else "i64"
    bits = w.let("ptrtoint ptr %vm to i64")
    zero = w.let(f"lshr i64 {bits}, 63")  # no program's address is that high
    if width == "i32":
        zero = w.let(f"trunc i64 {zero} to i32")
    if ty not in _FLOATS:
        return w.let(f"xor {width} {zero}, {literal}")
    found = _FLOAT_LITERAL.match(literal)
    assert found is not None, literal
    value = w.let(f"xor {width} {zero}, {found[1]}")
    return w.let(f"bitcast {width} {value} to {LLVM_TYPE[ty]}")


def _is_literal(value: str) -> bool:
    return not value.startswith("%")


def flowing(w: FunctionWriter, ty: ValType, value: str) -> str:
    """A value that goes somewhere LLVM may follow it to, and to arithmetic from there."""
    return _opaque(w, ty, value) if value in _ZEROS or value in _ONES else value


def arithmetic_operands(w: FunctionWriter, row: Opcode, operands: list[str]) -> list[str]:
    """The operands of a numeric instruction; where it gives a float, not all of them known."""
    if row.results is None or row.params is None or row.results[0] not in _FLOATS:
        return operands
    if all(map(_is_literal, operands)):
        return [_opaque(w, row.params[0], operands[0]), *operands[1:]]
    folded = _FOLDED_BY.get(row.meaning[1]) if row.meaning[0] == "float" else None
    if folded is None:
        return operands
    return [
        _opaque(w, ty, value) if value in folded else value
        for ty, value in zip(row.params, operands, strict=True)
    ]
