"""Valid modules to mutate: small ones that use every section, and the committed example guests."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import wasmtime

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

TEXTS = {
    "everything": """
      (module $everything
        (type $binary (func (param i32 i64) (result f64)))
        (import "env" "log" (func $log (param i32)))
        (import "env" "limit" (global $limit i32))
        (table $t 4 16 funcref)
        (table $objects 2 externref)
        (memory $m 1 3)
        (global $counter (mut i64) (i64.const -5))
        (global $base i32 (global.get $limit))
        (global $callback funcref (ref.func $sum))
        (export "memory" (memory $m))
        (export "table" (table $t))
        (export "counter" (global $counter))
        (export "run" (func $run))
        (start $begin)
        (elem (table $t) (i32.const 1) func $sum $run)
        (elem $passive funcref (ref.func $sum) (ref.null func))
        (elem declare func $begin)
        (data (i32.const 16) "hello")
        (data $later "world")
        (func $begin (call $log (i32.const 7)))
        (func $sum (type $binary) (local f32 f32 i32)
          (f64.add (f64.convert_i32_s (local.get 0)) (f64.convert_i64_u (local.get 1))))
        (func $run (param $n i32) (result i32) (local $i i32) (local $sum i64)
          (block $out
            (loop $again
              (br_if $out (i32.ge_u (local.get $i) (local.get $n)))
              (local.set $sum (i64.add (local.get $sum) (i64.load8_u offset=16 (local.get $i))))
              (local.set $i (i32.add (local.get $i) (i32.const 1)))
              (br $again)))
          (global.set $counter (local.get $sum))
          (memory.init $later (i32.const 32) (i32.const 0) (i32.const 5))
          (data.drop $later)
          (memory.copy (i32.const 64) (i32.const 16) (i32.const 16))
          (memory.fill (i32.const 128) (i32.const 255) (i32.const 3))
          (table.init $t $passive (i32.const 0) (i32.const 0) (i32.const 1))
          (elem.drop $passive)
          (table.copy $t $t (i32.const 2) (i32.const 0) (i32.const 1))
          (drop (table.grow $objects (ref.null extern) (i32.const 1)))
          (table.set $objects (i32.const 0) (ref.null extern))
          (drop (ref.is_null (table.get $objects (i32.const 1))))
          (if (result i32) (i32.eqz (local.get $n))
            (then (i32.const 0))
            (else
              (drop (call_indirect (type $binary) (i32.const 1) (i64.const 2) (i32.const 1)))
              (i32.trunc_sat_f64_s (f64.sqrt (f64.const 2.25)))))))
    """,
    "control": """
      (module
        (func (export "switch") (param i32) (result i32 i64)
          (block $a (result i32) (block $b (result i32) (block $c (result i32)
            (br_table $a $b $c $a (i32.const 10) (local.get 0)))
            (i32.const 1) (i32.add)) (i32.const 2) (i32.mul))
          (i64.extend_i32_s (i32.extend8_s (local.get 0))))
        (func $fac (export "fac") (param i64) (result i64)
          (if (result i64) (i64.eqz (local.get 0))
            (then (i64.const 1))
            (else (i64.mul (local.get 0) (call $fac (i64.sub (local.get 0) (i64.const 1)))))))
        (func (export "loop") (param i32) (result i32)
          (local.get 0)
          (loop (param i32) (result i32)
            (i32.const 1) (i32.sub) (local.tee 0) (local.get 0) (br_if 0))
          (return))
        (func (export "pick") (param f32 f32 i32) (result f32)
          (select (local.get 0) (f32.min (local.get 0) (local.get 1)) (local.get 2)))
        (func (export "stop") (unreachable)))
    """,
}


@cache
def samples() -> dict[str, bytes]:
    """Valid modules by name, smallest first."""
    found = {name: bytes(wasmtime.wat2wasm(text)) for name, text in TEXTS.items()}
    for path in sorted(EXAMPLES.rglob("*.wasm")):
        found[path.stem] = path.read_bytes()
    return dict(sorted(found.items(), key=lambda item: len(item[1])))
