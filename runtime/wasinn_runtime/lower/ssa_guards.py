"""Lowering the loops that ``lower/guards.py`` found: the check before them, and both versions.

In the plain version LLVM may reorder and drop accesses as it likes, since none of them can trap. A
fence that costs no instruction lets its stores have happened before anything after the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wasinn_runtime.lower.guards import Access, Affine, Guard
from wasinn_runtime.lower.state import memory_length
from wasinn_runtime.spec.types import FuncType

if TYPE_CHECKING:
    from wasinn_runtime.lower.ssa import Lowering

__all__ = ["FENCE", "lower_guarded"]

FENCE = 'fence syncscope("singlethread") seq_cst'


def lower_guarded(f: Lowering, position: int, guard: Guard, ty: FuncType) -> int:
    """Lower a loop plainly and exactly, and give the position after it.

    Args:
        f: the function, about to lower the loop.
        position: of the loop.
        guard: what tells which version is run.
        ty: the loop's type, without parameters.
    """
    w, stop = f.w, guard.end + 1
    f.begin_loop_check()
    plain, exact, join = (w.new_label(word) for word in ("plain", "exact", "join"))
    w.do(f"br i1 {_holds(f, guard)}, label %{plain}, label %{exact}")
    before, values = [*f.stack], [*f.values]
    leaving = f.leaving(position)
    ends: list[tuple[list[str], str]] = []
    for label in (plain, exact):
        w.label(label)
        f.stack, f.values, f.reachable = [*before], [*values], True
        f.begin_version(label == plain, guard)
        f.lower(position, stop)
        if f.reachable:
            if label == plain and guard.has_stores:
                w.do(FENCE)
            ends.append(([*f.stack[len(before) :], *[f.values[i] for i in leaving]], w.block))
            w.do(f"br label %{join}")
    f.end_versions()
    f.stack, f.reachable = before, bool(ends)
    if ends:
        w.label(join)
        f.stack.extend(f.join(ty.results, leaving, ends))
    return stop


def _holds(f: Lowering, guard: Guard) -> str:
    """An i1: whether every access of the loop that begins here is in bounds."""
    conditions: list[str] = []
    last = _last_iteration(f, guard, conditions)
    if f.longest_plain is not None:
        conditions.append(f.w.let(f"icmp ult i64 {last}, {f.longest_plain}"))
    extents: dict[int, int] = {}
    for access in guard.accesses:
        extents[access.memory] = max(extents.get(access.memory, 0), access.extent)
    lengths = {memory: memory_length(f, memory) for memory in extents}
    for memory, extent in extents.items():
        conditions.append(f.w.let(f"icmp uge i64 {lengths[memory]}, {extent}"))
    for access in guard.accesses:
        _check(f, access, last, lengths[access.memory], conditions)
    held = conditions[0]
    for condition in conditions[1:]:
        held = f.w.let(f"and i1 {held}, {condition}")
    return held


def _sum(f: Lowering, value: Affine) -> str:
    """The value of a sum now, i32."""
    w, total = f.w, str(value.signed)
    for local, by in value.terms:
        term = f.local(local)
        if by != 1:
            term = w.let(f"mul i32 {term}, {Affine(by).signed}")
        total = term if total == "0" else w.let(f"add i32 {total}, {term}")
    return total


def _wide(f: Lowering, value: Affine, how: str = "zext") -> str:
    return f.w.let(f"{how} i32 {_sum(f, value)} to i64")


def _last_iteration(f: Lowering, guard: Guard, conditions: list[str]) -> str:
    """The most that the number of the last iteration can be, from 0, as i64."""
    w, comparison = f.w, guard.goes_on
    if comparison.how == "ne":  # of a value that has to become 0
        return _until_zero(f, comparison.left, guard.step.signed, conditions)
    signed = comparison.how[0] == "s"
    how = "sext" if signed else "zext"
    low, high = (-(1 << 31), (1 << 31) - 1) if signed else (0, (1 << 32) - 1)
    moving, bound = _wide(f, comparison.left, how), _wide(f, comparison.right, how)
    rises = comparison.how[1:] in ("lt", "le")
    if comparison.how[1:] in ("le", "ge"):
        bound = w.let(f"add nsw i64 {bound}, {1 if rises else -1}")
    by = _pace(f, guard.step, conditions)
    # The value that ends the loop must exist; else it wraps and goes on.
    if rises:
        most = w.let(f"sub nsw i64 {high + 1}, {by}")
        conditions.append(w.let(f"icmp sle i64 {bound}, {most}"))
        way = w.let(f"sub nsw i64 {bound}, {moving}")
    else:
        least = w.let(f"add nsw i64 {low - 1}, {by}")
        conditions.append(w.let(f"icmp sge i64 {bound}, {least}"))
        way = w.let(f"sub nsw i64 {moving}, {bound}")
    way = w.let(f"call i64 @llvm.smax.i64(i64 {way}, i64 0)")
    if by == "1":
        return way
    up = w.let(f"add nsw i64 {way}, {by}")
    return w.let(f"udiv i64 {w.let(f'sub nsw i64 {up}, 1')}, {by}")


def _pace(f: Lowering, step: Affine, conditions: list[str]) -> str:
    """How far a comparison's left side moves, above 0, i64."""
    if step.is_const:
        return str(abs(step.signed))
    by = _wide(f, step, "sext")
    conditions.append(f.w.let(f"icmp sgt i64 {by}, 0"))
    return f.w.let(f"call i64 @llvm.smax.i64(i64 {by}, i64 1)")  # it is a divisor in any case


def _until_zero(f: Lowering, value: Affine, step: int, conditions: list[str]) -> str:
    """How many steps a value needs to become 0, as i64."""
    w, by, away = f.w, abs(step), _sum(f, value)
    if step > 0:
        away = w.let(f"sub i32 0, {away}")
    if by != 1:
        left_over = w.let(f"urem i32 {away}, {by}")
        conditions.append(w.let(f"icmp eq i32 {left_over}, 0"))
        away = w.let(f"udiv i32 {away}, {by}")
    return w.let(f"zext i32 {away} to i64")


def _check(f: Lowering, access: Access, last: str, length: str, conditions: list[str]) -> None:
    """First and last address lie in the memory; 64 bits hold whatever they are."""
    w = f.w
    limit = w.let(f"sub i64 {length}, {access.extent}")
    first = _wide(f, access.address)
    conditions.append(w.let(f"icmp ule i64 {first}, {limit}"))
    if access.step == Affine(0):
        return
    by = str(access.step.signed) if access.step.is_const else _wide(f, access.step, "sext")
    way = w.let(f"mul i64 {last}, {by}")
    final = w.let(f"add i64 {first}, {way}")
    conditions.append(w.let(f"icmp ule i64 {final}, {limit}"))
