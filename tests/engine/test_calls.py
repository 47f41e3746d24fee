"""Calls between Python and guests: values, host functions, exceptions, threads."""

from __future__ import annotations

import asyncio
import math
import struct
import threading
from collections.abc import Callable

import numpy as np
import pytest

from wasinn_runtime import (
    Caller,
    Func,
    FuncType,
    Global,
    GlobalType,
    HostFunc,
    Instance,
    Linker,
    Memory,
    Module,
    Store,
    Table,
    UsageError,
    ValType,
)
from wasinn_runtime.errors import ValueRangeError

I32, I64, F32, F64 = ValType.I32, ValType.I64, ValType.F32, ValType.F64
Build = Callable[..., Instance]

IDENTITIES = """(module
  (func (export "i32") (param i32) (result i32) local.get 0)
  (func (export "i64") (param i64) (result i64) local.get 0)
  (func (export "f32") (param f32) (result f32) local.get 0)
  (func (export "f64") (param f64) (result f64) local.get 0)
  (func (export "extern") (param externref) (result externref) local.get 0)
  (func (export "func") (param funcref) (result funcref) local.get 0)
  (func (export "none"))
  (func (export "many") (param i32 f64 i64) (result i64 f64 i32)
    local.get 2 local.get 1 local.get 0))"""


@pytest.mark.parametrize(
    ("name", "given", "back"),
    [
        ("i32", 7, 7),
        ("i32", -1, -1),
        ("i32", 0xFFFFFFFF, -1),
        ("i32", -(2**31), -(2**31)),
        ("i32", True, 1),
        ("i32", np.int64(5), 5),
        ("i64", 2**64 - 1, -1),
        ("i64", -(2**63), -(2**63)),
        ("f32", 1.5, 1.5),
        ("f32", 0.1, struct.unpack("<f", struct.pack("<f", 0.1))[0]),
        ("f32", 1e300, math.inf),
        ("f32", -1e300, -math.inf),
        ("f64", 0.1, 0.1),
        ("f64", 3, 3.0),
        ("f64", np.float32(0.5), 0.5),
    ],
)
def test_numbers_round_trip(build: Build, name: str, given: object, back: object) -> None:
    result = getattr(build(IDENTITIES).exports, name)(given)
    assert result == back
    assert type(result) is type(back)


def test_nan_keeps_its_bits_as_f64(build: Build) -> None:
    (nan,) = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_1234))
    back = build(IDENTITIES).exports.f64(nan)
    assert struct.pack("<d", back) == struct.pack("<d", nan)


def test_references_round_trip(build: Build) -> None:
    exports = build(IDENTITIES).exports
    thing = object()
    assert exports.extern(thing) is thing
    assert exports.extern(None) is None
    assert exports.func(None) is None
    back = exports.func(exports.i32)
    assert back == exports.i32
    assert back(41) == 41


def test_no_result_and_several(build: Build) -> None:
    exports = build(IDENTITIES).exports
    assert exports.none() is None
    assert exports.many(1, 2.5, 3) == (3, 2.5, 1)


@pytest.mark.parametrize("count", [31, 32, 33, 200])
def test_many_parameters_and_results(build: Build, count: int) -> None:
    types = " ".join(["i64"] * count)
    gets = " ".join(f"local.get {i}" for i in reversed(range(count)))
    wat = f'(module (func (export "turn") (param {types}) (result {types}) {gets}))'
    turned = build(wat).exports.turn(*range(count))
    assert turned == tuple(reversed(range(count)))


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("i32", (), "expected 1 arguments"),
        ("i32", (1, 2), "got 2"),
        ("i32", (2**32,), "4294967296 does not fit i32"),
        ("i32", (-(2**31) - 1,), "does not fit i32"),
        ("i64", (2**64,), "does not fit i64"),
        ("i32", (1.0,), "expected int for i32, got float"),
        ("i32", ("1",), "expected int for i32, got str"),
        ("f64", ("x",), "expected float for f64, got str"),
        ("func", (print,), "expected Func for funcref"),
    ],
)
def test_wrong_arguments_say_so(
    build: Build, name: str, args: tuple[object, ...], message: str
) -> None:
    with pytest.raises(ValueRangeError, match=message):
        getattr(build(IDENTITIES).exports, name)(*args)


