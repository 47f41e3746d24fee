"""KeyboardInterrupt at every place of a call where Python may raise it."""

from __future__ import annotations

import dis
import functools
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType

import wasmtime

from wasinn_runtime import Engine, Instance, Module, Store
from wasinn_runtime.machine import func, interrupt, store

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


def _interrupted_at(number: int, call: Callable[[], object]) -> bool:
    """Whether there is a number-th place in the call; KeyboardInterrupt was raised there."""
    seen = 0

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal seen
        if frame.f_code.co_filename not in FILES:
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
