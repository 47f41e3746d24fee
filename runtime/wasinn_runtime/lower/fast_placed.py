"""What the fast interpreter executes, apart from where things are in a process: how it gets there.

Code as it is *written* names handlers by their places in the interpreter's tables, and functions by
their distance in the module's table of CodeEntries: it is the same in every process, and can be
kept. Code as it is *placed* has the addresses of one process. Nothing here knows a handler or an
instruction, so code that was kept runs without any of the lowering.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable
from dataclasses import dataclass

from wasinn_runtime.abi.layout import SLOT_BYTES
from wasinn_runtime.lower.threaded import Header, Interpreter

__all__ = ["FAST", "HOT_SYMBOL", "TABLE_SYMBOL", "FastCode", "Handlers", "WrittenCode", "place"]

FAST = Interpreter(
    "wasinn_fast", (("r", "i64"), ("d", "double"), ("f", "float"), ("v", "<16 x i8>"))
)
TABLE_SYMBOL = "wasinn_fast_handlers"
HOT_SYMBOL = "wasinn_fast_hot"


@dataclass(frozen=True, slots=True)
class WrittenCode:
    """A function's code for any process.

    Attributes:
        words: the header and the stream, of items ``q``. A handler's word is its place in the
            scalar table, or ``~place`` in that of vector instructions; a CodeEntry's its distance
            from the first one.
        handlers: where in ``words`` handlers are, of items ``I``.
        entries: where CodeEntries are, of items ``I``.
    """

    words: array[int]
    handlers: array[int]
    entries: array[int]


@dataclass(frozen=True, slots=True)
class FastCode:
    """What runs a function. It must be kept as long as the function may run.

    Attributes:
        words: the header and the stream.
        address: what ``CodeEntry.CODE`` gets.
    """

    words: array[int]
    address: int


class Handlers:
    """Where handlers are in this process.

    Args:
        scalar: the address of the table of handlers but those of vector instructions.
        vectors: gives the address of theirs; asked once there is code that needs them.
    """

    def __init__(self, scalar: int, vectors: Callable[[], int]) -> None:
        self.scalar = _table(scalar)
        self._find_vectors = vectors
        self._vectors: ctypes._Pointer[ctypes.c_uint64] | None = None

    @property
    def vectors(self) -> ctypes._Pointer[ctypes.c_uint64]:
        if self._vectors is None:
            self._vectors = _table(self._find_vectors())
        return self._vectors


def _table(address: int) -> ctypes._Pointer[ctypes.c_uint64]:
    return ctypes.cast(address, ctypes.POINTER(ctypes.c_uint64))


def place(code: WrittenCode, handlers: Handlers, entries: int) -> FastCode:
    """Give code the addresses of this process.

    Args:
        code: stays as it is.
        handlers: the interpreter's.
        entries: the address of the module's first CodeEntry.
    """
    words = code.words[:]
    table = handlers.scalar
    for at in code.handlers:
        number = words[at]
        words[at] = table[number] if number >= 0 else handlers.vectors[~number]
    for at in code.entries:
        words[at] += entries
    return FastCode(words, words.buffer_info()[0] + SLOT_BYTES * Header.WORDS)
