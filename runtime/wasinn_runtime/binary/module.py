"""A decoded module, as the binary format's sections say. Not validated, not compiled, no bodies.

Function bodies are only located here (``CodeRange``); ``binary/code.py`` decodes one on demand.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import NamedTuple

from wasinn_runtime.spec.features import FEATURES_2_0
from wasinn_runtime.spec.opcodes import Imm, Opcode
from wasinn_runtime.spec.types import (
    ExternKind,
    ExternType,
    FuncType,
    GlobalType,
    MemoryType,
    TableType,
    TagType,
    ValType,
)

__all__ = [
    "Catch",
    "CodeRange",
    "ConstExpr",
    "CustomSection",
    "DataSegment",
    "ElementSegment",
    "Export",
    "GlobalDef",
    "Import",
    "Instruction",
    "Names",
    "ParsedModule",
    "SegmentMode",
]

# (row, immediate, offset in the module). The immediate, by row.imm:
#   NONE None · BLOCK: type index as int, a ValType, or None for [] -> [] · LABEL, FUNC, LOCAL,
#   GLOBAL, TABLE, MEMORY, DATA, ELEM: int · LABELS: (tuple of labels, default) ·
#   TYPE_TABLE: (type, table) · MEMARG: (log2 of alignment, offset, memory) ·
#   I32, I64: signed int · F32, F64, V128: the bits as unsigned int · REF_TYPE: ValType ·
#   LANE: int · LANES: tuple of 16 int · MEMARG_LANE: MEMARG's three, and the lane ·
#   (with null, of the heap type that the instruction names) · TYPES: tuple of ValType ·
#   TYPE, TAG: int · TRY_TABLE: (as BLOCK, tuple of Catch) · ZERO: None ·
#   the two-index ones: (first, second) in binary order.
Instruction = tuple[Opcode, object, int]
ConstExpr = tuple[Instruction, ...]  # without the final end


class Catch(NamedTuple):
    """A clause of ``try_table``.

    Attributes:
        tag: the exceptions that it takes; None for all.
        label: where it goes, counted from outside of the ``try_table``.
        with_ref: whether it leaves the exception itself, after what the exception carries.
    """

    tag: int | None
    label: int
    with_ref: bool


class SegmentMode(enum.Enum):
    ACTIVE = "active"
    PASSIVE = "passive"
    DECLARATIVE = "declarative"


@dataclass(frozen=True, slots=True)
class Import:
    """``type_index`` is set for functions and tags, where the type is looked up from it."""

    module: str
    name: str
    kind: ExternKind
    type: FuncType | TableType | MemoryType | GlobalType | None
    type_index: int | None
    offset: int


@dataclass(frozen=True, slots=True)
class Export:
    name: str
    kind: ExternKind
    index: int
    offset: int


@dataclass(frozen=True, slots=True)
class GlobalDef:
    type: GlobalType
    init: ConstExpr
    offset: int


@dataclass(frozen=True, slots=True)
class ElementSegment:
    """``init`` holds one constant expression per element (a ``ref.func`` for plain indices)."""

    mode: SegmentMode
    type: ValType
    init: tuple[ConstExpr, ...]
    table: int
    at: ConstExpr
    offset: int


@dataclass(frozen=True, slots=True)
class DataSegment:
    """The bytes are ``module.data[start:end]``."""

    mode: SegmentMode
    memory: int
    at: ConstExpr
    start: int
    end: int
    offset: int


@dataclass(frozen=True, slots=True)
class CodeRange:
    """A function body: local declarations, instructions and the final end, as byte offsets."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class CustomSection:
    name: str
    start: int
    end: int


@dataclass(slots=True)
class Names:
    """The name section. A damaged one is dropped as a whole or in part, never an error."""

    module: str | None = None
    functions: dict[int, str] = field(default_factory=dict)
    locals: dict[int, dict[int, str]] = field(default_factory=dict)


