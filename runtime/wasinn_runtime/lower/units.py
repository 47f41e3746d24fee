"""Whole compilation units as LLVM IR: a module's functions, and trampolines by signature."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from wasinn_runtime.abi.layout import (
    SLOT_BYTES,
    CodeEntry,
    StoreContext,
    VMContext,
    slot_cells,
)
from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.errors import Invalid
from wasinn_runtime.lower.convention import (
    arguments,
    give,
    native_params,
    native_result,
    opaque,
    receive,
    results,
    tail_alias,
    tail_name,
    tail_symbols,
)
from wasinn_runtime.lower.migratable import OperandTypes, migratable_function
from wasinn_runtime.lower.outline import (
    ENTRIES_SYMBOL,
    callees,
    escaping_functions,
    layout_of,
    trampoline_names,
)
from wasinn_runtime.lower.ssa import lower_function, native_name
from wasinn_runtime.lower.writer import (
    COLD,
    EXCHANGE,
    INVARIANT,
    LLVM_TYPE,
    METADATA,
    STATE,
    FunctionWriter,
)
from wasinn_runtime.spec.types import FuncType, ValType

__all__ = [
    "Part",
    "module_unit",
    "preamble",
    "trampoline_unit",
]


# What code may use of the core, by name.
_DECLARATIONS = {
    "wasinn_trap": "declare void @wasinn_trap(i32) noreturn cold nounwind",
    "wasinn_memory_grow": "declare i64 @wasinn_memory_grow(ptr, i64) nounwind",
    "wasinn_shared_grow": "declare i64 @wasinn_shared_grow(ptr, ptr, i64) nounwind",
    "wasinn_table_grow": "declare i64 @wasinn_table_grow(ptr, ptr, i64) nounwind",
    "wasinn_table_fill": "declare void @wasinn_table_fill(ptr, ptr, i64) nounwind",
    "wasinn_subtype": "declare i1 @wasinn_subtype(i64, i64) nounwind memory(read)",
    "wasinn_wait": "declare i32 @wasinn_wait(ptr, ptr, i64, i64, i64) nounwind",
    "wasinn_notify": "declare i32 @wasinn_notify(ptr, ptr, i32) nounwind",
    "wasinn_exception": "declare ptr @wasinn_exception(ptr, ptr) nounwind",
    "wasinn_release": "declare void @wasinn_release(ptr, ptr) nounwind",
    "wasinn_caught": "declare void @wasinn_caught(ptr, ptr, i1) nounwind",
    "wasinn_throw": "declare void @wasinn_throw(ptr, ptr) noreturn cold",
    "wasinn_frame": "declare ptr @wasinn_frame(ptr, i64, i64, i64) nounwind cold",
    "wasinn_capture": "declare void @wasinn_capture(ptr) noreturn cold",
    "__gcc_personality_v0": "declare i32 @__gcc_personality_v0(...)",
    # Called with whatever arguments their targets take, for whatever results these have.
    "wasinn_switch": "@wasinn_switch = external global i8",
    "wasinn_jump": "@wasinn_jump = external global i8",
}

# uwtable: an exception may cross any function; where nothing is thrown that costs no time.
# split-stack: LLVM begins each function that has a frame by comparing where the frame would end,
# spills and inlined callees included, with the thread's limit, and calls __morestack below it. Only
# LLVM knows how large a frame is: a check written here would have to guess. It has none for
# aarch64; there the linker writes the same check into room that LLVM leaves (frame_checks.py).
_STACK_CHECKS = {
    "x86_64": '"split-stack"',
    "aarch64": '"patchable-function-entry"="6"',
}


def _attributes(machine: str) -> str:
    """The second set is for functions that LLVM could not optimise in reasonable time."""
    common = f"uwtable {_STACK_CHECKS[machine]}"
    return f"""
