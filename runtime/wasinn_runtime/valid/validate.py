"""Which modules are valid: the checks of sections, and every body through FunctionValidator.

Bodies are decoded one at a time and not kept. Who needs them afterwards calls
:func:`validate_sections`, then :func:`validate_function` with each body it decodes.

Source: WebAssembly core specification 2.0, section 3.4.
"""

from __future__ import annotations

from wasinn_runtime.binary.code import Body, decode_body
from wasinn_runtime.binary.module import ConstExpr, ParsedModule, SegmentMode
from wasinn_runtime.binary.names import printable
from wasinn_runtime.errors import Invalid
from wasinn_runtime.spec.limits import MAX_MEMORY_PAGES
from wasinn_runtime.spec.types import ExternKind, FuncType, Limits, ValType
from wasinn_runtime.valid.function import FunctionValidator

__all__ = ["validate", "validate_function", "validate_sections"]


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
            decode_body(module, index)
        raise


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

    def invalid(self, message: str, offset: int | None) -> Invalid:
        return Invalid(message, offset, self.module.where)

    def run(self) -> None:
        self.function_types()
        self.sizes()
        self.globals()
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

    def sizes(self) -> None:
        module = self.module
        for index, table in enumerate(module.tables):
            self.limits(f"table {index}", table.limits)
        for index, memory in enumerate(module.memories):
            sizes = (memory.limits.min, memory.limits.max or 0)
            if max(sizes) > MAX_MEMORY_PAGES:
                raise self.invalid(
                    f"memory size must be at most {MAX_MEMORY_PAGES} pages (4GiB): "
                    f"memory {index} has {max(sizes)}",
                    None,
                )
            self.limits(f"memory {index}", memory.limits)
        if len(module.memories) > 1:
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
                definition.init, definition.type.value, f"global {number}", definition.offset
            )

    def elements(self) -> None:
        tables = self.module.tables
        for number, segment in enumerate(self.module.elements):
            what = f"elem segment {number}"
            if segment.mode is SegmentMode.ACTIVE:
                self.index("table", segment.table, len(tables), what, segment.offset)
                element = tables[segment.table].element
                if element is not segment.type:
                    raise self.invalid(
                        f"type mismatch: table {segment.table} of {what} expected {element}, "
                        f"got {segment.type}",
                        segment.offset,
                    )
                self.constant(segment.at, ValType.I32, f"offset of {what}", segment.offset)
            for position, init in enumerate(segment.init):
                if (id(init), segment.type) not in self.passed:
                    user = f"element {position} of {what}"
                    self.constant(init, segment.type, user, segment.offset)
                    self.passed.add((id(init), segment.type))

    def data_segments(self) -> None:
        memories = len(self.module.memories)
        for number, segment in enumerate(self.module.data_segments):
            if segment.mode is SegmentMode.ACTIVE:
                what = f"data segment {number}"
                self.index("memory", segment.memory, memories, what, segment.offset)
                self.constant(segment.at, ValType.I32, f"offset of {what}", segment.offset)

    def start(self) -> None:
        index = self.module.start
        if index is None:
            return
        offset = self.module.start_offset
        self.index("function", index, len(self.module.type_indices), "start", offset)
        type_ = self.module.func_type(index)
        if type_ != FuncType():
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
        }
        seen: set[str] = set()
        for export in module.exports:
            what, count = counts[export.kind]
            shown = printable(export.name)
            self.index(what, export.index, count, f'export "{shown}"', export.offset)
            if export.name in seen:
                raise self.invalid(f'duplicate export name "{shown}"', export.offset)
            seen.add(export.name)

    def constant(self, code: ConstExpr, expected: ValType, user: str, offset: int) -> None:
        """A constant expression, which must leave exactly one value of the type."""
        types: list[ValType] = []
        for row, immediate, at in code:
            word = row.meaning[0]
            if word == "const":
                assert row.results is not None
                types.extend(row.results)
            elif word == "ref.null":
                assert isinstance(immediate, ValType)
                types.append(immediate)
            elif word == "ref.func":
                assert isinstance(immediate, int)
                self.index("function", immediate, len(self.module.type_indices), user, at)
                types.append(ValType.FUNCREF)
            elif word == "global.get":
                assert isinstance(immediate, int)
                # Only imported globals have a value before the module's own are made.
                self.index("global", immediate, self.module.imported_globals, user, at)
                type_ = self.module.globals_[immediate]
                if type_.mutable:
                    raise self.invalid(
                        f"constant expression required: {user} reads mutable global {immediate}",
                        at,
                    )
                types.append(type_.value)
            else:
                raise self.invalid(f"constant expression required: {user} has {row.name}", at)
        if types != [expected]:
            got = " ".join(t.value for t in types) if types else "nothing"
            where = code[-1][2] if code else offset
            raise self.invalid(f"type mismatch: {user} expected {expected}, got {got}", where)
