"""Typed references to functions: calls, branches, subtypes, and what Python may pass for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engine.needs import needs
from wasinn_runtime import (
    Engine,
    Func,
    FuncType,
    Instance,
    LimitExceeded,
    Store,
    Trap,
    UsageError,
    ValType,
)

Build = Callable[..., Instance]


@pytest.fixture(autouse=True)
def has_references(engine: Engine) -> None:
    needs(engine, "function-references")


WAT = """
(module
  (type $unary (func (param i32) (result i32)))
  (elem declare func $double)
  (func $double (type $unary) (i32.mul (local.get 0) (i32.const 2)))
  (func (export "double") (result (ref $unary)) (ref.func $double))
  (func (export "call") (param (ref null $unary) i32) (result i32)
    (call_ref $unary (local.get 1) (local.get 0)))
  (func (export "insist") (param (ref null $unary)) (result (ref $unary))
    (ref.as_non_null (local.get 0)))
  (func (export "on_null") (param (ref null $unary)) (result i32)
    (block $none (drop (br_on_null $none (local.get 0))) (return (i32.const 1)))
    (i32.const 0))
  (func (export "on_non_null") (param (ref null $unary)) (result i32)
    (i32.const 21)
    (block $some (result (ref $unary))
      (br_on_non_null $some (local.get 0))
      (return (i32.const 0)))
    (call_ref $unary)))
"""


def test_calls_and_branches(build: Build, store: Store) -> None:
    exports = build(WAT).exports
    double = exports.double()
    assert exports.call(double, 4) == 8
    negate = Func(store, FuncType((ValType.I32,), (ValType.I32,)), lambda x: -x)
    assert exports.call(negate, 4) == -4
    assert (exports.on_null(double), exports.on_null(None)) == (1, 0)
    assert (exports.on_non_null(double), exports.on_non_null(None)) == (42, 0)
    with pytest.raises(Trap, match="null function reference"):
        exports.call(None, 4)
    with pytest.raises(Trap, match="null reference"):
        exports.insist(None)


def test_a_function_of_another_type_is_refused(build: Build, store: Store) -> None:
    exports = build(WAT).exports
    with pytest.raises(UsageError, match="expected"):
        exports.call(Func(store, FuncType((), ()), lambda: None), 4)


def test_indirect_calls_of_declared_subtypes(build: Build) -> None:
    wat = """(module
      (type $wide (sub (func (result i32))))
      (type $narrow (sub $wide (func (result i32))))
      (type $alone (func (result i32)))
      (table funcref (elem $of_wide $of_narrow $of_alone))
      (func $of_wide (type $wide) (i32.const 1))
      (func $of_narrow (type $narrow) (i32.const 2))
      (func $of_alone (type $alone) (i32.const 3))
      (func (export "as_wide") (param i32) (result i32)
        (call_indirect (type $wide) (local.get 0)))
      (func (export "as_narrow") (param i32) (result i32)
        (call_indirect (type $narrow) (local.get 0))))"""
    exports = build(wat).exports
    assert [exports.as_wide(0), exports.as_wide(1), exports.as_narrow(1)] == [1, 2, 2]
    with pytest.raises(Trap, match="indirect call type mismatch"):
        exports.as_wide(2)
    with pytest.raises(Trap, match="indirect call type mismatch"):
        exports.as_narrow(0)


def test_types_have_numbers_that_generated_code_can_look_up(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that declare nothing: calls by a declared type look at their supertypes."""
    before = engine.signature(FuncType((ValType.F32,) * 77))
    monkeypatch.setattr("wasinn_runtime.engines.engine._MOST_NUMBERED", 1)
    for _ in range(2):
        with pytest.raises(LimitExceeded, match="function types are in use"):
            engine.signature(FuncType((ValType.F32,) * 78))
    assert engine.signature(FuncType((ValType.F32,) * 77)) == before


def test_tables_begin_with_what_their_expression_says(build: Build) -> None:
    wat = """(module
      (table (export "t") 3 (ref func) (ref.func $f))
      (func $f (export "f") (result i32) (i32.const 5))
      (func (export "call") (param i32) (result i32) (call_indirect (result i32) (local.get 0))))"""
    instance = build(wat)
    assert [instance.exports.call(i) for i in range(3)] == [5, 5, 5]
    assert instance.exports.t[2] == instance.exports.f


def test_extended_constant_expressions(build: Build, engine: Engine) -> None:
    needs(engine, "extended-const")
    wat = """(module
      (global $a i32 (i32.const 20))
      (global (export "b") i32 (i32.add (i32.mul (global.get $a) (i32.const 3)) (i32.const -2)))
      (global (export "c") i64 (i64.sub (i64.const 1) (i64.mul (i64.const 4) (i64.const 5))))
      (memory (export "memory") 1) (data (offset (i32.sub (global.get $a) (i32.const 18))) "x"))"""
    exports = build(wat).exports
    assert (exports.b.value, exports.c.value) == (58, -19)
    assert exports.memory.read(0, 4) == b"\0\0x\0"
