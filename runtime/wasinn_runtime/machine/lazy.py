"""Functions that are not ready yet, or that became hot, as the core tells Python of them."""

from __future__ import annotations

import ctypes
from typing import Protocol

from wasinn_runtime.abi.layout import CodeEntry
from wasinn_runtime.machine import native

__all__ = ["HEAT_ADDRESS", "PREPARE_ADDRESS", "LazyCode", "describe_entry"]


class LazyCode(Protocol):
    """What the token of a CodeEntry stands for while its function is not ready."""

    def prepare(self, index: int) -> None:
        """Put working entries in place of those of function ``index``, imports counted."""

    def heat(self, index: int, loop: int) -> None:
        """Note that a function's counter is used up, and set it again.

        Args:
            index: the function.
            loop: 0 for its beginning, else the number of the loop it is in, from 1.
        """

    def label(self, index: int) -> str:
        """What to call a function in messages."""


def describe_entry(entry: int) -> str:
    """What to call the function of a lazy module's CodeEntry, by its address."""
    cells = (ctypes.c_uint64 * (CodeEntry.BYTES // 8)).from_address(entry)
    code: LazyCode = ctypes.cast(cells[CodeEntry.TOKEN // 8], ctypes.py_object).value
    return code.label(cells[CodeEntry.INDEX // 8])


@native.callback
def _prepare(code: LazyCode, index: ctypes._Pointer[ctypes.c_uint64]) -> None:
    code.prepare(index[0])


@native.callback
def _heat(code: LazyCode, where: ctypes._Pointer[ctypes.c_uint64]) -> None:
    code.heat(where[0], where[1])


PREPARE_ADDRESS, HEAT_ADDRESS = native.address_of(_prepare), native.address_of(_heat)
