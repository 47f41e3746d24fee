"""Exceptions: through frames, tries, instances, Python and back; their memory; traps are none."""

from __future__ import annotations

import resource
from collections.abc import Callable

import pytest
import wasmtime

from tests.engine.needs import needs
from wasinn_runtime import (
    Engine,
    Exhaustion,
    ExnRef,
    Func,
    FuncType,
    Instance,
    Interrupted,
    LimitExceeded,
    Module,
    Store,
    Tag,
    Trap,
    UsageError,
    ValType,
    WasmException,
)

Build = Callable[..., Instance]
I32, I64 = ValType.I32, ValType.I64


@pytest.fixture(autouse=True)
def has_exceptions(engine: Engine) -> None:
    needs(engine, "exceptions")


WAT = """
(module
  (tag $pair (export "pair") (param i32 i64)) (tag $empty)
  (tag $many (param {many}))
  (global $kept (mut exnref) (ref.null exn))
  (table $t 4 exnref)
  (func $throw (param i32)
    (if (i32.eqz (local.get 0)) (then (throw $empty)))
    (throw $pair (local.get 0) (i64.const -7)))
  (func $deep (param i32 i32)
    (if (i32.eqz (local.get 1)) (then (call $throw (local.get 0)) (return)))
    (call $deep (local.get 0) (i32.sub (local.get 1) (i32.const 1))))
  ;; what catches: 1 $pair, 2 anything else
  (func (export "which") (param i32 i32) (result i32 i64)
    (block $any
      (block $p (result i32 i64)
        (try_table (catch $pair $p) (catch_all $any)
          (call $deep (local.get 0) (local.get 1)))
        (return (i32.const 0) (i64.const 0)))
      (return))
    (i32.const 2) (i64.const 2))
  (func (export "escape") (param i32) (call $deep (local.get 0) (i32.const 3)))
  ;; the inner try does not know the tag, the outer one does
  (func (export "outer") (result i32)
    (block $p (result i32 i64)
      (try_table (result i32 i64) (catch $pair $p)
        (block $e
          (try_table (catch $empty $e) (call $throw (i32.const 5))))
        (unreachable)))
    (drop))
  (func (export "keep") (param i32)
    (global.set $kept (block $r (result exnref)
      (try_table (result exnref) (catch_all_ref $r) (call $throw (local.get 0)) (unreachable)))))
  (func (export "again") (throw_ref (global.get $kept)))
  (func (export "hand_over") (result exnref) (global.get $kept))
  (func (export "take") (param exnref) (throw_ref (local.get 0)))
  (func (export "churn") (param i32) (result i32)
    (loop $l
      (table.set $t (i32.and (local.get 0) (i32.const 3)) (block $r (result exnref)
        (try_table (result exnref) (catch_all_ref $r) (call $throw (local.get 0))
          (unreachable))))
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    ;; those kept last are still what they were
    (block $p (result i32 i64)
      (try_table (result i32 i64) (catch $pair $p) (throw_ref (table.get $t (i32.const 3)))))
    (drop))
  (func (export "churn_many") (param i32)
    (loop $l
      (drop (block $r (result exnref)
        (try_table (result exnref) (catch_all_ref $r) (throw $many {values}))))
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
  (func (export "sum_many") (result i64)
    (block $m (result {many})
      (try_table (result {many}) (catch $many $m) (throw $many {values})))
    {adds})
  (func (export "trap") (result i32)
    (block $h (try_table (catch_all $h) (unreachable))) (i32.const 1))
  (func $endless (call $endless))
  (func (export "exhaust") (block $h (try_table (catch_all $h) (call $endless)))))
""".format(
    many="i64 " * 40,
    values="".join(f"(i64.const {i})" for i in range(40)),
    adds="i64.add " * 39,
)


def test_what_is_caught_and_what_passes(build: Build) -> None:
    exports = build(WAT).exports
    for depth in (0, 1, 50):
        assert exports.which(9, depth) == (9, -7)
        assert exports.which(0, depth) == (2, 2)
    assert exports.outer() == 5
    assert exports.sum_many() == sum(range(40))


def test_what_nobody_catches_reaches_python(build: Build) -> None:
    exports = build(WAT).exports
    with pytest.raises(WasmException) as caught:
        exports.escape(4)
    assert caught.value.tag == exports.pair
    assert caught.value.values == (4, -7)
    with pytest.raises(WasmException) as caught:
        exports.escape(0)
    assert caught.value.tag != exports.pair
    assert exports.which(9, 3) == (9, -7)  # all is well afterwards


