"""The CodeEntries of one module: through them callers find how a function runs at the moment."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Protocol

from wasinn_runtime.abi.layout import CodeEntry
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.machine import native
from wasinn_runtime.spec.types import FuncType

__all__ = ["Adapters", "EntryTable"]

_CELLS = CodeEntry.BYTES // 8


class Adapters(Protocol):
    """Where the table finds the adapters between the two kinds of entries."""

    core: native.Core

    def trampolines(self, ty: FuncType) -> native.Trampolines:
        """The adapters between the entries of functions of a signature."""


class EntryTable:
    """One CodeEntry for each defined function.

    Attributes:
        address: of the first; function ``index`` (imports counted) has number ``index - imports``.
    """

    def __init__(self, adapters: Adapters, parsed: ParsedModule) -> None:
        self._adapters = adapters
        self._parsed = parsed
        self._first = parsed.imported_functions
        self._cells = native.buffer(len(parsed.code) * CodeEntry.BYTES)
        self.address = ctypes.addressof(self._cells)
        self._deferred = adapters.core.addresses["wasinn_prepare"]

    def entry(self, index: int) -> int:
        """The address of a function's CodeEntry."""
        return self.address + (index - self._first) * CodeEntry.BYTES

    def _set(self, index: int, field: int, value: int) -> None:
        self._cells[(index - self._first) * _CELLS + field // 8] = value

    def get(self, index: int, field: int) -> int:
        """One field of a function's CodeEntry, by its offset."""
        return self._cells[(index - self._first) * _CELLS + field // 8]

    def defer_all(self, token: int) -> None:
        """Have every function made ready at its first call; ``token`` is the id of a LazyCode."""
        cells, count = self._cells, len(self._parsed.code)
        deferred = self._deferred
        cells[CodeEntry.ARRAY // 8 :: _CELLS] = [deferred] * count
        cells[CodeEntry.TOKEN // 8 :: _CELLS] = [token] * count
        cells[CodeEntry.INDEX // 8 :: _CELLS] = [*range(self._first, self._first + count)]

    def is_deferred(self, index: int) -> bool:
        """Whether nobody has made the function ready yet."""
        return self.get(index, CodeEntry.ARRAY) == self._deferred

    def open(self, index: int) -> None:
        """Let compiled code call a function, whatever runs it."""
        if not self.get(index, CodeEntry.NATIVE):
            adapters = self._adapters.trampolines(self._parsed.func_type(index))
            self._set(index, CodeEntry.NATIVE, adapters.spill)
            self._set(index, CodeEntry.JUMP, adapters.jump)

    def interpret(self, index: int, code: int, array: int) -> None:
        """Publish an interpreter's code; ``array`` is the interpreter's entry."""
        self._set(index, CodeEntry.CODE, code)
        self._set(index, CodeEntry.ARRAY, array)

    def compiled(self, index: int, address: int) -> None:
        """Publish machine code. Whoever calls from now on finds it; who runs, runs on."""
        adapters = self._adapters.trampolines(self._parsed.func_type(index))
        self._set(index, CodeEntry.NATIVE, address)
        self._set(index, CodeEntry.JUMP, adapters.jump)
        self._set(index, CodeEntry.ARRAY, adapters.enter)

    def compiled_all(self, indices: Sequence[int], table: int) -> None:
        """Publish machine code whose addresses stand in a table, in the order of the indices."""
        addresses = (ctypes.c_uint64 * len(indices)).from_address(table)
        for index, address in zip(indices, addresses, strict=True):
            self.compiled(index, address)

    def set_count(self, index: int, count: int) -> None:
        """How many calls and loop iterations are left until the function counts as hot."""
        self._set(index, CodeEntry.COUNT, count)

    def set_ways(self, index: int, address: int) -> None:
        """Where an interpreter may leave a function for compiled code: see the core."""
        self._set(index, CodeEntry.OSR, address)
