"""From a function's body to what the fast interpreter executes: the walk.

The walk keeps the operand stack as *entries* that say where each value is: in a slot (a local that
was read, or the operand's own slot), in the register of its class, or nowhere yet (a constant).
So ``local.get`` and constants cost nothing, and an instruction becomes the handler for the kinds
of its operands. What the walk gives is a list of handlers with their words, which ``fast_write.py``
then writes.

Trusts validation. Of handlers it knows names and numbers alone.

The rule that makes it right: an entry names a place that nobody writes before the entry is used.
A local that is set while entries still read it is copied first; a register that takes a new result
while it holds an operand has that operand stored by the handler that made it (``_spill``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from wasinn_runtime.abi.layout import SLOT_BYTES, CodeEntry, VMContext, VMLayout, slot_cells
from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import Catch, Instruction, ParsedModule
from wasinn_runtime.lower.fast_body import CLASSES, class_of
from wasinn_runtime.lower.fast_names import (
    LABEL,
    NUMBERS,
    TO_SLOT,
    by_kinds,
)
from wasinn_runtime.lower.fast_plans import (
    BINARY,
    CLASS_NUMBER,
    CONST,
    GET,
    LOAD,
    PLANS,
    SET,
    STORE,
    TEE,
    UNARY,
)
from wasinn_runtime.lower.fast_shapes import SHARING_MATTERS, result_name
from wasinn_runtime.spec.opcodes import Opcode
from wasinn_runtime.spec.types import FuncType, ValType

__all__ = ["FAMILIES", "FAR", "REST", "Block", "Family", "Try", "Walk"]

# Entries below zero: in the register of a class (-1 to -4), the second cell of a vector, and
# constants from _CONSTANTS down. From zero on: the offset of a slot.
REST = -9
_CONSTANTS = -16
_NOTHING = -1  # of rs, rp

_COPY_REGISTER = tuple(NUMBERS[f"copy.{c}:r"] for c in CLASSES)
_COPY_SLOT = (NUMBERS["copy.r:s"],) * 3 + (NUMBERS["copy.v:s"],)
_COPY_CONSTANT = NUMBERS["copy.r:i"]
# Where a first walk keeps exceptions, which does not know yet how high the operands reach.
FAR = 1 << 40
_HIGH, _WRAP = 1 << 63, 1 << 64


@dataclass(slots=True)
class Try:
    """A try whose body is being walked.

    Attributes:
        position: of its block among the open ones.
        cell: the offset of the slot for its exception.
        label: where exceptions arrive.
        used: whether any can.
    """

    position: int
    cell: int
    label: int
    used: bool = False


@dataclass(slots=True)
class Block:
    """A control frame.

    Attributes:
        height: cells on the stack below its parameters.
        takes: cells that a branch to it carries.
        used: whether anybody branches to its label.
        other: the label where its else, or next catch, begins.
        entries: of an if, the stack that its else begins with.
        clauses: what a try_table catches.
        what: the try that it is, or whose catch.
    """

    kind: str
    type: FuncType
    height: int
    label: int
    takes: int
    used: bool = False
    other: int = 0
    entries: list[int] = field(default_factory=list)
    clauses: tuple[Catch, ...] = ()
    what: Try | None = None


class Walk:
    """The state while one function is walked."""

    def __init__(
        self,
        module: ParsedModule,
        layout: VMLayout,
        places: Mapping[int, int],
        index: int,
        body: Body,
        cells: int = FAR,
    ) -> None:
        self.module, self.layout, self.places = module, layout, places
        self.own_entry = (index - module.imported_functions) * CodeEntry.BYTES
        self.index = index
        self.body = body
        self.type = module.func_type(index)
        self.numbers: list[int] = []
        self.words: list[tuple[int, ...]] = []
        self.stack: list[int] = []
        self.constants: list[int] = []
        # By class: the slot whose value the register also holds; where on the stack the value is
        # that only the register holds; and which handler made it.
        self.rs = [_NOTHING] * 4
        self.rp = [_NOTHING] * 4
        self.rk = [_NOTHING] * 4
        self.blocks: list[Block] = []
        self.labels = 0
        # Of each jump table, by its position among the handlers: how many targets it has.
        self.targets: dict[int, int] = {}
        self.loops = 0
        types = [*self.type.params]
        for count, ty in body.locals:
            types.extend([ty] * count)
        self.local_types = types
        self.local_classes = [CLASS_NUMBER[ty.base] for ty in types]
        self.hot = False
        self.instructions: Iterator[Instruction] = iter(())
        if ValType.V128 in types:
            self.local_offsets = []
            at = 0
            for ty in types:
                self.local_offsets.append(at)
                at += SLOT_BYTES * (2 if ty is ValType.V128 else 1)
        else:
            at = SLOT_BYTES * len(types)
            self.local_offsets = [*range(0, at, SLOT_BYTES)]
        self.base = at
        # Slots for caught exceptions lie above all operands: see fast_code().
        self.cells = cells
        self.tries: list[Try] = []
        self.top = max(at, SLOT_BYTES * slot_cells(self.type.results))

    # -- handlers --------------------------------------------------------------------------------

    def emit(self, name: str, *words: int) -> None:
        self.numbers.append(NUMBERS[name])
        self.words.append(words)

    def new_label(self) -> int:
        self.labels += 1
        return self.labels - 1

    def place_label(self, label: int) -> None:
        """Begin a place that is branched to: no register holds anything known."""
        self.numbers.append(LABEL)
        self.words.append((label,))
        self.rs[:] = [_NOTHING] * 4

    # -- where values are ------------------------------------------------------------------------

    def own_slot(self, position: int) -> int:
        """The offset of an operand's own slot by its cell on the stack."""
        offset = self.base + SLOT_BYTES * position
        if offset + 2 * SLOT_BYTES > self.top:
            self.top = offset + 2 * SLOT_BYTES
        return offset

    def spill(self, number: int) -> None:
        """Have the operand that only a register holds stored by the handler that made it."""
        position, maker = self.rp[number], self.rk[number]
        offset = self.own_slot(position)
        self.numbers[maker] = TO_SLOT[self.numbers[maker]]
        self.words[maker] += (offset,)
        self.stack[position] = offset
        self.rp[number] = _NOTHING
        self.rs[number] = offset

    def copy_to(self, entry: int, offset: int, number: int | None = None) -> None:
        """Write a handler that puts an entry's value into a slot; registers stay as they are.

        Args:
            number: the value's class, when known.
        """
        rs = self.rs
        if entry >= 0:
            if number is not None and rs[number] == entry:
                self.numbers.append(_COPY_REGISTER[number])
                self.words.append((offset,))
            else:
                self.numbers.append(_COPY_SLOT[number or 0])
                self.words.append((entry, offset))
        elif entry <= _CONSTANTS:
            self.numbers.append(_COPY_CONSTANT)
            self.words.append((self.constants[_CONSTANTS - entry], offset))
        else:
            self.numbers.append(_COPY_REGISTER[-1 - entry])
            self.words.append((offset,))
        if offset in rs:
            rs[rs.index(offset)] = _NOTHING

    def settle(self, first: int, constants: bool) -> None:
        """Put the operands from a cell of the stack up into their own slots.

        Args:
            constants: also those that are constants, from the innermost block up. Below it they
                stay constants: not every way to its end comes by here.
        """
        stack = self.stack
        lowest = self.blocks[-1].height if constants else len(stack)
        offset = self.base + SLOT_BYTES * first
        for position in range(first, len(stack)):
            entry = stack[position]
            if entry != offset:
                if entry >= 0:
                    wide = position + 1 < len(stack) and stack[position + 1] == REST
                    self.copy_to(entry, offset, 3 if wide else None)
                    stack[position] = offset
                elif entry > REST:
                    self.spill(-1 - entry)
                elif entry <= _CONSTANTS and position >= lowest:
                    self.copy_to(entry, offset)
                    stack[position] = offset
            offset += SLOT_BYTES
        if offset > self.top:
            self.top = offset

    def write_constants(self) -> None:
        """Have the slots of operands that are constants hold them as well."""
        for position, entry in enumerate(self.stack):
            if entry <= _CONSTANTS:
                self.copy_to(entry, self.own_slot(position))

    def keep_readers(self, offset: int, before_last: bool) -> None:
        """A local is about to change: copy it for the operands that still stand for it."""
        stack = self.stack
        for position, entry in enumerate(stack):
            if entry == offset:
                wide = position + 1 < len(stack) and stack[position + 1] == REST
                own = self.own_slot(position)
                self.copy_to(entry, own, 3 if wide else None)
                stack[position] = own
                if before_last:
                    numbers, words = self.numbers, self.words
                    numbers[-1], numbers[-2] = numbers[-2], numbers[-1]
                    words[-1], words[-2] = words[-2], words[-1]

    def push(self, types: Sequence[ValType]) -> None:
        """Operands that are in their own slots."""
        for ty in types:
            self.stack.append(self.own_slot(len(self.stack)))
            if ty is ValType.V128:
                self.stack.append(REST)

    # -- operands of any row ---------------------------------------------------------------------

    def take(self, types: Sequence[ValType], names: Mapping[str, int]) -> tuple[int, list[int]]:
        """Pop operands; gives the handler for their kinds, and their words.

        Args:
            types: of the operands.
            names: handlers by kinds; there is always one for slots alone.
        """
        stack, rs, rp = self.stack, self.rs, self.rp
        kinds: list[str] = []
        found: list[int] = []
        held: set[int] = set()
        for ty in reversed(types):
            if ty is ValType.V128:
                stack.pop()
            entry = stack.pop()
            number = CLASS_NUMBER[ty.base]
            if entry <= _CONSTANTS:
                kinds.append("i")
            elif entry < 0 or (rs[number] == entry and number not in held):
                kinds.append("r")
                held.add(number)
            else:
                kinds.append("s")
            found.append(entry)
        kinds.reverse()
        found.reverse()
        handler = names.get("".join(kinds))
        if handler is None:
            handler = self._take_slots(types, names, kinds, found)
        words = []
        for kind, entry, ty in zip(kinds, found, types, strict=True):
            if kind == "s":
                words.append(entry)
            elif kind == "i":
                words.append(self.constants[_CONSTANTS - entry])
            elif entry < 0:
                rp[CLASS_NUMBER[ty.base]] = _NOTHING
        return handler, words

    def _take_slots(
        self,
        types: Sequence[ValType],
        names: Mapping[str, int],
        kinds: list[str],
        found: list[int],
    ) -> int:
        """Change operands into slots until there is a handler; ``kinds`` and ``found`` change."""
        position = len(self.stack)
        # Put them back for a moment: spilling looks at the stack.
        cells = []
        for entry, ty in zip(found, types, strict=True):
            cells.append(len(self.stack))
            self.stack.append(entry)
            if ty is ValType.V128:
                self.stack.append(REST)
        for wanted in ("i", "r"):
            for number, (kind, at) in enumerate(zip(kinds, cells, strict=True)):
                if kind != wanted:
                    continue
                entry = self.stack[at]
                if kind == "i":
                    own = self.own_slot(at)
                    self.copy_to(entry, own)
                    self.stack[at] = own
                elif entry < 0:
                    self.spill(-1 - entry)
                found[number], kinds[number] = self.stack[at], "s"
                handler = names.get("".join(kinds))
                if handler is not None:
                    del self.stack[position:]
                    return handler
        raise AssertionError(f"no handler for slots among {sorted(names)}")

    def finish(self, handler: int, words: list[int], results: Sequence[ValType]) -> None:
        """Write a handler and push its result, if there is one."""
        number = CLASS_NUMBER[results[0].base] if results else 0
        if results and self.rp[number] >= 0:
            self.spill(number)
        if results and not TO_SLOT[handler]:  # it goes to a slot, too
            offset = self.own_slot(len(self.stack))
            words = [*words, offset]
            self.push(results)
            self.rs[number] = offset
        elif results:
            self.rp[number] = len(self.stack)
            self.rs[number] = _NOTHING
            self.rk[number] = len(self.numbers)
            self.stack.append(-1 - number)
            if number == 3:
                self.stack.append(REST)
        self.numbers.append(handler)
        self.words.append(tuple(words))

    # -- the walk --------------------------------------------------------------------------------

    def safepoint(self, loop: int) -> None:
        """Where code that counts may be left; ``loop`` is the loop's number from 1, or 0."""
        results = self.type.results
        dot = f".{result_name(results[0])}" if len(results) == 1 else ""
        self.emit(f"hot{dot}", self.own_entry, loop)

    def run(self, hot: bool) -> None:
        """Walk the whole body.

        Args:
            hot: write safepoints at the beginning and at loop headers, which count.
        """
        self.hot = hot
        cells = self.base // SLOT_BYTES - slot_cells(self.type.params)
        if cells:
            first = SLOT_BYTES * slot_cells(self.type.params)
            if cells <= 8:
                self.emit(f"zero.{cells}", first)
            else:
                self.emit("zero.n", first, SLOT_BYTES * cells)
        if hot:
            self.safepoint(0)
        self.blocks.append(Block("func", self.type, 0, -1, 0))
        numbers, words, stack = self.numbers, self.words, self.stack
        constants, offsets, classes = self.constants, self.local_offsets, self.local_classes
        rs, rp, rk = self.rs, self.rp, self.rk
        has_vectors = 3 in classes
        first_memory = bool(self.module.memories) and self.is_plain_memory(0)
        self.instructions = iter(self.body.instructions)
        handler: int
        args: tuple[int, ...]
        imm: Any
        for row, imm, at in self.instructions:
            plan = PLANS[row]
            kind = plan[0]
            if kind == GET:
                stack.append(offsets[imm])
                if has_vectors and classes[imm] == 3:
                    stack.append(REST)
            elif kind == BINARY:
                _, table, first, second, number = plan
                b = stack.pop()
                a = stack.pop()
                if a >= 0:
                    if b >= 0:
                        if a == rs[first]:
                            handler, args = table[3], (b,)
                        elif b == rs[second]:
                            handler, args = table[1], (a,)
                        else:
                            handler, args = table[0], (a, b)
                    elif b > REST:
                        handler, args = table[1], (a,)
                        rp[second] = -1
                    elif a == rs[first]:
                        handler, args = table[5], (constants[_CONSTANTS - b],)
                    else:
                        handler, args = table[2], (a, constants[_CONSTANTS - b])
                elif a > REST:
                    rp[first] = -1
                    if b >= 0:
                        handler, args = table[3], (b,)
                    else:
                        handler, args = table[5], (constants[_CONSTANTS - b],)
                elif b >= 0:
                    if b == rs[second]:
                        handler, args = table[7], (constants[_CONSTANTS - a],)
                    else:
                        handler, args = table[6], (constants[_CONSTANTS - a], b)
                elif b > REST:
                    rp[second] = -1
                    handler, args = table[7], (constants[_CONSTANTS - a],)
                else:
                    handler = 0
                if not handler:
                    stack += (a, b)
                    if a < 0 and a > REST:
                        rp[first] = len(stack) - 2
                    if b < 0 and b > REST:
                        rp[second] = len(stack) - 1
                    self.row(row, imm)
                    continue
                if rp[number] >= 0:
                    self.spill(number)
                rp[number] = len(stack)
                rs[number] = -1
                rk[number] = len(numbers)
                stack.append(-1 - number)
                numbers.append(handler)
                words.append(args)
            elif kind == CONST:
                stack.append(_CONSTANTS - len(constants))
                constants.append(imm if imm < _HIGH else imm - _WRAP)
            elif kind == SET:
                self.set_local(imm)
            elif kind == LOAD:
                if not first_memory or imm[2]:
                    self.access(row, imm)
                    continue
                _, table, number = plan
                a = stack.pop()
                if a >= 0:
                    if a == rs[0]:
                        handler, args = table[1], (imm[1],)
                    else:
                        handler, args = table[0], (a, imm[1])
                elif a > REST:
                    rp[0] = -1
                    handler, args = table[1], (imm[1],)
                else:
                    handler, args = table[2], (constants[_CONSTANTS - a], imm[1])
                if rp[number] >= 0:
                    self.spill(number)
                rp[number] = len(stack)
                rs[number] = -1
                rk[number] = len(numbers)
                stack.append(-1 - number)
                numbers.append(handler)
                words.append(args)
            elif kind == STORE:
                self.access(row, imm)
            elif kind == TEE:
                self.set_local(imm)
                stack.append(offsets[imm])
                if has_vectors and classes[imm] == 3:
                    stack.append(REST)
            elif kind == UNARY:
                _, table, first, number = plan
                a = stack.pop()
                if a >= 0:
                    if a == rs[first]:
                        handler, args = table[1], ()
                    else:
                        handler, args = table[0], (a,)
                elif a > REST:
                    rp[first] = -1
                    handler, args = table[1], ()
                else:
                    stack.append(a)
                    self.row(row, imm)
                    continue
                if rp[number] >= 0:
                    self.spill(number)
                rp[number] = len(stack)
                rs[number] = -1
                rk[number] = len(numbers)
                stack.append(-1 - number)
                numbers.append(handler)
                words.append(args)
            elif row.meaning[0] == "select" and imm is None:
                self.select(self.body.select_types[at])
            else:
                FAMILIES[row.meaning[0]](self, row, imm)

    # -- rows ------------------------------------------------------------------------------------

    def row(self, row: Opcode, imm: object) -> None:
        """An instruction without immediates, by its signature."""
        assert row.params is not None
        assert row.results is not None
        handler, words = self.take(row.params, by_kinds(row.name))
        self.finish(handler, words, row.results)

    def is_plain_memory(self, index: int) -> bool:
        """Whether it is the memory that handlers know best: the first one, of 32 bits."""
        ty = self.module.memories[index]
        return index == 0 and ty.address is ValType.I32

    def access(self, row: Opcode, imm: tuple[int, int, int], lane: tuple[int, ...] = ()) -> None:
        """A load, a store or the like."""
        assert row.params is not None
        assert row.results is not None
        _, offset, memory = imm
        ty = self.module.memories[memory]
        where, more = "", []
        shared = ty.shared and row.meaning[0] in SHARING_MATTERS
        if shared or not self.is_plain_memory(memory):
            where = "@64" if ty.address is ValType.I64 else "@32"
            where += "shared" * shared
            more = [self.layout.memory(memory)]
        types = (ty.address, *row.params[1:])
        handler, words = self.take(types, by_kinds(row.name + where))
        if offset + row.access_bytes >= _HIGH:
            self.emit("out_of_bounds")
            offset = 0
        self.finish(handler, [*words, *more, offset, *lane], row.results)

    def select(self, ty: ValType) -> None:
        c = class_of(ty)
        names = by_kinds(f"select.{c}")
        handler, words = self.take((ty, ty, ValType.I32), names)
        self.finish(handler, words, (ty,))

    def set_local(self, index: int) -> None:
        """Pop a value into a local."""
        stack, numbers = self.stack, self.numbers
        offset, number = self.local_offsets[index], self.local_classes[index]
        if number == 3:
            stack.pop()
        entry = stack.pop()
        rs = self.rs
        if entry > REST and entry < 0:
            self.rp[number] = _NOTHING
            last = self.rk[number] == len(numbers) - 1
            if offset in stack:
                self.keep_readers(offset, last)
            if last:
                numbers[-1] = TO_SLOT[numbers[-1]]
                self.words[-1] += (offset,)
            else:
                numbers.append(_COPY_REGISTER[number])
                self.words.append((offset,))
            rs[number] = offset
            return
        if entry == offset:
            return
        if offset in stack:
            self.keep_readers(offset, False)
        self.copy_to(entry, offset, number)

    # -- the end ---------------------------------------------------------------------------------

    def header(self) -> list[int]:
        """The words before the code, see ``threaded.Header``."""
        memory = self.layout.memory(0) if self.module.memories else VMContext.STORE
        results, params = slot_cells(self.type.results), slot_cells(self.type.params)
        return [memory, results, params, self.top]

    @cached_property
    def rethrows(self) -> bool:
        """Whether what is caught may be thrown again."""
        return any(row.meaning[0] == "rethrow" for row, _, _ in self.body.instructions)

    def constant(self, value: int) -> None:
        """Push a constant."""
        self.stack.append(_CONSTANTS - len(self.constants))
        self.constants.append(value)


Family = Callable[[Walk, Opcode, Any], None]
FAMILIES: dict[str, Family] = {}
