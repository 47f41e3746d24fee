"""Linear memories: guard pages around an immovable base.

Each 32-bit memory owns a place in an arena: 8 GiB of address space, of which only its current
pages are open. Any 32-bit index plus any 32-bit offset stays inside, so a stray access faults and
the core's handler turns that into a trap. Code checks accesses of 64-bit memories itself, which
have address space of their own. Growth opens pages; the base never moves, so views stay valid.
"""

from __future__ import annotations

import ctypes
import struct
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import MAX_ARENAS, MemoryDef
from wasinn_runtime.errors import LimitExceeded, MemoryAccessError, UsageError
from wasinn_runtime.machine import native
from wasinn_runtime.machine.services import grow_shared
from wasinn_runtime.spec.limits import MAX_MEMORY_PAGES_64
from wasinn_runtime.spec.types import PAGE_SIZE, Limits, MemoryType, ValType

if TYPE_CHECKING:
    from wasinn_runtime.machine.store import Store

__all__ = ["MAX_PAGES", "Memory", "MemoryRegion"]

MAX_PAGES = 65536
# index < 4 GiB, offset < 4 GiB, and an access of at most 64 bytes.
_PLACE_BYTES = (8 << 30) + PAGE_SIZE
_PLACES_PER_ARENA = 128
_U8, _U16, _U32, _U64 = (struct.Struct(f"<{letter}") for letter in "BHIQ")


