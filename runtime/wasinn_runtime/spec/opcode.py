"""What a row of the opcode table is: an instruction's facts, and the maker of rows. No rows.

The rows are in ``rows_*.py``; ``opcodes.py`` joins them.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import ValType

__all__ = ["Imm", "Opcode", "Table", "prefixed"]


class Imm(enum.Enum):
    """The immediates that follow an opcode, in the binary format's order."""

    NONE = "none"
    BLOCK = "block type"
    LABEL = "label"
    LABELS = "labels, default label"
    FUNC = "function index"
    TYPE_TABLE = "type index, table index"
    LOCAL = "local index"
    GLOBAL = "global index"
    TABLE = "table index"
    MEMARG = "alignment, offset, memory index"
    MEMORY = "memory index"
    I32 = "i32"
    I64 = "i64"
    F32 = "f32"
    F64 = "f64"
    REF_TYPE = "reference type"
    TYPES = "value types"
    DATA_MEMORY = "data index, memory index"
    DATA = "data index"
    MEMORY_MEMORY = "memory index, memory index"
    ELEM_TABLE = "element index, table index"
    ELEM = "element index"
    TABLE_TABLE = "table index, table index"
    V128 = "v128"
    LANE = "lane"
    LANES = "16 lanes"
    MEMARG_LANE = "alignment, offset, memory index, lane"
    TYPE = "type index"
    TAG = "tag index"
    TRY_TABLE = "block type, catch clauses"
    ZERO = "zero byte"


_TYPES = {t.value: t for t in ValType.NAMED}
_SHAPE = re.compile(r"[if]\d+x(\d+)\.")


@dataclass(frozen=True, slots=True, eq=False)
class Opcode:
    """One instruction.

    Attributes:
        code: the opcode byte, or ``prefix << 16 | number`` for prefixed instructions.
        name: the text format's name.
        imm: what follows in the binary.
        params: operand types, deepest first; None where the module or context decides. The
            address of a memory access is written i32; memories and tables of 64-bit addresses
            make it, and sizes, i64.
        results: result types; None where the module or context decides.
        meaning: first word: the family; further words: its arguments.
        traps: what it may trap with.
        feature: the proposal that brought it, ``mvp`` for the first version.
        access_bytes: how much of memory a load or store touches.
        lanes: how many lanes a lane immediate chooses from.
    """

    code: int
    name: str
    imm: Imm
    params: tuple[ValType, ...] | None
    results: tuple[ValType, ...] | None
    meaning: tuple[str, ...]
    traps: tuple[TrapCode, ...] = ()
    feature: str = "mvp"
    access_bytes: int = 0
    lanes: int = 0

    @property
    def may_trap(self) -> bool:
        return bool(self.traps)

    @property
    def is_typed(self) -> bool:
        """Whether the signature is fixed by the opcode alone."""
        return self.params is not None

    def __repr__(self) -> str:
        return self.name


def prefixed(prefix: int, number: int) -> int:
    """The table's code of a prefixed instruction."""
    return prefix << 16 | number


class Table(list[Opcode]):
    """Rows in the making."""

    def row(
        self,
        code: int,
        name: str,
        imm: Imm,
        signature: str | None,
        meaning: str,
        *traps: TrapCode,
        feature: str = "mvp",
    ) -> None:
        """Appends a row.

        Args:
            signature: ``"i32 i32 -> i32"``, or None where the module or context decides.
            meaning: the family and its arguments; of a memory access, the first number among
                them is the bits that it touches.
        """
        params: tuple[ValType, ...] | None = None
        results: tuple[ValType, ...] | None = None
        if signature is not None:
            before, after = signature.split("->")
            params = tuple(_TYPES[word] for word in before.split())
            results = tuple(_TYPES[word] for word in after.split())
        words = tuple(meaning.split())
        width = 0
        if imm in (Imm.MEMARG, Imm.MEMARG_LANE):
            width = next(int(word) for word in words[1:] if word.isdigit()) // 8
        lanes = _lanes(name, imm, width)
        self.append(Opcode(code, name, imm, params, results, words, traps, feature, width, lanes))


def _lanes(name: str, imm: Imm, width: int) -> int:
    if imm is Imm.MEMARG_LANE:
        return 16 // width
    if imm is Imm.LANES:
        return 32
    shape = _SHAPE.match(name)
    return int(shape[1]) if imm is Imm.LANE and shape else 0
