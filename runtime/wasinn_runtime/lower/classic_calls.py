"""Calls in the classic interpreter: by number, through tables, by reference, and in tail position.

A call leaves the caller's registers in a control frame (``classic_control.Frame``); the callee's
frame begins where its arguments are. What this interpreter does not run is called natively, in the
handlers' twins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from wasinn_runtime.abi.layout import CodeEntry, FuncRef, StoreContext, VMContext
from wasinn_runtime.lower.classic_body import CLASSIC, Body, Code, ModuleFacts
from wasinn_runtime.lower.classic_control import Control, Frame, Write, copy_cells, leave, minus
from wasinn_runtime.lower.late_number import LateNumber
from wasinn_runtime.lower.state import table_element, table_index, table_size
from wasinn_runtime.lower.threaded import Header
from wasinn_runtime.lower.writer import COLD, ELEMENT, INVARIANT, STATE
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import Limits, TableType, ValType

__all__ = ["BOTTOM_PC", "CALLS", "WIDE_CALLS", "begin"]

# Where the lowest frame of a native call goes on; the byte after it if the caller makes tail calls.
BOTTOM_PC = f"{CLASSIC.name}.bottom.pc"
_I64, _FUNCREF = ValType.I64, ValType.FUNCREF


@dataclass(frozen=True, slots=True)
class _Callee:
    """What a call found.

    Attributes:
        entry: the CodeEntry.
        context: the context.
        own: whether it is of the running instance.
        cells: gives parameters in the low 16 bits of an i32, results in the high ones.
    """

    entry: str
    context: str
    own: bool
    cells: Callable[[], str]


def _function(b: Body) -> _Callee:
    """A function by its index; imports are the twin's affair."""
    number = b.unsigned()
    imported = b.of_code(Code.IMPORTED_FUNCTIONS)
    defined = b.let(f"sub i64 {number}, {imported}")
    is_import = b.let(f"icmp slt i64 {defined}, 0")
    entries = b.load_field(b.vm, VMContext.ENTRIES, "ptr", INVARIANT)
    offset = b.let(f"mul i64 {defined}, {CodeEntry.BYTES}")
    entry = b.let(f"getelementptr i8, ptr {entries}, i64 {offset}")

    def cells() -> str:
        return b.fact_of(ModuleFacts.FUNCTION_CELLS, number, "i32")

    if b.short:
        b.use_twin(is_import)
        return _Callee(entry, b.vm, True, cells)
    imports, done = b.new_label("import"), b.new_label("found")
    before = b.block
    b.do(f"br i1 {is_import}, label %{imports}, label %{done}")
    b.label(imports)
    begins = b.layout.imported_function(0)
    offset = b.let(f"add i64 {begins}, {b.let(f'mul i64 {number}, {FuncRef.BYTES}')}")
    reference = b.let(f"getelementptr i8, ptr {b.vm}, i64 {offset}")
    other = _referred(b, reference)
    b.do(f"br label %{done}")
    b.label(done)
    entry = b.let(f"phi ptr [ {entry}, %{before} ], [ {other[0]}, %{imports} ]")
    context = b.let(f"phi ptr [ {b.vm}, %{before} ], [ {other[1]}, %{imports} ]")
    return _Callee(entry, context, False, cells)


def _referred(b: Body, reference: str) -> tuple[str, str]:
    entry = b.load_field(reference, FuncRef.ENTRY, "ptr", INVARIANT)
    return entry, b.load_field(reference, FuncRef.CONTEXT, "ptr", INVARIANT)


def _type_cells(b: Body, number: str) -> Callable[[], str]:
    return lambda: b.fact_of(ModuleFacts.TYPE_CELLS, number, "i32")


def _in_table(wide: bool) -> Callable[[Body], _Callee]:
    """What an indirect call finds; ``wide`` if some table has 64-bit indices."""

    def find(b: Body) -> _Callee:
        wanted, table = b.unsigned(), b.unsigned()
        cell = b.pop(_I64)
        if wide:
            narrow = b.let(f"zext i32 {b.let(f'trunc i64 {cell} to i32')} to i64")
            is_wide = b.fact_of(ModuleFacts.TABLE_ADDRESSES, table, "i8")
            is_wide = b.let(f"icmp ne i8 {is_wide}, 0")
            cell = b.let(f"select i1 {is_wide}, i64 {cell}, i64 {narrow}")
            fact = TableType(_FUNCREF, Limits(0), _I64)
        else:
            cell = b.let(f"trunc i64 {cell} to i32")
            fact = TableType(_FUNCREF, Limits(0))
        place = LateNumber(b, table, fact)
        index = table_index(b.frame, place, cell)
        outside = b.let(f"icmp uge i64 {index}, {table_size(b.frame, place)}")
        b.trap_if(outside, TrapCode.UNDEFINED_ELEMENT)
        reference = b.let(f"load ptr, ptr {table_element(b.frame, place, index)}, {ELEMENT}")
        b.trap_if(b.let(f"icmp eq ptr {reference}, null"), TrapCode.UNINITIALIZED_ELEMENT)
        _check_type(b, reference, wanted)
        return _Callee(*_referred(b, reference), False, _type_cells(b, wanted))

    return find


