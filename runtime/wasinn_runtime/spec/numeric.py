"""The plain-Python twin of every numeric instruction. Obvious and slow; it runs no guest code.

It folds constants and is what engines are compared with. Every value is an unsigned int: of an
integer its canonical form (``-1`` of i32 is ``0xFFFFFFFF``), of a float its IEEE 754 bits, so
that NaNs, signed zeros and every rounding can be told apart.

Where the specification leaves a NaN result open, the twin answers the positive canonical NaN,
which every case of it allows.

Source: WebAssembly core specification 2.0, section 4.3.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

from wasinn_runtime.errors import Trap, UsageError
from wasinn_runtime.spec.features import FEATURES_2_0
from wasinn_runtime.spec.opcodes import ROWS, Imm, Opcode
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import ValType

__all__ = [
    "CANONICAL_NAN",
    "NUMERIC_ROWS",
    "bits_to_float",
    "evaluate",
    "float_to_bits",
    "is_nan",
    "to_signed",
]

_Twin = Callable[..., int]
_WIDTHS = {ValType.I32: 32, ValType.I64: 64, ValType.F32: 32, ValType.F64: 64}
_FORMATS = {32: ("<I", "<f"), 64: ("<Q", "<d")}
# Bits of a significand, the implicit one included.
_PRECISION = {32: 24, 64: 53}

CANONICAL_NAN = {32: 0x7FC0_0000, 64: 0x7FF8_0000_0000_0000}
"""By width in bits: the positive NaN whose payload is the top bit alone."""


def evaluate(row: Opcode, *operands: int) -> int:
    """Computes what a numeric instruction leaves for the given operands.

    Args:
        row: one of :data:`NUMERIC_ROWS`.
        operands: deepest first, integers in canonical unsigned form, floats as their bits.

    Returns:
        The result in the same form.

    Raises:
        Trap: the instruction traps for these operands.
        UsageError: the row is not numeric, or an operand is missing or out of range.
    """
    twin = _TWINS.get(row)
    if twin is None:
        raise UsageError(f"{row.name} is not a numeric instruction; it has no value by itself")
    params = row.params or ()
    if len(operands) != len(params):
        raise UsageError(f"{row.name} takes {len(params)} operands, got {len(operands)}")
    for type_, operand in zip(params, operands, strict=True):
        if not 0 <= operand < 1 << _WIDTHS[type_]:
            raise UsageError(f"{row.name} takes an {type_} as unsigned bits, got {operand}")
    return twin(*operands)


# --- representations ----------------------------------------------------------------------------


def to_signed(value: int, width: int) -> int:
    """The two's complement reading of an unsigned value of ``width`` bits."""
    return value - (1 << width) if value >> (width - 1) else value


def bits_to_float(bits: int, width: int) -> float:
    """The number that the bits stand for; a NaN's payload does not survive."""
    integer, floating = _FORMATS[width]
    value: float = struct.unpack(floating, struct.pack(integer, bits))[0]
    return value


def float_to_bits(value: float, width: int) -> int:
    """Rounds to the nearest number of the width, ties to even; NaNs become canonical."""
    if math.isnan(value):
        return CANONICAL_NAN[width]
    integer, floating = _FORMATS[width]
    try:
        packed = struct.pack(floating, value)
    except OverflowError:
        # Python refuses what rounds beyond the largest number; IEEE 754 makes it infinite.
        packed = struct.pack(floating, math.copysign(math.inf, value))
    bits: int = struct.unpack(integer, packed)[0]
    return bits


def is_nan(bits: int, width: int) -> bool:
    """Whether the bits of a float of ``width`` bits are a NaN."""
    return math.isnan(bits_to_float(bits, width))


def _operand_width(row: Opcode) -> int:
    assert row.params
    return _WIDTHS[row.params[0]]


def _result_width(row: Opcode) -> int:
    assert row.results
    return _WIDTHS[row.results[0]]


# --- integers -------------------------------------------------------------------------------------


def _int(row: Opcode) -> _Twin:
    mask = (1 << _operand_width(row)) - 1
    operations: dict[str, Callable[[int, int], int]] = {
        "add": lambda a, b: a + b & mask,
        "sub": lambda a, b: a - b & mask,
        "mul": lambda a, b: a * b & mask,
        "and": lambda a, b: a & b,
        "or": lambda a, b: a | b,
        "xor": lambda a, b: a ^ b,
    }
    return operations[row.meaning[1]]


def _shift(row: Opcode) -> _Twin:
    width = _operand_width(row)
    mask = (1 << width) - 1
    operations: dict[str, Callable[[int, int], int]] = {
        "shl": lambda a, b: a << b % width & mask,
        "lshr": lambda a, b: a >> b % width,
        "ashr": lambda a, b: to_signed(a, width) >> b % width & mask,
    }
    return operations[row.meaning[1]]


