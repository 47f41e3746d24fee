"""Memories and tables with 64-bit addresses: bounds at both ends, growth, limits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import wasmtime

from tests.engine.needs import needs
from wasinn_runtime import (
    Engine,
    Func,
    Instance,
    LimitExceeded,
    Limits,
    Memory,
    MemoryType,
    Module,
    Store,
    Trap,
    ValType,
)

Build = Callable[..., Instance]
PAGE = 65536


@pytest.fixture(autouse=True)
def has_memory64(engine: Engine) -> None:
    needs(engine, "memory64")


WAT = """
(module
  (memory (export "memory") i64 1 {max})
  (func (export "load") (param i64) (result i64) (i64.load (local.get 0)))
  (func (export "far") (param i64) (result i32)
    (i32.load8_u offset=0xffffffffffffff00 (local.get 0)))
  (func (export "over") (param i64) (result i64) (i64.load offset=65533 (local.get 0)))
  (func (export "store") (param i64 i32) (i32.store offset=16 (local.get 0) (local.get 1)))
  (func (export "fill") (param i64 i64) (memory.fill (local.get 0) (i32.const 1) (local.get 1)))
  (func (export "copy") (param i64 i64 i64)
    (memory.copy (local.get 0) (local.get 1) (local.get 2)))
  (func (export "size") (result i64) (memory.size))
  (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0))))
