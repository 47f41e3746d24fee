"""Atomic instructions, shared memories, waiting and notifying across threads and stores."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
import wasmtime

from tests.engine.needs import needs
from wasinn_runtime import (
    Engine,
    Instance,
    Interrupted,
    Limits,
    LinkError,
    Memory,
    MemoryType,
    Module,
    Store,
    Trap,
    UsageError,
)

Build = Callable[..., Instance]

SHARED = MemoryType(Limits(1, 4), shared=True)
WAT = """
(module
  (import "" "m" (memory 1 4 shared))
  (func (export "add") (param i32 i32) (result i32)
    (i32.atomic.rmw.add (local.get 0) (local.get 1)))
  (func (export "count") (param i32 i32)
    (loop $l
      (drop (i32.atomic.rmw.add (local.get 0) (i32.const 1)))
      (br_if $l (local.tee 1 (i32.sub (local.get 1) (i32.const 1))))))
  (func (export "spin") (param i32)
    (loop $l (br_if $l (i32.eqz (i32.atomic.load (local.get 0))))))
  (func (export "store") (param i32 i32) (i32.atomic.store (local.get 0) (local.get 1)))
  (func (export "swap8") (param i32 i32 i32) (result i32)
    (i32.atomic.rmw8.cmpxchg_u (local.get 0) (local.get 1) (local.get 2)))
  (func (export "wait") (param i32 i32 i64) (result i32)
    (memory.atomic.wait32 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "wait64") (param i32 i64 i64) (result i32)
    (memory.atomic.wait64 offset=8 (local.get 0) (local.get 1) (local.get 2)))
  (func (export "notify") (param i32 i32) (result i32)
    (memory.atomic.notify (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "size") (result i32) (memory.size))
  (func (export "fence") atomic.fence))
"""


@pytest.fixture(autouse=True)
def has_threads(engine: Engine) -> None:
    needs(engine, "threads")


@pytest.fixture
def memory(store: Store) -> Memory:
    return Memory(store, SHARED)


@pytest.fixture
def sharer(engine: Engine, memory: Memory) -> Callable[[], Instance]:
    """Instances in stores of their own, with the one memory."""
    module = Module(engine, wasmtime.wat2wasm(WAT))
    return lambda: Instance(Store(engine), module, [memory])


def in_threads(*works: Callable[[], object]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def test_operations(sharer: Callable[[], Instance], memory: Memory) -> None:
    exports = sharer().exports
    memory.write_u32(8, 40)
    assert (exports.add(8, 2), memory.read_u32(8)) == (40, 42)
    assert (exports.swap8(8, 42, 0x1234), memory.read_u32(8)) == (42, 0x34)
    assert (exports.swap8(8, 0x134, 1), memory.read_u32(8)) == (0x34, 0x34)  # fits no byte
    exports.fence()
    for address in (9, 10):
        with pytest.raises(Trap, match="unaligned atomic"):
            exports.add(address, 1)
    with pytest.raises(Trap, match="out of bounds memory access"):
        exports.add(65536, 1)


def test_nothing_is_lost_between_threads(sharer: Callable[[], Instance], memory: Memory) -> None:
    first, second = sharer(), sharer()
    in_threads(lambda: first.exports.count(16, 200_000), lambda: second.exports.count(16, 200_000))
    assert memory.read_u32(16) == 400_000


def test_a_store_is_seen_by_another_thread(sharer: Callable[[], Instance], memory: Memory) -> None:
    waiting, setting = sharer(), sharer()
    in_threads(lambda: waiting.exports.spin(24), lambda: setting.exports.store(24, 1))


def test_growth_is_seen_everywhere(sharer: Callable[[], Instance], memory: Memory) -> None:
    first, second = sharer(), sharer()
    with pytest.raises(Trap):
        second.exports.add(65536, 1)
    assert first.exports.grow(1) == 1
    assert (second.exports.size(), memory.pages) == (2, 2)
    assert second.exports.add(65536, 1) == 0
    assert memory.grow(2) == 2
    assert first.exports.grow(1) == -1


def test_wait_and_notify(sharer: Callable[[], Instance], memory: Memory) -> None:
    waiters, other = [sharer() for _ in range(3)], sharer()
    results: list[object] = []
    works = [lambda i=i: results.append(i.exports.wait(32, 0, -1)) for i in waiters]

    def wake() -> None:
        woken = 0
        while woken < 2:
            woken += other.exports.notify(32, 2 - woken)
        time.sleep(0.05)
        assert len(results) == 2
        while woken < 3:
            woken += other.exports.notify(32, -1)

    in_threads(*works, wake)
    assert results == [0, 0, 0]
    assert other.exports.notify(32, 10) == 0


def test_wait_for_another_value_or_too_long(sharer: Callable[[], Instance], memory: Memory) -> None:
    exports = sharer().exports
    assert exports.wait(32, 1, -1) == 1
    begin = time.monotonic()
    assert exports.wait(32, 0, 30_000_000) == 2
    assert time.monotonic() - begin >= 0.03
    assert exports.wait(32, 0, 0) == 2
    memory.write_u64(48, 2**64 - 1)
    assert exports.wait64(40, -1, 0) == 2
    assert exports.wait64(40, 2**32 - 1, 0) == 1
    with pytest.raises(Trap, match="unaligned atomic"):
        exports.wait(34, 0, 0)
    with pytest.raises(Trap, match="out of bounds memory access"):
        exports.wait(65536, 0, 0)


def test_a_wait_ends_at_the_deadline(sharer: Callable[[], Instance]) -> None:
    instance = sharer()
    begin = time.monotonic()
    with instance.store.deadline(0.2), pytest.raises(Interrupted):
        instance.exports.wait(32, 0, -1)
    assert time.monotonic() - begin < 10


def test_waiting_needs_a_shared_memory(build: Build) -> None:
    wat = """(module (memory 1)
      (func (export "wait") (result i32)
        (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const 0)))
      (func (export "notify") (param i32) (result i32)
        (memory.atomic.notify (local.get 0) (i32.const 1)))
      (func (export "add") (result i64) (i64.atomic.rmw8.sub_u (i32.const 3) (i64.const 1))))"""
    exports = build(wat).exports
    with pytest.raises(Trap, match="expected shared memory"):
        exports.wait()
    assert exports.notify(0) == 0
    with pytest.raises(Trap, match="out of bounds memory access"):
        exports.notify(65536)
    assert (exports.add(), exports.add()) == (0, 255)


def test_shared_and_unshared_do_not_mix(engine: Engine, store: Store) -> None:
    module = Module(engine, wasmtime.wat2wasm(WAT))
    with pytest.raises(LinkError, match="incompatible import type"):
        Instance(store, module, [Memory(store, MemoryType(Limits(1, 4)))])
    with pytest.raises(UsageError, match="needs a maximum"):
        Memory(store, MemoryType(Limits(1), shared=True))


def test_the_memory_outlives_the_store_it_was_made_in(engine: Engine) -> None:
    import gc

    module = Module(engine, wasmtime.wat2wasm(WAT))
    memory = Memory(Store(engine), SHARED)
    exports = Instance(Store(engine), module, [memory]).exports
    del memory
    gc.collect()
    assert (exports.add(8, 5), exports.add(8, 1)) == (0, 5)
