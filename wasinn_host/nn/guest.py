"""What codecs need of a calling guest, as protocols. The engine's own classes satisfy them."""

from __future__ import annotations

import struct
from typing import Any, Protocol

from wasinn_host.nn.cancel import GuestInterrupt
from wasinn_host.nn.errors import ErrorKind, WasiNnError

__all__ = ["GuestCaller", "GuestMemory", "require_memory"]


class GuestMemory(Protocol):
    """Linear memory. Every method raises MemoryAccessError for a range outside of it."""

    def read(self, ptr: int, length: int, /) -> bytes: ...

    def view(self, ptr: int, length: int, /) -> memoryview: ...

    def unpack(self, codec: struct.Struct, ptr: int, /) -> tuple[Any, ...]: ...

    def write_u32(self, ptr: int, value: int, /) -> None: ...

    def read_u32(self, ptr: int, /) -> int: ...


class GuestCaller(Protocol):
    """The instance that called."""

    @property
    def memory(self) -> GuestMemory | None: ...

    @property
    def interrupt(self) -> GuestInterrupt | None: ...


def require_memory(caller: GuestCaller) -> GuestMemory:
    """The guest's memory.

    Raises:
        WasiNnError: ``missing_memory`` when the guest exports none.
    """
    memory = caller.memory
    if memory is None:
        raise WasiNnError(
            ErrorKind.MISSING_MEMORY, 'the guest exports no memory under the name "memory"'
        )
    return memory