attributes #0 = {{ {common} }}
attributes #1 = {{ {common} optnone noinline }}
"""


def preamble(machine: str = "", users: str | None = None) -> str:
    """What every unit begins with.

    Args:
        machine: the CPU's name in triples; this machine's by default.
        users: the functions of the unit, for a short one; without it, all they may use is there.
    """
    parts = [line for name, line in _DECLARATIONS.items() if users is None or f"@{name}" in users]
    if users is None or "!" in users:
        parts.append(METADATA)
    parts.append(_attributes(machine or os.uname().machine))
    return "\n".join(parts)


# IR text that a module may become, in all: compilers' output becomes 10 to 60 bytes a byte. A
# thousand results are 5 MB, since their type is spelled out with each.
_IR_BYTES, _IR_BYTES_PER_BYTE = 32 << 20, 250


@dataclass(frozen=True, slots=True)
class Part:
    """A share of a module's functions, to be compiled apart from the others.

    Attributes:
        own: the functions whose code it holds.
        shared: those of them that the other parts call or that the table of entries names.
        copies: functions of other parts that it may inline, without keeping their code.
        has_entries: whether it holds the table of entries.
    """

    own: frozenset[int]
    shared: frozenset[int] = frozenset()
    copies: frozenset[int] = frozenset()
    has_entries: bool = True


def module_unit(
    module: ParsedModule,
    bodies: Iterable[tuple[int, Body]],
    part: Part | None = None,
    machine: str = "",
    operands: Callable[[int, Body], OperandTypes] | None = None,
) -> str:
    """All functions of a validated module, and the table of those reachable by reference.

    Args:
        module: the module.
        bodies: every defined function's index (imports first) with its decoded body; of a part,
            its own and the copies.
        part: which part of the module this is; None for all of it.
        machine: the CPU's name in triples; this machine's by default.
        operands: gives the types of a function's operands; with it the code is migratable.

    Raises:
        Invalid: it would become far more IR than its size explains.
    """
    layout = layout_of(module)
    places = {index: i for i, index in enumerate(escaping_functions(module))}
    parts = [preamble(machine)]
    room = _IR_BYTES + _IR_BYTES_PER_BYTE * len(module.data)
    used: set[int] = set()
    tails: set[int] = set()
    own_tails: set[int] = set()
    for index, body in bodies:
        if operands is None:
            text = lower_function(module, layout, places, index, body)
        else:
            typed = operands(index, body)
            text = migratable_function(module, layout, places, index, body, typed)
        if part is not None:
            used |= callees(body)
            text = _linked(text, index, part)
        defined, jumped_to = tail_symbols(text)
        own_tails |= defined
        tails |= jumped_to
        parts.append(text)
        room -= len(text)
        if room < 0:
            raise Invalid(
                "module too complex: its functions would become far more code than its "
                f"{len(module.data)} bytes explain; use fewer parameters and results",
                body.start,
                module.where,
                module.function_label(index),
            )
    reachable = [i for i in places if i >= module.imported_functions]
    if part is not None:
        if part.has_entries:
            used.update(reachable)
            tails.update(reachable)
        elsewhere = used - part.own - part.copies
        for i in sorted(elsewhere):
            if i >= module.imported_functions:
                parts.append(_declaration(module, i, native_name(i)))
                parts.append(_declaration(module, i, tail_name(i)))
        # Whether a function of another part makes tail calls is not known here.
        parts.extend(tail_alias(i, "hidden") for i in sorted(part.shared - own_tails))
        parts.extend(
            _declaration(module, i, tail_name(i))
            for i in sorted((tails & part.copies) - own_tails - elsewhere)
        )
        tails -= elsewhere | part.shared | part.copies
    parts.extend(tail_alias(i) for i in sorted(tails - own_tails))
    if part is None or part.has_entries:
        symbols = [
            tail_name(i) if part is not None or i in own_tails else native_name(i)
            for i in reachable
        ]
        listed = ", ".join(f"ptr @{symbol}" for symbol in symbols)
        parts.append(f"@{ENTRIES_SYMBOL} = constant [{len(reachable)} x ptr] [{listed}]")
    return "\n".join(parts)


def _linked(text: str, index: int, part: Part) -> str:
    """A function's definition, with who may see it."""
    if index in part.copies:
        return text.replace("define internal ", "define available_externally hidden ")
    if index in part.shared:
        return text.replace("define internal ", "define hidden ")
    return text


def _declaration(module: ParsedModule, index: int, symbol: str) -> str:
    ty = module.func_type(index)
    result, params = native_result(ty), native_params(ty, named=False)
    return f"declare hidden fastcc {result} @{symbol}(ptr swiftself{params})"


# --- trampolines --------------------------------------------------------------------------------


def trampoline_unit(types: Iterable[FuncType], machine: str = "") -> str:
    """For each signature the adapters between its entries; see ``machine.native.Trampolines``."""
    parts = [preamble(machine)]
    for ty in types:
        enter, spill, jump = trampoline_names(ty)
        parts.append(_enter(ty, enter))
        parts.append(_spill(ty, spill))
        parts.append(_jump(ty, jump))
    return "\n".join(parts)


