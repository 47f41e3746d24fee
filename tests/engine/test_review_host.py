"""``Host`` where threads and early exits meet it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import wasmtime

from wasinn_host import Host
from wasinn_runtime.errors import UsageError


@pytest.mark.parametrize("invoke", [None, "_start"])
def test_a_start_function_may_exit(invoke: str | None) -> None:
    wasm = wasmtime.wat2wasm(
        """(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (func $first (call $exit (i32.const 3)))
          (start $first)
          (func (export "_start")))"""
    )
    assert Host().run(bytes(wasm), invoke=invoke).exit_code == 3


def test_threads_that_ask_first_get_the_same_graphs() -> None:
    host = Host()
    barrier = threading.Barrier(8)
    found: list[object] = []

    def ask() -> None:
        barrier.wait()
        found.append(host.graphs)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(graphs) for graphs in found}) == 1
    host.close()


@pytest.mark.parametrize(
    ("options", "kind", "part"),
    [
        ({"args": "one"}, UsageError, r"write \['one'\]"),
        ({"args": [1]}, UsageError, r"args\[1\]: expected str or bytes, got int"),
        ({"dirs": "data"}, UsageError, "for example dirs="),
        ({"dirs": ["data"]}, UsageError, "for example dirs="),
        ({"env": ["A=1"]}, UsageError, "env: expected a mapping"),
        ({"capture_output": True, "stdout": print}, UsageError, "capture_output keeps stdout"),
        ({"input": b"", "stdin": b""}, UsageError, "input is all of stdin"),
        ({"timeout": 1}, TypeError, "unknown option 'timeout'; did you mean timeout_s"),
        ({"dir": {}}, TypeError, "did you mean dirs"),
    ],
)
def test_options_that_are_none_are_explained(
    options: dict[str, Any], kind: type[Exception], part: str
) -> None:
    wasm = wasmtime.wat2wasm(
        """(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
          (memory (export "memory") 1) (func (export "_start")))"""
    )
    with pytest.raises(kind, match=part):
        Host().run(bytes(wasm), **options)
