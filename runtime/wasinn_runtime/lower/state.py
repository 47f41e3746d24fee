"""What the instructions on memories, tables, globals and references mean, as LLVM IR.

Each function takes the frame (for the context and the places that depend on the module), the row,
the immediate and the operand values, and returns the results. Control flow is in the engines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from wasinn_runtime.abi.layout import MemoryDef, TableDef, VMContext, VMLayout
from wasinn_runtime.binary.module import ParsedModule
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

__all__ = ["STATE_MEANINGS", "Frame", "StateMeaning"]


class Frame(Protocol):
    """What an engine offers to the meanings: the writer, the context, the module's layout.

    ``places`` gives the FuncRef of each function that can be reached by reference.
    ``keep_load`` is set while a load must not be removed although nobody uses its value.
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


def state(family: str) -> Callable[[StateMeaning], StateMeaning]:
    """Register the meaning of a family of rows."""

    def register(function: StateMeaning) -> StateMeaning:
        if family in STATE_MEANINGS:
            raise ValueError(f"two meanings for {family!r}")
        STATE_MEANINGS[family] = function
        return function

    return register


def _pair(immediate: object) -> tuple[int, int]:
    assert isinstance(immediate, tuple)
    first, second = immediate
    return first, second


def _index(immediate: object) -> int:
    assert isinstance(immediate, int)
    return immediate


def _wide(w: FunctionWriter, value: str) -> str:
    """An i32 operand, read as unsigned, as i64."""
    if not value.startswith("%"):
        return str(int(value) & 0xFFFFFFFF)
    return w.let(f"zext i32 {value} to i64")


# --- linear memory ------------------------------------------------------------------------------


def _address(f: Frame, immediate: object, index: str) -> str:
    """Address of an access. Bounds are the guard pages' affair: index + offset < 8 GiB."""
    assert isinstance(immediate, tuple)
    offset = immediate[1]
    base = f.memory_base(0)
    if not index.startswith("%"):
        place = (int(index) & 0xFFFFFFFF) + offset
        return f.w.let(f"getelementptr inbounds nuw i8, ptr {base}, i64 {place}")
    address = f.w.let(f"getelementptr inbounds nuw i8, ptr {base}, i64 {_wide(f.w, index)}")
    if offset:
        address = f.w.let(f"getelementptr inbounds nuw i8, ptr {address}, i64 {offset}")
    return address


