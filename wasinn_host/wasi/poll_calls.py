"""``poll_oneoff``: waiting for clocks and descriptors at once.

A subscription that can not work (a number that is not open, a clock that does not exist) gives an
event with its error, at once, as POSIX ``poll`` does with POLLNVAL; only a subscription nobody
can understand fails the whole call.
"""

from __future__ import annotations

import select
import time
from typing import Final, NamedTuple

from wasinn_host.wasi.abi import (
    EVENT,
    EVENT_HANGUP,
    SUBCLOCK_ABSTIME,
    SUBSCRIPTION,
    ClockId,
    Errno,
    EventType,
    Rights,
)
from wasinn_host.wasi.errors import WasiError, errno_from_os
from wasinn_host.wasi.guest import Caller, check_range, memory_of
from wasinn_host.wasi.table import DescriptorTable

__all__ = ["MAX_SUBSCRIPTIONS", "PollCalls"]

#: More than the descriptors a guest can have by default, for reading and writing each.
MAX_SUBSCRIPTIONS: Final = 4096
#: poll takes milliseconds in a C int; longer waits are done in portions of an hour.
_LONGEST_WAIT_MS: Final = 3_600_000
_HUNG_UP: Final = select.POLLHUP | select.POLLERR


class _Wait(NamedTuple):
    """A descriptor to wait for."""

    userdata: int
    kind: EventType
    fd: int
    host_fd: int
    events: int


class PollCalls:
    """Waiting."""

    def __init__(self, table: DescriptorTable) -> None:
        self._table = table

    def poll_oneoff(
        self, caller: Caller, in_ptr: int, out_ptr: int, nsubscriptions: int, nevents: int
    ) -> None:
        if not nsubscriptions:
            raise WasiError(Errno.INVAL, "nothing to wait for")
        if nsubscriptions > MAX_SUBSCRIPTIONS:
            raise WasiError(
                Errno.INVAL, f"{nsubscriptions} subscriptions, the limit is {MAX_SUBSCRIPTIONS}"
            )
        memory = memory_of(caller)
        check_range(memory, nevents, 4)
        check_range(memory, out_ptr, nsubscriptions * EVENT.size)
        # Copied first: the guest may let both arrays overlap.
        raw = memory.read(in_ptr, nsubscriptions * SUBSCRIPTION.size)

        ready: list[bytes] = []
        clocks: list[tuple[int, int]] = []
        waits: list[_Wait] = []
        for userdata, tag, word, timeout, _, flags in SUBSCRIPTION.iter_unpack(raw):
            if tag == EventType.CLOCK:
                deadline_ns = _deadline_ns(word, timeout, flags)
                if deadline_ns is None:
                    ready.append(EVENT.pack(userdata, Errno.INVAL, tag, 0, 0))
                else:
                    clocks.append((deadline_ns, userdata))
            elif tag in (EventType.FD_READ, EventType.FD_WRITE):
                event, wait = self._subscribe(userdata, EventType(tag), word)
                if event is not None:
                    ready.append(event)
                if wait is not None:
                    waits.append(wait)
            else:
                raise WasiError(Errno.INVAL, f"subscription of unknown type {tag}")

        if not ready:
            ready = self._wait(caller, clocks, waits)
        elif waits:
            # Something is ready already; tell what else is, without waiting.
            ready += self._collect(_poll(waits, None, 0), waits)
        memory.write(out_ptr, b"".join(ready))
        memory.write_u32(nevents, len(ready))

    def _subscribe(
        self, userdata: int, kind: EventType, fd: int
    ) -> tuple[bytes | None, _Wait | None]:
        """Either an event that is there at once, or something to wait for."""
        reads = kind is EventType.FD_READ
        right = Rights.FD_READ if reads else Rights.FD_WRITE
        try:
            descriptor = self._table.get(fd, Rights.POLL_FD_READWRITE | right)
            host_fd = descriptor.host_fd_to_poll()
            if host_fd is None:
                count = descriptor.readable_bytes() if reads else 0
                return EVENT.pack(userdata, Errno.SUCCESS, kind, count, 0), None
        except WasiError as error:
            return EVENT.pack(userdata, error.errno, kind, 0, 0), None
        except OSError as error:
            return EVENT.pack(userdata, errno_from_os(error)[0], kind, 0, 0), None
        events = select.POLLIN if reads else select.POLLOUT
        return None, _Wait(userdata, kind, fd, host_fd, events)

    def _wait(
        self, caller: Caller, clocks: list[tuple[int, int]], waits: list[_Wait]
    ) -> list[bytes]:
        """Block until an event is there.

        Raises:
            WasiError: INTR, the guest is to be stopped.
        """
        first_ns = min(clocks)[0] if clocks else None
        while True:
            left_ns = None if first_ns is None else first_ns - time.monotonic_ns()
            if left_ns is not None and left_ns <= 0:
                left_ns = 0
            if waits:
                found = _poll(waits, caller.interrupt.fileno(), left_ns)
                ready = self._collect(found, waits)
            else:
                # Without descriptors this sleeps more finely than poll's milliseconds.
                caller.interrupt.wait(None if left_ns is None else min(left_ns, 3600 * 10**9) / 1e9)
                ready = []
            if caller.interrupt.is_set():
                raise WasiError(Errno.INTR, "stopped while waiting")
            now_ns = time.monotonic_ns()
            ready += [
                EVENT.pack(userdata, Errno.SUCCESS, EventType.CLOCK, 0, 0)
                for deadline_ns, userdata in clocks
                if deadline_ns <= now_ns
            ]
            if ready:
                return ready

    def _collect(self, found: dict[int, int], waits: list[_Wait]) -> list[bytes]:
        ready = []
        for wait in waits:
            revents = found.get(wait.host_fd, 0)
            if not revents & (wait.events | _HUNG_UP | select.POLLNVAL):
                continue
            count = 0
            if wait.kind is EventType.FD_READ:
                count = self._table.get(wait.fd).readable_bytes()
            flags = EVENT_HANGUP if revents & _HUNG_UP else 0
            error = Errno.BADF if revents & select.POLLNVAL else Errno.SUCCESS
            ready.append(EVENT.pack(wait.userdata, error, wait.kind, count, flags))
        return ready


def _poll(waits: list[_Wait], interrupt_fd: int | None, left_ns: int | None) -> dict[int, int]:
    """Host descriptors that are ready, with what poll says of each."""
    poller = select.poll()
    wanted: dict[int, int] = {}
    for wait in waits:
        wanted[wait.host_fd] = wanted.get(wait.host_fd, 0) | wait.events
    for host_fd, events in wanted.items():
        poller.register(host_fd, events)
    if interrupt_fd is not None:
        poller.register(interrupt_fd, select.POLLIN)
    # Rounded up: to wake before the deadline would only mean to go round again.
    timeout_ms = None if left_ns is None else min(-(-left_ns // 10**6), _LONGEST_WAIT_MS)
    return dict(poller.poll(timeout_ms))


def _deadline_ns(clock: int, timeout_ns: int, flags: int) -> int | None:
    """When a clock subscription ends, on the monotonic clock; None when it can not be done.

    Waiting for CPU time would never end: the process uses none while it waits.
    """
    if flags & ~SUBCLOCK_ABSTIME or clock not in (ClockId.REALTIME, ClockId.MONOTONIC):
        return None
    now_ns = time.monotonic_ns()
    if not flags & SUBCLOCK_ABSTIME:
        return now_ns + timeout_ns
    if clock == ClockId.MONOTONIC:
        return timeout_ns
    return now_ns + timeout_ns - time.time_ns()
