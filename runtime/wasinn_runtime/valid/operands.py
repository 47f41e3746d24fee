"""The operand stack and the open blocks of a body under validation, and how it is refused.

What instructions do with them is in ``function.py`` and ``storage.py``.

Source: WebAssembly core specification 3.0, appendix A.3.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Sequence
from typing import overload

from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.errors import Invalid
from wasinn_runtime.spec.opcodes import Opcode
from wasinn_runtime.spec.types import MemoryType, RefType, ValType, matches

__all__ = ["BASE", "UNKNOWN", "Cell", "Frame", "Operands", "Types", "local_types", "show"]


class _Mark(enum.Enum):
    """What lies on the operand stack beside types."""

    BASE = "nothing"
    UNKNOWN = "any type"


BASE = _Mark.BASE
UNKNOWN = _Mark.UNKNOWN
Cell = ValType | _Mark
Types = tuple[ValType, ...]


class Frame:
    """An open block.

    Attributes:
        row: what opened it, or this part of it; None for the function itself.
        start, end: the types that the block takes and leaves.
        base: where its mark lies on the operand stack.
        initialised: how many locals without a default were set when it began.
        unreachable: whether the rest of the block can not be reached.
    """

    __slots__ = ("base", "end", "initialised", "row", "start", "unreachable")

    def __init__(
        self, row: Opcode | None, start: Types, end: Types, base: int, initialised: int
    ) -> None:
        self.initialised = initialised
        self.row = row
        self.start = start
        self.end = end
        self.base = base
        self.unreachable = False

    @property
    def label(self) -> Types:
        """The types that a branch to the block carries."""
        return self.start if self.row is not None and self.row.name == "loop" else self.end

    @property
    def name(self) -> str:
        return "the function" if self.row is None else self.row.name


class _Runs(Sequence[ValType]):
    """Types of very many locals, kept as the runs that the module declares."""

    def __init__(self, params: Types, runs: list[tuple[int, ValType]]) -> None:
        self._types = list(params)
        self._ends = list(range(1, len(params) + 1))
        total = len(params)
        for count, type_ in runs:
            total += count
            self._types.append(type_)
            self._ends.append(total)
        self._total = total

    def __len__(self) -> int:
        return self._total

    @overload
    def __getitem__(self, index: int) -> ValType: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ValType]: ...
    def __getitem__(self, index: int | slice) -> ValType | Sequence[ValType]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._total))]
        return self._types[bisect_right(self._ends, index)]

    def count(self, value: object) -> int:
        starts = [0, *self._ends]
        runs = zip(self._types, starts, self._ends, strict=False)
        return sum(end - start for type_, start, end in runs if type_ is value)


# A list of all locals is made for up to this many; a file of many functions that each
# declare the most locals must not cost time that its size does not warrant.
_FEW_LOCALS = 500


def local_types(params: Types, runs: list[tuple[int, ValType]]) -> Sequence[ValType]:
    """The types of all locals, parameters first; in memory that the module's size warrants."""
    if sum(count for count, _ in runs) > _FEW_LOCALS:
        return _Runs(params, runs)
    types = list(params)
    for count, type_ in runs:
        types.extend([type_] * count)
    return types


def show(types: Sequence[object]) -> str:
    return "[" + " ".join(str(getattr(t, "value", t)) for t in types) + "]"


