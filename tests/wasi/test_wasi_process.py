"""Arguments, environment, clocks, randomness, ending, and calls that are not there."""

from __future__ import annotations

import socket
import struct
import time

import pytest

from tests.wasi.fake_guest import PAGE, Guest
from wasinn_host.wasi import Stdio, WasiConfig, WasiContext
from wasinn_host.wasi.abi import Errno
from wasinn_runtime.errors import GuestExit, UsageError

SILENT = WasiConfig(stdin=Stdio.NULL, stdout=Stdio.NULL, stderr=Stdio.NULL)


def strings(guest: Guest, what: str) -> list[bytes]:
    """What ``args_get`` or ``environ_get`` gives, read the way crt1 does."""
    out = guest.alloc(8)
    assert guest.call(f"{what}_sizes_get", out, out + 4) is Errno.SUCCESS
    count, size = guest.memory.read_u32(out), guest.memory.read_u32(out + 4)
    table, data = guest.alloc(4 * count), guest.alloc(size)
    assert guest.call(f"{what}_get", table, data) is Errno.SUCCESS
    pointers = struct.unpack(f"<{count}I", guest.memory.read(table, 4 * count))
    found = []
    for ptr in pointers:
        assert data <= ptr < data + size
        end = guest.memory.data.index(b"\0", ptr)
        found.append(guest.memory.read(ptr, end - ptr))
    assert sum(len(string) + 1 for string in found) == size
    return found


def test_arguments_and_environment_arrive() -> None:
    config = WasiConfig(
        args=["app", "", "zwölf", b"\xff raw"],
        env={"A": "1", "EMPTY": "", "U": "日本=語"},
        stdin=Stdio.NULL,
        stdout=Stdio.NULL,
        stderr=Stdio.NULL,
    )
    with Guest(config) as guest:
        assert strings(guest, "args") == [b"app", b"", "zwölf".encode(), b"\xff raw"]
        assert strings(guest, "environ") == [b"A=1", b"EMPTY=", "U=日本=語".encode()]


def test_without_arguments_and_environment_both_are_empty() -> None:
    with Guest(SILENT) as guest:
        assert strings(guest, "args") == []
        assert strings(guest, "environ") == []


def test_ten_megabytes_of_arguments_do_not_fit_and_nothing_is_written() -> None:
    with Guest(WasiConfig(args=["x" * (10 << 20)], stdin=Stdio.NULL)) as guest:
        before = bytes(guest.memory.data)
        assert guest.call("args_get", 0, 8) is Errno.FAULT
        assert bytes(guest.memory.data) == before


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (WasiConfig(args=["a\0b"]), r"args\[0\]: contains a NUL"),
        (WasiConfig(args=["\ud800"]), r"args\[0\]: not encodable"),
        (WasiConfig(env={"A": "x\0"}), "NUL"),
        (WasiConfig(env={"A=B": "x"}), "no '='"),
        (WasiConfig(env=[("", "x")]), "not empty"),
    ],
)
def test_what_a_guest_can_not_be_given_is_refused(config: WasiConfig, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        WasiContext(config)


@pytest.mark.parametrize("clock", [0, 1, 2, 3])
def test_clocks_tell_time_and_a_resolution(clock: int) -> None:
    with Guest(SILENT) as guest:
        out = guest.alloc(8)
        assert guest.call("clock_res_get", clock, out) is Errno.SUCCESS
        assert 0 < guest.memory.read_u64(out) <= 10**9
        assert guest.call("clock_time_get", clock, 0, out) is Errno.SUCCESS
        first = guest.memory.read_u64(out)
        assert guest.call("clock_time_get", clock, 2**64 - 1, out) is Errno.SUCCESS
        assert guest.memory.read_u64(out) >= first


def test_realtime_is_the_hosts() -> None:
    with Guest(SILENT) as guest:
        out = guest.alloc(8)
        guest.call("clock_time_get", 0, 0, out)
        assert abs(guest.memory.read_u64(out) - time.time_ns()) < 60 * 10**9


@pytest.mark.parametrize("clock", [4, 2**32 - 1])
def test_unknown_clock_is_invalid(clock: int) -> None:
    with Guest(SILENT) as guest:
        assert guest.call("clock_res_get", clock, 0) is Errno.INVAL
        assert guest.call("clock_time_get", clock, 0, 0) is Errno.INVAL


def test_random_bytes_fill_exactly_the_buffer() -> None:
    with Guest(SILENT) as guest:
        assert guest.call("random_get", 100, 64) is Errno.SUCCESS
        data = guest.memory.data
        assert any(data[100:164])
        assert not any(data[:100])
        assert not any(data[164:])
        assert guest.call("random_get", 0, 0) is Errno.SUCCESS
        assert guest.call("random_get", PAGE, 2**32 - 1) is Errno.FAULT


def test_a_large_random_buffer_is_filled_to_its_end() -> None:
    with Guest(SILENT, pages=48) as guest:
        size = 48 * PAGE
        assert guest.call("random_get", 0, size) is Errno.SUCCESS
        assert any(guest.memory.data[:64])
        assert any(guest.memory.data[-64:])


def test_a_large_random_request_stops_when_the_guest_is_stopped() -> None:
    with Guest(SILENT, pages=48) as guest:
        guest.caller.interrupt.set()
        assert guest.call("random_get", 0, 48 * PAGE) is Errno.INTR


@pytest.mark.parametrize("status", [0, 1, 126, 255, 256, 2**32 - 1])
def test_exit_raises_with_the_status(status: int) -> None:
    with Guest(SILENT) as guest:
        with pytest.raises(GuestExit) as caught:
            guest.functions["proc_exit"](guest.caller, status)
        assert caught.value.code == status


def test_yield_works_and_raise_is_not_there() -> None:
    with Guest(SILENT) as guest:
        assert guest.call("sched_yield") is Errno.SUCCESS
        assert guest.call("proc_raise", 9) is Errno.NOSYS


def test_socket_calls_say_what_is_wrong() -> None:
    with Guest(SILENT) as guest:
        for name, count in (("accept", 2), ("recv", 5), ("send", 4), ("shutdown", 1)):
            assert guest.call(f"sock_{name}", 0, *[0] * count) is Errno.NOTSOCK
            assert guest.call(f"sock_{name}", 99, *[0] * count) is Errno.BADF


def test_an_inherited_socket_is_one_but_socket_calls_are_not_there() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, Guest(WasiConfig(stdin=theirs.fileno(), stdout=theirs.fileno())) as guest:
        assert guest.call("sock_shutdown", 0, 1) is Errno.NOSYS
        ours.send(b"hello")
        assert guest.read(0, 16) == (Errno.SUCCESS, b"hello")
        assert guest.write(1, b"answer") == (Errno.SUCCESS, 6)
        assert ours.recv(16) == b"answer"
