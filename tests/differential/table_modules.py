"""Our own random modules, from the opcode table: what a general generator seldom reaches.

Deep expressions over every numeric row with telling constants, accesses at the edges of pages,
loops that count through memory and may leave it, calls through tables that do not fit, bulk
operations at the limits, blocks with many values, tail calls, exceptions, several memories and
64-bit ones. All are valid; nearly all end soon.
"""

from __future__ import annotations

import random

import wasmtime

from tests.differential.table_control import ControlFunction, locals_of_control, parts_of_control
from tests.differential.table_function import F32, F64, HEADER, I32, NUMBERS, PAGE, Memory

__all__ = ["table_module"]

# What half of the modules do without, so that not all are about the newest.
_NEWER = ("tail-call", "exceptions", "function-references", "memory64", "multi-memory")
# A function makes each NaN of arithmetic canonical at once.
_CANONICAL = {
    F32: "(func $f32 (param f32) (result f32) (select (local.get 0) (f32.const nan)"
    " (f32.eq (local.get 0) (local.get 0))))",
    F64: "(func $f64 (param f64) (result f64) (select (local.get 0) (f64.const nan)"
    " (f64.eq (local.get 0) (local.get 0))))",
}
_CANONICAL_LANES = """
  (func $f32x4 (param v128) (result v128) (v128.bitselect (local.get 0)
    (v128.const f32x4 nan nan nan nan) (f32x4.eq (local.get 0) (local.get 0))))
  (func $f64x2 (param v128) (result v128) (v128.bitselect (local.get 0)
    (v128.const f64x2 nan nan) (f64x2.eq (local.get 0) (local.get 0))))"""


def _names(count: int) -> str:
    return " ".join(ty.value for ty in NUMBERS[:count])


def _memories(rng: random.Random, features: frozenset[str]) -> list[Memory]:
    """One, or up to three; of 32-bit addresses, or also of 64."""
    count = rng.randrange(1, 4) if "multi-memory" in features else 1
    has_long = "memory64" in features
    return [Memory(f"$m{number}", has_long and rng.random() < 0.6) for number in range(count)]


def _memory(rng: random.Random, memory: Memory) -> str:
    limits = f"{rng.choice((1, 1, 2))} {rng.choice((2, 3))}"
    return f'(memory {memory.name} (export "{memory.name[1:]}") {memory.address} {limits})'


def table_module(seed: int, features: frozenset[str]) -> bytes:
    """The module of a seed."""
    rng = random.Random(f"table {seed}")
    features = features - {name for name in _NEWER if rng.random() < 0.5}
    memories = _memories(rng, features)
    begins = f"({memories[0].address}.const {rng.choice((0, 64, PAGE - 16))})"
    functions = rng.randrange(1, 4)
    names = [f"$g{number}" for number in range(functions)]
    parts = [
        *(f"(type $t{n} (func (param {_names(n + 1)}) (result i32)))" for n in range(4)),
        *(_memory(rng, memory) for memory in memories),
        '(table $table (export "table") 8 12 funcref)',
        f"(elem (table $table) (i32.const 1) func {' '.join(names)} $short)",
        f"(elem $functions func {' '.join(names)} $short)",
        '(data $data "\\01\\02\\fe\\ffabcdef")',
        f'(data {begins} "\\80\\7f0123456789\\ff\\ff\\00")',
        *(
            f'(global ${t.value} (export "{t.value}") (mut {t.value}) ({t.value}.const 3))'
            for t in NUMBERS
        ),
        *_CANONICAL.values(),
        _CANONICAL_LANES if "simd" in features else "",
        *parts_of_control(features),
        "(func $short (type $t0) (i32.add (local.get 0) (i32.const 1)))",
    ]
    more = locals_of_control(features)
    vectors = " v128" if "simd" in features else ""
    for number, name in enumerate(names):
        function = ControlFunction(rng, features, number, 4, memories)
        body = function.statements(rng.randrange(2, 7), rng.randrange(1, 5))
        if rng.random() < 0.4:
            body = function.loops(rng.randrange(1, 4))
        result = function.expression(I32, 3)
        parts.append(
            f'(func {name} (export "{name[1:]}") {HEADER} (result i32)\n'
            f"(local i32 i32 i64 f32 f64 i32 i32 i32{vectors})\n{more}\n{body}\n{result})"
        )
    return bytes(wasmtime.wat2wasm(f"(module {' '.join(parts)})"))
