"""Deadlines and cancellation of a store's running call. Costs guest code nothing.

A stop marks the thread's activations and sends the thread a signal. In guest code the handler
leaves at once; while a host function runs the mark waits until it returns, and host functions that
may wait long look at ``Interrupt`` themselves.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import Activation

if TYPE_CHECKING:
    from wasinn_runtime.machine.native import Cells

__all__ = ["Deadline", "Interrupt"]


class Interrupt:
    """Whether somebody wants a store's running call to end, and a way to wait for that.

    Host functions that wait look at it: ``wait`` instead of ``time.sleep``, or ``fileno`` beside
    their own descriptors in ``select``. Thread-safe.
    """

    def __init__(self, stop_signal: int) -> None:
        self._signal = stop_signal
        # Reentrant: a Python signal handler may trigger in the middle of ``begin`` or ``end``.
        self._lock = threading.RLock()
        self._is_set = False
        self._event: threading.Event | None = None  # once somebody waits
        self._reason = ""
        self._thread: int | None = None
        self._activations: list[Cells] = []
        self._pipe: tuple[int, int] | None = None
        # Told how many calls are under way whenever that changes.
        self.watcher: Callable[[int], None] | None = None

    @property
    def reason(self) -> str:
        """Why: ``timeout`` or whatever ``trigger`` was given; empty while not set."""
        return self._reason

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout_s: float | None) -> bool:
        """Sleep until interrupted or until the time is over; True when interrupted."""
        with self._lock:
            if self._event is None:
                self._event = threading.Event()
                if self._is_set:
                    self._event.set()
            event = self._event
        return event.wait(timeout_s)

    def fileno(self) -> int:
        """A descriptor that becomes readable when interrupted."""
        with self._lock:
            if self._pipe is None:
                self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
                weakref.finalize(self, _close_pipe, *self._pipe)
                if self._is_set:
                    os.write(self._pipe[1], b"x")
            return self._pipe[0]

    def trigger(self, reason: str) -> None:
        """End the running call, and refuse further ones until ``clear``."""
        with self._lock:
            if self._is_set:
                return
            self._reason = reason
            self._is_set = True
            # First, or a host call that is woken could be back in the guest before.
            for activation in self._activations:
                activation[Activation.STOP // 8] = 1
            if self._event is not None:
                self._event.set()
            if self._pipe is not None:
                with contextlib.suppress(OSError):
                    os.write(self._pipe[1], b"x")
            if self._thread is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pthread_kill(self._thread, self._signal)

    def clear(self) -> None:
        """Let calls run again."""
        with self._lock:
            self._is_set = False
            if self._event is not None:
                self._event.clear()
            self._reason = ""
            if self._pipe is not None:
                with contextlib.suppress(OSError):
                    os.read(self._pipe[0], 64)

    @contextlib.contextmanager
    def held(self) -> Iterator[int]:
        """How many calls are under way, one inside the other; none begins or ends meanwhile."""
        with self._lock:
            yield len(self._activations)

    def begin(self, activation: Cells, is_outermost: bool) -> bool:
        """Note that a call starts on this thread; False when it must not. ``end`` must follow.

        Args:
            activation: the call's.
            is_outermost: no other call is under way: what is known of one is left from a call whose
                end an exception prevented.
        """
        with self._lock:
            if is_outermost and (self._activations or self.watcher is not None):
                self._activations.clear()
                if self.watcher is not None:
                    self.watcher(0)
            self._activations.append(activation)
            self._thread = threading.get_ident()
            if self.watcher is not None:
                self.watcher(len(self._activations))
            # Last, so that a trigger from a signal handler above is not missed.
            return not self._is_set

    def end(self, activation: Cells) -> None:
        """Note that it ended, if it began; after this no signal is sent for it."""
        with self._lock:
            for i, known in enumerate(self._activations):
                if known is activation:
                    del self._activations[i:]  # with what an exception left of calls inside it
                    break
            if not self._activations:
                self._thread = None
            if self.watcher is not None:
                self.watcher(len(self._activations))


def _close_pipe(*descriptors: int) -> None:
    for fd in descriptors:
        with contextlib.suppress(OSError):
            os.close(fd)


_MOST_DONE = 64


class _Clock:
    """One thread for all deadlines of the process, started when first needed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int, Deadline]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._done = 0  # how many in the heap are over, at least

    def add(self, deadline: Deadline) -> None:
        with self._condition:
            entry = (deadline.at_s, next(self._numbers), deadline)
            heapq.heappush(self._heap, entry)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="wasinn-clock", daemon=True)
                self._thread.start()
            if self._heap[0] is entry:
                self._condition.notify()

    def forget(self) -> None:
        """A deadline that was added is done; the heap shall not grow by what is."""
        with self._condition:
            self._done += 1
            if self._done > _MOST_DONE and 2 * self._done > len(self._heap):
                self._heap = [entry for entry in self._heap if not entry[2].done]
                heapq.heapify(self._heap)
                self._done = 0

    def _run(self) -> None:
        while True:
            with self._condition:
                while self._heap and self._heap[0][2].done:
                    heapq.heappop(self._heap)
                if not self._heap:
                    self._condition.wait()
                    continue
                remaining_s = self._heap[0][0] - time.monotonic()
                if remaining_s > 0:
                    self._condition.wait(min(remaining_s, 3600.0))
                    continue
                _, _, deadline = heapq.heappop(self._heap)
            deadline.expire()


_clock = _Clock()


def _restart_clock() -> None:
    """A forked child has no clock thread; it gets its own when it needs one."""
    global _clock
    _clock = _Clock()


os.register_at_fork(after_in_child=_restart_clock)


class Deadline:
    """Interrupts with reason ``timeout`` when the time is over, unless it ends before.

    A context manager. Works on every thread.

    Args:
        interrupt: what to trigger.
        timeout_s: seconds of wall time from entering; None for no deadline.
    """

    def __init__(self, interrupt: Interrupt, timeout_s: float | None) -> None:
        self._interrupt = interrupt
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self.at_s = 0.0
        self.done = False

    def __enter__(self) -> Deadline:
        if self._timeout_s is not None:
            self.at_s = time.monotonic() + self._timeout_s
            _clock.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.done = True
        if self._timeout_s is not None:
            _clock.forget()

    def expire(self) -> None:
        with self._lock:
            if not self.done:
                self.done = True
                self._interrupt.trigger("timeout")
