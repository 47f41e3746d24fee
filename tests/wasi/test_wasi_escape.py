"""Ways out of a preopened directory that have worked elsewhere. None may work here.

The ``root`` fixture checks after each test that the directory beside it is untouched; here it is
also checked that nothing of it could be seen.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wasi.conftest import CANARY, MakeGuest
from tests.wasi.fake_guest import Guest
from wasinn_host.wasi.abi import Errno, Rights

CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
OK = Errno.SUCCESS
RW = Rights.FILE

Attempt = Callable[[Guest, str], Errno]

#: Every call that takes a path, aimed at one; each follows links where the call can.
ATTEMPTS: dict[str, Attempt] = {
    "open": lambda guest, path: guest.open(path)[0],
    "open for writing": lambda guest, path: guest.open(path, base=RW)[0],
    "create": lambda guest, path: guest.open(path, oflags=CREAT, base=RW)[0],
    "create only": lambda guest, path: guest.open(path, oflags=CREAT | EXCL, base=RW)[0],
    "truncate": lambda guest, path: guest.open(path, oflags=TRUNC, base=Rights.FD_READ)[0],
    "open directory": lambda guest, path: guest.open(path, oflags=DIRECTORY)[0],
    "open nofollow": lambda guest, path: guest.open(path, follow=False)[0],
    "stat": lambda guest, path: guest.stat(path)[0],
    "set times": lambda guest, path: guest.set_times(path),
    "link from": lambda guest, path: guest.hard_link(path, "stolen", follow=True),
    "link to": lambda guest, path: guest.hard_link("mine", path),
    "rename from": lambda guest, path: guest.rename(path, "stolen"),
    "rename to": lambda guest, path: guest.rename("mine", path),
    "symlink at": lambda guest, path: guest.symlink("x", path),
    "readlink": lambda guest, path: guest.link_text(path)[0],
    "mkdir": lambda guest, path: guest.name_call("path_create_directory", path),
    "rmdir": lambda guest, path: guest.name_call("path_remove_directory", path),
    "unlink": lambda guest, path: guest.name_call("path_unlink_file", path),
}

#: Paths from the directory itself to what lies outside of it.
OUTSIDE = [
    "../outside/canary",
    "../outside/new",
    "../outside/sub",
    "../outside/sub/../canary",
    "../inside/../outside/canary",
    "./../outside/canary",
    "d/../../outside/canary",
    "d/e/../../../outside/canary",
    "d/./..//../outside/canary",
    "..",
    "../",
    "../.",
    "../..",
    "d/../..",
]


@pytest.fixture
def tree(root: Path) -> Path:
    (root / "d" / "e").mkdir(parents=True)
    (root / "mine").write_bytes(b"mine")
    return root


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_climbing(guest: Guest, tree: Path, attempt: Attempt) -> None:
    for path in OUTSIDE:
        assert attempt(guest, path) is Errno.NOTCAPABLE, path
    assert sorted(os.listdir(tree)) == ["d", "mine"]


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_absolute_paths(guest: Guest, tree: Path, attempt: Attempt) -> None:
    outside = str(tree.parent / "outside")
    for path in (
        f"{outside}/canary",
        f"{outside}/new",
        f"//{outside}/sub",
        str(tree / "mine"),
        "/",
    ):
        assert attempt(guest, path) is Errno.NOTCAPABLE


#: Links to the outside, as text; ``{out}`` is its absolute path.
LINKS = [
    "../outside",
    "../outside/",
    "..//outside",
    "./../outside",
    "d/../../outside",
    "{out}",
    "{out}/",
    "/{out}",
    "{out}/../outside",
    "../inside/../outside/.",
]
#: What is then asked for, with the link called ``l``.
THROUGH = ["l/canary", "l/new", "l/sub", "l/", "l//", "l/.", "l/./canary", "d/../l/", "d/../l/sub/"]


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_links_to_an_outside_directory(guest: Guest, tree: Path, attempt: Attempt) -> None:
    for text in LINKS:
        os.symlink(text.format(out=tree.parent / "outside"), tree / "l")
        for path in THROUGH:
            errno = attempt(guest, path)
            # A trailing slash that is not followed (unlink, rename, ...) is about the link.
            assert errno in (Errno.NOTCAPABLE, Errno.NOTDIR, Errno.EXIST, Errno.ISDIR), (text, path)
            if path.rstrip("/").endswith(("canary", "new", "sub")):
                assert errno is Errno.NOTCAPABLE, (text, path)
        assert sorted(os.listdir(tree)) == ["d", "l", "mine"]
        os.unlink(tree / "l")


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS.keys())
@pytest.mark.parametrize("name", ["canary", "new", "sub", "nodir/new"])
def test_links_to_an_outside_file(guest: Guest, tree: Path, name: str, attempt: Attempt) -> None:
    inside_only = {
        # These are about the link itself, and may well work on it.
        "link to": Errno.EXIST,
        "symlink at": Errno.EXIST,
        "mkdir": Errno.EXIST,
        "rmdir": Errno.NOTDIR,
        "create only": Errno.EXIST,
        "open nofollow": Errno.LOOP,
    }
    about_the_link = {"rename from", "rename to", "unlink", "readlink"}
    label = next(label for label, value in ATTEMPTS.items() if value is attempt)
    for text in (f"../outside/{name}", f"{tree.parent}/outside/{name}"):
        os.symlink(text, tree / "l")
        errno = attempt(guest, "l")
        if label in inside_only:
            assert errno is inside_only[label]
        elif label not in about_the_link:
            assert errno is Errno.NOTCAPABLE
        for left in ("l", "stolen"):
            if os.path.lexists(tree / left):
                os.unlink(tree / left)
        (tree / "mine").write_bytes(b"mine")


def test_links_a_guest_makes_lead_nowhere(guest: Guest, tree: Path) -> None:
    assert guest.symlink("../outside", "l") is OK
    assert guest.symlink("l/canary", "m") is OK
    assert guest.symlink("../../outside/canary", "d/n") is OK
    assert guest.symlink("..//", "o") is OK
    for path in ("l/canary", "m", "d/n", "d/../d/n", "o/outside/canary", "o", "o/", "l"):
        for attempt in (ATTEMPTS["open"], ATTEMPTS["stat"], ATTEMPTS["set times"]):
            assert attempt(guest, path) is Errno.NOTCAPABLE, path
        # The kernel refuses to create a name with a slash at its end before it looks further.
        assert ATTEMPTS["create"](guest, path) in (Errno.NOTCAPABLE, Errno.ISDIR), path


def test_a_chain_of_links(guest: Guest, tree: Path) -> None:
    os.symlink("../outside/canary", tree / "l0")
    (tree / "goal").write_bytes(b"goal")
    os.symlink("goal", tree / "k0")
    for number in range(1, 60):
        os.symlink(f"l{number - 1}", tree / f"l{number}")
        os.symlink(f"k{number - 1}", tree / f"k{number}")
    assert guest.open("l30")[0] is Errno.NOTCAPABLE
    assert guest.open("l50")[0] in (Errno.LOOP, Errno.NOTCAPABLE)
    assert guest.open("k39")[0] is OK
    assert guest.open("k40")[0] is Errno.LOOP
    assert guest.set_times("k39") is OK
    assert guest.set_times("k40") is Errno.LOOP


def test_loops_of_links(guest: Guest, tree: Path) -> None:
    os.symlink("b", tree / "a")
    os.symlink("a", tree / "b")
    os.symlink("self/self", tree / "self")
    os.symlink(".", tree / "here")
    for attempt in (ATTEMPTS["open"], ATTEMPTS["stat"], ATTEMPTS["set times"]):
        for path in ("a", "a/x", "self", "self/x", "a/"):
            assert attempt(guest, path) is Errno.LOOP
        assert attempt(guest, "here/" * 50 + "mine") is Errno.LOOP
    assert guest.open("here/" * 30 + "mine")[0] is OK


def test_links_that_grow_while_they_are_expanded(guest: Guest, tree: Path) -> None:
    """2**40 components, if anybody expanded them; both ways must give up at once."""
    os.symlink("d", tree / "x0")
    for number in range(1, 40):
        os.symlink(
            "/".join(["d/.."] * 100) + f"/x{number - 1}/../x{number - 1}", tree / f"x{number}"
        )
    assert guest.open("x39")[0] in (Errno.LOOP, Errno.NAMETOOLONG)


def test_magic_links_of_proc_are_not_followed(make_guest: MakeGuest, root: Path) -> None:
    guest = make_guest(Path("/proc/self"))
    held = os.open(root.parent / "outside" / "canary", os.O_RDONLY)
    try:
        for path in (f"fd/{held}", "exe", "cwd", "root", "cwd/x", "root/etc/passwd", f"fd/{held}/"):
            errno, _ = guest.open(path)
            assert errno in (Errno.NOTCAPABLE, Errno.LOOP, Errno.NOTDIR, Errno.NOENT), path
            errno = guest.set_times(path)
            assert errno is not OK, path
    finally:
        os.close(held)


def test_without_directories_there_are_no_paths(make_guest: MakeGuest) -> None:
    guest = make_guest()
    for fd in (3, 4, 2**32 - 1):
        assert guest.open("x", fd=fd)[0] is Errno.BADF
        assert guest.stat("x", fd=fd)[0] is Errno.BADF
        assert guest.name_call("path_create_directory", "x", fd=fd) is Errno.BADF
    for fd in (0, 1, 2):
        assert guest.open("x", fd=fd)[0] is Errno.NOTDIR
    assert guest.call("fd_prestat_get", 3, 0) is Errno.BADF


def test_a_directory_opened_deeper_is_its_own_ceiling(guest: Guest, tree: Path) -> None:
    fd = guest.opened("d/e", inheriting=Rights.ALL)
    for path in ("..", "../..", "../../mine", "../e"):
        assert guest.open(path, fd=fd)[0] is Errno.NOTCAPABLE
        assert guest.stat(path, fd=fd)[0] is Errno.NOTCAPABLE


def test_two_directories_do_not_see_each_other(make_guest: MakeGuest, root: Path) -> None:
    (root / "a").mkdir()
    (root / "b").mkdir()
    (root / "b" / "f").write_bytes(b"x")
    os.symlink("../b/f", root / "a" / "l")
    guest = make_guest(root / "a", root / "b")
    assert guest.open("l", fd=3)[0] is Errno.NOTCAPABLE
    assert guest.open("../b/f", fd=3)[0] is Errno.NOTCAPABLE
    assert guest.open("f", fd=4)[0] is OK
    assert guest.rename("f", "g", fd=4, new_fd=3) is OK
    assert guest.hard_link("g", "h", fd=3, new_fd=4) is OK
    assert sorted(os.listdir(root / "a")) == ["g", "l"]


class _Swapper:
    """Another process's view: exchanges what a name is, as fast as it can."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.rounds = 0

    def _run(self) -> None:
        while not self._stop.is_set():
            self._step()
            self.rounds += 1

    def __enter__(self) -> _Swapper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_a_directory_swapped_with_a_link_while_it_is_walked(guest: Guest, root: Path) -> None:
    """The name is a real directory one moment and a link to the outside the next."""
    (root / "real" / "sub").mkdir(parents=True)
    (root / "real" / "canary").write_bytes(b"harmless")
    os.symlink("../outside", root / "evil")
    names = {"x": root / "x", "real": root / "real", "evil": root / "evil"}

    def swap() -> None:
        os.rename(names["real"], names["x"])
        os.rename(names["x"], names["real"])
        os.rename(names["evil"], names["x"])
        os.rename(names["x"], names["evil"])

    opened = 0
    with _Swapper(swap) as swapper:
        for number in range(1500):
            errno, fd = guest.open("x/canary", base=RW)
            if errno is OK:
                opened += 1
                assert guest.read(fd, 100) == (OK, b"harmless")
                guest.call("fd_close", fd)
            guest.set_times("x/canary", 5, 5)
            errno, fd = guest.open("x/new", oflags=CREAT, base=RW)
            if errno is OK:
                guest.call("fd_close", fd)
            guest.name_call("path_unlink_file", "x/new")
            guest.name_call("path_create_directory", f"x/sub/{number}")
            guest.rename("x/new", "x/newer")
            guest.symlink("y", f"x/link{number % 7}")
    assert swapper.rounds > 100
    assert opened
    assert (root.parent / "outside" / "canary").read_bytes() == CANARY


def test_a_file_swapped_with_a_link_while_it_is_opened(guest: Guest, root: Path) -> None:
    """For the last component, where open, stat and utimes follow."""
    (root / "good").write_bytes(b"harmless")
    os.symlink("../outside/canary", root / "evil")

    def swap() -> None:
        for source in ("good", "evil"):
            os.link(root / source, root / "new", follow_symlinks=False)
            os.rename(root / "new", root / "x")

    with _Swapper(swap) as swapper:
        for _ in range(3000):
            errno, fd = guest.open("x", base=RW)
            if errno is OK:
                assert guest.read(fd, 100) == (OK, b"harmless")
                assert guest.call("fd_close", fd) is OK
            else:
                assert errno in (Errno.NOTCAPABLE, Errno.NOENT, Errno.AGAIN)
            errno, status = guest.stat("x")
            if errno is OK:
                assert status.size == len(b"harmless")
            guest.set_times("x", 7, 7)
    assert swapper.rounds > 100
