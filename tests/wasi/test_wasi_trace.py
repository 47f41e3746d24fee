"""``--trace=wasi``: what a line says, where it goes, and that nothing is wrapped without it."""

from __future__ import annotations

import errno as host
import logging
import os
from pathlib import Path

import pytest

from tests.wasi.fake_guest import Guest
from wasinn_host.wasi import Capture, Preopen, Stdio, WasiConfig, WasiContext
from wasinn_host.wasi import errors as wasi_errors
from wasinn_host.wasi.abi import Errno
from wasinn_runtime.errors import GuestExit


@pytest.fixture
def config(tmp_path: Path) -> WasiConfig:
    (tmp_path / "f").write_bytes(b"0123456789")
    return WasiConfig(
        args=["app"],
        preopens=[Preopen(tmp_path, "/")],
        stdin=Stdio.NULL,
        stdout=Capture(),
        stderr=Stdio.NULL,
    )


def test_lines_look_like_strace(config: WasiConfig) -> None:
    lines: list[str] = []
    with Guest(config, trace=lines.append) as guest:
        guest.write(1, b"hello ", b"world!")
        fd = guest.opened("f", base=6)
        guest.read(fd, 4)
        guest.seek(fd, -2, 2)
        guest.call("fd_close", 99)
        guest.open("../x\x1b[31m\n")
        guest.call("path_unlink_file", 3, 2**32 - 1, 5)
        guest.call("random_get", 16, 8)
        guest.call("sock_shutdown", 1, 2)
        guest.call("proc_raise", 6)
        with pytest.raises(GuestExit):
            guest.functions["proc_exit"](guest.caller, 3)
    assert lines[:4] == [
        "fd_write(1, [2 buffers, 12 bytes]) = 0 SUCCESS, nwritten 12",
        "path_open(3, 0x1, 'f', 0x0, 0x6, 0x0, 0x0) = 0 SUCCESS, opened_fd 4",
        "fd_read(4, [1 buffer, 4 bytes]) = 0 SUCCESS, nread 4",
        "fd_seek(4, -2, 2) = 0 SUCCESS, newoffset 8",
    ]
    assert lines[4] == "fd_close(99) = 8 BADF (descriptor 99 is not open)"
    assert lines[5].startswith(r"path_open(3, 0x1, '../x\x1b[31m\n'")
    assert "76 NOTCAPABLE" in lines[5]
    assert lines[6].startswith("path_unlink_file(3, <5 bytes at 0xffffffff>) = 21 FAULT")
    assert lines[7] == "random_get(0x10, 8 bytes) = 0 SUCCESS"
    assert lines[8] == "sock_shutdown(1, 0x2) = 57 NOTSOCK"
    assert lines[9] == "proc_raise(6) = 52 NOSYS (signals are not implemented)"
    assert lines[10] == "proc_exit(3) exits"


def test_a_logger_gets_debug_lines(config: WasiConfig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), Guest(config, trace=logging.getLogger("wasi")) as guest:
        guest.call("sched_yield")
        guest.open("%s%d", oflags=1)
    assert caplog.messages[0] == "sched_yield() = 0 SUCCESS"
    assert "'%s%d'" in caplog.messages[1]


def test_a_sink_must_take_lines(config: WasiConfig) -> None:
    with pytest.raises(TypeError, match="a function or a logger"):
        WasiContext(config, trace=3)  # type: ignore[arg-type]


def test_an_exception_of_a_stream_is_named() -> None:
    lines: list[str] = []

    def fail(_: bytes) -> None:
        raise ValueError("mine")

    config = WasiConfig(stdout=fail)
    with Guest(config, trace=lines.append) as guest, pytest.raises(ValueError, match="mine"):
        guest.write(1, b"x")
    assert lines == ["fd_write(1, [1 buffer, 1 bytes]) raises ValueError"]


def test_an_instance_without_memory_can_be_traced(config: WasiConfig) -> None:
    lines: list[str] = []
    with Guest(config, trace=lines.append) as guest:
        guest.caller.memory = None
        guest.call("fd_write", 1, 0, 1, 0)
        guest.call("path_unlink_file", 3, 0, 5)
    assert lines[0].startswith("fd_write(1, [1 buffer]) = 21 FAULT (the instance exports no mem")


def test_an_unknown_error_of_the_host_is_io_and_told() -> None:
    class Odd:
        def write(self, data: bytes) -> int:
            raise OSError(9999, "odd")

    lines: list[str] = []
    with Guest(WasiConfig(stdout=Odd()), trace=lines.append) as guest:
        assert guest.write(1, b"x")[0] is Errno.IO
    assert "unmapped error of the host: OSError(9999, 'odd')" in lines[0]


@pytest.mark.parametrize("number", sorted(host.errorcode))
def test_every_host_error_of_file_calls_has_a_number(number: int) -> None:
    """The kernel's own (keys, STREAMS, X.25, ...) may be IO; those POSIX knows may not."""
    found, known = wasi_errors.errno_from_os(OSError(number, os.strerror(number)))
    name = host.errorcode[number][1:]
    if name in Errno.__members__:
        assert known
        assert found.name == name
    elif not known:
        assert found is Errno.IO


def test_the_table_knows_what_file_calls_say() -> None:
    names = (
        "EACCES EAGAIN EBADF EBUSY EDQUOT EEXIST EFBIG EINTR EINVAL EIO EISDIR ELOOP EMFILE EMLINK "
        "ENAMETOOLONG ENFILE ENODEV ENOENT ENOMEM ENOSPC ENOTDIR ENOTEMPTY ENXIO EOPNOTSUPP "
        "EOVERFLOW EPERM EPIPE EROFS ESPIPE ETXTBSY EXDEV ENOTSUP EWOULDBLOCK E2BIG ESTALE"
    )
    for name in names.split(" "):
        _, known = wasi_errors.errno_from_os(OSError(getattr(host, name), name))
        assert known, name


def test_nothing_is_wrapped_without_a_sink(config: WasiConfig) -> None:
    with WasiContext(config) as plain, WasiContext(config, trace=lambda line: None) as noisy:
        names = {function.__qualname__ for _, _, function in plain.functions()}
        assert not any("traced" in name for name in names)
        assert all("traced" in function.__qualname__ for _, _, function in noisy.functions())
