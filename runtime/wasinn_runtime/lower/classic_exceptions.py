"""Throwing and catching in the classic interpreter.

Where exceptions go is in a table beside the code (``valid/tries.py``), which is looked at when one
is thrown: first for the running function, then for its callers, one control frame after the other.
What none of them catches goes on to whoever called this interpreter.
"""

from __future__ import annotations

from wasinn_runtime.abi.layout import ExceptionCell, TagDef
from wasinn_runtime.lower.classic_body import CLASSIC, Body, Code
from wasinn_runtime.lower.classic_control import Frame, copy_cells, minus, restore
from wasinn_runtime.lower.late_number import LateNumber
from wasinn_runtime.lower.writer import ELEMENT, INVARIANT
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import ValType

__all__ = ["BOTTOM_SYMBOL", "CLAUSE_BYTES", "RANGE_BYTES", "THROWING", "unwind"]

# See valid/tries.py.
RANGE_BYTES, CLAUSE_BYTES = 16, 24

BOTTOM_SYMBOL = f"{CLASSIC.name}.bottom"
_EXNREF = ValType.EXNREF


def _go_up(b: Body, cell: str, pc: str = "%pc") -> None:
    """End the block by looking for who catches an exception, thrown at ``pc``."""
    b.cells = [b.let(f"ptrtoint ptr {cell} to i64")]
    b.jump_in_state(f"@{CLASSIC.name}_unwind", pc=pc)


def _throw(b: Body) -> None:
    number = b.unsigned()
    tag = b.load_field(b.vm, b.layout.tag(LateNumber(b, number)), "ptr", INVARIANT)
    b.spill()
    top = b.place_below(0)
    b.save_stacks(top)
    cell = b.let(f"call ptr @wasinn_exception(ptr {b.store_context()}, ptr {tag})")
    size = b.let(f"shl i64 {b.load_field(tag, TagDef.CELLS, 'i64', INVARIANT)}, 3")
    payload = b.load_field(cell, ExceptionCell.PAYLOAD, "ptr", ELEMENT)
    copy_cells(b, payload, minus(b, top, size), size)
    _go_up(b, cell)


def _throw_ref(b: Body) -> None:
    cell = b.pop(_EXNREF)
    is_null = b.let(f"icmp eq ptr {cell}, null")
    b.trap_if(is_null, TrapCode.NULL_EXCEPTION_REFERENCE)
    _go_up(b, cell)


def _rethrow(b: Body) -> None:
    """Its entry of the side table says where the exception is kept."""
    place = b.let(f"sext i32 {b.load_field(b.at['stp'], 0, 'i32', INVARIANT)} to i64")
    kept = b.let(f"getelementptr i8, ptr {b.at['fp']}, i64 {place}")
    _go_up(b, b.let(f"load ptr, ptr {kept}"))


THROWING = {"throw": _throw, "throw_ref": _throw_ref, "rethrow": _rethrow}


class _Search:
    """A loop over records of 32-bit words."""

    def __init__(self, b: Body, first: str, count: str, size: int, hint: str) -> None:
        self.b, before = b, b.block
        self.label, self.body, self.over = (b.new_label(hint) for _ in range(3))
        self.at = f"%{self.label}.at"
        self._size = size
        b.do(f"br label %{self.label}")
        b.label(self.label)
        self._phi = b.reserve()
        self._before, self._first = before, first
        scaled = b.let(f"mul i64 {count}, {size}")
        end = b.let(f"getelementptr i8, ptr {first}, i64 {scaled}")
        ends = b.let(f"icmp uge ptr {self.at}, {end}")
        b.do(f"br i1 {ends}, label %{self.over}, label %{self.body}")
        b.label(self.body)

    def word(self, number: int) -> str:
        """A word of the record, as i64."""
        place = self.b.field(self.at, 4 * number)
        return self.b.let(f"sext i32 {self.b.let(f'load i32, ptr {place}')} to i64")

    def end(self) -> None:
        """Go on with the next record; what follows is after the last."""
        b = self.b
        after = b.let(f"getelementptr i8, ptr {self.at}, i64 {self._size}")
        phi = f"phi ptr [ {self._first}, %{self._before} ], [ {after}, %{b.block} ]"
        b.fill(self._phi, f"{self.at} = {phi}")
        b.do(f"br label %{self.label}")
        b.label(self.over)


