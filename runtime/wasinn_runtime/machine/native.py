"""The machine's side of native code: ways into the core, and the C library calls it needs."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from wasinn_runtime.errors import LimitExceeded

if TYPE_CHECKING:
    Cells: TypeAlias = "ctypes.Array[ctypes.c_uint64]"

__all__ = [
    "DISPATCH_TYPE",
    "SUCCESS",
    "THROWN",
    "Core",
    "Reservation",
    "Trampolines",
    "address_of",
    "bar_pages",
    "buffer",
    "callback",
    "close_pages",
    "empty_pages",
    "map_file",
    "open_pages",
    "pending",
    "release",
    "reserve",
    "sparse_buffer",
    "stack_floor",
    "when_gone",
]

# i32 dispatch(entry, cells): see machine/func.py and machine/lazy.py
DISPATCH_TYPE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(ctypes.c_uint64))
SUCCESS = 1  # what dispatch returns; ctypes gives 0 when an exception escapes the callback
THROWN = 2  # the guest gets the exception that is in its store's context
# The exception that ended this thread's latest call into Python, on its way to the guest's caller.
pending = threading.local()

_INVOKE_TYPE = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 3)
_GROW_MEMORY_TYPE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_uint64)
_GROW_TABLE_TYPE = ctypes.CFUNCTYPE(
    ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64
)
_MARK_TYPE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)
_MARK_STACK_TYPE = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2)
_TRACE_TYPE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_SWEEP_TYPE = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 2)

_PROT_NONE, _PROT_READ_WRITE = 0, 3
_MAP_PRIVATE_ANONYMOUS_NORESERVE = 0x4022
_MAP_FIXED = 0x10
_MAP_PRIVATE_FIXED = 0x4012  # not counted as reserved either
_MADV_DONTNEED = 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.calloc.restype = ctypes.c_void_p
_libc.calloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Trampolines(NamedTuple):
    """Addresses of the adapters between the entries of all functions of one signature.

    Attributes:
        enter: the array entry of what has a native one.
        spill: the native entry of what has only an array one; makes tail calls that it leaves.
        jump: from arguments in slots in the exchange area to a native entry.
    """

    enter: int
    spill: int
    jump: int


class Core:
    """The linked core: functions to call, addresses for generated code.

    Attributes:
        addresses: of every symbol the core exports.
        stop_signal: the signal that makes a thread look at its activation's stop mark.
        invoke: ``(activation, store context, FuncRef)``, arguments and results in the activation;
            0 when it returned, 1 when it trapped, 2 when it threw.
        mark, mark_stack, trace, sweep: the steps of a collection of exceptions.
    """

    def __init__(self, code: object, addresses: dict[str, int], stop_signal: int) -> None:
        self._code = code
        self.addresses = addresses
        self.stop_signal = stop_signal
        self.invoke = _INVOKE_TYPE(addresses["wasinn_invoke"])
        self.grow_memory = _GROW_MEMORY_TYPE(addresses["wasinn_memory_grow"])
        self.grow_table = _GROW_TABLE_TYPE(addresses["wasinn_table_grow"])
        self.mark = _MARK_TYPE(addresses["wasinn_mark"])
        self.mark_stack = _MARK_STACK_TYPE(addresses["wasinn_mark_stack"])
        self.trace = _TRACE_TYPE(addresses["wasinn_trace"])
        self.sweep = _SWEEP_TYPE(addresses["wasinn_sweep"])


def callback(serve: Callable[[Any, ctypes._Pointer[ctypes.c_uint64]], None]) -> Any:
    """A function that the core may call; what it raises goes on to the guest's caller."""

    def guarded(entry: object, cells: ctypes._Pointer[ctypes.c_uint64]) -> int:
        try:
            serve(entry, cells)
        except BaseException as error:
            pending.error = error
            return 0
        return SUCCESS

    return DISPATCH_TYPE(guarded)


