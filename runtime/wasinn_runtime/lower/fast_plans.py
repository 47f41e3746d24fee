"""How the walk treats each row of the opcode table: by a plan where it is quick, else by a family.

Plans of rows with one or two scalar operands: tables of handlers by kinds, 3 x kind of the first +
kind of the second, with 0 a slot, 1 the register, 2 a constant.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from wasinn_runtime.lower.fast_body import CLASSES, class_of
from wasinn_runtime.lower.fast_names import by_kinds
from wasinn_runtime.lower.meanings import MEANINGS
from wasinn_runtime.lower.state import STATE_MEANINGS
from wasinn_runtime.spec.opcodes import ROWS, Imm, Opcode
from wasinn_runtime.spec.types import ValType

__all__ = [
    "BINARY",
    "CLASS_NUMBER",
    "CONST",
    "GET",
    "LOAD",
    "OTHER",
    "PLANS",
    "SET",
    "STORE",
    "TEE",
    "UNARY",
]

# The numbers follow how often code needs them.
GET, BINARY, CONST, SET, LOAD, STORE, TEE, UNARY, OTHER = range(9)
CLASS_NUMBER = {ty: CLASSES.index(class_of(ty)) for ty in ValType.NAMED}


def _table(name: str, operands: int) -> tuple[int, ...]:
    names = by_kinds(name)
    return tuple(names.get("".join(kinds), 0) for kinds in product("sri", repeat=operands))


def _plan(row: Opcode) -> tuple[Any, ...]:
    simple = {"local.get": GET, "local.set": SET, "local.tee": TEE}
    if row.name in simple:
        return (simple[row.name],)
    family, params, results = row.meaning[0], row.params, row.results
    if params is None or results is None:
        return (OTHER,)
    if family == "const":
        return (CONST,)
    if ValType.V128 in params + results or len(params) > 2:
        return (OTHER,)
    classes = tuple(CLASS_NUMBER[ty] for ty in params + results)
    if row.imm is Imm.NONE and family in MEANINGS and len(results) == 1 and params:
        kind = BINARY if len(params) == 2 else UNARY
        return (kind, _table(row.name, len(params)), *classes)
    if row.imm is Imm.MEMARG and family in STATE_MEANINGS:
        if family == "load":
            return (LOAD, _table(row.name, 1), classes[1])
        if family == "store":
            return (STORE, _table(row.name, 2), classes[1])
    return (OTHER,)


PLANS = {row: _plan(row) for row in ROWS}
