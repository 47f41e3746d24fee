"""Linear memories: guard pages around an immovable base.

Each 32-bit memory owns a place in an arena (places.py): 8 GiB of address space, of which only its
current pages are open. Any 32-bit index plus any 32-bit offset stays inside, so a stray access
faults and the core's handler turns that into a trap. Code checks accesses of 64-bit memories
itself, which have address space of their own. Growth opens pages; the base never moves, so views
stay valid.
"""

from __future__ import annotations

import ctypes
import struct
import weakref
from typing import TYPE_CHECKING, Any

from wasinn_runtime.abi.layout import MemoryDef
from wasinn_runtime.errors import LimitExceeded, MemoryAccessError, UsageError
from wasinn_runtime.machine import native
from wasinn_runtime.machine.places import ARENAS, Place
from wasinn_runtime.machine.services import grow_shared
from wasinn_runtime.spec.limits import MAX_MEMORY_PAGES_64
from wasinn_runtime.spec.types import PAGE_SIZE, Limits, MemoryType, ValType

if TYPE_CHECKING:
    from wasinn_runtime.machine.image import Image
    from wasinn_runtime.machine.store import Store

__all__ = ["MAX_PAGES", "Memory", "MemoryRegion"]

MAX_PAGES = 65536
_U8, _U16, _U32, _U64 = (struct.Struct(f"<{letter}") for letter in "BHIQ")


# Address space for a 64-bit memory that may grow without end, and for one that starts with more.
_WIDE_BYTES, _WIDEST_BYTES = 1 << 37, 1 << 40


def _reserve_wide(start: int, most: int) -> native.Reservation:
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
            return native.Reservation(size, writable=False)
        except LimitExceeded:
            if size // 2 < max(start, PAGE_SIZE):
                raise
            size = size // 2 // PAGE_SIZE * PAGE_SIZE


class MemoryRegion:
    """The memory itself, which instances, ``Memory`` objects and views keep alive.

    Attributes:
        definition: address of the MemoryDef that generated code reads.
        base: address of byte 0.
        is_initialised: whether it began with the image.

    Args:
        core: what grows it.
        ty: its type.
        max_bytes: the most it may grow to; None for what its type allows.
        image: what it should begin with; if that can not be mapped, it begins with zeros.
    """

    def __init__(
        self,
        core: native.Core,
        ty: MemoryType,
        max_bytes: int | None,
        image: Image | None = None,
    ) -> None:
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
        self.is_initialised = False
        length = limits.min * PAGE_SIZE
        self._cells = native.buffer(MemoryDef.BYTES)
        self._place: native.Reservation | Place
        if is_wide:
            self._place = _reserve_wide(length, allowed * PAGE_SIZE)
            allowed = min(allowed, self._place.byte_count // PAGE_SIZE)
            native.open_pages(self._place.address, length)
            if image is not None:
                self.is_initialised = image.map(self._place.address)
        else:
            self._place = place = ARENAS.take(core, length, image)
            self.is_initialised = place.image is not None
            place.cells = self._cells
        self.base = self._place.address
        self._cells[MemoryDef.BASE // 8] = self.base
        self._cells[MemoryDef.MAX_PAGES // 8] = allowed
        self._cells[MemoryDef.BYTE_LENGTH // 8] = length
        self.definition = ctypes.addressof(self._cells)

    @property
    def byte_length(self) -> int:
        return int(self._cells[1])

    def forget_image(self) -> None:
        """Begin with zeros after all."""
        if self.is_initialised:
            ctypes.memset(self.base, 0, self.byte_length)
            self.is_initialised = False


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
        self._store: Store | None = store  # keeps it alive
        self._weak_store = weakref.ref(store)
        self.region = region
        self._base = region.base
        self._cells = region._cells
        self._whole = memoryview(b"")

    @classmethod
    def of_region(cls, store: Store, region: MemoryRegion) -> Memory:
        self = cls.__new__(cls)
        self._adopt(store, region)
        return self

    def without_store(self) -> Memory:
        """The same memory, as an object that does not keep the store alive."""
        found = Memory.of_region(self.store, self.region)
        found._store = None
        return found

    @property
    def store(self) -> Store:
        """The store it belongs to."""
        store = self._weak_store()
        if store is None:
            raise UsageError("the memory's store is gone")
        return store

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
        whole = self._whole
        if len(whole) != self._cells[1]:
            whole = self._bytes()
        if length is None:
            length = len(whole) - ptr
        if ptr < 0 or length < 0 or ptr + length > len(whole):
            raise self._outside(ptr, length)
        return whole[ptr : ptr + length]

    def unpack(self, codec: struct.Struct, ptr: int) -> tuple[Any, ...]:
        """The fields of a record, copied at once.

        Args:
            codec: the record's layout.
            ptr: its first byte.

        Raises:
            MemoryAccessError: the record is not inside.
        """
        whole = self._whole
        if len(whole) != self._cells[1]:
            whole = self._bytes()
        if ptr < 0 or ptr + codec.size > len(whole):
            raise self._outside(ptr, codec.size)
        return codec.unpack_from(whole, ptr)

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
        (value,) = self.unpack(codec, ptr)
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
