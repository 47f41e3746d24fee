"""Exceptions of guests as Python sees them, and the memory that thrown ones live in.

A guest's exception that nobody catches reaches the caller as ``WasmException``; a host function
that raises one throws it into the guest that called. Exceptions that guests keep by reference
are found by a conservative collection: any word on the stack, in tables, globals or other
exceptions that looks like a reference is one.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from wasinn_runtime.abi.layout import ExceptionCell, StoreContext, TagDef, slot_cells
from wasinn_runtime.errors import LimitExceeded, UsageError, ValueRangeError, WasinnError
from wasinn_runtime.machine import native
from wasinn_runtime.machine.tag import Tag
from wasinn_runtime.machine.values import from_slots, to_slots

if TYPE_CHECKING:
    from wasinn_runtime.machine.store import Store

__all__ = ["ExceptionHeap", "ExnRef", "WasmException"]

_FIRST_CELLS = 1024
# Of exceptions that are alive at once, and of what all of them carry beyond a cell's own room.
_MOST_CELLS = 1 << 20
_MOST_PAYLOAD_BYTES = 64 << 20
_EXCEPTION, _FREE = StoreContext.EXCEPTION // 8, StoreContext.EXCEPTION_FREE // 8
_CELLS = ExceptionCell.BYTES // 8
_TAG, _PAYLOAD = ExceptionCell.TAG // 8, ExceptionCell.PAYLOAD // 8
_SHARED, _NEXT = ExceptionCell.SHARED // 8, ExceptionCell.NEXT // 8


class WasmException(WasinnError):
    """An exception of a guest: nobody in it caught it, or a host function throws it.

    Args:
        tag: what kind of exception it is.
        values: what it carries, as Python values that fit the tag's parameters.
    """

    def __init__(self, tag: Tag, values: Sequence[object] = ()) -> None:
        params = tag.type.type.params
        if len(values) != len(params):
            raise ValueRangeError(f"{tag} carries {len(params)} values, got {len(values)}")
        self.tag = tag
        self.values = tuple(values)
        super().__init__(tag, self.values)

    def __str__(self) -> str:
        listed = ", ".join(map(repr, self.values))
        return f"uncaught exception of the guest: {self.tag.name or 'tag'}({listed})"


class ExnRef:
    """A reference to an exception, as guests hand it to Python. It keeps the exception alive."""

    __slots__ = ("__weakref__", "_store", "address")

    def __init__(self, store: Store, address: int) -> None:
        self._store = store
        self.address = address
        store.exceptions.shared[id(self)] = self

    @property
    def store(self) -> Store:
        return self._store

    def exception(self) -> WasmException:
        """The exception itself, as a new object that can be raised."""
        return self._store.exceptions.read(self.address)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ExnRef) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)

    def __repr__(self) -> str:
        return f"<ExnRef {self.address:#x}>"


class ExceptionHeap:
    """The cells of one store's exceptions. Owned by the store.

    Attributes:
        shared: the references that Python holds, by their ids: equal ones live on their own.
    """

    def __init__(self, core: native.Core, context: native.Cells) -> None:
        self._core = core
        self._context = context
        # First cell, end of the cells in use, and the list of a collection: see the core.
        self._heap = native.buffer(24)
        self._base = 0
        self._roots: list[tuple[int, native.Cells | None, int]] = []
        self._payloads: dict[int, native.Cells] = {}
        self._payload_bytes = 0
        self._is_full = False
        self.shared: WeakValueDictionary[int, ExnRef] = WeakValueDictionary()
        self.tags: dict[int, Tag] = {}

    # -- what may lead to exceptions --------------------------------------------------------------

    def add_cell(self, address: int) -> None:
        """A global of references to exceptions."""
        self._roots.append((address, None, 1))

    def add_table(self, base: int, definition: native.Cells, size_at: int) -> None:
        """A table of them; ``definition[size_at]`` is its length at any time."""
        self._roots.append((base, definition, size_at))

    # -- making and reading -----------------------------------------------------------------------

    def allocate(self, tag: int) -> int:
        """A cell for an exception with the TagDef at an address; its payload is not written yet.

        Raises:
            LimitExceeded: more are alive than the runtime allows.
        """
        count = ctypes.c_uint64.from_address(tag + TagDef.CELLS).value
        large = 8 * count if count > ExceptionCell.VALUE_CELLS else 0
        context = self._context
        if not context[_FREE] or self._payload_bytes + large > _MOST_PAYLOAD_BYTES:
            self._make_room(large)
        address = context[_FREE]
        cell = _cell_at(address)
        context[_FREE] = cell[_NEXT]
        cell[_NEXT] = 0
        cell[_TAG] = tag
        cell[_SHARED] = int(large > 0)  # such a cell is freed by a collection only
        cell[_PAYLOAD] = address + ExceptionCell.VALUES
        if large:
            payload = self._payloads[address] = native.buffer(large)
            self._payload_bytes += large
            cell[_PAYLOAD] = ctypes.addressof(payload)
        return address

    def new(self, store: Store, exception: WasmException) -> int:
        """A cell that holds an exception raised by Python.

        Raises:
            UsageError: its tag is another store's.
            ValueRangeError: a value does not fit.
        """
        tag = exception.tag
        if tag.store is not store:
            raise UsageError("an exception's tag belongs to another store; stores are separate")
        slots = to_slots(store, tag.type.type.params, exception.values)
        address = self.allocate(tag.definition)
        payload = _cell_at(address)[_PAYLOAD]
        (ctypes.c_uint64 * len(slots)).from_address(payload)[:] = [*slots]
        return address

    def pass_in(self, store: Store, exception: WasmException) -> None:
        """Have the core throw an exception when the host function returns."""
        self._context[_EXCEPTION] = self.new(store, exception)

    def read(self, address: int) -> WasmException:
        """What a cell holds."""
        cell = _cell_at(address)
        tag = self.tags[cell[_TAG]]
        params = tag.type.type.params
        slots = (ctypes.c_uint64 * slot_cells(params)).from_address(cell[_PAYLOAD])
        return WasmException(tag, from_slots(tag.store, params, [*slots]))

    def take(self) -> WasmException:
        """The exception that just left an activation; a cell that nobody shares is free again."""
        address = self._context[_EXCEPTION]
        self._context[_EXCEPTION] = 0
        found = self.read(address)
        cell = _cell_at(address)
        if not cell[_SHARED]:
            cell[_TAG], cell[_NEXT] = 0, self._context[_FREE]
            self._context[_FREE] = address
        return found

    def when_idle(self) -> None:
        """Nothing of the store runs: what a guest that used up all room left on the stack is dead.

        The next one would find the same words in the same places and could never throw again.
        """
        if self._is_full:
            self._collect()
            self._is_full = False

    # -- collecting -------------------------------------------------------------------------------

    def _make_room(self, payload_bytes: int) -> None:
        """Find cells that nobody refers to, or add some."""
        used = (self._heap[1] - self._heap[0]) // ExceptionCell.BYTES
        live = self._collect() if used else 0
        if self._payload_bytes + payload_bytes > _MOST_PAYLOAD_BYTES:
            self._is_full = True
            raise LimitExceeded(
                f"the guest's exceptions carry more than {_MOST_PAYLOAD_BYTES:,} bytes"
            )
        if 2 * live <= used and self._context[_FREE]:
            return
        if used == _MOST_CELLS:
            if not self._context[_FREE]:
                self._is_full = True
                raise LimitExceeded(f"{used:,} exceptions of the guest are alive at once")
            return
        if not self._base:
            size = _MOST_CELLS * ExceptionCell.BYTES
            self._base = native.reserve(size, writable=True)
            native.when_gone(self, native.release, self._base, size)
            self._heap[0] = self._heap[1] = self._base
        more = min(max(used, _FIRST_CELLS), _MOST_CELLS - used)
        first = self._heap[1]
        cells = (ctypes.c_uint64 * (more * _CELLS)).from_address(first)
        following = range(first + ExceptionCell.BYTES, first + more * ExceptionCell.BYTES, 128)
        cells[_NEXT::_CELLS] = [*following, self._context[_FREE]]
        self._context[_FREE] = first
        self._heap[1] = first + more * ExceptionCell.BYTES

    def _collect(self) -> int:
        """Free what nobody refers to; how many cells remain."""
        core, heap, context = self._core, ctypes.addressof(self._heap), self._context
        self._heap[2] = 1
        # Not behind the list of free cells: their tags say that they are.
        if context[StoreContext.ACTIVATION // 8]:
            core.mark_stack(heap, ctypes.addressof(context))
        for start, end in self._ranges():
            core.mark(heap, start, end)
        core.trace(heap)
        live: int = core.sweep(heap, ctypes.addressof(context))
        for address in [a for a in self._payloads if not _cell_at(a)[_TAG]]:
            self._payload_bytes -= ctypes.sizeof(self._payloads.pop(address))
        return live

    def _ranges(self) -> Iterable[tuple[int, int]]:
        """Memory outside the stack that may hold references."""
        for base, definition, number in self._roots:
            count = 1 if definition is None else definition[number]
            yield base, base + 8 * count
        held = [reference.address for reference in self.shared.values()]
        kept = (ctypes.c_uint64 * (len(held) + 1))(*held, self._context[_EXCEPTION])
        yield ctypes.addressof(kept), ctypes.addressof(kept) + ctypes.sizeof(kept)
        values = self._context[StoreContext.VALUE_SP // 8]
        yield self._context[_VALUE_STACK] if values else 0, values


# The interpreters' value stack begins where the store's context says.
_VALUE_STACK = StoreContext.VALUE_STACK // 8


def _cell_at(address: int) -> ctypes.Array[ctypes.c_uint64]:
    return (ctypes.c_uint64 * _CELLS).from_address(address)
