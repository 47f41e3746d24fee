"""The plain-Python twin of every vector instruction that does not touch memory. See ``numeric.py``.

A vector is an unsigned int of 128 bits, the first lane lowest; scalars are as in ``numeric.py``.
Of relaxed instructions it computes what every engine of ours does (docs/decisions, 0010).

Source: WebAssembly core specification 3.0, section 4.3.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction

from wasinn_runtime.errors import UsageError
from wasinn_runtime.spec.numeric import (
    CANONICAL_NAN,
    bits_to_float,
    evaluate,
    float_to_bits,
    is_nan,
    to_signed,
)
from wasinn_runtime.spec.opcodes import BY_NAME, ROWS, Imm, Opcode
from wasinn_runtime.spec.types import ValType

__all__ = ["VECTOR_ROWS", "evaluate_vector", "join_lanes", "split_lanes"]

# (immediate, operands) -> result
_Twin = Callable[..., int]
_Lanes = list[int]

_WIDTHS = {
    ValType.I32: 32,
    ValType.I64: 64,
    ValType.F32: 32,
    ValType.F64: 64,
    ValType.V128: 128,
}
_VECTORS = frozenset({"simd", "relaxed-simd"})


def evaluate_vector(row: Opcode, immediate: object, *operands: int) -> int:
    """Computes what a vector instruction leaves for the given operands.

    Args:
        row: one of :data:`VECTOR_ROWS`.
        immediate: as the decoder gives it: a lane, a tuple of 16 lanes, a vector, or None.
        operands: deepest first, as unsigned bits.

    Raises:
        UsageError: the row is not one of those, or an operand is missing or out of range.
    """
    twin = _TWINS.get(row)
    if twin is None:
        raise UsageError(f"{row.name} is not a vector instruction with a value by itself")
    params = row.params or ()
    if len(operands) != len(params):
        raise UsageError(f"{row.name} takes {len(params)} operands, got {len(operands)}")
    for type_, operand in zip(params, operands, strict=True):
        if not 0 <= operand < 1 << _WIDTHS[type_]:
            raise UsageError(f"{row.name} takes an {type_} as unsigned bits, got {operand}")
    return twin(immediate, *operands)


# --- lanes ----------------------------------------------------------------------------------------


def split_lanes(vector: int, width: int) -> _Lanes:
    """The lanes of ``width`` bits, the lowest first."""
    mask = (1 << width) - 1
    return [vector >> at & mask for at in range(0, 128, width)]


def join_lanes(lanes: _Lanes, width: int) -> int:
    """The vector of such lanes; of negative numbers, the two's complement."""
    mask = (1 << width) - 1
    return sum((lane & mask) << width * number for number, lane in enumerate(lanes))


def _width(row: Opcode, word: int = -1) -> int:
    """Bits of a lane of the shape that a meaning's word names."""
    return int(row.meaning[word][1:].partition("x")[0])


def _signed(vector: int, width: int) -> _Lanes:
    return [to_signed(lane, width) for lane in split_lanes(vector, width)]


def _extended(vector: int, width: int, extension: str) -> _Lanes:
    return _signed(vector, width) if extension == "sext" else split_lanes(vector, width)


def _by_lane(row: Opcode, operation: Callable[..., int]) -> _Twin:
    """Does the same with each lane, as unsigned bits."""
    width = _width(row)

    def compute(immediate: object, *operands: int) -> int:
        lanes = zip(*(split_lanes(operand, width) for operand in operands), strict=True)
        return join_lanes([operation(*each) for each in lanes], width)

    return compute


def _clamped(value: int, width: int, signed: bool) -> int:
    least, most = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
    return max(least, min(most, value))


# --- with immediates ------------------------------------------------------------------------------


def _const(row: Opcode) -> _Twin:
    return lambda immediate: int(immediate)


def _shuffle(row: Opcode) -> _Twin:
    def compute(immediate: tuple[int, ...], a: int, b: int) -> int:
        both = split_lanes(a, 8) + split_lanes(b, 8)
        return join_lanes([both[lane] for lane in immediate], 8)

    return compute


def _extract(row: Opcode) -> _Twin:
    width = _width(row, 1)
    signed = row.meaning[-1] == "sext"

    def compute(immediate: int, a: int) -> int:
        lane = split_lanes(a, width)[immediate]
        return to_signed(lane, width) & 0xFFFF_FFFF if signed else lane

    return compute


