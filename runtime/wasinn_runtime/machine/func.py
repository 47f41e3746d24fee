"""Functions: guest functions called from Python, and Python functions called by guests."""

from __future__ import annotations

import ctypes
import struct
import weakref
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from wasinn_runtime.abi.layout import Activation, CodeEntry, FuncRef, HostContext, slot_cells
from wasinn_runtime.errors import Internal, ValueRangeError
from wasinn_runtime.machine import native
from wasinn_runtime.machine.exceptions import WasmException
from wasinn_runtime.machine.values import from_slots, result_slots, to_slots
from wasinn_runtime.spec.limits import MAX_PARAMS, MAX_RESULTS
from wasinn_runtime.spec.types import FuncType, ValType

if TYPE_CHECKING:
    from wasinn_runtime.machine.instance import Caller
    from wasinn_runtime.machine.store import Store

__all__ = ["DISPATCH_ADDRESS", "Func", "HostFunction", "HostLink", "host_link", "host_references"]

# Slots hold little-endian values; what a 4-byte one leaves of its slot does not matter.
_SIGNED = {ValType.I32: "i4x", ValType.I64: "q", ValType.F32: "f4x", ValType.F64: "d"}
_UNSIGNED = {**_SIGNED, ValType.I32: "I4x", ValType.I64: "Q"}
_FIRST = Activation.SLOTS // 8
# A Python function's context, CodeEntry and FuncRef lie one after the other. By cells:
_HOST_CELLS = (HostContext.BYTES + CodeEntry.BYTES + FuncRef.BYTES) // 8
_IN_STORE = HostContext.STORE // 8
_ENTRY_NATIVE, _ENTRY_ARRAY, _ENTRY_TOKEN = (
    (HostContext.BYTES + field) // 8
    for field in (CodeEntry.NATIVE, CodeEntry.ARRAY, CodeEntry.TOKEN)
)
_REFERENCE = (HostContext.BYTES + CodeEntry.BYTES) // 8
_REFERENCE_NATIVE, _REFERENCE_CONTEXT, _REFERENCE_SIGNATURE = (
    _REFERENCE + field // 8 for field in (FuncRef.NATIVE, FuncRef.CONTEXT, FuncRef.SIGNATURE)
)
_REFERENCE_ARRAY, _REFERENCE_ENTRY = (
    _REFERENCE + field // 8 for field in (FuncRef.ARRAY, FuncRef.ENTRY)
)


@cache
def _codec(types: tuple[ValType, ...], unsigned: bool = False) -> struct.Struct | None:
    """Packs values of these types into slots; None when they are not all numbers."""
    formats = _UNSIGNED if unsigned else _SIGNED
    if not all(t in formats for t in types):
        return None
    return struct.Struct("<" + "".join(formats[t] for t in types))


# Takes the arguments from the slots, calls, and puts the results there.
Run: TypeAlias = "Callable[[native.Cells], None]"


class HostFunction:
    """What the dispatcher needs to run one Python function for one importer.

    Args:
        store: where it was linked.
        type: its signature.
        function: the Python function.
        name: for messages.
        caller: passed as first argument, if the function wants it.
        unsigned: integer arguments arrive unsigned.

    Attributes:
        run: takes the arguments from the slots, calls, and puts the results there; None before
            ``prepare``.
    """

    __slots__ = ("_store", "_what", "run")

    def __init__(
        self,
        store: Store,
        type: FuncType,
        function: Callable[..., object],
        name: str,
        caller: Caller | None,
        unsigned: bool,
    ) -> None:
        # Weak, since the store keeps its host functions.
        self._store = weakref.ref(store)
        self._what = type, function, name, caller, unsigned
        # Set by the first call: an instance may import many functions that it never calls.
        self.run: Run | None = None

    def prepare(self) -> Run:
        """Set ``run``."""
        self.run = run = self._way()
        return run

    def _way(self) -> Run:
        type, function, name, caller, unsigned = self._what
        called = function if caller is None else partial(function, caller)
        results = _Results(self._store, type, name)
        arguments = _codec(type.params, unsigned)
        if arguments is None:
            return _run_any(called, type.params, unsigned, results)
        if len(type.results) == 1 and (result := _codec(type.results)) is not None:
            return _run_for_number(called, arguments.unpack_from, result.pack_into, results)
        return _run_with_numbers(called, arguments.unpack_from, results)

    def throw(self, error: WasmException) -> int:
        """Have the guest get an exception; one of another store is no more than a failure."""
        try:
            store = _alive(self._store)
            if error.tag.store is store:
                store.exceptions.pass_in(store, error)
                return native.THROWN
            native.pending.error = error
        except BaseException as failed:
            native.pending.error = failed
        return 0


def _alive(store: weakref.ref[Store]) -> Store:
    found = store()
    if found is None:
        raise Internal("a host function was called after its store was gone")
    return found


class _Results:
    """Puts results of any type into the slots, or says what is wrong with them."""

    __slots__ = ("name", "store", "type")

    def __init__(self, store: weakref.ref[Store], type: FuncType, name: str) -> None:
        self.store = store
        self.type = type
        self.name = name

    def put(self, slots: native.Cells, value: object) -> None:
        for i, bits in enumerate(result_slots(_alive(self.store), self.type, value, self.name)):
            slots[i] = bits


