"""Memory that host and backend process both see. It can not shrink under the one that reads it."""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Final

__all__ = ["SharedMemory"]

_ADD_SEALS: Final = 1033
_GET_SEALS: Final = 1034
_SEAL_SHRINK: Final = 2


class SharedMemory:
    """A mapped region.

    Attributes:
        fd: its descriptor, to give to the other side.
        size_bytes: as large as it is.
        view: its bytes.
    """

    def __init__(self, fd: int, size_bytes: int) -> None:
        self.fd = fd
        self.size_bytes = size_bytes
        self._map = mmap.mmap(fd, size_bytes) if size_bytes else None
        self.view = memoryview(self._map) if self._map is not None else memoryview(bytearray())

    @classmethod
    def create(cls, size_bytes: int) -> SharedMemory:
        """A new region, of zeros.

        Raises:
            OSError: no descriptor or no memory is left.
        """
        fd = os.memfd_create("wasinn tensor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size_bytes)
            fcntl.fcntl(fd, _ADD_SEALS, _SEAL_SHRINK)
            return cls(fd, size_bytes)
        except BaseException:
            os.close(fd)
            raise

    @classmethod
    def attach(cls, fd: int) -> SharedMemory:
        """The region of a descriptor that came from the other side, which is this one's now.

        Raises:
            ValueError: it could shrink, and who reads it would be killed then.
            OSError: it is no such region.
        """
        try:
            if not fcntl.fcntl(fd, _GET_SEALS) & _SEAL_SHRINK:
                raise ValueError("shared memory that may shrink")
            return cls(fd, os.fstat(fd).st_size)
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        """Unmaps it, or leaves that to whoever still has a view."""
        os.close(self.fd)
        self.view.release()
        if self._map is not None:
            try:
                self._map.close()
            except BufferError:
                self._map = None
