"""Tables of functions by family of rows, filled by decorators where the functions are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["registrar"]

F = TypeVar("F")


def registrar(table: dict[str, F]) -> Callable[[str], Callable[[F], F]]:
    """A decorator that puts a function into a table under its family.

    Raises:
        ValueError: at import, the family has one already.
    """

    def for_family(family: str) -> Callable[[F], F]:
        def register(function: F) -> F:
            if family in table:
                raise ValueError(f"two functions for {family!r}")
            table[family] = function
            return function

        return register

    return for_family
