"""Resolving a guest's path without ever leaving the directory it starts at. Not the calls.

Two ways, same meaning. ``KernelResolver`` lets ``openat2(RESOLVE_BENEATH)`` walk;
``WalkResolver`` opens one component at a time with ``O_PATH | O_NOFOLLOW`` and expands symbolic
links itself. Neither ever hands the kernel a name that it may follow on its own, so a directory
that another process swaps for a symbolic link half-way can not lead outside.

Rules: absolute paths and absolute link targets are refused; ``..`` may not climb above the start;
at most 40 links (as Linux); a trailing slash means "a directory", and follows a link only where
POSIX says so. Operations on a name itself (unlink, rename, mkdir, ...) get a ``Place``: a
descriptor of the parent and a single component, which the host call then may not follow.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final, Protocol

from wasinn_host.wasi import kernel
from wasinn_host.wasi.abi import Errno
from wasinn_host.wasi.errors import WasiError

__all__ = ["KernelResolver", "Place", "Resolver", "WalkResolver", "default_resolver"]

_MAX_LINKS: Final = 40
#: How often a walk is started again when somebody renames things under it. One try succeeds
#: unless an attacker keeps swapping; after that many the guest gets AGAIN.
_MAX_RACES: Final = 64
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_COMPONENT: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Place:
    """Where a name lives: a descriptor of its directory and one component (or ``.``).

    Args:
        directory: host descriptor of the parent.
        name: the last component; ``.`` stands for the directory itself.
        must_be_directory: the path ended with a slash.
        owned: whether ``close`` closes the descriptor.
    """

    __slots__ = ("directory", "must_be_directory", "name", "owned")

    def __init__(self, directory: int, name: bytes, must_be_directory: bool, owned: bool) -> None:
        self.directory = directory
        self.name = name
        self.must_be_directory = must_be_directory
        self.owned = owned

    def lstat(self) -> os.stat_result:
        """Status of the name itself."""
        return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)

    def close(self) -> None:
        if self.owned:
            self.owned = False
            os.close(self.directory)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Resolver(Protocol):
    """Paths are relative to ``start``, a host descriptor of a directory."""

    def open(self, start: int, path: bytes, flags: int, *, follow: bool, mode: int = 0) -> int:
        """Open what the path leads to; ``follow`` is about a link as last component.

        Raises:
            WasiError: NOTCAPABLE for a way out, LOOP, AGAIN.
            OSError: from the host.
        """
        ...

    def parent(self, start: int, path: bytes) -> Place:
        """The place of the last component, a link there not followed."""
        ...

    def target(self, start: int, path: bytes) -> Place:
        """The place the path leads to, a link as last component followed (it may dangle)."""
        ...


def _refuse_absolute(path: bytes, what: str) -> None:
    if path.startswith(b"/"):
        raise WasiError(Errno.NOTCAPABLE, f"absolute {what}")


def _split_last(path: bytes) -> tuple[bytes, bytes, bool]:
    """Parent part, last component, whether it must be a directory.

    A last component that is ``.`` or ``..`` is no name: the whole path is then the parent and the
    name is ``.``.
    """
    stripped = path.rstrip(b"/")
    head, _, last = stripped.rpartition(b"/")
    if last in (b".", b".."):
        return stripped, b".", True
    return head, last, len(stripped) != len(path)


class WalkResolver:
    """One component at a time. Needs nothing but ``openat``; used where openat2 is missing."""

    def open(self, start: int, path: bytes, flags: int, *, follow: bool, mode: int = 0) -> int:
        if flags & os.O_CREAT and flags & os.O_EXCL:
            follow = False
        for _ in range(_MAX_RACES):
            with self._walk(start, path, follow or path.endswith(b"/")) as place:
                final = flags | os.O_NOFOLLOW | os.O_CLOEXEC
                if place.must_be_directory:
                    if flags & os.O_CREAT:
                        raise WasiError(Errno.ISDIR, "a new file's name ends with a slash")
                    final |= os.O_DIRECTORY
                try:
                    fd = os.open(place.name, final, mode, dir_fd=place.directory)
                except OSError as error:
                    # A link was put there since the walk looked: look again.
                    if follow and error.errno == errno.ELOOP:
                        continue
                    raise
                if follow and flags & os.O_PATH and stat.S_ISLNK(os.fstat(fd).st_mode):
                    os.close(fd)
                    continue
                return fd
        raise WasiError(Errno.AGAIN, "the path keeps changing")

    def parent(self, start: int, path: bytes) -> Place:
        return self._walk(start, path, follow_last=False)

    def target(self, start: int, path: bytes) -> Place:
        return self._walk(start, path, follow_last=True)

    def _walk(self, start: int, path: bytes, follow_last: bool) -> Place:
        _refuse_absolute(path, "path")
        pending = _components(path)
        pending.reverse()
        must_be_directory = path.endswith((b"/", b"/.", b"/..")) or path in (b".", b"..")
        here, owned = start, False
        # (device, inode) of the directories from the start down to the parent of ``here``: ``..``
        # must lead back to the one we came through, or somebody moved us.
        trail: list[tuple[int, int]] = []
        here_id = _identity(start)
        links = 0
        try:
            while pending:
                name = pending.pop()
                if name == b".":
                    continue
                if name == b"..":
                    if not trail:
                        raise WasiError(Errno.NOTCAPABLE, "the path climbs out of its directory")
                    above = os.open(b"..", _DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                    if owned:
                        os.close(here)
                    here, owned, here_id = above, True, _identity(above)
                    if here_id != trail.pop():
                        raise WasiError(Errno.AGAIN, "a directory moved while the path was walked")
                    continue
                if pending:
                    below = os.open(name, _COMPONENT, dir_fd=here)
                    status = os.fstat(below)
                    if stat.S_ISDIR(status.st_mode):
                        if owned:
                            os.close(here)
                        trail.append(here_id)
                        here, owned, here_id = below, True, (status.st_dev, status.st_ino)
                        continue
                    try:
                        if not stat.S_ISLNK(status.st_mode):
                            raise WasiError(Errno.NOTDIR, "a file in the middle of a path")
                        link = os.readlink(b"", dir_fd=below)
                    finally:
                        os.close(below)
                else:
                    found = _read_link(name, here) if follow_last else None
                    if found is None:
                        place = Place(here, name, must_be_directory, owned)
                        owned = False
                        return place
                    link = found
                    must_be_directory = must_be_directory or link.endswith(b"/")
                links += 1
                if links > _MAX_LINKS:
                    raise WasiError(Errno.LOOP, f"more than {_MAX_LINKS} symbolic links")
                _refuse_absolute(link, "target of a symbolic link")
                pending.extend(reversed(_components(link)))
            place = Place(here, b".", True, owned)
            owned = False
            return place
        finally:
            if owned:
                os.close(here)


def _components(path: bytes) -> list[bytes]:
    """The path's components without empty ones and ``.``; but a ``.`` at the end stays.

    It makes the component before it a directory to walk through: ``link/.`` follows the link.
    """
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    stripped = path.rstrip(b"/")
    if stripped == b"." or stripped.endswith(b"/."):
        parts.append(b".")
    return parts


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _read_link(name: bytes, directory: int) -> bytes | None:
    """The link's text, or None when the name is not a link or does not exist."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise


