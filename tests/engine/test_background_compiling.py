"""Mode ``auto`` where compiling in the background can not be had as usual: guests run on."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import wasmtime

WAT = """(module
  (import "env" "tick" (func $tick (param i32)))
  (func $sum (export "sum") (param i32) (result i32) (local i32)
    (loop $l
      (local.set 1 (i32.add (i32.mul (local.get 1) (i32.const 7)) (i32.const 3)))
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func (export "product") (param i32) (result i32) (local i32)
    (loop $l
      (local.set 1 (i32.mul (i32.add (local.get 1) (i32.const 7)) (i32.const 3)))
      (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func (export "run") (result i32)
    (call $tick (i32.const 0))
    (drop (call $sum (i32.const 20_000)))
    (call $tick (i32.const 1))
    (call $sum (i32.const 20_000_000))))"""

START = """
    import os, resource, sys, time
    from wasinn_runtime import Config, Engine, FuncType, HostFunc, Instance, Module, Store, ValType

    def only_what_there_is():
        pages = int(open("/proc/self/statm").read().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * 4096,) * 2)

    def no_descriptors():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        try:
            while True:
                os.dup(0)
        except OSError:
            pass

    ticks = {}
    engine = Engine(Config(mode="auto"))
    module = Module(engine, bytes.fromhex(sys.argv[1]))
    tick = HostFunc(FuncType((ValType.I32,), ()), lambda n: ticks.get(n, lambda: None)())
    exports = Instance(Store(engine), module, [tick]).exports

    def becomes_compiled(name, number):
        end = time.monotonic() + 100
        while number not in module.code._compiled and time.monotonic() < end:
            exports[name](1_000_000)
        return number in module.code._compiled
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(START) + textwrap.dedent(script)
    wasm = bytes(wasmtime.wat2wasm(WAT)).hex()
    return subprocess.run(
        [sys.executable, "-c", code, wasm], capture_output=True, text=True, timeout=200
    )


@pytest.mark.parametrize(
    "ticks",
    [
        "{0: no_descriptors}",
        "{0: only_what_there_is}",
        "{1: only_what_there_is}",  # the process is there, and no room for its code
    ],
)
def test_a_guest_runs_on_when_nothing_is_left_for_compiling(ticks: str) -> None:
    done = run(f"""
        ticks |= {ticks}
        print(exports.run())
    """)
    assert done.returncode == 0, done.stderr
    # Each step makes x 7 x + 3.
    assert int(done.stdout) % 2**32 == (pow(7, 20_000_000, 1 << 33) - 1) // 2
    assert "Traceback" not in done.stderr


def test_a_forked_process_compiles_for_itself() -> None:
    done = run("""
        assert becomes_compiled("sum", 1)
        if not os.fork():
            os._exit(42 if becomes_compiled("product", 2) else 1)
        _, status = os.wait()
        assert becomes_compiled("product", 2)
        print(os.waitstatus_to_exitcode(status))
    """)
    assert (done.returncode, done.stdout) == (0, "42\n"), done.stderr


def test_code_that_another_version_makes_is_not_taken() -> None:
    """One may be installed while this process runs: its children would import that one."""
    done = run("""
        import threading
        from wasinn_runtime.engines import background

        def is_compiling():
            return any("background compiler" in t.name for t in threading.enumerate())

        background.generator_digest = lambda: "of what was there before"
        engine = Engine(Config(mode="auto", cache=False))
        module = Module(engine, bytes.fromhex(sys.argv[1]))
        exports = Instance(Store(engine), module, [tick]).exports
        exports.sum(1_000_000)
        end = time.monotonic() + 100
        while is_compiling() and not module.code._compiled and time.monotonic() < end:
            time.sleep(0.01)
        print(is_compiling(), module.code._compiled, exports.sum(3))
    """)
    assert (done.returncode, done.stdout) == (0, "False set() 171\n"), done.stderr
