"""Ends computations when their guest's deadline passes or somebody cancels the guest.

While a backend computes, the guest's thread sits in the backend's library and sees no interrupt.
One daemon thread per process watches the interrupts of all guests and calls `Cancellable.cancel`
on whatever they compute at that moment. A computation costs no system call and no wake-up: only a
guest's first one, and the first after an interrupt, tell the thread about a new descriptor.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Iterable
from typing import Final, Protocol

from wasinn_host.nn.plugin import Cancellable

__all__ = ["CancelWatch", "GuestInterrupt", "cancel_all"]

_REPEAT_S: Final = 0.02
"""A cancel that comes before the library has started is lost, so it is repeated at this pace."""


class GuestInterrupt(Protocol):
    """The engine's interrupt, as far as it is needed here."""

    def is_set(self) -> bool: ...

    def fileno(self) -> int: ...


def cancel_all(contexts: Iterable[object]) -> None:
    """Cancels those contexts that can be. A plugin's defect is logged: it must not take down the
    thread that watches for other guests too."""
    for context in contexts:
        if isinstance(context, Cancellable):
            try:
                context.cancel()
            except Exception:
                import logging

                logging.getLogger("wasinn.nn").exception("%r: cancel() failed", context)


class CancelWatch:
    """What one guest computes at this moment, watched for one interrupt.

    Args:
        interrupt: becomes readable when the guest must stop.
    """

    def __init__(self, interrupt: GuestInterrupt) -> None:
        self.interrupt = interrupt
        self._running: list[Cancellable] = []
        self._armed = False

    def enter(self, context: Cancellable) -> bool:
        """Says that a computation is about to start.

        Returns:
            False when the guest must stop already; the computation must not start then, and
            `leave` must be called all the same.
        """
        self._running.append(context)
        if self.interrupt.is_set():
            return False
        if not self._armed:
            self._armed = True
            _watcher().watch(self)
        return True

    def leave(self, context: Cancellable) -> None:
        """Says that the computation is over."""
        self._running.remove(context)

    def close(self) -> None:
        """Stops watching. Must come before the interrupt's descriptor is closed."""
        if self._armed:
            _watcher().forget(self)

    def cancel_running(self) -> bool:
        """Cancels what runs; True when there was something."""
        running = list(self._running)
        cancel_all(running)
        return bool(running)

    def disarm(self) -> None:
        """The watcher no longer waits for this; the next `enter` brings it back."""
        self._armed = False


class _Watcher:
    """The thread, and the descriptors it waits for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: dict[int, CancelWatch] = {}
        self._fired: list[CancelWatch] = []
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        threading.Thread(target=self._loop, name="wasinn-nn-cancel", daemon=True).start()

    def watch(self, watch: CancelWatch) -> None:
        with self._lock:
            self._watches[watch.interrupt.fileno()] = watch
        self._wake()

    def forget(self, watch: CancelWatch) -> None:
        with self._lock:
            self._watches = {fd: w for fd, w in self._watches.items() if w is not watch}
            self._fired = [w for w in self._fired if w is not watch]
        self._wake()

    def _wake(self) -> None:
        # Not writable means that the pipe is full of wake-ups already.
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    def _loop(self) -> None:
        while True:
            with self._lock:
                descriptors = [self._wake_read, *self._watches]
                fired = bool(self._fired)
            poller = select.poll()  # unlike select(), takes descriptors above 1023
            for descriptor in descriptors:
                poller.register(descriptor, select.POLLIN)
            ready = {fd for fd, _event in poller.poll(_REPEAT_S * 1000 if fired else None)}
            if self._wake_read in ready:
                os.read(self._wake_read, 4096)
            with self._lock:
                for descriptor in ready - {self._wake_read}:
                    watch = self._watches.pop(descriptor, None)
                    if watch is not None:
                        # Before anything is cancelled: who enters from here on arms it again.
                        watch.disarm()
                        if watch not in self._fired:
                            self._fired.append(watch)
                self._fired = [
                    w for w in self._fired if w.interrupt.is_set() and w.cancel_running()
                ]


_watcher_lock = threading.Lock()
_the_watcher: list[tuple[int, _Watcher]] = []


def _watcher() -> _Watcher:
    """The process's watcher; a forked child, which inherits no threads, makes its own."""
    with _watcher_lock:
        if not _the_watcher or _the_watcher[0][0] != os.getpid():
            _the_watcher[:] = [(os.getpid(), _Watcher())]
        return _the_watcher[0][1]
