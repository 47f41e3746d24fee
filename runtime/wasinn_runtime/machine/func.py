"""Functions: guest functions called from Python, and Python functions called by guests."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import Activation, CodeEntry, FuncRef, HostContext, slot_cells
from wasinn_runtime.errors import ValueRangeError
from wasinn_runtime.machine import native
from wasinn_runtime.machine.exceptions import WasmException
from wasinn_runtime.machine.values import from_slots, result_slots, to_slots
from wasinn_runtime.spec.types import FuncType, ValType

if TYPE_CHECKING:
    from wasinn_runtime.machine.instance import Caller
    from wasinn_runtime.machine.store import Store

__all__ = ["DISPATCH_ADDRESS", "Func", "HostFunction", "host_reference"]

_INTEGERS = (ValType.I32, ValType.I64)


# Slots hold little-endian values; what a 4-byte one leaves of its slot does not matter.
_FORMATS = {ValType.I32: "i4x", ValType.I64: "q", ValType.F32: "f4x", ValType.F64: "d"}
_FIRST = Activation.SLOTS // 8


@cache
def _codec(types: tuple[ValType, ...]) -> struct.Struct | None:
    """Packs values of these types into slots; None when they are not all numbers."""
    if not all(t in _FORMATS for t in types):
        return None
    return struct.Struct("<" + "".join(_FORMATS[t] for t in types))


class HostFunction:
    """What the dispatcher needs to run one Python function for one importer.

    Args:
        store: where it was linked.
        type: its signature.
        function: the Python function.
        name: for messages.
        caller: passed as first argument, if the function wants it.
        unsigned: integer arguments arrive unsigned.
    """

    __slots__ = (
        "_caller",
        "_cells",
        "_function",
        "_largest",
        "_masks",
        "_simple",
        "_store",
        "_type",
        "_unsigned",
        "name",
    )

    def __init__(
        self,
        store: Store,
        type: FuncType,
        function: Callable[..., object],
        name: str,
        caller: Caller | None,
        unsigned: bool,
    ) -> None:
        self._store = store
        self._type = type
        self._function = function
        self._caller = caller
        self.name = name
        self._unsigned = unsigned
        self._cells = slot_cells(type.params)
        # The common case of system interfaces: integers as they are, at most one integer back.
        self._simple = unsigned and all(t in _INTEGERS for t in type.params)
        self._masks = [0xFFFFFFFF if t is ValType.I32 else (1 << 64) - 1 for t in type.params]
        self._largest = -1
        if len(type.results) == 1:
            self._largest = {ValType.I32: 0x7FFFFFFF, ValType.I64: (1 << 63) - 1}.get(
                type.results[0], -1
            )

    def run(self, slots: ctypes._Pointer[ctypes.c_uint64]) -> None:
        """Take the arguments from the slots, call, put the results there."""
        ty = self._type
        bits = slots[: self._cells]
        arguments: list[object]
        if self._simple:  # what an i32 leaves of its slot is anything
            arguments = [bit & mask for bit, mask in zip(bits, self._masks, strict=True)]
        else:
            arguments = self._values(bits)
        if self._caller is None:
            result = self._function(*arguments)
        else:
            result = self._function(self._caller, *arguments)
        if type(result) is int and 0 <= result <= self._largest:
            slots[0] = result
            return
        for i, value in enumerate(result_slots(self._store, ty, result, self.name)):
            slots[i] = value

    def throw(self, error: WasmException) -> int:
        """Have the guest get an exception; one of another store is no more than a failure."""
        store = self._store
        try:
            if error.tag.store is store:
                store.exceptions.pass_in(store, error)
                return native.THROWN
            native.pending.error = error
        except BaseException as failed:
            native.pending.error = failed
        return 0

    def _values(self, bits: list[int]) -> list[object]:
        values = from_slots(self._store, self._type.params, bits)
        if not self._unsigned:
            return values
        return [
            value & mask if t in _INTEGERS and isinstance(value, int) else value
            for t, value, mask in zip(self._type.params, values, self._masks, strict=True)
        ]


def _dispatch(entry: HostFunction, slots: ctypes._Pointer[ctypes.c_uint64]) -> int:
    """Every call from a guest to Python comes through here. No exception may cross native code."""
    try:
        entry.run(slots)
    except WasmException as error:
        return entry.throw(error)
    except BaseException as error:
        native.pending.error = error
        return 0
    return native.SUCCESS


_dispatch_callback = native.DISPATCH_TYPE(_dispatch)
# What the core calls for every function written in Python.
DISPATCH_ADDRESS = ctypes.cast(_dispatch_callback, ctypes.c_void_p).value or 0


def host_reference(store: Store, entry: HostFunction, type: FuncType) -> int:
    """A FuncRef for a Python function; it and the entry live as long as the store."""
    _, spill = store.engine.trampolines(type)
    array = store.core.addresses["wasinn_host_call"]
    cells = native.buffer(HostContext.BYTES + CodeEntry.BYTES + FuncRef.BYTES)
    context = ctypes.addressof(cells)
    cells[HostContext.STORE // 8] = store.context
    code = HostContext.BYTES // 8
    cells[code + CodeEntry.NATIVE // 8] = spill
    cells[code + CodeEntry.ARRAY // 8] = array
    cells[code + CodeEntry.TOKEN // 8] = id(entry)
    reference = code + CodeEntry.BYTES // 8
    cells[reference + FuncRef.NATIVE // 8] = spill
    cells[reference + FuncRef.CONTEXT // 8] = context
    cells[reference + FuncRef.SIGNATURE // 8] = store.engine.signature(type)
    cells[reference + FuncRef.ARRAY // 8] = array
    cells[reference + FuncRef.ENTRY // 8] = context + 8 * code
    store.keep((cells, entry))
    return context + 8 * reference


class Func:
    """A function: a guest's export, a reference from a table, or a Python function.

    Calling it with Python values gives None, one value, or a tuple of values.

    Args:
        store: the store it belongs to.
        type: its signature.
        function: the Python function that guests call.
    """

    def __init__(self, store: Store, type: FuncType, function: Callable[..., object]) -> None:
        name = getattr(function, "__name__", "host function")
        entry = HostFunction(store, type, function, name, None, False)
        self._adopt(store, type, host_reference(store, entry, type))

    def _adopt(self, store: Store, type: FuncType, reference: int) -> None:
        self.store = store
        self.type = type
        self.reference = reference
        self._room = max(slot_cells(type.params), slot_cells(type.results), 1)
        self._pack = _codec(type.params)
        self._unpack = _codec(type.results)

    @classmethod
    def at(cls, store: Store, reference: int) -> Func:
        """The function of a FuncRef that lives in the store."""
        cells = (ctypes.c_uint64 * (FuncRef.BYTES // 8)).from_address(reference)
        self = cls.__new__(cls)
        type = store.engine.type_of_signature(cells[FuncRef.SIGNATURE // 8])
        self._adopt(store, type, reference)
        return self

    def __call__(self, *args: object) -> object:
        """Call it.

        Raises:
            ValueRangeError: number or kinds of arguments do not fit.
            Trap: the guest trapped; or whatever a host function raised.
        """
        ty = self.type
        if len(args) != len(ty.params):
            raise ValueRangeError(f"expected {len(ty.params)} arguments {ty}, got {len(args)}")
        store = self.store
        activation = store.enter(self._room)
        try:
            pack = self._pack
            try:
                if pack is None:
                    raise struct.error
                pack.pack_into(activation, Activation.SLOTS, *args)
            except (struct.error, OverflowError):  # references, unsigned integers, mistakes
                given = to_slots(store, ty.params, args)
                activation[_FIRST : _FIRST + len(given)] = [*given]
            store.invoke(activation, self.reference)
            if self._unpack is not None:
                results = self._unpack.unpack_from(activation, Activation.SLOTS)
            else:
                slots = activation[_FIRST : _FIRST + self._room]
                results = tuple(from_slots(store, ty.results, slots))
        finally:
            store.leave(activation)
        if len(results) == 1:
            return results[0]
        return results or None

    async def call_async(self, *args: object) -> object:
        """Call it in a worker thread, without blocking the event loop."""
        import asyncio

        return await asyncio.to_thread(self, *args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Func) and other._identity() == self._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[int, ...]:
        """Entry and context: an imported function has a FuncRef in each instance that names it."""
        return (*(ctypes.c_uint64 * 2).from_address(self.reference),)

    def __repr__(self) -> str:
        return f"<Func {self.type}>"