def _rotate(row: Opcode) -> _Twin:
    width = _operand_width(row)
    mask = (1 << width) - 1
    left = row.meaning[1] == "fshl"

    def rotate(value: int, by: int) -> int:
        by = (by if left else -by) % width
        return (value << by | value >> (width - by)) & mask

    return rotate


def _count(row: Opcode) -> _Twin:
    width = _operand_width(row)

    def leading(value: int) -> int:
        return width - value.bit_length()

    def trailing(value: int) -> int:
        return (value & -value).bit_length() - 1 if value else width

    return {"ctlz": leading, "cttz": trailing}[row.meaning[1]]


def _popcnt(row: Opcode) -> _Twin:
    return int.bit_count


def _div(row: Opcode) -> _Twin:
    width = _operand_width(row)
    mask = (1 << width) - 1
    signed = row.meaning[1].startswith("s")
    remainder = row.meaning[1].endswith("rem")

    def divide(a: int, b: int) -> int:
        if b == 0:
            raise Trap(TrapCode.INTEGER_DIVIDE_BY_ZERO.text)
        if signed:
            a = to_signed(a, width)
            b = to_signed(b, width)
        # Division rounds towards zero, and the remainder has the dividend's sign.
        quotient = abs(a) // abs(b)
        rest = abs(a) % abs(b)
        if remainder:
            return (-rest if a < 0 else rest) & mask
        if (a < 0) != (b < 0):
            quotient = -quotient
        if signed and quotient >> (width - 1) == 1:
            raise Trap(TrapCode.INTEGER_OVERFLOW.text)
        return quotient & mask

    return divide


def _eqz(row: Opcode) -> _Twin:
    return lambda value: int(value == 0)


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "gt": lambda a, b: a > b,
    "le": lambda a, b: a <= b,
    "ge": lambda a, b: a >= b,
}


def _icmp(row: Opcode) -> _Twin:
    width = _operand_width(row)
    word = row.meaning[1]
    compare = _COMPARE[word[-2:]]
    if not word.startswith("s"):
        return lambda a, b: int(compare(a, b))
    return lambda a, b: int(compare(to_signed(a, width), to_signed(b, width)))


def _extend(row: Opcode) -> _Twin:
    source = int(row.meaning[1])
    mask = (1 << _result_width(row)) - 1
    return lambda value: to_signed(value & (1 << source) - 1, source) & mask


# --- floats ---------------------------------------------------------------------------------------


def _fcmp(row: Opcode) -> _Twin:
    width = _operand_width(row)
    # Python's comparisons of NaNs are IEEE's: ordered but for !=, as oeq and une say.
    compare = _COMPARE[row.meaning[1][1:]]
    return lambda a, b: int(compare(bits_to_float(a, width), bits_to_float(b, width)))


def _divide(a: float, b: float) -> float:
    if b != 0 or math.isnan(a):
        return a / b if b != 0 else a
    if a == 0:
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def _float(row: Opcode) -> _Twin:
    width = _operand_width(row)
    operations: dict[str, Callable[[float, float], float]] = {
        "fadd": lambda a, b: a + b,
        "fsub": lambda a, b: a - b,
        "fmul": lambda a, b: a * b,
        "fdiv": _divide,
    }
    operation = operations[row.meaning[1]]

    # For f32: computing in f64 and rounding again is exact for these operations, since 53
    # bits are at least twice 24 and two more.
    # Source: Figueroa, "When is double rounding innocuous?", 1995.
    def compute(a: int, b: int) -> int:
        return float_to_bits(operation(bits_to_float(a, width), bits_to_float(b, width)), width)

    return compute


def _float1(row: Opcode) -> _Twin:
    width = _operand_width(row)
    if row.meaning[1] == "fabs":
        return lambda bits: bits & (1 << (width - 1)) - 1
    if row.meaning[1] != "sqrt":
        raise KeyError(row.meaning[1])

    def sqrt(bits: int) -> int:
        value = bits_to_float(bits, width)
        return float_to_bits(math.nan if value < 0 else math.sqrt(value), width)

    return sqrt


def _fneg(row: Opcode) -> _Twin:
    sign = 1 << (_operand_width(row) - 1)
    return lambda bits: bits ^ sign


def _float2(row: Opcode) -> _Twin:
    width = _operand_width(row)
    sign = 1 << (width - 1)
    if row.meaning[1] != "copysign":
        raise KeyError(row.meaning[1])
    return lambda a, b: (a & ~sign) | (b & sign)


def _minmax(row: Opcode) -> _Twin:
    width = _operand_width(row)
    least = {"minimum": True, "maximum": False}[row.meaning[1]]

    def choose(a: int, b: int) -> int:
        x = bits_to_float(a, width)
        y = bits_to_float(b, width)
        if math.isnan(x) or math.isnan(y):
            return CANONICAL_NAN[width]
        if x == y:
            # Equal numbers differ only as zeros do, in the sign.
            return a | b if least else a & b
        return a if (x < y) == least else b

    return choose


