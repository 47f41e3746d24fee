"""Open files and the descriptor table: positions, sizes, times, flags, rights, numbers."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from tests.wasi.conftest import MakeGuest
from tests.wasi.fake_guest import PAGE, Guest
from wasinn_host.wasi.abi import Errno, FileType, Rights

RW = Rights.FILE
CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
APPEND, DSYNC, NONBLOCK, RSYNC, SYNC = 1, 2, 4, 8, 16
OK = Errno.SUCCESS
BAD_FDS = [42, 2**31, 2**32 - 1]


@pytest.fixture
def file(guest: Guest, root: Path) -> int:
    """``f`` with ten bytes, open with every right."""
    (root / "f").write_bytes(b"0123456789")
    return guest.opened("f", base=RW)


def test_reading_and_writing_move_the_position(guest: Guest, file: int, root: Path) -> None:
    assert guest.read(file, 3, 2) == (OK, b"01234")
    assert guest.write(file, b"AB", b"C") == (OK, 3)
    assert guest.seek(file, 0, 1) == (OK, 8)
    assert guest.read(file, 100) == (OK, b"89")
    assert guest.read(file, 100) == (OK, b"")
    assert (root / "f").read_bytes() == b"01234ABC89"


@pytest.mark.parametrize(
    ("offset", "whence", "expected"),
    [(4, 0, 4), (-3, 2, 7), (2**40, 0, 2**40), (0, 2, 10)],
)
def test_seeking(guest: Guest, file: int, offset: int, whence: int, expected: int) -> None:
    assert guest.seek(file, offset, whence) == (OK, expected)
    out = guest.alloc(8)
    assert guest.call("fd_tell", file, out) is OK
    assert guest.memory.read_u64(out) == expected


@pytest.mark.parametrize(
    ("offset", "whence"), [(-1, 0), (-11, 2), (0, 3), (0, 2**32 - 1), (-(2**63), 1)]
)
def test_bad_seeks_are_invalid_and_do_not_move(
    guest: Guest, file: int, offset: int, whence: int
) -> None:
    assert guest.seek(file, 5)[0] is OK
    assert guest.seek(file, offset, whence)[0] is Errno.INVAL
    assert guest.seek(file, 0, 1) == (OK, 5)


def test_positioned_calls_leave_the_position(guest: Guest, file: int, root: Path) -> None:
    iovs, buffers = guest.iovecs([2, 3])
    out = guest.alloc(4)
    assert guest.call("fd_pread", file, iovs, 2, 6, out) is OK
    assert guest.memory.read_u32(out) == 4
    assert guest.memory.read(buffers[0], 2) + guest.memory.read(buffers[1], 2) == b"6789"
    guest.memory.write(buffers[0], b"xy")
    assert guest.call("fd_pwrite", file, iovs, 1, 1, out) is OK
    assert guest.seek(file, 0, 1) == (OK, 0)
    assert (root / "f").read_bytes() == b"0xy3456789"
    for name in ("fd_pread", "fd_pwrite"):
        assert guest.call(name, file, iovs, 1, 2**63, out) is Errno.INVAL
        assert guest.call(name, file, iovs, 1, -1, out) is Errno.INVAL


def test_append_and_changing_it(guest: Guest, root: Path) -> None:
    (root / "log").write_bytes(b"one")
    fd = guest.opened("log", base=RW, fdflags=APPEND)
    guest.write(fd, b"two")
    assert guest.fdstat(fd)[1][1] == APPEND
    assert guest.call("fd_fdstat_set_flags", fd, 0) is OK
    assert guest.seek(fd, 0)[0] is OK
    guest.write(fd, b"ONE")
    assert (root / "log").read_bytes() == b"ONEtwo"
    assert guest.call("fd_fdstat_set_flags", fd, APPEND | NONBLOCK) is OK
    guest.write(fd, b"!")
    assert (root / "log").read_bytes() == b"ONEtwo!"
    assert guest.call("fd_fdstat_set_flags", fd, SYNC) is Errno.NOTSUP
    assert guest.call("fd_fdstat_set_flags", fd, 32) is Errno.INVAL
    assert guest.fdstat(fd)[1][1] == APPEND | NONBLOCK


@pytest.mark.parametrize("flags", [DSYNC, SYNC, RSYNC, DSYNC | RSYNC | SYNC])
def test_sync_flags_are_taken_at_open(guest: Guest, root: Path, flags: int) -> None:
    fd = guest.opened("s", oflags=CREAT, base=RW, fdflags=flags)
    assert guest.write(fd, b"x") == (OK, 1)
    assert guest.fdstat(fd)[1][1] == flags


def test_status_of_an_open_file(guest: Guest, file: int, root: Path) -> None:
    out = guest.alloc(64)
    assert guest.call("fd_filestat_get", file, out) is OK
    status = os.stat(root / "f")
    dev, ino, filetype, nlink, size, _, mtim, _ = struct.unpack(
        "<QQB7xQQQQQ", guest.memory.read(out, 64)
    )
    assert (dev, ino, nlink, size, mtim) == (
        status.st_dev,
        status.st_ino,
        1,
        10,
        status.st_mtime_ns,
    )
    assert filetype == FileType.REGULAR_FILE


def test_size_and_space(guest: Guest, file: int, root: Path) -> None:
    assert guest.call("fd_filestat_set_size", file, 4) is OK
    assert (root / "f").read_bytes() == b"0123"
    assert guest.call("fd_allocate", file, 0, 100) is OK
    assert (root / "f").stat().st_size == 100
    assert guest.call("fd_allocate", file, 0, 0) is Errno.INVAL
    for size in (2**62, 2**63, 2**64 - 1):
        assert guest.call("fd_filestat_set_size", file, size) in (Errno.FBIG, Errno.INVAL)
        assert guest.call("fd_allocate", file, 0, size) in (Errno.FBIG, Errno.NOSPC)
    assert guest.call("fd_allocate", file, 2**64 - 1, 2**64 - 1) is Errno.FBIG
    assert (root / "f").stat().st_size == 100


def test_allocating_more_than_is_free_does_not_fill_the_disk(
    guest: Guest, file: int, root: Path
) -> None:
    room = os.statvfs(root)
    wanted = room.f_bavail * room.f_frsize + (1 << 30)
    assert guest.call("fd_allocate", file, 0, wanted) is Errno.NOSPC
    assert (root / "f").stat().st_blocks < 1000


def test_times_of_an_open_file(guest: Guest, file: int, root: Path) -> None:
    assert guest.call("fd_filestat_set_times", file, 123_000_000_000, 456_000_000_007, 5) is OK
    status = (root / "f").stat()
    assert (status.st_atime_ns, status.st_mtime_ns) == (123_000_000_000, 456_000_000_007)
    # Only one of them, and the other is left alone.
    assert guest.call("fd_filestat_set_times", file, 0, 789, 4) is OK
    status = (root / "f").stat()
    assert (status.st_atime_ns, status.st_mtime_ns) == (123_000_000_000, 789)
    assert guest.call("fd_filestat_set_times", file, 0, 0, 2 | 8) is OK
    assert (root / "f").stat().st_mtime_ns > 10**18
    for flags in (3, 12, 16, 2**32 - 1):
        assert guest.call("fd_filestat_set_times", file, 0, 0, flags) is Errno.INVAL
    assert guest.call("fd_filestat_set_times", file, 0, 0, 0) is OK


def test_times_at_the_ends_of_their_range(guest: Guest, file: int, root: Path) -> None:
    errno = guest.call("fd_filestat_set_times", file, 2**64 - 1, 2**63, 5)
    assert errno in (OK, Errno.INVAL, Errno.OVERFLOW)
    # A host file from before 1970 stays readable; WASI has no number for its time.
    os.utime(root / "f", ns=(-(10**15), -(10**15)))
    errno, status = guest.stat("f")
    assert errno is OK
    assert (status.atim, status.mtim) == (0, 0)


@pytest.mark.parametrize("advice", range(6))
def test_advice(guest: Guest, file: int, advice: int) -> None:
    assert guest.call("fd_advise", file, 0, 0, advice) is OK
    assert guest.call("fd_advise", file, 2**63, 1, advice) is Errno.INVAL
    assert guest.call("fd_advise", file, 0, 0, 6) is Errno.INVAL


def test_sync(guest: Guest, file: int) -> None:
    assert guest.call("fd_sync", file) is OK
    assert guest.call("fd_datasync", file) is OK
    assert guest.call("fd_sync", guest.DIR) is OK


@pytest.mark.parametrize("fd", BAD_FDS)
def test_numbers_that_are_not_open(guest: Guest, fd: int) -> None:
    for name, count in {
        "fd_close": 0,
        "fd_sync": 0,
        "fd_datasync": 0,
        "fd_tell": 1,
        "fd_fdstat_get": 1,
        "fd_filestat_get": 1,
        "fd_prestat_get": 1,
        "fd_prestat_dir_name": 2,
        "fd_read": 3,
        "fd_write": 3,
        "fd_pread": 4,
        "fd_pwrite": 4,
        "fd_seek": 3,
        "fd_readdir": 4,
        "fd_advise": 3,
        "fd_allocate": 2,
        "fd_fdstat_set_flags": 1,
        "fd_fdstat_set_rights": 2,
        "fd_filestat_set_size": 1,
        "fd_filestat_set_times": 3,
    }.items():
        assert guest.call(name, fd, *[0] * count) is Errno.BADF, name
    assert guest.open("f", fd=fd)[0] is Errno.BADF
    assert guest.call("fd_renumber", fd, guest.DIR) is Errno.BADF
    assert guest.call("fd_renumber", guest.DIR, fd) is Errno.BADF


# Rights.


def test_rights_are_what_was_asked_for_and_what_the_kind_can_do(guest: Guest, root: Path) -> None:
    (root / "f").touch()
    (root / "d").mkdir()
    everything = Rights.ALL
    fd = guest.opened("f", base=everything)
    assert guest.fdstat(fd)[1] == (FileType.REGULAR_FILE, 0, Rights.FILE, 0)
    fd = guest.opened("f", base=Rights.FD_READ)
    assert guest.fdstat(fd)[1][2] == Rights.FD_READ
    fd = guest.opened("d", base=everything & ~Rights.IMPLIES_WRITE, inheriting=2**64 - 1)
    filetype, _, base, inheriting = guest.fdstat(fd)[1]
    assert filetype == FileType.DIRECTORY
    assert base == Rights.DIRECTORY
    assert inheriting == Rights.DIRECTORY | Rights.FILE


def test_rights_can_be_given_up_but_not_taken_back(guest: Guest, file: int) -> None:
    less = RW & ~Rights.FD_WRITE
    assert guest.call("fd_fdstat_set_rights", file, less, 0) is OK
    assert guest.write(file, b"x")[0] is Errno.NOTCAPABLE
    assert guest.call("fd_fdstat_set_rights", file, RW, 0) is Errno.NOTCAPABLE
    assert guest.call("fd_fdstat_set_rights", file, less, 1) is Errno.NOTCAPABLE
    assert guest.fdstat(file)[1][2:] == (less, 0)
    assert guest.read(file, 4) == (OK, b"0123")


def test_a_directory_hands_on_no_more_than_it_may(guest: Guest, root: Path) -> None:
    (root / "d").mkdir()
    (root / "d" / "f").touch()
    reading = Rights.PATH_OPEN | Rights.FD_READ | Rights.FD_READDIR
    fd = guest.opened("d", oflags=DIRECTORY, base=Rights.PATH_OPEN, inheriting=reading)
    assert guest.open("f", fd=fd, base=Rights.FD_READ)[0] is OK
    assert guest.open("f", fd=fd, base=Rights.FD_WRITE)[0] is Errno.NOTCAPABLE
    assert guest.open("f", fd=fd, base=Rights.FD_READ, oflags=TRUNC)[0] is Errno.NOTCAPABLE
    assert guest.open("g", fd=fd, base=Rights.FD_READ, oflags=CREAT)[0] is Errno.NOTCAPABLE
    assert guest.name_call("path_create_directory", "x", fd=fd) is Errno.NOTCAPABLE
    # A subdirectory opened through it can not get more back.
    (root / "d" / "e").mkdir()
    deeper = guest.opened("e", fd=fd, base=Rights.PATH_OPEN, inheriting=2**64 - 1)
    assert guest.fdstat(deeper)[1][3] == reading


@pytest.mark.parametrize(
    ("right", "call"),
    [
        (Rights.FD_READ, ("fd_read", 0, 0, 0)),
        (Rights.FD_WRITE, ("fd_write", 0, 0, 0)),
        (Rights.FD_READ, ("fd_pread", 0, 0, 0, 0)),
        (Rights.FD_WRITE, ("fd_pwrite", 0, 0, 0, 0)),
        (Rights.FD_SEEK, ("fd_pread", 0, 0, 0, 0)),
        (Rights.FD_SEEK, ("fd_pwrite", 0, 0, 0, 0)),
        (Rights.FD_SEEK, ("fd_seek", 1, 0, 0)),
        (Rights.FD_TELL, ("fd_seek", 0, 1, 0)),
        (Rights.FD_TELL, ("fd_tell", 0)),
        (Rights.FD_SYNC, ("fd_sync",)),
        (Rights.FD_DATASYNC, ("fd_datasync",)),
        (Rights.FD_ADVISE, ("fd_advise", 0, 0, 0)),
        (Rights.FD_ALLOCATE, ("fd_allocate", 0, 1)),
        (Rights.FD_FDSTAT_SET_FLAGS, ("fd_fdstat_set_flags", 0)),
        (Rights.FD_FILESTAT_GET, ("fd_filestat_get", 0)),
        (Rights.FD_FILESTAT_SET_SIZE, ("fd_filestat_set_size", 0)),
        (Rights.FD_FILESTAT_SET_TIMES, ("fd_filestat_set_times", 0, 0, 0)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_each_call_on_a_file_needs_its_right(
    guest: Guest, root: Path, right: int, call: tuple[str, int, int]
) -> None:
    (root / "f").write_bytes(b"0123456789")
    name, *arguments = call
    assert guest.call(name, guest.opened("f", base=RW), *arguments) is OK
    assert guest.call(name, guest.opened("f", base=RW & ~right), *arguments) is Errno.NOTCAPABLE


# Numbers.


def test_the_lowest_free_number_is_given_out(guest: Guest, root: Path) -> None:
    (root / "f").touch()
    first, second, third = (guest.opened("f") for _ in range(3))
    assert (first, second, third) == (4, 5, 6)
    assert guest.call("fd_close", first) is OK
    assert guest.call("fd_close", third) is OK
    assert guest.call("fd_close", first) is Errno.BADF
    assert guest.opened("f") == first
    assert guest.opened("f") == third


def test_renumbering(guest: Guest, root: Path) -> None:
    (root / "a").write_bytes(b"a")
    (root / "b").write_bytes(b"b")
    a, b = guest.opened("a"), guest.opened("b")
    host_before = len(os.listdir("/proc/self/fd"))
    assert guest.call("fd_renumber", a, a) is OK
    assert guest.call("fd_renumber", a, b) is OK
    assert len(os.listdir("/proc/self/fd")) == host_before - 1
    assert guest.read(b, 1) == (OK, b"a")
    assert guest.read(a, 1)[0] is Errno.BADF
    # Onto a preopened directory: the directory is gone, the number is the file.
    assert guest.call("fd_renumber", b, guest.DIR) is OK
    assert guest.call("fd_prestat_get", guest.DIR, 0) is Errno.BADF
    assert guest.open("a")[0] is Errno.NOTDIR
    assert guest.seek(guest.DIR, 0) == (OK, 0)
    assert guest.read(guest.DIR, 1) == (OK, b"a")


def test_renumbering_forever_leaks_nothing(guest: Guest, root: Path) -> None:
    (root / "f").touch()
    keep = guest.opened("f")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2000):
        assert guest.call("fd_renumber", guest.opened("f"), keep) is OK
    assert len(os.listdir("/proc/self/fd")) == before


def test_there_is_a_limit_of_open_files(make_guest: MakeGuest, root: Path) -> None:
    (root / "f").touch()
    guest = make_guest(root, max_open_files=20)
    for _ in range(16):
        guest.opened("f")
    assert guest.open("f")[0] is Errno.MFILE
    assert guest.open("new", oflags=CREAT)[0] is Errno.MFILE
    assert not (root / "new").exists()
    assert guest.call("fd_close", 4) is OK
    assert guest.open("f") == (OK, 4)


def test_host_descriptors_are_never_inherited_by_children(guest: Guest, root: Path) -> None:
    (root / "f").touch()
    (root / "d").mkdir()
    before = set(os.listdir("/proc/self/fd"))
    guest.opened("f", base=RW)
    guest.opened("d", oflags=DIRECTORY)
    new = set(os.listdir("/proc/self/fd")) - before
    assert any(
        not os.get_inheritable(int(fd)) for fd in new if Path(f"/proc/self/fd/{fd}").exists()
    )
    for fd in new:
        if Path(f"/proc/self/fd/{fd}").exists():
            assert not os.get_inheritable(int(fd))


# Results are only written where they fit, and nothing happens before that is known.


@pytest.mark.parametrize("out", [2 * PAGE - 3, 2 * PAGE, 2**32 - 1])
def test_a_result_that_does_not_fit_stops_the_call_before_it_acts(
    guest: Guest, file: int, root: Path, out: int
) -> None:
    iovs, _ = guest.iovecs([4])
    for name, arguments in {
        "fd_read": (file, iovs, 1, out),
        "fd_pread": (file, iovs, 1, 0, out),
        "fd_write": (file, iovs, 1, out),
        "fd_pwrite": (file, iovs, 1, 0, out),
        "fd_seek": (file, 5, 0, out),
        "fd_tell": (file, out),
        "fd_fdstat_get": (file, out),
        "fd_filestat_get": (file, out),
        "fd_prestat_get": (guest.DIR, out),
        "fd_prestat_dir_name": (guest.DIR, max(out, 2 * PAGE - 1), 10),
        "fd_readdir": (guest.DIR, 0, 64, 0, out),
        "clock_time_get": (0, 0, out),
        "clock_res_get": (0, out),
        "args_sizes_get": (0, out),
        "environ_sizes_get": (out, 0),
        "random_get": (out, 10),
    }.items():
        assert guest.call(name, *arguments) is Errno.FAULT, name
    assert guest.seek(file, 0, 1) == (OK, 0)
    assert (root / "f").read_bytes() == b"0123456789"
    path = guest.path("new")
    assert guest.call("path_open", guest.DIR, 0, *path, CREAT, 0, 0, 0, out) is Errno.FAULT
    assert not (root / "new").exists()
    assert guest.call("path_filestat_get", guest.DIR, 0, *guest.path("f"), out) is Errno.FAULT
    os.symlink("f", root / "l")
    assert guest.call("path_readlink", guest.DIR, *guest.path("l"), 0, 8, out) is Errno.FAULT
    assert guest.call("path_readlink", guest.DIR, *guest.path("l"), out, 8, 0) is Errno.FAULT
