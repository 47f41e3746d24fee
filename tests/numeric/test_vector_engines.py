"""Every vector instruction on every engine that has them, against its plain twin.

Operands come once from memory, when the machine computes, and once as constants, when the compiler
folds: both must give the same. What loads and stores do is compared with wasmtime.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
import wasmtime

from tests.numeric.vector_cases import (
    CASE_BYTES,
    MEMORY_ROWS,
    SLOT,
    TRIALS,
    Trial,
    agrees,
    cases,
    constant_text,
    differences,
    expected,
    loop_text,
    module_text,
    packed,
    results,
)
from wasinn_runtime import Config, Engine, Func, Instance, Memory, Module, Store
from wasinn_runtime.engines.modes import FEATURES_OF_MODE
from wasinn_runtime.spec.numeric_simd import VECTOR_ROWS, join_lanes, split_lanes
from wasinn_runtime.spec.opcodes import BY_NAME, Imm, Opcode
from wasinn_runtime.spec.types import ValType

VECTOR_MODES = [mode for mode, has in FEATURES_OF_MODE.items() if {"simd", "relaxed-simd"} <= has]


class Guest:
    """An instance whose functions work in its memory."""

    def __init__(self, mode: str, text: str) -> None:
        engine = Engine(Config(mode=mode, cache=False, verify_ir=True))
        instance = Instance(Store(engine), Module(engine, bytes(wasmtime.wat2wasm(text))))
        self._exports = instance.exports
        memory = instance.exports["memory"]
        assert isinstance(memory, Memory)
        self.memory = memory

    def call(self, name: str, *arguments: int) -> None:
        function = self._exports[name]
        assert isinstance(function, Func)
        function(*arguments)


@pytest.fixture(scope="module", params=VECTOR_MODES)
def run(request: pytest.FixtureRequest) -> Callable[[Trial], list[int]]:
    """Computes a trial's cases on an engine."""
    guest = Guest(request.param, module_text(loop_text(trial) for trial in TRIALS))

    def compute(trial: Trial) -> list[int]:
        assert trial.row.results is not None
        data = packed(cases(trial.row))
        guest.memory.write(0, data)
        guest.call(trial.name, 0, len(data))
        left = guest.memory.read(0, len(data))
        return results(left, len(cases(trial.row)), trial.row.results[0])

    return compute


@pytest.mark.parametrize("row", VECTOR_ROWS, ids=lambda row: row.name)
def test_cases(run: Callable[[Trial], list[int]], row: Opcode) -> None:
    for trial in (trial for trial in TRIALS if trial.row is row):
        wrong = differences(trial, run(trial))
        assert not wrong, "\n".join(wrong[:10])


# --- operands that the compiler knows -------------------------------------------------------------


def scalar_constant(type_: ValType, bits: int) -> str:
    if type_ in (ValType.F32, ValType.F64):
        integer = {ValType.F32: "i32", ValType.F64: "i64"}[type_]
        return f"({type_}.reinterpret_{integer} ({integer}.const {bits:#x}))"
    return f"({constant_text(bits)})" if type_ is ValType.V128 else f"({type_}.const {bits:#x})"


# Where both operands are constants, LLVM's folder may leave a signalling NaN as it is.
FOLDED = {"lanes.float"}


def keeps_signalling_nans(row: Opcode, native: int, twin: int) -> bool:
    """Whether this is the one known difference: NaNs in the right lanes, not quiet."""
    if row.meaning[0] not in FOLDED:
        return False
    width = int(row.meaning[-1][1:3])
    quiet = {32: 0x7FC0_0000, 64: 0x7FF8 << 48}[width]
    infinite = {32: 0x7F80_0000, 64: 0x7FF0 << 48}[width]
    lanes = zip(split_lanes(native, width), split_lanes(twin, width), strict=True)
    return all(
        got == wanted or (wanted == quiet and got & infinite == infinite) for got, wanted in lanes
    )


def constant_function(trial: Trial, operands: str) -> str:
    assert trial.row.results is not None
    (result,) = trial.row.results
    place = f"{result}.store offset={3 * SLOT}"
    code = f"(local.get $at) {operands} ({trial.text}) ({place})"
    return f'(func (export "{trial.name}") (param $at i32) {code})'


