"""How the walk of ``fast_code.py`` treats exceptions. See also ``fast_calls.py``.

An exception arrives with the stack as it was when its try began, and stays in a slot of the try's
own, since whatever is caught may be thrown again.
"""

from __future__ import annotations

from typing import Any

from wasinn_runtime.abi.layout import SLOT_BYTES, slot_cells
from wasinn_runtime.lower.fast_code import FAMILIES, Block, Try, Walk
from wasinn_runtime.lower.fast_families import (
    ENDS_OF_TRIES,
    PARTS_OF_TRY,
    branch_to,
    dead,
    family,
    finish_block,
    in_try,
    move_results,
    spill_registers,
)
from wasinn_runtime.lower.fast_names import by_kinds
from wasinn_runtime.lower.fast_plans import OTHER, PLANS
from wasinn_runtime.spec.opcodes import ROWS, Opcode
from wasinn_runtime.spec.types import ValType

__all__: list[str] = []

_EXNREF = ValType.EXNREF


# --- throwing -----------------------------------------------------------------------------------


@family("throw")
def _throw(f: Walk, row: Opcode, imm: Any) -> None:
    cells = slot_cells(f.module.tag_type(imm).type.params)
    spill_registers(f)
    first = len(f.stack) - cells
    f.settle(first, True)
    place = f.own_slot(first)
    f.emit("throw", f.layout.tag(imm), place, place + SLOT_BYTES * cells)
    in_try(f)
    dead(f)


@family("throw_ref")
def _throw_ref(f: Walk, row: Opcode, imm: Any) -> None:
    handler, words = f.take((_EXNREF,), by_kinds("throw_ref"))
    spill_registers(f)
    f.numbers.append(handler)
    f.words.append(tuple(words))
    in_try(f)
    dead(f)


@family("rethrow")
def _rethrow(f: Walk, row: Opcode, imm: Any) -> None:
    what = f.blocks[-1 - imm].what
    assert what is not None
    f.emit("throw_ref:s", what.cell)
    in_try(f)
    dead(f)


# --- tries --------------------------------------------------------------------------------------


def _begin(f: Walk, kind: str, block_type: object) -> Block:
    ty = f.module.block_type(block_type)
    f.settle(0, False)
    height = len(f.stack) - slot_cells(ty.params)
    block = Block(kind, ty, height, f.new_label(), slot_cells(ty.results))
    block.what = Try(len(f.blocks), f.cells, f.new_label())
    f.cells += SLOT_BYTES
    f.blocks.append(block)
    f.tries.append(block.what)
    return block


@family("try_table")
def _try_table(f: Walk, row: Opcode, imm: Any) -> None:
    block_type, clauses = imm
    _begin(f, "try_table", block_type).clauses = clauses


@family("try")
def _try(f: Walk, row: Opcode, imm: Any) -> None:
    _begin(f, "try", imm)


def _leave(f: Walk, block: Block, reachable: bool) -> None:
    """What falls out of a part of a try goes to its end."""
    if reachable:
        move_results(f, block)
        block.used = True
        f.emit("jump", block.label)
    del f.stack[block.height :]
    f.rp[:] = [-1] * 4


def _land(f: Walk, what: Try) -> bool:
    """Begin where exceptions of a try arrive; whether there can be any."""
    assert f.tries.pop() is what
    if what.used:
        f.place_label(what.label)
        f.emit("copy.r:r", what.cell)
    return what.used


def _pass_on(f: Walk, what: Try) -> None:
    """Give a try's exception to the try around it, or to the caller."""
    f.emit("throw_ref:s", what.cell)
    in_try(f)


def _match(f: Walk, what: Try, tag: int) -> int:
    """Go on if the exception has a tag, else at the label that is given."""
    other = f.new_label()
    f.emit("match", what.cell, f.layout.tag(tag), other)
    return other


