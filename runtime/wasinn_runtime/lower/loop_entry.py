"""A function that begins in the middle: at the header of a loop, with a frame that is under way.

Code that runs in a cheap tier has its values in the slots of its canonical frame at every loop
header. From there this function goes on to the end and leaves the results in the first slots. What
comes before the loop is still written, since it may also be inside an outer loop; LLVM drops it
where nothing leads there.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import NamedTuple

from wasinn_runtime.abi.layout import SLOT_BYTES, VMContext, VMLayout, slot_cells
from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.lower.ssa import Block, Lowering
from wasinn_runtime.lower.writer import INVARIANT, LLVM_TYPE, FunctionWriter
from wasinn_runtime.spec.types import FuncType, ValType

__all__ = ["Loop", "NoLoopEntry", "has_loop_entries", "loop_entry", "loop_entry_name"]


class NoLoopEntry(Exception):
    """Operands wait below the loop: they would come from the frame once and from code later."""


class Loop(NamedTuple):
    """Which loop of a function is to have an entry.

    Attributes:
        number: from 0, in the order of the code that can be reached.
        operands: the types on the operand stack before the instruction at a position of the body,
            deepest first; asked for once, where the loop begins.
    """

    number: int
    operands: Callable[[int], Sequence[ValType]]


def loop_entry_name(index: int, loop: int) -> str:
    """The symbol of the entry into a function at its loop number ``loop``, from 0."""
    return f"f{index}.loop{loop}"


def has_loop_entries(body: Body) -> bool:
    """Whether a function can be entered at a loop: one that makes tail calls can not."""
    return not any(row.meaning[0].startswith("return_call") for row, _, _ in body.instructions)


def loop_entry(
    module: ParsedModule,
    layout: VMLayout,
    places: Mapping[int, int],
    index: int,
    body: Body,
    unit: Container[int],
    loop: Loop,
) -> str:
    """One LLVM function, an array entry that begins at a loop.

    Args:
        module, layout, places, index, body, unit: as for ``lower_function``.
        loop: where the entry leads.

    Raises:
        NoLoopEntry: this loop can not have one.
    """
    return _LoopEntry(module, layout, places, index, body, unit, loop).run()


class _LoopEntry(Lowering):
    """Its locals are in memory: they come from the frame or from before the loop."""

    _may_name_locals = False

    def __init__(
        self,
        module: ParsedModule,
        layout: VMLayout,
        places: Mapping[int, int],
        index: int,
        body: Body,
        unit: Container[int],
        loop: Loop,
    ) -> None:
        super().__init__(module, layout, places, index, body, unit)
        self._loop, self._loops = loop, 0
        context = f"ptr nonnull align 16 dereferenceable({layout.total_bytes}) %vm"
        self.w = FunctionWriter(
            f"define internal void @{loop_entry_name(index, loop.number)}"
            f"(ptr %code, {context}, ptr %slots) #0"
        )

    def _slots(self, types: Sequence[ValType], at: int = 0) -> Iterator[tuple[str, ValType]]:
        """The address of each value's slots."""
        for ty in types:
            yield self.w.field("%slots", at), ty
            at += SLOT_BYTES * slot_cells((ty,))

    def _prologue(self) -> None:
        w = self.w
        slots = self._slots(self.locals)
        self.store_locals([w.let(f"load {LLVM_TYPE[t]}, ptr {at}, align 8") for at, t in slots])
        for i in range(len(self.module.memories)):
            place = self.layout.memory(i) + VMContext.RESOURCE_BASE
            self._bases[i] = w.load_field("%vm", place, "ptr", INVARIANT)
        self._jump = w.reserve()
        w.label("start")

    def begin_loop_check(self) -> None:
        """A loop with two versions is entered where it is chosen between them."""
        check = Block("loop", self.w.new_label("check"), FuncType((), ()), len(self.stack))
        self.w.do(f"br label %{check.label}")
        self.w.label(check.label)
        self.at_loop(check)

    def at_loop(self, block: Block) -> None:
        """Where the wanted loop begins, its values may also come from the frame."""
        if self._loops == self._loop.number:
            types = self._loop.operands(self.position)
            at = SLOT_BYTES * slot_cells(tuple(self.locals))
            lines, values = [], []
            for i, ty in enumerate(types):
                lines.append(f"%at{i} = getelementptr inbounds i8, ptr %slots, i64 {at}")
                lines.append(f"%operand{i} = load {LLVM_TYPE[ty]}, ptr %at{i}, align 8")
                values.append(f"%operand{i}")
                at += SLOT_BYTES * slot_cells((ty,))
            if len(values) > len(block.type.params):
                raise NoLoopEntry
            lines.append(f"br label %{block.label}")
            self.w.fill(self._jump, "\n  ".join(lines))
            block.incoming.append((values, "entry"))
        self._loops += 1

    def do_return(self, values: list[str]) -> None:
        for (slot, ty), value in zip(self._slots(self.type.results), values, strict=True):
            self.w.do(f"store {LLVM_TYPE[ty]} {value}, ptr {slot}, align 8")
        self.w.do("ret void")
