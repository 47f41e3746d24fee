"""Handlers of calls, tail calls and exceptions. See ``fast_handlers.py``.

Unwinding: after a call inside a try comes the handler ``in_try``, which does nothing but carry the
distance to where the try's exceptions arrive. ``raise`` looks for it after the call of each control
frame; when it comes to the frame that native code made, it has the native stack unwound. An
exception arrives in the register for references.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from wasinn_runtime.abi.layout import ExceptionCell, FuncRef, StoreContext
from wasinn_runtime.lower.fast_body import Body
from wasinn_runtime.lower.fast_placed import FAST
from wasinn_runtime.lower.fast_shapes import RESULT_TYPES, TABLE, add, branch
from wasinn_runtime.lower.state import table_element, table_index, table_size
from wasinn_runtime.lower.threaded import ControlFrame
from wasinn_runtime.lower.writer import COLD, ELEMENT, INVARIANT, LLVM_TYPE, STATE
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import ValType

__all__ = ["CALL_DECLARATIONS", "add_calls"]

CALL_DECLARATIONS = "declare ptr @wasinn_catch(ptr, ptr, ptr, i64)"
_FUNCREF = ValType.FUNCREF


@dataclass(frozen=True, slots=True)
class _Callee:
    """What a handler found that calls: CodeEntry, context, and whether it is of this instance."""

    entry: str
    context: str
    own: bool


def _call(find: Callable[[Body], _Callee], outside: str, b: Body) -> None:
    """Words after the callee: offset of the arguments, offset of the end of what is in use."""
    before = b.words
    callee = find(b)
    slots = b.slot()
    b.words += 1

    def leave() -> None:
        b.jump(f'@"{outside}"', pc=b.place(before - 1 - b.words))

    b.call(callee.entry, callee.context, slots, b.place(), callee.own, leave)


def _call_outside(find: Callable[[Body], _Callee], result: str, b: Body) -> None:
    """The same call when something else than this interpreter runs the function."""
    callee = find(b)
    slots, end = b.slot(), b.slot()
    _call_native(b, callee, slots, end, result, b.place())
    b.next()


def _own(b: Body) -> _Callee:
    """Words: the callee's CodeEntry."""
    return _Callee(b.word("ptr"), b.vm, True)


def _referred(b: Body, reference: str) -> _Callee:
    context = b.load_field(reference, FuncRef.CONTEXT, "ptr", INVARIANT)
    entry = b.load_field(reference, FuncRef.ENTRY, "ptr", INVARIANT)
    return _Callee(entry, context, False)


def _imported(b: Body) -> _Callee:
    """Words: the place of the FuncRef in the VMContext."""
    return _referred(b, b.let(f"getelementptr i8, ptr {b.vm}, i64 {b.word()}"))


def _indirect(where: str, is_open: bool, kind: str, b: Body) -> _Callee:
    """Words: operand, the places of the table and of the type's number in the VMContext.

    Args:
        is_open: whether a declared subtype of the type will do as well.
    """
    table = TABLE[where]
    operand = b.operand(kind, table.address)
    place = b.number(table)
    index = table_index(b, place, operand)
    outside = b.let(f"icmp uge i64 {index}, {table_size(b, place)}")
    b.trap_if(outside, TrapCode.UNDEFINED_ELEMENT)
    reference = b.let(f"load ptr, ptr {table_element(b, place, index)}, {ELEMENT}")
    b.trap_if(b.let(f"icmp eq ptr {reference}, null"), TrapCode.UNINITIALIZED_ELEMENT)
    has = b.load_field(reference, FuncRef.SIGNATURE, "i64", INVARIANT)
    wanted = b.load_field(b.vm, b.number(), "i64", INVARIANT)
    if is_open:
        below = b.let(f"call i1 @wasinn_subtype(i64 {has}, i64 {wanted})")
        differs = b.let(f"xor i1 {below}, true")
    else:
        differs = b.let(f"icmp ne i64 {has}, {wanted}")
    b.trap_if(differs, TrapCode.INDIRECT_CALL_TYPE_MISMATCH)
    return _referred(b, reference)


def _non_null(kind: str, b: Body) -> _Callee:
    """Words: operand."""
    reference = b.operand(kind, _FUNCREF)
    b.trap_if(b.let(f"icmp eq ptr {reference}, null"), TrapCode.NULL_FUNCTION_REFERENCE)
    return _referred(b, reference)


# --- tail calls: the arguments are at fp ----------------------------------------------------------


