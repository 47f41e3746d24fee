"""Every numeric instruction on every engine against its plain twin.

Operands come once as arguments, when the machine computes, and once as constants, when the
compiler folds: both must give the same, down to traps and NaNs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
import wasmtime
from hypothesis import given, settings

from tests.numeric.numeric_cases import (
    WIDTH,
    Outcome,
    agrees,
    edges,
    function_name,
    function_text,
    operand_tuples,
    outcome,
)
from wasinn_runtime import Config, Engine, Func, Instance, Module, Store, Trap
from wasinn_runtime.engines.modes import MODES
from wasinn_runtime.spec.numeric import CANONICAL_NAN, NUMERIC_ROWS
from wasinn_runtime.spec.opcodes import Opcode

Run = Callable[[Opcode, tuple[int, ...]], Outcome]


def instance_of(mode: str, functions: Iterator[str]) -> Instance:
    text = "(module " + "\n".join(functions) + ")"
    engine = Engine(Config(mode=mode, cache=False))
    return Instance(Store(engine), Module(engine, bytes(wasmtime.wat2wasm(text))))


def called(instance: Instance, row: Opcode, name: str, arguments: tuple[int, ...]) -> Outcome:
    assert row.results is not None
    function = instance.exports[name]
    assert isinstance(function, Func)
    try:
        result = function(*arguments)
    except Trap as trap:
        return trap.code
    assert isinstance(result, int)
    return result % (1 << WIDTH[row.results[0]])


@pytest.fixture(scope="module", params=MODES)
def run(request: pytest.FixtureRequest) -> Run:
    """Computes a row on an engine, with the operands as arguments."""
    instance = instance_of(request.param, (function_text(row) for row in NUMERIC_ROWS))
    return lambda row, operands: called(instance, row, row.name, operands)


def all_edges(row: Opcode) -> Iterator[tuple[int, ...]]:
    assert row.params is not None
    return itertools.product(*map(edges, row.params))


def by_name(row: Opcode) -> str:
    return row.name


@pytest.mark.parametrize("row", NUMERIC_ROWS, ids=by_name)
def test_arguments(run: Run, row: Opcode) -> None:
    for operands in all_edges(row):
        got, expected = run(row, operands), outcome(row, operands)
        assert agrees(row, operands, got, expected), f"{row.name} {operands}: {got} / {expected}"


@settings(max_examples=1000, deadline=None)
@given(case=operand_tuples())
def test_any_arguments(run: Run, case: tuple[Opcode, tuple[int, ...]]) -> None:
    row, operands = case
    assert agrees(row, operands, run(row, operands), outcome(row, operands))


@pytest.mark.parametrize("mode", MODES)
def test_constants(mode: str) -> None:
    # Each needs a function of its own, so only some of the edges, others for every row.
    cases = []
    for number, row in enumerate(NUMERIC_ROWS):
        step = 31 if len(row.params or ()) == 2 else 3
        cases += [(row, c) for c in itertools.islice(all_edges(row), number % step, None, step)]
    assert len(cases) > 2000
    instance = instance_of(mode, (function_text(row, operands) for row, operands in cases))
    wrong = []
    for row, operands in cases:
        name = function_name(row, operands)
        got, expected = called(instance, row, name, ()), outcome(row, operands)
        if not agrees(row, operands, got, expected):
            wrong.append(f"{name}: {got}, expected {expected}")
    assert not wrong, "\n".join(wrong[:20])


# LLVM folds x * 1, x / 1, x + -0 and x - 0 to x, and takes quieting a signalling NaN for optional.
# The compiler hides such constants, beside the instruction and where its optimizer would find them.
SIGNALLING = "(f32.reinterpret_i32 (local.get 0))"
FOUND_BESIDE = {
    "times 1": f"(f32.mul {SIGNALLING} (f32.const 1))",
    "1 times": f"(f32.mul (f32.const 1) {SIGNALLING})",
    "by 1": f"(f32.div {SIGNALLING} (f32.const 1))",
    "plus -0": f"(f32.add {SIGNALLING} (f32.const -0))",
    "minus 0": f"(f32.sub {SIGNALLING} (f32.const 0))",
    "times variable": f"(f32.mul {SIGNALLING} (f32.reinterpret_i32 (local.get 1)))",
}
FOUND_LATER = {
    "both constant": "(f32.mul (f32.const 1) (f32.const nan:0x200000))",
    "times local": f"(local.set 2 (f32.const 1)) (f32.mul {SIGNALLING} (local.get 2))",
    "times sum": f"(f32.mul {SIGNALLING} (f32.add (f32.const 0.5) (f32.const 0.5)))",
    "times converted": f"(f32.mul {SIGNALLING} (f32.convert_i32_s (i32.const 1)))",
    "times result": f"(f32.mul {SIGNALLING} (call $same (f32.const 1)))",
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "code",
    [pytest.param(code, id=name) for name, code in FOUND_BESIDE.items()]
    + [pytest.param(code, id=name) for name, code in FOUND_LATER.items()],
)
def test_arithmetic_quiets_signalling_nans(mode: str, code: str) -> None:
    text = f"""
      (func $same (param f32) (result f32) (local.get 0))
      (func (export "f") (param i32 i32) (result i32) (local f32) {code} (i32.reinterpret_f32))
    """
    function = instance_of(mode, iter([text])).exports["f"]
    assert isinstance(function, Func)
    one = 0x3F80_0000
    result = function(0x7FA0_0000, one)
    assert isinstance(result, int)
    assert result & CANONICAL_NAN[32] == CANONICAL_NAN[32]
