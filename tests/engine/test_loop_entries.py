"""Mode ``auto`` enters compiled code in the middle of functions, wherever the loop is in them."""

from __future__ import annotations

import pytest
import wasmtime

from wasinn_runtime import Config, Engine, Instance, Module, Store, Trap, ValType
from wasinn_runtime.abi.layout import CodeEntry
from wasinn_runtime.binary.code import decode_body
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.engines.entries import EntryTable
from wasinn_runtime.spec.features import ALL_FEATURES
from wasinn_runtime.valid.function import OperandTypes

# Each counts its parameter down to 0 and gives the result that belongs to it.
LOOPS = {
    "with parameters": (
        """(func (export "run") (param i64) (result i32) (local v128)
          (local.set 1 (v128.const i32x4 1 2 3 4))
          (i32.const 40) (local.get 1)
          (loop $l (param i32 v128) (result i32 v128)
            (br_if $l (i64.gt_s
            (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0))))
          (i32x4.extract_lane 1) (i32.add))""",
        42,
        [ValType.I32, ValType.V128],
    ),
    "first": (
        """(func (export "run") (param i64) (result i32)
          (loop $l (br_if $l (i64.gt_s
            (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0))))
          (i32.const 42))""",
        42,
        [],
    ),
    "below operands": (
        """(func (export "run") (param i64) (result i32) (local v128 i32)
          (local.set 1 (v128.const i32x4 1 2 3 4))
          (i32.const 30) (f64.const 2) (i32.const 10) (local.get 1)
          (loop $l (param i32 v128) (result i32 v128)
            (br_if $l (i64.gt_s
            (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0))))
          (i32x4.extract_lane 1) (i32.add) (local.set 2) (drop) (i32.add (local.get 2)))""",
        42,
        [ValType.I32, ValType.F64, ValType.I32, ValType.V128],
    ),
    "after what never ends": (
        """(func (export "run") (param i64) (result i32)
          (block (br 0) (loop (br 0)))
          (f32.const 42)
          (loop $l (br_if $l (i64.gt_s
            (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0))))
          (i32.trunc_f32_s))""",
        42,
        [ValType.F32],
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_operands_at_a_loop(name: str) -> None:
    wat, _, types = LOOPS[name]
    module = decode(bytes(wasmtime.wat2wasm(f"(module {wat})")), features=ALL_FEATURES)
    body = decode_body(module, 0)
    positions = [i for i, (row, _, _) in enumerate(body.instructions) if row.name == "loop"]
    assert OperandTypes(module, 0, body)(positions[-1]) == types


@pytest.mark.parametrize("name", ["first", "with parameters"])
def test_a_call_that_is_under_way_moves_to_compiled_code(name: str) -> None:
    wat, result, _ = LOOPS[name]
    engine = Engine(Config(mode="auto"))
    module = Module(engine, wasmtime.wat2wasm(f"(module {wat})"))
    store = Store(engine)
    exports = Instance(store, module).exports
    with store.deadline(100):
        # Hours in an interpreter; LLVM sees what the loop comes to.
        assert exports.run(1 << 42) == result
    assert module.entries.get(0, CodeEntry.OSR)


def test_a_trap_in_compiled_code_that_was_moved_to_is_told_as_any_other() -> None:
    """The code of a loop's entry has a name of its own; the message has the function's."""
    wat = """(module (func $run (export "run") (param i64) (result i32)
      (loop $l (br_if $l (i64.gt_s
        (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0))))
      (i32.div_u (i32.const 1) (i32.wrap_i64 (local.get 0)))))"""
    engine = Engine(Config(mode="auto"))
    module = Module(engine, wasmtime.wat2wasm(wat))
    store = Store(engine)
    exports = Instance(store, module).exports
    with store.deadline(100), pytest.raises(Trap, match="function 0 \\(run\\)") as caught:
        exports.run(1 << 42)
    assert caught.value.code == "integer divide by zero"
    assert module.entries.get(0, CodeEntry.OSR)


def test_a_counter_that_was_not_reset_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that writes its counter back at that moment overwrites the reset."""
    set_count = EntryTable.set_count

    def lose(table: EntryTable, index: int, count: int) -> None:
        if count:
            set_count(table, index, count)

    monkeypatch.setattr(EntryTable, "set_count", lose)
    test_a_call_that_is_under_way_moves_to_compiled_code("first")


# The inner loop is hot while an operand waits below it, another in each round of the outer one.
ROUNDS = """(module (func (export "run") (param $rounds i32) (result i32)
  (local $sum i32) (local $n i32)
  (loop $outer
    (local.set $sum (i32.add (local.get $sum) (i32.add
      (i32.mul (local.get $rounds) (local.get $rounds))
      (block (result i32)
        (drop (br_if 0 (i32.const 1000) (i32.eqz (i32.and (local.get $rounds) (i32.const 1)))))
        (local.set $n (i32.const 30000))
        (loop $inner
          (br_if $inner (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (i32.const 1)))))
    (br_if $outer (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
  (local.get $sum)))"""


def test_operands_below_a_hot_loop_stay_those_of_the_round() -> None:
    module = Module(Engine(Config(mode="auto")), wasmtime.wat2wasm(ROUNDS))
    run = Instance(Store(module.engine), module).exports.run
    for rounds in (1, 2, 3, 1_000):
        expected = sum(r * r + (1 if r % 2 else 1000) for r in range(1, rounds + 1))
        assert run(rounds) == expected


# A caller that goes on in the interpreter finds a single result in a register.
RESULTS = {
    "i32": ("(i32.const -5)", "(i64.extend_i32_s (i32.add (call $f {n}) (i32.const 1)))"),
    "i64": ("(i64.const -5)", "(i64.add (call $f {n}) (i64.const 1))"),
    "f32": ("(f32.const -5)", "(i64.trunc_f32_s (f32.add (call $f {n}) (f32.const 1)))"),
    "f64": ("(f64.const -5)", "(i64.trunc_f64_s (f64.add (call $f {n}) (f64.const 1)))"),
    "v128": (
        "(v128.const i64x2 0 -5)",
        "(i64x2.extract_lane 1 (i64x2.add (call $f {n}) (v128.const i64x2 1 1)))",
    ),
    "funcref": (
        "(ref.null func)",
        "(i64.sub (i64.const -3) (i64.extend_i32_u (ref.is_null (call $f {n}))))",
    ),
    "i64 i64": ("(i64.const -5) (i64.const 1)", "(i64.add (call $f {n}))"),
}


@pytest.mark.parametrize("types", RESULTS)
def test_what_a_call_gives_that_ended_in_compiled_code(types: str) -> None:
    values, use = RESULTS[types]
    wat = f"""(module
      (func $f (param i64) (result {types})
        (loop $l (br_if $l (i64.gt_s
          (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0))))
        {values})
      (func (export "run") (param i64) (result i64)
        (drop {use.format(n="(i64.const 1)")})
        {use.format(n="(local.get 0)")}))"""
    engine = Engine(Config(mode="auto"))
    store = Store(engine)
    run = Instance(store, Module(engine, wasmtime.wat2wasm(wat))).exports.run
    with store.deadline(100):
        assert run(1 << 42) == -4
