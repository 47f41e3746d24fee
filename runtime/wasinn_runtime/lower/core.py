"""The core: what every process needs once, as LLVM IR, so that nothing but LLVM builds it.

The way in (``wasinn_invoke``), the handlers of faults, stops and Ctrl-C, traps, growth of memories
and tables. Compiled modules call some of it; ``engines/core.py`` installs the rest.
"""

from __future__ import annotations

from wasinn_runtime.abi.layout import (
    MAX_ARENAS,
    Activation,
    CodeEntry,
    FuncRef,
    MemoryDef,
    StoreContext,
    TableDef,
)
from wasinn_runtime.lower.core_captures import CAPTURE_SYMBOLS, captures_ir
from wasinn_runtime.lower.core_exceptions import (
    EXCEPTION_CORE_SYMBOLS,
    EXCEPTION_SYMBOLS,
    UNWINDING,
    exceptions_ir,
)
from wasinn_runtime.lower.core_services import SERVICE_SYMBOLS, services_ir
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import PAGE_SIZE

__all__ = ["CORE_SYMBOLS", "RUNTIME_SYMBOLS", "core_unit"]

# What compiled modules import from the core.
RUNTIME_SYMBOLS = (
    "__morestack",
    "wasinn_trap",
    "wasinn_memory_grow",
    "wasinn_table_grow",
    "wasinn_table_fill",
    "wasinn_subtype",
    *EXCEPTION_SYMBOLS,
    *CAPTURE_SYMBOLS,
    *SERVICE_SYMBOLS,
)
CORE_SYMBOLS = (
    *RUNTIME_SYMBOLS,
    *EXCEPTION_CORE_SYMBOLS[len(EXCEPTION_SYMBOLS) :],
    "wasinn_supertypes",
    "wasinn_invoke",
    "wasinn_host_call",
    "wasinn_prepare",
    "wasinn_make_ready",
    "wasinn_hot",
    "wasinn_dispatch",
    "wasinn_on_fault",
    "wasinn_on_stop",
    "wasinn_on_interrupt",
    "wasinn_key",
    "wasinn_arenas",
    "wasinn_previous_fault",
    "wasinn_previous_interrupt",
    "wasinn_main_thread",
)
# Where the limit lies: code to find the place, and its address. x86-64: the slot that glibc's
# thread control block sets aside for it (%fs:0x70), where LLVM's split-stack prologue looks.
# aarch64: the second word of that block, which the ABI reserves and nobody uses; the linker's
# checks look there (engines/frame_checks.py).
_STACK_LIMIT = {
    "x86_64": ("", "ptr addrspace(257) inttoptr (i64 112 to ptr addrspace(257))"),
    "aarch64": (
        """%thread = call ptr @llvm.thread.pointer.p0()
  %limit_slot = getelementptr i8, ptr %thread, i64 8""",
        "ptr %limit_slot",
    ),
}


