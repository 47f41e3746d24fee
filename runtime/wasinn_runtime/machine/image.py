"""Images of initialised memories: what a module's data segments make of a memory, shared by all
instances of the module until they write to it.

The contents lie in a sealed anonymous file that every memory maps privately: a page is copied when
an instance first writes to it, and the others cost no memory of their own.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import sys
from collections.abc import Callable, Sequence

from wasinn_runtime.machine import native
from wasinn_runtime.machine.places import ARENAS

__all__ = ["Image", "Piece"]

# Bytes of the image, and what they become: offset in the memory, host address, length.
Piece = tuple[int, int, int]

_F_ADD_SEALS = 1033
_SEAL_ALL = 0xF  # no seals, shrinking, growing, writing any more


class Image:
    """The first bytes of a memory, as pages that memories map.

    Args:
        pieces: what to write, in order.
        memory_bytes: the size of the memories that start with it.

    Attributes:
        shelf: open places that hold it and that nobody uses.

    Raises:
        OSError: the system has no such files, or none left.
    """

    def __init__(self, pieces: Sequence[Piece], memory_bytes: int) -> None:
        end = max(at + length for at, _, length in pieces)
        self.byte_count = -(-end // mmap.PAGESIZE) * mmap.PAGESIZE
        self.shelf = ARENAS.new_shelf(memory_bytes)
        self._file = os.memfd_create("wasinn-memory", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._file, self.byte_count)
            for at, source, length in pieces:
                _write(self._file, memoryview((ctypes.c_ubyte * length).from_address(source)), at)
            fcntl.fcntl(self._file, _F_ADD_SEALS, _SEAL_ALL)
            self._identity = _identity(self._file)
        except OSError:
            os.close(self._file)
            raise

    def map(self, address: int) -> bool:
        """Put it at the beginning of open pages; False when that can not be done (any more)."""
        return _identity(self._file) == self._identity and native.map_file(
            address, self.byte_count, self._file
        )

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if finalizing() or not hasattr(self, "_identity"):
            return
        while self.shelf.addresses:
            ARENAS.close(self.shelf.addresses.pop())
        if _identity(self._file) == self._identity:
            os.close(self._file)


def _write(file: int, data: memoryview, at: int) -> None:
    while data:
        done = os.pwrite(file, data, at)
        data, at = data[done:], at + done


def _identity(file: int) -> tuple[int, int] | None:
    """What file a descriptor stands for: programs that become daemons close them all."""
    try:
        found = os.fstat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino
