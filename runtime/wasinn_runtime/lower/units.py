"""Whole compilation units as LLVM IR: a module's functions, trampolines by signature, the core.

The core is what every process needs once: the way in (``invoke``), the fault and stop handlers,
traps, growth of memories and tables. It is LLVM IR so that nothing but LLVM is needed to build it.
"""

from __future__ import annotations

from collections.abc import Iterable

from wasinn_runtime.abi.layout import (
    MAX_ARENAS,
    SLOT_BYTES,
    Activation,
    FuncRef,
    HostContext,
    MemoryDef,
    StoreContext,
    TableDef,
    VMLayout,
)
from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.errors import Invalid
from wasinn_runtime.lower.ssa import lower_function, native_name
from wasinn_runtime.lower.writer import (
    LLVM_TYPE,
    METADATA,
    FunctionWriter,
    native_result,
)
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import PAGE_SIZE, ExternKind, FuncType, ValType

__all__ = [
    "CORE_SYMBOLS",
    "ENTRIES_SYMBOL",
    "RUNTIME_SYMBOLS",
    "core_unit",
    "escaping_functions",
    "layout_of",
    "module_unit",
    "trampoline_names",
    "trampoline_unit",
]

ENTRIES_SYMBOL = "wasinn_entries"
# What compiled modules import from the core.
RUNTIME_SYMBOLS = (
    "__morestack",
    "wasinn_trap",
    "wasinn_memory_grow",
    "wasinn_table_grow",
    "wasinn_table_fill",
)
CORE_SYMBOLS = (
    *RUNTIME_SYMBOLS,
    "wasinn_invoke",
    "wasinn_on_fault",
    "wasinn_on_stop",
    "wasinn_on_interrupt",
    "wasinn_key",
    "wasinn_arenas",
    "wasinn_previous_fault",
    "wasinn_previous_interrupt",
    "wasinn_main_thread",
)

_DECLARATIONS = """
declare void @wasinn_trap(i32) noreturn cold nounwind
declare i32 @wasinn_memory_grow(ptr, i32) nounwind
declare i32 @wasinn_table_grow(ptr, ptr, i32) nounwind
declare void @wasinn_table_fill(ptr, ptr, i64) nounwind
"""

# disable-tail-calls: a guest that recurses without end must run out of stack, as the specification
# says, and not loop for ever; C compilers have turned the useful ones into loops already.
# split-stack: LLVM begins each function that has a frame by comparing where the frame would end,
# spills and inlined callees included, with the thread's limit, and calls __morestack below it. Only
# LLVM knows how large a frame is: a check written here would have to guess.
_FUNCTION_ATTRIBUTES = 'nounwind "disable-tail-calls"="true" "split-stack"'
# The second set is for functions that LLVM could not optimise in reasonable time.
_ATTRIBUTES = f"""
attributes #0 = {{ {_FUNCTION_ATTRIBUTES} }}
attributes #1 = {{ {_FUNCTION_ATTRIBUTES} optnone noinline }}
"""
# IR text that a module may become, in all: compilers' output becomes 10 to 60 bytes a byte. A
# thousand results are 5 MB, since their type is spelled out with each.
_IR_BYTES, _IR_BYTES_PER_BYTE = 32 << 20, 250
# Where the limit lies: the slot that glibc's thread control block sets aside for it (%fs:0x70).
_STACK_LIMIT = "ptr addrspace(257) inttoptr (i64 112 to ptr addrspace(257))"


def layout_of(module: ParsedModule) -> VMLayout:
    """The layout of the module's VMContext."""
    return VMLayout(
        types=len(module.types),
        imported_functions=module.imported_functions,
        memories=len(module.memories),
        tables=len(module.tables),
        imported_globals=module.imported_globals,
        defined_globals=len(module.global_defs),
        data_segments=len(module.data_segments),
        element_segments=len(module.elements),
        escaping=len(escaping_functions(module)),
    )


def escaping_functions(module: ParsedModule) -> list[int]:
    """Functions that somebody may reach by reference: exported, in segments or globals, start.

    Everything ``ref.func`` may name in code is declared in one of these places. In index order,
    imports included.
    """
    found = {e.index for e in module.exports if e.kind is ExternKind.FUNC}
    expressions = [d.init for d in module.global_defs]
    for segment in module.elements:
        expressions.extend(segment.init)
    for expression in expressions:
        for row, immediate, _ in expression:
            if row.meaning[0] == "ref.func":
                assert isinstance(immediate, int)
                found.add(immediate)
    if module.start is not None:
        found.add(module.start)
    return sorted(found)


