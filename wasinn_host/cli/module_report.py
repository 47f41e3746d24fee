"""A module as plain data for ``wasinn inspect``. No layout; the schema is in ``docs/cli.md``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from wasinn_runtime.binary.code import decode_body
from wasinn_runtime.binary.decoder import MAGIC, VERSION, decode
from wasinn_runtime.binary.module import ConstExpr, ParsedModule, SegmentMode
from wasinn_runtime.binary.reader import Reader
from wasinn_runtime.spec.features import ALL_FEATURES
from wasinn_runtime.spec.opcodes import Imm
from wasinn_runtime.spec.types import (
    ExternKind,
    ExternType,
    GlobalType,
    Heap,
    RefType,
    ValType,
)
from wasinn_runtime.valid.validate import validate

__all__ = ["report_of"]

# Source: WebAssembly core specification 3.0, section 5.5.2.
_SECTIONS = (
    "custom",
    "type",
    "import",
    "function",
    "table",
    "memory",
    "global",
    "export",
    "start",
    "element",
    "code",
    "data",
    "data count",
    "tag",
)


def report_of(data: bytes, where: str, biggest: int | None) -> dict[str, Any]:
    """Everything that is shown of a module.

    Args:
        data: its bytes.
        where: its name in messages.
        biggest: how many functions to list, the biggest first; None for all.

    Raises:
        Malformed, Invalid: it is not a module, or not a valid one.
    """
    module = decode(data, where, ALL_FEATURES)
    validate(module)
    return {
        "schema": "wasinn-inspect-1",
        "file": where,
        "size_bytes": len(data),
        "module_name": module.names.module,
        "features": _features(module),
        "imports": [
            {
                "module": i.module,
                "name": i.name,
                "kind": i.kind.value,
                "type": str(module.import_type(i)),
            }
            for i in module.imports
        ],
        "exports": [
            {
                "name": e.name,
                "kind": e.kind.value,
                "index": e.index,
                "type": str(_type_of(module, e.kind, e.index)),
            }
            for e in module.exports
        ],
        "memories": [
            {
                **_row(index, ty, module.imported_memories),
                "min_pages": ty.limits.min,
                "max_pages": ty.limits.max,
                "address": ty.address.value,
                "shared": ty.shared,
            }
            for index, ty in enumerate(module.memories)
        ],
        "tables": [
            {
                **_row(index, table, module.imported_tables),
                "min_elements": table.limits.min,
                "max_elements": table.limits.max,
                "address": table.address.value,
            }
            for index, table in enumerate(module.tables)
        ],
        "globals": [
            _row(index, ty, module.imported_globals) for index, ty in enumerate(module.globals_)
        ],
        "tags": [
            _row(index, module.tag_type(index), module.imported_tags)
            for index in range(len(module.tag_indices))
        ],
        "sections": _sections(module),
        "functions": _functions(module, biggest),
    }


def _row(index: int, ty: ExternType, imported: int) -> dict[str, Any]:
    return {"index": index, "type": str(ty), "imported": index < imported}


def _type_of(module: ParsedModule, kind: ExternKind, index: int) -> ExternType:
    if kind is ExternKind.FUNC:
        return module.func_type(index)
    if kind is ExternKind.MEMORY:
        return module.memories[index]
    if kind is ExternKind.TABLE:
        return module.tables[index]
    if kind is ExternKind.TAG:
        return module.tag_type(index)
    return module.globals_[index]


def _sections(module: ParsedModule) -> list[dict[str, Any]]:
    """Each section in the file's order; sizes are of the contents."""
    reader = Reader(module.data, module.where, len(MAGIC) + len(VERSION))
    names = {section.end: section.name for section in module.custom}
    rows = []
    while reader.pos < len(module.data):
        offset = reader.pos
        number = reader.byte()
        size = reader.length()
        reader.skip(size)
        rows.append(
            {
                "id": number,
                "kind": _SECTIONS[number],
                "name": names.get(reader.pos) if number == 0 else None,
                "offset": offset,
                "size_bytes": size,
            }
        )
    return rows