def _tail_call(find: Callable[[Body], _Callee], outside: str, b: Body) -> None:
    """Words after the callee: offset of the end of arguments and results."""
    before = b.words
    callee = find(b)
    b.words += 1

    def leave() -> None:
        b.jump(f'@"{outside}"', pc=b.place(before - 1 - b.words))

    b.tail_call(callee.entry, callee.context, callee.own, leave)


def _tail_outside(find: Callable[[Body], _Callee], result: str, b: Body) -> None:
    callee = find(b)
    size = b.word()
    end = b.let(f"getelementptr i8, ptr {b.at['fp']}, i64 {size}")
    back = b.load_field(b.at["cs"], ControlFrame.PC, "ptr", STATE)
    jumps = b.let(f"icmp eq ptr {back}, getelementptr (i8, ptr @{FAST.done_symbol}.code, i64 8)")

    def put(place: str) -> None:
        source = b.at["fp"]
        b.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {place}, ptr {source}, i64 {size}, i1 false)")

    b.hand_over(callee.entry, callee.context, jumps, put)
    # Whatever comes out of it passes the function by: at %pc no try begins.
    _call_native(b, callee, b.at["fp"], end, result, "%pc")
    b.leave()


# --- exceptions -----------------------------------------------------------------------------------


def _call_native(b: Body, callee: _Callee, slots: str, end: str, result: str, after: str) -> None:
    """Call a function that something else runs; what it throws is raised at ``after``."""
    store = b.store_context()
    current_at = b.field(store, StoreContext.CURRENT)
    current = b.let(f"load ptr, ptr {current_at}, {STATE}")
    b.save_stacks(end)
    first, after_last = (b.let(f"ptrtoint ptr {place} to i64") for place in (slots, end))
    size = b.let(f"sub i64 {after_last}, {first}")
    operands = f"ptr {callee.entry}, ptr {callee.context}, ptr {slots}, i64 {size}"
    cell = b.let(f"call ptr @wasinn_catch({operands})")
    thrown, fine = b.new_label("thrown"), b.new_label("fine")
    came = b.let(f"icmp ne ptr {cell}, null")
    b.do(f"br i1 {came}, label %{thrown}, label %{fine}, {COLD}")
    b.label(thrown)
    b.do(f"store ptr {current}, ptr {current_at}, {STATE}")
    _raise_cell(b, cell, after)
    b.label(fine)
    ty = RESULT_TYPES.get(result)
    if ty is not None:  # its register holds the result, as after a return
        b.to_register(ty, b.let(f"load {LLVM_TYPE[ty]}, ptr {slots}, align 8"))


def _raise_cell(b: Body, cell: str, after: str) -> None:
    number = b.let(f"ptrtoint ptr {cell} to i64")
    b.jump('@"raise!"', pc=after, r=number)


def _raise(b: Body) -> None:
    """Find who catches what r holds, for a call or throw that would go on at pc."""
    moving = ("pc", "fp", "vm", "mem", "cs")
    b.do("br label %frame")
    b.label("frame")
    for name in moving:
        b.do(f"%at.{name} = phi ptr [ %{name}, %entry ], [ %up.{name}, %up ]")
        b.at[name] = f"%at.{name}"
    here = b.let("load ptr, ptr %at.pc")
    catches = b.let(f'icmp eq ptr {here}, @"in_try"')
    b.do(f"br i1 {catches}, label %found, label %look")
    b.label("found")
    distance = b.let(f"load i64, ptr {b.field('%at.pc', 8)}")
    b.go(b.let(f"getelementptr i8, ptr %at.pc, i64 {distance}"))
    b.label("look")
    pc = b.let("ptrtoint ptr %at.pc to i64")
    distance = b.let(f"sub i64 {pc}, ptrtoint (ptr @{FAST.done_symbol}.code to i64)")
    native = b.let(f"icmp ule i64 {distance}, 8")
    b.do(f"br i1 {native}, label %out, label %up")
    b.label("out")
    cell = b.from_register(_FUNCREF)
    b.do(f"call void @wasinn_throw(ptr {b.store_context()}, ptr {cell})")
    b.do("unreachable")
    b.label("up")
    for name, offset in (
        ("pc", ControlFrame.PC),
        ("fp", ControlFrame.FP),
        ("vm", ControlFrame.VM),
        ("mem", ControlFrame.MEM),
    ):
        b.do(f"%up.{name}.at = getelementptr i8, ptr %at.cs, i64 {offset}")
        b.do(f"%up.{name} = load ptr, ptr %up.{name}.at")
    current = b.let(f"load ptr, ptr {b.field('%at.cs', ControlFrame.CURRENT)}")
    store = b.store_context()
    b.do(f"store ptr {current}, ptr {b.field(store, StoreContext.CURRENT)}, {STATE}")
    b.do(f"%up.cs = getelementptr i8, ptr %at.cs, i64 {ControlFrame.BYTES}")
    b.do("br label %frame")


