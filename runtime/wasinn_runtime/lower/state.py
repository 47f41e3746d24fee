"""What the instructions on memories, tables, globals and references mean, as LLVM IR.

Each function takes the frame (for the context and the places that depend on the module), the row,
the immediate and the operand values, and returns the results. Control flow is in the engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from wasinn_runtime.abi.layout import MemoryDef, TableDef, VMContext, VMLayout
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.lower.registry import registrar
from wasinn_runtime.lower.writer import (
    ELEMENT,
    GLOBAL,
    INVARIANT,
    LINEAR,
    LLVM_TYPE,
    STATE,
    FunctionWriter,
)
from wasinn_runtime.spec.opcodes import Opcode
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import PAGE_SIZE, ValType

__all__ = [
    "STATE_MEANINGS",
    "Frame",
    "StateMeaning",
    "in_place",
    "memory_address",
    "memory_length",
    "state",
    "table_def",
    "table_element",
    "table_index",
    "table_size",
    "wide",
]


class Frame(Protocol):
    """What an engine offers to the meanings: the writer, the context, the module's layout.

    ``places`` gives the FuncRef of each function that can be reached by reference.
    ``keep_load`` is set where an access may trap: LLVM must neither drop it nor move it past
    what a trap would show, nor move that past it.
    """

    w: FunctionWriter
    vm: str
    module: ParsedModule
    layout: VMLayout
    places: Mapping[int, int]
    keep_load: bool

    def memory_base(self, index: int) -> str:
        """The immovable first byte of a linear memory, as an LLVM pointer."""


StateMeaning = Callable[[Frame, Opcode, object, list[str]], list[str]]
STATE_MEANINGS: dict[str, StateMeaning] = {}


# Register the meaning of a family of rows.
state = registrar(STATE_MEANINGS)


def _pair(immediate: object) -> tuple[int, int]:
    assert isinstance(immediate, tuple)
    first, second = immediate
    return first, second


def _index(immediate: object) -> int:
    assert isinstance(immediate, int)
    return immediate


def wide(w: FunctionWriter, value: str, address: ValType = ValType.I32) -> str:
    """An address, index or size as i64; one of 32 bits is read as unsigned."""
    if not value.startswith("%"):
        return str(int(value) & (0xFFFFFFFF if address is ValType.I32 else 0xFFFFFFFFFFFFFFFF))
    return value if address is ValType.I64 else w.wide(value)


def _narrow(w: FunctionWriter, value: str, address: ValType) -> str:
    """A size as the guest wants it."""
    return value if address is ValType.I64 else w.let(f"trunc i64 {value} to i32")


# --- linear memory ------------------------------------------------------------------------------


def memory_address(f: Frame, row: Opcode, immediate: object, index: str) -> str:
    """Host address of an access.

    Bounds of 32-bit memories are the guard pages' affair: index + offset < 8 GiB. Those of 64-bit
    memories are checked here.
    """
    assert isinstance(immediate, tuple)
    _, offset, memory = immediate[:3]
    w, base = f.w, f.memory_base(memory)
    ty = f.module.memories[memory]
    at = wide(w, index, ty.address)
    if ty.address is ValType.I64:
        _check_access(f, memory, at, offset + row.access_bytes)
    if not at.startswith("%"):
        place = int(at) + offset
        return w.let(f"getelementptr inbounds nuw i8, ptr {base}, i64 {place}")
    if offset:  # an array of no matter what length: both indices count bytes
        return w.let(f"getelementptr inbounds nuw [1 x i8], ptr {base}, i64 {at}, i64 {offset}")
    return w.let(f"getelementptr inbounds nuw i8, ptr {base}, i64 {at}")


def _check_access(f: Frame, memory: int, at: str, size: int) -> None:
    """Trap unless at + size <= length, whatever the sum would be in more bits."""
    w, code = f.w, TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS
    if size >> 63:  # more than any memory has
        w.trap_if("true", code)
        size = 0
    length = memory_length(f, memory)
    # Memories never shrink, so that the first test is often known.
    if size > f.module.memories[memory].limits.min * PAGE_SIZE:
        w.trap_if(w.let(f"icmp ult i64 {length}, {size}"), code)
    last = w.let(f"sub i64 {length}, {size}")
    w.trap_if(w.let(f"icmp ugt i64 {at}, {last}"), code)


def in_place(f: Frame) -> str:
    """What keeps an access, or a change that a trap after it must show, in its place."""
    return "volatile " if f.keep_load else ""


def _is_in_place(f: Frame) -> str:
    return "true" if f.keep_load else "false"


@state("load")
def _load(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    assert row.results is not None
    w, target = f.w, LLVM_TYPE[row.results[0]]
    address = memory_address(f, row, immediate, a[0])
    narrow = len(row.meaning) == 3
    stored = f"i{row.meaning[1]}" if narrow else target
    value = w.let(f"load {in_place(f)}{stored}, ptr {address}, align 1, {LINEAR}")
    return [w.let(f"{row.meaning[2]} {stored} {value} to {target}") if narrow else value]


@state("store")
def _store(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    assert row.params is not None
    w, source = f.w, LLVM_TYPE[row.params[1]]
    bits, value = int(row.meaning[1]), a[1]
    address = memory_address(f, row, immediate, a[0])
    if row.params[1] in (ValType.I32, ValType.I64) and source != f"i{bits}":
        if value.startswith("%"):
            value = w.let(f"trunc {source} {value} to i{bits}")
        else:
            value = str(int(value) & ((1 << bits) - 1))
        source = f"i{bits}"
    w.do(f"store {in_place(f)}{source} {value}, ptr {address}, align 1, {LINEAR}")
    return []


def _memory_def(f: Frame, index: int) -> str:
    place = f.layout.memory(index) + VMContext.RESOURCE_DEF
    return f.w.load_field(f.vm, place, "ptr", INVARIANT)


def memory_length(f: Frame, index: int) -> str:
    """Current size of a memory in bytes, i64."""
    return f.w.load_field(_memory_def(f, index), MemoryDef.BYTE_LENGTH, "i64", STATE)


def _check_range(
    f: Frame, at: str, count: str, size: str, code: TrapCode, address: ValType
) -> None:
    """Trap unless at + count <= size, all i64; in memories and tables of 32 bits no sum wraps."""
    w = f.w
    if address is ValType.I64:
        w.trap_if(w.let(f"icmp ugt i64 {count}, {size}"), code)
        last = w.let(f"sub i64 {size}, {count}")
        w.trap_if(w.let(f"icmp ugt i64 {at}, {last}"), code)
        return
    end = w.let(f"add nuw nsw i64 {at}, {count}")
    w.trap_if(w.let(f"icmp ugt i64 {end}, {size}"), code)


def _count_type(first: ValType, second: ValType) -> ValType:
    """The type of what is copied between two memories or tables: the smaller address."""
    return ValType.I32 if ValType.I32 in (first, second) else ValType.I64


@state("memory.size")
def _memory_size(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w, index = f.w, _index(immediate)
    pages = w.let(f"udiv exact i64 {memory_length(f, index)}, {PAGE_SIZE}")
    return [_narrow(w, pages, f.module.memories[index].address)]


@state("memory.grow")
def _memory_grow(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w, index = f.w, _index(immediate)
    ty = f.module.memories[index]
    memory, delta = _memory_def(f, index), wide(w, a[0], ty.address)
    if ty.shared:
        store = w.load_field(f.vm, VMContext.STORE, "ptr", INVARIANT)
        call = f"call i64 @wasinn_shared_grow(ptr {store}, ptr {memory}, i64 {delta})"
    else:
        call = f"call i64 @wasinn_memory_grow(ptr {memory}, i64 {delta})"
    return [_narrow(w, w.let(call), ty.address)]


@state("memory.copy")
def _memory_copy(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w = f.w
    target, source = _pair(immediate)
    into, out = f.module.memories[target].address, f.module.memories[source].address
    to, at = wide(w, a[0], into), wide(w, a[1], out)
    count = wide(w, a[2], _count_type(into, out))
    code = TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS
    _check_range(f, to, count, memory_length(f, target), code, into)
    _check_range(f, at, count, memory_length(f, source), code, out)
    d = w.let(f"getelementptr inbounds nuw i8, ptr {f.memory_base(target)}, i64 {to}")
    s = w.let(f"getelementptr inbounds nuw i8, ptr {f.memory_base(source)}, i64 {at}")
    w.do(f"call void @llvm.memmove.p0.p0.i64(ptr {d}, ptr {s}, i64 {count}, i1 {_is_in_place(f)})")
    return []


@state("memory.fill")
def _memory_fill(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w, index = f.w, _index(immediate)
    address = f.module.memories[index].address
    to, count = wide(w, a[0], address), wide(w, a[2], address)
    code = TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS
    _check_range(f, to, count, memory_length(f, index), code, address)
    d = w.let(f"getelementptr inbounds nuw i8, ptr {f.memory_base(index)}, i64 {to}")
    byte = w.let(f"trunc i32 {a[1]} to i8")
    w.do(f"call void @llvm.memset.p0.i64(ptr {d}, i8 {byte}, i64 {count}, i1 {_is_in_place(f)})")
    return []


@state("memory.init")
def _memory_init(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w = f.w
    data, memory = _pair(immediate)
    address = f.module.memories[memory].address
    to, at, count = wide(w, a[0], address), wide(w, a[1]), wide(w, a[2])
    segment = f.layout.data_segment(data)
    length = w.load_field(f.vm, segment + VMContext.SEGMENT_LENGTH, "i64", STATE)
    code = TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS
    _check_range(f, at, count, length, code, ValType.I32)
    _check_range(f, to, count, memory_length(f, memory), code, address)
    start = w.load_field(f.vm, segment + VMContext.SEGMENT_ADDRESS, "ptr", INVARIANT)
    s = w.let(f"getelementptr inbounds nuw i8, ptr {start}, i64 {at}")
    d = w.let(f"getelementptr inbounds nuw i8, ptr {f.memory_base(memory)}, i64 {to}")
    w.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {d}, ptr {s}, i64 {count}, i1 {_is_in_place(f)})")
    return []


@state("data.drop")
def _data_drop(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    place = f.layout.data_segment(_index(immediate)) + VMContext.SEGMENT_LENGTH
    f.w.do(f"store {in_place(f)}i64 0, ptr {f.w.field(f.vm, place)}, {STATE}")
    return []


# --- globals ------------------------------------------------------------------------------------


def _global_cell(f: Frame, index: int) -> str:
    imported = f.module.imported_globals
    if index < imported:
        return f.w.load_field(f.vm, f.layout.imported_global(index), "ptr", INVARIANT)
    return f.w.field(f.vm, f.layout.defined_global(index - imported))


@state("global.get")
def _global_get(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    index = _index(immediate)
    ty = f.module.globals_[index]
    facts = GLOBAL if ty.mutable else INVARIANT
    return [f.w.let(f"load {LLVM_TYPE[ty.value]}, ptr {_global_cell(f, index)}, {facts}")]


@state("global.set")
def _global_set(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    index = _index(immediate)
    t = LLVM_TYPE[f.module.globals_[index].value]
    f.w.do(f"store {in_place(f)}{t} {a[0]}, ptr {_global_cell(f, index)}, {GLOBAL}")
    return []


# --- tables and references ----------------------------------------------------------------------


def table_def(f: Frame, index: int) -> str:
    place = f.layout.table(index) + VMContext.RESOURCE_DEF
    return f.w.load_field(f.vm, place, "ptr", INVARIANT)


def table_size(f: Frame, index: int) -> str:
    """Current number of elements, i64."""
    return f.w.load_field(table_def(f, index), TableDef.SIZE, "i64", STATE)


def table_element(f: Frame, index: int, at: str) -> str:
    """Address of an element that was checked to exist; ``at`` is i64."""
    base = f.w.load_field(f.vm, f.layout.table(index) + VMContext.RESOURCE_BASE, "ptr", INVARIANT)
    return f.w.let(f"getelementptr inbounds nuw ptr, ptr {base}, i64 {at}")


def table_index(f: Frame, index: int, value: str) -> str:
    """An operand that counts elements of a table, as i64."""
    return wide(f.w, value, f.module.tables[index].address)


def _checked_element(f: Frame, index: int, value: str) -> str:
    at = table_index(f, index, value)
    outside = f.w.let(f"icmp uge i64 {at}, {table_size(f, index)}")
    f.w.trap_if(outside, TrapCode.OUT_OF_BOUNDS_TABLE_ACCESS)
    return table_element(f, index, at)


@state("table.get")
def _table_get(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    element = _checked_element(f, _index(immediate), a[0])
    return [f.w.let(f"load ptr, ptr {element}, {ELEMENT}")]


@state("table.set")
def _table_set(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    element = _checked_element(f, _index(immediate), a[0])
    f.w.do(f"store {in_place(f)}ptr {a[1]}, ptr {element}, {ELEMENT}")
    return []


@state("table.size")
def _table_size(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    index = _index(immediate)
    return [_narrow(f.w, table_size(f, index), f.module.tables[index].address)]


@state("table.grow")
def _table_grow(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w, index = f.w, _index(immediate)
    table, delta = table_def(f, index), table_index(f, index, a[1])
    before = w.let(f"call i64 @wasinn_table_grow(ptr {table}, ptr {a[0]}, i64 {delta})")
    return [_narrow(w, before, f.module.tables[index].address)]


@state("table.fill")
def _table_fill(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w, index = f.w, _index(immediate)
    address = f.module.tables[index].address
    at, count = wide(w, a[0], address), wide(w, a[2], address)
    _check_range(f, at, count, table_size(f, index), TrapCode.OUT_OF_BOUNDS_TABLE_ACCESS, address)
    first = table_element(f, index, at)
    w.do(f"call void @wasinn_table_fill(ptr {first}, ptr {a[1]}, i64 {count})")
    return []


@state("table.copy")
def _table_copy(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w = f.w
    target, source = _pair(immediate)
    into, out = f.module.tables[target].address, f.module.tables[source].address
    to, at = wide(w, a[0], into), wide(w, a[1], out)
    count = wide(w, a[2], _count_type(into, out))
    code = TrapCode.OUT_OF_BOUNDS_TABLE_ACCESS
    _check_range(f, to, count, table_size(f, target), code, into)
    _check_range(f, at, count, table_size(f, source), code, out)
    d, s = table_element(f, target, to), table_element(f, source, at)
    size = w.let(f"shl nuw i64 {count}, 3")
    w.do(f"call void @llvm.memmove.p0.p0.i64(ptr {d}, ptr {s}, i64 {size}, i1 {_is_in_place(f)})")
    return []


@state("table.init")
def _table_init(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w = f.w
    element, table = _pair(immediate)
    address = f.module.tables[table].address
    to, at, count = wide(w, a[0], address), wide(w, a[1]), wide(w, a[2])
    segment = f.layout.element_segment(element)
    length = w.load_field(f.vm, segment + VMContext.SEGMENT_LENGTH, "i64", STATE)
    code = TrapCode.OUT_OF_BOUNDS_TABLE_ACCESS
    _check_range(f, at, count, length, code, ValType.I32)
    _check_range(f, to, count, table_size(f, table), code, address)
    start = w.load_field(f.vm, segment + VMContext.SEGMENT_ADDRESS, "ptr", INVARIANT)
    s = w.let(f"getelementptr inbounds nuw ptr, ptr {start}, i64 {at}")
    size = w.let(f"shl nuw i64 {count}, 3")
    d = table_element(f, table, to)
    w.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {d}, ptr {s}, i64 {size}, i1 {_is_in_place(f)})")
    return []


@state("elem.drop")
def _elem_drop(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    place = f.layout.element_segment(_index(immediate)) + VMContext.SEGMENT_LENGTH
    f.w.do(f"store {in_place(f)}i64 0, ptr {f.w.field(f.vm, place)}, {STATE}")
    return []


@state("ref.null")
def _ref_null(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    return ["null"]


@state("ref.is_null")
def _ref_is_null(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    return [f.w.let(f"zext i1 {f.w.let(f'icmp eq ptr {a[0]}, null')} to i32")]


@state("ref.func")
def _ref_func(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    return [f.w.field(f.vm, f.layout.funcref(f.places[_index(immediate)]))]


@state("ref.as_non_null")
def _ref_as_non_null(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    f.w.trap_if(f.w.let(f"icmp eq ptr {a[0]}, null"), TrapCode.NULL_REFERENCE)
    return [a[0]]
