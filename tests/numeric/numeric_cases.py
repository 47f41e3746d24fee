"""Operands and functions that try every numeric instruction, and when two outcomes agree."""

from __future__ import annotations

from functools import partial

from hypothesis import strategies as st

from wasinn_runtime.errors import Trap
from wasinn_runtime.spec.numeric import (
    CANONICAL_NAN,
    NUMERIC_ROWS,
    bits_to_float,
    evaluate,
    float_to_bits,
    is_nan,
)
from wasinn_runtime.spec.opcodes import Opcode
from wasinn_runtime.spec.types import ValType

WIDTH = {ValType.I32: 32, ValType.I64: 64, ValType.F32: 32, ValType.F64: 64}
CARRIER = {ValType.F32: "i32", ValType.F64: "i64"}
# These move bits and must keep a NaN as it is; other float results are quiet, and no more is said.
BITWISE = {"fneg", "cast"}
# A result as unsigned bits, or a trap's text.
Outcome = int | str

# fmt: off
INTEGER_EDGES = {
    32: [
        0, 1, 2, 7, 31, 32, 33, 0x7F, 0x80, 0xFF, 0x8000, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001,
        0xAAAA_AAAA, 0xFFFF_FFFE, 0xFFFF_FFFF, 16_777_217, 33_554_435,
    ],
    64: [
        0, 1, 2, 31, 63, 64, 65, 0x80, 0x8000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 53,
        (1 << 53) + 1, (1 << 62) + (1 << 38) + 1, (1 << 63) - 1, 1 << 63, (1 << 63) + 1,
        (1 << 64) - 1, (1 << 64) - (1 << 39) - 1, 0x8000_0080_0000_0001, 0x7FFF_FFBF_FFFF_FFFF,
    ],
}
# fmt: on
FLOAT_NUMBERS = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    0.1,
    3.0,
    2147483647.0,
    2147483648.0,
    -2147483649.0,
    -2147483648.9,
    4294967295.0,
    4294967296.0,
    9223372036854775807.0,
    -9223372036854777856.0,
    18446744073709551615.0,
    -0.9999999999999999,
    4503599627370497.5,
    8388609.5,
    3.4028234663852886e38,
    3.4028235677973366e38,
    1.401298464324817e-45,
    7.006492321624085e-46,
    1.7976931348623157e308,
    5e-324,
    float("inf"),
    float("-inf"),
]
NAN_EDGES = {
    32: [0x7FC0_0000, 0xFFC0_0000, 0x7F80_0001, 0xFFFF_FFFF],
    64: [0x7FF8 << 48, 0xFFF8 << 48, (0x7FF0 << 48) + 1, (1 << 64) - 1],
}


def edges(type_: ValType) -> list[int]:
    """Telling operands of a type, as bits, each once."""
    width = WIDTH[type_]
    if type_ in CARRIER:
        numbers = [float_to_bits(v, width) for v in FLOAT_NUMBERS]
        return list(dict.fromkeys(numbers + NAN_EDGES[width]))
    return INTEGER_EDGES[width]


def function_text(row: Opcode, constants: tuple[int, ...] | None = None) -> str:
    """An exported function that takes and returns integers, and computes the row.

    Args:
        row: a numeric row; the function is named like it.
        constants: operands to compile in, instead of parameters; the name ends in them.
    """
    assert row.params is not None
    assert row.results is not None
    (result,) = row.results
    body = []
    for number, type_ in enumerate(row.params):
        if constants is not None:
            body.append(f"{type_}.const {constant_text(type_, constants[number])}")
            continue
        body.append(f"local.get {number}")
        if type_ in CARRIER:
            body.append(f"{type_}.reinterpret_{CARRIER[type_]}")
    body.append(row.name)
    if result in CARRIER:
        body.append(f"{CARRIER[result]}.reinterpret_{result}")
    params = " ".join(CARRIER.get(t, t.value) for t in row.params)
    header = f"(param {params})" if constants is None else ""
    returns = CARRIER.get(result, result.value)
    name = function_name(row, constants)
    return f'(func (export "{name}") {header} (result {returns}) {" ".join(body)})'


def constant_text(type_: ValType, bits: int) -> str:
    """A constant as the text format writes it, to the last bit."""
    if type_ not in CARRIER:
        return str(bits)
    width = WIDTH[type_]
    if not is_nan(bits, width):
        return bits_to_float(bits, width).hex()
    sign = "-" if bits >> (width - 1) else ""
    payload = bits & (1 << {32: 23, 64: 52}[width]) - 1
    return f"{sign}nan:{payload:#x}"


def function_name(row: Opcode, constants: tuple[int, ...] | None = None) -> str:
    return row.name if constants is None else f"{row.name} {' '.join(map(str, constants))}"


def outcome(row: Opcode, operands: tuple[int, ...]) -> Outcome:
    try:
        return evaluate(row, *operands)
    except Trap as trap:
        return trap.code


def agrees(row: Opcode, operands: tuple[int, ...], native: Outcome, twin: Outcome) -> bool:
    """Whether an engine's outcome is right, given the twin's.

    Outcomes are equal, but for the NaNs of arithmetic: there the twin answers the canonical one,
    and an engine any quiet one, or one with the canonical payload if no operand has another.
    """
    assert row.params is not None
    assert row.results is not None
    result = row.results[0]
    width = WIDTH[result]
    if (
        isinstance(native, str)
        or result not in CARRIER
        or row.meaning[0] in BITWISE
        or row.meaning[1] in ("fabs", "copysign")
        or not is_nan(native, width)
    ):
        return native == twin
    quiet = CANONICAL_NAN[width]
    magnitude = native & ~(1 << (width - 1))
    only_canonical = all(
        operand & ~(1 << (WIDTH[type_] - 1)) == CANONICAL_NAN[WIDTH[type_]]
        for operand, type_ in zip(operands, row.params, strict=True)
        if type_ in CARRIER and is_nan(operand, WIDTH[type_])
    )
    right = magnitude == quiet if only_canonical else magnitude & quiet == quiet
    return right and twin == quiet


@st.composite
def operand_tuples(draw: st.DrawFn) -> tuple[Opcode, tuple[int, ...]]:
    row = draw(st.sampled_from(NUMERIC_ROWS))
    assert row.params is not None
    operands = []
    for type_ in row.params:
        width = WIDTH[type_]
        anything = st.integers(0, (1 << width) - 1)
        if type_ in CARRIER:
            moderate = st.floats(-1e20, 1e20).map(partial(float_to_bits, width=width))
            operands.append(draw(anything | moderate))
        else:
            operands.append(draw(anything | st.sampled_from(INTEGER_EDGES[width])))
    return row, tuple(operands)
