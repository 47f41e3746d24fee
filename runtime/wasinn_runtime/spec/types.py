"""WebAssembly types as values. Not their binary codes (binary/) nor their LLVM forms (lower/).

Source: WebAssembly core specification 2.0, section 2.3.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = [
    "PAGE_SIZE",
    "ExternKind",
    "ExternType",
    "FuncType",
    "GlobalType",
    "Limits",
    "MemoryType",
    "TableType",
    "ValType",
]

PAGE_SIZE = 65536


class ValType(enum.Enum):
    """A value type; the value is its name in the text format."""

    I32 = "i32"
    I64 = "i64"
    F32 = "f32"
    F64 = "f64"
    V128 = "v128"
    FUNCREF = "funcref"
    EXTERNREF = "externref"

    @property
    def is_ref(self) -> bool:
        return self in (ValType.FUNCREF, ValType.EXTERNREF)

    @property
    def is_num(self) -> bool:
        return self in (ValType.I32, ValType.I64, ValType.F32, ValType.F64)

    def __repr__(self) -> str:
        return self.value

    __str__ = __repr__


class ExternKind(enum.Enum):
    """What an import or export is; the value is the word of the text format."""

    FUNC = "func"
    TABLE = "table"
    MEMORY = "memory"
    GLOBAL = "global"

    def __repr__(self) -> str:
        return self.value

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class FuncType:
    """Parameters and results of a function, in order."""

    params: tuple[ValType, ...] = ()
    results: tuple[ValType, ...] = ()

    def __str__(self) -> str:
        def side(types: tuple[ValType, ...]) -> str:
            return "[" + " ".join(t.value for t in types) + "]"

        return f"{side(self.params)} -> {side(self.results)}"


@dataclass(frozen=True, slots=True)
class Limits:
    """A size range: in pages of 64 KiB for memories, in elements for tables."""

    min: int
    max: int | None = None

    def __str__(self) -> str:
        return f"{self.min}" if self.max is None else f"{self.min}..{self.max}"


@dataclass(frozen=True, slots=True)
class TableType:
    element: ValType
    limits: Limits

    def __str__(self) -> str:
        return f"table {self.limits} {self.element}"


@dataclass(frozen=True, slots=True)
class MemoryType:
    limits: Limits

    def __str__(self) -> str:
        return f"memory {self.limits} pages"


@dataclass(frozen=True, slots=True)
class GlobalType:
    value: ValType
    mutable: bool = False

    def __str__(self) -> str:
        return f"global {'mut ' if self.mutable else ''}{self.value}"


ExternType = FuncType | TableType | MemoryType | GlobalType
