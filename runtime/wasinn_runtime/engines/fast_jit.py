"""Mode ``fast-jit``: functions are compiled at their first call, with few optimisations."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from wasinn_runtime.binary.code import Body
from wasinn_runtime.engines.lazy import Lazy
from wasinn_runtime.errors import Invalid, Malformed
from wasinn_runtime.lower.groups import group_unit
from wasinn_runtime.lower.outline import ENTRIES_SYMBOL, indirect_types
from wasinn_runtime.spec.types import FuncType

if TYPE_CHECKING:
    from wasinn_runtime.engines.module import Module

__all__ = ["FastJit"]

# How much code is compiled at a time: the function that is called and those it calls, until they
# have this many bytes. More would make a large module wait for what it never runs, less would pay
# LLVM's fixed cost of about a millisecond too often.
_GROUP_BYTES = 16 << 10
# A function of up to so many bytes costs less on the way than in a group of its own. Groups that
# have room also take so many bytes of those that compiled code may call, by name or through tables.
_SMALL_BYTES, _MOST_SMALL = 1 << 10, 4 << 10


class FastJit(Lazy):
    """Groups of functions through LLVM's quick code generator."""

    def __init__(self, module: Module) -> None:
        super().__init__(module)
        # Small functions that compiled code may call; some may be ready by now.
        self._small: list[int] = []
        self._types: set[FuncType] = set()  # of the indirect calls in it

    def make_ready(self, index: int) -> None:
        """Compile the function, and what may be called next as far as that is not much."""
        bodies = self._group(index)
        image = self.engine.image(
            "functions",
            [self.parsed.digest, *map(str, bodies)],
            lambda: group_unit(self.parsed, self.layout, self.places, bodies, quick=True),
            0,
            (ENTRIES_SYMBOL,),
        )
        self.entries.compiled_all([*bodies], self.link(image))

    def _group(self, first: int) -> dict[int, Body]:
        """The functions to compile now, breadth first; what they call can be called from now on."""
        bodies = {first: self.body(first)}
        room = _GROUP_BYTES - self._size(first)
        waiting = deque(self._opened(bodies[first]))
        while room > 0 and (waiting or self._small):
            if waiting:
                index = waiting.popleft()
            else:
                index, room = self._small.pop(), min(room, _MOST_SMALL)
            if index in bodies or not self.entries.is_deferred(index):
                continue
            room -= self._size(index)
            if room < 0:
                break  # it becomes ready at its own call
            with contextlib.suppress(Malformed, Invalid):  # its own call will tell
                bodies[index] = self.body(index)
                waiting.extend(self._opened(bodies[index]))
        self._small.extend(index for index in waiting if self._size(index) <= _SMALL_BYTES)
        return bodies

    def _size(self, index: int) -> int:
        """The bytes of a function's code."""
        where = self.parsed.code[index - self.imported]
        return where.end - where.start

    def _opened(self, body: Body) -> list[int]:
        """What a body calls, made ready to be called."""
        called = sorted(self.callees(body))
        for index in called:
            self.entries.open(index)
        for ty in indirect_types(self.parsed, body) - self._types:
            self._types.add(ty)
            self._small.extend(self._referable(ty))
        return called

    def _referable(self, ty: FuncType) -> Iterator[int]:
        """The small functions of a type that may stand in a table."""
        for index in self.places:
            is_small = index >= self.imported and self._size(index) <= _SMALL_BYTES
            if is_small and self.parsed.func_type(index) == ty:
                yield index
