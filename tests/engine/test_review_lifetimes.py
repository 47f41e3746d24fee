"""When things go: at the process's end, by the garbage collector, after a guest was stopped."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap

import pytest
import wasmtime

from wasinn_runtime import (
    Engine,
    Instance,
    Interrupted,
    Module,
    Store,
    Trap,
)


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_process_may_end_while_a_daemon_thread_runs_a_guest() -> None:
    done = run(
        """
        import threading, time, wasmtime
        from wasinn_runtime import Engine, Instance, Module, Store
        engine = Engine()
        wasm = wasmtime.wat2wasm('(module (memory 1) (func (export "spin") (loop (br 0))))')
        instance = Instance(Store(engine), Module(engine, wasm))
        threading.Thread(target=instance.exports.spin, daemon=True).start()
        time.sleep(0.2)
        print("end")
        """
    )
    assert (done.stdout, done.stderr, done.returncode) == ("end\n", "", 0)


def test_memories_may_be_collected_while_another_is_made() -> None:
    """The collector runs at any allocation, that of address space for a new memory included."""
    done = run(
        """
        import faulthandler, gc
        faulthandler.dump_traceback_later(40, exit=True)
        from wasinn_runtime import Engine, Limits, MemoryType
        from wasinn_runtime.machine import memory, places
        core = Engine().core
        class Cycle:
            def __init__(self):
                self.me = self
                self.region = memory.MemoryRegion(core, MemoryType(Limits(0)), None)
        gc.disable()
        for late in range(1, 40):
            Cycle()
            while places.ARENAS._free:
                Cycle()
            gc.set_threshold(gc.get_count()[0] + late)
            gc.enable()
            memory.MemoryRegion(core, MemoryType(Limits(0)), None)
            gc.disable()
            gc.collect()
        print("end")
        """
    )
    assert done.stdout == "end\n", done.stderr


def test_a_guest_stopped_while_its_memory_grows_leaves_nothing_to_the_next(engine: Engine) -> None:
    grows = Module(
        engine,
        wasmtime.wat2wasm(
            """(module (memory (export "m") 0)
              (func (export "grow") (loop (drop (memory.grow (i32.const 1))) (br 0))))"""
        ),
    )
    pokes = Module(
        engine,
        wasmtime.wat2wasm(
            """(module (memory (export "m") 0)
              (func (export "poke") (param i32) (i32.store (local.get 0) (i32.const 7))))"""
        ),
    )
    for _ in range(10):
        store = Store(engine)
        first = Instance(store, grows)
        with store.deadline(0.002), pytest.raises(Interrupted):
            first.exports.grow()
        base, end = first.exports.m.region.base, first.exports.m.byte_length
        del first, store
        gc.collect()
        second = Instance(Store(engine), pokes)
        assert second.exports.m.region.base == base, "the place was not used again"
        with pytest.raises(Trap, match="out of bounds memory access"):
            second.exports.poke(end)
        del second
        gc.collect()
