"""What the numeric instructions mean, once, as LLVM IR: functions from operand values to a result.

A meaning is registered under the first word of an opcode row's ``meaning`` and takes the words
after it. It neither knows where operands come from nor where the result goes, so every engine uses
the same one. Memory, tables and globals are in ``lower/state.py``, control flow in the engines.

Floating point follows LLVM's default environment. LLVM may treat ``x * 1.0`` as ``x``, which loses
that WebAssembly quiets a signalling NaN there; whoever hands over constants sees to that
(``lower/opaque.py``).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from wasinn_runtime.lower.registry import registrar
from wasinn_runtime.lower.writer import LLVM_TYPE, FunctionWriter
from wasinn_runtime.spec.opcodes import ROWS, Opcode
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import ValType

__all__ = ["INTEGER_TEXT", "MEANINGS", "Meaning", "float_constant", "float_immediate"]

# (writer, row, operands) -> result
Meaning = Callable[[FunctionWriter, Opcode, list[str]], str]
MEANINGS: dict[str, Meaning] = {}

_BITS = {ValType.I32: 32, ValType.I64: 64, ValType.F32: 32, ValType.F64: 64}
_OVERLOAD = {ValType.I32: "i32", ValType.I64: "i64", ValType.F32: "f32", ValType.F64: "f64"}


# Register the meaning of a family of rows.
meaning = registrar(MEANINGS)


def _operand(row: Opcode) -> ValType:
    assert row.params is not None
    return row.params[0]


def _result(row: Opcode) -> ValType:
    assert row.results is not None
    return row.results[0]


def _type(row: Opcode) -> str:
    return LLVM_TYPE[_operand(row)]


def float_constant(ty: ValType, value: float) -> str:
    """A Python float, exactly representable in ``ty``, as an LLVM constant."""
    assert ty in (ValType.F32, ValType.F64)  # LLVM writes both as the bits of a double
    return "0x" + struct.pack(">d", value).hex().upper()


def float_immediate(ty: ValType, bits: int) -> str:
    """A constant by its bits, NaN payloads included."""
    width = _BITS[ty]
    return f"bitcast (i{width} {bits} to {LLVM_TYPE[ty]})"


def as_i32(w: FunctionWriter, condition: str) -> str:
    return w.let(f"zext i1 {condition} to i32")


@meaning("eqz")
def _eqz(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    return as_i32(w, w.let(f"icmp eq {_type(row)} {a[0]}, 0"))


@meaning("icmp")
def _icmp(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    return as_i32(w, w.let(f"icmp {row.meaning[1]} {_type(row)} {a[0]}, {a[1]}"))


@meaning("fcmp")
def _fcmp(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    return as_i32(w, w.let(f"fcmp {row.meaning[1]} {_type(row)} {a[0]}, {a[1]}"))


# How LLVM writes integer arithmetic, up to the operands. Most instructions are of these.
INTEGER_TEXT = {row: f"{row.meaning[1]} {_type(row)} " for row in ROWS if row.meaning[0] == "int"}


@meaning("int")
def _int(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    return w.let(f"{INTEGER_TEXT[row]}{a[0]}, {a[1]}")


@meaning("div")
def _div(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    t, instruction = _type(row), row.meaning[1]
    left, right = a
    divisor = None if right.startswith("%") else int(right)
    if not divisor:
        w.trap_if(w.let(f"icmp eq {t} {right}, 0"), TrapCode.INTEGER_DIVIDE_BY_ZERO)
    if instruction in ("sdiv", "srem") and divisor in (None, -1):
        minus_one = w.let(f"icmp eq {t} {right}, -1")
        if instruction == "sdiv":
            lowest = w.let(f"icmp eq {t} {left}, {-(1 << _BITS[_operand(row)] - 1)}")
            w.trap_if(w.let(f"and i1 {minus_one}, {lowest}"), TrapCode.INTEGER_OVERFLOW)
        else:
            # LLVM leaves lowest % -1 undefined, the specification says 0: divide by 1 instead.
            right = w.let(f"select i1 {minus_one}, {t} 1, {t} {right}")
    elif w.quick and divisor is not None and instruction in ("sdiv", "srem"):
        power = divisor.bit_length() - 1
        if power > 0 and divisor == 1 << power:
            return _by_power(w, row, left, power)
    return w.let(f"{instruction} {t} {left}, {right}")


def _by_power(w: FunctionWriter, row: Opcode, value: str, power: int) -> str:
    """A signed quotient or remainder by 2 to some power, which the quick generator would divide."""
    t, bits = _type(row), _BITS[_operand(row)]
    sign = w.let(f"ashr {t} {value}, {bits - 1}")
    low = w.let(f"lshr {t} {sign}, {bits - power}")  # what rounds to 0 and not down
    total = w.let(f"add {t} {value}, {low}")
    if row.meaning[1] == "sdiv":
        return w.let(f"ashr {t} {total}, {power}")
    whole = w.let(f"and {t} {total}, {-(1 << power)}")
    return w.let(f"sub {t} {value}, {whole}")


@meaning("shift")
def _shift(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    t = _type(row)
    amount, highest = a[1], _BITS[_operand(row)] - 1  # LLVM leaves more undefined
    if amount.startswith("%"):
        amount = w.let(f"and {t} {amount}, {highest}")
    else:
        amount = str(int(amount) & highest)
    return w.let(f"{row.meaning[1]} {t} {a[0]}, {amount}")


@meaning("rotate")
def _rotate(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    t = _type(row)
    return w.let(f"call {t} @llvm.{row.meaning[1]}.{t}({t} {a[0]}, {t} {a[0]}, {t} {a[1]})")


@meaning("count")
def _count(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    t = _type(row)
    return w.let(f"call {t} @llvm.{row.meaning[1]}.{t}({t} {a[0]}, i1 false)")


@meaning("popcnt")
def _popcnt(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    t = _type(row)
    return w.let(f"call {t} @llvm.ctpop.{t}({t} {a[0]})")


@meaning("extend")
def _extend(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    t, narrow = _type(row), f"i{row.meaning[1]}"
    return w.let(f"sext {narrow} {w.let(f'trunc {t} {a[0]} to {narrow}')} to {t}")


@meaning("cast")
def _cast(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    how, source, value = row.meaning[1], _type(row), a[0]
    if how == "uitofp" and source == "i32":
        # LLVM's quick generator knows none of 32 bits; its optimisations make this one of it.
        how, source, value = "sitofp", "i64", w.let(f"zext i32 {value} to i64")
    return w.let(f"{how} {source} {value} to {LLVM_TYPE[_result(row)]}")


# --- floating point -----------------------------------------------------------------------------


def quieted(w: FunctionWriter, t: str, overload: str, value: str) -> str:
    """A NaN becomes quiet; every other value or lane stays. A constant is left alone.

    Args:
        t: the value's LLVM type.
        overload: how intrinsics' names say it.
    """
    if not value.startswith("%"):
        return value
    return w.let(f"call {t} @llvm.canonicalize.{overload}({t} {value})")


@meaning("float")
def _float(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    return w.let(f"{row.meaning[1]} {_type(row)} {a[0]}, {a[1]}")


@meaning("float1")
def _float1(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    t = _type(row)
    return w.let(f"call {t} @llvm.{row.meaning[1]}.{_OVERLOAD[_operand(row)]}({t} {a[0]})")


@meaning("round")
def _round(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    return _float1(w, row, a)


@meaning("minmax")
def _minmax(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    # LLVM's minimum and maximum agree with WebAssembly but hand a signalling NaN through.
    t = _type(row)
    name = f"llvm.{row.meaning[1]}.{_OVERLOAD[_operand(row)]}"
    unordered = w.let(f"fcmp uno {t} {a[0]}, {a[1]}")
    quiet = w.let(f"fadd {t} {a[0]}, {a[1]}")
    ordered = w.let(f"call nnan {t} @{name}({t} {a[0]}, {t} {a[1]})")
    return w.let(f"select i1 {unordered}, {t} {quiet}, {t} {ordered}")


@meaning("float2")
def _float2(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    t = _type(row)
    name = f"llvm.{row.meaning[1]}.{_OVERLOAD[_operand(row)]}"
    return w.let(f"call {t} @{name}({t} {a[0]}, {t} {a[1]})")


@meaning("fneg")
def _fneg(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    return w.let(f"fneg {_type(row)} {a[0]}")


@meaning("resize")
def _resize(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    # LLVM folds a promotion and the demotion after it into nothing; the quieting must stay.
    value = a[0]
    if row.meaning[1] == "fptrunc" and "= fpext " in w.lines[-1]:
        value = quieted(w, LLVM_TYPE[_operand(row)], _OVERLOAD[_operand(row)], value)
    return w.let(f"{row.meaning[1]} {_type(row)} {value} to {LLVM_TYPE[_result(row)]}")


def _trunc_bounds(source: ValType, target: ValType, signed: bool) -> tuple[float, float]:
    """The open interval of floats whose truncation fits.

    Below, it is the largest float that does not fit: lowest - 1, or where that is not a float,
    the next float under the lowest integer.
    """
    bits = _BITS[target]
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    precision = 24 if source is ValType.F32 else 53
    step = 1 if bits - 1 < precision or not signed else 1 << (bits - precision)
    return float(low - step), float(high)


@meaning("trunc")
def _trunc(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    t, source, target = _type(row), _operand(row), _result(row)
    signed = row.meaning[1] == "s"
    low, high = _trunc_bounds(source, target, signed)
    w.trap_if(w.let(f"fcmp uno {t} {a[0]}, 0.0"), TrapCode.INVALID_CONVERSION_TO_INTEGER)
    small = w.let(f"fcmp ole {t} {a[0]}, {float_constant(source, low)}")
    large = w.let(f"fcmp oge {t} {a[0]}, {float_constant(source, high)}")
    w.trap_if(w.let(f"or i1 {small}, {large}"), TrapCode.INTEGER_OVERFLOW)
    return w.let(f"{'fptosi' if signed else 'fptoui'} {t} {a[0]} to {LLVM_TYPE[target]}")


@meaning("trunc_sat")
def _trunc_sat(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    t, source, target = _type(row), _operand(row), _result(row)
    name = f"llvm.fpto{'si' if row.meaning[1] == 's' else 'ui'}.sat"
    result = LLVM_TYPE[target]
    return w.let(f"call {result} @{name}.{_OVERLOAD[target]}.{_OVERLOAD[source]}({t} {a[0]})")