def _push_values(f: Walk, what: Try, tag: int) -> None:
    """What a caught exception carries."""
    types = f.module.tag_type(tag).type.params
    cells = slot_cells(types)
    if cells:
        place = f.own_slot(len(f.stack))
        f.top = max(f.top, place + SLOT_BYTES * cells)
        f.emit("payload", what.cell, place, SLOT_BYTES * cells)
        f.push(types)


def _end_try_table(f: Walk, block: Block, reachable: bool) -> None:
    what = block.what
    assert what is not None
    _leave(f, block, reachable)
    if _land(f, what) and _clauses(f, block, what):
        _pass_on(f, what)
    finish_block(f, block, False)


def _clauses(f: Walk, block: Block, what: Try) -> bool:
    """Whether exceptions remain that no clause takes."""
    for tag, label, with_ref in block.clauses:
        other = None if tag is None else _match(f, what, tag)
        if tag is not None:
            _push_values(f, what, tag)
        if with_ref:
            f.emit("share", what.cell)
            f.stack.append(what.cell)
        else:
            f.emit("release", what.cell)
        branch_to(f, label)
        del f.stack[block.height :]
        f.rp[:] = [-1] * 4
        if other is None:
            return False
        f.place_label(other)
    return True


# --- the legacy form ----------------------------------------------------------------------------


def _next_part(f: Walk, block: Block, reachable: bool) -> bool:
    """Begin what follows the body of a try or of a catch; whether an exception comes here."""
    _leave(f, block, reachable)
    assert block.what is not None
    if block.kind == "try":
        block.kind = "catch"
        return _land(f, block.what)
    if block.other:
        f.place_label(block.other)
        block.other = 0
        return True
    return False  # the one before took all


def _caught(f: Walk, what: Try) -> None:
    if not f.rethrows:
        f.emit("release", what.cell)


def _catch_of(f: Walk, imm: Any, reachable: bool) -> None:
    block = f.blocks[-1]
    if not _next_part(f, block, reachable):
        dead(f)
        return
    assert block.what is not None
    block.other = _match(f, block.what, imm)
    _push_values(f, block.what, imm)
    _caught(f, block.what)


def _catch_all_of(f: Walk, imm: Any, reachable: bool) -> None:
    block = f.blocks[-1]
    if not _next_part(f, block, reachable):
        dead(f)
        return
    assert block.what is not None
    _caught(f, block.what)


def _delegate_of(f: Walk, imm: Any, reachable: bool) -> None:
    block = f.blocks.pop()
    what = block.what
    assert what is not None
    _leave(f, block, reachable)
    if _land(f, what):
        target = len(f.blocks) - 1 - imm
        kept = f.tries
        f.tries = [t for t in kept if t.position <= target]
        _pass_on(f, what)
        f.tries = kept
    finish_block(f, block, False)


@family("catch")
def _catch(f: Walk, row: Opcode, imm: Any) -> None:
    _catch_of(f, imm, True)


@family("catch_all")
def _catch_all(f: Walk, row: Opcode, imm: Any) -> None:
    _catch_all_of(f, imm, True)


@family("delegate")
def _delegate(f: Walk, row: Opcode, imm: Any) -> None:
    _delegate_of(f, imm, True)


def _end_try(f: Walk, block: Block, reachable: bool) -> None:
    """The end of a block that is a try, or a try's last catch. It is no longer among the open."""
    if block.kind == "try_table":
        _end_try_table(f, block, reachable)
        return
    assert block.what is not None
    if _next_part(f, block, reachable):
        _pass_on(f, block.what)
    finish_block(f, block, False)


ENDS_OF_TRIES.append(_end_try)
PARTS_OF_TRY.update(catch=_catch_of, catch_all=_catch_all_of, delegate=_delegate_of)

# All families are known by now.
_missing = [row.name for row in ROWS if PLANS[row][0] == OTHER and row.meaning[0] not in FAMILIES]
if _missing:
    raise ValueError(f"instructions the fast interpreter cannot walk: {', '.join(_missing)}")
