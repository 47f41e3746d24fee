"""The core's part in throwing: cells for exceptions, the way to the frame that catches, collecting.

A throw unwinds the native stack with the unwinder that C++ programs use. Frames that may catch are
cleanups for it; their landing pads compare tags, and go on where they do not catch. It is asked to
go on until ``wasinn_invoke``, from where an exception that nobody caught goes to Python. Frames
without a pad cost nothing until something is thrown.

Cells are kept in one piece of address space per store (``machine/exceptions.py``). Those that
only the catching frame saw are free at once; others when a collection finds no word in stacks,
tables, globals and other exceptions that may point to them.
"""

from __future__ import annotations

from wasinn_runtime.abi.layout import (
    Activation,
    CodeEntry,
    ExceptionCell,
    FuncRef,
    StoreContext,
    TagDef,
    VMContext,
)
from wasinn_runtime.spec.traps import TrapCode

__all__ = [
    "EXCEPTION_CORE_SYMBOLS",
    "EXCEPTION_SYMBOLS",
    "UNWINDING",
    "exceptions_ir",
    "unwinder_ir",
]

# What compiled modules use.
EXCEPTION_SYMBOLS = (
    "wasinn_exception",
    "wasinn_release",
    "wasinn_caught",
    "wasinn_throw",
    "wasinn_switch",
    "wasinn_jump",
)
EXCEPTION_CORE_SYMBOLS = (
    *EXCEPTION_SYMBOLS,
    "wasinn_catch",
    "wasinn_mark",
    "wasinn_mark_stack",
    "wasinn_trace",
    "wasinn_sweep",
)
# In an activation's IN_HOST while an exception is on its way.
UNWINDING = 2
# The first cell of a request to machine/services.py.
SERVICE_EXCEPTION = 0

# Registers that callers expect to find again, so that they may hold references.
_SAVED = {
    "x86_64": "~{rbx},~{rbp},~{r12},~{r13},~{r14},~{r15}",
    "aarch64": ",".join(f"~{{x{n}}}" for n in range(19, 29)),
}
# To the function of a FuncRef, in the register for nested functions' contexts; arguments stay. What
# the FuncRef says of the native entry may be out of date: a stub would keep a frame for each jump.
_SWITCH = {
    "x86_64": (
        f"movq {FuncRef.CONTEXT}(%r10), %r13; movq {FuncRef.ENTRY}(%r10), %r10; "
        f"jmpq *{CodeEntry.NATIVE}(%r10)"
    ),
    "aarch64": (
        f"ldr x20, [x15, #{FuncRef.CONTEXT}]; ldr x15, [x15, #{FuncRef.ENTRY}]; "
        f"ldr x16, [x15, #{CodeEntry.NATIVE}]; br x16"
    ),
}
# To the function that an interpreter left for its caller to call.
_JUMP = {
    "x86_64": (
        f"movq {VMContext.STORE}(%r13), %r11; movq {StoreContext.TAIL_CONTEXT}(%r11), %r13; "
        f"jmpq *{CodeEntry.JUMP}(%r10)"
    ),
    "aarch64": (
        f"ldr x16, [x20, #{VMContext.STORE}]; ldr x20, [x16, #{StoreContext.TAIL_CONTEXT}]; "
        f"ldr x16, [x15, #{CodeEntry.JUMP}]; br x16"
    ),
}


def unwinder_ir(header: str, on_frame: str, given: str, status: int, begin: str = "") -> str:
    """A function that has ``%cell`` unwind the guest's frames, and what is asked at each of them.

    Where they end, ``wasinn_invoke`` returns.

    Args:
        header: the function's name and parameters.
        on_frame: the other's name.
        given: what is left in the store's context.
        status: what ``wasinn_invoke`` returns.
        begin: what comes first in the function.
    """
    return f"""
; The unwinder takes locks and memory: until somebody catches, a stop only leaves its mark.
define void @{header} noreturn noinline uwtable {{
  %active_p = getelementptr i8, ptr %store, i64 {StoreContext.ACTIVATION}
  %act = load ptr, ptr %active_p
  %in_host_p = getelementptr i8, ptr %act, i64 {Activation.IN_HOST}
  store volatile i64 {UNWINDING}, ptr %in_host_p
  {begin}
  call void @llvm.memset.p0.i64(ptr %cell, i8 0, i64 32, i1 false)
  %failed = call i32 @_Unwind_ForcedUnwind(ptr %cell, ptr @{on_frame}, ptr %store)
  call void @leave_with(ptr %store, ptr {given}, i32 3) ; the unwinder does not know a frame
  unreachable
}}

define internal i32 @{on_frame}(
  i32 %version, i32 %actions, i64 %class, ptr %cell, ptr %context, ptr %store
) uwtable {{
  %start = call i64 @_Unwind_GetRegionStart(ptr %context)
  %end = icmp eq i64 %start, ptrtoint (ptr @wasinn_invoke to i64)
  br i1 %end, label %leave, label %on
leave:
  call void @leave_with(ptr %store, ptr {given}, i32 {status})
  unreachable
on:
  ret i32 0
}}
"""


