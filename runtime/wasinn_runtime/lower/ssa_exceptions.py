"""Throwing and catching in the LLVM tiers: landing pads that compare tags. See ``lower/ssa.py``.

A call inside a try is an ``invoke`` whose pad is the innermost try's. What that one does not take
goes to the try around it in the same function, then on to the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import SLOT_BYTES, ExceptionCell, VMContext, slot_cells
from wasinn_runtime.lower.handlers import handler
from wasinn_runtime.lower.writer import ELEMENT, INVARIANT, LLVM_TYPE
from wasinn_runtime.spec.opcodes import Opcode
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import FuncType

if TYPE_CHECKING:
    from wasinn_runtime.binary.module import Catch
    from wasinn_runtime.lower.ssa import Block, Lowering

__all__ = ["Try", "end_try", "end_try_table"]


@dataclass(slots=True)
class Try:
    """A try whose body is being written.

    Attributes:
        position: of its block among the open ones.
        pad: label of the landing pad; used once ``is_landed``.
        dispatch: label of the block where tags are compared.
        incoming: exceptions that tries inside pass on, with the block they come from.
    """

    position: int
    pad: str
    dispatch: str
    is_landed: bool = False
    incoming: list[tuple[str, str]] = field(default_factory=list)


def _store(f: Lowering) -> str:
    return f.w.load_field(f.vm, VMContext.STORE, "ptr", INVARIANT)


def _tag(f: Lowering, index: int) -> str:
    return f.w.load_field(f.vm, f.layout.tag(index), "ptr", INVARIANT)


def _throw_cell(f: Lowering, cell: str) -> None:
    f.may_throw(f"void @wasinn_throw(ptr {_store(f)}, ptr {cell})", False)
    f.w.do("unreachable")
    f.reachable = False


@handler("throw")
def _throw(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    w, ty = f.w, f.module.tag_type(immediate).type
    values = f.pop(len(ty.params))
    cell = w.let(f"call ptr @wasinn_exception(ptr {_store(f)}, ptr {_tag(f, immediate)})")
    payload = _payload(f, ty, cell)
    at = 0
    for t, value in zip(ty.params, values, strict=True):
        w.do(f"store {LLVM_TYPE[t]} {value}, ptr {w.field(payload, at)}, align 8, {ELEMENT}")
        at += SLOT_BYTES * slot_cells((t,))
    _throw_cell(f, cell)


@handler("throw_ref")
def _throw_ref(f: Lowering, row: Opcode, immediate: object) -> None:
    cell = f.stack.pop()
    f.w.trap_if(f.w.let(f"icmp eq ptr {cell}, null"), TrapCode.NULL_EXCEPTION_REFERENCE)
    _throw_cell(f, cell)


def _payload(f: Lowering, ty: FuncType, cell: str) -> str:
    """Where the values of an exception are."""
    if slot_cells(ty.params) <= ExceptionCell.VALUE_CELLS:
        return f.w.field(cell, ExceptionCell.VALUES)
    return f.w.load_field(cell, ExceptionCell.PAYLOAD, "ptr", ELEMENT)


def _values(f: Lowering, tag: int, cell: str) -> list[str]:
    """What a caught exception carries."""
    w, ty = f.w, f.module.tag_type(tag).type
    payload = _payload(f, ty, cell) if ty.params else ""
    values, at = [], 0
    for t in ty.params:
        place = w.field(payload, at)
        values.append(w.let(f"load {LLVM_TYPE[t]}, ptr {place}, align 8, {ELEMENT}"))
        at += SLOT_BYTES * slot_cells((t,))
    return values


def _matches(f: Lowering, tag: int, cell: str) -> str:
    has = f.w.load_field(cell, ExceptionCell.TAG, "ptr", ELEMENT)
    return f.w.let(f"icmp eq ptr {has}, {_tag(f, tag)}")


def _caught(f: Lowering, cell: str, keep: bool) -> None:
    """Go on as a guest; ``keep`` if references to the exception stay."""
    f.w.do(f"call void @wasinn_caught(ptr {_store(f)}, ptr {cell}, i1 {str(keep).lower()})")


# --- the ends of tries --------------------------------------------------------------------------


def _begin_try(f: Lowering) -> None:
    """The block on top is a try from now on."""
    w = f.w
    f.tries.append(Try(len(f.blocks) - 1, w.new_label("pad"), w.new_label("thrown")))


def _land(f: Lowering, what: Try) -> str | None:
    """Begin where exceptions of a try arrive; None if there can be none."""
    w = f.w
    if what.is_landed:
        f.has_pads = True
        w.label(what.pad)
        landed = w.let("landingpad { ptr, i32 } cleanup")
        what.incoming.append((w.let(f"extractvalue {{ ptr, i32 }} {landed}, 0"), what.pad))
        w.do(f"br label %{what.dispatch}")
    if not what.incoming:
        return None
    w.label(what.dispatch)
    edges = ", ".join(f"[ {cell}, %{at} ]" for cell, at in what.incoming)
    return w.let(f"phi ptr {edges}")


def _pass_on(f: Lowering, cell: str, outer: Try | None) -> None:
    """Give an exception to another try of this function, or to the caller."""
    w = f.w
    if outer is not None:
        outer.incoming.append((cell, w.block))
        w.do(f"br label %{outer.dispatch}")
        return
    whole = w.let(f"insertvalue {{ ptr, i32 }} zeroinitializer, ptr {cell}, 0")
    w.do(f"resume {{ ptr, i32 }} {whole}")


def _innermost(f: Lowering) -> Try | None:
    return f.tries[-1] if f.tries else None


def _leave(f: Lowering, block: Block) -> None:
    """What falls out of a part of a try goes to its end."""
    if f.reachable:
        block.incoming.append((f.stack[len(f.stack) - len(block.type.results) :], f.w.block))
        f.w.do(f"br label %{block.label}")
    del f.stack[block.height :]
    f.reachable = False


def _finish(f: Lowering, block: Block) -> None:
    """Go on after a try, if anybody comes there."""
    f.reachable = bool(block.incoming)
    if f.reachable:
        f.stack.extend(f.place_label(block))


# --- try_table ----------------------------------------------------------------------------------


@handler("try_table")
def _try_table(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, tuple)
    block_type, clauses = immediate
    f.open_block("try_table", f.module.block_type(block_type)).clauses = clauses
    _begin_try(f)


def end_try_table(f: Lowering) -> None:
    """Compare tags, clause by clause."""
    block = f.blocks.pop()
    _leave(f, block)
    cell = _land(f, f.tries.pop())
    if cell is not None and _clauses(f, block.clauses, cell):
        _pass_on(f, cell, _innermost(f))
    _finish(f, block)


def _clauses(f: Lowering, clauses: tuple[Catch, ...], cell: str) -> bool:
    """Whether exceptions remain that no clause takes."""
    w = f.w
    for tag, label, with_ref in clauses:
        after = ""
        if tag is not None:
            hit, after = w.new_label("catch"), w.new_label("other")
            w.do(f"br i1 {_matches(f, tag, cell)}, label %{hit}, label %{after}")
            w.label(hit)
        values = [] if tag is None else _values(f, tag, cell)
        _caught(f, cell, with_ref)
        if with_ref:
            values.append(cell)
        height = len(f.stack)
        f.stack.extend(values)
        w.do(f"br label %{f.branch(label)}")
        del f.stack[height:]
        if tag is None:
            return False
        w.label(after)
    return True


# --- the legacy form ----------------------------------------------------------------------------


@handler("try")
def _try(f: Lowering, row: Opcode, immediate: object) -> None:
    f.open_block("try", f.module.block_type(immediate))
    _begin_try(f)


def _next_catch(f: Lowering) -> Block | None:
    """Begin what follows the body of a try or of a catch; None if no exception comes here."""
    block = f.blocks[-1]
    _leave(f, block)
    if block.kind == "try":
        block.kind = "catch"
        block.cell = _land(f, f.tries.pop())
    elif block.other:
        f.w.label(block.other)
        block.other = ""
    else:  # the one before took all
        return None
    return None if block.cell is None else block


@handler("catch")
def _catch(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    block = _next_catch(f)
    if block is None or block.cell is None:
        return
    w = f.w
    hit, block.other = w.new_label("catch"), w.new_label("other")
    w.do(f"br i1 {_matches(f, immediate, block.cell)}, label %{hit}, label %{block.other}")
    w.label(hit)
    f.stack.extend(_values(f, immediate, block.cell))
    _caught(f, block.cell, f.rethrows)
    f.reachable = True


@handler("catch_all")
def _catch_all(f: Lowering, row: Opcode, immediate: object) -> None:
    block = _next_catch(f)
    if block is not None and block.cell is not None:
        _caught(f, block.cell, f.rethrows)
        f.reachable = True


def end_try(f: Lowering) -> None:
    """End a try that has catches, or none at all."""
    block = f.blocks[-1]
    goes_on = _next_catch(f)
    f.blocks.pop()
    if goes_on is not None and block.cell is not None:
        _pass_on(f, block.cell, _innermost(f))
    _finish(f, block)


@handler("delegate")
def _delegate(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    block = f.blocks.pop()
    _leave(f, block)
    cell = _land(f, f.tries.pop())
    if cell is not None:
        target = len(f.blocks) - 1 - immediate
        around = [t for t in f.tries if t.position <= target]
        _pass_on(f, cell, around[-1] if around else None)
    _finish(f, block)


@handler("rethrow")
def _rethrow(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    cell = f.blocks[-1 - immediate].cell
    assert cell is not None
    _throw_cell(f, cell)