def _check_type(b: Body, reference: str, number: str) -> None:
    """Trap unless a function is of a type, or of a subtype, which is the twin's affair."""
    has = b.load_field(reference, FuncRef.SIGNATURE, "i64", INVARIANT)
    wanted = b.load_field(b.vm, b.layout.signature(LateNumber(b, number)), "i64", INVARIANT)
    differs = b.let(f"icmp ne i64 {has}, {wanted}")
    if b.short:
        b.use_twin(differs)
        return
    fits, look = b.new_label("fits"), b.new_label("subtype")
    b.do(f"br i1 {differs}, label %{look}, label %{fits}, {COLD}")
    b.label(look)
    final = b.fact_of(ModuleFacts.FINAL, number, "i8")
    b.trap_if(b.let(f"icmp ne i8 {final}, 0"), TrapCode.INDIRECT_CALL_TYPE_MISMATCH)
    below = b.let(f"call i1 @wasinn_subtype(i64 {has}, i64 {wanted})")
    b.trap_if(b.let(f"xor i1 {below}, true"), TrapCode.INDIRECT_CALL_TYPE_MISMATCH)
    b.do(f"br label %{fits}")
    b.label(fits)


def _by_reference(b: Body) -> _Callee:
    number = b.unsigned()
    reference = b.pop(_FUNCREF)
    is_null = b.let(f"icmp eq ptr {reference}, null")
    b.trap_if(is_null, TrapCode.NULL_FUNCTION_REFERENCE)
    return _Callee(*_referred(b, reference), False, _type_cells(b, number))


def _if_ours(b: Body, entry: str) -> tuple[str, str]:
    """Go on in a new block if this interpreter runs a function; its code, and the other label."""
    array = b.load_field(entry, CodeEntry.ARRAY, "ptr", STATE)
    ours = b.let(f"icmp eq ptr {array}, @{CLASSIC.run_symbol}")
    inside, other = b.new_label("inside"), b.new_label("outside")
    b.do(f"br i1 {ours}, label %{inside}, label %{other}")
    b.label(inside)
    return b.load_field(entry, CodeEntry.CODE, "ptr", STATE), other


def enter(b: Body, callee: _Callee, code: str, slots: str, top: str, control: str) -> None:
    """End the block by beginning a function.

    Args:
        slots: its frame, where its arguments are.
        top: the end of its arguments.
        control: the control stack's end.
    """
    b.check_room(code, slots, control)
    current = b.field(b.store_context(), StoreContext.CURRENT)
    b.do(f"store ptr {callee.entry}, ptr {current}, {STATE}")
    b.at.update(fp=slots, cs=control, cd=code)
    if not callee.own:
        b.at.update(vm=callee.context, mem=b.memory_of(code, callee.context))
    begin(b, top)


def begin(b: Body, top: str) -> None:
    """End the block by going on at a function's beginning, with its declared locals zero."""
    end = b.let(f"getelementptr i8, ptr {b.at['fp']}, i64 {b.of_code(Code.LOCAL_BYTES)}")
    before = b.block
    again, more, done = b.new_label("zero"), b.new_label("cells"), b.new_label("zeroed")
    at, after = f"%{again}.at", f"%{again}.after"
    b.do(f"br label %{again}")
    b.label(again)
    b.do(f"{at} = phi ptr [ {top}, %{before} ], [ {after}, %{more} ]")
    ends = b.let(f"icmp uge ptr {at}, {end}")
    b.do(f"br i1 {ends}, label %{done}, label %{more}")
    b.label(more)
    # Volatile, or LLVM makes a call of it. Beyond the end there is room, see SPARE_BYTES.
    b.do(f"store volatile <4 x i64> zeroinitializer, ptr {at}, align 8")
    b.do(f"{after} = getelementptr i8, ptr {at}, i64 32")
    b.do(f"br label %{again}")
    b.label(done)
    b.move_stack(end)
    b.cells = []
    b.at["dt"] = b.of_code(Code.HANDLERS, "ptr")
    b.dispatch(b.of_code(Code.FIRST, "ptr"), b.of_code(Code.SIDE_TABLE, "ptr"))


