"""Migratable code stops at safepoints, and a plain-Python machine goes on from what it leaves.

The machine (``canonical_machine.py``) works on the captured store and shares no code with what
compiled the guest. That it comes to the result of an undisturbed run, from every safepoint that a
request can hit, shows that the frames hold all that the guest was working with.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache

import pytest

from tests.aot.aot_images import image_of, module_of
from tests.aot.canonical_machine import Guest, Machine
from wasinn_runtime import (
    Captured,
    Engine,
    FuncType,
    HostFunc,
    Instance,
    Interrupted,
    Module,
    Store,
    UsageError,
    WasmException,
)
from wasinn_runtime.engines.aot_compile import AotOptions, compile_image

TICK = FuncType((), ())

# Each calls the host's ``tick`` now and then; a request made there is met at the next safepoint.
GUESTS = {
    "a loop": """(func (export "run") (param i32) (result i64) (local i64 f32 f64)
      (local.set 2 (f32.const 1.5)) (local.set 3 (f64.const -2.25)) (local.set 1 (i64.const 9))
      (loop $l
        (call $tick)
        (local.set 1 (i64.add (i64.mul (local.get 1) (i64.const 31)) (i64.const 7)))
        (local.set 2 (f32.add (local.get 2) (f32.const 0.25)))
        (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
      (i64.add (local.get 1) (i64.trunc_f64_s
        (f64.add (f64.promote_f32 (local.get 2)) (local.get 3)))))""",
    "nested loops with operands": """(func (export "run") (param i32) (result i64)
      (local $j i32) (local $n i64)
      (i64.const 1000)
      (loop $outer (param i64) (result i64)
        (local.set $j (i32.const 3))
        (i64.const 5)
        (loop $inner (param i64) (result i64)
          (call $tick)
          (local.set $n (i64.add (local.get $n) (i64.const 1)))
          (i64.add (i64.extend_i32_u (local.get $j)))
          (br_if $inner (local.tee $j (i32.sub (local.get $j) (i32.const 1)))))
        (i64.add)
        (br_if $outer (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
      (i64.add (local.get $n)))""",
    "recursion below operands": """
      (func $fib (param i32) (result i64)
        (if (result i64) (i32.lt_u (local.get 0) (i32.const 2))
          (then (call $tick) (i64.extend_i32_u (local.get 0)))
          (else (i64.add
            (i64.add (i64.const 1) (call $fib (i32.sub (local.get 0) (i32.const 1))))
            (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
      (func (export "run") (param i32) (result i64)
        (i64.mul (i64.const 3) (call $fib (local.get 0))))""",
    "vectors": """
      (func $mix (param v128 i32) (result v128)
        (loop $l
          (call $tick)
          (local.set 0 (i32x4.add (local.get 0) (v128.const i32x4 1 20 300 4000)))
          (br_if $l (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))
        (local.get 0))
      (func (export "run") (param i32) (result i64) (local $a v128) (local $b i32)
        (local.set $a (v128.const i64x2 5 -6))
        (local.set $b (i32.const 77))
        (v128.const i64x2 11 12)
        (i64x2.add (call $mix (local.get $a) (local.get 0)))
        (i64x2.add (local.get $a))
        (local.set $a)
        (i64.add (i64.extend_i32_u (local.get $b))
          (i64.xor (i64x2.extract_lane 0 (local.get $a)) (i64x2.extract_lane 1 (local.get $a)))))
      """,
    "many parameters and results": """
      (func $many (param i64 i64 i64 i64 i64 i64 i64 f64 i64)
        (result i64 i64 i64 f64 i64)
        (local $n i32)
        (local.set $n (i32.const 2))
        (loop $l (call $tick) (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (local.get 0) (local.get 8) (i64.add (local.get 6) (local.get 5)) (local.get 7)
        (i64.sub (local.get 1) (local.get 4)))
      (func (export "run") (param i32) (result i64) (local $a i64) (local $f f64)
        (loop $l
          (local.get $a)
          (call $many (i64.const 1) (i64.const 2) (i64.const 3) (i64.const 4) (i64.const 5)
            (i64.const 6) (i64.extend_i32_u (local.get 0)) (f64.const 8.5) (local.get $a))
          (i64.mul (i64.const 7))
          (local.set $a)
          (local.set $f (f64.add (local.get $f)))
          (i64.add) (i64.add) (i64.add) (i64.add (local.get $a))
          (local.set $a)
          (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (i64.add (local.get $a) (i64.trunc_f64_s (local.get $f))))""",
    "through a table": """
      (type $step (func (param i64) (result i64)))
      (table funcref (elem $add $twice $deep))
      (global $calls (mut i32) (i32.const 0))
      (func $add (type $step) (call $tick) (i64.add (local.get 0) (i64.const 1)))
      (func $twice (type $step) (local i32)
        (local.set 1 (i32.const 2))
        (loop $l (call $tick)
          (local.set 0 (i64.mul (local.get 0) (i64.const 3)))
          (br_if $l (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))
        (local.get 0))
      (func $deep (type $step)
        (i64.add (i64.const 40)
          (call_indirect (type $step) (call_indirect (type $step) (local.get 0) (i32.const 0))
            (i32.const 1))))
      (func (export "run") (param i32) (result i64) (local i64)
        (loop $l
          (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
          (local.set 1 (i64.add (local.get 1)
            (call_indirect (type $step) (local.get 1) (i32.rem_u (local.get 0) (i32.const 3)))))
          (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (i64.add (local.get 1) (i64.extend_i32_u (global.get $calls))))""",
    "memory": """(memory 1) (data (i32.const 8) "hello, world")
      (func (export "run") (param i32) (result i64) (local $at i32) (local $sum i64)
        (loop $l
          (call $tick)
          (i64.store (i32.add (i32.const 64) (local.get $at))
            (i64.add (i64.load (i32.add (i32.const 56) (local.get $at)))
              (i64.load8_u (i32.add (i32.const 8) (i32.rem_u (local.get 0) (i32.const 12))))))
          (local.set $at (i32.add (local.get $at) (i32.const 8)))
          (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (loop $l
          (local.set $sum (i64.add (i64.mul (local.get $sum) (i64.const 31))
            (i64.load (i32.add (i32.const 56) (local.get $at)))))
          (br_if $l (local.tee $at (i32.sub (local.get $at) (i32.const 8)))))
        (local.get $sum))""",
    "exceptions": """
      (tag $even (param i64)) (tag $odd)
      (func $pick (param i32) (result i64)
        (loop $l
          (call $tick)
          (if (i32.eq (local.get 0) (i32.const 2))
            (then (throw $even (i64.const 500))))
          (if (i32.eq (local.get 0) (i32.const 3)) (then (throw $odd)))
          (br_if $l (i32.gt_s (local.tee 0 (i32.sub (local.get 0) (i32.const 2)))
            (i32.const 0))))
        (i64.const 1))
      (func (export "run") (param i32) (result i64) (local i64)
        (loop $l
          (block $caught (result i64)
            (block $all
              (try_table (result i64) (catch $even $caught) (catch_all $all)
                (i64.add (i64.const 10) (call $pick (i32.add (local.get 0) (i32.const 3)))))
              (br $caught))
            (i64.const 7000))
          (local.set 1 (i64.add (local.get 1)))
          (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
        (local.get 1))""",
    "tail calls": """
      (func $count (param i32 i64) (result i64)
        (call $tick)
        (if (i32.eqz (local.get 0)) (then (return (local.get 1))))
        (return_call $other (i32.sub (local.get 0) (i32.const 1))
          (i64.add (local.get 1) (i64.const 3))))
      (func $other (param i32 i64) (result i64) (local i64)
        (local.set 2 (i64.const 100))
        (return_call $count (local.get 0) (i64.add (local.get 1) (local.get 2))))
      (func (export "run") (param i32) (result i64)
        (i64.add (i64.const 1000000) (call $count (local.get 0) (i64.const 0))))""",
    "switch": """(func (export "run") (param i32) (result i64) (local $state i32) (local $sum i64)
      (loop $next
        (call $tick)
        (local.set 0 (i32.sub (local.get 0) (i32.const 1)))
        (block $done
          (block $two (block $one (block $zero
            (br_table $zero $one $two $done (local.get $state)))
            (local.set $state (i32.const 2))
            (br_if $next (local.get 0)) (br $done))
            (local.set $sum (i64.add (local.get $sum) (i64.const 1000)))
            (local.set $state (i32.rem_u (local.get 0) (i32.const 3)))
            (br_if $next (local.get 0)) (br $done))
          (local.set $sum (i64.add (local.get $sum) (i64.const 5)))
          (local.set $state (i32.const 1))
          (br_if $next (local.get 0))))
      (local.get $sum))""",
}


def wat_of(name: str) -> str:
    return f'(module (import "env" "tick" (func $tick)) {GUESTS[name]})'


@cache
def module(name: str, opt_level: int = 2) -> Module:
    image = image_of(wat_of(name), migratable=True, opt_level=opt_level)
    return Module.from_aot(Engine(), image)


class Clock:
    """The host's ``tick``: at one of its calls it does something."""

    def __init__(self, at: int = 0, what: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        self.at = at
        self.what = what

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.at:
            self.what()

    def in_cells(self) -> Sequence[int]:
        self()
        return ()


def started(name: str, at: int, opt_level: int = 2) -> tuple[Instance, Clock]:
    """An instance whose calls are asked to stop at a tick."""
    store = Store(module(name, opt_level).engine)
    clock = Clock(at, store.capture)
    return Instance(store, module(name, opt_level), [HostFunc(TICK, clock)]), clock


@pytest.mark.parametrize("opt_level", [0, 2])
@pytest.mark.parametrize("name", GUESTS)
def test_every_safepoint_after_a_tick(name: str, opt_level: int) -> None:
    source = module_of(wat_of(name))
    undisturbed, clock = started(name, 0, opt_level)
    expected = undisturbed.exports.run(7)
    ticks, captures, places = clock.count, 0, set()
    assert ticks >= 7
    for at in range(1, ticks + 1):
        instance, clock = started(name, at, opt_level)
        try:
            assert instance.exports.run(7) == expected
        except Captured as captured:
            captures += 1
            frames = captured.frames
            places.add(tuple((frame.function, frame.offset) for frame in frames))
            guest = Guest(instance, source, [clock.in_cells])
            (result,) = Machine([guest], frames).run()
            assert result == expected % 2**64
        assert clock.count == ticks
    # After the last tick there may be no safepoint left.
    assert captures >= ticks - 3
    assert places


def test_frames_are_those_of_the_text() -> None:
    instance, _ = started("recursion below operands", 1)
    with pytest.raises(Captured, match="in 3 frames") as caught:
        instance.exports.run(2)
    frames = caught.value.frames
    assert [(frame.instance, frame.function) for frame in frames] == [(0, 1), (0, 1), (0, 2)]
    # fib(0) begins; fib(2) has 1 + fib(1) below its call, and its caller the 3 to multiply with.
    # Nobody reads the parameters of these two again.
    cells = [[*memoryview(frame.cells).cast("Q")] for frame in frames]
    assert cells == [[0], [0, 2], [0, 3]]
    code = Guest(instance, module_of(wat_of("recursion below operands"))).module.data
    assert [code[frame.offset] for frame in frames[1:]] == [0x10, 0x10]  # call


def test_an_instance_is_called_again_after_a_capture() -> None:
    instance, clock = started("recursion below operands", 3)
    with pytest.raises(Captured):
        instance.exports.run(7)
    clock.at = 0
    undisturbed, _ = started("recursion below operands", 0)
    assert instance.exports.run(7) == undisturbed.exports.run(7)


# Runs until somebody else sets the first word of memory: a capture comes at any moment.
ENDLESS = """(module (memory (export "memory") 1)
  (func $spin (param i64 v128) (result i64) (local $i i32)
    (loop $l
      (local.set 0 (i64.add (local.get 0) (i64.const 3)))
      (local.set 1 (i64x2.add (local.get 1) (v128.const i64x2 3 4)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $l (i32.eqz (i32.load (i32.const 0)))))
    (i64.sub (i64.mul (local.get 0) (i64.const 4))
      (i64.mul (i64x2.extract_lane 1 (local.get 1)) (i64.const 3))))
  (func $deep (param i32 i64) (result i64)
    (if (result i64) (local.get 0)
      (then (i64.add (i64.extend_i32_u (local.get 0))
        (call $deep (i32.sub (local.get 0) (i32.const 1)) (local.get 1))))
      (else (call $spin (i64.const 0) (v128.const i64x2 0 0)))))
  (func (export "run") (param i32) (result i64) (call $deep (local.get 0) (i64.const 5))))"""


def test_random_moments_from_another_thread() -> None:
    loaded = Module.from_aot(Engine(), image_of(ENDLESS, migratable=True, opt_level=2))
    source = module_of(ENDLESS)
    dice = random.Random(5)
    for depth in [*range(5), 1000, *range(5, 20)]:
        store = Store(loaded.engine)
        instance = Instance(store, loaded)
        timer = threading.Timer(dice.random() / 50, _until_asked, (store,))
        timer.start()
        with pytest.raises(Captured) as caught:
            instance.exports.run(depth)
        timer.join()
        instance.exports.memory.write(0, b"\1")
        (result,) = Machine([Guest(instance, source)], caught.value.frames).run()
        assert len(caught.value.frames) == depth + 3
        assert result == depth * (depth + 1) // 2


def _until_asked(store: Store) -> None:
    while True:
        try:
            return store.capture()
        except UsageError:  # no call is under way yet
            time.sleep(0.001)


# --- several instances --------------------------------------------------------------------------

INNER = """(module (import "env" "tick" (func $tick)) (memory 1)
  (func (export "sum") (param i32 i64) (result i64)
    (loop $l
      (call $tick)
      (i64.store (i32.const 8) (i64.add (i64.load (i32.const 8)) (local.get 1)))
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (i64.load (i32.const 8))))"""
OUTER = """(module (import "inner" "sum" (func $sum (param i32 i64) (result i64)))
  (memory 1) (data (i32.const 8) "\\09")
  (func (export "run") (param i32) (result i64)
    (i64.add (i64.mul (i64.const 100) (call $sum (local.get 0) (i64.const 11)))
      (i64.load (i32.const 8)))))"""


def test_frames_of_several_instances() -> None:
    engine = Engine()
    inner, outer = (
        Module.from_aot(engine, image_of(wat, migratable=True)) for wat in (INNER, OUTER)
    )
    for at in range(1, 5):
        store = Store(engine)
        clock = Clock(at, store.capture)
        below = Instance(store, inner, [HostFunc(TICK, clock)])
        above = Instance(store, outer, [below.exports["sum"]])
        with pytest.raises(Captured) as caught:
            above.exports.run(5)
        frames = caught.value.frames
        assert [frame.instance for frame in frames] == [0, 1]
        first = Guest(below, module_of(INNER), [clock.in_cells])
        second = Guest(above, module_of(OUTER), [(first, 1)])
        assert Machine([first, second], frames).run() == [100 * 55 + 9]


# --- what can not be captured -------------------------------------------------------------------


def test_nothing_is_under_way() -> None:
    instance, _ = started("a loop", 0)
    with pytest.raises(UsageError, match="no call of the store is under way"):
        instance.store.capture()


def test_code_without_safepoints_says_so() -> None:
    rigid = Module.from_aot(Engine(), image_of(ENDLESS), "plain.aot")
    store = Store(rigid.engine)
    Instance(store, rigid)
    with pytest.raises(UsageError, match=r"plain\.aot can not be captured.*--migratable"):
        store.capture()


def test_a_host_call_on_the_stack() -> None:
    """Python's frames can not be captured; the request is refused and the guest goes on."""
    store = Store(module("a loop").engine)
    errors: list[UsageError] = []

    def ask() -> None:
        with pytest.raises(UsageError, match="a host call is under way") as caught:
            store.capture()
        errors.append(caught.value)

    below = Instance(store, module("a loop"), [HostFunc(TICK, ask)])
    calls: list[object] = []
    again = HostFunc(TICK, lambda: calls.append(below.exports.run(1)))
    instance = Instance(store, module("a loop"), [again])
    undisturbed, _ = started("a loop", 0)
    assert instance.exports.run(3) == undisturbed.exports.run(3)
    assert len(errors) == len(calls) == 3


def test_a_request_waits_until_a_host_function_has_called_guests() -> None:
    """Those calls are not captured; the one around them is, once it goes on."""
    store = Store(module("a loop").engine)
    below = Instance(store, module("a loop"), [HostFunc(TICK, lambda: None)])
    results: list[object] = []

    def tick() -> None:
        if not results:
            store.capture()
            results.append(below.exports.run(2))

    instance = Instance(store, module("a loop"), [HostFunc(TICK, tick)])
    with pytest.raises(Captured) as caught:
        instance.exports.run(7)
    assert [frame.instance for frame in caught.value.frames] == [1]
    undisturbed, _ = started("a loop", 0)
    assert results == [undisturbed.exports.run(2)]
    assert below.exports.run(2) == results[0]  # the request is over


def test_a_request_ends_with_its_call() -> None:
    instance, clock = started("a loop", 1)
    with pytest.raises(UsageError):
        instance.store.capture()
    clock.what = instance.store.capture
    assert isinstance(instance.exports.run(1), int)  # one turn: no safepoint is left
    clock.at = 0
    assert isinstance(instance.exports.run(5), int)


def test_a_deadline_ends_migratable_code_as_any_other() -> None:
    loaded = Module.from_aot(Engine(), image_of(ENDLESS, migratable=True))
    store = Store(loaded.engine)
    instance = Instance(store, loaded)
    with store.deadline(0.02), pytest.raises(Interrupted):
        instance.exports.run(3)


def test_a_host_function_may_raise_while_a_request_waits() -> None:
    store = Store(module("exceptions").engine)

    def tick() -> None:
        store.capture()
        raise RuntimeError("the host's")

    instance = Instance(store, module("exceptions"), [HostFunc(TICK, tick)])
    with pytest.raises(RuntimeError, match="the host's"):
        instance.exports.run(3)
    with pytest.raises(UsageError, match="no call"):
        store.capture()


def test_an_exception_nobody_catches_passes_all_pads() -> None:
    wat = """(module (tag $t (export "t") (param i32))
      (func $throw (param i32) (throw $t (local.get 0)))
      (func $middle (param i32) (call $throw (local.get 0)) (call $throw (i32.const 1)))
      (func (export "run") (param i32) (call $middle (local.get 0))))"""
    loaded = Module.from_aot(Engine(), image_of(wat, migratable=True))
    instance = Instance(Store(loaded.engine), loaded)
    with pytest.raises(WasmException) as caught:
        instance.exports.run(42)
    assert caught.value.values == (42,)


def test_deep_frames() -> None:
    """Tens of thousands of frames, until just before the stack is used up."""
    loaded = Module.from_aot(Engine(), image_of(ENDLESS, migratable=True))
    store = Store(loaded.engine)
    instance = Instance(store, loaded)
    timer = threading.Timer(0.05, _until_asked, (store,))
    timer.start()
    with pytest.raises(Captured) as caught:
        instance.exports.run(5_000)
    timer.join()
    instance.exports.memory.write(0, b"\1")
    guest = Guest(instance, module_of(ENDLESS))
    assert Machine([guest], caught.value.frames).run() == [5_000 * 5_001 // 2]
    assert len(caught.value.frames) == 5_003


def _scattered(count: int) -> str:
    """Functions that call each other over all distances, with an operand below each call."""
    functions = []
    for i in range(count):
        filler = "".join(
            f"(i64.rotl (i64.add (local.get 1) (i64.const {97 * i + k})) (i64.const 5)) local.set 1"
            for k in range(40)
        )
        functions.append(
            f"""(func $f{i} (param i32 i64) (result i64)
              {filler}
              (if (result i64) (local.get 0)
                (then (i64.xor (local.get 1) (call $f{(i * 7 + 3) % count}
                  (i32.sub (local.get 0) (i32.const 1)) (local.get 1))))
                (else (call $spin (i64.const 0) (v128.const i64x2 0 0)))))"""
        )
    run = """(func (export "scattered") (param i32) (result i64)
      (call $f0 (local.get 0) (i64.const 1)))"""
    return ENDLESS.rstrip()[:-1] + "\n".join([*functions, run]) + ")"


def test_parts_compiled_apart() -> None:
    """Frames of functions that other processes compiled are like any other."""
    source = module_of(_scattered(100))
    options = AotOptions(migratable=True, jobs=2, opt_level=1)
    compiled = compile_image(source, "scattered.wasm", options)
    assert compiled.parts > 1
    loaded = Module.from_aot(Engine(), compiled.image)
    store = Store(loaded.engine)
    instance = Instance(store, loaded)
    timer = threading.Timer(0.05, _until_asked, (store,))
    timer.start()
    with pytest.raises(Captured) as caught:
        instance.exports.scattered(60)
    timer.join()
    assert len(caught.value.frames) == 63
    instance.exports.memory.write(0, b"\1")
    (result,) = Machine([Guest(instance, source)], caught.value.frames).run()
    assert result == instance.exports.scattered(60) % 2**64
