"""AOT files for the tests: made from text, and made again with other facts but a right digest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import wasmtime

from wasinn_runtime.engines.aot_compile import AotOptions, compile_image
from wasinn_runtime.engines.aot_format import Facts, check_whole, pack
from wasinn_runtime.engines.relocate import CPUS
from wasinn_runtime.engines.targets import architecture_of

__all__ = ["GUEST", "altered", "facts_of", "image_of", "module_of", "sections_of"]

#: A module with a bit of everything that is set up when it is instantiated, and every kind of trap.
GUEST = """
(module $sample
  (import "env" "twice" (func $twice (param i32) (result i32)))
  (type $unary (func (param i32) (result i32)))
  (memory (export "memory") 1 3)
  (table 3 funcref)
  (elem (i32.const 0) $down $divide)
  (global $started (export "started") (mut i32) (i32.const 7))
  (data (i32.const 16) "\\2a\\00\\00\\00")
  (data $passive "\\01\\02\\03\\04")
  (start $begin)
  (func $begin (global.set $started (i32.const 8)))
  (func $down (export "down") (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0))
      (then (i32.const 0))
      (else (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))))
  (func $divide (export "divide") (param i32) (result i32)
    (i32.div_s (i32.const 100) (local.get 0)))
  (func $load (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "fill") (param i32) (result i32)
    (memory.init $passive (local.get 0) (i32.const 0) (i32.const 4))
    (i32.load (local.get 0)))
  (func (export "indirect") (param i32) (result i32)
    (call_indirect (type $unary) (i32.const 5) (local.get 0)))
  (func (export "import") (param i32) (result i32) (call $twice (local.get 0)))
  (func (export "switch") (param i32) (result i32)
    (block $other
      (block $two
        (block $one
          (block $zero (br_table $zero $one $two $other (local.get 0)))
          (return (i32.const 10)))
        (return (i32.const 21)))
      (return (call $divide (i32.const 5))))
    (i32.const 43))
  (func (export "float") (param i32) (result i32)
    (i32.trunc_f64_s
      (f64.mul (f64.ceil (f64.convert_i32_s (local.get 0))) (f64.const 1.5)))))
"""


def module_of(wat: str) -> bytes:
    """A module's bytes."""
    return bytes(wasmtime.wat2wasm(wat))


def image_of(wat: str = GUEST, **options: Any) -> bytes:
    """A file's bytes; the options are those of ``AotOptions``."""
    wanted = AotOptions(**{"opt_level": 1, "verify_ir": True, **options})
    return bytes(compile_image(module_of(wat), "sample.wasm", wanted).image)


def facts_of(image: bytes) -> Facts:
    """What a file's header says."""
    return check_whole(memoryview(image), "<image>")[0]


def sections_of(image: bytes) -> dict[str, bytes]:
    """What is in a file."""
    _, places = check_whole(memoryview(image), "<image>")
    return {name: image[at : at + size] for name, (at, size) in places.items()}


def altered(image: bytes, **changes: Any) -> bytes:
    """The file that a program with other facts would have written."""
    facts = facts_of(image)
    page = CPUS[architecture_of(facts.triple).machine].page_bytes
    sections = {
        name: (content, page if name == "code" else 4)
        for name, content in sections_of(image).items()
    }
    return bytes(pack(replace(facts, **changes), sections))
