"""The side table of a valid body, for an interpreter that runs the module's own bytes.

A branch in the bytes names a label; where that is, and what becomes of the operands, takes a look
at the whole function. The table holds it, in the order of the instructions that need it. The
interpreter keeps a place in the table beside its place in the bytes: what it passes without
branching moves both, and a branch moves both by what the entry says.

An entry is four numbers of 32 bits:

    0  bytes from the instruction to the target
    4  bytes from this entry to the one that the target's code begins with
    8  cells of the top of the stack that go along
    12 bytes of the stack below those that are dropped

Source: B. Titzer, "A fast in-place interpreter for WebAssembly", OOPSLA 2022.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass

from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.spec.opcodes import ROWS, Opcode
from wasinn_runtime.spec.types import ValType
from wasinn_runtime.valid.facts import UNREACHABLE, Branch, Facts, examine
from wasinn_runtime.valid.facts import cells as slots
from wasinn_runtime.valid.tries import find_tries

__all__ = ["ENTRY_BYTES", "SideTable", "make_side_table"]

ENTRY_BYTES = 16

# They do nothing, so that a branch may as well go on behind them.
_IDLE = frozenset(row for row in ROWS if row.name in ("block", "loop", "nop", "try"))
_END = next(row for row in ROWS if row.name == "end")
# Operands taken before a branch: those that decide it.
_CONDITIONS = {"br_if": 1, "br_table": 1, "br_on_null": 1, "if": 1}
_UNTYPED = frozenset({"drop", "select"})
# Whose entry says something of them instead: the first number.
_FACTS = _UNTYPED | {"rethrow"}
# What goes on with the stack as it is.
_KEEPING = frozenset({"else", "catch", "catch_all", "try_table"})


@dataclass(slots=True)
class SideTable:
    """Of one body.

    Attributes:
        words: the entries.
        first, last: the offsets in the module of the first instruction and of the final ``end``.
        local_cells: parameters and declared locals.
        kept_cells: after the locals, for exceptions that may be thrown again.
        operand_cells: the most that operands take.
        is_wide: whether operands or locals of two cells are handled by instructions that do not
            say so. Each reachable ``drop`` and ``select`` then has an entry, whose first number is
            the operand's cells.
        tries: where exceptions are caught, see ``valid/tries.py``; empty if nowhere.
    """

    words: array[int]
    first: int
    last: int
    local_cells: int
    kept_cells: int
    operand_cells: int
    is_wide: bool
    tries: array[int]


def make_side_table(
    module: ParsedModule, function: int, body: Body, all_wide: bool = False
) -> SideTable:
    """The side table of a body.

    Args:
        module: it belongs to.
        function: index among all functions, imports included.
        body: after validation.
        all_wide: treat it as ``is_wide`` anyway.
    """
    facts = examine(module, function, body)
    params = module.func_type(function).params
    types = [ty for _, ty in body.locals]
    cells = slots(params) + sum(count * slots((ty,)) for count, ty in body.locals)
    wide = (
        all_wide
        or ValType.V128 in params
        or ValType.V128 in types
        or bool(body.wide_drops)
        or ValType.V128 in body.select_types.values()
        or any(ty.value is ValType.V128 for ty in module.globals_)
    )
    instructions = body.instructions
    entries = dict(facts.branches)
    tries = find_tries(module, body, facts, 8 * cells)
    entries.update(tries.entries)
    for place in tries.without_entry:
        del entries[place]
    if wide:
        _untyped(body, facts, entries)
    places = sorted(entries)
    starts = [0]
    for place in places:
        starts.append(starts[-1] + len(entries[place]))
    words = array("i")
    append = words.append
    last = len(instructions) - 1
    for number, place in enumerate(places):
        row, _, at = instructions[place]
        family = row.meaning[0]
        if family in _FACTS:
            words.extend((entries[place][0].carried, 0, 0, 0))
            continue
        height = facts.heights[place] - _CONDITIONS.get(family, 0)
        for here, branch in enumerate(entries[place], starts[number]):
            target = _settle(instructions, branch.target, last)
            append(instructions[target][2] - at)
            append((starts[bisect_left(places, target)] - here) * ENTRY_BYTES)
            append(branch.carried)
            append(0 if family in _KEEPING else 8 * (height - branch.carried - branch.height))
    origin = instructions[0][2]

    def arrive(position: int) -> tuple[int, int]:
        position = _settle(instructions, position, last)
        entry = starts[bisect_left(places, position)] * ENTRY_BYTES
        return instructions[position][2] - origin, entry

    return SideTable(
        words,
        origin,
        instructions[-1][2],
        cells,
        tries.kept,
        facts.deepest,
        wide,
        tries.table(arrive),
    )


def _untyped(body: Body, facts: Facts, entries: dict[int, tuple[Branch, ...]]) -> None:
    """Add what says how many cells the operands of each drop and select take."""
    for position, (row, immediate, at) in enumerate(body.instructions):
        if row.meaning[0] not in _UNTYPED or facts.heights[position] == UNREACHABLE:
            continue
        if row.meaning[0] == "drop":
            two = at in body.wide_drops
        elif isinstance(immediate, tuple):
            two = immediate[0] is ValType.V128
        else:
            two = body.select_types[at] is ValType.V128
        entries[position] = (Branch(0, 0, 2 if two else 1),)


def _settle(instructions: list[tuple[Opcode, object, int]], target: int, last: int) -> int:
    """Where a branch may as well go on, past what does nothing."""
    while target != last:
        row = instructions[target][0]
        if row is not _END and row not in _IDLE:
            break
        target += 1
    return target
