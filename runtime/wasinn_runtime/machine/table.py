"""Tables of references: an immovable array of 8-byte elements, null is 0."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import TableDef
from wasinn_runtime.errors import LimitExceeded, MemoryAccessError, UsageError
from wasinn_runtime.machine import native
from wasinn_runtime.machine.values import from_bits, to_bits
from wasinn_runtime.spec.limits import MAX_TABLE_ENTRIES
from wasinn_runtime.spec.types import Limits, TableType

if TYPE_CHECKING:
    from wasinn_runtime.machine.store import Store

__all__ = ["Table", "TableRegion"]

_SMALL_BYTES = 16 << 10


class TableRegion:
    """The table itself, which instances and ``Table`` objects keep alive.

    Attributes:
        definition: address of the TableDef that generated code reads.
        base: address of element 0.
    """

    def __init__(self, ty: TableType) -> None:
        limits = ty.limits
        if limits.min > MAX_TABLE_ENTRIES:
            raise LimitExceeded(
                f"the table starts with {limits.min:,} elements, the limit is {MAX_TABLE_ENTRIES:,}"
            )
        allowed = MAX_TABLE_ENTRIES if limits.max is None else min(limits.max, MAX_TABLE_ENTRIES)
        if not 0 <= limits.min <= allowed:
            raise UsageError(f"a table can not have {limits} elements; expected 0 <= min <= max")
        self.type = ty
        byte_count = 8 * max(allowed, 1)
        self._space: native.Cells | native.Reservation
        if byte_count <= _SMALL_BYTES:  # not worth a mapping
            self._space = native.buffer(byte_count)
            self.base = ctypes.addressof(self._space)
        else:
            self._space = native.Reservation(byte_count, writable=True)
            self.base = self._space.address
        self.cells = self._cells = native.buffer(TableDef.BYTES)
        self._cells[TableDef.BASE // 8] = self.base
        self._cells[TableDef.SIZE // 8] = limits.min
        self._cells[TableDef.MAX_SIZE // 8] = allowed
        self.definition = ctypes.addressof(self._cells)

    def fill(self, bits: int) -> None:
        """Give every element there is the same value."""
        elements = (ctypes.c_uint64 * self.size).from_address(self.base)
        elements[:] = [bits] * self.size

    @property
    def size(self) -> int:
        return int(self._cells[TableDef.SIZE // 8])


class Table:
    """A table.

    Args:
        store: the store it belongs to.
        type: element type and limits.
        init: the first value of every element; None is null.
    """

    def __init__(self, store: Store, type: TableType, init: object = None) -> None:
        self.store = store
        self.region = store.new_table(type)
        bits = to_bits(store, type.element, init)
        if bits:
            self.region.fill(bits)

    @classmethod
    def of_region(cls, store: Store, region: TableRegion) -> Table:
        self = cls.__new__(cls)
        self.store = store
        self.region = region
        return self

    @property
    def type(self) -> TableType:
        """Its type now: the minimum is the current size."""
        ty = self.region.type
        return TableType(ty.element, Limits(self.size, ty.limits.max), ty.address)

    @property
    def size(self) -> int:
        """Current number of elements."""
        return self.region.size

    def __len__(self) -> int:
        return self.size

    def _element(self, index: int) -> ctypes.c_uint64:
        if not 0 <= index < self.size:
            raise MemoryAccessError(f"element {index} is not inside the table of {self.size}")
        return ctypes.c_uint64.from_address(self.region.base + 8 * index)

    def __getitem__(self, index: int) -> object:
        return from_bits(self.store, self.region.type.element, self._element(index).value)

    def __setitem__(self, index: int, value: object) -> None:
        self._element(index).value = to_bits(self.store, self.region.type.element, value)

    get = __getitem__
    set = __setitem__

    def grow(self, delta: int, init: object = None) -> int:
        """Add elements with a first value.

        Returns:
            The size before.

        Raises:
            LimitExceeded: the maximum does not allow it.
        """
        bits = to_bits(self.store, self.region.type.element, init)
        before = -1
        if 0 <= delta <= MAX_TABLE_ENTRIES:
            before = self.store.core.grow_table(self.region.definition, bits, delta)
        if before < 0:
            raise LimitExceeded(f"can not grow the table from {self.size} by {delta} elements")
        return before

    def __repr__(self) -> str:
        return f"<Table {self.size} {self.region.type.element}>"
