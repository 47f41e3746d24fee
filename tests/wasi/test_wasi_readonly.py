"""A directory given read-only stays as it is, whatever a guest tries, also by way of another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.wasi.conftest import MakeGuest
from tests.wasi.fake_guest import Guest
from wasinn_host.wasi.abi import Errno, Rights

CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
OK = Errno.SUCCESS
RO, RW_DIR = 3, 4


@pytest.fixture
def locked(make_guest: MakeGuest, root: Path) -> Iterator[Guest]:
    """Descriptor 3: ``ro``, read-only. Descriptor 4: ``rw``. Checks that ``ro`` did not change."""
    ro, rw = root / "ro", root / "rw"
    (ro / "d").mkdir(parents=True)
    (ro / "f").write_bytes(b"original")
    (ro / "d" / "g").write_bytes(b"deep")
    os.symlink("f", ro / "l")
    rw.mkdir()
    (rw / "own").write_bytes(b"own")
    before = _snapshot(ro)
    yield make_guest((ro, True), rw)
    assert _snapshot(ro) == before


def _snapshot(directory: Path) -> list[tuple[str, int, int, int, bytes]]:
    found = []
    for path in sorted([directory, *directory.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found.append((str(path), status.st_ino, status.st_mtime_ns, status.st_nlink, content))
    return found


def test_reading_works(locked: Guest) -> None:
    fd = locked.opened("f")
    assert locked.read(fd, 100) == (OK, b"original")
    assert locked.read(locked.opened("l"), 100) == (OK, b"original")
    assert locked.stat("d/g")[1].size == 4
    assert locked.link_text("l") == (OK, b"f")
    assert {entry.name for entry in locked.readdir(RO)[1]} >= {b"f", b"d", b"l"}


@pytest.mark.parametrize("path", ["f", "l", "d/g", "new", "d/new"])
@pytest.mark.parametrize(
    "options",
    [
        {"base": Rights.FD_READ | Rights.FD_WRITE},
        {"base": Rights.FD_WRITE},
        {"base": Rights.FD_ALLOCATE},
        {"base": Rights.FD_FILESTAT_SET_SIZE},
        {"base": Rights.FD_READ, "oflags": TRUNC},
        {"base": 0, "oflags": TRUNC},
        {"base": Rights.FD_READ, "oflags": CREAT},
        {"base": 0, "oflags": CREAT | EXCL},
        {"base": 0, "oflags": CREAT | TRUNC},
    ],
    ids=str,
)
def test_opening_to_change_is_refused(locked: Guest, path: str, options: dict[str, int]) -> None:
    assert locked.open(path, **options)[0] is Errno.ROFS  # type: ignore[arg-type]


CHANGES: dict[str, Callable[[Guest], Errno]] = {
    "mkdir": lambda guest: guest.name_call("path_create_directory", "new"),
    "rmdir": lambda guest: guest.name_call("path_remove_directory", "d"),
    "unlink": lambda guest: guest.name_call("path_unlink_file", "f"),
    "symlink": lambda guest: guest.symlink("f", "new"),
    "rename inside": lambda guest: guest.rename("f", "new"),
    "rename out": lambda guest: guest.rename("f", "taken", new_fd=RW_DIR),
    "rename in": lambda guest: guest.rename("own", "new", fd=RW_DIR, new_fd=RO),
    "rename over": lambda guest: guest.rename("own", "f", fd=RW_DIR, new_fd=RO),
    "link inside": lambda guest: guest.hard_link("f", "new"),
    "link out": lambda guest: guest.hard_link("f", "taken", new_fd=RW_DIR),
    "link out by link": lambda guest: guest.hard_link("l", "t", new_fd=RW_DIR, follow=True),
    "link in": lambda guest: guest.hard_link("own", "new", fd=RW_DIR, new_fd=RO),
    "set times": lambda guest: guest.set_times("f"),
    "set times of the link": lambda guest: guest.set_times("l", follow=False),
    "set times of the directory": lambda guest: guest.set_times("."),
    "set times by descriptor": lambda guest: guest.call("fd_filestat_set_times", RO, 1, 1, 5),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changing_is_refused(locked: Guest, change: Callable[[Guest], Errno]) -> None:
    assert change(locked) is Errno.ROFS


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_changing_through_a_directory_below_is_refused(
    locked: Guest, change: Callable[[Guest], Errno]
) -> None:
    """A descriptor opened through a read-only one is as read-only."""
    deeper = locked.opened(".", oflags=DIRECTORY, inheriting=2**64 - 1)
    assert locked.call("fd_renumber", deeper, RO) is OK
    assert change(locked) is Errno.ROFS


def test_an_open_file_can_not_be_changed(locked: Guest) -> None:
    fd = locked.opened("f")
    iovs, _ = locked.iovecs([4])
    assert locked.write(fd, b"x")[0] is Errno.NOTCAPABLE
    assert locked.call("fd_pwrite", fd, iovs, 1, 0, 0) is Errno.NOTCAPABLE
    assert locked.call("fd_filestat_set_size", fd, 0) is Errno.NOTCAPABLE
    assert locked.call("fd_allocate", fd, 0, 1000) is Errno.NOTCAPABLE
    assert locked.call("fd_filestat_set_times", fd, 1, 1, 5) is Errno.ROFS
    assert locked.call("fd_fdstat_set_flags", fd, 1) is OK
    assert locked.write(fd, b"x")[0] is Errno.NOTCAPABLE
    _, (_, _, base, _) = locked.fdstat(fd)
    more = base | Rights.FD_WRITE
    assert locked.call("fd_fdstat_set_rights", fd, more, 0) is Errno.NOTCAPABLE


def test_wasi_libc_is_told_that_it_can_not_write(locked: Guest) -> None:
    """access(W_OK) asks for FD_WRITE; open(O_RDWR) must still ask, and be refused."""
    _, (_, _, _, inheriting) = locked.fdstat(RO)
    assert not inheriting & Rights.FD_WRITE
    assert inheriting & Rights.FD_READ
    wanted = 2**64 - 1 & inheriting  # what its open(path, O_RDWR) asks for
    assert locked.open("f", base=wanted)[0] is Errno.ROFS
    assert locked.fdstat(RW_DIR)[1][3] & Rights.FD_WRITE


def test_taking_the_number_of_a_writable_directory_changes_nothing(locked: Guest) -> None:
    assert locked.call("fd_renumber", RO, RW_DIR) is OK
    assert locked.open("f", fd=RW_DIR, base=Rights.FD_WRITE)[0] is Errno.ROFS
    assert locked.name_call("path_create_directory", "new", fd=RW_DIR) is Errno.ROFS


def test_the_writable_neighbour_is_writable(locked: Guest) -> None:
    fd = locked.opened("own", fd=RW_DIR, base=Rights.FILE)
    assert locked.write(fd, b"new") == (OK, 3)
    assert locked.rename("own", "renamed", fd=RW_DIR, new_fd=RW_DIR) is OK
