"""Linear memory seen from Python: views, numpy, growth, limits, lifetime."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import numpy as np
import pytest
import wasmtime

from wasinn_runtime import (
    Engine,
    Instance,
    LimitExceeded,
    Limits,
    Memory,
    MemoryAccessError,
    MemoryType,
    Module,
    Store,
    Table,
    TableType,
    UsageError,
    ValType,
)

Build = Callable[..., Instance]
WAT = """(module (memory (export "memory") 1 10)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "size") (result i32) (memory.size))
  (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "poke") (param i32 i32) (i32.store8 (local.get 0) (local.get 1))))"""


def memory_of(instance: Instance) -> Memory:
    memory = instance.exports.memory
    assert isinstance(memory, Memory)
    return memory


def test_views_share_bytes_and_survive_growth(build: Build) -> None:
    instance = build(WAT)
    memory = memory_of(instance)
    view = memory.view()
    array = np.asarray(memory)
    assert view.nbytes == array.nbytes == 65536
    assert array.dtype == np.uint8
    view[5] = 42
    assert instance.exports.peek(5) == 42
    assert instance.exports.grow(3) == 1
    instance.exports.poke(6, 43)
    assert view[6] == array[6] == 43
    assert view.nbytes == 65536
    assert memory.view().nbytes == memory.byte_length == 4 * 65536
    array[7] = 44
    assert memory.read(5, 3) == bytes([42, 43, 44])


def test_a_view_outlives_everything_else(engine: Engine) -> None:
    instance = Instance(Store(engine), Module(engine, wasmtime.wat2wasm(WAT)))
    view = memory_of(instance).view(0, 16)
    array = np.asarray(memory_of(instance))
    view[3] = 9
    gone = weakref.ref(instance)
    del instance
    gc.collect()
    assert gone() is None
    view[4] = 10
    assert bytes(view[3:5]) == b"\x09\x0a"
    assert array[3] == 9


def test_typed_numpy_view_writes_through(build: Build) -> None:
    instance = build(WAT)
    numbers = np.frombuffer(memory_of(instance).view(64, 16), dtype=np.float32)
    numbers[:] = [1.0, 2.0, 3.0, 4.0]
    assert memory_of(instance).read(64, 4) == np.float32(1.0).tobytes()


@pytest.mark.parametrize(
    ("ptr", "length"),
    [(65536, 1), (65535, 2), (0, 65537), (-1, 1), (2**32, 0), (2**63, 2**63), (0, -1)],
)
def test_ranges_are_checked(build: Build, ptr: int, length: int) -> None:
    memory = memory_of(build(WAT))
    for access in (memory.read, memory.view, memory.address):
        with pytest.raises(MemoryAccessError, match="not inside the memory of 0x10000 bytes"):
            access(ptr, length)
    with pytest.raises(IndexError):
        memory.write(65530, b"1234567")
    assert memory.read(65530, 6) == bytes(6)
    with pytest.raises(MemoryAccessError):
        memory.read_u32(65533)
    assert memory.view(65536, 0).nbytes == 0


def test_integers_are_little_endian(build: Build) -> None:
    memory = memory_of(build(WAT))
    memory.write_u64(8, 0x1122334455667788)
    assert memory.read(8, 8) == bytes.fromhex("8877665544332211")
    assert memory.read_u8(8) == 0x88
    assert memory.read_u16(8) == 0x7788
    assert memory.read_u32(8) == 0x55667788
    memory.write_u32(8, -1)
    memory.write_u16(8, 0x1234)
    memory.write_u8(8, 0x56)
    assert memory.read_u64(8) == 0x11223344FFFF1256


def test_growth_from_python_and_its_limits(build: Build) -> None:
    instance = build(WAT)
    memory = memory_of(instance)
    assert memory.grow(2) == 1
    assert instance.exports.size() == 3
    assert memory.type.limits == Limits(3, 10)
    with pytest.raises(LimitExceeded, match="from 3 by 8 pages: at most 10"):
        memory.grow(8)
    with pytest.raises(UsageError):
        memory.grow(-1)
    assert instance.exports.grow(8) == -1
    assert instance.exports.grow(-1) == -1
    assert instance.exports.grow(0) == 3
    assert memory.grow(7) == 3
    assert instance.exports.grow(1) == -1


def test_store_limit(engine: Engine) -> None:
    module = Module(engine, wasmtime.wat2wasm(WAT))
    instance = Instance(Store(engine, max_memory_bytes=3 * 65536 + 5), module)
    assert instance.exports.grow(2) == 1
    assert instance.exports.grow(1) == -1
    with pytest.raises(LimitExceeded, match="starts with 65,536 bytes, the limit is 1,000"):
        Instance(Store(engine, max_memory_bytes=1000), module)


def test_largest_memory(engine: Engine) -> None:
    store = Store(engine)
    memory = Memory(store, MemoryType(Limits(0)))
    assert memory.byte_length == 0
    assert memory.grow(65536) == 0
    assert memory.byte_length == 1 << 32
    memory.write_u8((1 << 32) - 1, 7)
    assert memory.read((1 << 32) - 1, 1) == b"\x07"
    with pytest.raises(LimitExceeded):
        memory.grow(1)


def test_a_new_memory_is_zero_where_an_old_one_was(engine: Engine) -> None:
    module = Module(engine, wasmtime.wat2wasm(WAT))
    places = set()
    for _ in range(50):
        instance = Instance(Store(engine), module)
        memory = memory_of(instance)
        places.add(memory.address(0, 1))
        assert memory.read(0, 65536) == bytes(65536)
        instance.exports.grow(2)
        assert memory.read(65536, 131072) == bytes(131072)
        memory.write(0, b"\xff" * 3 * 65536)
        del instance, memory
        gc.collect()
    assert len(places) < 50  # address space was used again, so the zeros were not luck


def test_thousands_of_instances_leave_nothing_behind(engine: Engine) -> None:
    import resource

    module = Module(engine, wasmtime.wat2wasm(WAT))

    def many(count: int) -> None:
        for i in range(count):
            instance = Instance(Store(engine), module)
            instance.exports.poke(i, 1)

    many(300)
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    many(3000)
    gc.collect()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


@pytest.mark.parametrize("limits", [Limits(3, 2), Limits(-1), Limits(1, -1), Limits(65_537)])
def test_impossible_sizes_are_refused(store: Store, limits: Limits) -> None:
    with pytest.raises(UsageError, match="a memory can not have"):
        Memory(store, MemoryType(limits))
    if limits.min < 65_537:
        with pytest.raises(UsageError, match="a table can not have"):
            Table(store, TableType(ValType.FUNCREF, limits))


def test_tables(store: Store) -> None:
    table = Table(store, TableType(ValType.EXTERNREF, Limits(2, 5)), init="x")
    assert [table[0], table[1], len(table)] == ["x", "x", 2]
    assert table.grow(2, "y") == 2
    assert table[3] == "y"
    table[0] = None
    assert table[0] is None
    with pytest.raises(LimitExceeded):
        table.grow(2)
    with pytest.raises(IndexError, match="element 4 is not inside the table of 4"):
        _ = table[4]
    with pytest.raises(IndexError):
        table[-1] = "z"
    with pytest.raises(LimitExceeded):
        Table(store, TableType(ValType.FUNCREF, Limits(0xFFFFFFFF)))
