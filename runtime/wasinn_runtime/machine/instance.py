"""Instances: a module's code with memories, tables, globals and imports of its own.

Source: WebAssembly core specification 2.0, section 4.5.4 (instantiation).
"""

from __future__ import annotations

import ctypes
import operator
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from wasinn_runtime.abi.layout import CodeEntry, FuncRef, VMContext, VMLayout
from wasinn_runtime.binary.module import ConstExpr, Import, ParsedModule, SegmentMode
from wasinn_runtime.errors import LinkError, Trap, UsageError
from wasinn_runtime.machine import native
from wasinn_runtime.machine.func import Func, HostFunction, host_reference
from wasinn_runtime.machine.globals import Global
from wasinn_runtime.machine.hostfunc import HostFunc
from wasinn_runtime.machine.interrupt import Interrupt
from wasinn_runtime.machine.memory import Memory, MemoryRegion
from wasinn_runtime.machine.store import Store
from wasinn_runtime.machine.table import Table, TableRegion
from wasinn_runtime.machine.tag import Tag
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import (
    ExternKind,
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    RefType,
    TableType,
    ValType,
)

__all__ = ["Caller", "CompiledModule", "Exports", "Extern", "Instance"]

Extern = Func | Memory | Table | Global | Tag
_FUNCREF_CELLS = FuncRef.BYTES // 8
_CELL = 0xFFFFFFFFFFFFFFFF
# What constant expressions may compute.
_ARITHMETIC = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}


class CompiledModule(Protocol):
    """What instantiation needs of an engine's module.

    Attributes:
        parsed: the decoded module.
        layout: of its VMContext.
        escaping: functions that can be reached by reference, in the order of their FuncRefs.
        entries_address: address of the CodeEntry of the first defined function.
        interpreted: whether an interpreter runs it.
        signatures: the process-wide number of each type.
        data_address: address of the module's bytes.
    """

    parsed: ParsedModule
    layout: VMLayout
    escaping: Sequence[int]
    entries_address: int
    interpreted: bool
    signatures: Sequence[int]
    data_address: int


class Caller:
    """What a host function sees of the instance that calls it. One per importing instance."""

    __slots__ = ("_instance", "_memory", "_store", "interrupt")

    def __init__(self, instance: Instance) -> None:
        # Weak, since the store keeps its host functions and through them this object.
        self._store = weakref.ref(instance.store)
        self._instance = weakref.ref(instance)
        self._memory: Memory | None = None
        self.interrupt: Interrupt = instance.store.interrupt

    @property
    def store(self) -> Store:
        store = self._store()
        if store is None:
            raise UsageError("the caller's store is gone")
        return store

    @property
    def memory(self) -> Memory | None:
        """The calling instance's exported memory named ``memory``, or None."""
        if self._memory is None:
            found = self.get("memory")
            if not isinstance(found, Memory):
                return None
            # Without the store, so that the store can go: a host function needs the region only.
            self._memory = found
        return self._memory

    def get(self, name: str) -> Extern | None:
        """An export of the calling instance, or None."""
        instance = self._instance()
        return None if instance is None else instance.exports.get(name)