def _run_for_number(
    function: Callable[..., object],
    unpack: Callable[[native.Cells], tuple[object, ...]],
    pack: Callable[..., None],
    results: _Results,
) -> Run:
    def run(slots: native.Cells) -> None:
        value = function(*unpack(slots))
        try:
            pack(slots, 0, value)
        except (struct.error, OverflowError):  # unsigned integers, mistakes
            results.put(slots, value)

    return run


def _run_with_numbers(
    function: Callable[..., object],
    unpack: Callable[[native.Cells], tuple[object, ...]],
    results: _Results,
) -> Run:
    is_something_due = bool(results.type.results)

    def run(slots: native.Cells) -> None:
        value = function(*unpack(slots))
        if is_something_due or value is not None:
            results.put(slots, value)

    return run


def _run_any(
    function: Callable[..., object],
    params: tuple[ValType, ...],
    unsigned: bool,
    results: _Results,
) -> Run:
    cells = slot_cells(params)

    def run(slots: native.Cells) -> None:
        values = from_slots(_alive(results.store), params, slots[:cells])
        if unsigned:
            values = [
                value & _MASKS[t] if isinstance(value, int) and t in _MASKS else value
                for t, value in zip(params, values, strict=True)
            ]
        results.put(slots, function(*values))

    return run


_MASKS = {ValType.I32: 0xFFFFFFFF, ValType.I64: (1 << 64) - 1}

# Slots lie on the guest's stack, at a few addresses again and again.
_views: dict[int, native.Cells] = {}
_MOST_VIEWS = 4096
_SLOTS_TYPE = ctypes.c_uint64 * (2 * max(MAX_PARAMS, MAX_RESULTS))


def _view(address: int) -> native.Cells:
    if len(_views) >= _MOST_VIEWS:
        _views.clear()
    found = _views[address] = _SLOTS_TYPE.from_address(address)
    return found


def _dispatch(entry: HostFunction, address: int) -> int:
    """Every call from a guest to Python comes through here. No exception may cross native code."""
    try:
        (entry.run or entry.prepare())(_views.get(address) or _view(address))
    except WasmException as error:
        return entry.throw(error)
    except BaseException as error:
        native.pending.error = error
        return 0
    return native.SUCCESS


_dispatch_callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p)(_dispatch)
# What the core calls for every function written in Python.
DISPATCH_ADDRESS = native.address_of(_dispatch_callback)


class HostLink(NamedTuple):
    """What of a host function's FuncRef its type decides.

    Attributes:
        type: the very object, so that who has the same one need not look again.
        spill: the native entry, see ``native.Trampolines``.
        signature: the type's number.
    """

    type: FuncType
    spill: int
    signature: int


def host_link(store: Store, type: FuncType) -> HostLink:
    """How functions of a type are linked in this process."""
    return HostLink(type, store.engine.trampolines(type).spill, store.engine.signature(type))


def host_references(store: Store, entries: Sequence[tuple[HostFunction, HostLink]]) -> list[int]:
    """FuncRefs for Python functions; they and the entries live as long as the store."""
    array, within = store.core.addresses["wasinn_host_call"], store.context
    values = [0] * (_HOST_CELLS * len(entries))
    cells = native.buffer(8 * len(values))
    context = ctypes.addressof(cells)
    at = 0
    for entry, (_, spill, signature) in entries:
        values[at + _IN_STORE] = within
        values[at + _ENTRY_NATIVE] = values[at + _REFERENCE_NATIVE] = spill
        values[at + _ENTRY_ARRAY] = values[at + _REFERENCE_ARRAY] = array
        values[at + _ENTRY_TOKEN] = id(entry)
        values[at + _REFERENCE_CONTEXT] = context + 8 * at
        values[at + _REFERENCE_SIGNATURE] = signature
        values[at + _REFERENCE_ENTRY] = context + 8 * at + HostContext.BYTES
        at += _HOST_CELLS
    cells[: len(values)] = [*values]
    store.keep((cells, entries))
    first = context + 8 * _REFERENCE
    return [*range(first, first + _HOST_CELLS * 8 * len(entries), _HOST_CELLS * 8)]


@cache
def _shape(ty: FuncType) -> tuple[int, struct.Struct | None, struct.Struct | None]:
    """What calls from Python need: slots, and what packs arguments and unpacks results."""
    room = max(slot_cells(ty.params), slot_cells(ty.results), 1)
    return room, _codec(ty.params), _codec(ty.results)


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
        (reference,) = host_references(store, [(entry, host_link(store, type))])
        self._adopt(store, type, reference)

    def _adopt(self, store: Store, type: FuncType, reference: int) -> None:
        self.store = store
        self.type = type
        self.reference = reference
        self._room, self._pack, self._unpack = _shape(type)

    @classmethod
    def at(cls, store: Store, reference: int) -> Func:
        """The function of a FuncRef that lives in the store."""
        self = cls.__new__(cls)
        signature = ctypes.c_uint64.from_address(reference + FuncRef.SIGNATURE).value
        self._adopt(store, store.engine.type_of_signature(signature), reference)
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
