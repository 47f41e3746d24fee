"""Blueprints: what all instances of a module have in common, computed once.

An instance begins as a copy of its module's blueprint; only what depends on the store, the imports
or the instance's address is filled in each time.
"""

from __future__ import annotations

import ctypes
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

from wasinn_runtime.abi.layout import CodeEntry, FuncRef, VMContext, VMLayout
from wasinn_runtime.binary.module import ConstExpr, Export, ParsedModule, SegmentMode
from wasinn_runtime.machine import native
from wasinn_runtime.machine.image import Image, Piece
from wasinn_runtime.spec.types import PAGE_SIZE, ValType

if TYPE_CHECKING:
    from wasinn_runtime.machine.func import HostLink

__all__ = ["Blueprint", "CompiledModule", "Elements", "blueprint_of", "evaluate"]

_CELL = 0xFFFFFFFFFFFFFFFF
# What constant expressions may compute.
_ARITHMETIC = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}
# From how many bytes of data on instances share an image: it takes a file descriptor.
_LEAST_IMAGE_BYTES = 32 << 10


class CompiledModule(Protocol):
    """What instantiation needs of an engine's module.

    Attributes:
        parsed: the decoded module.
        layout: of its VMContext.
        escaping: functions that can be reached by reference, in the order of their FuncRefs.
        entries_address: address of the CodeEntry of the first defined function.
        interpreted: whether an interpreter runs it.
        migratable: whether its calls can stop at safepoints.
        signatures: the process-wide number of each type.
        data_address: address of the module's bytes.
    """

    parsed: ParsedModule
    layout: VMLayout
    escaping: Sequence[int]
    entries_address: int
    interpreted: bool
    migratable: bool
    signatures: Sequence[int]
    data_address: int


@dataclass(frozen=True, slots=True)
class Elements:
    """An element segment.

    Attributes:
        mode, table: as the module says.
        init: its values as expressions.
        functions: where the FuncRefs of its functions lie, from the VMContext on; None when its
            values are not just functions of the module.
        at_expression: where it goes.
        at: the same as a number, if it is the same in all instances.
    """

    mode: SegmentMode
    table: int
    init: Sequence[ConstExpr]
    functions: list[int] | None
    at_expression: ConstExpr
    at: int | None


