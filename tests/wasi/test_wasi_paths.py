"""What each ``path_*`` call does inside its directory, with every shape of name."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.wasi.fake_guest import Guest
from wasinn_host.wasi.abi import Errno, FileType, Rights

CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
OK = Errno.SUCCESS
RW = Rights.FILE
MKDIR, RMDIR, UNLINK = "path_create_directory", "path_remove_directory", "path_unlink_file"


@pytest.fixture
def tree(root: Path) -> Path:
    """``d/e/f`` (a file), ``link`` to ``d/e``, ``flink`` to ``d/e/f``, ``dangling``."""
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "e" / "f").write_bytes(b"content")
    os.symlink("d/e", root / "link")
    os.symlink("d/e/f", root / "flink")
    os.symlink("nowhere", root / "dangling")
    return root


@pytest.mark.parametrize(
    "path",
    [
        "d/e/f",
        "./d/./e/./f",
        "d//e///f",
        "d/e/../e/f",
        "d/../d/e/f",
        "link/f",
        "link/../e/f",
        "./link/./f",
        "flink",
        "link/../../flink",
    ],
)
def test_every_spelling_finds_the_file(guest: Guest, tree: Path, path: str) -> None:
    fd = guest.opened(path)
    assert guest.read(fd, 100) == (OK, b"content")
    errno, status = guest.stat(path)
    assert errno is OK
    assert (status.filetype, status.size) == (FileType.REGULAR_FILE, 7)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("d", OK),
        ("d/", OK),
        ("d//", OK),
        ("d/.", OK),
        ("d/e/..", OK),
        (".", OK),
        ("./", OK),
        ("link", OK),
        ("link/", OK),
        ("link/.", OK),
        ("link/..", OK),
        ("d/../link/", OK),
        ("d/e/f", Errno.NOTDIR),
        ("d/e/f/", Errno.NOTDIR),
        ("d/e/f/.", Errno.NOTDIR),
        ("d/e/f/..", Errno.NOTDIR),
        ("flink/", Errno.NOTDIR),
        ("dangling", Errno.NOENT),
        ("dangling/", Errno.NOENT),
        ("missing/f", Errno.NOENT),
        ("", Errno.NOENT),
    ],
)
def test_opening_as_a_directory(guest: Guest, tree: Path, path: str, expected: Errno) -> None:
    assert guest.open(path, oflags=DIRECTORY)[0] is expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("link", {Errno.LOOP}),
        ("flink", {Errno.LOOP}),
        ("dangling", {Errno.LOOP}),
        ("link/", {OK}),
        ("link/.", {OK}),
        ("link/f", {OK}),
        ("d/e/f", {OK}),
    ],
)
def test_opening_without_following(
    guest: Guest, tree: Path, path: str, expected: set[Errno]
) -> None:
    assert guest.open(path, follow=False)[0] in expected


def test_status_without_following_is_the_links(guest: Guest, tree: Path) -> None:
    for name in ("link", "flink", "dangling"):
        errno, status = guest.stat(name, follow=False)
        assert (errno, status.filetype) == (OK, FileType.SYMBOLIC_LINK)
    assert guest.stat("link/", follow=False)[1].filetype == FileType.DIRECTORY
    assert guest.stat("dangling")[0] is Errno.NOENT
    assert guest.stat("flink/")[0] is Errno.NOTDIR


def test_creating_files(guest: Guest, tree: Path) -> None:
    fd = guest.opened("new", oflags=CREAT | EXCL, base=RW)
    assert guest.write(fd, b"x") == (OK, 1)
    assert guest.open("new", oflags=CREAT | EXCL, base=RW)[0] is Errno.EXIST
    assert guest.open("new", oflags=CREAT, base=RW)[0] is OK
    assert (tree / "new").read_bytes() == b"x"
    assert guest.open("new", oflags=TRUNC, base=RW)[0] is OK
    assert (tree / "new").read_bytes() == b""
    # A link that dangles is where the new file goes, as on Linux; EXCL does not follow.
    assert guest.open("dangling", oflags=CREAT | EXCL, base=RW)[0] is Errno.EXIST
    assert guest.open("dangling", oflags=CREAT, base=RW)[0] is OK
    assert (tree / "nowhere").exists()
    assert guest.open("made/", oflags=CREAT, base=RW)[0] is Errno.ISDIR
    assert guest.open("d", oflags=CREAT, base=RW)[0] is Errno.ISDIR
    assert guest.open("d/e/f/", oflags=CREAT, base=RW)[0] in (Errno.ISDIR, Errno.NOTDIR)
    assert guest.open("missing/new", oflags=CREAT, base=RW)[0] is Errno.NOENT
    assert guest.open("x", oflags=CREAT | DIRECTORY)[0] is Errno.INVAL


def test_a_directory_can_not_be_opened_for_writing(guest: Guest, tree: Path) -> None:
    for path in ("d", "link", ".", "d/"):
        assert guest.open(path, base=RW)[0] is Errno.ISDIR
        assert guest.open(path, base=Rights.FD_WRITE)[0] is Errno.ISDIR
        assert guest.open(path, base=Rights.FD_READ, oflags=TRUNC)[0] is Errno.ISDIR
    fd = guest.opened("d")
    assert guest.read(fd, 1)[0] in (Errno.ISDIR, Errno.NOTCAPABLE)
    assert guest.write(fd, b"x")[0] in (Errno.ISDIR, Errno.NOTCAPABLE)
    assert guest.call("fd_fdstat_set_flags", fd, 1) in (Errno.INVAL, Errno.NOTCAPABLE)


@pytest.mark.parametrize(
    ("oflags", "fdflags", "lookup"), [(16, 0, 0), (0, 32, 0), (0, 0, 2), (2**32 - 1,) * 3]
)
def test_unknown_flags_are_invalid(
    guest: Guest, tree: Path, oflags: int, fdflags: int, lookup: int
) -> None:
    path = guest.path("d/e/f")
    out = guest.alloc(64)
    assert (
        guest.call("path_open", guest.DIR, lookup, *path, oflags, 0, 0, fdflags, out) is Errno.INVAL
    )
    if lookup:
        assert guest.call("path_filestat_get", guest.DIR, lookup, *path, out) is Errno.INVAL
        new = guest.path("new")
        assert guest.call("path_link", guest.DIR, lookup, *path, guest.DIR, *new) is Errno.INVAL


def test_paths_start_only_at_directories(guest: Guest, tree: Path) -> None:
    fd = guest.opened("d/e/f", base=RW)
    assert guest.open("x", fd=fd)[0] is Errno.NOTDIR
    assert guest.stat("x", fd=fd)[0] is Errno.NOTDIR
    assert guest.readdir(fd)[0] is Errno.NOTDIR
    for call in (MKDIR, RMDIR, UNLINK):
        assert guest.name_call(call, "x", fd=fd) is Errno.NOTDIR
    assert guest.rename("d", "e", fd=fd) is Errno.NOTDIR
    assert guest.rename("d", "e", new_fd=fd) is Errno.NOTDIR
    assert guest.hard_link("flink", "e", new_fd=fd) is Errno.NOTDIR
    assert guest.hard_link("f", "e", fd=fd) is Errno.NOTDIR
    assert guest.symlink("x", "y", fd=fd) is Errno.NOTDIR


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("new", OK),
        ("new/", OK),
        ("new//", OK),
        ("d/new", OK),
        ("link/new", OK),
        ("d", Errno.EXIST),
        ("d/", Errno.EXIST),
        ("link", Errno.EXIST),
        ("dangling", Errno.EXIST),
        ("dangling/", Errno.EXIST),
        (".", Errno.EXIST),
        ("d/..", Errno.EXIST),
        ("d/e/f", Errno.EXIST),
        ("missing/new", Errno.NOENT),
        ("new/.", Errno.NOENT),
        ("d/e/f/new", Errno.NOTDIR),
        ("", Errno.NOENT),
    ],
)
def test_creating_directories(guest: Guest, tree: Path, path: str, expected: Errno) -> None:
    assert guest.name_call(MKDIR, path) is expected
    if expected is OK:
        assert (tree / path).is_dir()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("empty", {OK}),
        ("empty/", {OK}),
        ("empty//", {OK}),
        ("d", {Errno.NOTEMPTY}),
        ("link", {Errno.NOTDIR}),
        ("link/", {Errno.NOTDIR}),
        ("d/e/f", {Errno.NOTDIR}),
        ("d/e/f/", {Errno.NOTDIR}),
        ("missing", {Errno.NOENT}),
        ("empty/.", {Errno.INVAL}),
        (".", {Errno.INVAL}),
        ("link/.", {Errno.INVAL}),
        ("empty/..", {Errno.INVAL, Errno.NOTEMPTY}),
    ],
)
def test_removing_directories(guest: Guest, tree: Path, path: str, expected: set[Errno]) -> None:
    (tree / "empty").mkdir()
    assert guest.name_call(RMDIR, path) in expected
    assert (tree / "empty").exists() == (OK not in expected)
    assert (tree / "d/e/f").exists()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("d/e/f", OK),
        ("link/f", OK),
        ("link", OK),
        ("dangling", OK),
        ("d/e/f/", Errno.NOTDIR),
        ("link/", Errno.NOTDIR),
        ("dangling/", Errno.NOTDIR),
        ("d", Errno.ISDIR),
        ("d/", Errno.ISDIR),
        (".", Errno.ISDIR),
        ("link/.", Errno.ISDIR),
        ("missing", Errno.NOENT),
        ("missing/", Errno.NOENT),
    ],
)
def test_unlinking(guest: Guest, tree: Path, path: str, expected: Errno) -> None:
    before = sorted(str(p) for p in tree.rglob("*"))
    assert guest.name_call(UNLINK, path) is expected
    after = sorted(str(p) for p in tree.rglob("*"))
    assert len(before) - len(after) == (expected is OK)


def test_symbolic_links(guest: Guest, tree: Path) -> None:
    assert guest.symlink("../d/e/f", "d/back") is OK
    assert guest.link_text("d/back") == (OK, b"../d/e/f")
    assert guest.read(guest.opened("d/back"), 100) == (OK, b"content")
    assert guest.symlink("x", "d") is Errno.EXIST
    assert guest.symlink("x", "link") is Errno.EXIST
    assert guest.symlink("x", "d/") is Errno.EXIST
    assert guest.symlink("x", "new/") is Errno.NOENT
    assert guest.symlink("x", "d/e/f/") is Errno.NOTDIR
    assert guest.symlink("x", ".") is Errno.EXIST
    assert guest.symlink("", "new") is Errno.NOENT
    assert guest.symlink("x", "") is Errno.NOENT
    assert guest.symlink("/", "new") is Errno.NOTCAPABLE
    assert guest.symlink("/etc/passwd", "new") is Errno.NOTCAPABLE
    assert not os.path.lexists(tree / "new")


def test_reading_links(guest: Guest, tree: Path) -> None:
    assert guest.link_text("flink") == (OK, b"d/e/f")
    assert guest.link_text("flink", 3) == (OK, b"d/e")
    assert guest.link_text("flink", 0) == (OK, b"")
    assert guest.link_text("dangling") == (OK, b"nowhere")
    assert guest.link_text("d/e/f")[0] is Errno.INVAL
    assert guest.link_text("d")[0] is Errno.INVAL
    assert guest.link_text(".")[0] is Errno.INVAL
    assert guest.link_text("d/")[0] is Errno.INVAL
    assert guest.link_text("missing")[0] is Errno.NOENT
    os.symlink("/somewhere/on/the/host", tree / "absolute")
    assert guest.link_text("absolute")[0] is Errno.NOTCAPABLE


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("d/e/f", "g", OK),
        ("d/e/f", "d/g", OK),
        ("link/f", "g", OK),
        ("flink", "moved", OK),
        ("d", "z", OK),
        ("d/", "z", OK),
        ("d", "z/", OK),
        ("d/", "z//", OK),
        ("d/e/f", "flink", OK),
        ("d/e/f", "d/e/f", OK),
        ("d/e/f", "g/", Errno.NOTDIR),
        ("d/e/f/", "g", Errno.NOTDIR),
        ("link/", "z", Errno.NOTDIR),
        ("link", "z/", Errno.NOTDIR),
        ("d", "d/e/z", Errno.INVAL),
        ("d", "flink", Errno.NOTDIR),
        ("flink", "d", Errno.ISDIR),
        ("missing", "z", Errno.NOENT),
        ("d/e/f", "missing/z", Errno.NOENT),
        (".", "z", Errno.BUSY),
        ("d", ".", Errno.BUSY),
        ("d/.", "z", Errno.BUSY),
    ],
)
def test_renaming(guest: Guest, tree: Path, old: str, new: str, expected: Errno) -> None:
    assert guest.rename(old, new) is expected
    if expected is not OK:
        assert (tree / "d/e/f").read_bytes() == b"content"
        assert not (tree / "z").exists()


def test_renaming_over_directories(guest: Guest, tree: Path) -> None:
    (tree / "empty").mkdir()
    assert guest.rename("empty", "d") is Errno.NOTEMPTY
    assert guest.rename("d", "empty") is OK
    assert (tree / "empty/e/f").read_bytes() == b"content"


def test_hard_links(guest: Guest, tree: Path) -> None:
    assert guest.hard_link("d/e/f", "g") is OK
    assert (tree / "g").stat().st_ino == (tree / "d/e/f").stat().st_ino
    assert guest.hard_link("flink", "h") is OK
    assert os.readlink(tree / "h") == "d/e/f"
    assert guest.hard_link("flink", "i", follow=True) is OK
    assert (tree / "i").lstat().st_ino == (tree / "g").stat().st_ino
    assert guest.hard_link("dangling", "j", follow=True) is Errno.NOENT
    assert guest.hard_link("d", "j") in (Errno.PERM, Errno.ACCES)
    assert guest.hard_link("d/", "j") in (Errno.PERM, Errno.ACCES)
    assert guest.hard_link("g", "h") is Errno.EXIST
    assert guest.hard_link("g", "j/") is Errno.NOENT
    assert guest.hard_link("g/", "j") is Errno.NOTDIR
    assert guest.hard_link("g", "d/") is Errno.EXIST
    assert guest.hard_link("missing", "j") is Errno.NOENT


def test_times_of_a_path(guest: Guest, tree: Path) -> None:
    assert guest.set_times("d/e/f", 111, 222) is OK
    assert (tree / "d/e/f").stat().st_mtime_ns == 222
    link_time = (tree / "flink").lstat().st_mtime_ns
    assert guest.set_times("flink", 333, 444) is OK
    assert (tree / "d/e/f").stat().st_atime_ns == 333
    assert (tree / "flink").lstat().st_mtime_ns == link_time
    assert guest.set_times("flink", 555, 666, follow=False) is OK
    assert (tree / "flink").lstat().st_mtime_ns == 666
    assert (tree / "d/e/f").stat().st_mtime_ns == 444
    assert guest.set_times("link/", 7, 8, follow=False) is OK
    assert (tree / "d/e").stat().st_mtime_ns == 8
    assert guest.set_times("d/e/f/", 7, 8) is Errno.NOTDIR
    assert guest.set_times("dangling") is Errno.NOENT
    assert guest.set_times("missing") is Errno.NOENT
    assert guest.set_times("d", flags=3) is Errno.INVAL


# Names.


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"f\0", Errno.INVAL),
        (b"\0", Errno.INVAL),
        (b"a\0b", Errno.INVAL),
        (b"\xff", Errno.ILSEQ),
        (b"\xc0\xaf", Errno.ILSEQ),
        (b"\xed\xa0\x80", Errno.ILSEQ),
        (b"\xf4\x90\x80\x80", Errno.ILSEQ),
        (b"a" * 256, Errno.NAMETOOLONG),
        (b"d/" + b"a" * 256, Errno.NAMETOOLONG),
        (b"a" * 4096, Errno.NAMETOOLONG),
        (b"a/" * 40_000, Errno.NAMETOOLONG),
        (b"", Errno.NOENT),
    ],
    ids=lambda value: repr(value[:8]) if isinstance(value, bytes) else "",
)
def test_bad_names_are_errnos_in_every_call(
    guest: Guest, tree: Path, name: bytes, expected: Errno
) -> None:
    assert guest.open(name, oflags=CREAT, base=RW)[0] is expected
    assert guest.stat(name)[0] is expected
    assert guest.stat(name, follow=False)[0] is expected
    for call in (MKDIR, RMDIR, UNLINK):
        assert guest.name_call(call, name) is expected
    assert guest.symlink("x", name) is expected
    assert guest.link_text(name)[0] is expected
    text = guest.path("d")
    bad = guest.path(name)
    assert guest.call("path_rename", guest.DIR, *text, guest.DIR, *bad) is expected
    assert guest.call("path_rename", guest.DIR, *bad, guest.DIR, *text) is expected
    assert guest.call("path_link", guest.DIR, 0, *bad, guest.DIR, *text) is expected
    assert guest.call("path_filestat_set_times", guest.DIR, 1, *bad, 1, 2, 5) is expected


def test_a_megabyte_of_path_is_too_long_and_beyond_memory_is_fault(guest: Guest) -> None:
    assert guest.call("path_unlink_file", guest.DIR, 0, 100_000) is Errno.NAMETOOLONG
    assert guest.call("path_unlink_file", guest.DIR, 0, 2**20) is Errno.FAULT
    assert guest.call("path_unlink_file", guest.DIR, 2**32 - 1, 2**32 - 1) is Errno.FAULT
    assert guest.call("path_unlink_file", guest.DIR, 2**32 - 1, 1) is Errno.FAULT


def test_names_that_are_special_elsewhere_are_plain_names(guest: Guest, root: Path) -> None:
    names = ["\\", "C:", "CON", "COM¹", "file:stream", "...", " ", "caf\u00e9", "cafe\u0301", "-"]
    for name in names:
        fd = guest.opened(name, oflags=CREAT | EXCL, base=RW)
        assert guest.write(fd, name.encode())[0] is OK
    assert sorted(os.listdir(root)) == sorted(names)
    for name in names:
        assert (root / name).read_text() == name


def test_a_path_as_deep_as_it_may_be(guest: Guest, root: Path) -> None:
    deep = "/".join(["a"] * 300)
    os.makedirs(root / deep)
    assert guest.open(deep, oflags=DIRECTORY)[0] is OK
    assert guest.stat(deep + "/.." * 300)[1].ino == root.stat().st_ino
    assert guest.stat("a/../" * 800 + "a")[0] is OK


# Directories.


def test_reading_a_directory(guest: Guest, tree: Path) -> None:
    fd = guest.opened(".")
    errno, entries, used = guest.readdir(fd)
    assert errno is OK
    assert used < 4096
    kinds = {entry.name: entry.filetype for entry in entries}
    assert kinds == {
        b".": FileType.DIRECTORY,
        b"..": FileType.DIRECTORY,
        b"d": FileType.DIRECTORY,
        b"link": FileType.SYMBOLIC_LINK,
        b"flink": FileType.SYMBOLIC_LINK,
        b"dangling": FileType.SYMBOLIC_LINK,
    }
    inodes = {entry.name: entry.ino for entry in entries}
    assert inodes[b"d"] == (tree / "d").stat().st_ino
    assert inodes[b"."] == tree.stat().st_ino


def test_the_parent_of_a_preopened_directory_is_not_told(guest: Guest, tree: Path) -> None:
    inodes = {entry.name: entry.ino for entry in guest.readdir(guest.DIR)[1]}
    assert inodes[b".."] == inodes[b"."] == tree.stat().st_ino
    inodes = {entry.name: entry.ino for entry in guest.readdir(guest.opened("d/e"))[1]}
    assert inodes[b".."] == (tree / "d").stat().st_ino


@pytest.mark.parametrize("size", [24, 25, 30, 64, 100, 1000, 20_000])
def test_reading_on_from_every_cookie_gives_every_entry_once(
    guest: Guest, root: Path, size: int
) -> None:
    names = {f"file-{number:04}".encode() for number in range(200)}
    for name in names:
        (root / name.decode()).touch()
    fd = guest.opened(".")
    seen: list[bytes] = []
    cookie = 0
    for _ in range(1000):
        errno, entries, used = guest.readdir(fd, cookie, size)
        assert errno is OK
        if not entries and used == size:
            size *= 2  # not even one entry fits; a guest grows its buffer
            continue
        seen += [entry.name for entry in entries]
        if used < size:
            break
        cookie = entries[-1].cookie
    assert len(seen) == len(set(seen))
    assert set(seen) == names | {b".", b".."}


def test_cookies_stay_right_while_entries_go(guest: Guest, root: Path) -> None:
    """Removing what was read, as ``rm -r`` does, must not skip what was not."""
    for number in range(300):
        (root / f"{number:03}").touch()
    fd = guest.opened(".")
    seen: set[bytes] = set()
    cookie = 0
    while True:
        errno, entries, used = guest.readdir(fd, cookie, 256)
        assert errno is OK
        for entry in entries:
            if entry.name not in (b".", b".."):
                seen.add(entry.name)
                assert guest.name_call(UNLINK, entry.name) is OK
        if used < 256:
            break
        cookie = entries[-1].cookie
    assert len(seen) == 300
    assert os.listdir(root) == []


def test_odd_directory_reads(guest: Guest, tree: Path) -> None:
    fd = guest.opened("d")
    assert guest.readdir(fd, size=0) == (OK, [], 0)
    assert guest.readdir(fd, size=1) == (OK, [], 1)
    for cookie in (2**63, 2**64 - 1):
        assert guest.readdir(fd, cookie)[0] is Errno.INVAL
    errno, _, used = guest.readdir(fd, 2**63 - 1)
    assert errno in (OK, Errno.INVAL)
    assert used == 0
    assert guest.call("fd_readdir", fd, 0, 2**32 - 1, 0, 0) is Errno.FAULT
    os.rename(tree / "d", tree / "gone")
    (tree / "gone/e/f").unlink()
    (tree / "gone/e").rmdir()
    (tree / "gone").rmdir()
    assert guest.readdir(fd)[0] is OK


# Things on the host that are not files.


def test_opening_a_fifo_does_not_hold_the_guest(guest: Guest, root: Path) -> None:
    os.mkfifo(root / "fifo")
    assert guest.open("fifo", base=Rights.FD_WRITE)[0] is Errno.NXIO
    fd = guest.opened("fifo")
    assert guest.seek(fd, 0)[0] is Errno.SPIPE
    with (root / "fifo").open("wb") as file:
        file.write(b"through")
        file.flush()
        assert guest.read(fd, 100) == (OK, b"through")
    assert guest.read(fd, 100) == (OK, b"")


def test_reading_a_fifo_nobody_writes_can_be_stopped(guest: Guest, root: Path) -> None:
    os.mkfifo(root / "fifo")
    fd = guest.opened("fifo")
    guest.caller.interrupt.set()
    assert guest.read(fd, 10)[0] is Errno.INTR


def test_a_socket_can_be_seen_but_not_opened(guest: Guest, root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(root, os.O_PATH)
        try:
            server.bind(f"/proc/self/fd/{here}/sock")
        finally:
            os.close(here)
        assert guest.stat("sock")[1].filetype == FileType.SOCKET_STREAM
        assert guest.open("sock")[0] is Errno.NXIO


def test_a_huge_sparse_file(guest: Guest, root: Path) -> None:
    with (root / "huge").open("wb") as file:
        file.truncate(1 << 42)
    assert guest.stat("huge")[1].size == 1 << 42
    fd = guest.opened("huge")
    assert guest.seek(fd, -3, 2) == (OK, (1 << 42) - 3)
    assert guest.read(fd, 10) == (OK, bytes(3))


def test_a_file_one_may_not_read_can_still_be_looked_at(guest: Guest, root: Path) -> None:
    (root / "secret").write_bytes(b"x")
    (root / "secret").chmod(0)
    assert guest.stat("secret")[1].size == 1
    if os.geteuid() != 0:
        assert guest.open("secret")[0] is Errno.ACCES
