"""Frames of the fast interpreter: calls between instances and modes, exhaustion, unwinding."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

from wasinn_runtime import (
    Config,
    Engine,
    Exhaustion,
    Func,
    FuncType,
    Instance,
    Module,
    Store,
    Trap,
    ValType,
    WasmException,
)
from wasinn_runtime.abi.layout import StoreContext

I32 = ValType.I32
_STACKS = (StoreContext.VALUE_SP // 8, StoreContext.CONTROL_SP // 8, StoreContext.CURRENT // 8)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(Config(mode="fast-interp", cache_dir=tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def compiling(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(Config(mode="llvm-jit", cache_dir=tmp_path_factory.mktemp("cache")))


def build(engine: Engine, store: Store, text: str, *imports: object) -> Instance:
    module = Module(engine, wasmtime.wat2wasm(text))
    return Instance(store, module, imports)  # type: ignore[arg-type]


def exported(instance: Instance, name: str) -> Func:
    found = instance.exports[name]
    assert isinstance(found, Func)
    return found


def stacks(store: Store) -> list[int]:
    return [store._context[cell] for cell in _STACKS]


def test_recursion_without_end_ends(engine: Engine) -> None:
    store = Store(engine)
    instance = build(
        engine,
        store,
        """(module (func $none (export "none") (call $none))
          (func $some (export "some") (param i64) (result i64)
            (i64.add (call $some (i64.add (local.get 0) (i64.const 1))) (local.get 0)))
          (func $much (export "much") (local i64 i64 i64 i64 i64 i64 i64 i64 i64 i64)
            (call $much)))""",
    )
    before = stacks(store)
    for name, arguments in (("none", ()), ("some", (0,)), ("much", ())):
        with pytest.raises(Exhaustion, match=rf"call stack exhausted in function \d \({name}\)"):
            exported(instance, name)(*arguments)
        assert stacks(store) == before


def test_recursion_reaches_deep(engine: Engine) -> None:
    instance = build(
        engine,
        Store(engine),
        """(module (func $sum (export "sum") (param i32) (result i32)
          (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
            (else (i32.add (local.get 0)
              (call $sum (i32.sub (local.get 0) (i32.const 1))))))))""",
    )
    assert exported(instance, "sum")(20_000) == 20_000 * 20_001 // 2


def test_the_message_names_the_function_that_runs(engine: Engine) -> None:
    store = Store(engine)
    instance = build(
        engine,
        store,
        """(module (memory 1)
          (func $load (param i32) (result i32) (i32.load (local.get 0)))
          (func $after (export "after") (param i32) (result i32)
            (drop (call $load (i32.const 0))) (i32.div_u (i32.const 1) (local.get 0)))
          (func (export "inside") (result i32) (call $load (i32.const -1))))""",
    )
    with pytest.raises(Trap, match=r"integer divide by zero in function 1 \(after\)"):
        exported(instance, "after")(0)
    with pytest.raises(Trap, match=r"out of bounds memory access in function 0"):
        exported(instance, "inside")()
    assert exported(instance, "after")(1) == 1


_MEMORY_OF_ITS_OWN = """(module (memory (export "memory") 1) (data (i32.const 8) "{byte}")
  (func (export "read") (param i32) (result i32)
    (i32.load8_u (i32.add (local.get 0) (i32.const 8))))
  (func $trap (export "trap") (param i32) (result i32) (unreachable)))"""
_CALLER = """(module
  (type $t (func (param i32) (result i32)))
  (import "a" "read" (func $a (type $t)))
  (import "b" "read" (func $b (type $t)))
  (memory 1) (data (i32.const 8) "c")
  (table funcref (elem $a $b $own))
  (func $own (type $t) (i32.load8_u (i32.add (local.get 0) (i32.const 8))))
  (func (export "all") (result i32)
    (i32.add (i32.mul (call $a (i32.const 0)) (i32.const 10000))
      (i32.add (i32.mul (call $b (i32.const 0)) (i32.const 100)) (call $own (i32.const 0)))))
  (func (export "one") (param i32) (result i32)
    (i32.add (i32.mul (i32.const 1000) (call_indirect (type $t) (i32.const 0) (local.get 0)))
      (i32.load8_u (i32.const 8)))))"""


@pytest.mark.parametrize("others", ["fast-interp", "llvm-jit"])
def test_each_instance_has_its_memory(engine: Engine, compiling: Engine, others: str) -> None:
    store = Store(engine)
    other = engine if others == "fast-interp" else compiling
    reads = [
        build(other, store, _MEMORY_OF_ITS_OWN.format(byte=byte)).exports["read"] for byte in "ab"
    ]
    caller = build(engine, store, _CALLER, *reads)
    for _ in range(2):
        assert exported(caller, "all")() == 97 * 10000 + 98 * 100 + 99
        for number, byte in enumerate(b"abc"):
            assert exported(caller, "one")(number) == 1000 * byte + 99


def test_compiled_code_calls_interpreted_code(engine: Engine, compiling: Engine) -> None:
    store = Store(engine)
    inner = build(engine, store, _MEMORY_OF_ITS_OWN.format(byte="a"))
    outer = build(compiling, store, _CALLER, inner.exports["read"], inner.exports["trap"])
    before = stacks(store)
    assert exported(outer, "one")(0) == 97_099
    with pytest.raises(Trap, match=r"unreachable in function 1 \(trap\)"):
        exported(outer, "one")(1)
    assert stacks(store) == before


def test_host_functions_call_back(engine: Engine) -> None:
    store = Store(engine)
    depth: list[int] = []

    def host(n: int) -> int:
        depth.append(n)
        below = 0 if n == 0 else exported(instance, "down")(n - 1)
        assert isinstance(below, int)
        return below + (n != 0)

    instance = build(
        engine,
        store,
        """(module (import "h" "h" (func $h (param i32) (result i32)))
          (func (export "down") (param i32) (result i32) (local i32)
            (local.set 1 (i32.mul (local.get 0) (i32.const 2)))
            (i32.add (call $h (local.get 0)) (i32.sub (local.get 1) (local.get 1)))))""",
        Func(store, FuncType((I32,), (I32,)), host),
    )
    assert exported(instance, "down")(10) == 10
    assert depth == [*range(10, -1, -1)]


def test_tail_calls_need_no_stack(engine: Engine) -> None:
    store = Store(engine)
    instance = build(
        engine,
        store,
        """(module (type $t (func (param i32 i32) (result i32)))
          (table funcref (elem $even $odd))
          (func $even (export "even") (type $t)
            (if (i32.eqz (local.get 0)) (then (return (i32.const 1))))
            (return_call $odd (i32.sub (local.get 0) (i32.const 1)) (local.get 1)))
          (func $odd (type $t)
            (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
            (return_call_indirect (type $t)
              (i32.sub (local.get 0) (i32.const 1)) (local.get 1) (i32.const 0))))""",
    )
    assert exported(instance, "even")(300_000, 0) == 1
    assert exported(instance, "even")(300_001, 0) == 0


_THROWS = """(module (tag $e (export "e") (param i32))
  (func $throw (export "throw") (param i32) (throw $e (local.get 0)))
  (func $deep (export "deep") (param i32)
    (if (i32.eqz (local.get 0)) (then (throw $e (i32.const 7))))
    (call $deep (i32.sub (local.get 0) (i32.const 1)))))"""
_CATCHES = """(module (import "t" "e" (tag $e (param i32)))
  (import "t" "deep" (func $deep (param i32)))
  (func (export "catch") (param i32) (result i32)
    (block $h (result i32)
      (try_table (catch $e $h) (call $deep (local.get 0)))
      (i32.const -1)))
  (func (export "loop") (param i32) (result i32) (local i32)
    (loop $l
      (local.set 1 (i32.add (local.get 1)
        (block $h (result i32)
          (try_table (catch $e $h) (call $deep (i32.const 3)))
          (i32.const 0))))
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1)))"""


@pytest.mark.parametrize("catches", ["fast-interp", "llvm-jit"])
@pytest.mark.parametrize("throws", ["fast-interp", "llvm-jit"])
def test_exceptions_cross_modes(
    engine: Engine, compiling: Engine, throws: str, catches: str
) -> None:
    engines = {"fast-interp": engine, "llvm-jit": compiling}
    store = Store(engine)
    inner = build(engines[throws], store, _THROWS)
    # An interpreter in between, whichever modes throw and catch.
    between = build(
        engine,
        store,
        """(module (import "t" "deep" (func $deep (param i32)))
          (func (export "deep") (param i32) (call $deep (local.get 0))))""",
        inner.exports["deep"],
    )
    outer = build(engines[catches], store, _CATCHES, inner.exports["e"], between.exports["deep"])
    before = stacks(store)
    assert exported(outer, "catch")(0) == 7
    assert exported(outer, "catch")(50) == 7
    # Were the stacks not put back at each catch, this would exhaust them.
    assert exported(outer, "loop")(60_000) == 7 * 60_000
    with pytest.raises(WasmException):
        exported(inner, "throw")(1)
    assert stacks(store) == before


def test_the_interpreter_is_kept(
    tmp_path: Path, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    build(engine, Store(engine), "(module)")
    capsys.readouterr()
    build(Engine(Config(mode="fast-interp", cache_dir=tmp_path)), Store(engine), "(module)")
    assert capsys.readouterr().err == ""  # nothing is made twice in a process