class Blueprint:
    """What instances of one module share. Does not keep the module.

    Attributes:
        cells: the VMContext, with everything in it that is always the same.
        references: where a function's FuncRef lies, from the VMContext on, by function index.
        global_offsets: where the defined globals lie, likewise.
        exception_globals: those of them that refer to exceptions.
        global_inits: those of them that each instance computes, as number and expression.
        elements: the element segments.
        data_at: where each data segment goes; None for passive ones and where it depends.
        exports: by name.
        host_links: of the imports that some instance had a host function for, by number: the type
            that matched last, and what follows from it.
    """

    def __init__(self, module: CompiledModule) -> None:
        self.parsed = parsed = module.parsed
        self.layout = layout = module.layout
        self.cells = native.buffer(layout.total_bytes)
        self._data_address = module.data_address
        self._entries = (ctypes.c_uint64 * (len(parsed.code) * CodeEntry.BYTES // 8)).from_address(
            module.entries_address
        )
        self._put(VMContext.ENTRIES, module.entries_address)
        self._put(layout.signatures_at, *module.signatures)
        self.references = {index: layout.funcref(i) for i, index in enumerate(module.escaping)}
        self._describe_functions(module)
        self._describe_globals()
        self.elements = [
            Elements(
                s.mode,
                s.table,
                s.init,
                self._functions_in(s.init),
                s.at,
                self._place(s.at, parsed.tables, s.table),
            )
            for s in parsed.elements
        ]
        self._describe_data()
        self.exports: dict[str, Export] = {e.name: e for e in parsed.exports}
        self.host_links: dict[int, HostLink] = {}
        self._images: list[Image | None] | None = None
        self._is_used = False

    def _put(self, offset: int, *values: int) -> None:
        start = offset // 8
        self.cells[start : start + len(values)] = [*values]

    def _describe_functions(self, module: CompiledModule) -> None:
        imported = self.parsed.imported_functions
        # Cells of the table of CodeEntries to read, and where to write them and the context's
        # address: code may be made ready at any time, so that entries are read for each instance.
        self._read: list[int] = []
        self._write: list[int] = []
        for index, at in self.references.items():
            if index >= imported:
                entry = (index - imported) * CodeEntry.BYTES
                self._put(
                    at + FuncRef.SIGNATURE, module.signatures[self.parsed.type_indices[index]]
                )
                self._put(at + FuncRef.ENTRY, module.entries_address + entry)
                self._read.append(entry // 8)
                self._write.append(at // 8)

    def fill_funcrefs(self, cells: native.Cells, first: int, context: int) -> None:
        """Complete the FuncRefs of defined functions in a copy of ``cells``.

        Args:
            cells: what holds the copy.
            first: the number of its first cell.
            context: its address.
        """
        entries = self._entries
        for entry, at in zip(self._read, self._write, strict=True):
            at += first
            cells[at] = entries[entry]
            cells[at + 1] = context
            cells[at + 3] = entries[entry + 1]

    def _describe_globals(self) -> None:
        layout, definitions = self.layout, self.parsed.global_defs
        self.global_offsets = [layout.defined_global(i) for i in range(len(definitions))]
        self.exception_globals = [
            i for i, d in enumerate(definitions) if d.type.value.base is ValType.EXNREF
        ]
        self.global_inits: list[tuple[int, ConstExpr]] = []
        for i, definition in enumerate(definitions):
            value = _constant(definition.init)
            if value is None:
                self.global_inits.append((i, definition.init))
            else:
                self._put(layout.defined_global(i), value & _CELL, value >> 64)

    def _functions_in(self, init: Sequence[ConstExpr]) -> list[int] | None:
        found = []
        for expression in init:
            row, immediate, _ = expression[0]
            if len(expression) != 1 or row.meaning[0] != "ref.func":
                return None
            assert isinstance(immediate, int)
            if immediate < self.parsed.imported_functions:
                return None
            found.append(self.references[immediate])
        return found

    # -- data ------------------------------------------------------------------------------------

    def _describe_data(self) -> None:
        parsed, layout = self.parsed, self.layout
        self.data_at: list[int | None] = []
        for i, segment in enumerate(parsed.data_segments):
            source = self._data_address + segment.start
            if segment.mode is SegmentMode.PASSIVE:
                self._put(layout.data_segment(i), source, segment.end - segment.start)
                self.data_at.append(None)
            else:
                self._put(layout.data_segment(i), source, 0)
                self.data_at.append(self._place(segment.at, parsed.memories, segment.memory))
        # How many segments come before the first that may not fit or is not always the same.
        self.fixed_data = 0
        self._pieces: list[list[Piece]] = [[] for _ in parsed.memories]
        for at, segment in zip(self.data_at, parsed.data_segments, strict=True):
            if segment.mode is not SegmentMode.PASSIVE:
                length = segment.end - segment.start
                room = parsed.memories[segment.memory].limits.min * PAGE_SIZE
                if at is None or segment.memory < parsed.imported_memories or at + length > room:
                    break
                if length:
                    source = self._data_address + segment.start
                    self._pieces[segment.memory].append((at, source, length))
            self.fixed_data += 1

    @staticmethod
    def _place(expression: ConstExpr, types: Sequence[_Addressed], index: int) -> int | None:
        """Where an active segment goes, if that is a constant."""
        if not expression:
            return None
        bits = _constant(expression)
        if bits is None:
            return None
        return bits & (_CELL if types[index].address is ValType.I64 else 0xFFFFFFFF)

    def images(self) -> Sequence[Image | None]:
        """What the defined memories begin with: the first ``fixed_data`` segments.

        There are none for the first instance, which may stay the only one.
        """
        if self._images is None:
            defined = self._pieces[self.parsed.imported_memories :]
            if not self._is_used:
                self._is_used = True
                return [None] * len(defined)
            types = self.parsed.memories[self.parsed.imported_memories :]
            self._images = [
                _image(pieces, ty.limits.min * PAGE_SIZE)
                for pieces, ty in zip(defined, types, strict=True)
            ]
        return self._images


class _Addressed(Protocol):
    @property
    def address(self) -> ValType: ...


def _image(pieces: Sequence[Piece], memory_bytes: int) -> Image | None:
    if sum(length for _, _, length in pieces) < _LEAST_IMAGE_BYTES:
        return None
    try:
        return Image(pieces, memory_bytes)
    except OSError:  # the system has no such files or no more: data is copied then
        return None


_blueprints: WeakKeyDictionary[CompiledModule, Blueprint] = WeakKeyDictionary()


def blueprint_of(module: CompiledModule) -> Blueprint:
    """The blueprint of a module, made when it is first needed."""
    found = _blueprints.get(module)
    if found is None:
        found = _blueprints.setdefault(module, Blueprint(module))
    return found


# --- constant expressions -------------------------------------------------------------------------


def evaluate(
    expression: ConstExpr, global_bits: Callable[[int], int], reference: Callable[[int], int]
) -> int:
    """The bits of a constant expression: a slot, or 128 of a vector.

    Args:
        expression: what to evaluate.
        global_bits: the bits of a global, by index.
        reference: the address of a function's FuncRef, by index.
    """
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
            stack.append(global_bits(immediate))
        elif family == "ref.func":
            assert isinstance(immediate, int)
            stack.append(reference(immediate))
        else:  # a constant of any type
            assert isinstance(immediate, int), row.name
            is_vector = row.results == (ValType.V128,)
            stack.append(immediate & (_CELL << 64 | _CELL if is_vector else _CELL))
    (result,) = stack
    return result


def _constant(expression: ConstExpr) -> int | None:
    """The bits of an expression that are the same in all instances; None for others."""
    if any(row.meaning[0] in ("global.get", "ref.func") for row, _, _ in expression):
        return None
    return evaluate(expression, _never, _never)


def _never(index: int) -> int:
    raise AssertionError(index)