def _call(find: Callable[[Body], _Callee]) -> Write:
    def write(b: Body) -> None:
        callee = find(b)
        code, other = _if_ours(b, callee.entry)
        forked = b.fork()
        after = b.here()
        b.spill()
        top = b.place_below(0)
        params = b.let(f"shl i64 {b.load_field(code, Header.PARAM_CELLS, 'i64', INVARIANT)}, 3")
        slots = minus(b, top, params)
        control = b.let(f"getelementptr i8, ptr {b.at['cs']}, i64 -{Frame.BYTES}")
        current = b.load_field(b.store_context(), StoreContext.CURRENT, "ptr", STATE)
        for offset, value in (
            (Frame.PC, after),
            (Frame.FP, b.at["fp"]),
            (Frame.VM, b.vm),
            (Frame.MEM, b.at["mem"]),
            (Frame.CURRENT, current),
            (Frame.STP, b.at["stp"]),
            (Frame.CD, b.at["cd"]),
        ):
            b.do(f"store ptr {value}, ptr {b.field(control, offset)}")
        enter(b, callee, code, slots, top, control)
        b.label(other)
        b.join(forked)
        if b.short:
            b.give_up()
        else:
            _outside(b, callee, "%pc")
            b.next()

    return write


def _outside(b: Body, callee: _Callee, pc: str) -> None:
    """Call what another engine or Python runs. Arguments end where operands do.

    Args:
        pc: where an exception that comes instead of results is thrown.
    """
    b.spill()
    cells = callee.cells()
    params = b.let(f"zext i32 {b.let(f'and i32 {cells}, 65535')} to i64")
    results = b.let(f"zext i32 {b.let(f'lshr i32 {cells}, 16')} to i64")
    top = b.place_below(0)
    slots = minus(b, top, b.let(f"shl i64 {params}, 3"))
    b.save_stacks(top)
    size = b.let(f"shl i64 {results}, 3")
    operands = f"ptr {callee.entry}, ptr {callee.context}, ptr {slots}, i64 {size}"
    thrown = b.let(f"call ptr @wasinn_catch({operands})")
    b.move_stack(b.let(f"getelementptr i64, ptr {slots}, i64 {results}"))
    caught, fine = b.new_label("caught"), b.new_label("fine")
    is_thrown = b.let(f"icmp ne ptr {thrown}, null")
    b.do(f"br i1 {is_thrown}, label %{caught}, label %{fine}, {COLD}")
    forked = b.fork()
    b.label(caught)
    b.cells = [b.let(f"ptrtoint ptr {thrown} to i64")]
    b.jump_in_state(f"@{CLASSIC.name}_unwind", pc=pc)
    b.join(forked)
    b.label(fine)


def _tail_call(find: Callable[[Body], _Callee]) -> Write:
    def write(b: Body) -> None:
        callee = find(b)
        code, other = _if_ours(b, callee.entry)
        forked = b.fork()
        b.spill()
        params = b.let(f"shl i64 {b.load_field(code, Header.PARAM_CELLS, 'i64', INVARIANT)}, 3")
        fp = b.at["fp"]
        copy_cells(b, fp, minus(b, b.place_below(0), params), params)
        top = b.let(f"getelementptr i8, ptr {fp}, i64 {params}")
        enter(b, callee, code, fp, top, b.at["cs"])
        b.label(other)
        b.join(forked)
        if b.short:
            b.give_up()
        else:
            b.spill()
            back = b.load_field(b.at["cs"], Frame.PC, "ptr", STATE)
            jumps = f"getelementptr (i8, ptr @{BOTTOM_PC}, i64 1)"
            jumps = b.let(f"icmp eq ptr {back}, {jumps}")
            b.hand_over(callee.entry, callee.context, jumps, partial(_put_arguments, b, callee))
            _outside(b, callee, b.of_code(Code.LAST, "ptr"))  # no try is left around it
            leave(b)

    return write


def _put_arguments(b: Body, callee: _Callee, place: str) -> None:
    params = b.let(f"zext i32 {b.let(f'and i32 {callee.cells()}, 65535')} to i64")
    size = b.let(f"shl i64 {params}, 3")
    copy_cells(b, place, minus(b, b.place_below(0), size), size)


CALLS: dict[str, Control] = {
    "call": Control(_call(_function)),
    "call_indirect": Control(_call(_in_table(False))),
    "call_ref": Control(_call(_by_reference), False),
    "return_call": Control(_tail_call(_function), False),
    "return_call_indirect": Control(_tail_call(_in_table(False)), False),
    "return_call_ref": Control(_tail_call(_by_reference), False),
}
"""By name, where tables have 32-bit indices."""

WIDE_CALLS: dict[str, Control] = {
    "call_indirect": Control(_call(_in_table(True)), False),
    "return_call_indirect": Control(_tail_call(_in_table(True)), False),
}
"""Those that are different where tables may have 64-bit indices."""
