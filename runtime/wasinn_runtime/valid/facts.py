"""What interpreters must know of a valid body beside its instructions: heights and branches.

A cell is 8 bytes; a v128 takes two, every other value one. Heights count the cells of operands
alone, without the locals below them. Positions are those in ``body.instructions``.

Made on request from a body after validation: compiled code needs none of it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import Catch, ParsedModule
from wasinn_runtime.errors import Internal
from wasinn_runtime.spec.opcodes import ROWS, Opcode
from wasinn_runtime.spec.types import FuncType, ValType
from wasinn_runtime.valid.operands import local_types

__all__ = ["UNREACHABLE", "Branch", "Facts", "cells", "examine"]

UNREACHABLE = -1
"""The height of instructions that nothing leads to."""


class Branch(NamedTuple):
    """Where control may go from an instruction.

    Attributes:
        target: the position of the instruction that is next; of a branch to the function itself,
            its final ``end``.
        height: how many cells stay below what the branch carries.
        carried: how many cells of the top it takes along; what lies between is dropped.
    """

    target: int
    height: int
    carried: int


@dataclass(slots=True)
class Facts:
    """Of one body.

    Attributes:
        heights: by position, the cells of operands before the instruction, or UNREACHABLE.
        deepest: the most cells that operands take.
        branches: by position. Of ``br``, ``br_if``, ``br_on_null``, ``br_on_non_null`` the one; of
            ``br_table`` the labels in order, the default last; of ``if`` where it goes when the
            condition is zero; of ``else``, ``catch`` and ``catch_all`` where the part before them
            goes on; of ``try_table`` one for each clause; of ``try`` one for each ``catch`` and
            ``catch_all``. What an exception carries counts as ``carried``.
    """

    heights: array[int]
    deepest: int = 0
    branches: dict[int, tuple[Branch, ...]] = field(default_factory=dict)


def cells(types: Sequence[ValType]) -> int:
    """How many cells values of these types take."""
    return len(types) + types.count(ValType.V128)


class _Block:
    """An open block.

    Attributes:
        position: of what opened it.
        base: the height below its parameters.
        params, results: in cells.
        is_loop: whether branches go to its start.
        waiting: who jumps to its end: position, place among the branches of that position.
        otherwise: the ``if`` that has met no ``else`` yet.
    """

    __slots__ = ("base", "is_loop", "otherwise", "params", "position", "results", "waiting")

    def __init__(self, position: int, base: int, params: int, results: int, is_loop: bool) -> None:
        self.position = position
        self.base = base
        self.params = params
        self.results = results
        self.is_loop = is_loop
        self.waiting: list[tuple[int, int]] = []
        self.otherwise: int | None = None


def examine(module: ParsedModule, function: int, body: Body) -> Facts:
    """The facts of a body.

    Args:
        module: it belongs to.
        function: index among all functions, imports included.
        body: after validation.
    """
    return _Examiner(module, function, body).run()


_OPENS = {"block", "loop", "if", "try", "try_table"}


class _Examiner:
    def __init__(self, module: ParsedModule, function: int, body: Body) -> None:
        self.module = module
        self.body = body
        self.type = module.func_type(function)
        self.locals = local_types(self.type.params, body.locals)
        self.height = 0
        self.at = 0
        self.position = 0
        self.branches: dict[int, list[Branch]] = {}
        self.blocks = [_Block(0, 0, 0, cells(self.type.results), False)]

    def run(self) -> Facts:
        instructions = self.body.instructions
        heights = array("i", [UNREACHABLE]) * len(instructions)
        effects, families = _EFFECTS, _FAMILIES
        deepest = 0
        position, count = 0, len(instructions)
        while position < count:
            row, immediate, at = instructions[position]
            heights[position] = self.height
            effect = effects.get(row)
            if effect is not None:
                self.height += effect
            else:
                self.position = position
                self.at = at
                families[row.meaning[0]](self, row, immediate)
            position += 1
            if self.height > deepest:
                deepest = self.height
            if row.meaning[0] in _ENDS:
                position = self._skip(position)
        branches = {position: tuple(found) for position, found in self.branches.items()}
        return Facts(heights, deepest, branches)

    def _skip(self, position: int) -> int:
        """The position of what is reachable again: a part or the end of the open block."""
        depth = 0
        instructions = self.body.instructions
        while True:
            family = instructions[position][0].meaning[0]
            if family in _OPENS:
                depth += 1
            elif family in _CLOSES or (depth == 0 and family in _PARTS):
                if depth == 0:
                    self.height = self.blocks[-1].base + self.blocks[-1].results
                    return position
                depth -= 1
            position += 1

    # --- blocks ----------------------------------------------------------------------------------

    def open(self, row: Opcode, immediate: object) -> None:
        family = row.meaning[0]
        if family == "if":
            self.height -= 1
        if family == "try_table":
            assert isinstance(immediate, tuple)
            immediate, clauses = immediate
            self.branches[self.position] = []
            for clause in clauses:
                self._clause(clause)
        type_ = self.module.block_type(immediate)
        params = cells(type_.params)
        base = self.height - params
        block = _Block(self.position, base, params, cells(type_.results), family == "loop")
        if family == "if":
            block.otherwise = self.position
        elif family == "try":
            self.branches[self.position] = []
        self.blocks.append(block)

    def _clause(self, clause: Catch) -> None:
        carried = 0 if clause.tag is None else cells(self.module.tag_type(clause.tag).type.params)
        self._branch(clause.label, carried + clause.with_ref)

    def part(self, row: Opcode, immediate: object) -> None:
        """``else``, ``catch``, ``catch_all``: the part before goes to the end."""
        block = self.blocks[-1]
        self._jump(block)
        entered = block.params
        if block.otherwise is not None:
            self._otherwise(block)
        else:
            assert immediate is None or isinstance(immediate, int)
            entered = 0 if immediate is None else cells(self.module.tag_type(immediate).type.params)
            found = self.branches[block.position]
            found.append(Branch(self.position + 1, block.base, entered))
        self.height = block.base + entered

    def _otherwise(self, block: _Block) -> None:
        """Where an ``if`` goes when its condition is zero."""
        assert block.otherwise is not None
        branch = Branch(self.position + 1, block.base, block.params)
        self.branches[block.otherwise] = [branch]
        block.otherwise = None

    def end(self, row: Opcode, immediate: object) -> None:
        block = self.blocks.pop()
        is_function = not self.blocks
        if block.otherwise is not None:
            self._otherwise(block)
        target = self.position if is_function else self.position + 1
        for position, place in block.waiting:
            found = self.branches[position]
            found[place] = found[place]._replace(target=target)
        self.height = block.base + block.results

    # --- branches --------------------------------------------------------------------------------

    def _branch(self, label: int, carried: int) -> None:
        block = self.blocks[-1 - label]
        if block.is_loop:
            found = self.branches.setdefault(self.position, [])
            found.append(Branch(block.position + 1, block.base, carried))
        else:
            self._jump(block, carried)

    def _jump(self, block: _Block, carried: int | None = None) -> None:
        found = self.branches.setdefault(self.position, [])
        block.waiting.append((self.position, len(found)))
        # The target is known at the block's end.
        found.append(Branch(-1, block.base, block.results if carried is None else carried))

    def _carried(self, label: int) -> int:
        block = self.blocks[-1 - label]
        return block.params if block.is_loop else block.results

    def br(self, row: Opcode, immediate: object) -> None:
        assert isinstance(immediate, int)
        self._branch(immediate, self._carried(immediate))

    def br_if(self, row: Opcode, immediate: object) -> None:
        self.height -= 1
        self.br(row, immediate)

    def br_on_null(self, row: Opcode, immediate: object) -> None:
        # The branch goes without the reference, what follows has it.
        self.br(row, immediate)

    def br_on_non_null(self, row: Opcode, immediate: object) -> None:
        # The branch goes with the reference, what follows has it not.
        self.br(row, immediate)
        self.height -= 1

    def br_table(self, row: Opcode, immediate: object) -> None:
        assert isinstance(immediate, tuple)
        self.height -= 1
        labels, default = immediate
        for label in (*labels, default):
            self._branch(label, self._carried(label))

    def leave(self, row: Opcode, immediate: object) -> None:
        """What ends the code that can be reached; the height after it is set where it ends."""

    # --- calls, values ---------------------------------------------------------------------------

    def _calls(self, type_: FuncType) -> None:
        self.height += cells(type_.results) - cells(type_.params)

    def call(self, row: Opcode, immediate: object) -> None:
        assert isinstance(immediate, int)
        self._calls(self.module.func_type(immediate))

    def call_indirect(self, row: Opcode, immediate: object) -> None:
        assert isinstance(immediate, tuple)
        self.height -= 1
        self._calls(self.module.types[immediate[0]])

    def call_ref(self, row: Opcode, immediate: object) -> None:
        assert isinstance(immediate, int)
        self.height -= 1
        self._calls(self.module.types[immediate])

    def drop(self, row: Opcode, immediate: object) -> None:
        self.height -= 2 if self.at in self.body.wide_drops else 1

    def select(self, row: Opcode, immediate: object) -> None:
        type_ = immediate[0] if isinstance(immediate, tuple) else self.body.select_types[self.at]
        self.height -= 1 + cells((type_,))

    def local_get(self, row: Opcode, immediate: object) -> None:
        assert isinstance(immediate, int)
        self.height += cells((self.locals[immediate],))

    def local_set(self, row: Opcode, immediate: object) -> None:
        assert isinstance(immediate, int)
        self.height -= cells((self.locals[immediate],))

    def global_get(self, row: Opcode, immediate: object) -> None:
        assert isinstance(immediate, int)
        self.height += cells((self.module.globals_[immediate].value,))

    def global_set(self, row: Opcode, immediate: object) -> None:
        assert isinstance(immediate, int)
        self.height -= cells((self.module.globals_[immediate].value,))


_E = _Examiner
_FAMILIES: dict[str, Callable[[_Examiner, Opcode, object], None]] = {
    **dict.fromkeys(_OPENS, _E.open),
    **dict.fromkeys(("else", "catch", "catch_all"), _E.part),
    **dict.fromkeys(("end", "delegate"), _E.end),
    **dict.fromkeys(("unreachable", "return", "throw", "throw_ref", "rethrow"), _E.leave),
    **dict.fromkeys(("return_call", "return_call_indirect", "return_call_ref"), _E.leave),
    "br": _E.br,
    "br_if": _E.br_if,
    "br_table": _E.br_table,
    "br_on_null": _E.br_on_null,
    "br_on_non_null": _E.br_on_non_null,
    "call": _E.call,
    "call_indirect": _E.call_indirect,
    "call_ref": _E.call_ref,
    "drop": _E.drop,
    "select": _E.select,
    "local.get": _E.local_get,
    "local.set": _E.local_set,
    "global.get": _E.global_get,
    "global.set": _E.global_set,
}
_CLOSES = {"end", "delegate"}
_PARTS = {"else", "catch", "catch_all"}
_ENDS = {"br", "br_table"} | {w for w, method in _FAMILIES.items() if method is _E.leave}
# Of families whose types the module decides, but whose cells it does not.
_FIXED = {
    "local.tee": 0,
    "table.get": 0,
    "table.set": -2,
    "table.grow": -1,
    "table.fill": -3,
    "ref.null": 1,
    "ref.is_null": 0,
    "ref.func": 1,
    "ref.as_non_null": 0,
}


def _effects() -> dict[Opcode, int]:
    """By how many cells a row changes the height, where the row alone says it.

    Raises:
        Internal: at import, a row is known neither here nor by its family.
    """
    found: dict[Opcode, int] = {}
    for row in ROWS:
        family = row.meaning[0]
        if family in _FAMILIES:
            continue
        if row.params is not None and row.results is not None:
            found[row] = cells(row.results) - cells(row.params)
        elif family in _FIXED:
            found[row] = _FIXED[family]
        else:
            raise Internal(f"{row.name}: its effect on the operand stack is unknown")
    return found


_EFFECTS = _effects()
