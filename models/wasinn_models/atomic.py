"""Files that are there whole or not at all, and the lock between processes. Knows no models.

A file is written under a temporary name in the folder it will stand in, made durable, then renamed.
Errors of the operating system become the store's errors here and nowhere else.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from wasinn_models.errors import StoreError, StoreFull
from wasinn_models.progress import Progress, silent

__all__ = [
    "TEMPORARY_PREFIX",
    "adopt",
    "file_lock",
    "need_room",
    "remove_temporaries",
    "sha256_of",
    "store_errors",
    "temporary_path",
    "write_whole",
]

# No name that a manifest may give begins like this.
TEMPORARY_PREFIX = ".tmp-"

CHUNK_BYTES = 1 << 20

# No room left; the user's quota is used up; the file system's largest file is reached.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def store_errors(path: Path, needed: int | None = None) -> Iterator[None]:
    """Turns the operating system's errors into the store's.

    Args:
        path: the file that is worked on.
        needed: bytes it needs as a whole, where that is known.

    Raises:
        StoreFull: no room is left.
        StoreError: any other error of the operating system.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StoreFull(path, needed, free_bytes(path.parent)) from error
        reason = error.strerror or str(error)
        raise StoreError(
            f"{error.filename or path}: the model store can not use it: {reason}; expected a place "
            f"that may be written, choose another one with WASINN_CACHE_DIR"
        ) from error


def free_bytes(folder: Path) -> int | None:
    """Bytes that are left for this user where ``folder`` is; None where that can not be known."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    # Some network file systems know no sizes and answer with zeros.
    return usage.free if usage.total else None


def need_room(path: Path, needed: int) -> None:
    """Stops before the first byte where the whole file has no room.

    Raises:
        StoreFull: fewer than ``needed`` bytes are left where ``path`` will be.
    """
    free = free_bytes(path.parent)
    if free is not None and free < needed:
        raise StoreFull(path, needed, free)


def temporary_path(path: Path) -> Path:
    """A name beside ``path`` that nobody else uses."""
    return path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{secrets.token_hex(6)}")


def remove_temporaries(folder: Path) -> None:
    """Removes what a killed process left; only for the holder of the folder's lock."""
    if not folder.is_dir():
        return
    for path in folder.rglob(f"{TEMPORARY_PREFIX}*"):
        with store_errors(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


@contextlib.contextmanager
def write_whole(path: Path, needed: int | None = None) -> Iterator[BinaryIO]:
    """A file to write; it takes the place of ``path`` when the context ends without an error.

    Args:
        path: where it will stand; folders are made.
        needed: bytes it will have, where that is known.

    Raises:
        StoreFull: no room is left; nothing stays behind.
        StoreError: it can not be written; nothing stays behind.
    """
    temporary = temporary_path(path)
    with store_errors(path, needed):
        path.parent.mkdir(parents=True, exist_ok=True)
        if needed is not None:
            need_room(path, needed)
        try:
            with open(temporary, "xb") as file:
                yield file
            adopt(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def adopt(temporary: Path, path: Path) -> None:
    """Makes a finished file durable and gives it its name.

    Raises:
        OSError: for ``store_errors`` to map.
    """
    _sync(temporary)
    os.replace(temporary, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Waits until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256_of(path: Path, progress: Progress = silent, label: str = "") -> str:
    """SHA-256 of a regular file, in hexadecimal.

    Raises:
        OSError: it can not be read.
        StoreError: it is a link, a device or a folder, which the store never makes.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise StoreError(f"{path}: expected a regular file, got something else")
        digest = hashlib.sha256()
        done = 0
        while chunk := os.read(handle, CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            progress(label, done, status.st_size)
    finally:
        os.close(handle)
    return digest.hexdigest()


@contextlib.contextmanager
def file_lock(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Holds a lock that one process on this machine has at a time; it ends with the process.

    Args:
        path: the lock's file; it is made and stays.
        on_wait: called once when somebody else has it.

    Raises:
        StoreError: the file can not be made, or its file system knows no locks.
    """
    with store_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with store_errors(path):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if on_wait is not None:
                    on_wait()
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
