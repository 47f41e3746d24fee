"""Which locals meet at which labels with different values: where the SSA form needs phi nodes.

Structured control flow says it in one pass backwards. A local has a node at a label if it is set
inside the block and read after the label before it is set again. What the header of a loop needs
counts as needed everywhere in the loop, so that nothing has to be gone over twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from wasinn_runtime.binary.code import Body
from wasinn_runtime.spec.opcodes import ROWS

__all__ = ["LocalFlow", "local_flow"]

# Locals of a function times its blocks, and values on edges per instruction, above which nothing
# is gained: no compiler writes such functions, and they would take more than in proportion.
_MOST_LOCALS_TIMES_BLOCKS, _VALUES, _VALUES_PER_INSTRUCTION = 1_000_000, 4_000, 4


@dataclass(frozen=True, slots=True)
class LocalFlow:
    """Where a function's locals meet.

    Attributes:
        merged: by position of a block, loop or if, the locals that have a node at its label; no
            entry if there are none.
        after: by position of a loop, the locals that it sets and that are read after its end.
    """

    merged: dict[int, tuple[int, ...]]
    after: dict[int, tuple[int, ...]]


_GET, _SET, _BLOCK, _LOOP, _IF, _ELSE, _END, _BR, _BR_IF, _BR_TABLE, _LEAVE, _TRY = range(12)
_KINDS = {
    "local.get": _GET,
    "local.set": _SET,
    "local.tee": _SET,
    "block": _BLOCK,
    "loop": _LOOP,
    "if": _IF,
    "else": _ELSE,
    "end": _END,
    "br": _BR,
    "br_if": _BR_IF,
    "br_on_null": _BR_IF,
    "br_on_non_null": _BR_IF,
    "br_table": _BR_TABLE,
    "return": _LEAVE,
    "unreachable": _LEAVE,
    "return_call": _LEAVE,
    "return_call_indirect": _LEAVE,
    "return_call_ref": _LEAVE,
    "throw": _LEAVE,
    "throw_ref": _LEAVE,
    "try": _TRY,
    "try_table": _TRY,
}
_KIND_OF = {row: _KINDS[row.meaning[0]] for row in ROWS if row.meaning[0] in _KINDS}


@dataclass(slots=True)
class _Label:
    """A block on the way back; sets of locals are bits.

    Attributes:
        live: what is read where branches to it go.
        after: what is read after its end.
        assigned: what is set inside.
        edges: how many branches go to it.
        otherwise: what is read where an if goes that finds its condition false.
    """

    live: int
    after: int
    otherwise: int
    assigned: int = 0
    edges: int = 1
    depth: int = 0
    position: int = 0
    is_loop: bool = False


_Event = tuple[int, int, object]


def local_flow(body: Body, count: int) -> LocalFlow | None:
    """Where the locals of a function meet; None if they had better stay in memory.

    They do where exceptions are caught, since any call may go to a handler then, and in functions
    so large that it costs too much.

    Args:
        body: the function's, after validation.
        count: how many locals there are, with the parameters.
    """
    if count == 0:
        return LocalFlow({}, {})
    events, blocks = _events(body)
    if blocks is None or count * blocks > _MOST_LOCALS_TIMES_BLOCKS:
        return None
    if blocks == 0:
        return LocalFlow({}, {})
    limit = _VALUES + _VALUES_PER_INSTRUCTION * len(body.instructions)
    return _flow(_labels(events), limit)


def _events(body: Body) -> tuple[list[_Event], int | None]:
    """What matters here of a function's instructions, and the number of its blocks.

    An ``end`` has what it closes. The number is None if any block is a try.
    """
    events: list[_Event] = []
    append, kind_of = events.append, _KIND_OF.get
    openers: list[int] = [_BLOCK]
    blocks = 0
    for position, (row, immediate, _) in enumerate(body.instructions):
        kind = kind_of(row)
        if kind is None:
            continue
        if kind <= _SET:
            append((kind, position, immediate))
        elif kind <= _IF:
            openers.append(kind)
            blocks += 1
            append((kind, position, None))
        elif kind == _END:
            append((kind, position, openers.pop()))
        elif kind == _TRY:
            return events, None
        else:
            append((kind, position, immediate))
    return events, blocks


def _labels(events: list[_Event]) -> list[_Label]:
    """All blocks, the last one first."""
    found: list[_Label] = []
    stack: list[_Label] = []
    live = assigned = 0
    for kind, position, immediate in reversed(events):
        if kind == _GET:
            live |= 1 << immediate  # type: ignore[operator]  # a local's index
        elif kind == _SET:
            bit = 1 << immediate  # type: ignore[operator]
            assigned |= bit
            live &= ~bit
        elif kind == _END:
            if stack:
                stack[-1].assigned |= assigned
            assigned = 0
            # A branch back to a loop needs what its header does, which is added later.
            stack.append(_Label(0 if immediate == _LOOP else live, live, live))
        elif kind == _ELSE:
            stack[-1].otherwise, live = live, stack[-1].live
        elif kind <= _IF:
            label = stack.pop()
            label.position, label.depth = position, len(stack)
            label.assigned |= assigned
            assigned = label.assigned
            if kind == _IF:
                live |= label.otherwise
                label.edges += 1
            elif kind == _LOOP:
                label.live, label.is_loop = live, True
            found.append(label)
        elif kind == _LEAVE:
            live = 0
        else:
            depths: Iterable[int] = (immediate,)  # type: ignore[assignment]  # a label's depth
            if kind == _BR_TABLE:
                assert isinstance(immediate, tuple)
                depths = (*immediate[0], immediate[1])
            if kind != _BR_IF:
                live = 0
            for depth in depths:
                label = stack[-1 - depth]
                label.edges += 1
                live |= label.live
    return found


def _flow(labels: list[_Label], limit: int) -> LocalFlow | None:
    merged: dict[int, tuple[int, ...]] = {}
    after: dict[int, tuple[int, ...]] = {}
    carried = [0]  # by depth: what the headers of the loops around read
    for label in reversed(labels):
        depth = label.depth
        del carried[depth:]
        around = carried[-1] if carried else 0
        needed = around | label.live
        carried.append(needed if label.is_loop else around)
        if label.is_loop:
            after[label.position] = _numbers(label.assigned & (label.after | around))
        meeting = label.assigned & needed
        if meeting:
            limit -= meeting.bit_count() * label.edges
            if limit < 0:
                return None
            merged[label.position] = _numbers(meeting)
    return LocalFlow(merged, after)


def _numbers(bits: int) -> tuple[int, ...]:
    """The positions of the bits that are set."""
    found = []
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length() - 1)
        bits ^= lowest
    return tuple(found)