class Operands:
    """Checks one body; made for it, used once.

    Args:
        module: must have passed the checks of its sections.
        function: index among all functions, imports included.
        body: the decoded body.
    """

    def __init__(self, module: ParsedModule, function: int, body: Body) -> None:
        self.module = module
        self.function = function
        self.body = body
        type_ = module.func_type(function)
        self.locals = local_types(type_.params, body.locals)
        self.parameters = len(type_.params)
        # Of the locals without a default, those that have a value here, and in which order.
        self.initialised: dict[int, None] = {}
        self.stack: list[Cell] = [BASE]
        self.frames = [Frame(None, (), type_.results, 0, 0)]
        # The instruction at hand, for messages; kept only where something can fail.
        self.row = body.instructions[-1][0]
        self.at = body.start

    # --- failing ---------------------------------------------------------------------------------

    def _invalid(self, message: str) -> Invalid:
        label = self.module.function_label(self.function)
        return Invalid(message, self.at, self.module.where, label)

    def _no_local(self, row: Opcode, index: object, at: int) -> None:
        self.at = at
        raise self._invalid(f"unknown local {index}: {row.name}, {len(self.locals)} locals")

    def _memory_access(self, row: Opcode, imm: tuple[int, ...], at: int) -> None:
        self.at = at
        self.row = row
        self._memory(imm[2])
        raise self._invalid(
            f"alignment must not be larger than natural: {row.name} of {row.access_bytes} bytes, "
            f"alignment 2**{imm[0]}"
        )

    def _mismatch(self, expected: object, got: object, what: str = "") -> Invalid:
        return self._invalid(
            f"type mismatch: {what or self.row.name} expected {expected}, got {got}"
        )

    def _index(self, what: str, index: object, count: int) -> int:
        """An index that must be below ``count``."""
        assert isinstance(index, int)
        if index >= count:
            there = f"there are {count}" if count else "there is none"
            raise self._invalid(f"unknown {what} {index}: {self.row.name}, {there}")
        return index

    def _memory(self, index: object) -> MemoryType:
        return self.module.memories[self._index("memory", index, len(self.module.memories))]

    # --- the operand stack -----------------------------------------------------------------------

    def _pop_any(self, expected: object = "a value", what: str = "") -> ValType | _Mark:
        top = self.stack[-1]
        if top is not BASE:
            return self.stack.pop()
        if self.frames[-1].unreachable:
            return UNKNOWN
        raise self._mismatch(expected, "nothing", what)

    def _pop(self, expected: ValType, what: str = "") -> Cell:
        got = self._pop_any(expected, what)
        if got is expected or got is UNKNOWN:
            return got
        if not (isinstance(got, RefType) and matches(got, expected)):
            raise self._mismatch(expected, got, what)
        return got

    def _pop_all(self, types: Types, what: str = "") -> None:
        count = len(types)
        stack = self.stack
        if count == 0:
            return
        if tuple(stack[-count:]) == types:
            del stack[-count:]
            return
        for type_ in reversed(types):
            self._pop(type_, what)

    def _peek_all(self, types: Types) -> None:
        """Pops, and pushes what was there again: an unknown type stays unknown."""
        count = len(types)
        if count == 0 or tuple(self.stack[-count:]) == types:
            return
        popped = [self._pop(type_) for type_ in reversed(types)]
        self.stack.extend(reversed(popped))

    def _typed(self, row: Opcode, at: int) -> None:
        """A row with a signature, where the fast path has not found what it expects."""
        self.row = row
        self.at = at
        assert row.params is not None
        assert row.results is not None
        self._pop_all(row.params)
        self.stack.extend(row.results)

    def _access(self, row: Opcode, imm: tuple[int, ...], at: int) -> None:
        """A load or store; the address is of the memory's type."""
        self.row = row
        self.at = at
        assert row.params is not None
        assert row.results is not None
        self._pop_all((self._memory(imm[2]).address, *row.params[1:]))
        self.stack.extend(row.results)

    def _unreachable(self, imm: object = None) -> None:
        frame = self.frames[-1]
        del self.stack[frame.base + 1 :]
        frame.unreachable = True

    # --- blocks ----------------------------------------------------------------------------------

    def _open(self, start: Types, end: Types) -> None:
        initialised = len(self.initialised)
        self.frames.append(Frame(self.row, start, end, len(self.stack), initialised))
        self.stack.append(BASE)
        self.stack.extend(start)

    def _close(self) -> Frame:
        frame = self.frames[-1]
        self._pop_all(frame.end, f"end of {frame.name}")
        if self.stack[-1] is not BASE:
            left = [*self.stack[frame.base + 1 :], *frame.end]
            raise self._mismatch(show(frame.end), show(left), f"end of {frame.name}")
        self.stack.pop()
        if self.initialised:
            while len(self.initialised) > frame.initialised:
                self.initialised.popitem()
        return self.frames.pop()

    def _fits(self, types: Types, into: Types, what: str = "") -> None:
        """Whether all of one list may go where the other is expected."""
        if types != into and not (len(types) == len(into) and all(map(matches, types, into))):
            raise self._mismatch(show(into), show(types), what)

    def _label(self, depth: object) -> Types:
        self._index("label", depth, len(self.frames))
        assert isinstance(depth, int)
        return self.frames[-1 - depth].label
