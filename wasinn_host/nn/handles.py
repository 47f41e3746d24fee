"""Opaque numbers for guests: tables of handles that know their kind, owner and generation.

A handle is 32 bits, never 0 and never negative as an i32:

    bit 31      0
    bits 30-29  kind: 1 graph, 2 execution context
    bits 28-22  owner: which guest of this process, 1 to 127, then around again
    bits 21-0   serial: counts up, so that a dropped handle is not given out again for
                four million allocations

The bits only serve to tell people *why* a handle is wrong; validity is decided by the table alone.
"""

from __future__ import annotations

import itertools
import threading
from typing import Final, Generic, TypeVar

from wasinn_host.nn.errors import ErrorKind, WasiNnError

__all__ = ["CONTEXT_TAG", "GRAPH_TAG", "HandleTable", "next_owner"]

GRAPH_TAG: Final = 1
CONTEXT_TAG: Final = 2
_KIND_WORDS: Final = {GRAPH_TAG: "graph", CONTEXT_TAG: "execution context"}
_A_KIND: Final = {GRAPH_TAG: "a graph", CONTEXT_TAG: "an execution context"}
_TAG_SHIFT: Final = 29
_OWNER_SHIFT: Final = 22
_OWNER_MAX: Final = (1 << (_TAG_SHIFT - _OWNER_SHIFT)) - 1
_SERIAL_MASK: Final = (1 << _OWNER_SHIFT) - 1

_Value = TypeVar("_Value")
_owners = itertools.count()


def next_owner() -> int:
    """A number for one more guest, 1 to 127."""
    return next(_owners) % _OWNER_MAX + 1


class HandleTable(Generic[_Value]):
    """Values of one guest under handles of one kind.

    Args:
        tag: `GRAPH_TAG` or `CONTEXT_TAG`.
        owner: from `next_owner`.
        capacity: how many handles may be alive at a time.
    """

    def __init__(self, tag: int, owner: int, capacity: int) -> None:
        self._base = tag << _TAG_SHIFT | owner << _OWNER_SHIFT
        self._tag = tag
        self._word = _KIND_WORDS[tag]
        self._capacity = capacity
        self._entries: dict[int, _Value] = {}
        self._issued = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def reserve_check(self) -> None:
        """Refuses early what `add` would refuse: before a model is loaded for nothing.

        Raises:
            WasiNnError: ``too_large`` when the table is full.
        """
        if len(self._entries) >= self._capacity:
            raise WasiNnError(
                ErrorKind.TOO_LARGE,
                f"the guest holds {len(self._entries)} {self._word} handles, its limit",
            )

    def add(self, value: _Value) -> int:
        """Stores a value and returns its handle.

        Raises:
            WasiNnError: ``too_large`` when the table is full.
        """
        with self._lock:
            self.reserve_check()
            while True:
                handle = self._base | self._issued & _SERIAL_MASK
                self._issued += 1
                if handle not in self._entries:
                    break
            self._entries[handle] = value
            return handle

    def get(self, handle: int) -> _Value:
        """The value under a handle.

        Raises:
            WasiNnError: ``invalid_argument`` with the reason why there is none.
        """
        value = self._entries.get(handle)
        if value is None:
            raise WasiNnError(ErrorKind.INVALID_ARGUMENT, self._why_wrong(handle))
        return value

    def remove(self, handle: int) -> _Value:
        """Takes a value out; the handle is stale from now on.

        Raises:
            WasiNnError: ``invalid_argument`` as `get`.
        """
        with self._lock:
            value = self.get(handle)
            del self._entries[handle]
            return value

    def clear(self) -> list[_Value]:
        """Takes all values out, in the order they came in."""
        with self._lock:
            values = list(self._entries.values())
            self._entries.clear()
            return values

    def _why_wrong(self, handle: int) -> str:
        tag = handle >> _TAG_SHIFT
        if tag not in _KIND_WORDS:
            return f"{handle:#x} is not a handle; expected that of {_A_KIND[self._tag]}"
        if tag != self._tag:
            return (
                f"{handle:#x} is the handle of {_A_KIND[tag]}; expected that of "
                f"{_A_KIND[self._tag]}"
            )
        if (handle ^ self._base) >> _OWNER_SHIFT:
            return f"{handle:#x} is {_A_KIND[self._tag]} of another guest"
        if handle & _SERIAL_MASK < self._issued:
            return f"{handle:#x} is stale: that {self._word} was given back"
        return f"{handle:#x} was never given out; expected {_A_KIND[self._tag]}"