@dataclass
class ParsedModule:
    """Index spaces count imports first, as in the specification.

    Attributes:
        data: the module's bytes.
        where: what to call the module in messages (a path or ``<module>``).
        features: the proposals that its bytes were read with.
        type_indices: the type index of every function, imports first.
        tables, memories, globals_: the types of every one, imports first.
        tag_indices: the type index of every tag, imports first.
        table_inits: of the defined tables only, what elements start with; None for null.
        global_defs: the defined globals only, in order.
        code: the bodies of the defined functions, in order.
        data_count: the data count section's number, if there is one.
    """

    data: bytes
    where: str = "<module>"
    features: frozenset[str] = FEATURES_2_0
    types: list[FuncType] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    type_indices: list[int] = field(default_factory=list)
    tables: list[TableType] = field(default_factory=list)
    memories: list[MemoryType] = field(default_factory=list)
    globals_: list[GlobalType] = field(default_factory=list)
    global_defs: list[GlobalDef] = field(default_factory=list)
    tag_indices: list[int] = field(default_factory=list)
    table_inits: list[ConstExpr | None] = field(default_factory=list)
    exports: list[Export] = field(default_factory=list)
    start: int | None = None
    start_offset: int = 0
    elements: list[ElementSegment] = field(default_factory=list)
    data_segments: list[DataSegment] = field(default_factory=list)
    data_count: int | None = None
    code: list[CodeRange] = field(default_factory=list)
    custom: list[CustomSection] = field(default_factory=list)

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the module's bytes."""
        return sha256(self.data).digest()

    @cached_property
    def code_bytes(self) -> int:
        """Size of the function bodies in sum."""
        return sum(body.end - body.start for body in self.code)

    @cached_property
    def imported_functions(self) -> int:
        return sum(i.kind is ExternKind.FUNC for i in self.imports)

    @cached_property
    def imported_tables(self) -> int:
        return sum(i.kind is ExternKind.TABLE for i in self.imports)

    @cached_property
    def imported_memories(self) -> int:
        return sum(i.kind is ExternKind.MEMORY for i in self.imports)

    @cached_property
    def imported_globals(self) -> int:
        return sum(i.kind is ExternKind.GLOBAL for i in self.imports)

    @cached_property
    def imported_tags(self) -> int:
        return sum(i.kind is ExternKind.TAG for i in self.imports)

    @cached_property
    def declared_functions(self) -> frozenset[int]:
        """The functions that a body may refer to: those named outside bodies and start."""
        found = {e.index for e in self.exports if e.kind is ExternKind.FUNC}
        expressions = [d.init for d in self.global_defs]
        expressions.extend(init for init in self.table_inits if init is not None)
        for segment in self.elements:
            expressions.extend(segment.init)
        for expression in expressions:
            for row, immediate, _ in expression:
                if row.imm is Imm.FUNC and isinstance(immediate, int):
                    found.add(immediate)
        return frozenset(found)

    @cached_property
    def names(self) -> Names:
        from wasinn_runtime.binary.names import read_names

        return read_names(self)

    def func_type(self, index: int) -> FuncType:
        """The type of a function by its index; only for indices that validation accepted."""
        return self.types[self.type_indices[index]]

    def import_type(self, import_: Import) -> ExternType:
        """What the import must be; only after validation."""
        if import_.type is not None:
            return import_.type
        assert import_.type_index is not None
        type_ = self.types[import_.type_index]
        return TagType(type_) if import_.kind is ExternKind.TAG else type_

    def tag_type(self, index: int) -> TagType:
        """The type of a tag by its index; only for indices that validation accepted."""
        return TagType(self.types[self.tag_indices[index]])

    def block_type(self, immediate: object) -> FuncType:
        """The type of a block from its immediate; only after validation."""
        if immediate is None:
            return _EMPTY
        if isinstance(immediate, ValType):
            return _SINGLE.get(immediate) or FuncType((), (immediate,))
        assert isinstance(immediate, int)
        return self.types[immediate]

    def function_label(self, index: int) -> str:
        """How messages name a function: ``function 12 (score)``; the name comes escaped."""
        from wasinn_runtime.binary.names import printable

        name = self.names.functions.get(index)
        return f"function {index}" if name is None else f"function {index} ({printable(name)})"


_EMPTY = FuncType()
_SINGLE = {t: FuncType((), (t,)) for t in ValType.NAMED}