def test_traps_and_exhaustion_are_not_caught(build: Build, store: Store) -> None:
    exports = build(WAT).exports
    with pytest.raises(Trap, match="unreachable"):
        exports.trap()
    with pytest.raises(Exhaustion):
        exports.exhaust()
    with pytest.raises(Trap, match="null exception reference"):
        exports.again()
    assert exports.which(9, 3) == (9, -7)


def test_references_to_exceptions(build: Build) -> None:
    exports = build(WAT).exports
    exports.keep(6)
    reference = exports.hand_over()
    assert isinstance(reference, ExnRef)
    exports.keep(0)
    for _ in range(2):
        with pytest.raises(WasmException) as caught:
            exports.take(reference)
        assert caught.value.values == (6, -7)
    assert reference.exception().values == (6, -7)
    with pytest.raises(WasmException) as caught:
        exports.again()
    assert caught.value.values == ()


def test_each_reference_that_python_holds_keeps_the_exception(build: Build) -> None:
    """Also of two that are equal, when the first is gone."""
    exports = build(WAT).exports
    exports.keep(6)
    first, second = exports.hand_over(), exports.hand_over()
    assert first == second
    exports.keep(0)
    del first
    exports.churn(5_000)
    assert second.exception().values == (6, -7)


def test_memory_of_many_exceptions_is_bounded(build: Build) -> None:
    """Ten million, each kept for a while, and large ones: collections free them."""
    exports = build(WAT).exports
    exports.churn(100_000)
    exports.churn_many(1_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    held = exports.keep(11) or exports.hand_over()
    assert exports.churn(1_000_003) == 3
    exports.churn_many(300_000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 120 << 10
    assert held.exception().values == (11, -7)
    with pytest.raises(WasmException) as caught:
        exports.again()
    assert caught.value.values == (11, -7)


def test_more_that_are_alive_than_there_is_room_for(build: Build) -> None:
    """A list of exceptions, each carrying the one before: no collection helps."""
    wat = """(module (tag $cons (param exnref))
      (func (export "f") (param i32) (result i32) (local $list exnref)
        (loop $l
          (local.set $list (block $r (result exnref exnref)
            (try_table (catch_ref $cons $r) (throw $cons (local.get $list))) (unreachable)))
          (drop)
          (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (ref.is_null (local.get $list))))"""
    exports = build(wat).exports
    assert exports.f(50_000) == 0
    with pytest.raises(LimitExceeded, match="exceptions"):
        exports.f(2_000_000)
    assert exports.f(1000) == 0


def test_through_python_and_back(build: Build, store: Store) -> None:
    """guest -> Python -> guest that throws: Python sees it, and the first guest may catch it."""
    inner = build(WAT)
    tag = inner.exports["pair"]
    assert isinstance(tag, Tag)
    seen: list[BaseException] = []

    def host(what: int) -> None:
        if what == 3:
            raise WasmException(tag, (33, 34))
        if what == 4:
            raise KeyError("not for guests")
        try:
            inner.exports.escape(what)
        except WasmException as error:
            seen.append(error)
            raise

    wat = """(module
      (import "" "pair" (tag $p (param i32 i64))) (import "" "h" (func $h (param i32)))
      (func (export "f") (param i32) (result i32)
        (block $c (result i32 i64)
          (try_table (catch $p $c) (call $h (local.get 0)))
          (return (i32.const -1)))
        (drop)))"""
    function = Func(store, FuncType((I32,), ()), host)
    f = build(wat, tag, function).exports.f
    assert f(9) == 9
    assert len(seen) == 1
    assert f(3) == 33
    with pytest.raises(KeyError, match="not for guests"):
        f(4)
    with pytest.raises(WasmException) as caught:
        f(0)  # of a tag that only the inner one knows
    assert caught.value.tag != tag
    assert caught.value is not seen[-1]


def test_an_exception_of_another_store_is_a_failure(
    engine: Engine, build: Build, store: Store
) -> None:
    needs(engine, "exceptions")
    foreign = Tag(Store(engine), FuncType((I32,)))

    def host() -> None:
        raise WasmException(foreign, (1,))

    wat = """(module (import "" "h" (func $h)) (func (export "f") (result i32)
      (block $c (try_table (catch_all $c) (call $h))) (i32.const 1)))"""
    f = build(wat, Func(store, FuncType((), ()), host)).exports.f
    with pytest.raises(WasmException) as caught:
        f()
    assert caught.value.tag is foreign
    with pytest.raises(UsageError, match="carries 1 values"):
        WasmException(foreign)


def test_tags_by_import_are_the_same_tag(build: Build, store: Store) -> None:
    tag = Tag(store, FuncType((I64,)), "mine")
    wat = """(module (import "" "a" (tag $a (param i64))) (import "" "b" (tag $b (param i64)))
      (tag $own (param i64))
      (func (export "f") (result i64)
        (block $x (result i64)
          (try_table (result i64) (catch $own $x) (catch $b $x) (throw $a (i64.const 5))))))"""
    assert build(wat, tag, tag).exports.f() == 5
    other = Tag(store, FuncType((I64,)))
    with pytest.raises(WasmException, match="mine") as caught:
        build(wat, tag, other).exports.f()
    assert caught.value.tag is tag


def test_a_tail_call_leaves_the_try(engine: Engine, build: Build) -> None:
    needs(engine, "tail-call")
    wat = """(module (tag $e)
      (func $throws (throw $e))
      (func $leaves (block $h (try_table (catch_all $h) (return_call $throws))))
      (func (export "f") (result i32)
        (block $h (try_table (catch_all $h) (call $leaves)) (return (i32.const 1)))
        (i32.const 2)))"""
    assert build(wat).exports.f() == 2


def test_a_guest_that_throws_for_ever_can_be_stopped(build: Build, store: Store) -> None:
    wat = """(module (tag $e) (func $t (throw $e))
      (func (export "f") (loop $l (block $h (try_table (catch_all $h) (call $t))) (br $l))))"""
    f = build(wat).exports.f
    with store.deadline(0.3), pytest.raises(Interrupted):
        f()


LEGACY = """
(module
  (tag $e (param i32)) (tag $f)
  (func $throw (param i32)
    local.get 0 i32.eqz if throw $f end
    local.get 0 throw $e)
  (func (export "catch") (param i32) (result i32)
    try (result i32)
      local.get 0 call $throw i32.const -1
    catch $e
      i32.const 100 i32.add
    catch_all
      i32.const 7
    end)
  (func (export "rethrow") (param i32) (result i32)
    try (result i32)
      try (result i32)
        local.get 0 call $throw i32.const -1
      catch $e
        drop rethrow 0
      end
    catch $e
      i32.const 1000 i32.add
    end)
  (func (export "delegate") (param i32) (result i32)
    try $outer (result i32)
      try (result i32)
        try
          local.get 0 call $throw
        delegate $outer
        i32.const -1
      catch_all
        i32.const -2
      end
    catch $e
      i32.const 500 i32.add
    catch $f
      i32.const 8
    end)
  (func (export "away") (param i32)
    try
      local.get 0 call $throw
    delegate 0))
"""


def test_the_legacy_form(engine: Engine, build: Build) -> None:
    needs(engine, "legacy-exceptions")
    exports = build(LEGACY).exports
    assert (exports.catch(5), exports.catch(0)) == (105, 7)
    assert exports.rethrow(5) == 1005
    with pytest.raises(WasmException):
        exports.rethrow(0)
    assert (exports.delegate(5), exports.delegate(0)) == (505, 8)
    with pytest.raises(WasmException):
        exports.away(5)


def test_functions_of_every_kind_can_be_crossed(engine: Engine, store: Store) -> None:
    """Array entries, stubs, another instance, functions with frames of their own."""
    wat = """(module (import "" "e" (tag $e)) (import "" "next" (func $next (param i32)))
      (memory 1)
      (func (export "f") (param i32)
        (local i64 i64 i64 i64 i64 i64 i64 i64)
        (local.set 1 (i64.load (i32.const 0))) (local.set 2 (i64.load (i32.const 8)))
        (if (i32.eqz (local.get 0)) (then (throw $e)))
        (call $next (i32.sub (local.get 0) (i32.const 1)))
        (i64.store (i32.const 16) (i64.add (local.get 1) (local.get 2)))))"""
    tag = Tag(store, FuncType())
    module = Module(engine, wasmtime.wat2wasm(wat))
    calls = 0

    def start(count: int) -> None:
        nonlocal calls
        calls += 1
        second.exports.f(count)

    first = Instance(store, module, [tag, Func(store, FuncType((I32,)), start)])
    second = Instance(store, module, [tag, first.exports["f"]])
    with pytest.raises(WasmException) as caught:
        second.exports.f(100)
    assert caught.value.tag is tag
    assert calls == 50