def _replace(row: Opcode) -> _Twin:
    width = _width(row)

    def compute(immediate: int, a: int, value: int) -> int:
        lanes = split_lanes(a, width)
        lanes[immediate] = value
        return join_lanes(lanes, width)

    return compute


# --- the whole vector -----------------------------------------------------------------------------

_ALL = (1 << 128) - 1
_BITS: dict[str, Callable[[int, int], int]] = {
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
}


def _bits(row: Opcode) -> _Twin:
    operation = _BITS[row.meaning[1]]
    return lambda immediate, a, b: operation(a, b)


def _not(row: Opcode) -> _Twin:
    return lambda immediate, a: a ^ _ALL


def _andnot(row: Opcode) -> _Twin:
    return lambda immediate, a, b: a & (b ^ _ALL)


def _bitselect(row: Opcode) -> _Twin:
    return lambda immediate, a, b, mask: (a & mask) | (b & (mask ^ _ALL))


def _any_true(row: Opcode) -> _Twin:
    return lambda immediate, a: int(a != 0)


def _swizzle(row: Opcode) -> _Twin:
    def compute(immediate: object, a: int, indices: int) -> int:
        lanes = split_lanes(a, 8)
        return join_lanes([lanes[i] if i < 16 else 0 for i in split_lanes(indices, 8)], 8)

    return compute


# --- lanes of integers ----------------------------------------------------------------------------