def _in_try(b: Body) -> None:
    """Nothing. Words: the distance to where exceptions arrive."""
    b.words += 1


def _throw(b: Body) -> None:
    """Words: the tag's place in the VMContext, the offset of the values, of their end."""
    tag = b.load_field(b.vm, b.number(), "ptr", INVARIANT)
    values, end = b.word(), b.word()
    fp = b.at["fp"]
    b.save_stacks(b.let(f"getelementptr i8, ptr {fp}, i64 {end}"))
    cell = b.let(f"call ptr @wasinn_exception(ptr {b.store_context()}, ptr {tag})")
    payload = b.load_field(cell, ExceptionCell.PAYLOAD, "ptr", ELEMENT)
    source = b.let(f"getelementptr i8, ptr {fp}, i64 {values}")
    size = b.let(f"sub i64 {end}, {values}")
    b.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {payload}, ptr {source}, i64 {size}, i1 false)")
    _raise_cell(b, cell, b.place())


def _throw_ref(kind: str, b: Body) -> None:
    cell = b.operand(kind, _FUNCREF)
    b.trap_if(b.let(f"icmp eq ptr {cell}, null"), TrapCode.NULL_EXCEPTION_REFERENCE)
    _raise_cell(b, cell, b.place())


def _cell(b: Body) -> str:
    """Words: the slot that holds an exception."""
    return b.operand("s", _FUNCREF)


def _match(b: Body) -> None:
    """Go on if an exception has a tag, else to the target. Words: slot, the tag's place."""
    has = b.load_field(_cell(b), ExceptionCell.TAG, "ptr", ELEMENT)
    tag = b.load_field(b.vm, b.number(), "ptr", INVARIANT)
    same = b.let(f"icmp eq ptr {has}, {tag}")
    branch(b, b.let(f"zext i1 {same} to i32"), 0)


def _payload(b: Body) -> None:
    """What an exception carries to slots. Words: slot, offset of the first, bytes."""
    payload = b.load_field(_cell(b), ExceptionCell.PAYLOAD, "ptr", ELEMENT)
    target, size = b.slot(), b.word()
    b.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {target}, ptr {payload}, i64 {size}, i1 false)")


def _share(b: Body) -> None:
    """Guests may hold references to it from now on."""
    b.do(f"store i64 1, ptr {b.field(_cell(b), ExceptionCell.SHARED)}, {ELEMENT}")


def _release(b: Body) -> None:
    cell = _cell(b)
    b.do(f"call void @wasinn_release(ptr {b.store_context()}, ptr {cell})")


def add_calls() -> None:
    """Put them on the list."""
    finders: list[tuple[str, str, str, Callable[[Body], _Callee]]] = [
        ("call", "", "", _own),
        ("call_import", "", "", _imported),
    ]
    for kind in "sr":
        reads = "r" if kind == "r" else ""
        finders.append(("call_ref", f":{kind}", reads, partial(_non_null, kind)))
        for where, is_open in (("", False), ("", True), ("@64", True)):
            found = partial(_indirect, where, is_open, kind)
            mark = "<" if is_open else ""
            finders.append(("call_indirect", f"{mark}{where}:{kind}", reads, found))
    for name, rest, reads, find in finders:
        for result in ("", *RESULT_TYPES):
            dot = f".{result}" if result else ""
            whole = f"{name}{dot}{rest}"
            add(f"{whole}!", partial(_call_outside, find, result), reads, ends=True)
            add(whole, partial(_call, find, f"{whole}!"), reads, ends=True)
            if reads:
                continue  # moving the arguments to fp may change the register
            whole = f"return_{whole}"
            add(f"{whole}!", partial(_tail_outside, find, result), reads, ends=True)
            add(whole, partial(_tail_call, find, f"{whole}!"), reads, ends=True)
    add("raise!", _raise, "r", ends=True)
    add("in_try", _in_try, branches=True)
    add("throw", _throw, ends=True)
    for kind in "sr":
        add(f"throw_ref:{kind}", partial(_throw_ref, kind), "r" if kind == "r" else "", ends=True)
    add("match", _match, ends=True, branches=True)
    add("payload", _payload)
    add("share", _share)
    add("release", _release)
