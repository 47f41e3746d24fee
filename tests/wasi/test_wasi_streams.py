"""Standard streams: every source and target, buffers, limits, errors of either side."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.wasi.fake_guest import PAGE, Guest
from wasinn_host.wasi import Capture, StdinSource, Stdio, StdoutTarget, WasiConfig, WasiContext
from wasinn_host.wasi.abi import Errno, FileType, Rights
from wasinn_runtime.errors import UsageError


def reader(source: StdinSource) -> Guest:
    return Guest(WasiConfig(stdin=source, stdout=Stdio.NULL, stderr=Stdio.NULL))


def writer(target: StdoutTarget) -> Guest:
    return Guest(WasiConfig(stdin=Stdio.NULL, stdout=target, stderr=Stdio.NULL))


def read_all(guest: Guest, size: int = 7) -> bytes:
    data = b""
    while True:
        errno, part = guest.read(0, size)
        assert errno is Errno.SUCCESS
        if not part:
            return data
        data += part


TEXT = "zwölf Boxkämpfer 日本\n" * 20


class Chunks:
    """A callback that gives odd pieces."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __call__(self, size: int) -> bytes:
        part, self.data = self.data[: min(size, 5)], self.data[min(size, 5) :]
        return part


@pytest.mark.parametrize(
    "source",
    [
        TEXT,
        TEXT.encode(),
        io.BytesIO(TEXT.encode()),
        io.StringIO(TEXT),
        io.TextIOWrapper(io.BytesIO(TEXT.encode()), encoding="utf-8"),
        io.BufferedReader(io.BytesIO(TEXT.encode())),
        Chunks(TEXT.encode()),
    ],
    ids=["str", "bytes", "BytesIO", "StringIO", "text file", "buffered", "callback"],
)
def test_every_input_is_read_to_its_end(source: StdinSource) -> None:
    with reader(source) as guest:
        assert read_all(guest) == TEXT.encode()
        assert guest.read(0, 10) == (Errno.SUCCESS, b"")


def test_input_from_a_file_and_from_a_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_text(TEXT)
    with reader(path) as guest:
        assert read_all(guest) == TEXT.encode()
    with path.open("rb", buffering=0) as file, reader(file.fileno()) as guest:
        assert read_all(guest, 1000) == TEXT.encode()


def test_null_has_nothing_and_takes_everything() -> None:
    with reader(Stdio.NULL) as guest:
        assert guest.read(0, 10) == (Errno.SUCCESS, b"")
        assert guest.write(1, b"12", b"345") == (Errno.SUCCESS, 5)


def test_reading_spreads_over_several_buffers() -> None:
    with reader(b"abcdefghij") as guest:
        assert guest.read(0, 3, 0, 4) == (Errno.SUCCESS, b"abcdefg")
        assert guest.read(0, 100) == (Errno.SUCCESS, b"hij")


def test_every_output_gets_every_byte(tmp_path: Path) -> None:
    pieces: list[bytes] = []
    capture, binary, text = Capture(), io.BytesIO(), io.StringIO(newline="")
    wrapped = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    path = tmp_path / "out"
    targets: list[StdoutTarget] = [capture, binary, text, wrapped, pieces.append, path]
    for target in targets:
        with writer(target) as guest:
            # Split inside a character: a text target must not see half of it.
            data = TEXT.encode()
            for start in range(0, len(data), 9):
                part = data[start : start + 9]
                assert guest.write(1, part[:4], b"", part[4:]) == (Errno.SUCCESS, len(part))
    wrapped.flush()
    assert capture.data == binary.getvalue() == b"".join(pieces) == TEXT.encode()
    assert capture.text == text.getvalue() == TEXT
    assert path.read_bytes() == TEXT.encode()
    assert wrapped.buffer.getvalue() == TEXT.encode()


def test_text_that_is_not_utf8_is_replaced_and_ends_at_close() -> None:
    text = io.StringIO()
    with writer(text) as guest:
        guest.write(1, b"a\xffb\xe6\x97")
    assert text.getvalue() == "a\ufffdb\ufffd"


def test_capture_stops_at_its_limit_as_a_full_disk_does() -> None:
    capture = Capture(max_bytes=10)
    with writer(capture) as guest:
        assert guest.write(1, b"12345678") == (Errno.SUCCESS, 8)
        assert guest.write(1, b"abcdef") == (Errno.SUCCESS, 2)
        assert guest.write(1, b"x")[0] is Errno.NOSPC
        assert guest.write(1, b"") == (Errno.SUCCESS, 0)
    assert capture.data == b"12345678ab"
    assert capture.truncated
    with pytest.raises(UsageError):
        Capture(-1)


def test_a_flood_into_a_capture_is_capped() -> None:
    capture = Capture(max_bytes=1 << 20)
    with writer(capture) as guest:
        for _ in range(64):
            guest.write(1, bytes(PAGE))
    assert len(capture.data) == 1 << 20