CALLBACK = """(module
  (import "env" "f" (func $f (param i32 i64 f32 f64) (result i32)))
  (memory (export "memory") 1)
  (func (export "call") (param i32 i64 f32 f64) (result i32)
    (call $f (local.get 0) (local.get 1) (local.get 2) (local.get 3))))"""
CALLBACK_TYPE = FuncType((I32, I64, F32, F64), (I32,))


def test_host_function_gets_signed_values(build: Build, store: Store) -> None:
    seen: list[tuple[object, ...]] = []

    def f(*args: object) -> int:
        seen.append(args)
        return -5

    call = build(CALLBACK, Func(store, CALLBACK_TYPE, f)).exports.call
    assert call(-1, -2, 0.5, 0.25) == -5
    assert seen == [(-1, -2, 0.5, 0.25)]


def test_unsigned_host_function_and_its_caller(build: Build) -> None:
    seen: list[object] = []

    def f(caller: Caller, a: int, b: int, c: float, d: float) -> int:
        assert caller.memory is not None
        seen.extend((a, b, c, d, caller.memory.byte_length, caller.get("nothing")))
        return 0xFFFFFFFF

    item = HostFunc(CALLBACK_TYPE, f, access_caller=True, unsigned=True)
    assert build(CALLBACK, item).exports.call(-1, -2, 0.5, 0.25) == -1
    assert seen == [0xFFFFFFFF, 2**64 - 2, 0.5, 0.25, 65536, None]


@pytest.mark.parametrize("wrong", [None, "x", 2**32, (1, 2), 1.5])
def test_wrong_host_result_names_the_function(build: Build, wrong: object) -> None:
    item = HostFunc(CALLBACK_TYPE, lambda *_: wrong)
    with pytest.raises(ValueRangeError):
        build(CALLBACK, item).exports.call(1, 2, 3, 4)


def test_several_results_from_the_host(build: Build) -> None:
    wat = """(module (import "env" "f" (func $f (result i32 f64 i64)))
      (func (export "g") (result i32 f64 i64) (call $f)))"""
    item = HostFunc(FuncType((), (I32, F64, I64)), lambda: (1, 2.5, -3))
    assert build(wat, item).exports.g() == (1, 2.5, -3)


@pytest.mark.parametrize(
    "raised", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), MemoryError(), GeneratorExit()]
)
def test_an_exception_reaches_the_caller_as_the_same_object(
    build: Build, raised: BaseException
) -> None:
    failing = True

    def f(*_: object) -> int:
        if failing:
            raise raised
        return 9

    call = build(CALLBACK, HostFunc(CALLBACK_TYPE, f)).exports.call
    with pytest.raises(type(raised)) as caught:
        call(1, 2, 3, 4)
    assert caught.value is raised
    assert any(entry.name == "f" for entry in caught.traceback)
    failing = False
    assert call(1, 2, 3, 4) == 9


def test_exception_through_nested_guests(build: Build, store: Store) -> None:
    """Python -> guest -> Python -> guest -> Python raises, and every level can be used again."""
    boom = RuntimeError("innermost")
    depth = 5

    def f(n: int, *_: object) -> int:
        if n == 0:
            raise boom
        return int(instance.exports.call(n - 1, 0, 0, 0))

    instance = build(CALLBACK, HostFunc(CALLBACK_TYPE, f))
    for _ in range(3):
        with pytest.raises(RuntimeError) as caught:
            instance.exports.call(depth, 0, 0, 0)
        assert caught.value is boom


def test_exception_caught_half_way(build: Build) -> None:
    """A host function may catch what a nested guest call raised; the outer guest goes on."""

    def f(n: int, *_: object) -> int:
        if n == 0:
            raise KeyError
        try:
            instance.exports.call(n - 1, 0, 0, 0)
        except KeyError:
            return 100 + n
        raise AssertionError

    instance = build(CALLBACK, HostFunc(CALLBACK_TYPE, f))
    assert instance.exports.call(1, 0, 0, 0) == 101


def test_each_thread_gets_its_own_exception(engine, build: Build) -> None:  # type: ignore[no-untyped-def]
    import wasmtime

    module = Module(engine, wasmtime.wat2wasm(CALLBACK))
    barrier = threading.Barrier(4)
    outcomes: dict[int, object] = {}

    def work(number: int) -> None:
        mine = ValueError(number)

        def f(*_: object) -> int:
            barrier.wait(10)
            raise mine

        instance = Instance(Store(engine), module, [HostFunc(CALLBACK_TYPE, f)])
        try:
            instance.exports.call(1, 2, 3, 4)
        except ValueError as error:
            outcomes[number] = error is mine

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert outcomes == dict.fromkeys(range(4), True)


