"""Copies one local file into the store's staging folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from wasinn_models.atomic import write_whole
from wasinn_models.errors import SourceError
from wasinn_models.progress import Progress, silent

__all__ = ["copy_local"]

CHUNK_BYTES = 1 << 20


def copy_local(source: Path, target: Path, *, progress: Progress = silent) -> Path:
    """Copies a file; the caller verifies its checksum, since it may change meanwhile.

    Args:
        source: a regular file, or a link to one.
        target: where the copy is written.
        progress: called with every chunk.

    Returns:
        ``target``.

    Raises:
        SourceError: it is not there, not a regular file, or can not be read.
        StoreFull: no room is left.
    """
    try:
        # Opening a pipe for reading would wait for somebody to write.
        handle = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SourceError(f"file:{source}: it can not be read: {error.strerror}") from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"file:{source}: expected a regular file, got something else")
        done = 0
        with write_whole(target, status.st_size) as copy:
            while chunk := _read(handle, source):
                copy.write(chunk)
                done += len(chunk)
                progress(source.name, done, status.st_size)
    finally:
        os.close(handle)
    return target


def _read(handle: int, source: Path) -> bytes:
    """The next bytes; a disk's error here is the source's, not the store's."""
    try:
        return os.read(handle, CHUNK_BYTES)
    except OSError as error:
        raise SourceError(f"file:{source}: reading failed: {error.strerror}") from error
