"""How handlers of the fast interpreter reach operands, results and immediates: all in the stream.

A handler's code in the stream is a word with its address and then its operands, a word each. An
operand has one of three kinds, which the handler's name tells:

    s   a slot: the word is its offset from fp
    r   the register of its class holds it: no word
    i   the word itself is the value

Registers hold the latest result of their class: ``r`` integers and references, ``d`` f64, ``f``
f32, ``v`` vectors. An i32 there has zeros above it. A result goes to the register, and with
``>s`` also to the slot that the last word names.

``Body`` implements ``lower.state.Frame``, so that the meanings of the table can be written with
immediates that only the stream knows: a ``LateNumber`` stands where they expect a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from wasinn_runtime.abi.layout import VMContext, VMLayout
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.lower.fast_placed import FAST
from wasinn_runtime.lower.late_number import FactsByNumber, LateNumber
from wasinn_runtime.lower.threaded import Handler
from wasinn_runtime.lower.writer import INVARIANT, LLVM_TYPE, FunctionWriter
from wasinn_runtime.spec.types import Limits, MemoryType, ValType

__all__ = ["CLASSES", "Body", "class_of"]

CLASSES = "rdfv"
_REGISTER_OF = {ValType.F64: "d", ValType.F32: "f", ValType.V128: "v"}


def class_of(ty: ValType) -> str:
    """The register of a type's values."""
    return _REGISTER_OF.get(ty, "r")


_SMALL = {"i32", "float"}
_MEMORY = MemoryType(Limits(0))


class _Module:
    """What meanings ask of a module."""

    def __init__(self, first_memory: MemoryType, imported_globals: int) -> None:
        self.memories = FactsByNumber(first_memory)
        self.tables = FactsByNumber()
        self.globals_ = FactsByNumber()
        self.imported_globals = imported_globals


class _Layout:
    """The stream holds places in the VMContext: each is the word itself."""

    def __getattr__(self, name: str) -> Any:
        return lambda index: index


class _Places:
    def __getitem__(self, index: int) -> int:
        return index


class Body(Handler):
    """A handler of the fast interpreter in the making. Implements ``lower.state.Frame``.

    Attributes:
        words: how many words of the stream were read, the handler's own included.
    """

    def __init__(self, symbol: str) -> None:
        super().__init__(FAST, symbol)
        self.w: FunctionWriter = self
        self.vm = "%vm"
        self.words = 1
        self.keep_load = False
        self._wide: dict[str, str] = {}
        self.describe()

    # -- services of Frame -----------------------------------------------------------------------

    def describe(self, first_memory: MemoryType | None = None, imported_globals: int = 0) -> None:
        """Say what is known of the module in this handler."""
        self.module = cast("ParsedModule", _Module(first_memory or _MEMORY, imported_globals))

    layout = cast("VMLayout", _Layout())
    places = cast("Mapping[int, int]", _Places())

    def memory_base(self, index: int) -> str:
        if not isinstance(index, LateNumber):
            return self.at["mem"]
        return self.load_field(self.vm, index + VMContext.RESOURCE_BASE, "ptr", INVARIANT)

    def let(self, rhs: str) -> str:
        """As for every writer; an i32 that came from a register is known with zeros above it."""
        if rhs.startswith("zext i32 "):
            wide = self._wide.get(rhs.split()[2])
            if wide is not None:
                return wide
        return super().let(rhs)

    # -- the stream ------------------------------------------------------------------------------

    def place(self, ahead: int = 0) -> str:
        """Where the next word is."""
        return self.let(f"getelementptr i8, ptr %pc, i64 {8 * (self.words + ahead)}")

    def word(self, llvm_type: str = "i64") -> str:
        """Read the next word."""
        place = self.place()
        self.words += 1
        align = ", align 8" if llvm_type == "<16 x i8>" else ""
        return self.let(f"load {llvm_type}, ptr {place}{align}")

    def number(self, fact: object = None) -> LateNumber:
        """The next word as an immediate."""
        return LateNumber(self, self.word(), fact)

    def slot(self) -> str:
        """The address of the slot that the next word names."""
        offset = self.word()
        return self.let(f"getelementptr i8, ptr {self.at['fp']}, i64 {offset}")

    def operand(self, kind: str, ty: ValType) -> str:
        """The value of the next operand."""
        t = LLVM_TYPE[ty]
        if kind == "r":
            return self.from_register(ty)
        if kind == "i":
            return self.word(t)
        place = self.slot()
        return self.let(f"load {t}, ptr {place}, align {4 if t in _SMALL else 8}")

    def from_register(self, ty: ValType) -> str:
        value = self.at[class_of(ty)]
        if ty is ValType.I32:
            narrow = self.let(f"trunc nuw i64 {value} to i32")
            self._wide[narrow] = value
            return narrow
        if LLVM_TYPE[ty] == "ptr":
            return self.let(f"inttoptr i64 {value} to ptr")
        return value

    def to_register(self, ty: ValType, value: str) -> None:
        """Have the register of its class hold a value."""
        if ty is ValType.I32:
            value = self.let(f"zext i32 {value} to i64")
        elif LLVM_TYPE[ty] == "ptr":
            value = self.let(f"ptrtoint ptr {value} to i64")
        self.at[class_of(ty)] = value

    def store_slot(self, place: str, ty: ValType) -> None:
        """Store a register's value in a slot, whole: what reads it may read all 8 bytes."""
        register = class_of(ty)
        value = self.at[register]
        t = {"r": "i64", "d": "double", "v": "<16 x i8>"}.get(register, "<2 x float>")
        if register == "f":
            value = self.let(f"insertelement <2 x float> poison, float {value}, i64 0")
        self.do(f"store {t} {value}, ptr {place}, align 8")

    def result(self, dest: str, ty: ValType, value: str) -> None:
        """Where the result goes: ``>r`` or ``>s``."""
        self.to_register(ty, value)
        if dest == ">s":
            self.store_slot(self.slot(), ty)

    def next(self) -> None:
        """End the handler by going on after its words."""
        self.go(self.place())