class _Arenas:
    """Address space for memories, taken in large pieces that the fault handler knows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[int] = []
        self._count = 0

    def take(self, core: native.Core) -> int:
        with self._lock:
            if not self._free:
                self._add(core)
            return self._free.pop()

    def give_back(self, address: int) -> None:
        """Take no lock: the garbage collector may call this in the middle of ``take``."""
        # All of it: a guest that is stopped while its memory grows leaves more open than it owned.
        if native.close_pages(address, _PLACE_BYTES):
            self._free.append(address)

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


_arenas = _Arenas()

# Address space for a 64-bit memory that may grow without end, and for one that starts with more.
_WIDE_BYTES, _WIDEST_BYTES = 1 << 37, 1 << 40


def _reserve_wide(start: int, most: int) -> tuple[int, int]:
    """Address space that a 64-bit memory grows in; less than it may have where there is less.

    Every access is checked, so that no guard pages are needed.
    """
    size = max(min(most, _WIDE_BYTES), start, PAGE_SIZE)
    if size > _WIDEST_BYTES:
        raise LimitExceeded(
            f"the memory starts with {start:,} bytes, more than the {_WIDEST_BYTES:,} of address "
            "space that one may have"
        )
    while True:
        try:
            return native.reserve(size, writable=False), size
        except LimitExceeded:
            if size // 2 < max(start, PAGE_SIZE):
                raise
            size = size // 2 // PAGE_SIZE * PAGE_SIZE


class MemoryRegion:
    """The memory itself, which instances, ``Memory`` objects and views keep alive.

    Attributes:
        definition: address of the MemoryDef that generated code reads.
        base: address of byte 0.
    """

    def __init__(self, core: native.Core, ty: MemoryType, max_bytes: int | None) -> None:
        limits = ty.limits
        is_wide = ty.address is ValType.I64
        most = MAX_MEMORY_PAGES_64 if is_wide else MAX_PAGES
        allowed = most if limits.max is None else min(limits.max, most)
        if not 0 <= limits.min <= allowed:
            raise UsageError(f"a memory can not have {limits} pages; expected 0 <= min <= max")
        if ty.shared and limits.max is None:
            raise UsageError("a shared memory needs a maximum, which all who share it agree on")
        if max_bytes is not None:
            if limits.min * PAGE_SIZE > max_bytes:
                raise LimitExceeded(
                    f"the memory starts with {limits.min * PAGE_SIZE:,} bytes, "
                    f"the limit is {max_bytes:,}; raise max_memory"
                )
            allowed = min(allowed, max_bytes // PAGE_SIZE)
        self.type = ty
        if is_wide:
            self.base, size = _reserve_wide(limits.min * PAGE_SIZE, allowed * PAGE_SIZE)
            allowed = size // PAGE_SIZE
            give_back: Callable[[], object] = partial(native.release, self.base, size)
        else:
            self.base = _arenas.take(core)
            give_back = partial(_arenas.give_back, self.base)
        try:
            native.open_pages(self.base, limits.min * PAGE_SIZE)
        except LimitExceeded:
            give_back()
            raise
        self._cells = native.buffer(MemoryDef.BYTES)
        self._cells[MemoryDef.BASE // 8] = self.base
        self._cells[MemoryDef.BYTE_LENGTH // 8] = limits.min * PAGE_SIZE
        self._cells[MemoryDef.MAX_PAGES // 8] = allowed
        self.definition = ctypes.addressof(self._cells)
        native.when_gone(self, give_back)

    @property
    def byte_length(self) -> int:
        return int(self._cells[1])


class Memory:
    """A linear memory.

    Args:
        store: the store it belongs to.
        type: minimum and maximum in pages of 64 KiB.

    Raises:
        LimitExceeded: above the store's ``max_memory_bytes``, or no address space is left.
    """

    def __init__(self, store: Store, type: MemoryType) -> None:
        self._adopt(store, store.new_memory(type))

    def _adopt(self, store: Store, region: MemoryRegion) -> None:
        self.store = store
        self.region = region
        self._base = region.base
        self._cells = region._cells
        self._whole = memoryview(b"")

    @classmethod
    def of_region(cls, store: Store, region: MemoryRegion) -> Memory:
        self = cls.__new__(cls)
        self._adopt(store, region)
        return self

    @property
    def type(self) -> MemoryType:
        """Its type now: the minimum is the current size."""
        ty = self.region.type
        return MemoryType(Limits(self.pages, ty.limits.max), ty.address, ty.shared)

    @property
    def byte_length(self) -> int:
        """Current size in bytes."""
        return int(self._cells[1])

    @property
    def pages(self) -> int:
        """Current size in pages of 64 KiB."""
        return self.byte_length // PAGE_SIZE

    def grow(self, delta: int) -> int:
        """Add pages.

        Args:
            delta: how many, 0 to 65536; to 2**48 if its addresses have 64 bits.

        Returns:
            The size before, in pages.

        Raises:
            LimitExceeded: the maximum does not allow it.
        """
        most = MAX_MEMORY_PAGES_64 if self.region.type.address is ValType.I64 else MAX_PAGES
        if not 0 <= delta <= most:
            raise UsageError(f"can not grow a memory by {delta} pages; expected 0 to {most}")
        core, definition = self.store.core, self.region.definition
        if self.region.type.shared:
            before = grow_shared(core, definition, delta)
        else:
            before = core.grow_memory(definition, delta)
        if before < 0:
            allowed = int(self._cells[MemoryDef.MAX_PAGES // 8])
            raise LimitExceeded(
                f"can not grow the memory from {self.pages} by {delta} pages: at most {allowed}"
            )
        return before

    def _outside(self, ptr: int, length: int) -> MemoryAccessError:
        return MemoryAccessError(
            f"bytes [{ptr:#x}, {ptr:#x} + {length}) are not inside the memory "
            f"of {self.byte_length:#x} bytes"
        )

    def address(self, ptr: int, length: int) -> int:
        """Host address of a range that is checked to lie inside; valid while the memory lives.

        Raises:
            MemoryAccessError: it does not.
        """
        if ptr < 0 or length < 0 or ptr + length > self._cells[1]:
            raise self._outside(ptr, length)
        return self._base + ptr

    def _bytes(self) -> memoryview:
        """All of it, as it is now."""
        length = self._cells[1]
        if len(self._whole) != length:
            array = (ctypes.c_ubyte * length).from_address(self._base)
            array._region = self.region  # type: ignore[attr-defined]  # a view keeps its array
            self._whole = memoryview(array).cast("B")
        return self._whole

    def read(self, ptr: int, length: int) -> bytes:
        """Copy bytes out.

        Raises:
            MemoryAccessError: the range is not inside.
        """
        return self.view(ptr, length).tobytes()

    def write(self, ptr: int, data: bytes | bytearray | memoryview) -> None:
        """Copy bytes in.

        Raises:
            MemoryAccessError: the range is not inside; nothing was written.
        """
        source = memoryview(data).cast("B")
        self.view(ptr, len(source))[:] = source

    def view(self, ptr: int = 0, length: int | None = None) -> memoryview:
        """A writable view without a copy, format ``B``.

        It keeps the memory alive and stays valid when the memory grows; it does not get longer.

        Args:
            ptr: first byte.
            length: bytes; None for all up to the current end.

        Raises:
            MemoryAccessError: the range is not inside.
        """
        whole = self._bytes()
        if length is None:
            length = len(whole) - ptr
        if ptr < 0 or length < 0 or ptr + length > len(whole):
            raise self._outside(ptr, length)
        return whole[ptr : ptr + length]

    def __buffer__(self, flags: int) -> memoryview:
        return self.view()

    def __len__(self) -> int:
        return self.byte_length

    @property
    def __array_interface__(self) -> dict[str, object]:
        """numpy: ``np.asarray(memory)`` is a uint8 array without a copy, the memory as its base."""
        return {
            "version": 3,
            "shape": (self.byte_length,),
            "typestr": "|u1",
            "data": (self._base, False),
        }

    def _read_int(self, codec: struct.Struct, ptr: int) -> int:
        whole = self._bytes()
        if ptr < 0 or ptr + codec.size > len(whole):
            raise self._outside(ptr, codec.size)
        (value,) = codec.unpack_from(whole, ptr)
        return int(value)

    def _write_int(self, codec: struct.Struct, ptr: int, value: int) -> None:
        whole = self._bytes()
        if ptr < 0 or ptr + codec.size > len(whole):
            raise self._outside(ptr, codec.size)
        codec.pack_into(whole, ptr, value & ((1 << 8 * codec.size) - 1))

    def read_u8(self, ptr: int) -> int:
        return self._read_int(_U8, ptr)

    def read_u16(self, ptr: int) -> int:
        return self._read_int(_U16, ptr)

    def read_u32(self, ptr: int) -> int:
        return self._read_int(_U32, ptr)

    def read_u64(self, ptr: int) -> int:
        return self._read_int(_U64, ptr)

    def write_u8(self, ptr: int, value: int) -> None:
        self._write_int(_U8, ptr, value)

    def write_u16(self, ptr: int, value: int) -> None:
        self._write_int(_U16, ptr, value)

    def write_u32(self, ptr: int, value: int) -> None:
        self._write_int(_U32, ptr, value)

    def write_u64(self, ptr: int, value: int) -> None:
        self._write_int(_U64, ptr, value)

    def __repr__(self) -> str:
        return f"<Memory {self.pages} pages>"
