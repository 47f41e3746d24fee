"""Instances of different modes in one store: calls, traps, exceptions, jumps between them."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
import wasmtime

from wasinn_runtime import (
    Config,
    Engine,
    Exhaustion,
    Instance,
    Limits,
    Module,
    Store,
    Table,
    TableType,
    Tag,
    Trap,
    ValType,
)
from wasinn_runtime.engines.modes import MODES

MANY = 300_000
PAIRS = [*permutations(MODES, 2)]
KINDS = "i64 f64 i32 f32 v128 " * 4

# Each instance has the other's functions in the table: 0 and 1 are the first's, 2 and 3 the next's.
SOURCE = f"""(module
  (import "" "table" (table 6 funcref))
  (import "" "tag" (tag $oops (param i64)))
  (type $wide (func (param i32 {KINDS}) (result {KINDS})))
  (type $narrow (func (param i32) (result {KINDS})))
  (type $depth (func (param i64) (result i64)))
  (memory 1) (data (i32.const 0) "LETTER")
  (func $echo (type $wide)
    {" ".join(f"(local.get {i})" for i in range(1, 21))})
  (func $jump (type $narrow)
    (if (result {KINDS}) (i32.eqz (local.get 0))
      (then
        (i64.extend_i32_u (i32.load8_u (i32.const 0))) (f64.const 2) (i32.const 3) (f32.const 4)
        (v128.const i64x2 5 6) (i64.const 7) (f64.const 8) (i32.const 9) (f32.const 10)
        (v128.const i64x2 11 12) (i64.const 13) (f64.const 14) (i32.const 15) (f32.const 16)
        (v128.const i64x2 17 18) (i64.const 19) (f64.const 20) (i32.const 21) (f32.const 22)
        (v128.const i64x2 23 24))
      (else
        (i32.sub (local.get 0) (i32.const 1))
        (i64.const 1) (f64.const 2) (i32.const 3) (f32.const 4) (v128.const i64x2 5 6)
        (i64.const 7) (f64.const 8) (i32.const 9) (f32.const 10) (v128.const i64x2 11 12)
        (i64.const 13) (f64.const 14) (i32.const 15) (f32.const 16) (v128.const i64x2 17 18)
        (i64.const 19) (f64.const 20) (i32.const 21) (f32.const 22) (v128.const i64x2 23 24)
        (return_call_indirect (type $wide) (i32.const WIDE)))))
  (func $through (type $wide) (return_call_indirect (type $narrow) (local.get 0) (i32.const JUMP)))
  (func $deep (type $depth)
    (i64.add (i64.const 1) (call_indirect (type $depth) (local.get 0) (i32.const DEEP))))
  (elem (i32.const OWN) $jump $through $deep)
  (func (export "echo") (type $wide) (local.get 0)
    {" ".join(f"(local.get {i})" for i in range(1, 21))}
    (call $echo))
  (func (export "jump") (type $narrow) (call $jump (local.get 0)))
  (func (export "deep") (type $depth) (call $deep (local.get 0)))
  (func (export "trap") (unreachable))
  (func (export "throw") (param i64) (throw $oops (local.get 0))))"""

CALLER = f"""(module
  (import "" "echo" (func $echo (param i32 {KINDS}) (result {KINDS})))
  (import "" "trap" (func $trap))
  (import "" "throw" (func $throw (param i64)))
  (import "" "tag" (tag $oops (param i64)))
  (func (export "echo") (param i32 {KINDS}) (result {KINDS})
    {" ".join(f"(local.get {i})" for i in range(21))} (call $echo))
  (func (export "trap") (call $trap))
  (func (export "catch") (param i64) (result i64)
    (block $caught (result i64)
      (try_table (catch $oops $caught) (call $throw (local.get 0)))
      (i64.const -1))))"""
TAG = '(module (tag (export "tag") (param i64)))'


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Engine]:
    directory: Path = tmp_path_factory.mktemp("cache")
    return {mode: Engine(Config(mode=mode, cache_dir=directory)) for mode in MODES}


@pytest.fixture(params=PAIRS, ids=["-".join(pair) for pair in PAIRS])
def pair(request: pytest.FixtureRequest, engines: dict[str, Engine]) -> tuple[Engine, Engine]:
    first, second = request.param
    return engines[first], engines[second]


def tag_of(store: Store, engine: Engine) -> Tag:
    tag = Instance(store, Module(engine, wasmtime.wat2wasm(TAG)), []).exports["tag"]
    assert isinstance(tag, Tag)
    return tag


def two(pair: tuple[Engine, Engine]) -> tuple[Instance, Instance]:
    store = Store(pair[0])
    table = Table(store, TableType(ValType.FUNCREF, Limits(6)))
    tag = tag_of(store, pair[0])

    def make(engine: Engine, letter: str, own: int, other: int) -> Instance:
        text = SOURCE.replace("LETTER", letter).replace("OWN", str(own))
        text = text.replace("WIDE", str(other + 1)).replace("JUMP", str(other))
        text = text.replace("DEEP", str(other + 2))
        return Instance(store, Module(engine, wasmtime.wat2wasm(text)), [table, tag])

    return make(pair[0], "A", 0, 3), make(pair[1], "B", 3, 0)


def test_every_kind_of_value_traps_and_exceptions(pair: tuple[Engine, Engine]) -> None:
    callee, _ = two(pair)
    store = callee.store
    exports = callee.exports
    tag = tag_of(store, pair[1])
    thrower = """(module (import "" "tag" (tag $oops (param i64)))
      (func (export "throw") (param i64) (throw $oops (local.get 0))))"""
    throw = Instance(store, Module(pair[0], wasmtime.wat2wasm(thrower)), [tag]).exports.throw
    imports = [exports.echo, exports.trap, throw, tag]
    caller = Instance(store, Module(pair[1], wasmtime.wat2wasm(CALLER)), imports)
    values = [v for n in range(4) for v in (n - 2, n + 0.25, -n, n + 0.5, (n + 1) << 100)]
    assert [*caller.exports.echo(0, *values)] == [*exports.echo(0, *values)] == values
    assert caller.exports.catch(2**40) == 2**40
    with pytest.raises(Trap, match="unreachable"):
        caller.exports.trap()


def test_jumps_to_each_other_take_no_stack(pair: tuple[Engine, Engine]) -> None:
    """More of them than there is stack for, with more arguments and results than registers."""
    a, b = two(pair)
    rest = [2.0, 3, 4.0, 6 << 64 | 5, 7, 8.0, 9, 10.0, 12 << 64 | 11]
    rest += [13, 14.0, 15, 16.0, 18 << 64 | 17, 19, 20.0, 21, 22.0, 24 << 64 | 23]
    for instance, letter in ((a, "A"), (b, "B")):
        assert [*instance.exports.jump(MANY)] == [ord(letter), *rest]


def test_calls_of_each_other_end_in_exhaustion(pair: tuple[Engine, Engine]) -> None:
    for instance in two(pair):
        with pytest.raises(Exhaustion):
            instance.exports.deep(1)