def _round(row: Opcode) -> _Twin:
    width = _operand_width(row)
    operations: dict[str, Callable[[float], int]] = {
        "ceil": math.ceil,
        "floor": math.floor,
        "trunc": math.trunc,
        "roundeven": round,
    }
    operation = operations[row.meaning[1]]

    def compute(bits: int) -> int:
        value = bits_to_float(bits, width)
        if not math.isfinite(value):
            return float_to_bits(value, width)
        return float_to_bits(math.copysign(float(operation(value)), value), width)

    return compute


# --- conversions ----------------------------------------------------------------------------------


def _nearest(value: int, precision: int) -> int:
    """Rounds an integer to ``precision`` significant bits, ties to even."""
    excess = abs(value).bit_length() - precision
    if excess <= 0:
        return value
    kept, rest = divmod(abs(value), 1 << excess)
    half = 1 << (excess - 1)
    if rest > half or (rest == half and kept & 1):
        kept += 1
    return (kept << excess) * (-1 if value < 0 else 1)


def _cast(row: Opcode) -> _Twin:
    word = row.meaning[1]
    source = _operand_width(row)
    width = _result_width(row)
    mask = (1 << width) - 1
    if word in ("trunc", "zext", "bitcast"):
        return lambda value: value & mask
    if word == "sext":
        return lambda value: to_signed(value, source) & mask
    precision = _PRECISION[width]
    signed = {"sitofp": True, "uitofp": False}[word]

    # Rounded as an integer first: i64 to f32 by way of f64 would round twice.
    def convert(value: int) -> int:
        number = to_signed(value, source) if signed else value
        return float_to_bits(float(_nearest(number, precision)), width)

    return convert


def _resize(row: Opcode) -> _Twin:
    source = _operand_width(row)
    width = _result_width(row)
    if {"fptrunc": 32, "fpext": 64}[row.meaning[1]] != width:
        raise KeyError(row.meaning[1])
    return lambda bits: float_to_bits(bits_to_float(bits, source), width)


def _range(row: Opcode) -> tuple[int, int]:
    width = _result_width(row)
    if {"s": True, "u": False}[row.meaning[1]]:
        return -(1 << (width - 1)), (1 << (width - 1)) - 1
    return 0, (1 << width) - 1


def _trunc(row: Opcode) -> _Twin:
    source = _operand_width(row)
    mask = (1 << _result_width(row)) - 1
    least, most = _range(row)

    def convert(bits: int) -> int:
        value = bits_to_float(bits, source)
        if math.isnan(value):
            raise Trap(TrapCode.INVALID_CONVERSION_TO_INTEGER.text)
        if math.isinf(value) or not least <= math.trunc(value) <= most:
            raise Trap(TrapCode.INTEGER_OVERFLOW.text)
        return math.trunc(value) & mask

    return convert


def _trunc_sat(row: Opcode) -> _Twin:
    source = _operand_width(row)
    mask = (1 << _result_width(row)) - 1
    least, most = _range(row)

    def convert(bits: int) -> int:
        value = bits_to_float(bits, source)
        if math.isnan(value):
            return 0
        if math.isinf(value):
            return (most if value > 0 else least) & mask
        return max(least, min(most, math.trunc(value))) & mask

    return convert


# --- by family, checked against the table -------------------------------------------------------

_FAMILIES: dict[str, Callable[[Opcode], _Twin]] = {
    "int": _int,
    "shift": _shift,
    "rotate": _rotate,
    "count": _count,
    "popcnt": _popcnt,
    "div": _div,
    "eqz": _eqz,
    "icmp": _icmp,
    "fcmp": _fcmp,
    "float": _float,
    "float1": _float1,
    "fneg": _fneg,
    "float2": _float2,
    "minmax": _minmax,
    "round": _round,
    "cast": _cast,
    "trunc": _trunc,
    "trunc_sat": _trunc_sat,
    "resize": _resize,
    "extend": _extend,
}


def _is_numeric(row: Opcode) -> bool:
    """Whether the result depends on the operands alone."""
    return row.imm is Imm.NONE and bool(row.params) and bool(row.results)


def _twins(rows: list[Opcode]) -> dict[Opcode, _Twin]:
    """The twin of every numeric row.

    Raises:
        NotImplementedError: at import, naming the rows that have none.
    """
    found: dict[Opcode, _Twin] = {}
    missing: list[str] = []
    for row in filter(_is_numeric, rows):
        try:
            found[row] = _FAMILIES[row.meaning[0]](row)
        except (KeyError, IndexError):
            missing.append(f"{row.name} ({' '.join(row.meaning)})")
    if missing:
        raise NotImplementedError(f"numeric instructions without a twin: {', '.join(missing)}")
    return found


_TWINS = _twins([row for row in ROWS if row.feature in FEATURES_2_0])

NUMERIC_ROWS = tuple(_TWINS)
"""The rows that :func:`evaluate` takes, in the table's order."""