"""


@pytest.mark.parametrize("offset", [2**64 - 1, 2**64 - 7, 2**64 - 8, 2**64 - 9, 2**64 - 16, 2**63])
def test_offsets_whose_end_is_beyond_64_bits(build: Build, offset: int) -> None:
    exports = build(
        f"""(module (memory (export "memory") i64 1)
          (func (export "load") (param i64) (result i64) (i64.load offset={offset} (local.get 0)))
          (func (export "store") (param i64)
            (i64.store offset={offset} (local.get 0) (i64.const -1)))
          (func (export "load_vector") (param i64)
            (drop (v128.load offset={offset} (local.get 0))))
          (func (export "add") (param i64)
            (drop (i32.atomic.rmw8.add_u offset={offset} (local.get 0) (i32.const 1)))))"""
    ).exports
    for name in ("load", "store", "load_vector", "add"):
        for at in (0, 1, 8, 16, PAGE, 2**64 - offset, 2**64 - 1):
            with pytest.raises(Trap, match="out of bounds memory access"):
                getattr(exports, name)(at)
    assert not any(exports.memory.read(0, PAGE))


def test_bounds_whatever_the_sum_would_be(build: Build) -> None:
    exports = build(WAT.format(max=4)).exports
    assert exports.load(PAGE - 8) == 0
    exports.store(PAGE - 20, -1)
    assert exports.memory.read_u32(PAGE - 4) == 0xFFFFFFFF
    outside: list[Callable[[], object]] = [
        lambda: exports.load(PAGE - 7),
        lambda: exports.load(-1),
        lambda: exports.load(1 << 63),
        lambda: exports.load(1 << 40),
        lambda: exports.far(0),
        lambda: exports.far(0x101),
        lambda: exports.over(0),
        lambda: exports.store(-4, 1),
        lambda: exports.store(PAGE - 19, 1),
        lambda: exports.fill(1, PAGE),
        lambda: exports.fill(-1, 2),
        lambda: exports.fill(2, -1),
        lambda: exports.copy(0, -1, 1),
        lambda: exports.copy(0, 1, -1),
    ]
    for access in outside:
        with pytest.raises(Trap, match="out of bounds memory access"):
            access()
    assert exports.memory.read_u32(PAGE - 4) == 0xFFFFFFFF
    exports.fill(PAGE - 2, 2)
    assert exports.memory.read_u32(PAGE - 4) == 0x0101FFFF


def test_growth_up_to_the_type_or_the_store(build: Build, engine: Engine) -> None:
    exports = build(WAT.format(max=4)).exports
    assert exports.grow(2) == 1
    assert exports.load(3 * PAGE - 8) == 0
    assert [exports.grow(-1), exports.grow(1 << 40), exports.grow(2), exports.size()] == [
        *(-1, -1, -1, 3)
    ]
    small = Store(engine, max_memory_bytes=2 * PAGE)
    instance = Instance(small, Module(engine, wasmtime.wat2wasm(WAT.format(max=""))))
    assert [instance.exports.grow(1), instance.exports.grow(1)] == [1, -1]
    # More than 32 bits of bytes, none of which is touched.
    exports = build(WAT.format(max="")).exports
    assert exports.grow(1 << 17) == 1
    assert exports.load(1 << 32) == 0
    exports.store(1 << 32, 77)
    assert exports.memory.read_u32((1 << 32) + 16) == 77


def test_one_of_no_pages_stays_so(build: Build) -> None:
    """Some address space is reserved for it nevertheless."""
    function = build(
        """
        (module (memory i64 0 0)
          (func (export "f") (result i64 i64)
            (memory.grow (i64.const 1)) (memory.size)))
        """
    ).exports["f"]
    assert isinstance(function, Func)
    assert function() == (-1, 0)


def test_one_that_begins_too_large_is_refused(store: Store) -> None:
    with pytest.raises(LimitExceeded, match="address space"):
        Memory(store, MemoryType(Limits(1 << 40), ValType.I64))


def test_tables_too(build: Build) -> None:
    wat = """(module (table (export "t") i64 2 8 funcref) (elem (i64.const 1) $f)
      (func $f (result i32) (i32.const 6))
      (func (export "call") (param i64) (result i32) (call_indirect (result i32) (local.get 0)))
      (func (export "grow") (param i64) (result i64)
        (table.grow (ref.func $f) (local.get 0)))
      (func (export "fill") (param i64 i64)
        (table.fill (local.get 0) (ref.null func) (local.get 1)))
      (func (export "size") (result i64) (table.size)))"""
    exports = build(wat).exports
    assert exports.call(1) == 6
    with pytest.raises(Trap, match="uninitialized element"):
        exports.call(0)
    for index in (2, -1, 1 << 32):
        with pytest.raises(Trap, match="undefined element"):
            exports.call(index)
    assert [exports.grow(3), exports.grow(-1), exports.grow(4), exports.size()] == [2, -1, -1, 5]
    assert exports.call(4) == 6
    with pytest.raises(Trap, match="out of bounds table access"):
        exports.fill(1, -1)


# In a process of its own: any other test may have brought a type that declares a supertype.
MISMATCH = """
import sys
from pathlib import Path
import wasmtime
from wasinn_runtime import Config, Engine, Instance, Module, Store, Trap
engine = Engine(Config(mode=sys.argv[1], cache_dir=Path(sys.argv[2])))
exports = Instance(Store(engine), Module(engine, wasmtime.wat2wasm(sys.argv[3]))).exports
for function in (exports.call, exports.tail):
    try:
        function(1)
    except Trap as trap:
        print(trap.code)
"""


def test_another_type_where_no_type_declares_a_supertype(engine: Engine) -> None:
    wat = """(module (table i64 2 funcref) (elem (i64.const 1) $f)
      (func $f (result i32) (i32.const 6))
      (func (export "call") (param i64) (call_indirect (local.get 0)))
      (func (export "tail") (param i64) (return_call_indirect (local.get 0))))"""
    mode, cache = engine.config.mode, str(engine.config.cache_dir)
    command = [sys.executable, "-c", MISMATCH, mode, cache, wat]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stdout) == (0, 2 * "indirect call type mismatch\n"), found


def test_a_memory_of_32_bits_is_another_type(engine: Engine, store: Store) -> None:
    from wasinn_runtime import LinkError

    module = Module(engine, wasmtime.wat2wasm('(module (import "" "m" (memory i64 1)))'))
    with pytest.raises(LinkError, match="incompatible import type"):
        Instance(store, module, [Memory(store, MemoryType(Limits(1)))])
