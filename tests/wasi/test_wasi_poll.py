"""``poll_oneoff``: clocks, streams and files, errors per event, interruption."""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wasi.fake_guest import PAGE, Guest
from wasinn_host.wasi import Capture, Preopen, Stdio, WasiConfig
from wasinn_host.wasi.abi import Errno, Rights

OK = Errno.SUCCESS
CLOCK, READ, WRITE = 0, 1, 2
REALTIME, MONOTONIC, CPU = 0, 1, 2
ABSOLUTE = 1
HOUR_NS = 3600 * 10**9


def clock(userdata: int, timeout_ns: int, clock_id: int = MONOTONIC, flags: int = 0) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", userdata, CLOCK, clock_id, timeout_ns, 0, flags)


def on_fd(userdata: int, kind: int, fd: int) -> bytes:
    return struct.pack("<QB7xI28x", userdata, kind, fd)


def poll(guest: Guest, *subscriptions: bytes) -> tuple[Errno, list[tuple[int, int, int, int, int]]]:
    """errno, events as (userdata, error, type, bytes, flags)."""
    source = guest.put(b"".join(subscriptions))
    out, count = guest.alloc(32 * len(subscriptions)), guest.alloc(4)
    errno = guest.call("poll_oneoff", source, out, len(subscriptions), count)
    if errno is not OK:
        return errno, []
    data = guest.memory.read(out, 32 * guest.memory.read_u32(count))
    return errno, list(struct.iter_unpack("<QHB5xQH6x", data))


@pytest.fixture
def piped() -> Iterator[tuple[Guest, int, int]]:
    """A guest whose stdin and stdout are pipes; our ends of them."""
    stdin, feed = os.pipe()
    drain, stdout = os.pipe()
    config = WasiConfig(stdin=stdin, stdout=stdout, stderr=Capture())
    with Guest(config) as guest:
        yield guest, feed, drain
    for fd in (stdin, feed, drain, stdout):
        with contextlib.suppress(OSError):  # a test may have closed it
            os.close(fd)


@pytest.fixture
def silent() -> Iterator[Guest]:
    with Guest(WasiConfig(stdin=b"data", stdout=Stdio.NULL, stderr=Stdio.NULL)) as guest:
        yield guest


def test_sleeping_takes_as_long_as_asked(silent: Guest) -> None:
    started = time.monotonic()
    assert poll(silent, clock(7, 30_000_000)) == (OK, [(7, 0, CLOCK, 0, 0)])
    assert 0.03 <= time.monotonic() - started < 5


def test_the_first_clock_wins(silent: Guest) -> None:
    errno, events = poll(silent, clock(1, HOUR_NS), clock(2, 10_000_000), clock(3, HOUR_NS))
    assert (errno, [event[0] for event in events]) == (OK, [2])


def test_clocks_that_end_together_all_tell(silent: Guest) -> None:
    errno, events = poll(silent, clock(1, 0), clock(2, 0), clock(3, HOUR_NS))
    assert (errno, [event[0] for event in events]) == (OK, [1, 2])


@pytest.mark.parametrize("clock_id", [REALTIME, MONOTONIC])
@pytest.mark.parametrize("ahead_ns", [-(10**9), 0, 20_000_000])
def test_points_in_time(silent: Guest, clock_id: int, ahead_ns: int) -> None:
    now = time.time_ns() if clock_id == REALTIME else time.monotonic_ns()
    started = time.monotonic()
    when = max(now + ahead_ns, 0)
    assert poll(silent, clock(1, when, clock_id, ABSOLUTE)) == (OK, [(1, 0, CLOCK, 0, 0)])
    assert time.monotonic() - started < 5
    assert time.monotonic() - started >= ahead_ns / 1e9 * 0.9


def test_absolute_zero_is_long_past(silent: Guest) -> None:
    for clock_id in (REALTIME, MONOTONIC):
        assert poll(silent, clock(1, 0, clock_id, ABSOLUTE))[0] is OK


@pytest.mark.parametrize("timeout_ns", [HOUR_NS, 2**63, 2**64 - 1])
@pytest.mark.parametrize("with_stream", [False, True])
def test_a_long_sleep_ends_when_the_guest_is_stopped(
    piped: tuple[Guest, int, int], timeout_ns: int, with_stream: bool
) -> None:
    guest, _, _ = piped
    timer = threading.Timer(0.1, guest.caller.interrupt.set)
    timer.start()
    started = time.monotonic()
    subscriptions = [clock(1, timeout_ns)] + [on_fd(2, READ, 0)] * with_stream
    assert poll(guest, *subscriptions)[0] is Errno.INTR
    assert 0.05 < time.monotonic() - started < 5
    timer.join()


def test_waiting_for_input_alone_ends_when_the_guest_is_stopped(
    piped: tuple[Guest, int, int],
) -> None:
    guest, _, _ = piped
    timer = threading.Timer(0.1, guest.caller.interrupt.set)
    timer.start()
    assert poll(guest, on_fd(1, READ, 0))[0] is Errno.INTR
    timer.join()


def test_input_arrives_before_the_timeout(piped: tuple[Guest, int, int]) -> None:
    guest, feed, _ = piped
    timer = threading.Timer(0.05, os.write, (feed, b"hello"))
    timer.start()
    assert poll(guest, clock(1, HOUR_NS), on_fd(2, READ, 0)) == (OK, [(2, 0, READ, 5, 0)])
    timer.join()
    assert guest.read(0, 100) == (OK, b"hello")


