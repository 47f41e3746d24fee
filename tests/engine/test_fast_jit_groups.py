"""What ``fast-jit`` compiles together: how many pieces of code a module's run needed."""

from __future__ import annotations

import pytest
import wasmtime

from wasinn_runtime import Config, Engine, Instance, Invalid, Module, Store
from wasinn_runtime.engines.fast_jit import FastJit

_LARGE = 1 << 11  # bytes of a function that is worth a group of its own


def _grown(body: str, size: int) -> str:
    """An i32 expression whose code has at least so many bytes."""
    for _ in range(size // 3 + 1):
        body = f"(i32.add {body} (i32.const 1))"
    return body


def _groups(wat: str, *calls: int) -> list[int]:
    """How many groups were compiled after each call of ``run``."""
    engine = Engine(Config("fast-jit", cache=False))
    module = Module(engine, wasmtime.wat2wasm(wat))
    assert isinstance(module.code, FastJit)
    run = Instance(Store(engine), module, []).exports.run
    counts = []
    for argument in calls:
        run(argument)
        counts.append(len(module.code._objects))
    return counts


def _table_of(functions: list[str]) -> str:
    defined = "\n".join(f"(func $f{i} {text})" for i, text in enumerate(functions))
    names = " ".join(f"$f{i}" for i in range(len(functions)))
    return f"""(module
      (type $operation (func (param i32) (result i32)))
      (table funcref (elem {names}))
      {defined}
      (func (export "run") (param i32) (result i32)
        (call_indirect (type $operation) (i32.const 7) (local.get 0))))"""


def test_small_functions_of_a_table_come_with_who_calls_them() -> None:
    operation = "(type $operation) (i32.add (local.get 0) (i32.const {}))"
    assert _groups(_table_of([operation.format(i) for i in range(8)]), *range(8)) == [1] * 8


def test_large_functions_of_a_table_wait_for_their_call() -> None:
    large = f"(type $operation) {_grown('(local.get 0)', _LARGE)}"
    assert _groups(_table_of([large] * 3), 0, 0, 1, 2) == [2, 2, 3, 4]


def test_a_table_holds_the_callers_type_and_others() -> None:
    """What has another type is not called from here."""
    wat = """(module
      (type $operation (func (param i32) (result i32)))
      (table funcref (elem $f $g))
      (func $f (type $operation) (i32.const 3))
      (func $g (export "g") (result i64) (i64.const 3))
      (func (export "run") (param i32) (result i32)
        (call_indirect (type $operation) (i32.const 7) (local.get 0))))"""
    engine = Engine(Config("fast-jit", cache=False))
    module = Module(engine, wasmtime.wat2wasm(wat))
    assert isinstance(module.code, FastJit)
    instance = Instance(Store(engine), module, [])
    assert instance.exports.run(0) == 3
    assert len(module.code._objects) == 1
    assert instance.exports.g() == 3
    assert len(module.code._objects) == 2


def test_what_a_full_group_left_out_comes_together_when_it_is_small() -> None:
    """The caller fills its group; the first small function that it calls brings the others."""
    small = "\n".join(f"(func $s{i} (result i32) (i32.const {i}))" for i in range(6))
    choice = "(if (i32.eq (local.get 0) (i32.const {0})) (then (return (call $s{0}))))"
    calls = " ".join(choice.format(i) for i in range(6))
    wat = f"""(module {small}
      (func (export "run") (param i32) (result i32)
        {calls} {_grown("(local.get 0)", 1 << 14)}))"""
    assert _groups(wat, 9, 0, 1, 2, 3, 4, 5) == [1, 2, 2, 2, 2, 2, 2]


def test_a_broken_function_is_left_to_its_own_call() -> None:
    """Nothing that comes along makes the caller fail."""
    engine = Engine(Config("fast-jit", cache=False))
    wat = """(module (func $bad (result i32) (i32.const 1))
      (func (export "run") (param i32) (result i32)
        (if (result i32) (local.get 0) (then (call $bad)) (else (i32.const 5)))))"""
    data = bytearray(wasmtime.wat2wasm(wat))
    at = data.rindex(b"\x41\x01\x0b")  # i32.const 1, end
    data[at : at + 2] = b"\x01\x01"  # nop, nop: no result
    module = Module(engine, bytes(data))
    run = Instance(Store(engine), module, []).exports.run
    assert run(0) == 5
    with pytest.raises(Invalid):
        run(1)
