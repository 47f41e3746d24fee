"""A Python function offered to guests before any store exists: type, callable, how it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wasinn_runtime.spec.types import FuncType

__all__ = ["HostFunc"]


@dataclass(frozen=True, slots=True)
class HostFunc:
    """A definition that can be linked into any number of stores.

    Attributes:
        type: its signature.
        function: called with Python values; returns None, a value, or a tuple.
        access_caller: pass a ``Caller`` as the first argument.
        unsigned: integer arguments arrive unsigned, as addresses want to be.
    """

    type: FuncType
    function: Callable[..., object]
    access_caller: bool = False
    unsigned: bool = False