class Exports(Mapping[str, Extern]):
    """An instance's exports, by name or as attributes.

    An attribute is ``Any`` for type checkers, so that ``exports.add(2, 3)`` needs no cast; ``[]``
    gives the precise union.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._made: dict[str, Extern] = {}

    def __getitem__(self, name: str) -> Extern:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = self._instance.make_export(name)
        return made

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            known = ", ".join(self) or "nothing"
            raise AttributeError(f"the module exports no {name!r}; it exports {known}") from None

    def __iter__(self) -> Iterator[str]:
        return (e.name for e in self._instance.module.parsed.exports)

    def __len__(self) -> int:
        return len(self._instance.module.parsed.exports)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]


class Instance:
    """A module brought to life in a store.

    Args:
        store: where it lives.
        module: what to run.
        imports: one definition for each import, in order; Python functions are allowed as HostFunc.

    Raises:
        LinkError: an import is missing or of another kind or type.
        Trap: a segment does not fit, or the start function trapped.
        LimitExceeded: memories or tables above the store's limits.
    """

    def __init__(
        self, store: Store, module: CompiledModule, imports: Sequence[Extern | HostFunc] = ()
    ) -> None:
        self.store = store
        self.module = module
        parsed, layout = module.parsed, module.layout
        _check_imports(store, parsed, imports)
        self._cells = native.buffer(layout.total_bytes + 16)
        store.keep((self._cells, module))
        if module.interpreted:
            store.provide_stacks()
        self.context = (ctypes.addressof(self._cells) + 15) & ~15
        self._first = (self.context - ctypes.addressof(self._cells)) // 8
        self.exports = Exports(self)
        self._put(VMContext.STORE, store.context, module.entries_address)
        self._put(layout.signatures_at, *module.signatures)
        self._elements: list[ctypes.Array[ctypes.c_uint64] | None] = []
        self._funcs: list[int] = []
        self.memories: list[MemoryRegion] = []
        self.tables: list[TableRegion] = []
        self.global_cells: list[int] = []
        self.tags: list[Tag] = []
        self._link(imports)
        self._make_funcrefs()
        self._make_resources()
        self._make_tags()
        self._init_globals()
        self._init_tables()
        self._init_elements()
        self._init_data()
        if parsed.start is not None:
            self._function(parsed.start)()

    # -- building --------------------------------------------------------------------------------

    def _put(self, offset: int, *values: int) -> None:
        start = self._first + offset // 8
        self._cells[start : start + len(values)] = [*values]

    def _link(self, imports: Sequence[Extern | HostFunc]) -> None:
        layout = self.module.layout
        caller: Caller | None = None
        for wanted, given in zip(self.module.parsed.imports, imports, strict=True):
            if isinstance(given, HostFunc):
                if caller is None and given.access_caller:
                    caller = Caller(self)
                entry = HostFunction(
                    self.store,
                    given.type,
                    given.function,
                    f"{wanted.module}.{wanted.name}",
                    caller if given.access_caller else None,
                    given.unsigned,
                )
                self._funcs.append(host_reference(self.store, entry, given.type))
            elif isinstance(given, Func):
                self._funcs.append(given.reference)
            elif isinstance(given, Memory):
                self.memories.append(given.region)
                if given.store is not self.store:
                    self.store.keep(given.region)
            elif isinstance(given, Table):
                self.tables.append(given.region)
            elif isinstance(given, Tag):
                self.tags.append(given)
            else:
                self._put(layout.imported_global(len(self.global_cells)), given.cell)
                self.global_cells.append(given.cell)
        for i, reference in enumerate(self._funcs):
            copy = (ctypes.c_uint64 * _FUNCREF_CELLS).from_address(reference)
            self._put(layout.imported_function(i), *copy)

    def _make_funcrefs(self) -> None:
        module, parsed = self.module, self.module.parsed
        imported = parsed.imported_functions
        values: list[int] = []
        self._references: dict[int, int] = {}
        at = self.context + module.layout.funcrefs_at
        for index in module.escaping:
            if index < imported:
                self._references[index] = self._funcs[index]
                values.extend((ctypes.c_uint64 * _FUNCREF_CELLS).from_address(self._funcs[index]))
            else:
                self._references[index] = at
                entry = module.entries_address + (index - imported) * CodeEntry.BYTES
                native_entry, array = (ctypes.c_uint64 * 2).from_address(entry)
                signature = module.signatures[parsed.type_indices[index]]
                values.extend((native_entry, self.context, signature, array, entry, 0))
            at += FuncRef.BYTES
        self._put(module.layout.funcrefs_at, *values)

    def _make_resources(self) -> None:
        parsed, layout, store = self.module.parsed, self.module.layout, self.store
        for ty in parsed.memories[parsed.imported_memories :]:
            self.memories.append(store.new_memory(ty))
        for table in parsed.tables[parsed.imported_tables :]:
            self.tables.append(store.new_table(table))
        for i, memory in enumerate(self.memories):
            self._put(layout.memory(i), memory.base, memory.definition)
        for i, region in enumerate(self.tables):
            self._put(layout.table(i), region.base, region.definition)

    def _make_tags(self) -> None:
        parsed = self.module.parsed
        for index in range(len(self.tags), len(parsed.tag_indices)):
            self.tags.append(Tag(self.store, parsed.tag_type(index), f"tag {index}"))
        self._put(self.module.layout.tags_at, *(tag.definition for tag in self.tags))

    def _init_globals(self) -> None:
        layout = self.module.layout
        for i, definition in enumerate(self.module.parsed.global_defs):
            cell = self.context + layout.defined_global(i)
            value = self._evaluate(definition.init)
            self._put(layout.defined_global(i), value & _CELL, value >> 64)
            self.global_cells.append(cell)
            if definition.type.value.base is ValType.EXNREF:
                self.store.exceptions.add_cell(cell)

    def _init_tables(self) -> None:
        parsed = self.module.parsed
        defined = self.tables[parsed.imported_tables :]
        for region, init in zip(defined, parsed.table_inits, strict=True):
            bits = 0 if init is None else self._evaluate(init)
            if bits:
                region.fill(bits)

    def _evaluate(self, expression: ConstExpr) -> int:
        """The bits of a constant expression: a slot, or 128 of a vector."""
        stack: list[int] = []
        for row, immediate, _ in expression:
            family = row.meaning[0]
            if family == "int":
                assert row.results is not None
                mask = 0xFFFFFFFF if row.results[0] is ValType.I32 else _CELL
                second, first = stack.pop(), stack.pop()
                stack.append(_ARITHMETIC[row.meaning[1]](first, second) & mask)
            elif family == "ref.null":
                stack.append(0)
            elif family == "global.get":
                assert isinstance(immediate, int)
                stack.append(self._global_bits(immediate))
            elif family == "ref.func":
                assert isinstance(immediate, int)
                stack.append(self._references[immediate])
            else:  # a constant of any type
                assert isinstance(immediate, int), row.name
                is_vector = row.results == (ValType.V128,)
                stack.append(immediate & (_CELL << 64 | _CELL if is_vector else _CELL))
        (result,) = stack
        return result

    def _global_bits(self, index: int) -> int:
        cells = (ctypes.c_uint64 * 2).from_address(self.global_cells[index])
        is_vector = self.module.parsed.globals_[index].value is ValType.V128
        return cells[0] | cells[1] << 64 if is_vector else cells[0]

    def _place(self, expression: ConstExpr, address: ValType) -> int:
        """Where an active segment goes."""
        return self._evaluate(expression) & (_CELL if address is ValType.I64 else 0xFFFFFFFF)

    def _init_elements(self) -> None:
        layout = self.module.layout
        for i, segment in enumerate(self.module.parsed.elements):
            values = [self._evaluate(expression) for expression in segment.init]
            if segment.mode is SegmentMode.ACTIVE:
                table = self.tables[segment.table]
                at = self._place(segment.at, table.type.address)
                if at + len(values) > table.size:
                    raise Trap(TrapCode.OUT_OF_BOUNDS_TABLE_ACCESS.text)
                (ctypes.c_uint64 * len(values)).from_address(table.base + 8 * at)[:] = [*values]
            elif segment.mode is SegmentMode.PASSIVE:
                kept = (ctypes.c_uint64 * len(values))(*values)
                self.store.keep(kept)
                self._put(layout.element_segment(i), ctypes.addressof(kept), len(values))

    def _init_data(self) -> None:
        module, layout = self.module, self.module.layout
        for i, segment in enumerate(module.parsed.data_segments):
            length = segment.end - segment.start
            source = module.data_address + segment.start
            if segment.mode is SegmentMode.PASSIVE:
                self._put(layout.data_segment(i), source, length)
                continue
            memory = self.memories[segment.memory]
            at = self._place(segment.at, memory.type.address)
            if at + length > memory.byte_length:
                raise Trap(TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS.text)
            ctypes.memmove(memory.base + at, source, length)
            self._put(layout.data_segment(i), source, 0)

    # -- using -----------------------------------------------------------------------------------

    def _function(self, index: int) -> Func:
        return Func.at(self.store, self._references[index])

    def make_export(self, name: str) -> Extern:
        """The export of that name, as an object.

        Raises:
            KeyError: there is none.
        """
        parsed = self.module.parsed
        for export in parsed.exports:
            if export.name == name:
                break
        else:
            raise KeyError(name)
        index = export.index
        if export.kind is ExternKind.FUNC:
            return self._function(index)
        if export.kind is ExternKind.MEMORY:
            return Memory.of_region(self.store, self.memories[index])
        if export.kind is ExternKind.TABLE:
            return Table.of_region(self.store, self.tables[index])
        if export.kind is ExternKind.TAG:
            return self.tags[index]
        return Global.at(self.store, parsed.globals_[index], self.global_cells[index])


# --- matching imports -----------------------------------------------------------------------------


def _check_imports(store: Store, parsed: ParsedModule, imports: Sequence[object]) -> None:
    if len(imports) != len(parsed.imports):
        raise LinkError(f"the module has {len(parsed.imports)} imports, {len(imports)} were given")
    for wanted, given in zip(parsed.imports, imports, strict=True):
        label = f"import {wanted.module!r} {wanted.name!r}"
        if not isinstance(given, HostFunc | Extern):
            kinds = "a HostFunc, Func, Memory, Table, Global or Tag"
            raise UsageError(f"{label} needs {kinds}, got {type(given).__name__}: {given!r:.60}")
        is_shared = isinstance(given, Memory) and given.region.type.shared
        if not isinstance(given, HostFunc) and not is_shared and given.store is not store:
            raise UsageError(f"{label} belongs to another store; stores are separate")
        problem = _mismatch(parsed, wanted, given)
        if problem:
            raise LinkError(f"incompatible import type: {label}: {problem}")


def _mismatch(parsed: ParsedModule, wanted: Import, given: Extern | HostFunc) -> str | None:
    """Why a definition does not match an import; None when it does."""
    found = given.type
    expected = parsed.import_type(wanted)
    if isinstance(found, TableType) and isinstance(expected, TableType):
        fits = (found.element, found.address) == (expected.element, expected.address)
        fits = fits and _limits_fit(found.limits, expected.limits)
    elif isinstance(found, MemoryType) and isinstance(expected, MemoryType):
        fits = (found.address, found.shared) == (expected.address, expected.shared)
        fits = fits and _limits_fit(found.limits, expected.limits)
    elif isinstance(found, FuncType) and isinstance(expected, FuncType):
        fits = found.matches(expected)
    elif isinstance(found, GlobalType) and isinstance(expected, GlobalType):
        fits = found == expected or _reads_as(found, expected)
    else:  # a type of another kind is never equal
        fits = found == expected
    if fits:
        return None
    what = f"func {found}" if isinstance(found, FuncType) else str(found)
    need = f"func {expected}" if isinstance(expected, FuncType) else str(expected)
    return f"expected {need}, got {what}"


def _reads_as(found: GlobalType, wanted: GlobalType) -> bool:
    """Whether an immutable global may stand where one of a wider reference type is wanted."""
    value, into = found.value, wanted.value
    if found.mutable or wanted.mutable:
        return False
    return isinstance(value, RefType) and isinstance(into, RefType) and value.matches(into)


def _limits_fit(found: Limits, wanted: Limits) -> bool:
    if found.min < wanted.min:
        return False
    return wanted.max is None or (found.max is not None and found.max <= wanted.max)
