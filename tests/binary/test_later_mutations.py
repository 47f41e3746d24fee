"""Damaged modules that use what came after 2.0: verdicts compared with wasmtime's."""

from __future__ import annotations

import time
from functools import cache

import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.binary.damage import damaged, reference_verdict, verdict
from wasinn_runtime.spec.features import FEATURES_3_0

FEATURES = FEATURES_3_0 | {"threads"}
# What the reference knows and this project refuses by name.
ABSENT = "needs garbage collection"

TEXTS = {
    "references": """
      (module
        (type $op (func (param i32 i32) (result i32)))
        (type $open (sub (func (param (ref null $op)) (result (ref null $op)))))
        (type $below (sub final $open (func (param (ref null $op)) (result (ref $op)))))
        (rec (type $even (func (param (ref $odd)))) (type $odd (func (param (ref null $even)))))
        (import "env" "table" (table $far 1 (ref null $op)))
        (import "env" "op" (func $imported (type $op)))
        (table $near 2 8 (ref $op) (ref.func $add))
        (global $g (ref $op) (ref.func $add))
        (global $h (ref null $op) (global.get $g))
        (elem (table $near) (i32.const 0) (ref $op) (item ref.func $add) (item global.get $g))
        (elem declare func $id)
        (func $add (type $op) (i32.add (local.get 0) (local.get 1)))
        (func $id (type $below) (ref.as_non_null (local.get 0)))
        (func $odd (type $odd) (drop (local.get 0)))
        (func (export "run") (param $f (ref null $op)) (param i32) (result i32)
          (local $set (ref $op)) (local i64)
          (block $null
            (local.set $set (br_on_null $null (local.get $f)))
            (local.set $f (local.get $set)))
          (block $there (result (ref $op))
            (br_on_non_null $there (local.get $f))
            (table.get $near (i32.const 1)))
          (drop (call_ref $below (ref.func $id)))
          (return_call_ref $op (local.get 1) (i32.const 3) (local.get $f)))
        (func (param i32) (result i32)
          (return_call_indirect $far (type $op) (i32.const 1) (i32.const 2) (local.get 0))))
    """,
    "exceptions": """
      (module
        (import "env" "tag" (tag $far (param i64)))
        (tag $near (export "near") (param i32 f32))
        (tag $bare)
        (func $throws (param i32) (result i32)
          (if (local.get 0) (then (throw $near (i32.const 1) (f32.const 2))))
          (i32.const 7))
        (func (export "run") (param i32) (result i32) (local $e exnref)
          (block $all
            (block $ref (result i32 f32 exnref)
              (block $one (result i64)
                (try_table (result i32) (catch $far $one) (catch_ref $near $ref) (catch_all $all)
                  (call $throws (local.get 0)))
                (return))
              (return (i32.wrap_i64)))
            (local.set $e)
            (drop) (drop)
            (throw_ref (local.get $e)))
          (return_call $throws (i32.const 0))))
    """,
    "memories": """
      (module
        (import "env" "m" (memory $far 1 2))
        (memory $wide i64 1 4294967296)
        (memory $third 1)
        (table $t i64 3 10 funcref)
        (global $base i64 (i64.add (i64.const 8) (i64.mul (i64.const 2) (i64.const 3))))
        (global $next i64 (i64.sub (global.get $base) (i64.const 1)))
        (data $d (memory $wide) (i64.const 16) "hello")
        (data $p "world")
        (elem (table $t) (i64.const 0) func 0)
        (func (export "run") (param i64) (result i64)
          (i64.store32 $wide offset=4294967296 (local.get 0) (i64.const 1))
          (i32.store8 $third offset=9 (i32.const 0) (i32.load16_s $far (i32.const 4)))
          (v128.store $wide offset=3 (local.get 0)
            (i8x16.add (v128.load (i32.const 0)) (v128.const i64x2 1 2)))
          (memory.copy $far $wide (i32.const 0) (i64.const 0) (i32.const 3))
          (memory.init $wide $p (i64.const 0) (i32.const 0) (i32.const 5))
          (memory.fill $third (i32.const 0) (i32.const 1) (i32.const 2))
          (drop (memory.grow $wide (memory.size $wide)))
          (drop (memory.grow $third (memory.size $third)))
          (table.fill $t (i64.const 0) (ref.null func) (table.size $t))
          (i64.load8_u $wide offset=1 (local.get 0))))
    """,
    "atomics": """
      (module
        (memory $m 1 2 shared)
        (func (export "run") (param i32) (result i64)
          (atomic.fence)
          (drop (memory.atomic.notify (local.get 0) (i32.const 1)))
          (drop (memory.atomic.wait32 (local.get 0) (i32.const 1) (i64.const 0)))
          (i32.atomic.store16 offset=2 (local.get 0) (i32.const 1))
          (drop (i64.atomic.rmw32.xchg_u (local.get 0) (i64.atomic.load (local.get 0))))
          (i64.atomic.rmw.cmpxchg (local.get 0) (i64.const 1) (i64.const 2))))
    """,
}


@cache
def samples() -> dict[str, bytes]:
    return {name: bytes(wasmtime.wat2wasm(text)) for name, text in TEXTS.items()}


@pytest.fixture(scope="module")
def reference() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.wasm_gc = True
    config.wasm_function_references = True
    config.wasm_exceptions = True
    config.wasm_threads = True
    config.shared_memory = True
    config.wasm_memory64 = True
    return wasmtime.Engine(config)


def check(engine: wasmtime.Engine, data: bytes) -> None:
    started = time.process_time()
    ours = verdict(data, FEATURES)
    assert time.process_time() - started < 3
    if ABSENT in ours:
        return
    theirs = reference_verdict(engine, data)
    assert bool(ours) == bool(theirs), f"ours: {ours!r}, reference: {theirs!r}"


@pytest.mark.parametrize("name", TEXTS)
def test_samples_are_valid(name: str, reference: wasmtime.Engine) -> None:
    assert verdict(samples()[name], FEATURES) == reference_verdict(reference, samples()[name]) == ""


@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=damaged(samples(), tuple(TEXTS)))
def test_damage(data: bytes, reference: wasmtime.Engine) -> None:
    check(reference, data)


@pytest.mark.parametrize("name", TEXTS)
def test_cut_off_anywhere(name: str, reference: wasmtime.Engine) -> None:
    data = samples()[name]
    for size in range(len(data)):
        check(reference, data[:size])


@settings(max_examples=1000, deadline=None)
@given(code=st.binary(max_size=40), name=st.sampled_from(sorted(TEXTS)))
def test_random_code(code: bytes, name: str, reference: wasmtime.Engine) -> None:
    """Random bytes where the first body's instructions were; lengths stay as they are."""
    data = samples()[name]
    at = data.rindex(b"\x0b", 0, -1)
    start = max(at - len(code), 0)
    check(reference, data[:start] + code + data[start + len(code) :])