def exceptions_ir(machine: str) -> str:
    """The functions of ``EXCEPTION_CORE_SYMBOLS``.

    Args:
        machine: the CPU's name in triples.
    """
    cell, saved = ExceptionCell, _SAVED[machine]
    return f"""
declare i32 @__gcc_personality_v0(...)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare i32 @_Unwind_ForcedUnwind(ptr, ptr, ptr)
declare i64 @_Unwind_GetRegionStart(ptr)

; A tail call to another instance's function: its context must be in place, the arguments are.
define void @wasinn_switch() naked noinline {{
  call void asm sideeffect "{_SWITCH[machine]}", ""()
  unreachable
}}

; A tail call that an interpreter left: its context must be in place.
define void @wasinn_jump() naked noinline {{
  call void asm sideeffect "{_JUMP[machine]}", ""()
  unreachable
}}

; A cell for an exception with this tag, its payload still to be written.
define ptr @wasinn_exception(ptr %store, ptr %tag) uwtable {{
  %cells_p = getelementptr i8, ptr %tag, i64 {TagDef.CELLS}
  %cells = load i64, ptr %cells_p
  %free_p = getelementptr i8, ptr %store, i64 {StoreContext.EXCEPTION_FREE}
  %free = load ptr, ptr %free_p
  %small = icmp ule i64 %cells, {cell.VALUE_CELLS}
  %has = icmp ne ptr %free, null
  %ready = and i1 %small, %has
  br i1 %ready, label %take, label %ask
take:
  %next_p = getelementptr i8, ptr %free, i64 {cell.NEXT}
  %next = load ptr, ptr %next_p
  store ptr %next, ptr %free_p
  store ptr null, ptr %next_p
  %tag_p = getelementptr i8, ptr %free, i64 {cell.TAG}
  store ptr %tag, ptr %tag_p
  %payload_p = getelementptr i8, ptr %free, i64 {cell.PAYLOAD}
  %payload = getelementptr i8, ptr %free, i64 {cell.VALUES}
  store ptr %payload, ptr %payload_p
  %shared_p = getelementptr i8, ptr %free, i64 {cell.SHARED}
  store i64 0, ptr %shared_p
  ret ptr %free
ask:
  %request = alloca [2 x i64]
  store i64 {SERVICE_EXCEPTION}, ptr %request
  %about = getelementptr i64, ptr %request, i64 1
  store ptr %tag, ptr %about
  call void @wasinn_service(ptr %store, ptr %request)
  %given = load ptr, ptr %request
  ret ptr %given
}}

; Nobody needs the exception any more, unless it was shared.
define void @wasinn_release(ptr %store, ptr %cell) {{
  %shared_p = getelementptr i8, ptr %cell, i64 {cell.SHARED}
  %shared = load i64, ptr %shared_p
  %kept = icmp ne i64 %shared, 0
  br i1 %kept, label %done, label %free
free:
  %tag_p = getelementptr i8, ptr %cell, i64 {cell.TAG}
  store ptr null, ptr %tag_p
  %free_p = getelementptr i8, ptr %store, i64 {StoreContext.EXCEPTION_FREE}
  %first = load ptr, ptr %free_p
  %next_p = getelementptr i8, ptr %cell, i64 {cell.NEXT}
  store ptr %first, ptr %next_p
  store ptr %cell, ptr %free_p
  br label %done
done:
  ret void
}}

; The stack is unwound: guest code goes on, or ends if somebody asked for that meanwhile.
define internal void @back_in_guest(ptr %store) uwtable {{
  %active_p = getelementptr i8, ptr %store, i64 {StoreContext.ACTIVATION}
  %act = load ptr, ptr %active_p
  %in_host_p = getelementptr i8, ptr %act, i64 {Activation.IN_HOST}
  store volatile i64 0, ptr %in_host_p
  %stop_p = getelementptr i8, ptr %act, i64 {Activation.STOP}
  %stop = load volatile i64, ptr %stop_p
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %leave, label %on
leave:
  call void @wasinn_trap(i32 {TrapCode.INTERRUPTED.value})
  unreachable
on:
  ret void
}}

; Compiled code goes on with an exception that it caught; %keep if references to it stay.
define void @wasinn_caught(ptr %store, ptr %cell, i1 %keep) uwtable {{
  call void @back_in_guest(ptr %store)
  br i1 %keep, label %share, label %release
share:
  %shared_p = getelementptr i8, ptr %cell, i64 {cell.SHARED}
  store i64 1, ptr %shared_p
  ret void
release:
  call void @wasinn_release(ptr %store, ptr %cell)
  ret void
}}

define internal void @leave_with(ptr %store, ptr %cell, i32 %status) noreturn {{
  %exception_p = getelementptr i8, ptr %store, i64 {StoreContext.EXCEPTION}
  store ptr %cell, ptr %exception_p
  %act = call ptr @current()
  %buf = getelementptr i8, ptr %act, i64 {Activation.JMP_BUF}
  call void @longjmp(ptr %buf, i32 %status)
  unreachable
}}

{unwinder_ir("wasinn_throw(ptr %store, ptr %cell)", "on_frame", "%cell", 2)}

; For interpreters: call an array entry, and make the tail calls that it leaves. Null, or the
; exception that came instead of results; those take %bytes, or less.
define ptr @wasinn_catch(ptr %entry, ptr %vm, ptr %slots, i64 %bytes) uwtable
  personality ptr @__gcc_personality_v0 {{
begin:
  %store = load ptr, ptr %vm
  %tail_p = getelementptr i8, ptr %store, i64 {StoreContext.TAIL_ENTRY}
  %context_p = getelementptr i8, ptr %store, i64 {StoreContext.TAIL_CONTEXT}
  %exchange = getelementptr i8, ptr %store, i64 {StoreContext.EXCHANGE}
  br label %call
call:
  %callee = phi ptr [ %entry, %begin ], [ %tail, %again ]
  %context = phi ptr [ %vm, %begin ], [ %tail_context, %again ]
  %place = phi ptr [ %slots, %begin ], [ %exchange, %again ]
  %array_p = getelementptr i8, ptr %callee, i64 {CodeEntry.ARRAY}
  %array = load ptr, ptr %array_p
  invoke void %array(ptr %callee, ptr %context, ptr %place, i64 1)
    to label %fine unwind label %pad
fine:
  %tail = load ptr, ptr %tail_p
  %over = icmp eq ptr %tail, null
  br i1 %over, label %look, label %again
again:
  store ptr null, ptr %tail_p
  %tail_context = load ptr, ptr %context_p
  br label %call
look:
  %there = icmp eq ptr %place, %slots
  br i1 %there, label %done, label %copy
copy:
  call void @llvm.memcpy.p0.p0.i64(ptr %slots, ptr %exchange, i64 %bytes, i1 false)
  br label %done
done:
  ret ptr null
pad:
  %landed = landingpad {{ ptr, i32 }} cleanup
  %cell = extractvalue {{ ptr, i32 }} %landed, 0
  call void @back_in_guest(ptr %store)
  ret ptr %cell
}}

; --- collecting: %heap is (first cell, end of the cells, last cell found and not yet traced) ------

; Every word from %from up to %to that may point into a cell marks it: its link gets a value.
define void @wasinn_mark(ptr %heap, ptr %from, ptr %to) {{
entry:
  %first = load i64, ptr %heap
  %end_p = getelementptr i64, ptr %heap, i64 1
  %end = load i64, ptr %end_p
  %list_p = getelementptr i64, ptr %heap, i64 2
  br label %next
next:
  %at = phi ptr [ %from, %entry ], [ %after, %on ]
  %more = icmp ult ptr %at, %to
  br i1 %more, label %look, label %done
look:
  %word = load i64, ptr %at
  %above = icmp uge i64 %word, %first
  %below = icmp ult i64 %word, %end
  %inside = and i1 %above, %below
  br i1 %inside, label %check, label %on
check:
  %number = and i64 %word, {-cell.BYTES}
  %cell = inttoptr i64 %number to ptr
  %tag_p = getelementptr i8, ptr %cell, i64 {cell.TAG}
  %tag = load ptr, ptr %tag_p
  %used = icmp ne ptr %tag, null
  %link_p = getelementptr i8, ptr %cell, i64 {cell.NEXT}
  %link = load i64, ptr %link_p
  %unseen = icmp eq i64 %link, 0
  %fresh = and i1 %used, %unseen
  br i1 %fresh, label %mark, label %on
mark:
  %list = load i64, ptr %list_p
  store i64 %list, ptr %link_p
  store i64 %number, ptr %list_p
  br label %on
on:
  %after = getelementptr i64, ptr %at, i64 1
  br label %next
done:
  ret void
}}

; The stack from here to where the guest's outermost call began, with what registers hold.
define void @wasinn_mark_stack(ptr %heap, ptr %store) noinline {{
  call void asm sideeffect "", "{saved},~{{memory}}"()
  %here = call ptr @llvm.stacksave.p0()
  %top_p = getelementptr i8, ptr %store, i64 {StoreContext.STACK_TOP}
  %top = load ptr, ptr %top_p
  call void @wasinn_mark(ptr %heap, ptr %here, ptr %top)
  ret void
}}

; Mark what marked exceptions carry. A link of 1 ends the list; 2 is that of a traced cell.
define void @wasinn_trace(ptr %heap) {{
entry:
  %list_p = getelementptr i64, ptr %heap, i64 2
  br label %next
next:
  %list = load i64, ptr %list_p
  %over = icmp eq i64 %list, 1
  br i1 %over, label %done, label %trace
trace:
  %cell = inttoptr i64 %list to ptr
  %link_p = getelementptr i8, ptr %cell, i64 {cell.NEXT}
  %link = load i64, ptr %link_p
  store i64 %link, ptr %list_p
  store i64 2, ptr %link_p
  %tag_p = getelementptr i8, ptr %cell, i64 {cell.TAG}
  %tag = load ptr, ptr %tag_p
  %cells_p = getelementptr i8, ptr %tag, i64 {TagDef.CELLS}
  %cells = load i64, ptr %cells_p
  %payload_p = getelementptr i8, ptr %cell, i64 {cell.PAYLOAD}
  %payload = load ptr, ptr %payload_p
  %end = getelementptr i64, ptr %payload, i64 %cells
  call void @wasinn_mark(ptr %heap, ptr %payload, ptr %end)
  br label %next
done:
  ret void
}}

; Free all cells without a mark, clear the marks of the others, and give their number.
define i64 @wasinn_sweep(ptr %heap, ptr %store) {{
entry:
  %first = load ptr, ptr %heap
  %end_p = getelementptr i64, ptr %heap, i64 1
  %end = load ptr, ptr %end_p
  %free_p = getelementptr i8, ptr %store, i64 {StoreContext.EXCEPTION_FREE}
  br label %next
next:
  %cell = phi ptr [ %first, %entry ], [ %after, %on ]
  %free = phi ptr [ null, %entry ], [ %freed, %on ]
  %live = phi i64 [ 0, %entry ], [ %alive, %on ]
  %more = icmp ult ptr %cell, %end
  br i1 %more, label %look, label %done
look:
  %tag_p = getelementptr i8, ptr %cell, i64 {cell.TAG}
  %tag = load ptr, ptr %tag_p
  %unused = icmp eq ptr %tag, null
  %link_p = getelementptr i8, ptr %cell, i64 {cell.NEXT}
  %link = load i64, ptr %link_p
  %unmarked = icmp eq i64 %link, 0
  %dead = or i1 %unused, %unmarked
  br i1 %dead, label %free_it, label %keep
free_it:
  store ptr null, ptr %tag_p
  store ptr %free, ptr %link_p
  br label %on
keep:
  store i64 0, ptr %link_p
  %one_more = add i64 %live, 1
  br label %on
on:
  %freed = phi ptr [ %cell, %free_it ], [ %free, %keep ]
  %alive = phi i64 [ %live, %free_it ], [ %one_more, %keep ]
  %after = getelementptr i8, ptr %cell, i64 {cell.BYTES}
  br label %next
done:
  store ptr %free, ptr %free_p
  ret i64 %live
}}
"""
