"""Vectors across every border: parameters, results, globals, host functions, branches and traps."""

from __future__ import annotations

import pytest
import wasmtime

from wasinn_runtime import (
    Config,
    Engine,
    Func,
    FuncType,
    Global,
    GlobalType,
    Instance,
    Linker,
    Memory,
    Module,
    Store,
    Trap,
    ValType,
)
from wasinn_runtime.engines.modes import FEATURES_OF_MODE
from wasinn_runtime.errors import ValueRangeError

VECTOR_MODES = [mode for mode, has in FEATURES_OF_MODE.items() if "simd" in has]
V128, I32, F64 = ValType.V128, ValType.I32, ValType.F64
BYTES = bytes(range(16))
NUMBER = int.from_bytes(BYTES, "little")

GUEST = """
(module
  (import "host" "swap" (func $swap (param v128 i32 v128) (result v128 f64 v128)))
  (import "host" "cell" (global $theirs (mut v128)))
  (memory (export "memory") 1)
  (global $ours (mut v128) (v128.const i64x2 5 6))
  (global $fixed (export "fixed") v128 (v128.const i8x16 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15))
  (table 1 funcref)
  (elem (i32.const 0) $same)
  (func $same (export "same") (param v128) (result v128) (local.get 0))
  (func (export "many") (param i32 v128 f64 v128 i32) (result v128 i32 v128 f64)
    (local.get 3) (i32.add (local.get 0) (local.get 4)) (local.get 1) (local.get 2))
  (func (export "indirect") (param v128) (result v128)
    (call_indirect (param v128) (result v128) (local.get 0) (i32.const 0)))
  (func (export "swapped") (param v128 v128) (result v128 f64 v128)
    (call $swap (local.get 0) (i32.const 7) (local.get 1)))
  (func (export "exchange") (param v128) (result v128 v128)
    (global.get $ours) (global.get $theirs)
    (global.set $ours (local.get 0)) (global.set $theirs (local.get 0)))
  (func (export "choose") (param v128 v128 i32) (result v128)
    (select (result v128) (local.get 0) (local.get 1) (local.get 2)))
  (func (export "rotate") (param v128 i32) (result v128) (local v128)
    (local.get 0)
    (loop $again (param v128) (result v128)
      (local.set 2)
      (block $done (result v128)
        (local.get 2)
        (br_if $done (i32.eqz (local.get 1)))
        (local.set 1 (i32.sub (local.get 1) (i32.const 1)))
        (local.set 2)
        (br $again (i8x16.shuffle 15 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14
          (local.get 2) (local.get 2))))))
  (func (export "at") (param i32) (result v128) (v128.load (local.get 0)))
  (func (export "unused") (param i32)
    (drop (v128.load32_lane 1 (local.get 0) (v128.const i64x2 0 0))))
  (func (export "lane") (param i32 v128) (v128.store64_lane 1 (local.get 0) (local.get 1))))
"""


@pytest.fixture(scope="module", params=VECTOR_MODES)
def module(request: pytest.FixtureRequest) -> Module:
    engine = Engine(Config(mode=request.param, cache=False, verify_ir=True))
    return Module(engine, bytes(wasmtime.wat2wasm(GUEST)))


@pytest.fixture
def instance(module: Module) -> Instance:
    store, linker = Store(module.engine), Linker(module.engine)
    ty = FuncType((V128, I32, V128), (V128, F64, V128))
    linker.define_func("host", "swap", ty, lambda a, n, b: (b, n / 2, a.to_bytes(16, "little")))
    linker.define("host", "cell", Global(store, GlobalType(V128, True), BYTES))
    return linker.instantiate(store, module)


def call(instance: Instance, name: str, *arguments: object) -> object:
    function = instance.exports[name]
    assert isinstance(function, Func)
    return function(*arguments)


def test_a_vector_is_an_int_and_may_come_as_bytes(instance: Instance) -> None:
    assert call(instance, "same", NUMBER) == NUMBER
    assert call(instance, "same", BYTES) == NUMBER
    assert call(instance, "same", memoryview(bytearray(BYTES))) == NUMBER
    assert call(instance, "same", -1) == (1 << 128) - 1
    assert call(instance, "indirect", NUMBER) == NUMBER


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1 << 128, "does not fit v128"),
        (b"short", "expected 16 bytes for v128, got 5"),
        (1.5, "expected int or 16 bytes for v128, got float"),
        (None, "expected int or 16 bytes for v128, got NoneType"),
    ],
)
def test_what_is_no_vector_is_refused(instance: Instance, value: object, message: str) -> None:
    with pytest.raises(ValueRangeError, match=message):
        call(instance, "same", value)


def test_vectors_among_other_values(instance: Instance) -> None:
    assert call(instance, "many", 1, NUMBER, 0.5, 9 << 100, 2) == (9 << 100, 3, NUMBER, 0.5)
    assert call(instance, "swapped", NUMBER, 1 << 127) == (1 << 127, 3.5, NUMBER)


def test_globals(instance: Instance) -> None:
    fixed = instance.exports["fixed"]
    assert isinstance(fixed, Global)
    assert fixed.value == NUMBER
    assert call(instance, "exchange", 1 << 127) == (6 << 64 | 5, NUMBER)
    assert call(instance, "exchange", 0) == (1 << 127, 1 << 127)


def test_blocks_and_selects(instance: Instance) -> None:
    assert call(instance, "choose", 1 << 90, NUMBER, 1) == 1 << 90
    assert call(instance, "choose", 1 << 90, NUMBER, 0) == NUMBER
    turned = int.from_bytes(BYTES[-5:] + BYTES[:-5], "little")
    assert call(instance, "rotate", NUMBER, 5) == turned


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("at", (65536 - 15,)),
        ("unused", (65536 - 3,)),
        ("lane", (65536 - 7, NUMBER)),
        ("at", (-1,)),
    ],
)
def test_accesses_beyond_the_end_trap(
    instance: Instance, name: str, arguments: tuple[int, ...]
) -> None:
    memory = instance.exports["memory"]
    assert isinstance(memory, Memory)
    with pytest.raises(Trap, match="out of bounds memory access"):
        call(instance, name, *arguments)
    assert memory.read(65536 - 64, 64) == bytes(64)
    inside = (65536 - 16, *arguments[1:])
    call(instance, name, *inside)