def unwind(b: Body) -> None:
    """An exception, in t, was thrown at pc: go on where it is caught."""
    cell = b.pop(_EXNREF)
    tries = b.of_code(Code.TRIES, "ptr")
    look, up = b.new_label("look"), b.new_label("up")
    has_none = b.let(f"icmp eq ptr {tries}, null")
    b.do(f"br i1 {has_none}, label %{up}, label %{look}")
    forked = b.fork()
    b.label(look)
    first = b.of_code(Code.FIRST, "ptr")
    place = b.let("ptrtoint ptr %pc to i64")
    place = b.let(f"sub i64 {place}, {b.let(f'ptrtoint ptr {first} to i64')}")
    count = b.let(f"zext i32 {b.let(f'load i32, ptr {tries}')} to i64")
    ranges = _Search(b, b.field(tries, 4), count, RANGE_BYTES, "range")
    after_start = b.let(f"icmp sge i64 {place}, {ranges.word(0)}")
    before_end = b.let(f"icmp slt i64 {place}, {ranges.word(1)}")
    within = b.let(f"and i1 {after_start}, {before_end}")
    hit, miss = b.new_label("within"), b.new_label("beside")
    b.do(f"br i1 {within}, label %{hit}, label %{miss}")
    b.label(hit)
    begin = b.let(f"getelementptr i32, ptr {tries}, i64 {ranges.word(3)}")
    clauses = _Search(b, begin, ranges.word(2), CLAUSE_BYTES, "clause")
    number = clauses.word(0)
    caught, compare, other = (b.new_label(hint) for hint in ("caught", "compare", "other"))
    b.do(f"br i1 {b.let(f'icmp slt i64 {number}, 0')}, label %{caught}, label %{compare}")
    b.label(compare)
    tag = b.load_field(b.vm, b.layout.tag(LateNumber(b, number)), "ptr", INVARIANT)
    has = b.load_field(cell, ExceptionCell.TAG, "ptr", ELEMENT)
    b.do(f"br i1 {b.let(f'icmp eq ptr {has}, {tag}')}, label %{caught}, label %{other}")
    b.label(caught)
    _arrive(b, clauses, cell, first)
    b.label(other)
    clauses.end()
    b.do(f"br label %{up}")
    b.label(miss)
    ranges.end()
    b.do(f"br label %{up}")
    b.label(up)
    b.join(forked)
    _to_caller(b, cell)


def _arrive(b: Body, clause: _Search, cell: str, first: str) -> None:
    """End the block by going on at a clause's target."""
    forked = b.fork()
    store, fp = b.store_context(), b.at["fp"]
    bottom = b.let(f"getelementptr i8, ptr {fp}, i64 {b.of_code(Code.LOCAL_BYTES)}")
    sp = b.let(f"getelementptr i64, ptr {bottom}, i64 {clause.word(4)}")
    pushed, with_ref = b.new_label("pushed"), b.new_label("reference")
    # Clauses with a tag push what the exception carries.
    carries = b.let(f"icmp sge i64 {clause.word(0)}, 0")
    tag = b.load_field(cell, ExceptionCell.TAG, "ptr", ELEMENT)
    size = b.let(f"shl i64 {b.load_field(tag, TagDef.CELLS, 'i64', INVARIANT)}, 3")
    size = b.let(f"select i1 {carries}, i64 {size}, i64 0")
    copy_cells(b, sp, b.load_field(cell, ExceptionCell.PAYLOAD, "ptr", ELEMENT), size)
    sp = b.let(f"getelementptr i8, ptr {sp}, i64 {size}")
    plain, keep = b.new_label("plain"), b.new_label("keep")
    wants = b.let(f"icmp ne i64 {clause.word(1)}, 0")
    b.do(f"br i1 {wants}, label %{with_ref}, label %{plain}")
    b.label(with_ref)
    b.do(f"store i64 1, ptr {b.field(cell, ExceptionCell.SHARED)}, {ELEMENT}")
    b.do(f"store ptr {cell}, ptr {sp}")
    above = b.let(f"getelementptr i8, ptr {sp}, i64 8")
    b.do(f"br label %{pushed}")
    b.label(plain)
    kept = clause.word(5)
    release = b.new_label("release")
    b.do(f"br i1 {b.let(f'icmp slt i64 {kept}, 0')}, label %{release}, label %{keep}")
    b.label(release)
    b.do(f"call void @wasinn_release(ptr {store}, ptr {cell})")
    b.do(f"br label %{pushed}")
    b.label(keep)
    b.do(f"store ptr {cell}, ptr {b.let(f'getelementptr i8, ptr {fp}, i64 {kept}')}")
    b.do(f"br label %{pushed}")
    b.label(pushed)
    sp = b.let(f"phi ptr [ {above}, %{with_ref} ], [ {sp}, %{release} ], [ {sp}, %{keep} ]")
    b.cells = []
    b.move_stack(sp)
    table = b.of_code(Code.SIDE_TABLE, "ptr")
    stp = b.let(f"getelementptr i8, ptr {table}, i64 {clause.word(3)}")
    b.dispatch(b.let(f"getelementptr i8, ptr {first}, i64 {clause.word(2)}"), stp)
    b.join(forked)


def _to_caller(b: Body, cell: str) -> None:
    """End the block by looking in the caller, or in who called this interpreter."""
    caller = b.let(f"load ptr, ptr {b.field(b.at['cs'], Frame.CD)}")
    last, more = b.new_label("last"), b.new_label("caller")
    is_last = b.let(f"icmp eq ptr {caller}, @{BOTTOM_SYMBOL}")
    b.do(f"br i1 {is_last}, label %{last}, label %{more}")
    b.label(last)
    b.do(f"call void @wasinn_throw(ptr {b.store_context()}, ptr {cell})")
    b.do("unreachable")
    b.label(more)
    pc = b.let(f"getelementptr i8, ptr {restore(b)}, i64 -1")  # in the call
    _go_up(b, cell, pc)
