"""A module as plain data for ``wasinn inspect``. No layout; the schema is in ``docs/cli.md``."""

from __future__ import annotations

from collections import Counter
from typing import Any

from wasinn_runtime.binary.code import decode_body
from wasinn_runtime.binary.decoder import MAGIC, VERSION, decode
from wasinn_runtime.binary.module import ParsedModule, SegmentMode
from wasinn_runtime.binary.reader import Reader
from wasinn_runtime.spec.types import ExternKind, ExternType, GlobalType, ValType
from wasinn_runtime.valid.validate import validate

__all__ = ["report_of"]

# Source: WebAssembly core specification 2.0, section 5.5.2.
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
    module = decode(data, where)
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
                "type": str(module.types[i.type_index] if i.type_index is not None else i.type),
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
            }
            for index, ty in enumerate(module.memories)
        ],
        "tables": [
            {
                **_row(index, table, module.imported_tables),
                "min_elements": table.limits.min,
                "max_elements": table.limits.max,
            }
            for index, table in enumerate(module.tables)
        ],
        "globals": [
            _row(index, ty, module.imported_globals) for index, ty in enumerate(module.globals_)
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
            # A block with a type index is either this proposal's or could be written without.
            if type(immediate) is int and row.imm.value == "block type":
                found["multi-value"] += 1
        for _, ty in body.locals:
            found[_feature_of(ty)] += 1
    for function in module.types:
        found["multi-value"] += len(function.results) > 1
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
    found["reference-types"] += sum(t.element is ValType.EXTERNREF for t in module.tables)
    return ["mvp", *sorted(name for name, count in found.items() if count and name != "mvp")]


def _globals_outside(module: ParsedModule) -> list[object]:
    imported: list[object] = [i.type for i in module.imports if i.kind is ExternKind.GLOBAL]
    exported = [module.globals_[e.index] for e in module.exports if e.kind is ExternKind.GLOBAL]
    return [*imported, *exported]


def _feature_of(ty: ValType) -> str:
    if ty is ValType.V128:
        return "simd"
    return "reference-types" if ty.is_ref else "mvp"
