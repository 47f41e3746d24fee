"""Which modules are valid: the checks of sections, and every body through FunctionValidator.

Bodies are decoded one at a time and not kept. Who needs them afterwards calls
:func:`validate_sections`, then :func:`validate_function` with each body it decodes.

Source: WebAssembly core specification 2.0, section 3.4.
"""

from __future__ import annotations

from contextlib import suppress

from wasinn_runtime.binary.code import Body, decode_body
from wasinn_runtime.binary.module import ConstExpr, ParsedModule, SegmentMode
from wasinn_runtime.binary.names import printable
from wasinn_runtime.binary.types import needs
from wasinn_runtime.errors import Invalid
from wasinn_runtime.spec.limits import MAX_MEMORY_PAGES, MAX_MEMORY_PAGES_64
from wasinn_runtime.spec.types import (
    ExternKind,
    FuncType,
    Limits,
    RefType,
    ValType,
    matches,
    ref_type,
)
from wasinn_runtime.valid.function import FunctionValidator

__all__ = ["valid_body", "validate", "validate_function", "validate_sections"]

# By meaning, what may stand in a constant expression beside constants.
_ARITHMETIC = {("int", "add"), ("int", "sub"), ("int", "mul")}


def validate(module: ParsedModule) -> None:
    """Checks a whole module.

    Raises:
        Malformed: a body breaks the binary grammar; this wins over what is invalid elsewhere.
        Invalid: a rule is broken; the first one, sections before bodies.
    """
    done = 0
    try:
        validate_sections(module)
        for index in range(len(module.code)):
            body = decode_body(module, index)
            done = index + 1
            validate_function(module, index, body)
    except Invalid:
        for index in range(done, len(module.code)):
            with suppress(Invalid):
                decode_body(module, index)
        raise


def valid_body(module: ParsedModule, index: int) -> Body:
    """One body, decoded and checked; the sections are valid.

    Args:
        module: whose.
        index: the function's index, imports counted.

    Raises:
        Malformed, Invalid: why it can not run.
    """
    number = index - module.imported_functions
    body = decode_body(module, number)
    validate_function(module, number, body)
    return body


def validate_function(module: ParsedModule, index_of_defined: int, body: Body) -> None:
    """Checks one body of a module whose sections are valid.

    Args:
        module: the module.
        index_of_defined: position among the defined functions, so without imports.
        body: as ``decode_body(module, index_of_defined)`` returned it.

    Raises:
        Invalid: with the function's label and the instruction's offset.
    """
    FunctionValidator(module, module.imported_functions + index_of_defined, body).run()


def validate_sections(module: ParsedModule) -> None:
    """Checks everything but the function bodies.

    Raises:
        Invalid: the first rule that is broken.
    """
    _Sections(module).run()


