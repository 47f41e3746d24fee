"""Limits of time and depth: deadlines, cancellation, Ctrl-C, recursion on small stacks."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest
import wasmtime

from wasinn_runtime import (
    Engine,
    Exhaustion,
    Func,
    FuncType,
    HostFunc,
    Instance,
    Interrupted,
    Module,
    Store,
    ValType,
)

Build = Callable[..., Instance]
SPIN = """(module
  (import "env" "wait" (func $wait))
  (func (export "spin") (loop (br 0)))
  (func (export "wait") (call $wait) (loop (br 0)))
  (func (export "ok") (result i32) (i32.const 1)))"""
NOTHING = HostFunc(FuncType(), lambda: None)


def test_deadline_ends_a_loop(build: Build, store: Store) -> None:
    instance = build(SPIN, NOTHING)
    start = time.monotonic()
    with store.deadline(0.1), pytest.raises(Interrupted, match="timeout"):
        instance.exports.spin()
    assert 0.09 <= time.monotonic() - start < 5
    with pytest.raises(Interrupted):
        instance.exports.ok()


def test_a_deadline_that_is_met_leaves_no_trace(build: Build, store: Store) -> None:
    instance = build(SPIN, NOTHING)
    with store.deadline(0.05):
        assert instance.exports.ok() == 1
    time.sleep(0.1)
    assert instance.exports.ok() == 1


def test_deadlines_in_many_threads(engine: Engine) -> None:
    module = Module(engine, wasmtime.wat2wasm(SPIN))
    taken: list[float] = []

    def work(timeout_s: float) -> None:
        store = Store(engine)
        instance = Instance(store, module, [NOTHING])
        start = time.monotonic()
        with store.deadline(timeout_s), pytest.raises(Interrupted):
            instance.exports.spin()
        taken.append(time.monotonic() - start - timeout_s)

    threads = [threading.Thread(target=work, args=(0.05 * n,)) for n in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(taken) == 6
    assert all(late > -0.01 for late in taken)


def test_cancel_from_another_thread(build: Build, store: Store) -> None:
    instance = build(SPIN, NOTHING)
    threading.Timer(0.1, store.cancel).start()
    with pytest.raises(Interrupted, match="cancelled"):
        instance.exports.spin()


def test_a_waiting_host_function_is_told(build: Build, store: Store) -> None:
    woke: list[bool] = []
    waits = HostFunc(FuncType(), lambda: woke.append(store.interrupt.wait(30)))
    instance = build(SPIN, waits)
    start = time.monotonic()
    with store.deadline(0.1), pytest.raises(Interrupted):
        instance.exports.wait()
    assert woke == [True]
    assert time.monotonic() - start < 5


class SlowEvent(threading.Event):
    """Who sets it comes to nothing else before those that waited have gone on."""

    def set(self) -> None:
        super().set()
        time.sleep(0.1)


def test_who_is_woken_finds_the_guest_stopped(
    build: Build, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "Event", SlowEvent)
    waits = HostFunc(FuncType(), lambda: store.interrupt.wait(30) and None)
    wat = '(module (import "h" "f" (func $f)) (func (export "run") (call $f)))'
    run = build(wat, waits).exports.run
    with pytest.raises(Interrupted), store.deadline(0.05):
        run()


def test_a_deaf_host_function_ends_the_guest_when_it_returns(build: Build, store: Store) -> None:
    instance = build(SPIN, HostFunc(FuncType(), lambda: time.sleep(0.3)))
    with store.deadline(0.05), pytest.raises(Interrupted):
        instance.exports.wait()


def test_interrupt_descriptor_becomes_readable(store: Store) -> None:
    import select

    fd = store.interrupt.fileno()
    assert select.select([fd], [], [], 0)[0] == []
    store.cancel("enough")
    assert select.select([fd], [], [], 5)[0] == [fd]
    assert store.interrupt.reason == "enough"
    store.interrupt.clear()
    assert select.select([fd], [], [], 0)[0] == []


def test_nested_calls_all_end(build: Build, store: Store) -> None:
    nested = HostFunc(FuncType(), lambda: instance.exports.spin())
    instance = build(SPIN, nested)
    with store.deadline(0.1), pytest.raises(Interrupted):
        instance.exports.wait()


PING = """(module
  (import "env" "pong" (func $pong (param i32)))
  (func (export "ping") (param i32) (call $pong (local.get 0)))
  (func $down (export "down") (param i32) (result i32)
    (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
      (else (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1))))))))"""
PONG = FuncType((ValType.I32,), ())


def _ping_pong(engine: Engine) -> type[BaseException]:
    def pong(n: int) -> None:
        instance.exports.ping(n - 1)

    module = Module(engine, wasmtime.wat2wasm(PING))
    instance = Instance(Store(engine), module, [HostFunc(PONG, pong)])
    limit = sys.getrecursionlimit()
    try:
        instance.exports.ping(1_000_000)
    except (Exhaustion, RecursionError) as error:
        assert sys.getrecursionlimit() == limit
        assert instance.exports.down(10) == 10
        return type(error)
    raise AssertionError("a million levels fit nowhere")


def test_guest_and_host_in_turns_without_end(engine: Engine) -> None:
    assert _ping_pong(engine) in (Exhaustion, RecursionError)


@pytest.mark.parametrize("stack_bytes", [256 << 10, 1 << 20, 64 << 20])
def test_recursion_on_a_thread_with_its_own_stack_size(engine: Engine, stack_bytes: int) -> None:
    outcomes: list[object] = []

    def work() -> None:
        module = Module(engine, wasmtime.wat2wasm(PING))
        instance = Instance(Store(engine), module, [HostFunc(PONG, lambda _: None)])
        assert instance.exports.down(500) == 500
        try:
            instance.exports.down(100_000_000)
        except Exhaustion as error:
            outcomes.append(type(error))
        instance.exports.ping(1)
        outcomes.append(_ping_pong(engine))

    before = threading.stack_size(stack_bytes)
    try:
        thread = threading.Thread(target=work)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join(60)
    assert outcomes[0] is Exhaustion
    assert outcomes[1] in (Exhaustion, RecursionError)


def test_a_function_with_a_huge_frame(build: Build) -> None:
    """8,000 locals, all alive over a call, in a recursion."""
    count = 8_000
    sets = "".join(
        f"(local.set {i} (i64.load (i32.const {i % 8000 * 8})))" for i in range(1, count)
    )
    adds = "".join(f"(local.get {i}) i64.add " for i in range(1, count, 7))
    wat = f"""(module (memory 1) (func $f (export "f") (param i64) (result i64)
      (local {"i64 " * (count - 1)}) {sets}
      (local.set 0 (call $f (local.get 0))) (local.get 0) {adds}))"""
    f = build(wat).exports.f
    assert isinstance(f, Func)
    with pytest.raises(Exhaustion):
        f(1)


def test_a_frame_that_only_the_code_generator_knows(engine: Engine) -> None:
    """Each call's results wait in the caller's frame: more than the thread's whole stack."""
    if engine.config.mode in ("interp", "fast-interp", "auto"):
        pytest.skip("an interpreter's frames are not on the thread's stack")
    results, calls = 100, 300
    types = "i64 " * results
    wat = f"""(module (type $t (func (result {types}))) (table funcref (elem $g))
      (func $g (result {types}) {"(i64.const 1) " * results})
      (func (export "f") (result i64) {"(call_indirect (type $t) (i32.const 0))" * calls}
        {"i64.rotl " * (results * calls - 1)})
      (func (export "ok") (result i32) (i32.const 1)))"""
    instance = Instance(Store(engine), Module(engine, wasmtime.wat2wasm(wat)))
    outcomes: list[object] = []

    def work() -> None:
        with pytest.raises(Exhaustion) as caught:
            instance.exports.f()
        outcomes.append(caught.value.function)
        outcomes.append(instance.exports.ok())

    before = threading.stack_size(256 << 10)
    try:
        thread = threading.Thread(target=work)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join(60)
    assert outcomes == ["function 1", 1]


