"""Linking: what is missing or does not match is said, with what would fit."""

from __future__ import annotations

import pytest
import wasmtime

from wasinn_runtime import (
    Engine,
    Func,
    FuncType,
    HostFunc,
    Instance,
    Linker,
    LinkError,
    Module,
    Store,
    UsageError,
    ValType,
)

NEEDS = wasmtime.wat2wasm(
    """(module (import "env" "print" (func (param i32)))
      (import "env" "prnit" (func)) (import "other" "x" (memory 1)))"""
)
PRINT = HostFunc(FuncType((ValType.I32,), ()), print)


def test_missing_imports_are_all_listed(engine: Engine, store: Store) -> None:
    linker = Linker(engine)
    linker.define("env", "print", PRINT)
    with pytest.raises(LinkError) as caught:
        linker.instantiate(store, Module(engine, NEEDS, "app.wasm"))
    assert str(caught.value).splitlines() == [
        "unknown import: app.wasm needs 2 definitions that nobody gives:",
        "  'env' 'prnit' (did you mean print?)",
        "  'other' 'x' (modules there are: env)",
    ]


def test_wrong_kind_and_type(engine: Engine, store: Store) -> None:
    module = Module(
        engine, wasmtime.wat2wasm('(module (import "env" "f" (func (param i32) (result i32))))')
    )
    with pytest.raises(
        LinkError, match=r"expected func \[i32\] -> \[i32\], got func \[i32\] -> \[\]"
    ):
        Instance(store, module, [PRINT])
    with pytest.raises(LinkError, match="1 imports, 0 were given"):
        Instance(store, module)


def test_each_instance_is_checked_for_itself(engine: Engine) -> None:
    wasm = wasmtime.wat2wasm(
        """(module (import "env" "f" (func $f (param i32) (result i32)))
          (func (export "g") (param i32) (result i32) (call $f (local.get 0))))"""
    )
    module = Module(engine, wasm)
    type = FuncType((ValType.I32,), (ValType.I32,))
    equal = FuncType((ValType.I32,), (ValType.I32,))
    other = FuncType((ValType.I64,), (ValType.I32,))

    def made(item: HostFunc | Func | None, store: Store) -> object:
        return Instance(store, module, [item] if item else []).exports.g(20)

    for _ in range(2):
        assert made(HostFunc(type, lambda x: x + 1), Store(engine)) == 21
        with pytest.raises(LinkError, match=r"expected func \[i32\] -> \[i32\], got func \[i64\]"):
            made(HostFunc(other, lambda x: x), Store(engine))
        assert made(HostFunc(equal, lambda x: x + 2), Store(engine)) == 22
        store = Store(engine)
        assert made(Func(store, type, lambda x: x + 3), store) == 23
        with pytest.raises(LinkError, match="1 imports, 0 were given"):
            made(None, Store(engine))


def test_stores_are_separate(engine: Engine, store: Store) -> None:
    provider = Instance(
        Store(engine), Module(engine, wasmtime.wat2wasm('(module (func (export "f")))'))
    )
    module = Module(engine, wasmtime.wat2wasm('(module (import "m" "f" (func)))'))
    with pytest.raises(UsageError, match="belongs to another store"):
        Instance(store, module, [provider.exports.f])


def test_twice_defined(engine: Engine) -> None:
    linker = Linker(engine)
    linker.define("env", "print", PRINT)
    with pytest.raises(UsageError, match="defined twice"):
        linker.define("env", "print", PRINT)
    linker.allow_shadowing = True
    linker.define("env", "print", PRINT)


def test_instance_to_instance(engine: Engine, store: Store) -> None:
    one = Instance(
        store,
        Module(
            engine,
            wasmtime.wat2wasm(
                """(module (memory (export "memory") 1)
                  (global (export "g") (mut i32) (i32.const 3))
                  (table (export "t") 1 funcref)
                  (func (export "f") (param i32) (result i32) (i32.load8_u (local.get 0))))"""
            ),
        ),
    )
    linker = Linker(engine)
    linker.define_instance("one", one)
    two = linker.instantiate(
        store,
        Module(
            engine,
            wasmtime.wat2wasm(
                """(module (import "one" "memory" (memory 1))
                  (import "one" "g" (global $g (mut i32)))
                  (import "one" "f" (func $f (param i32) (result i32)))
                  (import "one" "t" (table 1 funcref))
                  (elem (i32.const 0) $f)
                  (func (export "run") (result i32)
                    (i32.store8 (i32.const 5) (i32.const 40))
                    (global.set $g (i32.const 2))
                    (i32.add (call $f (i32.const 5))
                      (call_indirect (param i32) (result i32) (i32.const 9) (i32.const 0)))))"""
            ),
        ),
    )
    assert two.exports.run() == 40
    assert one.exports.g.value == 2
