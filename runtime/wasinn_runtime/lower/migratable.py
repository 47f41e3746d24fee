"""Functions that can stop at a safepoint and leave their frames in canonical form.

A canonical frame is a function, an offset in the module's bytes and cells of 8 bytes: the locals,
then the operands by height. Safepoints are the entries of functions that call, and the headers of
loops. There a flag in the VMContext is read, whose address the code has in a register anyway. Where
it is set, the function writes its frame, and the unwinder of exceptions leads through its callers:
each call is an ``invoke`` whose landing pad writes the caller's frame, at the call and without its
arguments, and goes on to the next. So calls cost nothing but what it takes to keep the values.

A loop that is over soon has no safepoint: LLVM would neither vectorise nor unroll it. Where the
number of iterations can be told before it begins, it is lowered twice (``lower/guards.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from wasinn_runtime.abi.layout import SLOT_BYTES, StoreContext, VMContext, VMLayout, slot_cells
from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.lower.guards import Guard, guarded_loops
from wasinn_runtime.lower.liveness import BEGINNING, live_locals
from wasinn_runtime.lower.ssa import Lowering
from wasinn_runtime.lower.writer import COLD, INVARIANT, LLVM_TYPE, SAFEPOINT
from wasinn_runtime.spec.types import ValType

__all__ = ["OperandTypes", "migratable_function"]

# Positions of a body, in ascending order, to the types of the operands there, deepest first.
OperandTypes = Callable[[int], Sequence[ValType]]

# IR that writes a function's frames: with thousands of locals and calls it has no end.
_LINES, _LINES_PER_BYTE = 100_000, 30

# Iterations of a loop without a safepoint: a tenth of a second, if each takes long.
_LONGEST_PLAIN = 1 << 24


def migratable_function(
    module: ParsedModule,
    layout: VMLayout,
    places: Mapping[int, int],
    index: int,
    body: Body,
    operands: OperandTypes,
) -> str:
    """The LLVM IR text of one validated function.

    Args:
        module, layout, places, index, body: as for ``lower_function``.
        operands: the types on the operand stack.

    Raises:
        Invalid: it would become far more IR than its size explains.
    """
    return _Migratable(module, layout, places, index, body, operands).run()


class _Migratable(Lowering):
    """Its locals are in memory: a frame may want one whose value the code no longer knows there."""

    _may_name_locals = False

    def __init__(
        self,
        module: ParsedModule,
        layout: VMLayout,
        places: Mapping[int, int],
        index: int,
        body: Body,
        operands: OperandTypes,
    ) -> None:
        super().__init__(module, layout, places, index, body, None)
        self.longest_plain = _LONGEST_PLAIN
        self._operands = operands
        self._live = live_locals(body)
        self._room = _LINES + _LINES_PER_BYTE * len(module.data)
        self._is_short = False
        self._calls = any(row.meaning[0] in _CALLS for row, _, _ in body.instructions)

    def _find_guards(self) -> Mapping[int, Guard]:
        return guarded_loops(self.module, self.locals, self.body, counted=True)

    # -- safepoints ------------------------------------------------------------------------------

    def _prologue(self) -> None:
        super()._prologue()
        if self._calls:
            self._poll(BEGINNING)

    def begin_version(self, plain: bool, guard: Guard) -> None:
        super().begin_version(plain and bool(guard.accesses), guard)
        self._is_short = plain

    def end_versions(self) -> None:
        super().end_versions()
        self._is_short = False

    def back_edge(self, depth: int) -> str:
        return "" if self._is_short else super().back_edge(depth)

    def safepoint(self) -> None:
        if not self._is_short:
            self._poll(self.position)

    def _poll(self, where: int) -> None:
        w = self.w
        stop, on = w.new_label("stop"), w.new_label("on")
        place = w.field("%vm", VMContext.CAPTURE)
        asked = w.let(f"load volatile i64, ptr {place}, {SAFEPOINT}")
        w.do(f"br i1 {w.let(f'icmp ne i64 {asked}, 0')}, label %{stop}, label %{on}, {COLD}")
        w.label(stop)
        self._write_frame(where)
        w.do(f"call void @wasinn_capture(ptr {self._store()})")
        w.do("unreachable")
        w.label(on)

    def _store(self) -> str:
        return self.w.load_field("%vm", VMContext.STORE, "ptr", INVARIANT)

    def _write_frame(self, where: int) -> None:
        """Write the frame as it is at this instruction, with the operands that are on the stack.

        Args:
            where: the instruction's position, or ``BEGINNING``.
        """
        live = -1 if self._live is None else self._live[where]
        w, began = self.w, len(self.w.lines)
        operands = list(self._operands(self.position)[: len(self.stack)])
        count = slot_cells((*self.locals, *operands))
        offset = self.body.instructions[self.position][2]
        cells = w.let(
            f"call ptr @wasinn_frame(ptr %vm, i64 {self._index}, i64 {offset}, i64 {count})"
        )
        at = 0
        for i, ty in enumerate(self.locals):
            if live >> i & 1:
                self._write_cell(cells, at, ty, self.local(i))
            at += SLOT_BYTES * slot_cells((ty,))
        for ty, value in zip(operands, self.stack, strict=True):
            self._write_cell(cells, at, ty, value)
            at += SLOT_BYTES * slot_cells((ty,))
        wrote = len(w.lines) - began
        self._room -= wrote
        if self._room < 0:
            raise self._too_complex(offset)
        self._budget += wrote

    def _write_cell(self, cells: str, at: int, ty: ValType, value: str) -> None:
        self.w.do(f"store {LLVM_TYPE[ty]} {value}, ptr {self.w.field(cells, at)}, align 8")

    # -- calls -----------------------------------------------------------------------------------

    def guest_call(self, call: str, returns: bool) -> str:
        w = self.w
        self.has_pads = True
        after, pad = w.new_label("back"), w.new_label("pad")
        stop, other = w.new_label("stop"), w.new_label("thrown")
        text, returned = f"invoke {call} to label %{after} unwind label %{pad}", ""
        if returns:
            returned = w.let(text)
        else:
            w.do(text)
        w.label(pad)
        landed = w.let("landingpad { ptr, i32 } cleanup")
        carried = w.let(f"extractvalue {{ ptr, i32 }} {landed}, 0")
        ours = w.field(self._store(), StoreContext.CAPTURE_UNWIND)
        w.do(f"br i1 {w.let(f'icmp eq ptr {carried}, {ours}')}, label %{stop}, label %{other}")
        w.label(stop)
        self._write_frame(self.position)
        if self.tries:
            w.do(f"resume {{ ptr, i32 }} {landed}")
            w.label(other)
            around = self.tries[-1]
            around.incoming.append((carried, w.block))
            w.do(f"br label %{around.dispatch}")
        else:
            w.do(f"br label %{other}")
            w.label(other)
            w.do(f"resume {{ ptr, i32 }} {landed}")
        w.label(after)
        return returned


_CALLS = frozenset(
    {
        "call",
        "call_indirect",
        "call_ref",
        "return_call",
        "return_call_indirect",
        "return_call_ref",
    }
)