class KernelResolver:
    """``openat2`` with RESOLVE_BENEATH and RESOLVE_NO_MAGICLINKS (Linux 5.6)."""

    def __init__(self) -> None:
        self._walker = WalkResolver()

    def open(self, start: int, path: bytes, flags: int, *, follow: bool, mode: int = 0) -> int:
        _refuse_absolute(path, "path")
        if not follow:
            flags |= os.O_NOFOLLOW
        for _ in range(_MAX_RACES):
            try:
                return kernel.open_beneath(start, path, flags, mode)
            except OSError as error:
                # EXDEV says "this would leave": a climb, an absolute link, a moved directory.
                if error.errno == errno.EXDEV:
                    raise WasiError(
                        Errno.NOTCAPABLE, "the path leads out of its directory"
                    ) from error
                if error.errno != errno.EAGAIN:
                    raise
        raise WasiError(Errno.AGAIN, "the path keeps changing")

    def parent(self, start: int, path: bytes) -> Place:
        _refuse_absolute(path, "path")
        head, name, must_be_directory = _split_last(path)
        if not head:
            return Place(start, name, must_be_directory, owned=False)
        directory = self.open(start, head, _DIRECTORY, follow=True)
        return Place(directory, name, must_be_directory, owned=True)

    def target(self, start: int, path: bytes) -> Place:
        # The kernel resolves to a file, not to (directory, name); only links and times need that.
        return self._walker.target(start, path)


def default_resolver() -> Resolver:
    """The kernel's way where it works, else our own."""
    return KernelResolver() if kernel.has_openat2() else WalkResolver()
