"""What guests ask of the host beside calls: cells for exceptions, growth of shared memories, waits.

The core comes here through one callback. A thread that waits sleeps on a descriptor of its own
beside its store's interrupt, so that deadlines and cancellation end the wait.
"""

from __future__ import annotations

import ctypes
import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from wasinn_runtime.machine import native

if TYPE_CHECKING:
    from wasinn_runtime.machine.interrupt import Interrupt
    from wasinn_runtime.machine.store import Store

__all__ = ["SERVICES_ADDRESS", "grow_shared", "notify", "wait"]

# In a request's first cell; lower/core_exceptions.py and core_services.py write them.
_EXCEPTION, _GROW, _WAIT, _NOTIFY = range(4)
_NOTIFIED, _NOT_EQUAL, _TIMED_OUT = range(3)
_NO_ANSWER = (1 << 64) - 1


@native.callback
def _serve(store: Store, request: ctypes._Pointer[ctypes.c_uint64]) -> None:
    what, a = request[0], request[1]
    if what == _EXCEPTION:
        request[0] = store.exceptions.allocate(a)
        return
    b, c, d = request[2], request[3], request[4]
    if what == _GROW:
        request[0] = grow_shared(store.core, a, b) & _NO_ANSWER
    elif what == _WAIT:
        timeout_ns = c - (1 << 64) if c >> 63 else c
        request[0] = wait(store.interrupt, a, b, timeout_ns, d)
    else:
        request[0] = notify(a, b)


SERVICES_ADDRESS = native.address_of(_serve)


# --- growing ------------------------------------------------------------------------------------

_growing = threading.Lock()


def grow_shared(core: native.Core, definition: int, delta: int) -> int:
    """Grow a memory that several threads may grow at once; pages before, or -1."""
    with _growing:
        return int(core.grow_memory(definition, delta))


# --- waiting ------------------------------------------------------------------------------------


class _Waiter:
    __slots__ = ("event", "notified")

    def __init__(self) -> None:
        self.event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.notified = False


_lock = threading.Lock()
# By host address: one shared memory is one address, whoever imports it. First come, first served.
_waiting: dict[int, deque[_Waiter]] = {}


def wait(interrupt: Interrupt, address: int, expected: int, timeout_ns: int, bits: int) -> int:
    """Sleep until notified, if the memory still holds what is expected.

    Args:
        interrupt: ends the wait early; the caller's call ends then, whatever this returns.
        address: host address of an aligned cell.
        expected: the value, unsigned.
        timeout_ns: how long at most; negative for ever.
        bits: the cell's size, 32 or 64.

    Returns:
        0 notified, 1 another value, 2 the time is over.
    """
    kind = ctypes.c_uint32 if bits == 32 else ctypes.c_uint64
    with _lock:
        if kind.from_address(address).value != expected & ((1 << bits) - 1):
            return _NOT_EQUAL
        me = _Waiter()
        _waiting.setdefault(address, deque()).append(me)
    try:
        _sleep(interrupt, me, timeout_ns)
    finally:
        with _lock:
            queue = _waiting.get(address)
            if queue is not None and me in queue:
                queue.remove(me)
                if not queue:
                    del _waiting[address]
            os.close(me.event)
    return _NOTIFIED if me.notified else _TIMED_OUT


def _sleep(interrupt: Interrupt, me: _Waiter, timeout_ns: int) -> None:
    poll = select.poll()
    poll.register(me.event, select.POLLIN)
    poll.register(interrupt.fileno(), select.POLLIN)
    end = time.monotonic_ns() + timeout_ns
    while not me.notified and not interrupt.is_set():
        if timeout_ns < 0:
            poll.poll()
            continue
        left = end - time.monotonic_ns()
        if left <= 0:
            return
        # At most a day at once: the system counts milliseconds in an int. Never early.
        poll.poll(min(-(-left // 1_000_000), 86_400_000))


def notify(address: int, count: int) -> int:
    """Wake up to ``count`` threads that wait at a host address; how many that were."""
    woken = 0
    with _lock:
        queue = _waiting.get(address)
        while queue and woken < count:
            waiter = queue.popleft()
            waiter.notified = True
            os.eventfd_write(waiter.event, 1)
            woken += 1
        if queue is not None and not queue:
            del _waiting[address]
    return woken
