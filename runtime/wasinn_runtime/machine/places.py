"""Places for 32-bit linear memories: address space with guard pages, taken and given back.

A place is 8 GiB of address space, of which only a memory's current pages are open. Opening and
closing pages is what making a memory costs most, so that places given back stay open for the next
memory of the same size and contents; only their pages go.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakSet

from wasinn_runtime.abi.layout import MAX_ARENAS, MemoryDef
from wasinn_runtime.errors import LimitExceeded
from wasinn_runtime.machine import native
from wasinn_runtime.spec.types import PAGE_SIZE

if TYPE_CHECKING:
    from wasinn_runtime.machine.image import Image

__all__ = ["ARENAS", "Arenas", "Place", "Shelf"]

# index < 4 GiB, offset < 4 GiB, and an access of at most 64 bytes.
_PLACE_BYTES = (8 << 30) + PAGE_SIZE
_PLACES_PER_ARENA = 128
# Open places kept for the next memory, by contents and size: each costs a few pages of the kernel's
# tables and up to three of the 65,530 mappings that a process may have.
_MOST_OPEN = 128
_MOST_SIZES = 16


class Shelf:
    """Open places of one size that nobody uses, all with the same contents."""

    def __init__(self, byte_count: int) -> None:
        self.byte_count = byte_count
        self.addresses: list[int] = []


class Arenas:
    """Address space for memories, taken in large pieces that the fault handler knows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[int] = []
        self._count = 0
        self._blank: dict[int, Shelf] = {}
        self._shelves: WeakSet[Shelf] = WeakSet()

    def new_shelf(self, byte_count: int) -> Shelf:
        """Where places with ``byte_count`` open bytes may wait."""
        found = Shelf(byte_count)
        with self._lock:
            self._shelves.add(found)
        return found

    def take(self, core: native.Core, byte_count: int, image: Image | None) -> Place:
        """A place with ``byte_count`` open bytes: the image, if it can be mapped, and zeros.

        Raises:
            LimitExceeded: no address space is left, or the system opens no more pages.
        """
        shelf = self._blank.get(byte_count) if image is None else image.shelf
        if shelf is not None:
            try:
                return Place(self, shelf.addresses.pop(), shelf, image)
            except IndexError:
                pass
        if shelf is None and byte_count and len(self._blank) < _MOST_SIZES:
            shelf = self._blank.setdefault(byte_count, self.new_shelf(byte_count))
        place = Place(self, self._closed(core), None, None)
        try:
            native.open_pages(place.address, byte_count)
        except LimitExceeded:
            self.close_open_places()  # they have mappings, of which a process may have so many
            native.open_pages(place.address, byte_count)
        if image is None:
            place.shelf = shelf
        elif image.map(place.address):
            place.shelf, place.image = shelf, image
        return place

    def _closed(self, core: native.Core) -> int:
        with self._lock:
            if not self._free:
                self.close_open_places()
            if not self._free:
                self._add(core)
            return self._free.pop()

    def give_back(self, address: int, shelf: Shelf | None, can_grow: bool) -> None:
        """Take no lock: the garbage collector may call this in the middle of ``take``."""
        if shelf is not None and len(shelf.addresses) < _MOST_OPEN:
            size = shelf.byte_count
            # A guest that is stopped while its memory grows leaves more open than it owned.
            if native.empty_pages(address, size) and (
                not can_grow or native.bar_pages(address + size, _PLACE_BYTES - size)
            ):
                shelf.addresses.append(address)
                return
        self.close(address)

    def close(self, address: int) -> None:
        if native.close_pages(address, _PLACE_BYTES):
            self._free.append(address)

    def close_open_places(self) -> None:
        """Give up what waits for memories of the same kind."""
        for shelf in list(self._shelves):
            while shelf.addresses:
                self.close(shelf.addresses.pop())

    def _add(self, core: native.Core) -> None:
        if self._count == MAX_ARENAS:
            raise LimitExceeded(
                f"{MAX_ARENAS * _PLACES_PER_ARENA} linear memories are alive in this process; "
                "drop stores that are no longer needed"
            )
        places = _PLACES_PER_ARENA
        while True:
            try:
                low = native.reserve(places * _PLACE_BYTES, writable=False)
                break
            except LimitExceeded:  # a small address space may still hold fewer
                if places == 1:
                    raise
                places //= 2
        table = core.addresses["wasinn_arenas"] + 16 * self._count
        # The handler reads pairs until the first zero: the end first, then the start.
        ctypes.c_uint64.from_address(table + 8).value = low + places * _PLACE_BYTES
        ctypes.c_uint64.from_address(table).value = low
        self._count += 1
        self._free.extend([low + i * _PLACE_BYTES for i in reversed(range(places))])


class Place:
    """A place in use; it goes back when nobody refers to it any more.

    Attributes:
        address: of its first byte.
        shelf: where it may wait open for the next memory of its kind.
        image: what it begins with; None for zeros.
        cells: the MemoryDef of the memory in it, once there is one.
    """

    __slots__ = ("_arenas", "address", "cells", "image", "shelf")

    def __init__(
        self, arenas: Arenas, address: int, shelf: Shelf | None, image: Image | None
    ) -> None:
        self._arenas = arenas
        self.address = address
        self.shelf = shelf
        self.image = image
        self.cells: native.Cells | None = None

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the end of the process daemon threads may still run guests in it.
        if finalizing():
            return
        shelf, cells = self.shelf, self.cells
        if shelf is None or cells is None or cells[_LENGTH] != shelf.byte_count:
            self._arenas.give_back(self.address, None, True)
        else:
            can_grow = cells[_MOST_PAGES] * PAGE_SIZE != shelf.byte_count
            self._arenas.give_back(self.address, shelf, can_grow)


_LENGTH, _MOST_PAGES = MemoryDef.BYTE_LENGTH // 8, MemoryDef.MAX_PAGES // 8

ARENAS = Arenas()


def _fresh_lock() -> None:
    ARENAS._lock = threading.Lock()


os.register_at_fork(after_in_child=_fresh_lock)
