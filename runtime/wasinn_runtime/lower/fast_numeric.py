"""Handlers of rows that have a signature: numbers, vectors, and accesses of memory.

See ``fast_handlers.py``.
"""

from __future__ import annotations

from functools import partial

from wasinn_runtime.lower.fast_body import Body, class_of
from wasinn_runtime.lower.fast_shapes import (
    MEMORY,
    SHARED_MEMORY,
    SHARING_MATTERS,
    add,
    branch,
    kinds_of,
    reads_of,
)
from wasinn_runtime.lower.meanings import MEANINGS
from wasinn_runtime.lower.simd import LANE_MEANINGS
from wasinn_runtime.lower.state import STATE_MEANINGS
from wasinn_runtime.spec.opcodes import ROWS, Imm, Opcode
from wasinn_runtime.spec.types import ValType

__all__ = ["add_numeric"]

_MEMORIES = MEMORY | SHARED_MEMORY


def _numeric(row: Opcode, kinds: str, dest: str, b: Body) -> None:
    assert row.params is not None
    assert row.results is not None
    operands = [b.operand(kind, ty) for kind, ty in zip(kinds, row.params, strict=True)]
    b.result(dest, row.results[0], MEANINGS[row.meaning[0]](b, row, operands))


def _compare(row: Opcode, kinds: str, wanted: int, b: Body) -> None:
    """A comparison and the branch that its result decides."""
    assert row.params is not None
    operands = [b.operand(kind, ty) for kind, ty in zip(kinds, row.params, strict=True)]
    branch(b, MEANINGS[row.meaning[0]](b, row, operands), wanted)


def addressed(row: Opcode, where: str) -> tuple[ValType, ...]:
    """The operands' types of an access of a memory."""
    assert row.params is not None
    return (_MEMORIES[where].address, *row.params[1:])


def _access(row: Opcode, where: str, kinds: str, dest: str, b: Body) -> None:
    assert row.results is not None
    types = addressed(row, where)
    operands = [b.operand(kind, ty) for kind, ty in zip(kinds, types, strict=True)]
    memory = b.number(_MEMORIES[where]) if where else 0
    found = STATE_MEANINGS[row.meaning[0]](b, row, (0, b.number(), memory), operands)
    if row.results:
        b.result(dest, row.results[0], found[0])


def _with_lane(row: Opcode, lane: int, kinds: str, dest: str, b: Body) -> None:
    """A lane is in the name: one that only the stream knows would go through memory."""
    _immediate(row, kinds, dest, b, lane)


def _with_mask(row: Opcode, kinds: str, dest: str, b: Body) -> None:
    """Words: operands, the mask's two."""
    _immediate(row, kinds, dest, b, None)


def _immediate(row: Opcode, kinds: str, dest: str, b: Body, lane: int | None) -> None:
    assert row.params is not None
    assert row.results is not None
    operands = [b.operand(kind, ty) for kind, ty in zip(kinds, row.params, strict=True)]
    immediate: object = lane
    if lane is None:
        immediate = b.word("<16 x i8>")
        b.words += 1
    b.result(dest, row.results[0], LANE_MEANINGS[row.meaning[0]](b, row, immediate, operands))


def _access_lane(row: Opcode, where: str, kinds: str, dest: str, b: Body) -> None:
    """Words: operands, the memory's place if it has one in the name, the offset, the lane."""
    assert row.results is not None
    types = addressed(row, where)
    operands = [b.operand(kind, ty) for kind, ty in zip(kinds, types, strict=True)]
    memory = b.number(_MEMORIES[where]) if where else 0
    offset, lane = b.number(), b.let(f"trunc i64 {b.word()} to i32")
    found = STATE_MEANINGS[row.meaning[0]](b, row, (0, offset, memory, lane), operands)
    if row.results:
        b.result(dest, row.results[0], found[0])


def _add_lanes(row: Opcode) -> None:
    """Of a row with lanes or a mask as its immediate."""
    assert row.params is not None
    assert row.results is not None
    result = class_of(row.results[0])
    lanes = range(row.lanes) if row.imm is Imm.LANE else (None,)
    for lane in lanes:
        # Bytes and halves are seldom put in one by one.
        rare = lane is not None and len(row.params) > 1 and row.lanes > 4
        for kinds in kinds_of(row.params, rare):
            if "i" in kinds:
                continue
            reads = reads_of(kinds, row.params)
            for dest in _dests(row)[-1:] if rare else _dests(row):
                if lane is None:
                    write = partial(_with_mask, row, kinds, dest)
                    add(f"{row.name}:{kinds}{dest}", write, reads, result)
                else:
                    write = partial(_with_lane, row, lane, kinds, dest)
                    add(f"{row.name}.{lane}:{kinds}{dest}", write, reads, result)


def _dests(row: Opcode) -> tuple[str, ...]:
    return (">r", ">s") if row.results else ("",)


def add_numeric(features: frozenset[str]) -> None:
    """Put them on the list."""
    for row in ROWS:
        if row.feature not in features or row.params is None or row.results is None:
            continue
        family = row.meaning[0]
        result = class_of(row.results[0]) if row.results else ""
        if row.imm is Imm.NONE and family in MEANINGS:
            for kinds in kinds_of(row.params, constant_first=_takes_constant_first(row)):
                reads = reads_of(kinds, row.params)
                for dest in _dests(row):
                    write = partial(_numeric, row, kinds, dest)
                    add(f"{row.name}:{kinds}{dest}", write, reads, result)
                if is_comparison(row):
                    for wanted in (0, 1):
                        write = partial(_compare, row, kinds, wanted)
                        add(f"{row.name}:{kinds}?{wanted}", write, reads, "", True, True)
        elif family in LANE_MEANINGS and row.params:
            _add_lanes(row)
        elif row.imm is Imm.MEMARG_LANE:
            for where in MEMORY:
                kinds = "s" * len(row.params)
                for dest in _dests(row)[-1:]:
                    write = partial(_access_lane, row, where, kinds, dest)
                    add(f"{row.name}{where}:{kinds}{dest}", write, "", result)
        elif row.imm is Imm.MEMARG and family in STATE_MEANINGS:
            for where in _MEMORIES if family in SHARING_MATTERS else MEMORY:
                types = addressed(row, where)
                rare = bool(where) or family.startswith("atomic.")
                for kinds in kinds_of(types, rare, constants_only=True):
                    reads = reads_of(kinds, types)
                    for dest in _dests(row)[-1:] if rare else _dests(row):
                        write = partial(_access, row, where, kinds, dest)
                        add(f"{row.name}{where}:{kinds}{dest}", write, reads, result)


def _takes_constant_first(row: Opcode) -> bool:
    """Whether compilers leave a constant there: not where they can turn the operands round."""
    return row.meaning[0] in ("div", "shift") or row.meaning[-1] in ("sub", "fsub", "fdiv")


def is_comparison(row: Opcode) -> bool:
    """Whether its result is mostly wanted by a branch."""
    return row.meaning[0] in ("eqz", "icmp", "fcmp")
