"""What the calls need of the guest: its memory, its iovecs, its strings. Not the host's files.

The engine gives the real objects; the protocols name the few methods used here. Every access is
bounds-checked by the memory itself, and every count that comes from the guest is checked before
anything of that size is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from wasinn_host.wasi.abi import CIOVEC, Errno
from wasinn_host.wasi.errors import WasiError

__all__ = [
    "MAX_IOVECS",
    "MAX_PATH_BYTES",
    "Caller",
    "GuestMemory",
    "Interrupt",
    "WasiFunction",
    "check_range",
    "memory_of",
    "read_iovecs",
    "read_path",
]

#: Longest path a guest may give, in bytes. Linux refuses 4096 with its NUL, so 4095 fit.
MAX_PATH_BYTES: Final = 4095
#: Most iovecs in one call. POSIX allows the limit to be as low as 16 and Linux has 1024, but
#: Rust's std hands over any number, and a short count would look like "disk full" to it.
MAX_IOVECS: Final = 65_536
_U32_MAX: Final = 0xFFFF_FFFF


class GuestMemory(Protocol):
    """Linear memory. Methods raise ``MemoryAccessError`` outside of it."""

    @property
    def byte_length(self) -> int: ...
    def read(self, ptr: int, length: int, /) -> bytes: ...
    def write(self, ptr: int, data: bytes | bytearray | memoryview, /) -> None: ...
    def view(self, ptr: int = 0, length: int | None = None, /) -> memoryview: ...
    def read_u32(self, ptr: int, /) -> int: ...
    def write_u32(self, ptr: int, value: int, /) -> None: ...
    def read_u64(self, ptr: int, /) -> int: ...
    def write_u64(self, ptr: int, value: int, /) -> None: ...


class Interrupt(Protocol):
    """A deadline or cancel of the running call."""

    def is_set(self) -> bool: ...
    def wait(self, timeout_s: float | None, /) -> bool: ...
    def fileno(self) -> int: ...


class Caller(Protocol):
    """The instance that called."""

    @property
    def memory(self) -> GuestMemory | None: ...
    @property
    def interrupt(self) -> Interrupt: ...


#: ``(caller, *unsigned arguments) -> errno``, or None from ``proc_exit``'s type.
WasiFunction = Callable[..., int | None]


def memory_of(caller: Caller) -> GuestMemory:
    """The calling instance's memory.

    Raises:
        WasiError: FAULT, the instance exports no memory, so no pointer can mean anything.
    """
    memory = caller.memory
    if memory is None:
        raise WasiError(Errno.FAULT, 'the instance exports no memory named "memory"')
    return memory


def check_range(memory: GuestMemory, ptr: int, length: int) -> None:
    """Refuse a range that a result will not fit into, before anything is done.

    Raises:
        WasiError: FAULT.
    """
    if ptr + length > memory.byte_length:
        raise WasiError(Errno.FAULT, f"{length} bytes at {ptr:#x} are outside the memory")


def read_iovecs(whole: memoryview, ptr: int, count: int) -> list[memoryview]:
    """Views of the guest's buffers; empty ones are checked, then left out.

    The descriptors are copied once, so that another thread of the guest can not change them
    between check and use.

    Args:
        whole: all of the memory. Reads and writes are the hot calls, and slices of one view cost
            a third of what several ``GuestMemory`` calls do.
        ptr: where the iovecs are.
        count: how many.

    Raises:
        WasiError: INVAL, too many of them or more than 2**32-1 bytes in all; FAULT, one lies
            outside the memory.
    """
    size = len(whole)
    if count > MAX_IOVECS:
        raise WasiError(Errno.INVAL, f"{count} iovecs, the limit is {MAX_IOVECS}")
    if ptr + 8 * count > size:
        raise WasiError(Errno.FAULT, f"{count} iovecs at {ptr:#x} are outside the memory")
    views = []
    total = 0
    for address, length in CIOVEC.iter_unpack(bytes(whole[ptr : ptr + 8 * count])):
        end = address + length
        if end > size:
            raise WasiError(Errno.FAULT, f"{length} bytes at {address:#x} are outside the memory")
        if length:
            views.append(whole[address:end])
            total += length
    if total > _U32_MAX:
        raise WasiError(Errno.INVAL, f"iovecs of {total} bytes in all, 2**32-1 is the limit")
    return views


def read_path(memory: GuestMemory, ptr: int, length: int) -> bytes:
    """A path, checked to be text that a host call can take.

    Raises:
        WasiError: NAMETOOLONG; INVAL, a NUL inside; ILSEQ, not UTF-8; NOENT, empty.
        MemoryAccessError: outside the memory.
    """
    if length > MAX_PATH_BYTES:
        check_range(memory, ptr, length)
        raise WasiError(Errno.NAMETOOLONG, f"{length} bytes, the limit is {MAX_PATH_BYTES}")
    path = memory.read(ptr, length)
    if not path:
        raise WasiError(Errno.NOENT, "empty path")
    if b"\0" in path:
        raise WasiError(Errno.INVAL, "NUL inside a path")
    if not path.isascii():
        try:
            path.decode("utf-8")
        except UnicodeDecodeError as error:
            raise WasiError(Errno.ILSEQ, f"path is not UTF-8: {error.reason}") from error
    return path