class _Sections:
    def __init__(self, module: ParsedModule) -> None:
        self.module = module
        # Element segments share equal expressions: what passed once is not looked at again.
        self.passed: set[tuple[int, ValType]] = set()
        features = module.features
        self.has_typed_references = "function-references" in features
        self.has_arithmetic = "extended-const" in features

    def invalid(self, message: str, offset: int | None) -> Invalid:
        return Invalid(message, offset, self.module.where)

    def run(self) -> None:
        self.function_types()
        self.tags()
        self.sizes()
        self.globals()
        self.tables()
        self.elements()
        self.data_segments()
        self.start()
        self.exports()

    def index(self, what: str, index: int, count: int, user: str, offset: int | None) -> None:
        if index >= count:
            there = f"there are {count}" if count else "there is none"
            raise self.invalid(f"unknown {what} {index}: {user}, {there}", offset)

    def function_types(self) -> None:
        count = len(self.module.types)
        imported = [i.offset for i in self.module.imports if i.kind is ExternKind.FUNC]
        for function, index in enumerate(self.module.type_indices):
            if index >= count:
                offset = imported[function] if function < len(imported) else None
                user = f"type of {self.module.function_label(function)}"
                self.index("type", index, count, user, offset)

    def tags(self) -> None:
        count = len(self.module.types)
        for tag, index in enumerate(self.module.tag_indices):
            self.index("type", index, count, f"type of tag {tag}", None)
            results = self.module.types[index].results
            if results:
                raise self.invalid(f"non-empty tag result type: tag {tag} leaves {results}", None)

    def sizes(self) -> None:
        module = self.module
        for index, table in enumerate(module.tables):
            sizes = (table.limits.min, table.limits.max or 0)
            if table.address is ValType.I32 and max(sizes) >> 32:
                raise self.invalid(
                    f"table size must be at most 2**32 - 1: table {index} has {max(sizes)}", None
                )
            self.limits(f"table {index}", table.limits)
        if len(module.tables) > 1 and "reference-types" not in module.features:
            raise self.invalid(f"multiple tables: {len(module.tables)}", None)
        for index, memory in enumerate(module.memories):
            sizes = (memory.limits.min, memory.limits.max or 0)
            is_wide = memory.address is ValType.I64
            most = MAX_MEMORY_PAGES_64 if is_wide else MAX_MEMORY_PAGES
            if max(sizes) > most:
                raise self.invalid(
                    f"memory size must be at most {most} pages ({'2**64' if is_wide else '4GiB'}"
                    f"{' bytes' if is_wide else ''}): memory {index} has {max(sizes)}",
                    None,
                )
            self.limits(f"memory {index}", memory.limits)
            if memory.shared and memory.limits.max is None:
                raise self.invalid(f"shared memory must have maximum: memory {index}", None)
        if len(module.memories) > 1 and "multi-memory" not in module.features:
            raise self.invalid(f"multiple memories: {len(module.memories)}", None)

    def limits(self, what: str, limits: Limits) -> None:
        if limits.max is not None and limits.min > limits.max:
            raise self.invalid(
                "size minimum must not be greater than maximum: "
                f"{what} has {limits.min} and {limits.max}",
                None,
            )

    def globals(self) -> None:
        first = self.module.imported_globals
        for number, definition in enumerate(self.module.global_defs, first):
            self.constant(
                definition.init,
                definition.type.value,
                f"global {number}",
                definition.offset,
                number if self.has_arithmetic else first,
            )

    def tables(self) -> None:
        """What the elements of tables start with."""
        module = self.module
        for number, init in enumerate(module.table_inits, module.imported_tables):
            element = module.tables[number].element
            if init is not None:
                at = init[0][2] if init else None
                self.constant(init, element, f"table {number}", at, module.imported_globals)
            elif not element.is_defaultable:
                raise self.invalid(
                    f"type mismatch: table {number} of {element} must say what its elements are",
                    None,
                )

    def elements(self) -> None:
        tables = self.module.tables
        for number, segment in enumerate(self.module.elements):
            what = f"elem segment {number}"
            if segment.mode is SegmentMode.ACTIVE:
                self.index("table", segment.table, len(tables), what, segment.offset)
                element = tables[segment.table].element
                if not matches(segment.type, element):
                    raise self.invalid(
                        f"type mismatch: table {segment.table} of {what} expected {element}, "
                        f"got {segment.type}",
                        segment.offset,
                    )
                address = tables[segment.table].address
                self.constant(segment.at, address, f"offset of {what}", segment.offset)
            for position, init in enumerate(segment.init):
                if (id(init), segment.type) not in self.passed:
                    user = f"element {position} of {what}"
                    self.constant(init, segment.type, user, segment.offset)
                    self.passed.add((id(init), segment.type))

    def data_segments(self) -> None:
        memories = self.module.memories
        for number, segment in enumerate(self.module.data_segments):
            if segment.mode is SegmentMode.ACTIVE:
                what = f"data segment {number}"
                self.index("memory", segment.memory, len(memories), what, segment.offset)
                address = memories[segment.memory].address
                self.constant(segment.at, address, f"offset of {what}", segment.offset)

    def start(self) -> None:
        index = self.module.start
        if index is None:
            return
        offset = self.module.start_offset
        self.index("function", index, len(self.module.type_indices), "start", offset)
        type_ = self.module.func_type(index)
        if type_.params or type_.results:
            label = self.module.function_label(index)
            raise self.invalid(
                f"start function: {label} must have type {FuncType()}, got {type_}", offset
            )

    def exports(self) -> None:
        module = self.module
        counts = {
            ExternKind.FUNC: ("function", len(module.type_indices)),
            ExternKind.TABLE: ("table", len(module.tables)),
            ExternKind.MEMORY: ("memory", len(module.memories)),
            ExternKind.GLOBAL: ("global", len(module.globals_)),
            ExternKind.TAG: ("tag", len(module.tag_indices)),
        }
        seen: set[str] = set()
        for export in module.exports:
            what, count = counts[export.kind]
            shown = printable(export.name)
            self.index(what, export.index, count, f'export "{shown}"', export.offset)
            if export.name in seen:
                raise self.invalid(f'duplicate export name "{shown}"', export.offset)
            seen.add(export.name)

    def constant(
        self,
        code: ConstExpr,
        expected: ValType,
        user: str,
        offset: int | None,
        globals_: int | None = None,
    ) -> None:
        """A constant expression, which must leave exactly one value of the type.

        Args:
            globals_: how many globals have a value by then; by default all that may.
        """
        module = self.module
        if globals_ is None:
            globals_ = len(module.globals_) if self.has_arithmetic else module.imported_globals
        types: list[ValType] = []
        for row, immediate, at in code:
            word = row.meaning[0]
            if word in ("const", "v128.const"):
                assert row.results is not None
                types.extend(row.results)
            elif word == "ref.null":
                assert isinstance(immediate, RefType)
                types.append(immediate)
            elif word == "ref.func":
                assert isinstance(immediate, int)
                self.index("function", immediate, len(self.module.type_indices), user, at)
                is_typed = self.has_typed_references
                type_ = ref_type(False, module.func_type(immediate)) if is_typed else None
                types.append(type_ or ValType.FUNCREF)
            elif word == "global.get":
                assert isinstance(immediate, int)
                if immediate >= globals_:
                    is_there = immediate < len(module.globals_) and not self.has_arithmetic
                    hint = f"; a later one {needs('extended-const')}" if is_there else ""
                    raise self.invalid(
                        f"unknown global {immediate}: {user}, there are {globals_} before it{hint}",
                        at,
                    )
                source = module.globals_[immediate]
                if source.mutable:
                    raise self.invalid(
                        f"constant expression required: {user} reads mutable global {immediate}",
                        at,
                    )
                types.append(source.value)
            elif row.meaning in _ARITHMETIC and self.has_arithmetic:
                assert row.params is not None
                assert row.results is not None
                if tuple(types[-2:]) != row.params:
                    got = " ".join(t.value for t in types[-2:]) or "nothing"
                    wanted = " ".join(t.value for t in row.params)
                    raise self.invalid(
                        f"type mismatch: {row.name} of {user} expected {wanted}, got {got}", at
                    )
                types[-2:] = row.results
            else:
                hint = f": {needs('extended-const')}" if row.meaning in _ARITHMETIC else ""
                raise self.invalid(f"constant expression required: {user} has {row.name}{hint}", at)
        if len(types) != 1 or not matches(types[0], expected):
            got = " ".join(t.value for t in types) if types else "nothing"
            where = code[-1][2] if code else offset
            raise self.invalid(f"type mismatch: {user} expected {expected}, got {got}", where)