def _functions(module: ParsedModule, biggest: int | None) -> dict[str, Any]:
    first = module.imported_functions
    sizes = sorted(
        ((body.end - body.start, first + i) for i, body in enumerate(module.code)),
        key=lambda item: (-item[0], item[1]),
    )
    return {
        "defined": len(module.code),
        "imported": first,
        "named": len(module.names.functions),
        "code_bytes": sum(size for size, _ in sizes),
        "start": None if module.start is None else module.function_label(module.start),
        "biggest": [
            {
                "index": index,
                "name": module.names.functions.get(index),
                "label": module.function_label(index),
                "type": str(module.func_type(index)),
                "size_bytes": size,
            }
            for size, index in sizes[:biggest]
        ],
    }


def _features(module: ParsedModule) -> list[str]:
    """The proposals that the module makes use of, beside ``mvp``; sorted."""
    found: Counter[str] = Counter()
    for index in range(len(module.code)):
        body = decode_body(module, index)
        for row, immediate, _ in body.instructions:
            found[row.feature] += 1
            if isinstance(immediate, ValType):
                found[_feature_of(immediate)] += 1
            # A block with a type index is either this proposal's or could be written without.
            elif type(immediate) is int and row.imm is Imm.BLOCK:
                found["multi-value"] += 1
        for _, ty in body.locals:
            found[_feature_of(ty)] += 1
    for function in module.types:
        found["multi-value"] += len(function.results) > 1
        found["function-references"] += function.definition is not None
        for ty in (*function.params, *function.results):
            found[_feature_of(ty)] += 1
    for global_type in module.globals_:
        found[_feature_of(global_type.value)] += 1
    found["mutable-globals"] += sum(
        isinstance(ty, GlobalType) and ty.mutable for ty in _globals_outside(module)
    )
    modes = [s.mode for s in module.elements] + [s.mode for s in module.data_segments]
    passive = sum(mode is not SegmentMode.ACTIVE for mode in modes)
    found["bulk-memory"] += passive + (module.data_count is not None)
    found["reference-types"] += len(module.tables) > 1
    for table in module.tables:
        # Tables of functions are older than the type of their elements.
        found["mvp" if table.element is ValType.FUNCREF else _feature_of(table.element)] += 1
    addresses = [m.address for m in module.memories] + [t.address for t in module.tables]
    found["memory64"] += addresses.count(ValType.I64)
    found["multi-memory"] += len(module.memories) > 1
    found["threads"] += sum(memory.shared for memory in module.memories)
    found["function-references"] += sum(init is not None for init in module.table_inits)
    found["exceptions"] += len(module.tag_indices)
    for expression in _constants(module):
        found.update(_features_of_constant(module, expression))
    return ["mvp", *sorted(name for name, count in found.items() if count and name != "mvp")]


def _constants(module: ParsedModule) -> Iterator[ConstExpr]:
    """The constant expressions, but for those that merely name an element's function."""
    yield from (item.init for item in module.global_defs)
    yield from (init for init in module.table_inits if init is not None)
    for element in module.elements:
        yield element.at
        yield from (init for init in element.init if len(init) > 1)
    yield from (data.at for data in module.data_segments)


def _features_of_constant(module: ParsedModule, expression: ConstExpr) -> Iterator[str]:
    for row, immediate, _ in expression:
        if row.params or (row.imm is Imm.GLOBAL and _is_defined_global(module, immediate)):
            yield "extended-const"
        yield row.feature


def _is_defined_global(module: ParsedModule, index: object) -> bool:
    return isinstance(index, int) and index >= module.imported_globals


def _globals_outside(module: ParsedModule) -> list[object]:
    imported: list[object] = [i.type for i in module.imports if i.kind is ExternKind.GLOBAL]
    exported = [module.globals_[e.index] for e in module.exports if e.kind is ExternKind.GLOBAL]
    return [*imported, *exported]


def _feature_of(ty: ValType) -> str:
    if ty is ValType.V128:
        return "simd"
    if not isinstance(ty, RefType):
        return "mvp"
    if ty.heap in (Heap.EXN, Heap.NOEXN):
        return "exceptions"
    is_old = ty in (ValType.FUNCREF, ValType.EXTERNREF)
    return "reference-types" if is_old else "function-references"
