"""From what the walk of ``fast_code.py`` found to words, which ``fast_placed.py`` then places."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from wasinn_runtime.abi.layout import SLOT_BYTES, VMLayout
from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.lower.fast_code import FAR, Walk
from wasinn_runtime.lower.fast_handlers import HANDLERS, SCALAR_HANDLERS
from wasinn_runtime.lower.fast_names import (
    BRANCHES,
    JUMP_TABLES,
    LABEL,
    NAME_ENTRIES,
    NUMBERS,
    SCALAR_SEQUENCES,
    VECTOR_SEQUENCES,
)
from wasinn_runtime.lower.fast_placed import WrittenCode

__all__ = ["Sequences", "fast_code", "write_code"]

_WHOLE = -1


class Sequences:
    """Where handlers are in the interpreter's tables, and which runs of them have one of their own.

    Args:
        plain: leave sequences out.

    Attributes:
        places: of the handlers, by number; see ``WrittenCode``.
        tree: by numbers, one after the other; the place of a whole sequence is under _WHOLE.
    """

    def __init__(self, plain: bool = False) -> None:
        scalar = range(SCALAR_HANDLERS + len(SCALAR_SEQUENCES))
        vectors = range(len(HANDLERS) - SCALAR_HANDLERS + len(VECTOR_SEQUENCES))
        self.places = [0]
        self.tree: dict[int, Any] = {}
        self._plain = plain
        self._add(scalar, SCALAR_HANDLERS, SCALAR_SEQUENCES)
        self._add([~at for at in vectors], len(HANDLERS) - SCALAR_HANDLERS, VECTOR_SEQUENCES)

    def _add(self, table: Sequence[int], count: int, sequences: Sequence[tuple[str, ...]]) -> None:
        self.places += table[:count]
        for place, parts in zip(table[count:], sequences, strict=True):
            node = self.tree
            if not self._plain:
                for part in parts:
                    node = node.setdefault(NUMBERS[part], {})
                node[_WHOLE] = place


@cache
def _sequences() -> Sequences:
    return Sequences()


def write_code(walk: Walk, sequences: Sequences | None = None) -> WrittenCode:
    """Write what a walk found; its lists are used up.

    Args:
        walk: of the function.
        sequences: what may be joined; None for all that the interpreter has.
    """
    sequences = sequences or _sequences()
    out = walk.header()
    numbers, words = walk.numbers, walk.words
    places, tree = sequences.places, sequences.tree
    labels = [0] * walk.labels
    distances: list[tuple[int, int]] = []
    handlers, entries = array("I"), array("I")
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
            out.append(places[number])
            out += words[position]
            position += 1
        else:
            end, chosen = position + 1, places[number]
            following = node.get(numbers[end])
            look = end
            while following is not None:
                look += 1
                if _WHOLE in following:
                    end, chosen = look, following[_WHOLE]
                following = following.get(numbers[look])
            out.append(chosen)
            for at in range(position, end):
                out += words[at]
            position = end
            number = numbers[end - 1]
        handlers.append(start)
        if number in BRANCHES:
            distances.append((len(out) - 1, start))
        elif number in NAME_ENTRIES:
            # The first of its own words, which are the last of a sequence's.
            entries.append(len(out) - len(words[position - 1]))
        elif number in JUMP_TABLES:
            targets = walk.targets[position - 1]
            distances += [(at, start) for at in range(len(out) - targets, len(out))]
    out.append(0)  # what follows a call may be looked at
    for at, start in distances:
        out[at] = SLOT_BYTES * (labels[out[at]] - start)
    return WrittenCode(array("q", out), handlers, entries)


def fast_code(
    module: ParsedModule,
    layout: VMLayout,
    places: Mapping[int, int],
    index: int,
    body: Body,
    hot: bool = False,
) -> WrittenCode:
    """What runs a validated function.

    Args:
        module: the module it belongs to.
        layout: of the module's VMContext.
        places: which FuncRef belongs to a function that can be reached by reference.
        index: the function's index, imports first.
        body: its decoded body, after validation.
        hot: have it count calls and loops, see ``fast_handlers._hot``.
    """
    walk = Walk(module, layout, places, index, body)
    walk.run(hot)
    if walk.cells > FAR:
        cells = walk.top
        walk = Walk(module, layout, places, index, body, cells)
        walk.run(hot)
        walk.top = walk.cells
    return write_code(walk)
