"""The plain twin of every numeric instruction against wasmtime, which computes it natively.

One module has an exported function for each row. Floats cross as integers, through reinterpret
instructions, so that NaN payloads are compared too.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import wasmtime
from hypothesis import given, settings

from tests.numeric.numeric_cases import (
    WIDTH,
    Outcome,
    agrees,
    edges,
    function_text,
    operand_tuples,
    outcome,
)
from wasinn_runtime.errors import UsageError
from wasinn_runtime.spec import numeric
from wasinn_runtime.spec.features import FEATURES_2_0
from wasinn_runtime.spec.numeric import (
    NUMERIC_ROWS,
    bits_to_float,
    evaluate,
    to_signed,
)
from wasinn_runtime.spec.opcodes import BY_NAME, ROWS, Imm, Opcode
from wasinn_runtime.spec.types import ValType

TRAPS = {
    wasmtime.TrapCode.INTEGER_DIVISION_BY_ZERO: "integer divide by zero",
    wasmtime.TrapCode.INTEGER_OVERFLOW: "integer overflow",
    wasmtime.TrapCode.BAD_CONVERSION_TO_INTEGER: "invalid conversion to integer",
}


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


def by_name(row: Opcode) -> str:
    return row.name


@pytest.mark.parametrize("row", NUMERIC_ROWS, ids=by_name)
def test_edges(row: Opcode, native: Callable[[Opcode, tuple[int, ...]], Outcome]) -> None:
    assert row.params is not None
    for operands in itertools.product(*map(edges, row.params)):
        expected, got = native(row, operands), outcome(row, operands)
        assert agrees(row, operands, expected, got), f"{row.name} {operands}: {expected} / {got}"


@settings(max_examples=1000, deadline=None)
@given(case=operand_tuples())
def test_any_operands(
    case: tuple[Opcode, tuple[int, ...]],
    native: Callable[[Opcode, tuple[int, ...]], Outcome],
) -> None:
    row, operands = case
    assert agrees(row, operands, native(row, operands), outcome(row, operands))


def test_every_pure_row_is_numeric() -> None:
    """Rows whose result depends on typed operands alone are all there, by another reading."""
    prefixes = ("i32.", "i64.", "f32.", "f64.")
    expected = {
        row.name
        for row in ROWS
        if row.feature in FEATURES_2_0
        and row.name.startswith(prefixes)
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