def module_unit(module: ParsedModule, bodies: Iterable[tuple[int, Body]]) -> str:
    """All functions of a validated module, and the table of those reachable by reference.

    Args:
        module: the module.
        bodies: every defined function's index (imports first) with its decoded body.

    Raises:
        Invalid: it would become far more IR than its size explains.
    """
    layout = layout_of(module)
    places = {index: i for i, index in enumerate(escaping_functions(module))}
    parts = [METADATA, _DECLARATIONS, _ATTRIBUTES]
    room = _IR_BYTES + _IR_BYTES_PER_BYTE * len(module.data)
    for index, body in bodies:
        parts.append(lower_function(module, layout, places, index, body))
        room -= len(parts[-1])
        if room < 0:
            raise Invalid(
                "module too complex: its functions would become far more code than its "
                f"{len(module.data)} bytes explain; use fewer parameters and results",
                body.start,
                module.where,
                module.function_label(index),
            )
    entries = [f"ptr @{native_name(i)}" for i in places if i >= module.imported_functions]
    listed = ", ".join(entries)
    parts.append(f"@{ENTRIES_SYMBOL} = constant [{len(entries)} x ptr] [{listed}]")
    return "\n".join(parts)


# --- trampolines --------------------------------------------------------------------------------


def trampoline_names(ty: FuncType) -> tuple[str, str]:
    """Symbols of the way into and out of guest code for a signature."""
    letters = {"i32": "i", "i64": "l", "float": "f", "double": "d", "ptr": "p"}
    letters["<16 x i8>"] = "v"
    sides = ["".join(letters[LLVM_TYPE[t]] for t in side) for side in (ty.params, ty.results)]
    name = f"{sides[0]}_{sides[1]}"
    return f"wasinn_enter_{name}", f"wasinn_leave_{name}"


def trampoline_unit(types: Iterable[FuncType]) -> str:
    """For each signature: slots -> native call, and native call -> Python."""
    parts = [METADATA, _DECLARATIONS, _ATTRIBUTES]
    for ty in types:
        enter, leave = trampoline_names(ty)
        parts.append(_enter(ty, enter))
        parts.append(_leave(ty, leave))
    return "\n".join(parts)


def _enter(ty: FuncType, name: str) -> str:
    w = FunctionWriter(f"define void @{name}(ptr %native, ptr %vm, ptr %slots) #0")
    args = ["ptr swiftself %vm"]
    for i, t in enumerate(ty.params):
        place = w.field("%slots", i * SLOT_BYTES)
        args.append(f"{LLVM_TYPE[t]} {w.let(f'load {LLVM_TYPE[t]}, ptr {place}')}")
    call = f"call fastcc {native_result(ty)} %native({', '.join(args)})"
    if not ty.results:
        w.do(call)
    else:
        whole = w.let(call)
        for i, t in enumerate(ty.results):
            one = len(ty.results) == 1
            value = whole if one else w.let(f"extractvalue {native_result(ty)} {whole}, {i}")
            w.do(f"store {LLVM_TYPE[t]} {value}, ptr {w.field('%slots', i * SLOT_BYTES)}")
    w.do("ret void")
    return w.finish()


