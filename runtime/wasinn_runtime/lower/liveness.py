"""Which locals of a function may still be read, at its loops and calls.

A value that only a canonical frame would want must be kept through all code up to there. Most
locals at a loop's header or a call are set before they are read again; their cells stay zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from wasinn_runtime.binary.code import Body

__all__ = ["BEGINNING", "live_locals"]

BEGINNING = -1
"""Stands for the position of a function's beginning."""

_OPENS = frozenset({"block", "loop", "if"})
_TRIES = frozenset({"try", "try_table"})
_JUMPS = frozenset({"br", "br_table"})
_BRANCHES = frozenset({"br_if", "br_on_null", "br_on_non_null"})
_LEAVES = frozenset({"return", "unreachable", "throw", "throw_ref"})
_TAIL_CALLS = frozenset({"return_call", "return_call_indirect", "return_call_ref"})
_CALLS = frozenset({"call", "call_indirect", "call_ref"})
# Loops inside each other make for as many rounds.
_MOST_ROUNDS = 12


class _Event(NamedTuple):
    """What matters of an instruction: a local, the labels it branches to, or its block's start."""

    family: str
    position: int
    about: tuple[int, ...]


@dataclass(slots=True)
class _Block:
    """A block on the way from its end to its start: what is live behind it, and in its else."""

    start: int
    after: int
    otherwise: int | None = None


def live_locals(body: Body) -> Mapping[int, int] | None:
    """By position of the loops and calls, and for ``BEGINNING``: a bit for each local.

    Args:
        body: the function's, after validation. Positions that nothing leads to mean nothing.

    Returns:
        None if it was not found out: every local may be read.
    """
    events = _events(body)
    if events is None:
        return None
    found: dict[int, int] = {}
    loops = {event.position: 0 for event in events if event.family == "loop"}
    for _ in range(_MOST_ROUNDS):
        before = dict(loops)
        _go_back(events, loops, found)
        if loops == before:
            return found
    return None


def _events(body: Body) -> list[_Event] | None:
    """From the function's end to its beginning; None for a function with handlers."""
    events = [_Event("begin", BEGINNING, ())]
    starts = [BEGINNING]
    for position, (row, immediate, _) in enumerate(body.instructions):
        family = row.meaning[0]
        if family in _TRIES:
            return None
        if family in _OPENS:
            starts.append(position)
            events.append(_Event(family, position, ()))
        elif family == "end":
            events.append(_Event(family, position, (starts.pop(),)))
        elif family == "br_table":
            assert isinstance(immediate, tuple)
            events.append(_Event(family, position, (*immediate[0], immediate[1])))
        elif family in _TAIL_CALLS:
            events.append(_Event("return", position, ()))
        elif family in _KNOWN:
            about = (immediate,) if isinstance(immediate, int) else ()
            events.append(_Event(family, position, about))
    return events[::-1]


_KNOWN = _JUMPS | _BRANCHES | _LEAVES | _CALLS | {"else", "local.get", "local.set", "local.tee"}


def _go_back(events: list[_Event], loops: dict[int, int], found: dict[int, int]) -> None:
    """One round; ``loops`` has what is live at the loops' beginnings as far as it is known."""
    live = 0
    blocks: list[_Block] = []
    for family, position, about in events:
        if family == "local.get":
            live |= 1 << about[0]
        elif family in ("local.set", "local.tee"):
            live &= ~(1 << about[0])
        elif family in _CALLS:
            found[position] = live
        elif family == "end":
            blocks.append(_Block(about[0], live))
        elif family in _BRANCHES:
            live |= _at_label(blocks[-1 - about[0]], loops)
        elif family in _JUMPS:
            live = 0
            for depth in about:
                live |= _at_label(blocks[-1 - depth], loops)
        elif family in _LEAVES:
            live = 0
        elif family == "else":
            blocks[-1].otherwise, live = live, blocks[-1].after
        elif family == "if":
            block = blocks.pop()
            live |= block.after if block.otherwise is None else block.otherwise
        elif family == "loop":
            blocks.pop()
            found[position] = loops[position] = live
        elif family == "block":
            blocks.pop()
        else:
            found[position] = live


def _at_label(block: _Block, loops: dict[int, int]) -> int:
    return loops.get(block.start, block.after)
