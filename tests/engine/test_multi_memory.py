"""Several memories in one module: each access, growth and copy is to the one that is meant."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.engine.needs import needs
from wasinn_runtime import Engine, Instance, Trap

Build = Callable[..., Instance]

WAT = """
(module
  (memory $a (export "a") 1) (memory $b (export "b") 2 3)
  (data (memory $b) (i32.const 4) "hello")
  (data $passive "later")
  (func (export "load_a") (param i32) (result i32) (i32.load8_u $a (local.get 0)))
  (func (export "load_b") (param i32) (result i32) (i32.load8_u $b offset=1 (local.get 0)))
  (func (export "store_b") (param i32 i64) (i64.store $b (local.get 0) (local.get 1)))
  (func (export "copy") (memory.copy $a $b (i32.const 100) (i32.const 4) (i32.const 5)))
  (func (export "init") (memory.init $b $passive (i32.const 50) (i32.const 0) (i32.const 5)))
  (func (export "fill") (memory.fill $a (i32.const 7) (i32.const 65) (i32.const 3)))
  (func (export "grow") (param i32) (result i32) (memory.grow $b (local.get 0)))
  (func (export "sizes") (result i32 i32) (memory.size $a) (memory.size $b)))
"""


def test_each_memory_is_its_own(build: Build, engine: Engine) -> None:
    needs(engine, "multi-memory")
    exports = build(WAT).exports
    assert (exports.load_a(4), exports.load_b(3)) == (0, ord("h"))
    exports.copy()
    exports.init()
    exports.fill()
    exports.store_b(2**16 + 8, -2)
    assert exports.a.read(100, 5) == b"hello"
    assert exports.b.read(50, 5) == b"later"
    assert exports.a.read(6, 5) == b"\0AAA\0"
    assert exports.b.read_u64(2**16 + 8) == 2**64 - 2
    assert exports.sizes() == (1, 2)
    assert [exports.grow(1), exports.grow(1), exports.sizes()] == [2, -1, (1, 3)]
    with pytest.raises(Trap, match="out of bounds memory access"):
        exports.load_a(65536)
    assert exports.load_b(65536) == 0
