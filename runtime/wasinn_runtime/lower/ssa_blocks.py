"""Blocks and branches in the LLVM tiers: labels, and the edges to them. See ``lower/ssa.py``.

What a block's label does with several edges is ``Lowering.join``: operands and locals become phi
nodes where their values differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wasinn_runtime.binary.module import Catch
from wasinn_runtime.lower.handlers import handler
from wasinn_runtime.lower.ssa_exceptions import end_try, end_try_table
from wasinn_runtime.lower.ssa_guards import FENCE
from wasinn_runtime.spec.opcodes import Opcode
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import FuncType, ValType

if TYPE_CHECKING:
    from wasinn_runtime.lower.ssa import Lowering

__all__ = ["Block"]


@dataclass(slots=True)
class Block:
    """A control frame.

    Attributes:
        incoming: the branches to its label, one entry an edge: the operands and then the values of
            the ``merged`` locals, and the block that it comes from.
        merged: the locals that may have different values there.
        else_stack, else_values: where an if began, the operands and the locals.
    """

    kind: str
    label: str
    type: FuncType
    height: int
    merged: tuple[int, ...] = ()
    incoming: list[tuple[list[str], str]] = field(default_factory=list)
    phis: list[int] = field(default_factory=list)
    phi_names: list[str] = field(default_factory=list)
    else_label: str = ""
    else_stack: list[str] = field(default_factory=list)
    else_values: list[str] = field(default_factory=list)
    # Of tries: the clauses of a try_table; the exception that a catch has, and where those go
    # that it does not take.
    clauses: tuple[Catch, ...] = ()
    cell: str | None = None
    other: str = ""

    @property
    def branch_types(self) -> tuple[ValType, ...]:
        return self.type.params if self.kind == "loop" else self.type.results


@handler("block")
def _block(f: Lowering, row: Opcode, immediate: object) -> None:
    f.open_block("block", f.module.block_type(immediate))


@handler("loop")
def _loop(f: Lowering, row: Opcode, immediate: object) -> None:
    w, ty = f.w, f.module.block_type(immediate)
    entry = f.pop(len(ty.params))
    block = Block("loop", w.new_label("loop"), ty, len(f.stack), f.merged(f.position))
    f.begin_loop(block, entry)
    f.blocks.append(block)
    if not f.is_version:
        f.at_loop(block)
    f.safepoint()


@handler("if")
def _if(f: Lowering, row: Opcode, immediate: object) -> None:
    w, ty = f.w, f.module.block_type(immediate)
    condition = f.condition()
    then = w.new_label("then")
    height = len(f.stack) - len(ty.params)
    block = Block("if", w.new_label("end"), ty, height, f.merged(f.position))
    block.else_label = w.new_label("else")
    block.else_stack, block.else_values = f.stack[height:], [*f.values]
    w.do(f"br i1 {condition}, label %{then}, label %{block.else_label}")
    w.label(then)
    f.blocks.append(block)


@handler("else")
def _else(f: Lowering, row: Opcode, immediate: object) -> None:
    block = f.blocks[-1]
    if f.reachable:
        f.w.do(f"br label %{f.branch(0)}")
    _otherwise(f, block)
    block.kind, block.else_label = "else", ""


def _otherwise(f: Lowering, block: Block) -> None:
    """Begin where an if goes that finds its condition false."""
    f.w.label(block.else_label)
    f.stack[block.height :] = block.else_stack
    f.values, block.else_values = block.else_values, []
    f.reachable = True


_TRIES = {"try_table": end_try_table, "try": end_try, "catch": end_try}


@handler("end")
def _end(f: Lowering, row: Opcode, immediate: object) -> None:
    block = f.blocks[-1]
    if block.kind in _TRIES:
        _TRIES[block.kind](f)
        return
    if block.kind == "loop":
        f.blocks.pop()
        f.end_loop(block)
        return
    if block.kind == "if":  # no else: the parameters are the results
        if f.reachable:
            f.w.do(f"br label %{f.branch(0)}")
        _otherwise(f, block)
    f.blocks.pop()
    count = len(block.type.results)
    if not block.incoming and f.reachable:  # nobody branches here: fall through
        if block.kind == "func":
            f.do_return(f.pop(count))
            f.reachable = False
        return
    if f.reachable:
        f.fall_out(block)
    del f.stack[block.height :]
    f.reachable = bool(block.incoming)
    if f.reachable:
        f.stack.extend(f.place_label(block))
        if block.kind == "func":
            f.do_return(f.pop(count))
            f.reachable = False


@handler("br")
def _br(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    if f.leaves_stores(immediate):
        f.w.do(FENCE)
    f.w.do(f"br label %{f.branch(immediate)}{f.back_edge(immediate)}")
    f.reachable = False


@handler("br_if")
def _br_if(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    condition = f.condition()
    after = f.w.new_label("next")
    if f.leaves_stores(immediate):
        leaving = f.w.new_label("leave")
        f.w.do(f"br i1 {condition}, label %{leaving}, label %{after}")
        f.w.label(leaving)
        f.w.do(FENCE)
        f.w.do(f"br label %{f.branch(immediate)}")
    else:
        back = f.back_edge(immediate)
        f.w.do(f"br i1 {condition}, label %{f.branch(immediate)}, label %{after}{back}")
    f.w.label(after)


@handler("br_table")
def _br_table(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, tuple)
    labels, default = immediate
    value = f.stack.pop()
    target = f.branch(default)
    cases = " ".join(f"i32 {i}, label %{f.branch(depth)}" for i, depth in enumerate(labels))
    f.w.do(f"switch i32 {value}, label %{target} [ {cases} ]")
    f.reachable = False


@handler("return")
def _return(f: Lowering, row: Opcode, immediate: object) -> None:
    f.do_return(f.stack[len(f.stack) - len(f.type.results) :])
    f.reachable = False


@handler("unreachable")
def _unreachable(f: Lowering, row: Opcode, immediate: object) -> None:
    f.w.trap(TrapCode.UNREACHABLE)
    f.reachable = False


@handler("nop")
def _nop(f: Lowering, row: Opcode, immediate: object) -> None:
    pass