def _places(types: Sequence[ValType]) -> Iterator[tuple[ValType, int]]:
    """The byte offset in the slots of each value."""
    at = 0
    for t in types:
        yield t, at
        at += SLOT_BYTES * slot_cells((t,))


def _enter(ty: FuncType, name: str) -> str:
    w = FunctionWriter(f"define void @{name}(ptr %code, ptr %vm, ptr %slots, i64 %jumps) #0")
    values = []
    for t, at in _places(ty.params):
        place = w.field("%slots", at)
        values.append(w.let(f"load {LLVM_TYPE[t]}, ptr {place}, align 8"))
    native = w.let(f"load ptr, ptr {w.field('%code', CodeEntry.NATIVE)}")
    listed = arguments(w, ty, values, "%vm")
    context = opaque(w, "%vm")
    call = f"notail call fastcc {native_result(ty)} {native}"
    call += f"(ptr nest %code, ptr swiftself {context}{listed})"
    if native_result(ty) == "void":
        w.do(call)
        returned = ""
    else:
        returned = w.let(call)
    found = results(w, ty, returned, "%vm")
    for (t, at), value in zip(_places(ty.results), found, strict=True):
        w.do(f"store {LLVM_TYPE[t]} {value}, ptr {w.field('%slots', at)}, align 8")
    w.do("ret void")
    return w.finish()


def _spill(ty: FuncType, name: str) -> str:
    """The native entry of whatever has none of its own: interpreted, lazy, or written in Python."""
    result, params = native_result(ty), native_params(ty)
    w = FunctionWriter(
        f"define fastcc {result} @{name}(ptr nest %code, ptr swiftself %vm{params}) #0"
    )
    cells = max(slot_cells(ty.params), slot_cells(ty.results), 1)
    slots = w.let(f"alloca [{cells} x i64]")
    for (t, at), value in zip(_places(ty.params), receive(w, ty, "%vm"), strict=True):
        w.do(f"store {LLVM_TYPE[t]} {value}, ptr {w.field(slots, at)}, align 8")
    array = w.let(f"load ptr, ptr {w.field('%code', CodeEntry.ARRAY)}")
    w.do(f"notail call void {array}(ptr %code, ptr %vm, ptr {slots}, i64 1)")
    store = w.load_field("%vm", VMContext.STORE, "ptr", INVARIANT)
    pending = w.field(store, StoreContext.TAIL_ENTRY)
    entry = w.let(f"load ptr, ptr {pending}, {STATE}")
    done, onward = w.new_label("done"), w.new_label("onward")
    waits = w.let(f"icmp ne ptr {entry}, null")
    w.do(f"br i1 {waits}, label %{onward}, label %{done}, {COLD}")
    w.label(onward)
    w.do(f"store ptr null, ptr {pending}, {STATE}")
    _become(w, result, f"@wasinn_jump(ptr nest {entry}, ptr swiftself %vm)")
    w.label(done)
    values = [
        w.let(f"load {LLVM_TYPE[t]}, ptr {w.field(slots, at)}, align 8")
        for t, at in _places(ty.results)
    ]
    give(w, ty, values, "%vm")
    return w.finish()


def _jump(ty: FuncType, name: str) -> str:
    """To a native entry, with the arguments from slots in the exchange area."""
    result = native_result(ty)
    w = FunctionWriter(f"define fastcc {result} @{name}(ptr nest %code, ptr swiftself %vm) #0")
    store = w.load_field("%vm", VMContext.STORE, "ptr", INVARIANT)
    values = []
    for t, at in _places(ty.params):
        place = w.field(store, StoreContext.EXCHANGE + at)
        values.append(w.let(f"load {LLVM_TYPE[t]}, ptr {place}, align 8, {EXCHANGE}"))
    native = w.let(f"load ptr, ptr {w.field('%code', CodeEntry.NATIVE)}")
    listed = arguments(w, ty, values, "%vm")
    _become(w, result, f"{native}(ptr nest %code, ptr swiftself %vm{listed})")
    return w.finish()


def _become(w: FunctionWriter, result: str, callee: str) -> None:
    """End the function by a call that takes its place."""
    call = f"tail call fastcc {result} {callee}"
    if result == "void":
        w.do(call)
        w.do("ret void")
    else:
        w.do(f"ret {result} {w.let(call)}")
