"""Globals: a 16-byte cell each, inside an instance's context or on its own."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import VMContext
from wasinn_runtime.errors import UsageError
from wasinn_runtime.machine import native
from wasinn_runtime.machine.values import from_slots, to_slots
from wasinn_runtime.spec.types import GlobalType, ValType

if TYPE_CHECKING:
    from wasinn_runtime.machine.store import Store

__all__ = ["Global"]


class Global:
    """A global.

    Args:
        store: the store it belongs to.
        type: value type and mutability.
        value: the first value.
    """

    def __init__(self, store: Store, type: GlobalType, value: object) -> None:
        cell = native.buffer(VMContext.GLOBAL_BYTES)
        store.keep(cell)
        self.store = store
        self.type = type
        self.cell = ctypes.addressof(cell)
        if type.value.base is ValType.EXNREF:
            store.exceptions.add_cell(self.cell)
        self._set(value)

    @classmethod
    def at(cls, store: Store, type: GlobalType, cell: int) -> Global:
        """The global whose cell lies at an address that the store keeps alive."""
        self = cls.__new__(cls)
        self.store = store
        self.type = type
        self.cell = cell
        return self

    def _set(self, value: object) -> None:
        cells = to_slots(self.store, (self.type.value,), (value,))
        (ctypes.c_uint64 * len(cells)).from_address(self.cell)[:] = [*cells]

    @property
    def value(self) -> object:
        """The current value; assigning needs a mutable global.

        Raises:
            UsageError: assigned although immutable.
        """
        cells = (ctypes.c_uint64 * 2).from_address(self.cell)
        return from_slots(self.store, (self.type.value,), [*cells])[0]

    @value.setter
    def value(self, value: object) -> None:
        if not self.type.mutable:
            raise UsageError("the global is immutable")
        self._set(value)

    def __repr__(self) -> str:
        return f"<Global {self.type} = {self.value!r}>"
