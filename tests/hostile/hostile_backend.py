"""A backend plugin that does harm on demand: the first byte of its input says which.

A real plugin by the contract. What ends a process is for isolation only; the rest is for both.
"""

from __future__ import annotations

import array
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tests.nn.wrong_backends import Context, Doubling, Good
from wasinn_host.nn.plugin import Sample, Tensor, TensorType, WasiNnError

__all__ = ["ENDS", "FAULTS", "HostileBackend"]


class Unusual(Exception):
    """What can not be pickled, nor printed."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = threading.Lock()

    def __str__(self) -> str:
        raise RuntimeError("no text")


def _exits() -> None:
    raise SystemExit(0)


def _forks() -> None:
    if os.fork() == 0:
        os._exit(0)
    os.wait()


def _leaves_a_child() -> None:
    if os.fork() == 0:
        time.sleep(2)
        os._exit(0)


def _leaves_a_thread() -> None:
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()


def _noise() -> None:
    print("noise from print")
    os.write(1, b"noise from the system's write\n" * 1000)
    sys.stdout.flush()


def _raises(error: BaseException) -> Callable[[], None]:
    def fault() -> None:
        raise error

    return fault


def _allocates() -> None:
    np.ones(100 << 30, np.uint8)


def _recurses() -> None:
    _recurses()


# What ends the backend's process, and what the message says of it.
ENDS: Mapping[int, tuple[Callable[[], object], str]] = {
    1: (lambda: signal.raise_signal(signal.SIGSEGV), "SIGSEGV"),
    2: (os.abort, "SIGABRT"),
    3: (lambda: os._exit(0), "ended with status 0"),
    4: (lambda: os._exit(77), "ended with status 77"),
    # What the kernel does to a process when memory runs out.
    5: (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
    6: (lambda: signal.raise_signal(signal.SIGFPE), "SIGFPE"),
}
# What does not, and the number that the guest gets.
FAULTS: Mapping[int, tuple[Callable[[], object], int]] = {
    20: (_noise, 0),
    21: (_leaves_a_thread, 0),
    22: (_forks, 0),
    23: (_allocates, 7),
    24: (_recurses, 5),
    25: (_raises(ZeroDivisionError("a fault")), 5),
    26: (_raises(Unusual()), 5),
    27: (_raises(OSError(28, "No space left on device")), 5),
    28: (_raises(StopIteration()), 5),
    29: (_raises(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x" * 100_000)), 5),
    30: (_leaves_a_child, 0),
}


class _Hostile(Context):
    def compute(self) -> None:
        super().compute()
        assert self.input is not None
        what = self.input.data[0]
        if what in ENDS:
            ENDS[what][0]()
        elif what in FAULTS:
            fault, _ = FAULTS[what]
            fault()

    def get_output(self, index: int) -> Tensor:
        right = super().get_output(index)
        assert self.input is not None
        wrong: Tensor = _wrong_output(self.input.data[0], right)
        return wrong


def _wrong_output(what: int, right: Any) -> Any:
    """What is no tensor, or another one than the graph says, for 40 and more."""
    floats = memoryview(array.array("f", [1, 2, 3, 4]))
    return {
        40: None,
        41: b"bytes",
        42: (1, 2, 3),
        43: replace(right, data=memoryview(b"")),
        44: replace(right, shape=(1 << 40, 1 << 40)),
        45: replace(right, type=TensorType.F64),
        46: replace(right, data=None),
        47: replace(right, data=floats),
        48: replace(right, data=memoryview(bytes(8))[::2]),
        49: replace(right, shape=(-1, -1)),
        50: replace(right, shape=None),
        51: WasiNnError,
    }.get(what, right)


class _HostileGraph(Doubling):
    context = _Hostile


class HostileBackend(Good):
    """Doubles bytes, and does what the first one says."""

    graph = _HostileGraph

    def samples(self) -> Sequence[Sample]:
        return ()