def _leave(ty: FuncType, name: str) -> str:
    """The native entry of a Python function.

    While Python runs, the activation is marked: a fault there is not the guest's, and a stop waits.
    """
    cells = max(len(ty.params), len(ty.results), 1)
    params = "".join(f", {LLVM_TYPE[t]} %p{i}" for i, t in enumerate(ty.params))
    w = FunctionWriter(f"define fastcc {native_result(ty)} @{name}(ptr swiftself %vm{params}) #0")
    slots = w.let(f"alloca [{cells} x i64]")
    for i, t in enumerate(ty.params):
        kind, value = LLVM_TYPE[t], f"%p{i}"
        if t is ValType.F32:
            kind, value = "i32", w.let(f"bitcast float {value} to i32")
        if kind == "i32":  # Python reads whole slots
            kind, value = "i64", w.let(f"zext i32 {value} to i64")
        w.do(f"store {kind} {value}, ptr {w.field(slots, i * SLOT_BYTES)}")
    store = w.let(f"load ptr, ptr {w.field('%vm', HostContext.STORE)}")
    limit = w.let(f"load i64, ptr {w.field(store, StoreContext.HOST_STACK_LIMIT)}")
    here = w.let(f"ptrtoint ptr {slots} to i64")
    w.trap_if(w.let(f"icmp ult i64 {here}, {limit}"), TrapCode.CALL_STACK_EXHAUSTED)
    activation = w.let(f"load ptr, ptr {w.field(store, StoreContext.ACTIVATION)}")
    in_host = w.field(activation, Activation.IN_HOST)
    dispatch = w.let(f"load ptr, ptr {w.field('%vm', HostContext.DISPATCH)}")
    token = w.let(f"load i64, ptr {w.field('%vm', HostContext.TOKEN)}")
    w.do(f"store volatile i64 1, ptr {in_host}")
    status = w.let(f"call i32 {dispatch}(i64 {token}, ptr {slots})")
    w.do(f"store volatile i64 0, ptr {in_host}")
    # 1 is success: ctypes answers 0 when an exception escapes the Python callback.
    w.trap_if(w.let(f"icmp ne i32 {status}, 1"), TrapCode.HOST_ERROR)
    stop = w.let(f"load volatile i64, ptr {w.field(activation, Activation.STOP)}")
    w.trap_if(w.let(f"icmp ne i64 {stop}, 0"), TrapCode.INTERRUPTED)
    results = [
        (t, w.let(f"load {LLVM_TYPE[t]}, ptr {w.field(slots, i * SLOT_BYTES)}"))
        for i, t in enumerate(ty.results)
    ]
    if not results:
        w.do("ret void")
    elif len(results) == 1:
        w.do(f"ret {native_result(ty)} {results[0][1]}")
    else:
        whole = "poison"
        for i, (t, value) in enumerate(results):
            whole = w.let(f"insertvalue {native_result(ty)} {whole}, {LLVM_TYPE[t]} {value}, {i}")
        w.do(f"ret {native_result(ty)} {whole}")
    return w.finish()


# --- the core -----------------------------------------------------------------------------------


def core_unit(si_addr: int, context_pc: int) -> str:
    """The process-wide core.

    Args:
        si_addr: byte offset of ``si_addr`` in ``siginfo_t`` on this system.
        context_pc: byte offset of the program counter in ``ucontext_t``.
    """
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

@wasinn_key = global i32 0
@wasinn_arenas = global [{2 * MAX_ARENAS} x i64] zeroinitializer
@wasinn_previous_fault = global [256 x i8] zeroinitializer
@wasinn_previous_interrupt = global [256 x i8] zeroinitializer
@wasinn_main_thread = global i64 0

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
  %act = call ptr @current()
  %outside = icmp eq ptr %act, null
  br i1 %outside, label %chain, label %guest
guest:
  %in_host_p = getelementptr i8, ptr %act, i64 {Activation.IN_HOST}
  %in_host = load volatile i64, ptr %in_host_p
  %busy = icmp ne i64 %in_host, 0
  br i1 %busy, label %chain, label %search
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
  %pc_p = getelementptr i8, ptr %context, i64 {context_pc}
  %pc = load i64, ptr %pc_p
  call void @end_with(ptr %act, i32 {TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS.value}, i64 %pc)
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
  %act = call ptr @current()
  %outside = icmp eq ptr %act, null
  br i1 %outside, label %done, label %look
look:
  %stop_p = getelementptr i8, ptr %act, i64 {Activation.STOP}
  %stop = load volatile i64, ptr %stop_p
  %in_host_p = getelementptr i8, ptr %act, i64 {Activation.IN_HOST}
  %in_host = load volatile i64, ptr %in_host_p
  %idle = icmp eq i64 %in_host, 0
  %wanted = icmp ne i64 %stop, 0
  %now = and i1 %idle, %wanted
  br i1 %now, label %leave, label %done
leave:
  %pc_p = getelementptr i8, ptr %context, i64 {context_pc}
  %pc = load i64, ptr %pc_p
  call void @end_with(ptr %act, i32 {TrapCode.INTERRUPTED.value}, i64 %pc)
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
  %act = call ptr @current()
  %outside = icmp eq ptr %act, null
  br i1 %outside, label %done, label %guest
guest:
  %in_host_p = getelementptr i8, ptr %act, i64 {Activation.IN_HOST}
  %in_host = load volatile i64, ptr %in_host_p
  %idle = icmp eq i64 %in_host, 0
  br i1 %idle, label %leave, label %done
