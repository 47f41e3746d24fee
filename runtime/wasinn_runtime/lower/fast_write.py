"""From what the walk of ``fast_code.py`` found to the words that the fast interpreter executes."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wasinn_runtime.abi.layout import SLOT_BYTES, VMLayout
from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.lower.fast_code import FAR, Walk
from wasinn_runtime.lower.fast_names import (
    BRANCHES,
    JUMP_TABLES,
    LABEL,
    NUMBERS,
    SCALAR_SEQUENCES,
    VECTOR_SEQUENCES,
    VECTORS_FROM,
)
from wasinn_runtime.lower.threaded import Header

__all__ = ["FastCode", "Sequences", "fast_code", "write_code"]

_WHOLE = -1


class Sequences:
    """Where handlers are, and which runs of them have a handler of their own.

    Args:
        scalar: the addresses of the handlers in the order of ``NUMBERS``, but for those of vector
            instructions, then of ``SCALAR_SEQUENCES``.
        vectors: gives those of vector instructions, then of ``VECTOR_SEQUENCES``; asked once there
            is code that needs them.
        plain: leave sequences out.

    Attributes:
        addresses: of the handlers, by number.
        tree: by numbers, one after the other; the address of a whole sequence is under _WHOLE.
    """

    def __init__(
        self, scalar: Sequence[int], vectors: Callable[[], Sequence[int]], plain: bool = False
    ) -> None:
        self._source = scalar, vectors
        self._plain = plain
        self.has_vectors = False
        self.addresses = [0]
        self.tree: dict[int, Any] = {}
        self._add(scalar, VECTORS_FROM - 1, SCALAR_SEQUENCES)

    def _add(self, table: Sequence[int], count: int, sequences: Sequence[tuple[str, ...]]) -> None:
        self.addresses += table[:count]
        for address, parts in zip(table[count:], sequences, strict=True):
            node = self.tree
            if not self._plain:
                for part in parts:
                    node = node.setdefault(NUMBERS[part], {})
                node[_WHOLE] = address

    def add_vectors(self) -> None:
        """Have the handlers of vector instructions, too."""
        table = self._source[1]()
        if not self.has_vectors:
            self._add(table, len(NUMBERS) - VECTORS_FROM + 1, VECTOR_SEQUENCES)
            self.has_vectors = True

    def without(self) -> Sequences:
        """The handlers alone."""
        return Sequences(*self._source, plain=True)


@dataclass(frozen=True, slots=True)
class FastCode:
    """What runs a function. It must be kept as long as the function may run.

    Attributes:
        words: the header and the stream.
        address: what ``CodeEntry.CODE`` gets.
    """

    words: array[int]
    address: int


def write_code(walk: Walk, sequences: Sequences) -> FastCode:
    """Write what a walk found; its lists are used up."""
    out = walk.header()
    numbers, words = walk.numbers, walk.words
    if not sequences.has_vectors and max(numbers) >= VECTORS_FROM:
        sequences.add_vectors()
    addresses, tree = sequences.addresses, sequences.tree
    labels = [0] * walk.labels
    distances: list[tuple[int, int]] = []
    position, count = 0, len(numbers)
    numbers.append(LABEL)  # ends every run
    while position < count:
        number = numbers[position]
        start = len(out)
        node = tree.get(number)
        if node is None:
            if number == LABEL:
                labels[words[position][0]] = start
                position += 1
                continue
            out.append(addresses[number])
            out += words[position]
            position += 1
        else:
            end, address = position + 1, addresses[number]
            following = node.get(numbers[end])
            look = end
            while following is not None:
                look += 1
                if _WHOLE in following:
                    end, address = look, following[_WHOLE]
                following = following.get(numbers[look])
            out.append(address)
            for at in range(position, end):
                out += words[at]
            position = end
            number = numbers[end - 1]
        if number in BRANCHES:
            distances.append((len(out) - 1, start))
        elif number in JUMP_TABLES:
            targets = walk.targets[position - 1]
            distances += [(at, start) for at in range(len(out) - targets, len(out))]
    out.append(0)  # what follows a call may be looked at
    for at, start in distances:
        out[at] = SLOT_BYTES * (labels[out[at]] - start)
    code = array("q", out)
    return FastCode(code, code.buffer_info()[0] + SLOT_BYTES * Header.WORDS)


def fast_code(
    module: ParsedModule,
    layout: VMLayout,
    places: Mapping[int, int],
    entries: int,
    index: int,
    body: Body,
    sequences: Sequences,
    hot: bool = False,
) -> FastCode:
    """What runs a validated function.

    Args:
        module: the module it belongs to.
        layout: of the module's VMContext.
        places: which FuncRef belongs to a function that can be reached by reference.
        entries: the address of the module's first CodeEntry.
        index: the function's index, imports first.
        body: its decoded body, after validation.
        sequences: the interpreter's handlers.
        hot: have it count calls and loops, see ``fast_handlers._hot``.
    """
    walk = Walk(module, layout, places, entries, index, body)
    walk.run(hot)
    if walk.cells > FAR:
        cells = walk.top
        walk = Walk(module, layout, places, entries, index, body, cells)
        walk.run(hot)
        walk.top = walk.cells
    return write_code(walk, sequences)
