"""A module's bytes to ParsedModule: the sections. Bodies are only located; nothing is validated.

Contents are read against the end of the file, not of their section, and the section's size is
compared afterwards: that is how the specification's suite words its verdicts.

Source: WebAssembly core specification 2.0, section 5.5.
"""

from __future__ import annotations

from collections.abc import Callable

from wasinn_runtime.binary.code import decode_body, decode_instructions
from wasinn_runtime.binary.module import (
    CodeRange,
    ConstExpr,
    CustomSection,
    DataSegment,
    ElementSegment,
    Export,
    GlobalDef,
    Import,
    ParsedModule,
    SegmentMode,
)
from wasinn_runtime.binary.reader import UNEXPECTED_END
from wasinn_runtime.binary.types import TypeReader, needs
from wasinn_runtime.errors import Malformed
from wasinn_runtime.spec import limits
from wasinn_runtime.spec.features import FEATURES_2_0
from wasinn_runtime.spec.opcodes import BY_NAME, Opcode
from wasinn_runtime.spec.types import (
    ExternKind,
    GlobalType,
    Heap,
    MemoryType,
    TableType,
    ValType,
    ref_type,
)

__all__ = ["MAGIC", "VERSION", "decode"]

MAGIC = b"\0asm"
VERSION = b"\1\0\0\0"
_KINDS = (
    *(ExternKind.FUNC, ExternKind.TABLE, ExternKind.MEMORY, ExternKind.GLOBAL),
    ExternKind.TAG,
)
_REF_FUNC = BY_NAME["ref.func"]
_FUNCTIONS = ref_type(False, Heap.FUNC)
_TAGS = 13
_TABLE_WITH_INIT = 0x40


def decode(
    data: bytes, where: str = "<module>", features: frozenset[str] = FEATURES_2_0
) -> ParsedModule:
    """Reads the sections of a binary module.

    Args:
        data: the file's bytes; kept, and referred to by the result.
        where: what to call the module in messages.
        features: the proposals that are enabled; see ``spec.features``.

    Raises:
        Malformed: with the offset, in the specification's words.
        Invalid: a type has an index that does not exist; types can not be made then.
    """
    if len(data) > limits.MAX_MODULE_BYTES:
        most = limits.MAX_MODULE_BYTES
        raise Malformed(f"module too large: {len(data)} bytes, at most {most}", None, where)
    _header(data, where)
    module = ParsedModule(data=data, where=where, features=features)
    try:
        return _Decoder(module).run()
    except Malformed:
        # Bodies are decoded later, yet a defect inside one comes earlier in the file.
        for index in range(len(module.code)):
            decode_body(module, index)
        raise


# What is mistaken for a module, by its first bytes.
_OTHER_FILES = {
    b"\x7fELF": "native code (ELF), as other runtimes' compilers make it",
    b"MZ": "native code (a Windows program)",
    b"\xcf\xfa\xed\xfe": "native code (Mach-O)",
    b"\xca\xfe\xba\xbe": "native code (Mach-O for several processors)",
    b"\0aot": "native code of WAMR's compiler",
}


def _header(data: bytes, where: str) -> None:
    if len(data) < 4:
        raise Malformed("unexpected end: not even a magic header", len(data), where)
    if data[:4] != MAGIC:
        hint = ""
        if data.lstrip()[:1] in (b"(", b";"):
            hint = "; this looks like the text format, which needs a converter such as wat2wasm"
        for start, what in _OTHER_FILES.items():
            if data.startswith(start):
                hint = f"; this is {what}: give the .wasm file that it was made of"
        raise Malformed(
            f"magic header not detected: expected {MAGIC!r}, got {data[:4]!r}{hint}", 0, where
        )
    if len(data) < 8:
        raise Malformed("unexpected end: no binary version", len(data), where)
    if data[4:8] != VERSION:
        hint = "; this is a component, not a core module" if data[6:8] == b"\1\0" else ""
        raise Malformed(
            f"unknown binary version: expected {VERSION!r}, got {data[4:8]!r}{hint}", 4, where
        )


