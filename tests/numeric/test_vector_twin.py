"""The plain twin of every vector instruction against wasmtime, which computes it natively.

Of relaxed instructions only what is left to no engine's choice.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import wasmtime

from tests.numeric.vector_cases import (
    TRIALS,
    Operands,
    Trial,
    agrees,
    decided_cases,
    loop_text,
    module_text,
    packed,
    results,
)
from wasinn_runtime.errors import UsageError
from wasinn_runtime.spec import numeric_simd
from wasinn_runtime.spec.numeric_simd import VECTOR_ROWS, evaluate_vector
from wasinn_runtime.spec.opcodes import BY_NAME, ROWS, Imm, Opcode
from wasinn_runtime.spec.types import ValType

Native = Callable[[Trial, list[Operands]], list[int]]


@pytest.fixture(scope="module")
def native() -> Native:
    """Runs cases of a trial in wasmtime."""
    config = wasmtime.Config()
    config.wasm_relaxed_simd_deterministic = True  # a multiplication and addition round once
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    text = module_text(loop_text(trial) for trial in TRIALS)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, text), [])
    exports = instance.exports(store)
    memory = exports["memory"]
    assert isinstance(memory, wasmtime.Memory)

    def run(trial: Trial, cases: list[Operands]) -> list[int]:
        function = exports[trial.name]
        assert isinstance(function, wasmtime.Func)
        assert trial.row.results is not None
        data = packed(cases)
        memory.write(store, data, 0)
        function(store, 0, len(data))
        return results(bytes(memory.read(store, 0, len(data))), len(cases), trial.row.results[0])

    return run


@pytest.mark.parametrize("row", VECTOR_ROWS, ids=lambda row: row.name)
def test_cases(row: Opcode, native: Native) -> None:
    cases = decided_cases(row)
    for trial in (trial for trial in TRIALS if trial.row is row):
        for case, got in zip(cases, native(trial, cases), strict=True):
            twin = evaluate_vector(row, trial.immediate, *case)
            assert agrees(row, case, got, twin), f"{trial.text} {case}: {got:#x} / {twin:#x}"


def test_every_row_without_memory_has_a_twin() -> None:
    rows = [row for row in ROWS if row.feature in ("simd", "relaxed-simd")]
    assert len(rows) == 236 + 20
    pure = {row.name for row in rows if "load" not in row.name and "store" not in row.name}
    assert {row.name for row in VECTOR_ROWS} == pure


def test_a_row_without_twin_is_named() -> None:
    v = (ValType.V128,)
    row = Opcode(0xFFFF, "i8x16.frobnicate", Imm.NONE, v, v, ("lanes.frobnicate", "i8x16"))
    with pytest.raises(NotImplementedError, match=r"i8x16\.frobnicate \(lanes\.frobnicate i8x16"):
        numeric_simd._twins([row])


@pytest.mark.parametrize(
    ("name", "operands", "message"),
    [
        ("v128.load", (1,), "v128.load is not a vector instruction with a value"),
        ("i32.add", (1, 2), "i32.add is not a vector instruction"),
        ("i8x16.add", (1,), "takes 2 operands, got 1"),
        ("i8x16.add", (1, 1 << 128), "takes an v128 as unsigned bits, got 3402"),
        ("i8x16.shl", (1, 1 << 32), "takes an i32 as unsigned bits"),
    ],
)
def test_misuse_is_told(name: str, operands: Operands, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate_vector(BY_NAME[name], None, *operands)
