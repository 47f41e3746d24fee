"""Numbers that handlers find at run time, where meanings expect ones that are known.

The meanings of ``lower/state.py`` write an immediate, a place or an offset into their text. A
handler serves every module, so it gives them a ``LateNumber``: an int for the type checker, in the
text the name of the value that the handler has loaded.
"""

from __future__ import annotations

from typing import Any

from wasinn_runtime.lower.writer import FunctionWriter

__all__ = ["FactsByNumber", "LateNumber"]


class LateNumber(int):
    """A number found at run time.

    Args:
        body: the handler that reads it.
        value: its LLVM value, an i64.
        fact: what the module says of the thing it names, which decides the handler's variant.
    """

    body: FunctionWriter
    value: str
    fact: object

    def __new__(cls, body: FunctionWriter, value: str, fact: object = None) -> LateNumber:
        number = super().__new__(cls, 0)
        number.body, number.value, number.fact = body, value, fact
        return number

    def __add__(self, other: int) -> LateNumber:
        if not other:
            return self
        return LateNumber(self.body, self.body.let(f"add i64 {self.value}, {other}"), self.fact)

    def __sub__(self, other: int) -> LateNumber:
        return self + -other

    def __format__(self, spec: str) -> str:
        return self.value

    def __str__(self) -> str:
        return self.value

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __gt__(self, other: int) -> bool:
        return True  # "more than what is known": so nothing is


class FactsByNumber:
    """Types of a module's things by the number that names one; of the first by its number 0."""

    def __init__(self, first: object = None) -> None:
        self._first = first

    def __getitem__(self, index: int) -> Any:
        fact = index.fact if isinstance(index, LateNumber) else None
        return self._first if fact is None else fact