@pytest.mark.parametrize("error", [ValueError("mine"), OSError(5, "mine"), KeyboardInterrupt()])
def test_an_exception_of_a_callback_reaches_the_caller_unchanged(error: BaseException) -> None:
    def fail(_: object) -> bytes:
        raise error

    with writer(fail) as guest:
        with pytest.raises(type(error)) as caught:
            guest.write(1, b"x")
        assert caught.value is error
    with reader(fail) as guest:
        with pytest.raises(type(error)) as caught:
            guest.read(0, 1)
        assert caught.value is error


def test_an_oserror_of_a_file_object_is_an_errno() -> None:
    class Full(io.RawIOBase):
        def write(self, data: object, /) -> int:
            raise OSError(28, "No space left on device")

        def read(self, size: int = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    with writer(Full()) as guest:
        assert guest.write(1, b"x")[0] is Errno.NOSPC
    with reader(Full()) as guest:
        assert guest.read(0, 1)[0] is Errno.IO


def test_a_callback_that_does_not_give_bytes_is_told_so() -> None:
    source: Any = lambda size: "text"  # noqa: E731
    with reader(source) as guest, pytest.raises(UsageError, match="expected bytes, got str"):
        guest.read(0, 1)


def test_a_raw_file_that_takes_less_makes_a_short_write() -> None:
    class Slow(io.RawIOBase):
        def write(self, data: bytes, /) -> int:  # type: ignore[override]
            return min(len(data), 2)

    with writer(Slow()) as guest:
        assert guest.write(1, b"abcdef") == (Errno.SUCCESS, 2)


@pytest.mark.parametrize("bad", [1.5, None, True, ["x"], 987654])
def test_what_is_no_stream_is_refused(bad: object) -> None:
    with pytest.raises(UsageError, match="stdin"):
        WasiContext(WasiConfig(stdin=bad))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="stderr"):
        WasiContext(WasiConfig(stderr=bad))  # type: ignore[arg-type]


def test_a_file_that_can_not_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no-such.*No such file"):
        WasiContext(WasiConfig(stdin=tmp_path / "no-such"))


def test_directions_are_kept_apart() -> None:
    with Guest(WasiConfig(stdin=b"x", stdout=Capture(), stderr=Capture())) as guest:
        assert guest.write(0, b"x")[0] is Errno.NOTCAPABLE
        assert guest.read(1, 1)[0] is Errno.NOTCAPABLE
        assert guest.seek(1, 0)[0] is Errno.SPIPE
        assert guest.call("fd_tell", 0, 0) is Errno.SPIPE
        assert guest.call("fd_pread", 0, 0, 0, 0, 0) is Errno.SPIPE


def test_a_terminal_is_one_for_the_guest_and_a_pipe_is_none() -> None:
    leader, follower = pty.openpty()
    read_end, write_end = os.pipe()
    try:
        config = WasiConfig(stdin=follower, stdout=follower, stderr=write_end)
        with Guest(config) as guest:
            seeks = Rights.FD_SEEK | Rights.FD_TELL
            _, (filetype, _, base, _) = guest.fdstat(1)
            # What wasi-libc's isatty looks at.
            assert filetype == FileType.CHARACTER_DEVICE
            assert not base & seeks
            _, (filetype, _, _, _) = guest.fdstat(2)
            assert filetype != FileType.CHARACTER_DEVICE
            assert guest.write(1, b"hi\n") == (Errno.SUCCESS, 3)
            assert os.read(leader, 10) == b"hi\r\n"
            os.write(leader, b"typed\n")
            assert guest.read(0, 10) == (Errno.SUCCESS, b"typed\n")
    finally:
        for fd in (leader, follower, read_end, write_end):
            os.close(fd)


def test_a_closed_pipe_is_an_errno() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        with writer(write_end) as guest:
            assert guest.write(1, b"x")[0] is Errno.PIPE
            assert guest.write(1, bytes(10_000))[0] is Errno.PIPE
    finally:
        os.close(write_end)


def test_a_large_write_to_a_pipe_arrives_whole() -> None:
    read_end, write_end = os.pipe()
    received = bytearray()

    def drain() -> None:
        while part := os.read(read_end, 1 << 16):
            received.extend(part)

    thread = threading.Thread(target=drain)
    thread.start()
    with writer(write_end) as guest:
        data = os.urandom(100_000)
        guest.memory.write(0, data)
        guest.memory.write(120_000, struct.pack("<IIII", 0, 60_000, 60_000, 40_000))
        assert guest.call("fd_write", 1, 120_000, 2, 120_100) is Errno.SUCCESS
        assert guest.memory.read_u32(120_100) == 100_000
    os.close(write_end)
    thread.join()
    os.close(read_end)
    assert bytes(received) == data


@pytest.mark.parametrize("size", [1000, 100_000])
def test_writing_to_a_pipe_nobody_reads_can_be_stopped(size: int) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write_end, bytes(4096))
    os.set_blocking(write_end, True)
    try:
        with writer(write_end) as guest:
            timer = threading.Timer(0.1, guest.caller.interrupt.set)
            timer.start()
            started = time.monotonic()
            assert guest.write(1, bytes(size))[0] is Errno.INTR
            assert 0.05 < time.monotonic() - started < 5
            timer.join()
    finally:
        os.close(read_end)
        os.close(write_end)