def test_ctrl_c_ends_a_guest_on_the_main_thread() -> None:
    script = textwrap.dedent(
        f"""
        import signal, sys, threading, time, os
        import wasmtime
        from wasinn_runtime import Engine, Module, Store, Instance, HostFunc, FuncType
        engine = Engine()
        module = Module(engine, wasmtime.wat2wasm({SPIN!r}))
        store = Store(engine)
        instance = Instance(store, module, [HostFunc(FuncType(), lambda: None)])
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        start = time.monotonic()
        try:
            instance.exports.spin()
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - start < 5, instance.exports.ok())
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "interrupted True 1", done.stderr
    assert done.stderr == ""


def test_ctrl_c_ends_a_guest_after_a_fork_on_another_thread() -> None:
    """The thread that forks is the child's main thread."""
    script = textwrap.dedent(
        f"""
        import os, signal, threading, wasmtime
        from wasinn_runtime import Engine, Module, Store, Instance, HostFunc, FuncType
        engine = Engine()
        module = Module(engine, wasmtime.wat2wasm({SPIN!r}))
        def work():
            pid = os.fork()
            if pid == 0:
                instance = Instance(Store(engine), module, [HostFunc(FuncType(), lambda: None)])
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
                signal.alarm(20)
                try:
                    instance.exports.spin()
                except KeyboardInterrupt:
                    os._exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "7", done.stderr


def test_a_signal_handler_may_cancel_at_any_moment() -> None:
    script = textwrap.dedent(
        f"""
        import faulthandler, signal, wasmtime
        from wasinn_runtime import Engine, Module, Store, Instance, Interrupted, HostFunc, FuncType
        faulthandler.dump_traceback_later(40, exit=True)
        engine = Engine()
        store = Store(engine)
        module = Module(engine, wasmtime.wat2wasm({SPIN!r}))
        ok = Instance(store, module, [HostFunc(FuncType(), lambda: None)]).exports.ok
        seen = 0
        def cancel(*_):
            global seen
            seen += 1
            store.cancel("terminated")
        signal.signal(signal.SIGALRM, cancel)
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        while seen < 2000:
            try:
                ok()
            except Interrupted:
                pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(store.interrupt.reason)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "terminated", done.stderr


def test_a_real_fault_still_reaches_faulthandler() -> None:
    """Only the guest's faults are ours: others go on to the handler that was there before."""
    script = (
        "import faulthandler, ctypes; faulthandler.enable()\n"
        "from wasinn_runtime import Engine; Engine()\n"
        "ctypes.string_at(8)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -11
    assert "Fatal Python error: Segmentation fault" in done.stderr


def test_another_runtime_in_the_process_keeps_its_faults_and_we_ours() -> None:
    script = textwrap.dedent(
        """
        import wasmtime
        from wasinn_runtime import Engine, Instance, Module, Store, Trap
        wasm = wasmtime.wat2wasm(
            '(module (memory 1) (func (export "f") (drop (i32.load (i32.const -1)))))'
        )
        their_store = wasmtime.Store()
        theirs = wasmtime.Instance(their_store, wasmtime.Module(their_store.engine, wasm), [])
        engine = Engine()
        ours = Instance(Store(engine), Module(engine, wasm))
        for _ in range(3):
            try:
                theirs.exports(their_store)["f"](their_store)
            except wasmtime.Trap:
                print("theirs")
            try:
                ours.exports.f()
            except Trap as trap:
                print(trap.code)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == ["theirs", "out of bounds memory access"] * 3, done.stderr
    assert done.returncode == 0
