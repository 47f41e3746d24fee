"""The plain twin of every numeric instruction against wasmtime, which computes it natively.

One module has an exported function for each row. Floats cross as integers, through reinterpret
instructions, so that NaN payloads are compared too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from wasinn_runtime.errors import Trap, UsageError
from wasinn_runtime.spec import numeric
from wasinn_runtime.spec.numeric import (
    CANONICAL_NAN,
    NUMERIC_ROWS,
    bits_to_float,
    evaluate,
    float_to_bits,
    is_nan,
    to_signed,
)
from wasinn_runtime.spec.opcodes import BY_NAME, ROWS, Imm, Opcode
from wasinn_runtime.spec.types import ValType

WIDTH = {ValType.I32: 32, ValType.I64: 64, ValType.F32: 32, ValType.F64: 64}
CARRIER = {ValType.F32: "i32", ValType.F64: "i64"}
TRAPS = {
    wasmtime.TrapCode.INTEGER_DIVISION_BY_ZERO: "integer divide by zero",
    wasmtime.TrapCode.INTEGER_OVERFLOW: "integer overflow",
    wasmtime.TrapCode.BAD_CONVERSION_TO_INTEGER: "invalid conversion to integer",
}
# These move bits and must keep a NaN as it is; other float results are quiet, and no more is said.
BITWISE = {"fneg", "cast"}
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
    width = WIDTH[type_]
    if type_ in CARRIER:
        return [float_to_bits(v, width) for v in FLOAT_NUMBERS] + NAN_EDGES[width]
    return INTEGER_EDGES[width]


def function_text(row: Opcode) -> str:
    """A function named like the row that takes and returns integers."""
    assert row.params is not None
    assert row.results is not None
    params = " ".join(CARRIER.get(t, t.value) for t in row.params)
    (result,) = row.results
    body = []
    for number, type_ in enumerate(row.params):
        body.append(f"local.get {number}")
        if type_ in CARRIER:
            body.append(f"{type_}.reinterpret_{CARRIER[type_]}")
    body.append(row.name)
    if result in CARRIER:
        body.append(f"{CARRIER[result]}.reinterpret_{result}")
    returns = CARRIER.get(result, result.value)
    return f'(func (export "{row.name}") (param {params}) (result {returns}) {" ".join(body)})'


@pytest.fixture(scope="module")
def native() -> Callable[[Opcode, tuple[int, ...]], Outcome]:
    """Runs a row in wasmtime: the result as unsigned bits, or the trap's text."""
    text = "(module " + "\n".join(function_text(row) for row in NUMERIC_ROWS) + ")"
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, text), [])
    exports = instance.exports(store)
    functions = {row.name: exports[row.name] for row in NUMERIC_ROWS}

    def run(row: Opcode, operands: tuple[int, ...]) -> Outcome:
        assert row.params is not None
        assert row.results is not None
        function = functions[row.name]
        assert isinstance(function, wasmtime.Func)
        arguments = [to_signed(v, WIDTH[t]) for v, t in zip(operands, row.params, strict=True)]
        try:
            result = function(store, *arguments)
        except wasmtime.Trap as trap:
            return TRAPS[wasmtime.TrapCode(trap.trap_code)]
        assert isinstance(result, int)
        return result % (1 << WIDTH[row.results[0]])

    return run


def outcome(row: Opcode, operands: tuple[int, ...]) -> Outcome:
    try:
        return evaluate(row, *operands)
    except Trap as trap:
        return trap.code


def agrees(row: Opcode, expected: Outcome, got: Outcome) -> bool:
    assert row.results is not None
    result = row.results[0]
    width = WIDTH[result]
    if (
        isinstance(expected, int)
        and isinstance(got, int)
        and result in CARRIER
        and row.meaning[0] not in BITWISE
        and row.meaning[1] not in ("fabs", "copysign")
        and is_nan(expected, width)
    ):
        # Both are arithmetic NaNs; which one is open, and the twin answers the canonical one.
        quiet = CANONICAL_NAN[width] & ~(1 << (width - 1))
        return got == CANONICAL_NAN[width] and expected & quiet == quiet
    return expected == got


def by_name(row: Opcode) -> str:
    return row.name


@pytest.mark.parametrize("row", NUMERIC_ROWS, ids=by_name)
def test_edges(row: Opcode, native: Callable[[Opcode, tuple[int, ...]], Outcome]) -> None:
    assert row.params is not None
    for operands in itertools.product(*map(edges, row.params)):
        expected, got = native(row, operands), outcome(row, operands)
        assert agrees(row, expected, got), f"{row.name} {operands}: {expected} / {got}"


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


@settings(max_examples=3000, deadline=None)
@given(case=operand_tuples())
def test_any_operands(
    case: tuple[Opcode, tuple[int, ...]],
    native: Callable[[Opcode, tuple[int, ...]], Outcome],
) -> None:
    row, operands = case
    assert agrees(row, native(row, operands), outcome(row, operands))


def test_every_pure_row_is_numeric() -> None:
    """Rows whose result depends on typed operands alone are all there, by another reading."""
    prefixes = ("i32.", "i64.", "f32.", "f64.")
    expected = {
        row.name
        for row in ROWS
        if row.name.startswith(prefixes)
        and not any(word in row.name for word in ("load", "store", "const"))
    }
    assert {row.name for row in NUMERIC_ROWS} == expected


def test_a_row_without_twin_is_named() -> None:
    row = Opcode(
        0xFFFF, "i32.frobnicate", Imm.NONE, (ValType.I32,), (ValType.I32,), ("frobnicate",)
    )
    with pytest.raises(NotImplementedError, match=r"i32\.frobnicate \(frobnicate\)"):
        numeric._twins([row])


@pytest.mark.parametrize(
    ("name", "operands", "message"),
    [
        ("local.get", (1,), "local.get is not a numeric instruction"),
        ("i32.add", (1,), "takes 2 operands, got 1"),
        ("i32.add", (1, -1), "got -1"),
        ("i32.add", (1, 1 << 32), "got 4294967296"),
    ],
)
def test_misuse_is_told(name: str, operands: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate(BY_NAME[name], *operands)


def test_wide_sums_of_halves_round_once() -> None:
    """A case where rounding an i64 through f64 would give another f32."""
    value = (1 << 62) + (1 << 38) + 1
    assert bits_to_float(evaluate(BY_NAME["f32.convert_i64_u"], value), 32) == float(
        (1 << 62) + (1 << 39)
    )