def core_unit(si_addr: int, context_pc: int, machine: str) -> str:
    """The process-wide core.

    Args:
        si_addr: byte offset of ``si_addr`` in ``siginfo_t`` on this system.
        context_pc: byte offset of the program counter in ``ucontext_t``.
        machine: the CPU's name in triples.
    """
    find_limit, limit = _STACK_LIMIT[machine]
    return f"""
declare i32 @_setjmp(ptr) returns_twice
declare void @longjmp(ptr, i32) noreturn
declare ptr @pthread_getspecific(i32)
declare i32 @pthread_setspecific(i32, ptr)
declare i64 @pthread_self()
declare i32 @sigaction(i32, ptr, ptr)
declare i32 @mprotect(ptr, i64, i32)
declare ptr @llvm.returnaddress(i32)
declare ptr @llvm.frameaddress.p0(i32)
declare i64 @llvm.umax.i64(i64, i64)
declare ptr @llvm.thread.pointer.p0()
declare ptr @llvm.stacksave.p0()
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

@wasinn_key = global i32 0
@wasinn_arenas = global [{2 * MAX_ARENAS} x i64] zeroinitializer
@wasinn_previous_fault = global [256 x i8] zeroinitializer
@wasinn_previous_interrupt = global [256 x i8] zeroinitializer
@wasinn_main_thread = global i64 0
@wasinn_dispatch = global [4 x ptr] zeroinitializer ; host functions, preparing, services, heating
@wasinn_supertypes = global ptr null ; the number of each numbered type's supertype, or 0

define internal ptr @current() {{
  %k = load i32, ptr @wasinn_key
  %a = call ptr @pthread_getspecific(i32 %k)
  ret ptr %a
}}

define internal void @end_with(ptr %act, i32 %code, i64 %pc) noreturn {{
  %code_p = getelementptr i8, ptr %act, i64 {Activation.TRAP_CODE}
  %wide = zext i32 %code to i64
  store i64 %wide, ptr %code_p
  %pc_p = getelementptr i8, ptr %act, i64 {Activation.TRAP_PC}
  store i64 %pc, ptr %pc_p
  %buf = getelementptr i8, ptr %act, i64 {Activation.JMP_BUF}
  call void @longjmp(ptr %buf, i32 1)
  unreachable
}}

; The activation of this thread if guest code runs in it now; null in host code and outside.
define internal ptr @in_guest() {{
  %act = call ptr @current()
  %outside = icmp eq ptr %act, null
  br i1 %outside, label %no, label %look
look:
  %in_host_p = getelementptr i8, ptr %act, i64 {Activation.IN_HOST}
  %in_host = load volatile i64, ptr %in_host_p
  %busy = icmp ne i64 %in_host, 0
  br i1 %busy, label %no, label %yes
yes:
  ret ptr %act
no:
  ret ptr null
}}

define internal void @end_at(ptr %act, i32 %code, ptr %context) noreturn {{
  %pc_p = getelementptr i8, ptr %context, i64 {context_pc}
  %pc = load i64, ptr %pc_p
  call void @end_with(ptr %act, i32 %code, i64 %pc)
  unreachable
}}

; A trap that compiled code found: back to the innermost invoke.
define void @wasinn_trap(i32 %code) noreturn noinline {{
  %act = call ptr @current()
  %ra = call ptr @llvm.returnaddress(i32 0)
  %after = ptrtoint ptr %ra to i64
  %pc = sub i64 %after, 1 ; the call may be a function's last instruction
  call void @end_with(ptr %act, i32 %code, i64 %pc)
  unreachable
}}

; A function's frame would reach below the limit. Its own prologue calls, before there is a frame.
define void @__morestack() noreturn noinline "stackrealign" {{
  %act = call ptr @current()
  %ra = call ptr @llvm.returnaddress(i32 0)
  %pc = ptrtoint ptr %ra to i64
  call void @end_with(ptr %act, i32 {TrapCode.CALL_STACK_EXHAUSTED.value}, i64 %pc)
  unreachable
}}

; A fault is a trap when guest code runs and the address lies in an arena of linear memories.
; Anything else goes on to whatever handler was there before.
define void @wasinn_on_fault(i32 %signal, ptr %info, ptr %context) {{
  %act = call ptr @in_guest()
  %elsewhere = icmp eq ptr %act, null
  br i1 %elsewhere, label %chain, label %search
search:
  %addr_p = getelementptr i8, ptr %info, i64 {si_addr}
  %addr = load i64, ptr %addr_p
  br label %next
next:
  %i = phi i64 [ 0, %search ], [ %after, %miss ]
  %low_p = getelementptr i64, ptr @wasinn_arenas, i64 %i
  %low = load i64, ptr %low_p
  %high_i = add i64 %i, 1
  %high_p = getelementptr i64, ptr @wasinn_arenas, i64 %high_i
  %high = load i64, ptr %high_p
  %last = icmp eq i64 %low, 0
  br i1 %last, label %chain, label %compare
compare:
  %ge = icmp uge i64 %addr, %low
  %lt = icmp ult i64 %addr, %high
  %ours = and i1 %ge, %lt
  br i1 %ours, label %trap, label %miss
miss:
  %after = add i64 %i, 2
  %more = icmp ult i64 %after, {2 * MAX_ARENAS}
  br i1 %more, label %next, label %chain
trap:
  call void @end_at(ptr %act, i32 {TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS.value}, ptr %context)
  unreachable
chain:
  %previous = load ptr, ptr @wasinn_previous_fault
  %number = ptrtoint ptr %previous to i64
  %is_code = icmp ugt i64 %number, 1 ; not SIG_DFL, not SIG_IGN
  br i1 %is_code, label %call, label %restore
call: ; another runtime in this process, or faulthandler; ours stays for the next fault
  call void %previous(i32 %signal, ptr %info, ptr %context)
  ret void
restore: ; the access is made again and ends the process
  %ignored = call i32 @sigaction(i32 %signal, ptr @wasinn_previous_fault, ptr null)
  ret void
}}

; Sent to a thread whose activation was marked to stop. In a host call the mark alone does it.
define void @wasinn_on_stop(i32 %signal, ptr %info, ptr %context) {{
  %act = call ptr @in_guest()
  %elsewhere = icmp eq ptr %act, null
  br i1 %elsewhere, label %done, label %look
look:
  %stop_p = getelementptr i8, ptr %act, i64 {Activation.STOP}
  %stop = load volatile i64, ptr %stop_p
  %wanted = icmp ne i64 %stop, 0
  br i1 %wanted, label %leave, label %done
leave:
  call void @end_at(ptr %act, i32 {TrapCode.INTERRUPTED.value}, ptr %context)
  unreachable
done:
  ret void
}}

; Ctrl-C while the main thread runs guest code: Python's own handler notes the signal, then the
; guest ends, and Python raises KeyboardInterrupt as soon as it is back.
define void @wasinn_on_interrupt(i32 %signal, ptr %info, ptr %context) {{
  %python = load ptr, ptr @wasinn_previous_interrupt
  call void %python(i32 %signal, ptr %info, ptr %context)
  %me = call i64 @pthread_self()
  %main = load i64, ptr @wasinn_main_thread
  %is_main = icmp eq i64 %me, %main
  br i1 %is_main, label %look, label %done
look:
  %act = call ptr @in_guest()
  %elsewhere = icmp eq ptr %act, null
  br i1 %elsewhere, label %unwinding, label %leave
leave:
  call void @end_at(ptr %act, i32 {TrapCode.INTERRUPTED.value}, ptr %context)
  unreachable
unwinding: ; with locks held, perhaps: who catches the exception will look at the mark
  %any = call ptr @current()
  %none = icmp eq ptr %any, null
  br i1 %none, label %done, label %which
which:
  %in_host_p = getelementptr i8, ptr %any, i64 {Activation.IN_HOST}
  %in_host = load volatile i64, ptr %in_host_p
  %throws = icmp eq i64 %in_host, {UNWINDING}
  br i1 %throws, label %note, label %done
note:
  %stop_p = getelementptr i8, ptr %any, i64 {Activation.STOP}
  store volatile i64 1, ptr %stop_p
  br label %done
done:
  ret void
}}

; 0: the function returned; 1: it ended early, the activation says why; 2: by an exception, which
; is in the store's context; 3: by one that could not be unwound; 4: it stopped at a safepoint, and
; its frames are where the store's context says; 5: there was no room for them.
define i32 @wasinn_invoke(ptr %act, ptr %store, ptr %function) uwtable {{
  %key = load i32, ptr @wasinn_key
  %outer = call ptr @pthread_getspecific(i32 %key)
  %outer_p = getelementptr i8, ptr %act, i64 {Activation.OUTER}
  store ptr %outer, ptr %outer_p
  %active_p = getelementptr i8, ptr %store, i64 {StoreContext.ACTIVATION}
  %active = load volatile ptr, ptr %active_p
  {find_limit}
  %outer_limit = load volatile i64, {limit}
  %values_p = getelementptr i8, ptr %store, i64 {StoreContext.VALUE_SP}
  %values = load volatile ptr, ptr %values_p
  %control_p = getelementptr i8, ptr %store, i64 {StoreContext.CONTROL_SP}
  %control = load volatile ptr, ptr %control_p
  %runs_p = getelementptr i8, ptr %store, i64 {StoreContext.CURRENT}
  %runs = load volatile ptr, ptr %runs_p
  %nested = icmp ne ptr %active, null
  br i1 %nested, label %prepare, label %limits
limits:
  %frame = call ptr @llvm.frameaddress.p0(i32 0)
  %here = ptrtoint ptr %frame to i64
  %budget_p = getelementptr i8, ptr %store, i64 {StoreContext.STACK_BUDGET}
  %budget = load i64, ptr %budget_p
  %lowest = sub i64 %here, %budget
  %floor_p = getelementptr i8, ptr %store, i64 {StoreContext.STACK_FLOOR}
  %floor = load i64, ptr %floor_p
  %limit = call i64 @llvm.umax.i64(i64 %lowest, i64 %floor)
  store i64 %limit, ptr %store
  %top_p = getelementptr i8, ptr %store, i64 {StoreContext.STACK_TOP}
  store ptr %frame, ptr %top_p
  br label %prepare
prepare:
  %own_limit = load i64, ptr %store
  store volatile i64 %own_limit, {limit}
  %buf = getelementptr i8, ptr %act, i64 {Activation.JMP_BUF}
  %again = call i32 @_setjmp(ptr %buf) returns_twice
  %first = icmp eq i32 %again, 0
  br i1 %first, label %run, label %ended
run:
  store volatile ptr %act, ptr %active_p
  call i32 @pthread_setspecific(i32 %key, ptr %act)
  %stop_p = getelementptr i8, ptr %act, i64 {Activation.STOP}
  %stop = load volatile i64, ptr %stop_p
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %refuse, label %go
refuse:
  %code_p = getelementptr i8, ptr %act, i64 {Activation.TRAP_CODE}
  store i64 {TrapCode.INTERRUPTED.value}, ptr %code_p
  br label %ended
go:
  %entry_p = getelementptr i8, ptr %function, i64 {FuncRef.ENTRY}
  %entry = load ptr, ptr %entry_p
  %vm_p = getelementptr i8, ptr %function, i64 {FuncRef.CONTEXT}
  %vm = load ptr, ptr %vm_p
  %array_p = getelementptr i8, ptr %function, i64 {FuncRef.ARRAY}
  %array = load ptr, ptr %array_p
  %slots = getelementptr i8, ptr %act, i64 {Activation.SLOTS}
  call void %array(ptr %entry, ptr %vm, ptr %slots, i64 0)
  br label %ended
ended:
  %status = phi i32 [ %again, %prepare ], [ 1, %refuse ], [ 0, %go ]
  %ran = load volatile ptr, ptr %runs_p
  %ran_p = getelementptr i8, ptr %act, i64 {Activation.TRAP_ENTRY}
  store ptr %ran, ptr %ran_p
  call i32 @pthread_setspecific(i32 %key, ptr %outer)
  store volatile ptr %active, ptr %active_p
  store volatile i64 %outer_limit, {limit}
  store volatile ptr %values, ptr %values_p
  store volatile ptr %control, ptr %control_p
  store volatile ptr %runs, ptr %runs_p
  %tail_p = getelementptr i8, ptr %store, i64 {StoreContext.TAIL_ENTRY}
  store volatile ptr null, ptr %tail_p ; a stop may have come before it was taken
  ret i32 %status
}}

; Array entry of a function written in Python.
define void @wasinn_host_call(ptr %entry, ptr %context, ptr %slots, i64 %jumps) uwtable {{
  %token_p = getelementptr i8, ptr %entry, i64 {CodeEntry.TOKEN}
  %token = load i64, ptr %token_p
  %store = load ptr, ptr %context
  %dispatch = load ptr, ptr @wasinn_dispatch
  call void @into_python(ptr %store, ptr %dispatch, i64 %token, ptr %slots)
  ret void
}}

; Array entry of a function that nobody called yet: Python makes it ready and puts its entries in
; place of this one.
define void @wasinn_prepare(ptr %entry, ptr %vm, ptr %slots, i64 %jumps) uwtable {{
  call void @wasinn_make_ready(ptr %entry, ptr %vm)
  %array_p = getelementptr i8, ptr %entry, i64 {CodeEntry.ARRAY}
  %array = load ptr, ptr %array_p
  tail call void %array(ptr %entry, ptr %vm, ptr %slots, i64 %jumps)
  ret void
}}

define void @wasinn_make_ready(ptr %entry, ptr %vm) uwtable {{
  %token_p = getelementptr i8, ptr %entry, i64 {CodeEntry.TOKEN}
  %token = load i64, ptr %token_p
  %index_p = getelementptr i8, ptr %entry, i64 {CodeEntry.INDEX}
  %store = load ptr, ptr %vm
  %dispatch_p = getelementptr ptr, ptr @wasinn_dispatch, i64 1
  %dispatch = load ptr, ptr %dispatch_p
  call void @into_python(ptr %store, ptr %dispatch, i64 %token, ptr %index_p)
  ret void
}}

; The counter of a function in a cheap tier is used up, at its beginning (loop 0) or at one of its
; loops (from 1). 1: compiled code has run it to its end and left the results in the slots.
; 0: it goes on as it is.
define i32 @wasinn_hot(ptr %code, ptr %vm, ptr %slots, i64 %loop) uwtable {{
  %ways_p = getelementptr i8, ptr %code, i64 {CodeEntry.OSR}
  %ways = load ptr, ptr %ways_p
  %none = icmp eq ptr %ways, null
  br i1 %none, label %ask, label %look
look:
  %count = load i64, ptr %ways
  %known = icmp ult i64 %loop, %count
  br i1 %known, label %find, label %ask
find:
  %number = add i64 %loop, 1
  %way_p = getelementptr i64, ptr %ways, i64 %number
  %way = load ptr, ptr %way_p
  %missing = icmp eq ptr %way, null
  br i1 %missing, label %ask, label %go
go:
  call void %way(ptr %code, ptr %vm, ptr %slots, i64 0)
  ret i32 1
ask:
  %store = load ptr, ptr %vm
  %frame = call ptr @llvm.frameaddress.p0(i32 0)
  %here = ptrtoint ptr %frame to i64
  %limit_p = getelementptr i8, ptr %store, i64 {StoreContext.HOST_STACK_LIMIT}
  %limit = load i64, ptr %limit_p
  %low = icmp ult i64 %here, %limit
  br i1 %low, label %done, label %heat
heat:
  %cells = alloca [2 x i64]
  %index_p = getelementptr i8, ptr %code, i64 {CodeEntry.INDEX}
  %index = load i64, ptr %index_p
  store i64 %index, ptr %cells
  %loop_p = getelementptr i64, ptr %cells, i64 1
  store i64 %loop, ptr %loop_p
  %token_p = getelementptr i8, ptr %code, i64 {CodeEntry.TOKEN}
  %token = load i64, ptr %token_p
  %dispatch_p = getelementptr ptr, ptr @wasinn_dispatch, i64 3
  %dispatch = load ptr, ptr %dispatch_p
  call void @into_python(ptr %store, ptr %dispatch, i64 %token, ptr %cells)
  br label %done
done:
  ret i32 0
}}

; While Python runs, the activation is marked: a fault there is not the guest's, and a stop waits.
; What Python answers: 0 it raised (ctypes says so, too), 1 all is well, 2 throw the exception that
; is in the store's context.
define internal void @into_python(ptr %store, ptr %dispatch, i64 %token, ptr %cells) uwtable {{
  %frame = call ptr @llvm.frameaddress.p0(i32 0)
  %here = ptrtoint ptr %frame to i64
  %limit_p = getelementptr i8, ptr %store, i64 {StoreContext.HOST_STACK_LIMIT}
  %limit = load i64, ptr %limit_p
  %low = icmp ult i64 %here, %limit
  br i1 %low, label %exhausted, label %enter
exhausted:
  call void @wasinn_trap(i32 {TrapCode.CALL_STACK_EXHAUSTED.value})
  unreachable
enter:
  %active_p = getelementptr i8, ptr %store, i64 {StoreContext.ACTIVATION}
  %act = load ptr, ptr %active_p
  %in_host_p = getelementptr i8, ptr %act, i64 {Activation.IN_HOST}
  store volatile i64 1, ptr %in_host_p
  %status = call i32 %dispatch(i64 %token, ptr %cells)
  store volatile i64 0, ptr %in_host_p
  %bad = icmp eq i32 %status, 0
  br i1 %bad, label %failed, label %look
failed:
  call void @wasinn_trap(i32 {TrapCode.HOST_ERROR.value})
  unreachable
look:
  %stop_p = getelementptr i8, ptr %act, i64 {Activation.STOP}
  %stop = load volatile i64, ptr %stop_p
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %leave, label %check
leave:
  call void @wasinn_trap(i32 {TrapCode.INTERRUPTED.value})
  unreachable
check:
  %throws = icmp eq i32 %status, 2
  br i1 %throws, label %throw, label %done
throw:
  %exception_p = getelementptr i8, ptr %store, i64 {StoreContext.EXCEPTION}
  %exception = load ptr, ptr %exception_p
  call void @wasinn_throw(ptr %store, ptr %exception)
  unreachable
done:
  ret void
}}

; Pages before, or -1. Python set the limit; opening pages is all that growth takes.
define i64 @wasinn_memory_grow(ptr %memory, i64 %delta) {{
  %length_p = getelementptr i8, ptr %memory, i64 {MemoryDef.BYTE_LENGTH}
  %length = load i64, ptr %length_p
  %max_p = getelementptr i8, ptr %memory, i64 {MemoryDef.MAX_PAGES}
  %max = load i64, ptr %max_p
  %pages = udiv i64 %length, {PAGE_SIZE}
  %room = sub i64 %max, %pages
  %too_many = icmp ugt i64 %delta, %room
  br i1 %too_many, label %refuse, label %open
open:
  %base = load ptr, ptr %memory
  %start = getelementptr i8, ptr %base, i64 %length
  %bytes = mul i64 %delta, {PAGE_SIZE}
  %nothing = icmp eq i64 %bytes, 0
  br i1 %nothing, label %done, label %protect
protect:
  %failed = call i32 @mprotect(ptr %start, i64 %bytes, i32 3)
  %bad = icmp ne i32 %failed, 0
  br i1 %bad, label %refuse, label %grown
grown:
  %total = add i64 %length, %bytes
  store atomic i64 %total, ptr %length_p release, align 8
  br label %done
done:
  ret i64 %pages
refuse:
  ret i64 -1
}}

define void @wasinn_table_fill(ptr %first, ptr %value, i64 %count) {{
entry:
  %none = icmp eq i64 %count, 0
  br i1 %none, label %done, label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %p = getelementptr ptr, ptr %first, i64 %i
  store ptr %value, ptr %p
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %count
  br i1 %more, label %loop, label %done
done:
  ret void
}}

define i64 @wasinn_table_grow(ptr %table, ptr %value, i64 %delta) {{
  %size_p = getelementptr i8, ptr %table, i64 {TableDef.SIZE}
  %size = load i64, ptr %size_p
  %max_p = getelementptr i8, ptr %table, i64 {TableDef.MAX_SIZE}
  %max = load i64, ptr %max_p
  %room = sub i64 %max, %size
  %too_many = icmp ugt i64 %delta, %room
  br i1 %too_many, label %refuse, label %grow
grow:
  %base = load ptr, ptr %table
  %first = getelementptr ptr, ptr %base, i64 %size
  call void @wasinn_table_fill(ptr %first, ptr %value, i64 %delta)
  %new = add i64 %size, %delta
  store i64 %new, ptr %size_p
  ret i64 %size
refuse:
  ret i64 -1
}}

; Whether the type with one number is the other, or declared to be a subtype of it.
define i1 @wasinn_subtype(i64 %type, i64 %wanted) {{
entry:
  %table = load ptr, ptr @wasinn_supertypes
  br label %next
next:
  %at = phi i64 [ %type, %entry ], [ %above, %up ]
  %same = icmp eq i64 %at, %wanted
  br i1 %same, label %yes, label %other
other: ; there is no table before the first type that declares anything
  %plain = icmp eq ptr %table, null
  br i1 %plain, label %no, label %up
up:
  %above_p = getelementptr i64, ptr %table, i64 %at
  %above = load i64, ptr %above_p
  %none = icmp eq i64 %above, 0
  br i1 %none, label %no, label %next
yes:
  ret i1 true
no:
  ret i1 false
}}
{exceptions_ir(machine)}
{captures_ir()}
{services_ir()}
"""
