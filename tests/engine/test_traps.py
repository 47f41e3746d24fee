"""Every trap: its exact text, where it happened, and what is left afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wasinn_runtime import Exhaustion, Func, Instance, Trap

Build = Callable[..., Instance]

WAT = """(module
  (type $t (func (param i32) (result i32)))
  (memory (export "memory") 1 2)
  (table $table (export "table") 4 funcref)
  (elem (i32.const 0) $id $noarg)
  (func $id (param i32) (result i32) local.get 0)
  (func $noarg)
  (func $unreachable (export "unreachable") unreachable)
  (func $div_s (export "div_s") (param i32 i32) (result i32)
    (i32.div_s (local.get 0) (local.get 1)))
  (func $rem_s (export "rem_s") (param i64 i64) (result i64)
    (i64.rem_s (local.get 0) (local.get 1)))
  (func $trunc (export "trunc") (param f64) (result i32) (i32.trunc_f64_s (local.get 0)))
  (func $load (export "load") (param i32) (result i64) (i64.load offset=8 (local.get 0)))
  (func $far (export "far") (param i32) (result i32) (i32.load offset=0xFFFFFFFF (local.get 0)))
  (func $dead (export "dead") (param i32) (drop (i32.load (local.get 0))))
  (func $store (export "store") (param i32) (i32.store8 (local.get 0) (i32.const 1)))
  (func $fill (export "fill") (param i32 i32)
    (memory.fill (local.get 0) (i32.const 7) (local.get 1)))
  (func $copy (export "copy") (param i32 i32 i32)
    (memory.copy (local.get 0) (local.get 1) (local.get 2)))
  (func $indirect (export "indirect") (param i32) (result i32)
    (call_indirect (type $t) (i32.const 5) (local.get 0)))
  (func $tget (export "tget") (param i32) (result funcref) (table.get $table (local.get 0)))
  (func $half (export "half") (param i32)
    (i32.store (i32.const 16) (i32.const 99))
    (i32.store (local.get 0) (i32.const 1)))
  (func $deep (export "deep") (param i64) (result i64)
    (i64.add (i64.const 1) (call $deep (local.get 0)))))"""


@pytest.mark.parametrize(
    ("name", "args", "text"),
    [
        ("unreachable", (), "unreachable"),
        ("div_s", (1, 0), "integer divide by zero"),
        ("div_s", (-(2**31), -1), "integer overflow"),
        ("rem_s", (1, 0), "integer divide by zero"),
        ("trunc", (float("nan"),), "invalid conversion to integer"),
        ("trunc", (2.0**31,), "integer overflow"),
        ("trunc", (-(2.0**31) - 1,), "integer overflow"),
        ("load", (65536 - 15,), "out of bounds memory access"),
        ("load", (-1,), "out of bounds memory access"),
        ("far", (-1,), "out of bounds memory access"),
        ("far", (0,), "out of bounds memory access"),
        ("dead", (65533,), "out of bounds memory access"),
        ("store", (65536,), "out of bounds memory access"),
        ("fill", (65536, 1), "out of bounds memory access"),
        ("fill", (65537, 0), "out of bounds memory access"),
        ("fill", (-1, -1), "out of bounds memory access"),
        ("copy", (0, 65535, 2), "out of bounds memory access"),
        ("copy", (65535, 0, 2), "out of bounds memory access"),
        ("indirect", (1,), "indirect call type mismatch"),
        ("indirect", (2,), "uninitialized element"),
        ("indirect", (4,), "undefined element"),
        ("indirect", (-1,), "undefined element"),
        ("tget", (4,), "out of bounds table access"),
    ],
)
def test_trap(build: Build, name: str, args: tuple[object, ...], text: str) -> None:
    instance = build(WAT)
    with pytest.raises(Trap) as caught:
        getattr(instance.exports, name)(*args)
    assert caught.value.code == text
    assert type(caught.value) is Trap
    assert caught.value.function is not None
    assert caught.value.function.endswith(f"({name})")
    assert str(caught.value) == f"wasm trap: {text} in {caught.value.function}"
    # The instance goes on.
    assert instance.exports.div_s(7, 2) == 3
    assert instance.exports.rem_s(-(2**63), -1) == 0


def test_last_bytes_are_in_bounds(build: Build) -> None:
    exports = build(WAT).exports
    assert exports.load(65536 - 16) == 0
    exports.store(65535)
    exports.fill(65536, 0)
    exports.copy(65536, 65536, 0)


def test_what_happened_before_a_trap_stays(build: Build) -> None:
    instance = build(WAT)
    with pytest.raises(Trap):
        instance.exports.half(65536)
    assert instance.exports.memory.read_u32(16) == 99


def test_a_failed_bulk_operation_writes_nothing(build: Build) -> None:
    instance = build(WAT)
    with pytest.raises(Trap):
        instance.exports.fill(65530, 100)
    assert instance.exports.memory.read(65530, 6) == bytes(6)


def test_overlapping_copies(build: Build) -> None:
    instance = build(WAT)
    memory = instance.exports.memory
    memory.write(0, bytes(range(10)))
    instance.exports.copy(2, 0, 8)
    assert memory.read(0, 10) == bytes([0, 1, 0, 1, 2, 3, 4, 5, 6, 7])
    memory.write(0, bytes(range(10)))
    instance.exports.copy(0, 2, 8)
    assert memory.read(0, 10) == bytes([2, 3, 4, 5, 6, 7, 8, 9, 8, 9])


def test_recursion_exhausts_the_stack_and_nothing_else(build: Build) -> None:
    instance = build(WAT)
    deep = instance.exports.deep
    assert isinstance(deep, Func)
    for _ in range(3):
        with pytest.raises(Exhaustion, match=r"call stack exhausted in function .*deep"):
            deep(1)
    assert instance.exports.div_s(7, 2) == 3


def test_a_segment_that_does_not_fit_traps_and_leaves_what_came_before(build: Build) -> None:
    from wasinn_runtime import Limits, Memory, MemoryType, Store

    with pytest.raises(Trap, match="out of bounds table access"):
        build("(module (table 1 funcref) (func $f) (elem (i32.const 1) $f))")
    with pytest.raises(Trap, match="unreachable"):
        build("(module (func $s unreachable) (start $s))")
    probe = build("(module)")
    store: Store = probe.store
    memory = Memory(store, MemoryType(Limits(1)))
    with pytest.raises(Trap, match="out of bounds memory access"):
        build(
            '(module (import "m" "m" (memory 1)) (data (i32.const 0) "abc")'
            ' (data (i32.const 65535) "xy"))',
            memory,
        )
    assert memory.read(0, 3) == b"abc"
