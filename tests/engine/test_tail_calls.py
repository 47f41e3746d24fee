"""Tail calls take no stack: by name, by table, by reference, to other instances and to Python."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import wasmtime

from tests.engine.needs import needs
from wasinn_runtime import (
    Engine,
    Exhaustion,
    Func,
    FuncType,
    Instance,
    Module,
    Store,
    ValType,
)

Build = Callable[..., Instance]
MANY = 10_000_000


@pytest.fixture(autouse=True)
def has_tail_calls(engine: Engine) -> None:
    needs(engine, "tail-call", "function-references")


MUTUAL = """
(module
  (type $one (func (param i64) (result i64)))
  (type $ten (func (param i64 i64 i64 i64 i64 i64 i64 i64 i64 i64) (result i64)))
  (table 2 funcref) (elem (i32.const 0) $narrow $wide)
  (elem declare func $narrow)
  (func $narrow (export "narrow") (type $one)
    (if (i64.eqz (local.get 0)) (then (return (i64.const 7))))
    (return_call $wide (i64.sub (local.get 0) (i64.const 1)) (i64.const 1) (i64.const 2)
      (i64.const 3) (i64.const 4) (i64.const 5) (i64.const 6) (i64.const 7) (i64.const 8)
      (local.get 0)))
  (func $wide (type $ten)
    (if (i64.ne (local.get 9) (i64.add (local.get 0) (i64.const 1))) (then unreachable))
    (if (i64.ne (local.get 8) (i64.const 8)) (then unreachable))
    (if (i32.wrap_i64 (i64.and (local.get 0) (i64.const 1))) (then
      (return_call_indirect (type $one) (local.get 0) (i32.const 0))))
    (return_call_ref $one (local.get 0) (ref.func $narrow))))
"""


def test_more_arguments_than_the_caller_has(build: Build) -> None:
    """Ten arguments from a function with one, by name, by table and by reference."""
    assert build(MUTUAL).exports.narrow(MANY) == 7


def test_a_function_that_calls_itself_becomes_no_deeper(build: Build) -> None:
    wat = """(module (func $sum (export "sum") (param i64 i64) (result i64)
      (if (result i64) (i64.eqz (local.get 0)) (then (local.get 1)) (else
        (return_call $sum (i64.sub (local.get 0) (i64.const 1))
          (i64.add (local.get 0) (local.get 1)))))))"""
    assert build(wat).exports.sum(MANY, 0) == MANY * (MANY + 1) // 2


def test_other_calls_still_use_up_the_stack(build: Build) -> None:
    """A call in tail position that is none of the new ones must end in exhaustion."""
    wat = """(module
      (func $f (export "f") (param i64) (result i64)
        (if (i64.eqz (local.get 0)) (then (return_call $g (local.get 0))))
        (call $f (i64.sub (local.get 0) (i64.const 1))))
      (func $g (param i64) (result i64) (i64.const 3)))"""
    f = build(wat).exports.f
    assert f(10) == 3
    with pytest.raises(Exhaustion):
        f(MANY)


TWO_INSTANCES = """
(module
  (import "" "table" (table 2 funcref))
  {imports}
  (memory 1) (data (i32.const 0) "{letter}")
  (func $f (export "f") (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (i32.load8_u (i32.const 0)))))
    ({call} (i32.sub (local.get 0) (i32.const 1)) {index}))
  (elem (i32.const {place}) $f)
  ;; its own memory must be there when the call is over, wherever that ended
  (func (export "go") (param i32) (result i32)
    (i32.add (i32.mul (call $f (local.get 0)) (i32.const 1000)) (i32.load8_u (i32.const 0)))))
"""


def test_instances_that_call_each_other(engine: Engine, store: Store) -> None:
    """Each jump is to the other instance, with its memory, by import or by table."""
    from wasinn_runtime import Limits, Table, TableType

    table = Table(store, TableType(ValType.FUNCREF, Limits(2)))
    first = Module(
        engine,
        wasmtime.wat2wasm(
            TWO_INSTANCES.format(
                imports="",
                letter="A",
                call="return_call_indirect (param i32) (result i32)",
                index="(i32.const 1)",
                place=0,
            )
        ),
    )
    second = Module(
        engine,
        wasmtime.wat2wasm(
            TWO_INSTANCES.format(
                imports='(import "" "f" (func $other (param i32) (result i32)))',
                letter="B",
                call="return_call $other",
                index="",
                place=1,
            )
        ),
    )
    a = Instance(store, first, [table])
    b = Instance(store, second, [table, a.exports["f"]])
    assert a.exports.go(MANY) == 65065
    assert a.exports.go(MANY + 1) == 66065
    assert b.exports.go(MANY) == 66066
    assert b.exports.go(MANY + 1) == 65066


def test_the_context_is_back_after_a_call_of_what_was_ready_before(build: Build) -> None:
    """Functions that are compiled apart call through pointers, by name and by table."""
    other = build(
        '(module (global i32 (i32.const 5)) (func (export "far") (result i32) global.get 0))'
    )
    instance = build(
        """(module
          (type $none (func (result i32)))
          (import "" "far" (func $far (type $none)))
          (global $own (mut i32) (i32.const 7))
          (table funcref (elem $jump))
          (func $jump (export "jump") (type $none) (return_call $far))
          (func (export "named") (result i32) (i32.mul (call $jump) (global.get $own)))
          (func (export "pointed") (result i32)
            (i32.mul (call_indirect (type $none) (i32.const 0)) (global.get $own))))""",
        other.exports["far"],
    )
    assert instance.exports.jump() == 5
    assert instance.exports.named() == 35
    assert instance.exports.pointed() == 35


def test_to_a_python_function(build: Build, store: Store) -> None:
    types = (ValType.I32, ValType.F64, *[ValType.I64] * 8)
    got: list[tuple[object, ...]] = []

    def host(*args: object) -> int:
        got.append(args)
        return 42

    wat = """(module (import "h" "f" (func $h (param i32 f64 i64 i64 i64 i64 i64 i64 i64 i64)
        (result i64)))
      (func (export "f") (param i32) (result i64)
        (return_call $h (local.get 0) (f64.const 2.5) (i64.const 1) (i64.const 2) (i64.const 3)
          (i64.const 4) (i64.const 5) (i64.const 6) (i64.const 7) (i64.const 8))))"""
    function = Func(store, FuncType(types, (ValType.I64,)), host)
    assert build(wat, function).exports.f(9) == 42
    assert got == [(9, 2.5, 1, 2, 3, 4, 5, 6, 7, 8)]


def test_many_results_of_every_kind(build: Build) -> None:
    """More results than registers: what a tail call leaves is what its caller's caller gets."""
    results = "i64 f64 i32 f32 i64 i64 i64 f64 f64 f32"
    wat = f"""(module
      (func $last (result {results}) (i64.const 1) (f64.const 2) (i32.const 3) (f32.const 4)
        (i64.const 5) (i64.const 6) (i64.const 7) (f64.const 8) (f64.const 9) (f32.const 10))
      (func $between (param i32) (result {results}) (return_call $last))
      (func (export "f") (result {results}) (call $between (i32.const 1))))"""
    assert build(wat).exports.f() == (1, 2.0, 3, 4.0, 5, 6, 7, 8.0, 9.0, 10.0)
