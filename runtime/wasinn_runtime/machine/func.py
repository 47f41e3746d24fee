"""Functions: guest functions called from Python, and Python functions called by guests."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import FuncRef, HostContext
from wasinn_runtime.errors import ValueRangeError
from wasinn_runtime.machine import native
from wasinn_runtime.machine.values import from_bits, from_slots, result_slots, to_slots
from wasinn_runtime.spec.types import FuncType, ValType

if TYPE_CHECKING:
    from wasinn_runtime.machine.instance import Caller
    from wasinn_runtime.machine.store import Store

__all__ = ["Func", "HostFunction", "host_reference"]

_SUCCESS = 1  # what dispatch returns; ctypes gives 0 when an exception escapes


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

    __slots__ = ("_caller", "_function", "_masks", "_plain", "_simple", "_store", "_type", "name")

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
        integers = (ValType.I32, ValType.I64)
        # The common case of system interfaces: unsigned integers in, at most one integer out.
        self._simple = unsigned and all(t in integers for t in (*type.params, *type.results))
        self._simple = self._simple and len(type.results) <= 1
        self._masks = [0xFFFFFFFF if t is ValType.I32 else (1 << 64) - 1 for t in type.params]
        self._plain = unsigned

    def run(self, slots: ctypes._Pointer[ctypes.c_uint64]) -> None:
        """Take the arguments from the slots, call, put the results there."""
        ty, store = self._type, self._store
        arguments: list[object]
        if self._plain:
            arguments = [
                slots[i] & self._masks[i]
                if t in (ValType.I32, ValType.I64)
                else from_bits(store, t, slots[i])
                for i, t in enumerate(ty.params)
            ]
        else:
            arguments = [from_bits(store, t, slots[i]) for i, t in enumerate(ty.params)]
        if self._caller is None:
            result = self._function(*arguments)
        else:
            result = self._function(self._caller, *arguments)
        if self._simple and ty.results and type(result) is int:
            mask = 0xFFFFFFFF if ty.results[0] is ValType.I32 else (1 << 64) - 1
            if 0 <= result <= mask:
                slots[0] = result
                return
        for i, bits in enumerate(result_slots(store, ty, result, self.name)):
            slots[i] = bits

    def fail(self, error: BaseException) -> None:
        self._store.raised = error


def _dispatch(entry: HostFunction, slots: ctypes._Pointer[ctypes.c_uint64]) -> int:
    """Every call from a guest to Python comes through here. No exception may cross native code."""
    try:
        entry.run(slots)
    except BaseException as error:
        entry.fail(error)
        return 0
    return _SUCCESS


_dispatch_callback = native.DISPATCH_TYPE(_dispatch)
_dispatch_address = ctypes.cast(_dispatch_callback, ctypes.c_void_p).value or 0


def host_reference(store: Store, entry: HostFunction, type: FuncType) -> int:
    """A FuncRef for a Python function; it and the entry live as long as the store."""
    enter, leave = store.engine.trampolines(type)
    cells = native.buffer(HostContext.BYTES + FuncRef.BYTES)
    context = ctypes.addressof(cells)
    cells[HostContext.DISPATCH // 8] = _dispatch_address
    cells[HostContext.STORE // 8] = store.context
    cells[HostContext.TOKEN // 8] = id(entry)
    first = HostContext.BYTES // 8
    cells[first + FuncRef.NATIVE // 8] = leave
    cells[first + FuncRef.CONTEXT // 8] = context
    cells[first + FuncRef.SIGNATURE // 8] = store.engine.signature(type)
    cells[first + FuncRef.ARRAY // 8] = enter
    store.keep((cells, entry))
    return context + HostContext.BYTES


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
        cells = (ctypes.c_uint64 * (FuncRef.BYTES // 8)).from_address(reference)
        self._native = cells[FuncRef.NATIVE // 8]
        self._context = cells[FuncRef.CONTEXT // 8]
        self._array = cells[FuncRef.ARRAY // 8]
        self._room = max(len(type.params), len(type.results), 1)

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
        slots = to_slots(self.store, ty.params, args)
        after = self.store.invoke(self._array, self._native, self._context, slots, self._room)
        if not ty.results:
            return None
        results = from_slots(self.store, ty.results, after)
        return results[0] if len(results) == 1 else tuple(results)

    async def call_async(self, *args: object) -> object:
        """Call it in a worker thread, without blocking the event loop."""
        import asyncio

        return await asyncio.to_thread(self, *args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Func) and other.reference == self.reference

    def __hash__(self) -> int:
        return hash(self.reference)

    def __repr__(self) -> str:
        return f"<Func {self.type}>"