def test_a_store_serves_one_thread_at_a_time(build: Build) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def f(*_: object) -> int:
        inside.set()
        go_on.wait(10)
        return 1

    instance = build(CALLBACK, HostFunc(CALLBACK_TYPE, f))
    thread = threading.Thread(target=instance.exports.call, args=(1, 2, 3, 4))
    thread.start()
    assert inside.wait(10)
    try:
        with pytest.raises(UsageError, match="in use by another thread"):
            instance.exports.call(1, 2, 3, 4)
    finally:
        go_on.set()
        thread.join(10)
    assert instance.exports.call(1, 2, 3, 4) == 1


def test_asyncio_is_not_blocked(build: Build) -> None:
    started = threading.Event()

    def f(*_: object) -> int:
        started.wait(10)
        return 3

    call = build(CALLBACK, HostFunc(CALLBACK_TYPE, f)).exports.call

    async def main() -> object:
        assert isinstance(call, Func)
        task = asyncio.create_task(call.call_async(1, 2, 3, 4))
        await asyncio.sleep(0.05)
        started.set()  # only reached because the loop is free
        return await task

    assert asyncio.run(main()) == 3


def test_imports_of_every_kind(engine, store: Store) -> None:  # type: ignore[no-untyped-def]
    import wasmtime

    from wasinn_runtime import Limits, MemoryType, TableType

    wat = """(module
      (import "m" "memory" (memory 1 2))
      (import "m" "table" (table 2 funcref))
      (import "m" "counter" (global $g (mut i32)))
      (import "m" "constant" (global $c i64))
      (import "m" "f" (func $f (result i32)))
      (elem declare func $f)
      (func (export "work") (result i64)
        (i32.store (i32.const 0) (i32.const 77))
        (global.set $g (i32.add (global.get $g) (i32.const 1)))
        (table.set (i32.const 1) (ref.func $f))
        (i64.add (global.get $c) (i64.extend_i32_s (call_indirect (result i32) (i32.const 1))))))"""
    memory = Memory(store, MemoryType(Limits(1, 2)))
    table = Table(store, TableType(ValType.FUNCREF, Limits(2)))
    counter = Global(store, GlobalType(I32, mutable=True), 4)
    constant = Global(store, GlobalType(I64), 1000)
    linker = Linker(engine)
    linker.define("m", "memory", memory)
    linker.define("m", "table", table)
    linker.define("m", "counter", counter)
    linker.define("m", "constant", constant)
    linker.define_func("m", "f", FuncType((), (I32,)), lambda: 5)
    instance = linker.instantiate(store, Module(engine, wasmtime.wat2wasm(wat)))
    assert instance.exports.work() == 1005
    assert memory.read_u32(0) == 77
    assert counter.value == 5
    stored = table[1]
    assert isinstance(stored, Func)
    assert stored() == 5
    assert table[0] is None


def test_exports_are_a_mapping_with_attributes(build: Build) -> None:
    exports = build(IDENTITIES).exports
    assert list(exports) == ["i32", "i64", "f32", "f64", "extern", "func", "none", "many"]
    assert len(exports) == 8
    assert "i32" in exports
    assert exports["i32"] is exports.i32
    assert "many" in dir(exports)
    with pytest.raises(AttributeError, match="exports no 'sum'; it exports i32, i64"):
        _ = exports.sum


def test_an_imported_function_is_the_same_by_whatever_way(build: Build, store: Store) -> None:
    given = Func(store, FuncType(), lambda: None)
    exports = build(
        """(module (import "env" "f" (func $f)) (export "f" (func $f))
          (func (export "reference") (result funcref) (ref.func $f)))""",
        given,
    ).exports
    assert exports.f == given == exports.reference()
    assert len({given, exports.f, exports.reference()}) == 1
    assert given != Func(store, FuncType(), lambda: None)


def test_what_can_not_be_an_import_is_named(build: Build) -> None:
    with pytest.raises(UsageError, match=r"import 'env' 'f' needs a HostFunc.*, got int: 42"):
        build('(module (import "env" "f" (func)))', 42)