def _splat(row: Opcode) -> _Twin:
    width = _width(row)
    return lambda immediate, value: join_lanes([value] * (128 // width), width)


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "gt": operator.gt,
    "le": operator.le,
    "ge": operator.ge,
}


def _icmp(row: Opcode) -> _Twin:
    width = _width(row)
    word = row.meaning[1]
    compare = _COMPARE[word[-2:]]
    if word.startswith("s"):
        return _by_lane(row, lambda a, b: -compare(to_signed(a, width), to_signed(b, width)))
    return _by_lane(row, lambda a, b: -compare(a, b))


def _int(row: Opcode) -> _Twin:
    operations: dict[str, Callable[[int, int], int]] = {
        "add": operator.add,
        "sub": operator.sub,
        "mul": operator.mul,
    }
    return _by_lane(row, operations[row.meaning[1]])


def _int2(row: Opcode) -> _Twin:
    width = _width(row)
    word = row.meaning[1]
    signed = word.startswith("s")
    operations: dict[str, Callable[[int, int], int]] = {
        "add.sat": operator.add,
        "sub.sat": operator.sub,
        "min": min,
        "max": max,
    }
    operation = operations[word[1:]]

    def compute(a: int, b: int) -> int:
        if signed:
            a, b = to_signed(a, width), to_signed(b, width)
        return _clamped(operation(a, b), width, signed)

    return _by_lane(row, compute)


def _shift(row: Opcode) -> _Twin:
    width = _width(row)
    word = row.meaning[1]
    if word not in ("shl", "lshr", "ashr"):
        raise KeyError(word)

    def compute(immediate: object, a: int, amount: int) -> int:
        by = amount % width
        lanes = _signed(a, width) if word == "ashr" else split_lanes(a, width)
        return join_lanes([v << by if word == "shl" else v >> by for v in lanes], width)

    return compute


def _abs(row: Opcode) -> _Twin:
    width = _width(row)
    return _by_lane(row, lambda a: abs(to_signed(a, width)))


def _neg(row: Opcode) -> _Twin:
    return _by_lane(row, operator.neg)


def _popcnt(row: Opcode) -> _Twin:
    return _by_lane(row, int.bit_count)


def _average(row: Opcode) -> _Twin:
    return _by_lane(row, lambda a, b: (a + b + 1) // 2)


def _all_true(row: Opcode) -> _Twin:
    width = _width(row)
    return lambda immediate, a: int(all(split_lanes(a, width)))


def _bitmask(row: Opcode) -> _Twin:
    width = _width(row)

    def compute(immediate: object, a: int) -> int:
        return sum(1 << n for n, lane in enumerate(_signed(a, width)) if lane < 0)

    return compute


def _narrow(row: Opcode) -> _Twin:
    width = _width(row)
    signed = {"s": True, "u": False}[row.meaning[1]]

    def compute(immediate: object, a: int, b: int) -> int:
        lanes = _signed(a, 2 * width) + _signed(b, 2 * width)
        return join_lanes([_clamped(lane, width, signed) for lane in lanes], width)

    return compute


def _half(row: Opcode, vector: int) -> _Lanes:
    """The lower or upper lanes of half the width of the row's shape, extended."""
    _, extension, which, _ = row.meaning
    lanes = _extended(vector, _width(row) // 2, extension)
    middle = len(lanes) // 2
    return {"low": lanes[:middle], "high": lanes[middle:]}[which]


def _extend(row: Opcode) -> _Twin:
    return lambda immediate, a: join_lanes(_half(row, a), _width(row))


def _extmul(row: Opcode) -> _Twin:
    def compute(immediate: object, a: int, b: int) -> int:
        products = map(operator.mul, _half(row, a), _half(row, b))
        return join_lanes(list(products), _width(row))

    return compute


def _sums(lanes: _Lanes) -> _Lanes:
    """Of each two neighbours."""
    return [a + b for a, b in zip(lanes[::2], lanes[1::2], strict=True)]


def _pairwise(row: Opcode) -> _Twin:
    width = _width(row)
    extension = row.meaning[1]
    return lambda immediate, a: join_lanes(_sums(_extended(a, width // 2, extension)), width)


def _dot(row: Opcode) -> _Twin:
    def compute(immediate: object, a: int, b: int) -> int:
        return join_lanes(_sums(list(map(operator.mul, _signed(a, 16), _signed(b, 16)))), 32)

    return compute


def _q15mulr(row: Opcode) -> _Twin:
    def compute(immediate: object, a: int, b: int) -> int:
        products = map(operator.mul, _signed(a, 16), _signed(b, 16))
        return join_lanes([_clamped((p + 0x4000) >> 15, 16, True) for p in products], 16)

    return compute


def _seven_bits(a: int, b: int) -> _Lanes:
    """Sums of products, the first operand signed, the second unsigned."""
    products = list(map(operator.mul, _signed(a, 8), split_lanes(b, 8)))
    return [_clamped(total, 16, True) for total in _sums(products)]


def _dot7(row: Opcode) -> _Twin:
    return lambda immediate, a, b: join_lanes(_seven_bits(a, b), 16)


def _dot7_add(row: Opcode) -> _Twin:
    def compute(immediate: object, a: int, b: int, c: int) -> int:
        totals = _sums(_seven_bits(a, b))
        return join_lanes(list(map(operator.add, totals, split_lanes(c, 32))), 32)

    return compute


# --- lanes of floats ------------------------------------------------------------------------------


def _scalar(row: Opcode) -> _Twin:
    """As the instruction of the same name on one float, lane by lane."""
    shape, _, name = row.name.partition(".")
    scalar = BY_NAME[f"{shape.partition('x')[0]}.{name}"]
    return _by_lane(row, lambda *lanes: evaluate(scalar, *lanes))


def _fcmp(row: Opcode) -> _Twin:
    width = _width(row)
    # Python's comparisons of NaNs are IEEE's: ordered but for !=, as oeq and une say.
    compare = _COMPARE[row.meaning[1][1:]]
    return _by_lane(row, lambda a, b: -compare(bits_to_float(a, width), bits_to_float(b, width)))


def _pick(row: Opcode) -> _Twin:
    width = _width(row)
    better = {"least": operator.lt, "most": operator.gt}[row.meaning[1]]

    def choose(a: int, b: int) -> int:
        return b if better(bits_to_float(b, width), bits_to_float(a, width)) else a

    return _by_lane(row, choose)


# Bits of a significand, and the exponent of the smallest number.
_PRECISION = {32: (24, -149), 64: (53, -1074)}


def _nearest(value: Fraction, width: int) -> float:
    """Rounds once to a float of the width, ties to even."""
    precision, lowest = _PRECISION[width]
    if value == 0:
        return 0.0
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length() - precision
    # The quotient of the lengths is one too small or right.
    if magnitude >= Fraction(2) ** (exponent + precision):
        exponent += 1
    exponent = max(exponent, lowest)
    try:
        rounded = math.ldexp(round(magnitude / Fraction(2) ** exponent), exponent)
    except OverflowError:
        rounded = math.inf
    return -rounded if value < 0 else rounded


def _fma(row: Opcode) -> _Twin:
    width = _width(row)
    minus = {"minus": True, "plus": False}[row.meaning[1]]

    def compute(a: int, b: int, c: int) -> int:
        if any(is_nan(lane, width) for lane in (a, b, c)):
            return CANONICAL_NAN[width]
        x, y, z = (bits_to_float(lane, width) for lane in (a, b, c))
        if minus:
            x = -x
        if not all(map(math.isfinite, (x, y, z))):
            return float_to_bits(_product(x, y) + z, width)
        product = Fraction(x) * Fraction(y)
        if product == 0:
            return float_to_bits(x * y + z, width)
        return float_to_bits(_nearest(product + Fraction(z), width), width)

    def _product(x: float, y: float) -> float:
        # Of finite factors it counts as finite, however large.
        finite = math.isfinite(x) and math.isfinite(y)
        return 0.0 if finite else x * y

    return _by_lane(row, compute)


def _convert(row: Opcode) -> _Twin:
    width = _width(row)
    signed = {"sitofp": True, "uitofp": False}[row.meaning[1]]

    def compute(immediate: object, a: int) -> int:
        lanes = _signed(a, 32) if signed else split_lanes(a, 32)
        # Exact in f64, so that f32 is rounded once.
        return join_lanes([float_to_bits(float(v), width) for v in lanes[: 128 // width]], width)

    return compute


def _trunc_sat(row: Opcode) -> _Twin:
    width = _width(row)
    scalar = BY_NAME[f"i32.trunc_sat_f{width}_{row.meaning[1]}"]

    def compute(immediate: object, a: int) -> int:
        return join_lanes([evaluate(scalar, lane) for lane in split_lanes(a, width)], 32)

    return compute


def _demote(row: Opcode) -> _Twin:
    scalar = BY_NAME["f32.demote_f64"]
    return lambda immediate, a: join_lanes([evaluate(scalar, v) for v in split_lanes(a, 64)], 32)


def _promote(row: Opcode) -> _Twin:
    scalar = BY_NAME["f64.promote_f32"]

    def compute(immediate: object, a: int) -> int:
        return join_lanes([evaluate(scalar, v) for v in split_lanes(a, 32)[:2]], 64)

    return compute


# --- by family, checked against the table ---------------------------------------------------------

_FAMILIES: dict[str, Callable[[Opcode], _Twin]] = {
    "v128.const": _const,
    "v128.not": _not,
    "v128.bits": _bits,
    "v128.andnot": _andnot,
    "v128.bitselect": _bitselect,
    "v128.any_true": _any_true,
    "lanes.shuffle": _shuffle,
    "lanes.extract": _extract,
    "lanes.replace": _replace,
    "lanes.swizzle": _swizzle,
    "lanes.splat": _splat,
    "lanes.icmp": _icmp,
    "lanes.int": _int,
    "lanes.int2": _int2,
    "lanes.shift": _shift,
    "lanes.abs": _abs,
    "lanes.neg": _neg,
    "lanes.popcnt": _popcnt,
    "lanes.average": _average,
    "lanes.all_true": _all_true,
    "lanes.bitmask": _bitmask,
    "lanes.narrow": _narrow,
    "lanes.extend": _extend,
    "lanes.extmul": _extmul,
    "lanes.pairwise": _pairwise,
    "lanes.dot": _dot,
    "lanes.q15mulr": _q15mulr,
    "lanes.dot7": _dot7,
    "lanes.dot7_add": _dot7_add,
    "lanes.float": _scalar,
    "lanes.float1": _scalar,
    "lanes.fneg": _scalar,
    "lanes.minmax": _scalar,
    "lanes.fcmp": _fcmp,
    "lanes.pick": _pick,
    "lanes.fma": _fma,
    "lanes.convert": _convert,
    "lanes.trunc_sat": _trunc_sat,
    "lanes.demote": _demote,
    "lanes.promote": _promote,
}


def _twins(rows: list[Opcode]) -> dict[Opcode, _Twin]:
    """The twin of every row.

    Raises:
        NotImplementedError: at import, naming the rows that have none.
    """
    found: dict[Opcode, _Twin] = {}
    missing: list[str] = []
    for row in rows:
        try:
            found[row] = _FAMILIES[row.meaning[0]](row)
        except (KeyError, IndexError):
            missing.append(f"{row.name} ({' '.join(row.meaning)})")
    if missing:
        raise NotImplementedError(f"vector instructions without a twin: {', '.join(missing)}")
    return found


_TWINS = _twins(
    [
        row
        for row in ROWS
        if row.feature in _VECTORS and row.imm not in (Imm.MEMARG, Imm.MEMARG_LANE)
    ]
)

VECTOR_ROWS = tuple(_TWINS)
"""The rows that :func:`evaluate_vector` takes, in the table's order."""
