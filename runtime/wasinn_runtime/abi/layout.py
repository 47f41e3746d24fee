"""Byte layouts of the structures that generated code and Python both touch.

Generated code addresses fields by the constants here, Python fills them through ctypes. Nothing
else knows an offset. All structures are little endian with 8-byte cells.

    StoreContext   one per store: what every activation needs
    VMContext      one per instance: a fixed header, then regions whose place depends on the module
    MemoryDef      one per linear memory; its base never moves
    TableDef       one per table; its base never moves
    FuncRef        what a ``funcref`` points to: a function with its context and type
    HostContext    the context (instead of a VMContext) of a function written in Python
    Activation     one per call from Python into a guest: its arguments and results, and where
                   traps and stops come back to
"""

from __future__ import annotations

from dataclasses import dataclass, field

from wasinn_runtime.spec.types import ValType

__all__ = [
    "ABI_VERSION",
    "MAX_ARENAS",
    "SLOT_BYTES",
    "Activation",
    "FuncRef",
    "HostContext",
    "MemoryDef",
    "StoreContext",
    "TableDef",
    "VMContext",
    "VMLayout",
    "slot_cells",
]

# Part of every compiled artefact's key: raise it whenever a layout or a convention changes.
ABI_VERSION = 2

SLOT_BYTES = 8
# How many pieces of address space for linear memories the fault handler can know.
MAX_ARENAS = 256


class StoreContext:
    STACK_LIMIT = 0  # i64: the lowest stack address that guest code may reach
    HOST_STACK_LIMIT = 8  # i64: the same for a call back into Python, which needs more room
    ACTIVATION = 16  # ptr: the innermost activation
    STACK_FLOOR = 24  # i64: lowest address of this thread's stack that guest code may ever reach
    STACK_BUDGET = 32  # i64: how many bytes of stack one call from Python may use
    BYTES = 48


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


class FuncRef:
    NATIVE = 0  # ptr: the entry with typed arguments in registers
    CONTEXT = 8  # ptr: VMContext or HostContext, its first argument
    SIGNATURE = 16  # i64: the process-wide number of its type
    ARRAY = 24  # ptr: the trampoline that takes arguments and results in slots
    BYTES = 32


class HostContext:
    DISPATCH = 0  # ptr: i32 (i64 token, ptr slots), 1 for success
    STORE = 8  # ptr StoreContext
    TOKEN = 16  # i64: which Python function
    BYTES = 32


class Activation:
    IN_HOST = 0  # i64: 1 while a host function runs
    STOP = 8  # i64: 1 once somebody asked for a stop
    TRAP_CODE = 16  # i64: a TrapCode, when the call ended by one
    TRAP_PC = 24  # i64: where, as a code address
    OUTER = 32  # ptr: the activation of the same thread that was there before
    JMP_BUF = 64  # 200 bytes on x86-64, 312 on aarch64 with glibc; less with musl
    SLOTS = 64 + 448  # arguments, then results, of the call


class VMContext:
    """The fixed header; the rest is in VMLayout."""

    STORE = 0  # ptr StoreContext
    HEADER_BYTES = 16

    # element sizes of the regions
    IMPORT_NATIVE = 0
    IMPORT_CONTEXT = 8
    IMPORT_BYTES = 16
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

    signatures_at: int = field(init=False)
    imports_at: int = field(init=False)
    memories_at: int = field(init=False)
    tables_at: int = field(init=False)
    imported_globals_at: int = field(init=False)
    globals_at: int = field(init=False)
    data_at: int = field(init=False)
    elements_at: int = field(init=False)
    funcrefs_at: int = field(init=False)
    total_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        at = VMContext.HEADER_BYTES
        for name, count, size in (
            ("signatures_at", self.types, VMContext.SIGNATURE_BYTES),
            ("imports_at", self.imported_functions, VMContext.IMPORT_BYTES),
            ("memories_at", self.memories, VMContext.RESOURCE_BYTES),
            ("tables_at", self.tables, VMContext.RESOURCE_BYTES),
            ("imported_globals_at", self.imported_globals, 8),
            ("globals_at", self.defined_globals, VMContext.GLOBAL_BYTES),
            ("data_at", self.data_segments, VMContext.SEGMENT_BYTES),
            ("elements_at", self.element_segments, VMContext.SEGMENT_BYTES),
            ("funcrefs_at", self.escaping, FuncRef.BYTES),
        ):
            object.__setattr__(self, name, at)
            at = _align(at + count * size)
        object.__setattr__(self, "total_bytes", at)

    def signature(self, index: int) -> int:
        return self.signatures_at + index * VMContext.SIGNATURE_BYTES

    def imported_function(self, index: int) -> int:
        return self.imports_at + index * VMContext.IMPORT_BYTES

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


def _align(offset: int) -> int:
    return (offset + 15) & ~15
