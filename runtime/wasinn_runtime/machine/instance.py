"""Instances: a module's code with memories, tables, globals and imports of its own.

Source: WebAssembly core specification 2.0, section 4.5.4 (instantiation).
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wasinn_runtime.abi.layout import FuncRef, VMContext
from wasinn_runtime.binary.module import ConstExpr, Import, ParsedModule, SegmentMode
from wasinn_runtime.errors import LinkError, Trap, UsageError
from wasinn_runtime.machine import native
from wasinn_runtime.machine.blueprint import Blueprint, CompiledModule, blueprint_of, evaluate
from wasinn_runtime.machine.func import (
    Func,
    HostFunction,
    HostLink,
    host_link,
    host_references,
)
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

__all__ = ["Caller", "Exports", "Extern", "Instance"]

Extern = Func | Memory | Table | Global | Tag
_CELL = 0xFFFFFFFFFFFFFFFF


class Caller:
    """What a host function sees of the instance that calls it. One per importing instance."""

    __slots__ = ("_memory", "_parts", "_store", "interrupt")

    def __init__(self, store: Store, parts: _Parts) -> None:
        # Weak, since the store keeps its host functions and through them this object.
        self._store = weakref.ref(store)
        self._parts = parts
        self._memory: Memory | None = None
        self.interrupt: Interrupt = store.interrupt

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
            self._memory = found.without_store()
        return self._memory

    def get(self, name: str) -> Extern | None:
        """An export of the calling instance, or None."""
        try:
            return self._parts.export(self.store, name)
        except KeyError:
            return None


class Exports(Mapping[str, Extern]):
    """An instance's exports, by name or as attributes.

    An attribute is ``Any`` for type checkers, so that ``exports.add(2, 3)`` needs no cast; ``[]``
    gives the precise union.
    """

    def __init__(self, store: Store, parts: _Parts) -> None:
        self._store = store
        self._parts = parts
        self._made: dict[str, Extern] = {}

    def __getitem__(self, name: str) -> Extern:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = self._parts.export(self._store, name)
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
        return iter(self._parts.blueprint.exports)

    def __len__(self) -> int:
        return len(self._parts.blueprint.exports)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]


class _Parts:
    """What an instance consists of. Its store keeps it, so that it does not keep the store."""

    __slots__ = ("blueprint", "context", "funcs", "global_cells", "memories", "tables", "tags")

    def __init__(self, blueprint: Blueprint, context: int) -> None:
        self.blueprint = blueprint
        self.context = context
        self.funcs: list[int] = []
        self.memories: list[MemoryRegion] = []
        self.tables: list[TableRegion] = []
        self.global_cells: list[int] = []
        self.tags: list[Tag] = []

    def reference(self, index: int) -> int:
        """The address of a function's FuncRef."""
        if index < len(self.funcs):
            return self.funcs[index]
        return self.context + self.blueprint.references[index]

    def global_bits(self, index: int) -> int:
        cells = (ctypes.c_uint64 * 2).from_address(self.global_cells[index])
        is_vector = self.blueprint.parsed.globals_[index].value is ValType.V128
        return cells[0] | cells[1] << 64 if is_vector else cells[0]

    def evaluate(self, expression: ConstExpr) -> int:
        """The bits of a constant expression."""
        return evaluate(expression, self.global_bits, self.reference)

    def place(self, expression: ConstExpr, address: ValType) -> int:
        """Where an active segment goes."""
        return self.evaluate(expression) & (_CELL if address is ValType.I64 else 0xFFFFFFFF)

    def export(self, store: Store, name: str) -> Extern:
        """The export of that name, as an object.

        Raises:
            KeyError: there is none.
        """
        export = self.blueprint.exports[name]
        index = export.index
        if export.kind is ExternKind.FUNC:
            return Func.at(store, self.reference(index))
        if export.kind is ExternKind.MEMORY:
            return Memory.of_region(store, self.memories[index])
        if export.kind is ExternKind.TABLE:
            return Table.of_region(store, self.tables[index])
        if export.kind is ExternKind.TAG:
            return self.tags[index]
        ty = self.blueprint.parsed.globals_[index]
        return Global.at(store, ty, self.global_cells[index])


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
        blueprint = blueprint_of(module)
        parsed, layout = blueprint.parsed, blueprint.layout
        host_links = _check_imports(store, blueprint, imports)
        self._cells = native.buffer(layout.total_bytes + 16)
        self.context = context = (ctypes.addressof(self._cells) + 15) & ~15
        self._first = (context - ctypes.addressof(self._cells)) // 8
        ctypes.memmove(context, ctypes.addressof(blueprint.cells), layout.total_bytes)
        self._put(VMContext.STORE, store.context)
        self._put(VMContext.SELF, context)
        if module.interpreted:
            store.provide_stacks()
        self._blueprint = blueprint
        self._parts = parts = _Parts(blueprint, context)
        store.keep((self._cells, module, parts))
        store.note_instance(context, parsed.where, module.migratable)
        self.exports = Exports(store, parts)
        if imports:
            self._link(imports, host_links)
        blueprint.fill_funcrefs(self._cells, self._first, context)
        self._make_resources()
        if parsed.tag_indices:
            self._make_tags()
        self._init_globals()
        self._init_tables()
        try:
            self._init_elements()
        except Trap:
            for memory in parts.memories[parsed.imported_memories :]:
                memory.forget_image()
            raise
        self._init_data()
        if parsed.start is not None:
            Func.at(store, parts.reference(parsed.start))()

    # -- building --------------------------------------------------------------------------------

    def _put(self, offset: int, *values: int) -> None:
        start = self._first + offset // 8
        self._cells[start : start + len(values)] = [*values]

    def _link(self, imports: Sequence[Extern | HostFunc], host_links: list[HostLink]) -> None:
        layout, store, parts = self._blueprint.layout, self.store, self._parts
        caller: Caller | None = None
        hosts: list[HostFunction] = []
        places: list[int] = []  # of the hosts among the functions
        for wanted, given in zip(self._blueprint.parsed.imports, imports, strict=True):
            if isinstance(given, HostFunc):
                if caller is None and given.access_caller:
                    caller = Caller(store, parts)
                entry = HostFunction(
                    store,
                    given.type,
                    given.function,
                    f"{wanted.module}.{wanted.name}",
                    caller if given.access_caller else None,
                    given.unsigned,
                )
                hosts.append(entry)
                places.append(len(parts.funcs))
                parts.funcs.append(0)
            elif isinstance(given, Func):
                parts.funcs.append(given.reference)
            elif isinstance(given, Memory):
                parts.memories.append(given.region)
                if given.store is not store:
                    store.keep(given.region)
            elif isinstance(given, Table):
                parts.tables.append(given.region)
            elif isinstance(given, Tag):
                parts.tags.append(given)
            else:
                self._put(layout.imported_global(len(parts.global_cells)), given.cell)
                parts.global_cells.append(given.cell)
        if hosts:
            references = host_references(store, [*zip(hosts, host_links, strict=True)])
            for place, reference in zip(places, references, strict=True):
                parts.funcs[place] = reference
        for i, reference in enumerate(parts.funcs):
            to = self.context + layout.imported_function(i)
            ctypes.memmove(to, reference, FuncRef.BYTES)
            offset = self._blueprint.references.get(i)
            if offset is not None:
                ctypes.memmove(self.context + offset, reference, FuncRef.BYTES)

    def _make_resources(self) -> None:
        blueprint, parts, store = self._blueprint, self._parts, self.store
        parsed, layout = blueprint.parsed, blueprint.layout
        defined = parsed.memories[parsed.imported_memories :]
        for ty, image in zip(defined, blueprint.images(), strict=True):
            parts.memories.append(store.new_memory(ty, image))
        for table in parsed.tables[parsed.imported_tables :]:
            parts.tables.append(store.new_table(table))
        for i, memory in enumerate(parts.memories):
            self._put(layout.memory(i), memory.base, memory.definition)
        for i, region in enumerate(parts.tables):
            self._put(layout.table(i), region.base, region.definition)

    def _make_tags(self) -> None:
        parsed, tags = self._blueprint.parsed, self._parts.tags
        for index in range(len(tags), len(parsed.tag_indices)):
            tags.append(Tag(self.store, parsed.tag_type(index), f"tag {index}"))
        self._put(self._blueprint.layout.tags_at, *(tag.definition for tag in tags))

    def _init_globals(self) -> None:
        blueprint, parts = self._blueprint, self._parts
        parts.global_cells += [self.context + offset for offset in blueprint.global_offsets]
        for i, expression in blueprint.global_inits:
            value = parts.evaluate(expression)
            self._put(blueprint.global_offsets[i], value & _CELL, value >> 64)
        for i in blueprint.exception_globals:
            self.store.exceptions.add_cell(self.context + blueprint.global_offsets[i])

    def _init_tables(self) -> None:
        parsed, parts = self._blueprint.parsed, self._parts
        defined = parts.tables[parsed.imported_tables :]
        for region, init in zip(defined, parsed.table_inits, strict=True):
            bits = 0 if init is None else parts.evaluate(init)
            if bits:
                region.fill(bits)

    def _init_elements(self) -> None:
        blueprint, parts, context = self._blueprint, self._parts, self.context
        for i, segment in enumerate(blueprint.elements):
            if segment.functions is not None:
                values = [context + offset for offset in segment.functions]
            else:
                values = [parts.evaluate(expression) for expression in segment.init]
            if segment.mode is SegmentMode.ACTIVE:
                table = parts.tables[segment.table]
                at = segment.at
                if at is None:
                    at = parts.place(segment.at_expression, table.type.address)
                if at + len(values) > table.size:
                    raise Trap(TrapCode.OUT_OF_BOUNDS_TABLE_ACCESS.text)
                (ctypes.c_uint64 * len(values)).from_address(table.base + 8 * at)[:] = [*values]
            elif segment.mode is SegmentMode.PASSIVE:
                kept = (ctypes.c_uint64 * len(values))(*values)
                self.store.keep(kept)
                self._put(blueprint.layout.element_segment(i), ctypes.addressof(kept), len(values))

    def _init_data(self) -> None:
        blueprint, parts = self._blueprint, self._parts
        for i, segment in enumerate(blueprint.parsed.data_segments):
            if segment.mode is SegmentMode.PASSIVE:
                continue
            memory = parts.memories[segment.memory]
            if i < blueprint.fixed_data and memory.is_initialised:
                continue
            at = blueprint.data_at[i]
            if at is None:
                at = parts.place(segment.at, memory.type.address)
            length = segment.end - segment.start
            if at + length > memory.byte_length:
                raise Trap(TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS.text)
            ctypes.memmove(memory.base + at, self.module.data_address + segment.start, length)


# --- matching imports -----------------------------------------------------------------------------


def _check_imports(store: Store, blueprint: Blueprint, imports: Sequence[object]) -> list[HostLink]:
    """Check what is given for each import; how those that are host functions are linked."""
    parsed, links = blueprint.parsed, blueprint.host_links
    found: list[HostLink] = []
    if len(imports) != len(parsed.imports):
        raise LinkError(f"the module has {len(parsed.imports)} imports, {len(imports)} were given")
    for i, (wanted, given) in enumerate(zip(parsed.imports, imports, strict=True)):
        if isinstance(given, HostFunc):
            known = links.get(i)
            if known is not None and known.type is given.type:
                found.append(known)
                continue  # as in an instance before
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
        if isinstance(given, HostFunc):
            links[i] = known = host_link(store, given.type)
            found.append(known)
    return found


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
