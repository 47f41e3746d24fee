"""Byte layouts of the structures that generated code and Python both touch.

Generated code addresses fields by the constants here, Python fills them through ctypes. Nothing
else knows an offset. All structures are little endian with 8-byte cells.

    StoreContext   one per store: what every activation needs
    VMContext      one per instance: a fixed header, then regions whose place depends on the module
    MemoryDef      one per linear memory; its base never moves
    TableDef       one per table; its base never moves
    CodeEntry      one per function of a module, shared by its instances: how it runs at the moment
    TagDef         one per exception tag
    ExceptionCell  one per exception that was thrown and may still be needed
    FrameRecord    one per frame of a call that stopped at a safepoint
    FuncRef        what a ``funcref`` points to: a function with its context and type
    HostContext    the context (instead of a VMContext) of a function written in Python
    Activation     one per call from Python into a guest: its arguments and results, and where
                   traps and stops come back to
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wasinn_runtime.spec.limits import MAX_PARAMS, MAX_RESULTS
from wasinn_runtime.spec.types import ValType

__all__ = [
    "ABI_VERSION",
    "MAX_ARENAS",
    "SLOT_BYTES",
    "Activation",
    "CodeEntry",
    "ExceptionCell",
    "FrameRecord",
    "FuncRef",
    "HostContext",
    "MemoryDef",
    "StoreContext",
    "TableDef",
    "TagDef",
    "VMContext",
    "VMLayout",
    "slot_cells",
]

# Part of every compiled artefact's key: raise it whenever a layout or a convention changes.
ABI_VERSION = 8

SLOT_BYTES = 8
# How many pieces of address space for linear memories the fault handler can know.
MAX_ARENAS = 256


class StoreContext:
    STACK_LIMIT = 0  # i64: the lowest stack address that guest code may reach
    HOST_STACK_LIMIT = 8  # i64: the same for a call back into Python, which needs more room
    ACTIVATION = 16  # ptr: the innermost activation
    STACK_FLOOR = 24  # i64: lowest address of this thread's stack that guest code may ever reach
    STACK_BUDGET = 32  # i64: how many bytes of stack one call from Python may use
    STACK_TOP = 40  # i64: where the stack of the outermost activation begins
    # The interpreters' stacks share one region: values grow up, control frames grow down.
    VALUE_SP = 48  # ptr: the first free byte of the value stack
    CONTROL_SP = 56  # ptr: the lowest used byte of the control stack
    CURRENT = 64  # ptr: the CodeEntry that an interpreter runs, for the messages of traps
    EXCEPTION = 72  # ptr: the exception that leaves an activation, or that Python throws
    EXCEPTION_FREE = 80  # ptr: the first free cell for an exception
    SERVICES = 88  # i64: id() of the Python object that does what is rare
    VALUE_STACK = 96  # ptr: where the interpreters' value stack begins
    # A tail call that an interpreter left for its caller to make, with arguments in slots in the
    # exchange area.
    TAIL_ENTRY = 104  # ptr: the CodeEntry, whose JUMP is set; 0 while there is none
    TAIL_CONTEXT = 112  # ptr: its context
    # A stop at a safepoint: see lower/migratable.py.
    CAPTURE_UNWIND = 128  # 32 bytes for the unwinder; their address is the exception it carries
    CAPTURE_NEXT = 160  # ptr: where the next FrameRecord goes
    CAPTURE_END = 168  # ptr: where the room for them ends
    # What native calls pass beyond registers, arguments and results: see lower/convention.py.
    EXCHANGE = 176
    EXCHANGE_BYTES = 16 * max(MAX_PARAMS, MAX_RESULTS)
    BYTES = EXCHANGE + EXCHANGE_BYTES


class ExceptionCell:
    """A thrown exception, and what an ``exnref`` points to. Aligned to 16 bytes."""

    UNWIND = 0  # 32 bytes for the unwinder, zeroed when it is thrown
    TAG = 32  # ptr TagDef; 0 in a free cell
    PAYLOAD = 40  # ptr: the values in slots, inside the cell or elsewhere
    SHARED = 48  # i64: 1 once guests may hold references, so that only a collection frees it
    NEXT = 56  # ptr: links free cells, or those that were found alive
    VALUES = 64
    BYTES = 128
    VALUE_CELLS = (BYTES - VALUES) // SLOT_BYTES


class FrameRecord:
    """A canonical frame, as compiled code leaves it; the innermost comes first."""

    CONTEXT = 0  # ptr VMContext: the instance
    FUNCTION = 8  # i64: the function's index, imports included
    OFFSET = 16  # i64: of the instruction it is at, in the module's bytes
    COUNT = 24  # i64: how many cells follow
    CELLS = 32  # locals, then operands by height


class TagDef:
    """What tells a tag from others is its address."""

    CELLS = 0  # i64: slots of its values
    SIGNATURE = 8  # i64: the process-wide number of its type
    BYTES = 16


class MemoryDef:
    BASE = 0  # ptr
    BYTE_LENGTH = 8  # i64: current size
    MAX_PAGES = 16  # i64: the smaller of the type's maximum and the store's limit
    BYTES = 32


class TableDef:
    BASE = 0  # ptr to 8-byte elements
    SIZE = 8  # i64: current number of elements
    MAX_SIZE = 16  # i64
    BYTES = 32


class CodeEntry:
    """All entries take the CodeEntry itself, so that one stub serves all of a signature.

    An array entry is ``void (entry, context, slots, i64 jumps)``, with arguments and results in
    8-byte slots. ``jumps`` is 1 if the caller makes the tail call that it may find in the
    StoreContext when the entry is back, and 0 if it knows of no such thing.
    """

    NATIVE = 0  # ptr: entry as nest, context as swiftself, arguments: see lower/convention.py
    ARRAY = 8  # ptr
    # ptr: what an interpreter runs; stays when compiled code takes over, for who is about to enter
    # it or is in it. 0 while there is none.
    CODE = 16
    TOKEN = 24  # i64: id() of the Python object that answers for it
    INDEX = 32  # i64: the function's index, imports included
    COUNT = 40  # i64: calls and loop iterations left until it counts as hot
    OSR = 48  # ptr: compiled code's entries at loop headers; 0 while there are none
    JUMP = 56  # ptr: as NATIVE, arguments in slots in the exchange area; 0 if NATIVE is
    BYTES = 64


class FuncRef:
    NATIVE = 0  # ptr: as the CodeEntry's when the reference was made
    CONTEXT = 8  # ptr: VMContext or HostContext
    SIGNATURE = 16  # i64: the process-wide number of its type
    ARRAY = 24  # ptr: as the CodeEntry's when the reference was made
    ENTRY = 32  # ptr CodeEntry
    BYTES = 48


class HostContext:
    STORE = 0  # ptr StoreContext, where a VMContext has it
    BYTES = 16


class Activation:
    IN_HOST = 0  # i64: 1 while a host function runs, 2 while an exception unwinds the stack
    STOP = 8  # i64: 1 once somebody asked for a stop
    TRAP_CODE = 16  # i64: a TrapCode, when the call ended by one
    TRAP_PC = 24  # i64: where, as a code address
    OUTER = 32  # ptr: the activation of the same thread that was there before
    TRAP_ENTRY = 40  # ptr: the CodeEntry that an interpreter was running then
    JMP_BUF = 64  # 200 bytes on x86-64, 312 on aarch64 with glibc; less with musl
    SLOTS = 64 + 448  # arguments, then results, of the call


class VMContext:
    """The fixed header; the rest is in VMLayout."""

    STORE = 0  # ptr StoreContext
    ENTRIES = 8  # ptr: the CodeEntry of the first defined function, the others after it
    CAPTURE = 16  # i64: 1 while migratable code is to stop at its next safepoint
    SELF = 24  # ptr: this context
    HEADER_BYTES = 32

    # element sizes of the regions
    RESOURCE_BASE = 0  # memories and tables: the immovable base, then the definition
    RESOURCE_DEF = 8
    RESOURCE_BYTES = 16
    SEGMENT_ADDRESS = 0
    SEGMENT_LENGTH = 8
    SEGMENT_BYTES = 16
    GLOBAL_BYTES = 16
    SIGNATURE_BYTES = 8


def slot_cells(types: tuple[ValType, ...]) -> int:
    """How many 8-byte slots values of these types take."""
    return sum(2 if t is ValType.V128 else 1 for t in types)


@dataclass(frozen=True, slots=True)
class VMLayout:
    """Where the regions of one module's VMContext lie; follows from the counts alone.

    Attributes name the byte offset of the first element of each region.
    """

    types: int
    imported_functions: int
    memories: int
    tables: int
    imported_globals: int
    defined_globals: int
    data_segments: int
    element_segments: int
    escaping: int
    tags: int = 0

    signatures_at: int = field(init=False)
    imports_at: int = field(init=False)
    memories_at: int = field(init=False)
    tables_at: int = field(init=False)
    imported_globals_at: int = field(init=False)
    globals_at: int = field(init=False)
    data_at: int = field(init=False)
    elements_at: int = field(init=False)
    funcrefs_at: int = field(init=False)
    tags_at: int = field(init=False)
    total_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        at = VMContext.HEADER_BYTES
        for name, count, size in (
            ("signatures_at", self.types, VMContext.SIGNATURE_BYTES),
            ("imports_at", self.imported_functions, FuncRef.BYTES),
            ("memories_at", self.memories, VMContext.RESOURCE_BYTES),
            ("tables_at", self.tables, VMContext.RESOURCE_BYTES),
            ("imported_globals_at", self.imported_globals, 8),
            ("globals_at", self.defined_globals, VMContext.GLOBAL_BYTES),
            ("data_at", self.data_segments, VMContext.SEGMENT_BYTES),
            ("elements_at", self.element_segments, VMContext.SEGMENT_BYTES),
            ("funcrefs_at", self.escaping, FuncRef.BYTES),
            ("tags_at", self.tags, 8),
        ):
            object.__setattr__(self, name, at)
            at = _align(at + count * size)
        object.__setattr__(self, "total_bytes", at)

    def signature(self, index: int) -> int:
        return self.signatures_at + index * VMContext.SIGNATURE_BYTES

    def imported_function(self, index: int) -> int:
        """The copy of an imported function's FuncRef."""
        return self.imports_at + index * FuncRef.BYTES

    def memory(self, index: int) -> int:
        return self.memories_at + index * VMContext.RESOURCE_BYTES

    def table(self, index: int) -> int:
        return self.tables_at + index * VMContext.RESOURCE_BYTES

    def imported_global(self, index: int) -> int:
        """The cell that holds the address of an imported global's value."""
        return self.imported_globals_at + index * 8

    def defined_global(self, index: int) -> int:
        """The value itself; ``index`` counts defined globals only."""
        return self.globals_at + index * VMContext.GLOBAL_BYTES

    def data_segment(self, index: int) -> int:
        return self.data_at + index * VMContext.SEGMENT_BYTES

    def element_segment(self, index: int) -> int:
        return self.elements_at + index * VMContext.SEGMENT_BYTES

    def funcref(self, index: int) -> int:
        """The FuncRef of the index-th function that can be reached by reference."""
        return self.funcrefs_at + index * FuncRef.BYTES

    def tag(self, index: int) -> int:
        """The cell that holds the address of a tag's TagDef."""
        return self.tags_at + index * 8


def _align(offset: int) -> int:
    return (offset + 15) & ~15