@pytest.mark.parametrize("mode", VECTOR_MODES)
def test_constants(mode: str) -> None:
    texts: list[str] = []
    wanted: list[tuple[Trial, tuple[int, ...], int]] = []
    rng = random.Random(mode)
    for trial in TRIALS:
        row = trial.row
        assert row.params is not None
        every = list(zip(cases(row), expected(trial), strict=True))
        for case, twin in rng.sample(every, min(4 if trial.immediate is None else 1, len(every))):
            operands = " ".join(map(scalar_constant, row.params, case))
            named = Trial(f"constants {len(texts)}", row, trial.immediate, trial.text)
            texts.append(constant_function(named, operands))
            wanted.append((named, case, twin))
    assert len(texts) > 800
    guest = Guest(mode, module_text(iter(texts)))
    wrong = []
    for trial, case, twin in wanted:
        assert trial.row.results is not None
        guest.call(trial.name, 0)
        (got,) = results(guest.memory.read(0, CASE_BYTES), 1, trial.row.results[0])
        if not agrees(trial.row, case, got, twin) and not keeps_signalling_nans(
            trial.row, got, twin
        ):
            wrong.append(f"{trial.text} {tuple(map(hex, case))}: {got:#x}, expected {twin:#x}")
    assert not wrong, "\n".join(wrong[:20])


# LLVM folds operations with some constants to their other operand; a demotion of a promotion, too.
SIGNALLING = join_lanes([0x7FA0_0000] * 4, 32)
ONES = constant_text(join_lanes([0x3F80_0000] * 4, 32))
BESIDE = {
    "times 1": f"({ONES}) (f32x4.mul)",
    "by 1": f"({ONES}) (f32x4.div)",
    "times splat": "(f32x4.splat (f32.const 1)) (f32x4.mul)",
    "times -1": "(f32x4.splat (f32.const -1)) (f32x4.mul)",
    "plus -0": "(v128.const f32x4 -0 -0 -0 -0) (f32x4.add)",
    "minus 0": "(v128.const f32x4 0 0 0 0) (f32x4.sub)",
    "least of lanes": "(v128.const f32x4 9 9 9 9) (f32x4.min)",
    "most of lanes": "(v128.const f32x4 0 0 0 0) (f32x4.max)",
    "promoted and demoted": "(f64x2.promote_low_f32x4) (f32x4.demote_f64x2_zero)",
}


@pytest.mark.parametrize("mode", VECTOR_MODES)
@pytest.mark.parametrize("code", BESIDE.values(), ids=BESIDE)
def test_arithmetic_quiets_signalling_nans(mode: str, code: str) -> None:
    text = f"""(func (export "f") (param $at i32) (local $r v128)
      (v128.load (local.get $at)) {code} (local.set $r)
      (v128.store (local.get $at) (local.get $r)))"""
    guest = Guest(mode, module_text(iter([text])))
    guest.memory.write(0, SIGNALLING.to_bytes(16, "little"))
    guest.call("f", 0)
    lanes = split_lanes(int.from_bytes(guest.memory.read(0, 16), "little"), 32)
    assert all(lane & 0x7FC0_0000 == 0x7FC0_0000 for lane in lanes[:2]), list(map(hex, lanes))


# --- loads and stores -----------------------------------------------------------------------------


def memory_texts(row: Opcode) -> Iterator[str]:
    """Functions that load from, or store to, an odd address within the case at hand."""
    assert row.results is not None
    for number in range(row.lanes or 1):
        lane = str(number) if row.imm is Imm.MEMARG_LANE else ""
        place = f"{row.name} offset=3 align=1 {lane}"
        vector = f"(v128.load offset={SLOT} (local.get $at))" if len(row.params or ()) == 2 else ""
        code = f"({place} (local.get $at) {vector})"
        if row.results:
            code = f"(v128.store offset={3 * SLOT} (local.get $at) {code})"
        yield f'(func (export "{row.name} {number}") (param $at i32) {code})'


@pytest.mark.parametrize("mode", VECTOR_MODES)
def test_loads_and_stores(mode: str) -> None:
    text = module_text(text for row in MEMORY_ROWS for text in memory_texts(row))
    guest = Guest(mode, text)
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    exports = wasmtime.Instance(store, wasmtime.Module(engine, text), []).exports(store)
    memory = exports["memory"]
    assert isinstance(memory, wasmtime.Memory)
    rng = random.Random(mode)
    for row in MEMORY_ROWS:
        for number in range(row.lanes or 1):
            data = bytes(rng.sample(range(256), CASE_BYTES))  # so that every store shows
            guest.memory.write(0, data)
            memory.write(store, data, 0)
            name = f"{row.name} {number}"
            guest.call(name, 0)
            function = exports[name]
            assert isinstance(function, wasmtime.Func)
            function(store, 0)
            left = bytes(memory.read(store, 0, CASE_BYTES))
            assert left != data, name
            assert guest.memory.read(0, CASE_BYTES) == left, name


def test_every_load_and_store_is_there() -> None:
    names = {row.name for row in MEMORY_ROWS}
    assert len(names) == 236 + 20 - len(VECTOR_ROWS) == 22
    assert BY_NAME["v128.load32x2_u"].name in names
