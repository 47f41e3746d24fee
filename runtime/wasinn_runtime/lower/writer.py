"""Writes LLVM IR as text behind a small typed surface. Knows LLVM's spelling, no meanings.

Text costs 0.8 us a line to write and 1.8 us to parse; building the same through ``llvmlite.ir``
costs 14.5 us a line, more than all of LLVM's code generation without optimisation.
"""

from __future__ import annotations

import re

from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import ValType

__all__ = [
    "LLVM_TYPE",
    "METADATA",
    "FunctionWriter",
]


class _LlvmTypes(dict[ValType, str]):
    """References of all types are pointers."""

    def __missing__(self, ty: ValType) -> str:
        if not ty.is_ref:
            raise KeyError(ty)
        return "ptr"


LLVM_TYPE = _LlvmTypes(
    {
        ValType.I32: "i32",
        ValType.I64: "i64",
        ValType.F32: "float",
        ValType.F64: "double",
        ValType.V128: "<16 x i8>",
    }
)

# Type-based alias facts: linear memory, an instance's own state, globals and table elements never
# overlap, so that a store to one does not force a reload of another.
METADATA = """
!0 = !{!"wasinn"}
!1 = !{!"linear memory", !0, i64 0}
!2 = !{!"vm state", !0, i64 0}
!3 = !{!"global", !0, i64 0}
!4 = !{!"table element", !0, i64 0}
!5 = !{!"exchange", !0, i64 0}
!6 = !{!"safepoint", !0, i64 0}
!11 = !{!1, !1, i64 0}
!12 = !{!2, !2, i64 0}
!13 = !{!3, !3, i64 0}
!14 = !{!4, !4, i64 0}
!15 = !{!5, !5, i64 0}
!16 = !{!6, !6, i64 0}
!20 = !{!"branch_weights", i32 1, i32 1048575}
!21 = !{}
!22 = distinct !{!22, !23, !24}
!23 = !{!"llvm.loop.unroll.disable"}
!24 = !{!"llvm.loop.vectorize.enable", i1 false}
"""
LINEAR, STATE, GLOBAL, ELEMENT = "!tbaa !11", "!tbaa !12", "!tbaa !13", "!tbaa !14"
EXCHANGE, SAFEPOINT = "!tbaa !15", "!tbaa !16"
COLD = "!prof !20"
INVARIANT = "!invariant.load !21"
SELDOM_RUN = "!llvm.loop !22"
UNPREDICTABLE = "!unpredictable !21"

_FACTS = re.compile(r", ![a-z.]+ !\d+")


class FunctionWriter:
    """One LLVM function under construction.

    Args:
        header: what stands before its body.
        quick: for LLVM's quick generator: without metadata, which it does not read.

    Attributes:
        lines: the text so far.
        block: label of the block being written, for phi nodes.
        checks: how many conditional traps there are.
    """

    def __init__(self, header: str, quick: bool = False) -> None:
        self.lines: list[str] = [header + " {", "entry:"]
        self.block = "entry"
        self.checks = 0
        self.quick = quick
        self._count = 0
        self._labels = 0
        self._traps: dict[TrapCode, str] = {}
        # What the block that is being written has already.
        self._wide: dict[str, str] = {}
        self._fields: dict[tuple[str, int], str] = {}

    def let(self, rhs: str) -> str:
        """Number the result of an instruction; LLVM wants the numbers to rise."""
        self._count += 1
        name = f"%{self._count}"
        self.lines.append(f"  {name} = {rhs}")
        return name

    def wide(self, value: str) -> str:
        """An i32 read as unsigned, as i64; once in a block."""
        name = self._wide.get(value)
        if name is None:
            name = self._wide[value] = self.let(f"zext i32 {value} to i64")
        return name

    def do(self, line: str) -> None:
        """An instruction without result."""
        self.lines.append(f"  {line}")

    def new_label(self, hint: str) -> str:
        self._labels += 1
        return f"{hint}{self._labels}"

    @property
    def labels(self) -> int:
        """How many labels were made."""
        return self._labels

    def label(self, name: str) -> None:
        """Begin a block; the one before must have ended."""
        self.lines.append(f"{name}:")
        self.block = name
        self._wide.clear()
        self._fields.clear()

    def reserve(self) -> int:
        """Keep a line free, to be written with ``fill`` once its text is known."""
        self.lines.append("")
        return len(self.lines) - 1

    def reserve_value(self) -> str:
        """The name of what a line will define that is kept free."""
        self._count += 1
        return f"%{self._count}"

    def fill(self, index: int, line: str) -> None:
        self.lines[index] = f"  {line}"

    def trap_if(self, condition: str, code: TrapCode) -> None:
        """Branch to the function's cold block for that trap when an i1 holds."""
        after = self.new_label("ok")
        self.checks += 1
        self.do(f"br i1 {condition}, label %{self._trap_label(code)}, label %{after}, {COLD}")
        self.label(after)

    def trap(self, code: TrapCode) -> None:
        """End the block with a trap."""
        self.do(f"br label %{self._trap_label(code)}")

    def _trap_label(self, code: TrapCode) -> str:
        label = self._traps.get(code)
        if label is None:
            label = self._traps[code] = f"trap.{code.name.lower()}"
        return label

    def field(self, base: str, offset: int) -> str:
        """Address of a field; ``base`` itself at offset 0."""
        if offset == 0:
            return base
        name = self._fields.get((base, offset))
        if name is None:
            name = self.let(f"getelementptr inbounds i8, ptr {base}, i64 {offset}")
            self._fields[base, offset] = name
        return name

    def load_field(self, base: str, offset: int, llvm_type: str, facts: str) -> str:
        return self.let(f"load {llvm_type}, ptr {self.field(base, offset)}, {facts}")

    def finish(self) -> str:
        """Write the trap blocks and close the function."""
        for code, label in self._traps.items():
            self.lines.append(f"{label}:")
            self.do(f"call void @wasinn_trap(i32 {code.value}) noreturn cold")
            self.do("unreachable")
        self.lines.append("}")
        text = "\n".join(self.lines)
        return _FACTS.sub("", text) if self.quick else text
