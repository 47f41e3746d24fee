"""Calls, tail calls and references to functions in the LLVM tiers. See ``lower/ssa.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import CodeEntry, FuncRef, VMContext
from wasinn_runtime.lower.convention import arguments, native_name, native_result, tail_name
from wasinn_runtime.lower.handlers import handler
from wasinn_runtime.lower.state import table_element, table_index, table_size
from wasinn_runtime.lower.writer import COLD, ELEMENT, INVARIANT, STATE
from wasinn_runtime.spec.opcodes import Opcode
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import FuncType

if TYPE_CHECKING:
    from wasinn_runtime.lower.ssa import Lowering

__all__: list[str] = []


def _is_here(f: Lowering, index: int) -> bool:
    """Whether a function has a symbol in this unit."""
    return index >= f.module.imported_functions and (f.unit is None or index in f.unit)


def _entry(f: Lowering, index: int) -> str:
    """The CodeEntry of a defined function that is compiled apart, or not at all."""
    number = index - f.module.imported_functions
    entries = f.w.load_field("%vm", VMContext.ENTRIES, "ptr", INVARIANT)
    return f.w.field(entries, number * CodeEntry.BYTES)


@handler("call")
def _call(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    ty = f.module.func_type(immediate)
    if _is_here(f, immediate):
        f.call(ty, f"@{native_name(immediate)}", "%vm")
    elif immediate >= f.module.imported_functions:
        entry = _entry(f, immediate)
        f.call(ty, f.w.load_field(entry, CodeEntry.NATIVE, "ptr", STATE), "%vm", entry)
    else:
        _call_reference(f, ty, f.w.field("%vm", f.layout.imported_function(immediate)))


def _call_reference(f: Lowering, ty: FuncType, reference: str) -> None:
    """Call what a FuncRef stands for; the type is known to fit."""
    callee = f.w.load_field(reference, FuncRef.NATIVE, "ptr", INVARIANT)
    if f.quick:
        context = f.own_load(f.w.field(reference, FuncRef.CONTEXT))
    else:
        context = f.w.load_field(reference, FuncRef.CONTEXT, "ptr", INVARIANT)
    entry = f.w.load_field(reference, FuncRef.ENTRY, "ptr", INVARIANT)
    f.call(ty, callee, context, entry)


def _checked_reference(f: Lowering, immediate: object) -> tuple[FuncType, str]:
    """The FuncRef that an indirect call finds in its table."""
    assert isinstance(immediate, tuple)
    w = f.w
    type_index, table = immediate
    ty = f.module.types[type_index]
    index = table_index(f, table, f.stack.pop())
    outside = w.let(f"icmp uge i64 {index}, {table_size(f, table)}")
    w.trap_if(outside, TrapCode.UNDEFINED_ELEMENT)
    reference = w.let(f"load ptr, ptr {table_element(f, table, index)}, {ELEMENT}")
    w.trap_if(w.let(f"icmp eq ptr {reference}, null"), TrapCode.UNINITIALIZED_ELEMENT)
    has = w.load_field(reference, FuncRef.SIGNATURE, "i64", INVARIANT)
    wanted = w.load_field("%vm", f.layout.signature(type_index), "i64", INVARIANT)
    differs = w.let(f"icmp ne i64 {has}, {wanted}")
    if not ty.is_final:  # a declared subtype will do as well
        fits, look = w.new_label("fits"), w.new_label("subtype")
        w.do(f"br i1 {differs}, label %{look}, label %{fits}, {COLD}")
        w.label(look)
        is_below = w.let(f"call i1 @wasinn_subtype(i64 {has}, i64 {wanted})")
        w.trap_if(w.let(f"xor i1 {is_below}, true"), TrapCode.INDIRECT_CALL_TYPE_MISMATCH)
        w.do(f"br label %{fits}")
        w.label(fits)
    else:
        w.trap_if(differs, TrapCode.INDIRECT_CALL_TYPE_MISMATCH)
    return ty, reference


def _non_null(f: Lowering, code: TrapCode) -> str:
    reference = f.stack.pop()
    f.w.trap_if(f.w.let(f"icmp eq ptr {reference}, null"), code)
    return reference


@handler("call_indirect")
def _call_indirect(f: Lowering, row: Opcode, immediate: object) -> None:
    _call_reference(f, *_checked_reference(f, immediate))


@handler("call_ref")
def _call_ref(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    reference = _non_null(f, TrapCode.NULL_FUNCTION_REFERENCE)
    _call_reference(f, f.module.types[immediate], reference)


# --- tail calls ---------------------------------------------------------------------------------


def _jump(f: Lowering, ty: FuncType, callee: str, nest: str = "") -> None:
    """End the function by a call that takes its place; LLVM keeps that promise in registers."""
    w, result = f.w, native_result(ty)
    f.makes_tail_calls = True
    listed = arguments(w, ty, f.pop(len(ty.params)), "%vm")
    first = f"ptr nest {nest}, " if nest else ""
    text = f"tail call fastcc {result} {callee}({first}ptr swiftself %vm{listed})"
    if result == "void":
        w.do(text)
        w.do("ret void")
    else:
        w.do(f"ret {result} {w.let(text)}")
    f.reachable = False


def _jump_to_reference(f: Lowering, ty: FuncType, reference: str) -> None:
    """The core fetches function and context from the FuncRef, once our own context is given up."""
    _jump(f, ty, "@wasinn_switch", reference)


@handler("return_call")
def _return_call(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    ty = f.module.func_type(immediate)
    if _is_here(f, immediate):
        _jump(f, ty, f"@{tail_name(immediate)}")
    elif immediate >= f.module.imported_functions:
        entry = _entry(f, immediate)
        _jump(f, ty, f.w.load_field(entry, CodeEntry.NATIVE, "ptr", STATE), entry)
    else:
        _jump_to_reference(f, ty, f.w.field("%vm", f.layout.imported_function(immediate)))


@handler("return_call_indirect")
def _return_call_indirect(f: Lowering, row: Opcode, immediate: object) -> None:
    _jump_to_reference(f, *_checked_reference(f, immediate))


@handler("return_call_ref")
def _return_call_ref(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    reference = _non_null(f, TrapCode.NULL_FUNCTION_REFERENCE)
    _jump_to_reference(f, f.module.types[immediate], reference)


# --- branches on references ---------------------------------------------------------------------


@handler("br_on_null")
def _br_on_null(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    reference = f.stack.pop()
    is_null, after = f.w.let(f"icmp eq ptr {reference}, null"), f.w.new_label("next")
    f.w.do(f"br i1 {is_null}, label %{f.branch(immediate)}, label %{after}")
    f.w.label(after)
    f.stack.append(reference)


@handler("br_on_non_null")
def _br_on_non_null(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    is_null, after = f.w.let(f"icmp eq ptr {f.stack[-1]}, null"), f.w.new_label("next")
    f.w.do(f"br i1 {is_null}, label %{after}, label %{f.branch(immediate)}")
    f.w.label(after)
    f.stack.pop()
