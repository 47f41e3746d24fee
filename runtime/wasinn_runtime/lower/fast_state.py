"""Handlers of rows that the module decides about: memories, tables, globals, references.

See ``fast_handlers.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

from wasinn_runtime.lower.fast_body import Body, class_of
from wasinn_runtime.lower.fast_shapes import (
    KINDS_OF_VALUES,
    MEMORY,
    SHARED_MEMORY,
    TABLE,
    add,
    kinds_of,
    reads_of,
    result_name,
)
from wasinn_runtime.lower.state import STATE_MEANINGS
from wasinn_runtime.spec.opcodes import BY_NAME, Opcode
from wasinn_runtime.spec.types import GlobalType, MemoryType, TableType, ValType

__all__ = ["add_state"]

_I32, _I64, _FUNCREF = ValType.I32, ValType.I64, ValType.FUNCREF


@dataclass(frozen=True, slots=True)
class _Variant:
    """A row with all that its signature and its immediates depend on.

    Attributes:
        name: the handler's, without kinds.
        immediate: reads the immediate from the stream.
    """

    name: str
    row: Opcode
    params: tuple[ValType, ...]
    results: tuple[ValType, ...]
    immediate: Callable[[Body], object]


def _variants() -> Iterator[_Variant]:
    """Of memories, tables, globals, segments and references."""
    for ty in KINDS_OF_VALUES:
        name = result_name(ty)
        for own, imported in (("", 0), ("@import", 1)):
            fact = GlobalType(ty, True)

            def cell(b: Body, fact: GlobalType = fact, imported: int = imported) -> object:
                b.describe(imported_globals=imported)
                return b.number(fact)

            yield _Variant(f"global.get.{name}{own}", BY_NAME["global.get"], (), (ty,), cell)
            yield _Variant(f"global.set.{name}{own}", BY_NAME["global.set"], (ty,), (), cell)
    for where, memory in (("", MEMORY["@32"]), ("@64", MEMORY["@64"])):
        size = memory.address

        def one(b: Body, fact: object = memory) -> object:
            return b.number(fact)

        def segment(b: Body, fact: object = memory) -> object:
            return b.number(), b.number(fact)

        row = BY_NAME["memory.size"]
        yield _Variant(f"memory.size{where}", row, (), (size,), one)
        row = BY_NAME["memory.grow"]
        yield _Variant(f"memory.grow{where}", row, (size,), (size,), one)
        shared = SHARED_MEMORY["@64shared" if where else "@32shared"]

        def grown(b: Body, fact: object = shared) -> object:
            return b.number(fact)

        yield _Variant(f"memory.grow{where}shared", row, (size,), (size,), grown)
        row = BY_NAME["memory.fill"]
        yield _Variant(f"memory.fill{where}", row, (size, _I32, size), (), one)
        row = BY_NAME["memory.init"]
        yield _Variant(f"memory.init{where}", row, (size, _I32, _I32), (), segment)
    yield from _copies("memory.copy", MEMORY["@32"], MEMORY["@64"])
    yield from _copies("table.copy", TABLE[""], TABLE["@64"])
    for where, table in TABLE.items():
        size = table.address

        def one(b: Body, fact: object = table) -> object:
            return b.number(fact)

        def segment(b: Body, fact: object = table) -> object:
            return b.number(), b.number(fact)

        for name, params, results in (
            ("table.get", (size,), (_FUNCREF,)),
            ("table.set", (size, _FUNCREF), ()),
            ("table.size", (), (size,)),
            ("table.grow", (_FUNCREF, size), (size,)),
            ("table.fill", (size, _FUNCREF, size), ()),
        ):
            yield _Variant(f"{name}{where}", BY_NAME[name], params, results, one)
        row = BY_NAME["table.init"]
        yield _Variant(f"table.init{where}", row, (size, _I32, _I32), (), segment)

    def plain(b: Body) -> object:
        return b.number()

    yield _Variant("atomic.fence", BY_NAME["atomic.fence"], (), (), lambda b: None)
    yield _Variant("data.drop", BY_NAME["data.drop"], (), (), plain)
    yield _Variant("elem.drop", BY_NAME["elem.drop"], (), (), plain)
    yield _Variant("ref.func", BY_NAME["ref.func"], (), (_FUNCREF,), plain)
    row = BY_NAME["ref.is_null"]
    yield _Variant("ref.is_null", row, (_FUNCREF,), (_I32,), lambda b: None)
    row = BY_NAME["ref.as_non_null"]
    yield _Variant("ref.as_non_null", row, (_FUNCREF,), (_FUNCREF,), lambda b: None)


def _copies(
    name: str, narrow: MemoryType | TableType, wide: MemoryType | TableType
) -> Iterator[_Variant]:
    row = BY_NAME[name]
    facts = {"32": narrow, "64": wide}
    for (to, into), (at, out) in product(facts.items(), repeat=2):
        count = _I64 if into is wide and out is wide else _I32

        def pair(b: Body, into: object = into, out: object = out) -> object:
            return b.number(into), b.number(out)

        params = (into.address, out.address, count)
        yield _Variant(f"{name}@{to}.{at}", row, params, (), pair)


def _stateful(variant: _Variant, kinds: str, dest: str, b: Body) -> None:
    operands = [b.operand(kind, ty) for kind, ty in zip(kinds, variant.params, strict=True)]
    immediate = variant.immediate(b)
    found = STATE_MEANINGS[variant.row.meaning[0]](b, variant.row, immediate, operands)
    for ty, value in zip(variant.results, found, strict=True):
        b.result(dest, ty, value)


def add_state() -> None:
    """Put them on the list."""
    for variant in _variants():
        result = class_of(variant.results[0]) if variant.results else ""
        rare = variant.name.startswith(("memory.", "table."))
        dests = ("",) if not variant.results else (">s",) if rare else (">r", ">s")
        for kinds in kinds_of(variant.params, rare):
            reads = reads_of(kinds, variant.params)
            for dest in dests:
                write = partial(_stateful, variant, kinds, dest)
                add(f"{variant.name}:{kinds}{dest}", write, reads, result)
