"""Python functions called by guests: what arrives, what may come back, and how deep it may nest."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest
import wasmtime

from wasinn_runtime import (
    Engine,
    Func,
    FuncType,
    HostFunc,
    Instance,
    Module,
    Store,
    ValType,
)
from wasinn_runtime.errors import ValueRangeError

Build = Callable[..., Instance]
I32, I64, F32, F64 = ValType.I32, ValType.I64, ValType.F32, ValType.F64
BY_NAME = {"i32": I32, "i64": I64, "f32": F32, "f64": F64, "externref": ValType.EXTERNREF}


def passing(params: str, results: str, body: str = "") -> str:
    """A guest whose ``run`` gives its own arguments, or those of ``body``, to the import."""
    count = len(params.split())
    given = body or " ".join(f"(local.get {i})" for i in range(count))
    return f"""(module (import "env" "host" (func $host (param {params}) (result {results})))
      (func (export "run") (param {params}) (result {results}) (call $host {given})))"""


def host(params: str, results: str, function: Callable[..., object], **how: bool) -> HostFunc:
    def types(names: str) -> tuple[ValType, ...]:
        return tuple(BY_NAME[name] for name in names.split())

    return HostFunc(FuncType(types(params), types(results)), function, **how)


@pytest.mark.parametrize(
    ("ty", "given", "signed", "unsigned"),
    [
        ("i32", 5, 5, 5),
        ("i32", -1, -1, 0xFFFFFFFF),
        ("i32", 0x80000000, -0x80000000, 0x80000000),
        ("i64", -2, -2, (1 << 64) - 2),
        ("i64", 1 << 40, 1 << 40, 1 << 40),
        ("f32", 1.5, 1.5, 1.5),
        ("f64", -0.1, -0.1, -0.1),
    ],
)
def test_one_number_there_and_back(
    build: Build, ty: str, given: float, signed: float, unsigned: float
) -> None:
    for is_unsigned, expected in ((False, signed), (True, unsigned)):
        seen: list[object] = []

        def function(value: object, seen: list[object] = seen) -> object:
            seen.append(value)
            return value

        guest = build(passing(ty, ty), host(ty, ty, function, unsigned=is_unsigned))
        assert guest.exports.run(given) == signed
        assert seen == [expected]
        assert type(seen[0]) is type(expected)


def test_many_numbers_of_all_types(build: Build) -> None:
    params = "i32 i64 f32 f64 i32 i32 i64 f64 f32 i32 i32 i32"
    values = (-1, -(1 << 63), 0.5, math.pi, 1, 2, 3, -0.0, math.inf, 7, 8, -9)
    seen: list[tuple[object, ...]] = []
    guest = build(passing(params, ""), host(params, "", lambda *got: seen.append(got)))
    assert guest.exports.run(*values) is None
    assert seen == [values]


def test_what_a_narrow_number_leaves_of_its_slot_does_not_arrive(build: Build) -> None:
    wat = """(module (import "env" "host" (func $host (param i32 f32) (result i32)))
      (func (export "run") (param i64) (result i32)
        (call $host (i32.wrap_i64 (local.get 0))
          (f32.reinterpret_i32 (i32.wrap_i64 (i64.shl (local.get 0) (i64.const 8)))))))"""
    for unsigned in (False, True):
        seen: list[object] = []

        def function(a: int, b: float, seen: list[object] = seen) -> int:
            seen.extend((a, b))
            return 3

        guest = build(wat, host("i32 f32", "i32", function, unsigned=unsigned))
        assert guest.exports.run(0x1234_5678_0000_0005) == 3
        assert seen == [5, 1.793662034335766e-42]


@pytest.mark.parametrize(
    ("ty", "returned", "expected"),
    [
        ("i32", True, 1),
        ("i32", 0xFFFFFFFF, -1),
        ("i64", (1 << 64) - 1, -1),
        ("f64", 3, 3.0),
        ("f32", 1e300, math.inf),
        ("f32", 0.1, 0.10000000149011612),
    ],
)
def test_results_that_fit(build: Build, ty: str, returned: object, expected: object) -> None:
    guest = build(passing("", ty), host("", ty, lambda: returned))
    assert guest.exports.run() == expected


@pytest.mark.parametrize(
    ("results", "returned", "message"),
    [
        ("i32", None, "expected int for i32, got NoneType"),
        ("i32", "7", "expected int for i32, got str"),
        ("i32", 1.0, "expected int for i32, got float"),
        ("i32", 1 << 32, "4294967296 does not fit i32"),
        ("i64", -(1 << 63) - 1, "does not fit i64"),
        ("f64", "x", "expected float for f64, got str"),
        ("", 5, "env.host returned 5, its type has no results"),
        ("i32 i32", 5, "env.host returned 5, expected 2 results"),
        ("i32 i32", (1, 2, 3), "expected 2 results"),
    ],
)
def test_results_that_do_not_fit(
    build: Build, results: str, returned: object, message: str
) -> None:
    guest = build(passing("", results), host("", results, lambda: returned))
    with pytest.raises(ValueRangeError, match=message):
        guest.exports.run()


def test_several_results_and_references(build: Build) -> None:
    thing = object()
    params, results = "externref i32", "f64 externref i32"
    guest = build(
        passing(params, results),
        host(params, results, lambda ref, n: (n / 2, ref, n), unsigned=True),
    )
    assert guest.exports.run(thing, -1) == (0xFFFFFFFF / 2, thing, -1)


def test_the_same_exception_comes_out(build: Build) -> None:
    error = LookupError("mine")

    def fail(value: int) -> int:
        raise error

    guest = build(passing("i32", "i32"), host("i32", "i32", fail))
    for _ in range(3):
        with pytest.raises(LookupError) as caught:
            guest.exports.run(1)
        assert caught.value is error


def test_calls_nest(build: Build) -> None:
    """Every level has slots of its own, with arguments that must survive the levels below."""
    guest: Instance

    def down(depth: int, mark: int) -> int:
        below = guest.exports.run(depth - 1, mark * 3) if depth else 0
        return below + mark + depth

    wat = """(module (import "env" "host" (func $host (param i32 i64) (result i64)))
      (func (export "run") (param i32 i64) (result i64)
        (i64.add (call $host (local.get 0) (local.get 1))
          (i64.sub (local.get 1) (local.get 1)))))"""
    guest = build(wat, host("i32 i64", "i64", down))
    assert guest.exports.run(20, 1) == sum(3**i for i in range(21)) + sum(range(21))


def test_threads_with_stores_of_their_own(engine: Engine) -> None:
    module = Module(engine, wasmtime.wat2wasm(passing("i32 i32", "i32")))
    add = host("i32 i32", "i32", lambda a, b: a + b)
    wrong: list[object] = []

    def work(number: int) -> None:
        run = Instance(Store(engine), module, [add]).exports["run"]
        assert isinstance(run, Func)
        for i in range(3000):
            if run(number, i) != number + i:
                wrong.append((number, i))

    threads = [threading.Thread(target=work, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_an_imported_function_by_reference(engine: Engine) -> None:
    wat = """(module (import "env" "host" (func $host (param i32) (result i32)))
      (table 2 funcref) (elem (i32.const 0) $host $twice)
      (type $t (func (param i32) (result i32)))
      (func $twice (type $t) (i32.mul (local.get 0) (i32.const 2)))
      (export "host" (func $host))
      (func (export "run") (param i32 i32) (result i32)
        (call_indirect (type $t) (local.get 1) (local.get 0))))"""
    module = Module(engine, wasmtime.wat2wasm(wat))
    for step in (1, 10):
        store = Store(engine)
        guest = Instance(store, module, [host("i32", "i32", lambda n, step=step: n + step)])
        assert guest.exports.run(0, 5) == 5 + step
        assert guest.exports.run(1, 5) == 10
        assert guest.exports.host(1) == 1 + step