@state("load")
def _load(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    assert row.results is not None
    w, target = f.w, LLVM_TYPE[row.results[0]]
    address = _address(f, immediate, a[0])
    narrow = len(row.meaning) == 3
    stored = f"i{row.meaning[1]}" if narrow else target
    volatile = "volatile " if f.keep_load else ""
    value = w.let(f"load {volatile}{stored}, ptr {address}, align 1, {LINEAR}")
    return [w.let(f"{row.meaning[2]} {stored} {value} to {target}") if narrow else value]


@state("store")
def _store(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    assert row.params is not None
    w, source = f.w, LLVM_TYPE[row.params[1]]
    bits, value = int(row.meaning[1]), a[1]
    address = _address(f, immediate, a[0])
    if row.params[1] in (ValType.I32, ValType.I64) and source != f"i{bits}":
        value = w.let(f"trunc {source} {value} to i{bits}")
        source = f"i{bits}"
    w.do(f"store {source} {value}, ptr {address}, align 1, {LINEAR}")
    return []


def _memory_def(f: Frame, index: int) -> str:
    place = f.layout.memory(index) + VMContext.RESOURCE_DEF
    return f.w.load_field(f.vm, place, "ptr", INVARIANT)


def _byte_length(f: Frame, index: int) -> str:
    return f.w.load_field(_memory_def(f, index), MemoryDef.BYTE_LENGTH, "i64", STATE)


def _check_range(f: Frame, at: str, count: str, size: str, code: TrapCode) -> None:
    """Trap unless at + count <= size, all i64 holding 32-bit values or sizes."""
    w = f.w
    end = w.let(f"add nuw nsw i64 {at}, {count}")
    w.trap_if(w.let(f"icmp ugt i64 {end}, {size}"), code)


@state("memory.size")
def _memory_size(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w = f.w
    pages = w.let(f"udiv exact i64 {_byte_length(f, _index(immediate))}, {PAGE_SIZE}")
    return [w.let(f"trunc i64 {pages} to i32")]


@state("memory.grow")
def _memory_grow(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    memory = _memory_def(f, _index(immediate))
    return [f.w.let(f"call i32 @wasinn_memory_grow(ptr {memory}, i32 {a[0]})")]


@state("memory.copy")
def _memory_copy(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w = f.w
    target, source = _pair(immediate)
    to, at, count = (_wide(w, value) for value in a)
    code = TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS
    _check_range(f, to, count, _byte_length(f, target), code)
    _check_range(f, at, count, _byte_length(f, source), code)
    d = w.let(f"getelementptr inbounds nuw i8, ptr {f.memory_base(target)}, i64 {to}")
    s = w.let(f"getelementptr inbounds nuw i8, ptr {f.memory_base(source)}, i64 {at}")
    w.do(f"call void @llvm.memmove.p0.p0.i64(ptr {d}, ptr {s}, i64 {count}, i1 false)")
    return []


@state("memory.fill")
def _memory_fill(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w, index = f.w, _index(immediate)
    to, count = _wide(w, a[0]), _wide(w, a[2])
    _check_range(f, to, count, _byte_length(f, index), TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS)
    d = w.let(f"getelementptr inbounds nuw i8, ptr {f.memory_base(index)}, i64 {to}")
    byte = w.let(f"trunc i32 {a[1]} to i8")
    w.do(f"call void @llvm.memset.p0.i64(ptr {d}, i8 {byte}, i64 {count}, i1 false)")
    return []


@state("memory.init")
def _memory_init(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w = f.w
    data, memory = _pair(immediate)
    to, at, count = (_wide(w, value) for value in a)
    segment = f.layout.data_segment(data)
    length = w.load_field(f.vm, segment + VMContext.SEGMENT_LENGTH, "i64", STATE)
    code = TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS
    _check_range(f, at, count, length, code)
    _check_range(f, to, count, _byte_length(f, memory), code)
    start = w.load_field(f.vm, segment + VMContext.SEGMENT_ADDRESS, "ptr", INVARIANT)
    s = w.let(f"getelementptr inbounds nuw i8, ptr {start}, i64 {at}")
    d = w.let(f"getelementptr inbounds nuw i8, ptr {f.memory_base(memory)}, i64 {to}")
    w.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {d}, ptr {s}, i64 {count}, i1 false)")
    return []


@state("data.drop")
def _data_drop(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    place = f.layout.data_segment(_index(immediate)) + VMContext.SEGMENT_LENGTH
    f.w.do(f"store i64 0, ptr {f.w.field(f.vm, place)}, {STATE}")
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
    f.w.do(f"store {t} {a[0]}, ptr {_global_cell(f, index)}, {GLOBAL}")
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


def _checked_element(f: Frame, index: int, value: str) -> str:
    at = _wide(f.w, value)
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
    f.w.do(f"store ptr {a[1]}, ptr {element}, {ELEMENT}")
    return []


@state("table.size")
def _table_size(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    return [f.w.let(f"trunc i64 {table_size(f, _index(immediate))} to i32")]


@state("table.grow")
def _table_grow(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    table = table_def(f, _index(immediate))
    return [f.w.let(f"call i32 @wasinn_table_grow(ptr {table}, ptr {a[0]}, i32 {a[1]})")]


@state("table.fill")
def _table_fill(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w, index = f.w, _index(immediate)
    at, count = _wide(w, a[0]), _wide(w, a[2])
    _check_range(f, at, count, table_size(f, index), TrapCode.OUT_OF_BOUNDS_TABLE_ACCESS)
    first = table_element(f, index, at)
    w.do(f"call void @wasinn_table_fill(ptr {first}, ptr {a[1]}, i64 {count})")
    return []


@state("table.copy")
def _table_copy(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w = f.w
    target, source = _pair(immediate)
    to, at, count = (_wide(w, value) for value in a)
    code = TrapCode.OUT_OF_BOUNDS_TABLE_ACCESS
    _check_range(f, to, count, table_size(f, target), code)
    _check_range(f, at, count, table_size(f, source), code)
    d, s = table_element(f, target, to), table_element(f, source, at)
    size = w.let(f"shl nuw i64 {count}, 3")
    w.do(f"call void @llvm.memmove.p0.p0.i64(ptr {d}, ptr {s}, i64 {size}, i1 false)")
    return []


@state("table.init")
def _table_init(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    w = f.w
    element, table = _pair(immediate)
    to, at, count = (_wide(w, value) for value in a)
    segment = f.layout.element_segment(element)
    length = w.load_field(f.vm, segment + VMContext.SEGMENT_LENGTH, "i64", STATE)
    code = TrapCode.OUT_OF_BOUNDS_TABLE_ACCESS
    _check_range(f, at, count, length, code)
    _check_range(f, to, count, table_size(f, table), code)
    start = w.load_field(f.vm, segment + VMContext.SEGMENT_ADDRESS, "ptr", INVARIANT)
    s = w.let(f"getelementptr inbounds nuw ptr, ptr {start}, i64 {at}")
    size = w.let(f"shl nuw i64 {count}, 3")
    d = table_element(f, table, to)
    w.do(f"call void @llvm.memcpy.p0.p0.i64(ptr {d}, ptr {s}, i64 {size}, i1 false)")
    return []


@state("elem.drop")
def _elem_drop(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    place = f.layout.element_segment(_index(immediate)) + VMContext.SEGMENT_LENGTH
    f.w.do(f"store i64 0, ptr {f.w.field(f.vm, place)}, {STATE}")
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