def address_of(function: Any) -> int:
    """Where a callback's native code is."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def reserve(byte_count: int, writable: bool) -> int:
    """Reserve address space; pages cost memory only once they are touched.

    Raises:
        LimitExceeded: the process may not have that much address space.
    """
    protection = _PROT_READ_WRITE if writable else _PROT_NONE
    place = _libc.mmap(None, byte_count, protection, _MAP_PRIVATE_ANONYMOUS_NORESERVE, -1, 0)
    if place is None or place == ctypes.c_void_p(-1).value:
        reason = os.strerror(ctypes.get_errno())
        raise LimitExceeded(
            f"could not reserve {byte_count:,} bytes of address space ({reason}); "
            "close stores that are no longer needed, or raise the limit (ulimit -v)"
        )
    return int(place)


def open_pages(address: int, byte_count: int) -> None:
    """Make reserved pages readable and writable; they read as zero."""
    if byte_count and _libc.mprotect(address, byte_count, _PROT_READ_WRITE):
        reason = os.strerror(ctypes.get_errno())
        raise LimitExceeded(f"could not open {byte_count:,} bytes of memory ({reason})")


def close_pages(address: int, byte_count: int) -> bool:
    """Give pages back and make them inaccessible again: what follows finds zeros.

    False when the system refuses; they must not be used again then.
    """
    flags = _MAP_PRIVATE_ANONYMOUS_NORESERVE | _MAP_FIXED
    return bool(_libc.mmap(address, byte_count, _PROT_NONE, flags, -1, 0) == address)


def empty_pages(address: int, byte_count: int) -> bool:
    """Give open pages back; they read as when they were mapped. False when the system refuses."""
    return not _libc.madvise(address, byte_count, _MADV_DONTNEED)


def bar_pages(address: int, byte_count: int) -> bool:
    """Make pages inaccessible and leave them as they are. False when the system refuses."""
    return not _libc.mprotect(address, byte_count, _PROT_NONE)


def map_file(address: int, byte_count: int, file: int) -> bool:
    """Put a private copy of a file's first bytes over open pages; its pages are shared until
    somebody writes to them. False when the system refuses; the pages are as before then.
    """
    place = _libc.mmap(address, byte_count, _PROT_READ_WRITE, _MAP_PRIVATE_FIXED, file, 0)
    return bool(place == address)


def release(address: int, byte_count: int) -> None:
    """Undo ``reserve``."""
    _libc.munmap(address, byte_count)


class Reservation:
    """Writable address space that is released when nobody refers to it any more.

    Raises:
        LimitExceeded: the process may not have that much.
    """

    __slots__ = ("address", "byte_count")

    def __init__(self, byte_count: int, *, writable: bool) -> None:
        self.byte_count = 0
        self.address = reserve(byte_count, writable)
        self.byte_count = byte_count

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # As with ``when_gone``, of which this is the fast form.
        if self.byte_count and not finalizing():
            release(self.address, self.byte_count)


def when_gone(owner: object, undo: Callable[..., object], *args: object) -> None:
    """Call ``undo(*args)`` when nobody refers to ``owner`` any more, but not at the process's end.

    Daemon threads may run guests until the very last moment, in code and memory that must be there.
    """
    weakref.finalize(owner, undo, *args).atexit = False


# --- stacks -------------------------------------------------------------------------------------

# Generated code may use the stack down to the floor; below it there is room for signal handlers and
# C library calls, and for one call back into Python.
_RED_ZONE = 64 << 10
_HOST_ROOM = 256 << 10
_thread = threading.local()


def stack_floor() -> tuple[int, int]:
    """Lowest stack addresses of this thread: for guest code, for calls back into Python."""
    known: tuple[int, int] | None = getattr(_thread, "floor", None)
    if known is None:
        known = _thread.floor = _find_stack_floor()
    return known


def _find_stack_floor() -> tuple[int, int]:
    attributes = (ctypes.c_uint64 * 16)()  # pthread_attr_t takes 56 bytes
    address, size, guard = ctypes.c_uint64(), ctypes.c_size_t(), ctypes.c_size_t()
    _libc.pthread_self.restype = ctypes.c_uint64
    me = ctypes.c_uint64(_libc.pthread_self())
    place = ctypes.byref(attributes)
    if _libc.pthread_getattr_np(me, place):
        raise LimitExceeded("could not learn where this thread's stack lies")
    _libc.pthread_attr_getstack(place, ctypes.byref(address), ctypes.byref(size))
    _libc.pthread_attr_getguardsize(place, ctypes.byref(guard))
    _libc.pthread_attr_destroy(place)
    low = address.value + guard.value
    room = size.value - guard.value
    return (low + min(_RED_ZONE, room // 8), low + min(_HOST_ROOM, room // 4))


class _Allocation:
    __slots__ = ("address",)

    def __init__(self, byte_count: int) -> None:
        self.address = _libc.calloc(1, byte_count)
        if not self.address:
            raise MemoryError(f"could not allocate {byte_count:,} bytes")

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not finalizing():
            _libc.free(self.address)


def sparse_buffer(byte_count: int) -> Cells:
    """As ``buffer``, but pages that nobody touches usually cost nothing."""
    allocation = _Allocation(byte_count)
    cells = (ctypes.c_uint64 * (byte_count // 8)).from_address(allocation.address)
    cells._allocation = allocation  # type: ignore[attr-defined]  # lives as long as the cells
    return cells


def buffer(byte_count: int) -> Cells:
    """Zeroed memory at a fixed address, 16-byte aligned in practice as malloc gives it."""
    return (ctypes.c_uint64 * max(1, (byte_count + 7) // 8))()