def test_reading_a_pipe_nobody_writes_can_be_stopped() -> None:
    read_end, write_end = os.pipe()
    try:
        with reader(read_end) as guest:
            timer = threading.Timer(0.1, guest.caller.interrupt.set)
            timer.start()
            started = time.monotonic()
            assert guest.read(0, 10)[0] is Errno.INTR
            assert 0.05 < time.monotonic() - started < 5
            timer.join()
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_nonblocking_stream_never_waits() -> None:
    read_end, write_end = os.pipe()
    try:
        with Guest(WasiConfig(stdin=read_end, stdout=write_end, stderr=Stdio.NULL)) as guest:
            assert guest.call("fd_fdstat_set_flags", 0, 4) is Errno.SUCCESS
            assert guest.call("fd_fdstat_set_flags", 1, 4) is Errno.SUCCESS
            assert guest.read(0, 10)[0] is Errno.AGAIN
            total = 0
            while True:
                errno, count = guest.write(1, bytes(30_000))
                if errno is not Errno.SUCCESS:
                    break
                total += count
            assert errno is Errno.AGAIN
            # A piece that does not fill a page of the pipe takes one all the same.
            assert 30_000 <= total <= 65_536
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_stream_the_host_has_closed_is_closed_for_the_guest() -> None:
    code = (
        "import os\n"
        "from tests.wasi.fake_guest import FakeCaller, Guest\n"
        "from wasinn_host.wasi import WasiConfig, Preopen\n"
        "caller = FakeCaller()  # its pipe must not take the numbers 0 and 2\n"
        "os.close(0); os.close(2)\n"
        "guest = Guest(WasiConfig(preopens=[Preopen('.', '/')]), caller=caller)\n"
        "print(guest.read(0, 1)[0].name, guest.write(2, b'x')[0].name, flush=True)\n"
        "print(guest.write(1, b'via the guest\\n'), guest.fdstat(3)[0].name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "BADF BADF"
    assert lines[1] == "via the guest"
    assert lines[2].endswith("14) SUCCESS")


# iovecs


def test_iovecs_are_checked_before_anything_is_written() -> None:
    capture = Capture()
    with writer(capture) as guest:
        size = guest.memory.byte_length
        out = 64

        def write_with(count: int, *words: int) -> Errno:
            guest.memory.write(128, struct.pack(f"<{len(words)}I", *words))
            return guest.call("fd_write", 1, 128, count, out)

        guest.memory.write(0, b"abcd")
        assert write_with(2, 0, 4, size - 1, 2) is Errno.FAULT
        assert write_with(1, 0, 2**32 - 1) is Errno.FAULT
        assert write_with(1, 2**32 - 1, 0) is Errno.FAULT
        assert guest.call("fd_write", 1, 128, 2**29, out) is Errno.INVAL
        assert guest.call("fd_write", 1, 128, 2**32 - 1, out) is Errno.INVAL
        assert guest.call("fd_write", 1, size - 4, 1, out) is Errno.FAULT
        assert guest.call("fd_write", 1, 2**32 - 8, 1, out) is Errno.FAULT
        # The result's place is looked at before the bytes go out.
        guest.memory.write(128, struct.pack("<II", 0, 4))
        assert guest.call("fd_write", 1, 128, 1, size - 3) is Errno.FAULT
        assert guest.call("fd_write", 1, 128, 1, 2**32 - 1) is Errno.FAULT
        assert capture.data == b""
        assert write_with(1, 0, 4) is Errno.SUCCESS
        # Unaligned, and inside the data itself: both are fine.
        guest.memory.write(128, struct.pack("<II", 0, 4))
        assert guest.call("fd_write", 1, 128, 1, 1) is Errno.SUCCESS
        assert capture.data == b"abcdabcd"


def test_ten_thousand_empty_iovecs_write_nothing() -> None:
    with writer(Capture()) as guest:
        assert guest.call("fd_write", 1, 1024, 10_000, 0) is Errno.SUCCESS
        assert guest.memory.read_u32(0) == 0


def test_more_than_4_gib_in_all_is_invalid() -> None:
    config = WasiConfig(stdin=Stdio.NULL, stdout=Capture(), stderr=Stdio.NULL)
    with Guest(config, pages=8) as guest:
        size = guest.memory.byte_length
        # Every iovec names the same, valid range; their sum does not fit a u32.
        fits = (2**32 - 1) // size
        guest.memory.write(0, struct.pack("<II", 0, size) * (fits + 1))
        assert guest.call("fd_write", 1, 0, fits + 1, size - 8) is Errno.INVAL
        assert guest.call("fd_write", 1, 0, fits, size - 8) is Errno.SUCCESS


def test_a_file_takes_more_iovecs_than_the_host_in_one_call(tmp_path: Path) -> None:
    with writer(tmp_path / "out") as guest:
        guest.memory.write(0, b"x")
        guest.memory.write(1024, struct.pack("<II", 0, 1) * 3000)
        assert guest.call("fd_write", 1, 1024, 3000, 8) is Errno.SUCCESS
        assert guest.memory.read_u32(8) == 1024
    assert (tmp_path / "out").read_bytes() == b"x" * 1024