class _Decoder(TypeReader):
    def __init__(self, module: ParsedModule) -> None:
        super().__init__(module, len(MAGIC) + len(VERSION))
        self.declared: list[int] = []
        self.interned: dict[tuple[Opcode, object], ConstExpr] = {}

    def run(self) -> ParsedModule:
        last = -1
        size = len(self.data)
        while self.pos < size:
            at = self.pos
            number = self.byte()
            if number not in _SECTIONS or (number == _TAGS and not self.has_tags):
                hint = f": tags: {needs('exceptions')}" if number == _TAGS else ""
                raise self.malformed(f"malformed section id {number}{hint}", at)
            name, rank, read = _SECTIONS[number]
            try:
                length = self.length()
                start = self.pos
                if rank is not None:
                    if rank <= last:
                        raise self.malformed(
                            f"unexpected content after last section: {name} section comes twice "
                            "or too late",
                            at,
                        )
                    last = rank
                self._section(name, start, start + length, read)
            except IndexError:
                raise self.malformed(f"{UNEXPECTED_END} in {name} section", size) from None
        self._finish()
        return self.module

    def _section(
        self, name: str, start: int, end: int, read: Callable[[_Decoder, int], None]
    ) -> None:
        try:
            read(self, end)
        except Malformed as error:
            if error.offset is not None and error.offset >= end:
                error = Malformed(
                    f"{error.message} (reading on past the end of the {name} section at {end:#x})",
                    error.offset,
                    self.where,
                )
            raise error from None
        if self.pos != end:
            raise self.malformed(
                f"section size mismatch: {name} section at {start:#x} ends at {self.pos:#x}, "
                f"but its size says {end:#x}"
            )

    def _finish(self) -> None:
        module = self.module
        if len(self.declared) != len(module.code):
            raise self.malformed(
                "function and code section have inconsistent lengths: "
                f"{len(self.declared)} and {len(module.code)}"
            )
        if module.data_count is not None and module.data_count != len(module.data_segments):
            raise self.malformed(
                "data count and data section have inconsistent lengths: "
                f"{module.data_count} and {len(module.data_segments)}"
            )

    # --- sections, in the order of their numbers -------------------------------------------------

    def custom(self, end: int) -> None:
        name = self.name(limits.MAX_NAME_BYTES)
        if self.pos > end:
            raise self.malformed(f"{UNEXPECTED_END}: the section's name does not fit in it")
        start = self.skip(end - self.pos)
        self.module.custom.append(CustomSection(name, start, end))

    def types(self, end: int) -> None:
        for _ in range(self.count(limits.MAX_TYPES, "types")):
            self.type_group()

    def imports(self, end: int) -> None:
        module = self.module
        for _ in range(self.count(limits.MAX_IMPORTS, "imports")):
            at = self.pos
            source = self.name(limits.MAX_NAME_BYTES)
            name = self.name(limits.MAX_NAME_BYTES)
            kind = self._kind("import")
            type_: TableType | MemoryType | GlobalType | None = None
            index: int | None = None
            if kind is ExternKind.FUNC:
                index = self.u32()
                module.type_indices.append(index)
            elif kind is ExternKind.TAG:
                index = self._tag()
                module.tag_indices.append(index)
            elif kind is ExternKind.TABLE:
                type_ = self.table_type()
                module.tables.append(type_)
            elif kind is ExternKind.MEMORY:
                type_ = self.memory_type()
                module.memories.append(type_)
            else:
                type_ = self.global_type()
                module.globals_.append(type_)
            module.imports.append(Import(source, name, kind, type_, index, at))

    def functions(self, end: int) -> None:
        count = self.count(limits.MAX_FUNCTIONS, "functions")
        self.declared = [self.u32() for _ in range(count)]
        self.module.type_indices.extend(self.declared)

    def tables(self, end: int) -> None:
        for _ in range(self.count(limits.MAX_TABLES, "tables")):
            init: ConstExpr | None = None
            has_init = self.data[self.pos] == _TABLE_WITH_INIT and self.has("function-references")
            if has_init:
                self.pos += 1
                at = self.pos
                if self.byte() != 0:
                    raise self.malformed("malformed table: zero byte expected", at)
            self.module.tables.append(self.table_type())
            if has_init:
                init = self._const_expr()
            self.module.table_inits.append(init)

    def memories(self, end: int) -> None:
        for _ in range(self.count(limits.MAX_MEMORIES, "memories")):
            self.module.memories.append(self.memory_type())

    def tags(self, end: int) -> None:
        for _ in range(self.count(limits.MAX_TAGS, "tags")):
            self.module.tag_indices.append(self._tag())

    def _tag(self) -> int:
        """The type index of a tag."""
        at = self.pos
        if self.byte() != 0:
            raise self.malformed("malformed tag attribute: zero byte expected", at)
        return self.u32()

    def globals(self, end: int) -> None:
        for _ in range(self.count(limits.MAX_GLOBALS, "globals")):
            at = self.pos
            type_ = self.global_type()
            self.module.globals_.append(type_)
            self.module.global_defs.append(GlobalDef(type_, self._const_expr(), at))

    def exports(self, end: int) -> None:
        for _ in range(self.count(limits.MAX_EXPORTS, "exports")):
            at = self.pos
            name = self.name(limits.MAX_NAME_BYTES)
            kind = self._kind("export")
            self.module.exports.append(Export(name, kind, self.u32(), at))

    def start(self, end: int) -> None:
        self.module.start_offset = self.pos
        self.module.start = self.u32()

    def elements(self, end: int) -> None:
        for _ in range(self.count(limits.MAX_ELEMENT_SEGMENTS, "element segments")):
            self.module.elements.append(self._element())

    def _element(self) -> ElementSegment:
        at = self.pos
        flags = self.u32()
        if flags > 7:
            raise self.malformed(f"malformed elements segment kind {flags}", at)
        not_active, indexed, expressions = flags & 1, flags & 2, flags & 4
        mode = SegmentMode.ACTIVE
        table = 0
        where: ConstExpr = ()
        if not_active:
            mode = SegmentMode.DECLARATIVE if indexed else SegmentMode.PASSIVE
        else:
            table = self.u32() if indexed else 0
            where = self._const_expr()
        type_ = ValType.FUNCREF
        if not_active or indexed:
            kind_at = self.pos
            if expressions:
                type_ = self.ref_type()
            elif self.byte() != 0:
                raise self.malformed("malformed element kind", kind_at)
        if not expressions and self.has("function-references"):
            type_ = _FUNCTIONS
        count = self.count(limits.MAX_SEGMENT_ELEMENTS, "elements in a segment")
        if expressions:
            init = tuple([self._const_expr() for _ in range(count)])
        else:
            init = tuple([self._function_reference() for _ in range(count)])
        return ElementSegment(mode, type_, init, table, where, at)

    def code(self, end: int) -> None:
        data_end = len(self.data)
        for _ in range(self.count(limits.MAX_FUNCTIONS, "functions")):
            at = self.pos
            size = self.length()
            if size > limits.MAX_BODY_BYTES:
                most = limits.MAX_BODY_BYTES
                raise self.malformed(
                    f"function body too large: {size} bytes, at most {most} are supported", at
                )
            start = self.pos
            self.pos = start + size
            if self.pos > data_end:
                raise IndexError(start)
            self.module.code.append(CodeRange(start, self.pos))

    def data_segments(self, end: int) -> None:
        for _ in range(self.count(limits.MAX_DATA_SEGMENTS, "data segments")):
            at = self.pos
            flags = self.u32()
            if flags > 2:
                raise self.malformed(f"malformed data segment kind {flags}", at)
            mode = SegmentMode.PASSIVE if flags == 1 else SegmentMode.ACTIVE
            memory = self.u32() if flags == 2 else 0
            where = self._const_expr() if mode is SegmentMode.ACTIVE else ()
            size = self.length()
            start = self.skip(size)
            self.module.data_segments.append(DataSegment(mode, memory, where, start, self.pos, at))

    def data_count(self, end: int) -> None:
        self.module.data_count = self.u32()

    # --- parts of sections -----------------------------------------------------------------------

    @property
    def has_tags(self) -> bool:
        return self.has("exceptions") or self.has("legacy-exceptions")

    def _kind(self, what: str) -> ExternKind:
        at = self.pos
        number = self.byte()
        if number >= len(_KINDS):
            raise self.malformed(f"malformed {what} kind {number:#04x}", at)
        kind = _KINDS[number]
        if kind is ExternKind.TAG and not self.has_tags:
            hint = f"a tag {needs('exceptions')}"
            raise self.malformed(f"malformed {what} kind {number:#04x}: {hint}", at)
        return kind

    def _function_reference(self) -> ConstExpr:
        at = self.pos
        return self._intern(_REF_FUNC, self.u32(), at)

    def _const_expr(self) -> ConstExpr:
        instructions, self.pos = decode_instructions(
            self.module,
            self.pos,
            len(self.data),
            # Of constant expressions validation says it better: not constant.
            has_data_count=True,
        )
        instructions.pop()
        if len(instructions) == 1:
            return self._intern(*instructions[0])
        return tuple(instructions)

    def _intern(self, row: Opcode, immediate: object, at: int) -> ConstExpr:
        """Equal one-instruction expressions share one object: tables of millions stay small.

        The offset in it is that of the first one.
        """
        key = (row, immediate)
        known = self.interned.get(key)
        if known is None:
            known = self.interned[key] = ((row, immediate, at),)
        return known


# Number: name, rank in the order that a module must keep (None: anywhere), reader.
_SECTIONS: dict[int, tuple[str, int | None, Callable[[_Decoder, int], None]]] = {
    0: ("custom", None, _Decoder.custom),
    1: ("type", 1, _Decoder.types),
    2: ("import", 2, _Decoder.imports),
    3: ("function", 3, _Decoder.functions),
    4: ("table", 4, _Decoder.tables),
    5: ("memory", 5, _Decoder.memories),
    13: ("tag", 6, _Decoder.tags),
    6: ("global", 7, _Decoder.globals),
    7: ("export", 8, _Decoder.exports),
    8: ("start", 9, _Decoder.start),
    9: ("element", 10, _Decoder.elements),
    12: ("data count", 11, _Decoder.data_count),
    10: ("code", 12, _Decoder.code),
    11: ("data", 13, _Decoder.data_segments),
}