leave:
  %pc_p = getelementptr i8, ptr %context, i64 {context_pc}
  %pc = load i64, ptr %pc_p
  call void @end_with(ptr %act, i32 {TrapCode.INTERRUPTED.value}, i64 %pc)
  unreachable
done:
  ret void
}}

; 0: the function returned; 1: it ended early, the activation says why.
define i32 @wasinn_invoke(ptr %act, ptr %store, ptr %function) {{
  %key = load i32, ptr @wasinn_key
  %outer = call ptr @pthread_getspecific(i32 %key)
  %outer_p = getelementptr i8, ptr %act, i64 {Activation.OUTER}
  store ptr %outer, ptr %outer_p
  %active_p = getelementptr i8, ptr %store, i64 {StoreContext.ACTIVATION}
  %active = load volatile ptr, ptr %active_p
  %outer_limit = load volatile i64, {_STACK_LIMIT}
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
  br label %prepare
prepare:
  %own_limit = load i64, ptr %store
  store volatile i64 %own_limit, {_STACK_LIMIT}
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
  %native_p = getelementptr i8, ptr %function, i64 {FuncRef.NATIVE}
  %native = load ptr, ptr %native_p
  %vm_p = getelementptr i8, ptr %function, i64 {FuncRef.CONTEXT}
  %vm = load ptr, ptr %vm_p
  %array_p = getelementptr i8, ptr %function, i64 {FuncRef.ARRAY}
  %array = load ptr, ptr %array_p
  %slots = getelementptr i8, ptr %act, i64 {Activation.SLOTS}
  call void %array(ptr %native, ptr %vm, ptr %slots)
  br label %ended
ended:
  %status = phi i32 [ 1, %prepare ], [ 1, %refuse ], [ 0, %go ]
  call i32 @pthread_setspecific(i32 %key, ptr %outer)
  store volatile ptr %active, ptr %active_p
  store volatile i64 %outer_limit, {_STACK_LIMIT}
  ret i32 %status
}}

; Pages before, or -1. Python set the limit; opening pages is all that growth takes.
define i32 @wasinn_memory_grow(ptr %memory, i32 %delta) {{
  %length_p = getelementptr i8, ptr %memory, i64 {MemoryDef.BYTE_LENGTH}
  %length = load i64, ptr %length_p
  %max_p = getelementptr i8, ptr %memory, i64 {MemoryDef.MAX_PAGES}
  %max = load i64, ptr %max_p
  %pages = udiv i64 %length, {PAGE_SIZE}
  %more = zext i32 %delta to i64
  %new = add i64 %pages, %more
  %too_many = icmp ugt i64 %new, %max
  br i1 %too_many, label %refuse, label %open
open:
  %base = load ptr, ptr %memory
  %start = getelementptr i8, ptr %base, i64 %length
  %bytes = mul i64 %more, {PAGE_SIZE}
  %nothing = icmp eq i64 %bytes, 0
  br i1 %nothing, label %done, label %protect
protect:
  %failed = call i32 @mprotect(ptr %start, i64 %bytes, i32 3)
  %bad = icmp ne i32 %failed, 0
  br i1 %bad, label %refuse, label %grown
grown:
  %total = mul i64 %new, {PAGE_SIZE}
  store i64 %total, ptr %length_p
  br label %done
done:
  %before = trunc i64 %pages to i32
  ret i32 %before
refuse:
  ret i32 -1
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

define i32 @wasinn_table_grow(ptr %table, ptr %value, i32 %delta) {{
  %size_p = getelementptr i8, ptr %table, i64 {TableDef.SIZE}
  %size = load i64, ptr %size_p
  %max_p = getelementptr i8, ptr %table, i64 {TableDef.MAX_SIZE}
  %max = load i64, ptr %max_p
  %more = zext i32 %delta to i64
  %new = add i64 %size, %more
  %too_many = icmp ugt i64 %new, %max
  br i1 %too_many, label %refuse, label %grow
grow:
  %base = load ptr, ptr %table
  %first = getelementptr ptr, ptr %base, i64 %size
  call void @wasinn_table_fill(ptr %first, ptr %value, i64 %more)
  store i64 %new, ptr %size_p
  %before = trunc i64 %size to i32
  ret i32 %before
refuse:
  ret i32 -1
}}
"""
