"""KeyboardInterrupt at every place of a call where Python may raise it."""

from __future__ import annotations

import dis
import functools
import sys
import threading
from collections.abc import Callable, Collection
from types import CodeType, FrameType

import wasmtime

from tests.aot.aot_images import image_of
from wasinn_runtime import Captured, Engine, FuncType, HostFunc, Instance, Module, Store
from wasinn_runtime.machine import capture, func, interrupt, store

FILES = {func.__file__, interrupt.__file__, store.__file__}


@functools.cache
def _places(code: CodeType) -> frozenset[int]:
    """Python looks for signals when a function begins, after calls, and when a loop goes back."""
    found, before = set(), ""
    for instruction in dis.get_instructions(code):
        if before in ("RESUME", "CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD"):
            found.add(instruction.offset)
        before = instruction.opname
    return frozenset(found)


def _interrupted_at(
    number: int, call: Callable[[], object], files: Collection[str] = FILES
) -> bool:
    """Whether there is a number-th place in the call; KeyboardInterrupt was raised there."""
    seen = 0

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal seen
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in _places(frame.f_code):
            seen += 1
            if seen == number:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]  # the stub knows no such recursive type
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_the_store_can_be_used_after_it(engine: Engine) -> None:
    module = Module(
        engine, wasmtime.wat2wasm('(module (func (export "f") (result i32) (i32.const 7)))')
    )
    places = 0
    while True:
        used = Store(engine)
        f = Instance(used, module).exports.f
        if not _interrupted_at(places + 1, f):
            break
        places += 1
        assert f() == 7
        results: list[object] = []
        thread = threading.Thread(target=lambda f=f, to=results: to.append(f()))
        thread.start()
        thread.join(20)
        assert results == [7], f"another thread can not use the store after place {places}"
        assert used.interrupt._activations == []
    assert places > 10


def test_a_request_to_capture_does_not_outlive_its_call() -> None:
    """What was asked for in a call that Ctrl-C ended is not for the next one."""
    loop = """(module (import "env" "tick" (func $tick))
      (func (export "run") (param i32)
        (loop $l (call $tick) (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))))"""
    module = Module.from_aot(Engine(), image_of(loop, migratable=True))
    # Not in those that native code calls: what is raised where these begin is told on stderr.
    files = {capture.__file__, interrupt.__file__, store.__file__}
    places = 0
    while True:
        used = Store(module.engine)
        asked: list[None] = []

        def tick(used: Store = used, asked: list[None] = asked) -> None:
            if not asked:
                used.capture()
                asked.append(None)

        run = Instance(used, module, [HostFunc(FuncType((), ()), tick)]).exports.run
        if not _interrupted_at(
            places + 1, functools.partial(run, 1), files
        ):  # no safepoint is left
            break
        places += 1
        asked.append(None)
        try:
            run(3)
        except Captured:
            raise AssertionError(f"asked for in the call before, at place {places}") from None
        assert used.interrupt._activations == []
        assert used.interrupt.watcher is None
    assert places > 20