def test_the_timeout_comes_before_input(piped: tuple[Guest, int, int]) -> None:
    guest, _, _ = piped
    assert poll(guest, clock(1, 20_000_000), on_fd(2, READ, 0)) == (OK, [(1, 0, CLOCK, 0, 0)])


def test_a_closed_pipe_hangs_up(piped: tuple[Guest, int, int]) -> None:
    guest, feed, drain = piped
    os.close(feed)
    assert poll(guest, on_fd(2, READ, 0)) == (OK, [(2, 0, READ, 0, 1)])
    os.close(drain)
    errno, events = poll(guest, on_fd(3, WRITE, 1))
    assert errno is OK
    assert events[0][4] == 1


def test_everything_that_is_ready_tells(piped: tuple[Guest, int, int]) -> None:
    guest, feed, _ = piped
    os.write(feed, b"abc")
    errno, events = poll(
        guest, on_fd(1, READ, 0), on_fd(2, WRITE, 1), on_fd(3, WRITE, 2), clock(4, HOUR_NS)
    )
    assert errno is OK
    assert sorted(events) == [(1, 0, READ, 3, 0), (2, 0, WRITE, 0, 0), (3, 0, WRITE, 0, 0)]


def test_the_same_descriptor_may_be_asked_twice(piped: tuple[Guest, int, int]) -> None:
    guest, feed, _ = piped
    os.write(feed, b"abc")
    errno, events = poll(guest, on_fd(1, READ, 0), on_fd(2, READ, 0))
    assert (errno, events) == (OK, [(1, 0, READ, 3, 0), (2, 0, READ, 3, 0)])


def test_memory_streams_are_always_ready(silent: Guest) -> None:
    errno, events = poll(silent, on_fd(1, READ, 0), on_fd(2, WRITE, 1))
    assert (errno, events) == (OK, [(1, 0, READ, 4, 0), (2, 0, WRITE, 0, 0)])


def test_files_tell_how_much_is_left(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    config = WasiConfig(preopens=[Preopen(tmp_path, "/")], stdin=Stdio.NULL)
    with Guest(config) as guest:
        fd = guest.opened("f", base=Rights.FILE)
        guest.read(fd, 4)
        errno, events = poll(guest, on_fd(1, READ, fd), on_fd(2, WRITE, fd), on_fd(3, READ, 3))
        assert errno is OK
        assert events == [
            (1, 0, READ, 6, 0),
            (2, 0, WRITE, 0, 0),
            (3, Errno.NOTCAPABLE, READ, 0, 0),
        ]
        guest.seek(fd, 100)
        assert poll(guest, on_fd(1, READ, fd)) == (OK, [(1, 0, READ, 0, 0)])


def test_what_can_not_work_is_an_event(silent: Guest) -> None:
    errno, events = poll(
        silent,
        on_fd(1, READ, 99),
        on_fd(2, WRITE, 2**32 - 1),
        clock(3, 0, CPU),
        clock(4, 0, 9),
        clock(5, 0, MONOTONIC, 2),
        clock(6, HOUR_NS),
    )
    assert errno is OK
    assert events == [
        (1, Errno.BADF, READ, 0, 0),
        (2, Errno.BADF, WRITE, 0, 0),
        (3, Errno.INVAL, CLOCK, 0, 0),
        (4, Errno.INVAL, CLOCK, 0, 0),
        (5, Errno.INVAL, CLOCK, 0, 0),
    ]


def test_nothing_or_too_much_to_wait_for_is_invalid(silent: Guest) -> None:
    assert silent.call("poll_oneoff", 0, 0, 0, 0) is Errno.INVAL
    for count in (4097, 2**26, 2**32 - 1):
        assert silent.call("poll_oneoff", 0, 0, count, 0) is Errno.INVAL
    assert poll(silent, struct.pack("<QB39x", 0, 3))[0] is Errno.INVAL
    assert poll(silent, clock(1, 0), struct.pack("<QB39x", 0, 255))[0] is Errno.INVAL


def test_many_subscriptions_and_both_arrays_at_one_place(silent: Guest) -> None:
    silent.memory.write(0, b"".join(clock(number, 0) for number in range(1000)))
    out = 100_000
    assert silent.call("poll_oneoff", 0, 0, 1000, out) is OK
    assert silent.memory.read_u32(out) == 1000
    events = list(struct.iter_unpack("<QHB5xQH6x", silent.memory.read(0, 32_000)))
    assert [event[0] for event in events] == list(range(1000))


def test_places_outside_of_memory_are_fault(silent: Guest) -> None:
    end = 2 * PAGE
    silent.memory.write(0, clock(1, 0))
    assert silent.call("poll_oneoff", end - 47, 0, 1, 0) is Errno.FAULT
    assert silent.call("poll_oneoff", 0, end - 31, 1, 0) is Errno.FAULT
    assert silent.call("poll_oneoff", 0, 0, 1, end - 3) is Errno.FAULT
    assert silent.call("poll_oneoff", 2**32 - 1, 2**32 - 1, 1, 2**32 - 1) is Errno.FAULT
    assert silent.call("poll_oneoff", 0, 64, 1, 128) is OK
