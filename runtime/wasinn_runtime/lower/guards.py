"""Loops whose memory accesses can be shown to be in bounds before they start.

LLVM may neither reorder nor drop an access that may trap, so it vectorises no loop with one. Of
an innermost loop that counts, whose addresses move by the same step in every iteration, the first
and the last address say that all are in bounds. Such a loop is lowered twice: plainly for when
they are, and exactly for when they are not. This module finds these loops and says what has to
hold; it writes no IR (``lower/ssa_guards.py`` does), and leaves alone what it can not follow.

Within the loop, an i32 is followed as a sum of locals, as they are when an iteration begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.lower.meanings import MEANINGS
from wasinn_runtime.lower.simd import LANE_MEANINGS
from wasinn_runtime.spec.opcodes import Imm, Opcode
from wasinn_runtime.spec.types import ValType

__all__ = ["Access", "Affine", "Comparison", "Guard", "guarded_loops"]

# A loop is lowered twice: longer ones are seldom vectorised, and more checks cost more.
_LONGEST, _MOST_ACCESSES = 600, 8
_LONGEST_COUNTED = 150
_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Affine:
    """``const`` plus each local times its factor, modulo 2^32."""

    const: int
    terms: tuple[tuple[int, int], ...] = ()

    def plus(self, other: Affine, factor: int = 1) -> Affine:
        """The sum with a multiple of another."""
        terms = dict(self.terms)
        for local, by in other.terms:
            terms[local] = (terms.get(local, 0) + by * factor) & _MASK
        kept = tuple(sorted((local, by) for local, by in terms.items() if by))
        return Affine((self.const + other.const * factor) & _MASK, kept)

    @property
    def is_const(self) -> bool:
        return not self.terms

    @property
    def signed(self) -> int:
        """The constant, read as signed."""
        return (self.const ^ 0x80000000) - 0x80000000


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sums compared: ``eq``, ``ne``, ``slt``, ``uge``, ..."""

    how: str
    left: Affine
    right: Affine

    def negated(self) -> Comparison:
        if self.how in ("eq", "ne"):
            return Comparison("ne" if self.how == "eq" else "eq", self.left, self.right)
        other = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt"}[self.how[1:]]
        return Comparison(self.how[0] + other, self.left, self.right)


_Value = Affine | Comparison | None
_ZERO = Affine(0)
_FLOATS = frozenset({ValType.F32, ValType.F64})


@dataclass(frozen=True, slots=True)
class Access:
    """Loads and stores of one address: ``extent`` is how far beyond it the last byte's end is."""

    memory: int
    address: Affine
    step: Affine
    extent: int


@dataclass(frozen=True, slots=True)
class Guard:
    """What has to hold for a loop to run plainly.

    Attributes:
        goes_on: a condition that every iteration but the last finds true, of the values that it
            has in the first.
        step: what is added to its left side in each iteration; its right side stays. A sum of
            locals only where it has to be above 0.
        accesses: all of memory that it touches; none where they can not be shown to stay in
            bounds, and only the number of iterations is of interest.
        has_stores: whether any of these is a store.
        end: position of the loop's ``end``.
    """

    goes_on: Comparison
    step: Affine
    accesses: tuple[Access, ...]
    has_stores: bool
    end: int


def guarded_loops(
    module: ParsedModule, types: Sequence[ValType], body: Body, counted: bool = False
) -> Mapping[int, Guard]:
    """The loops that a check before them can show to stay in bounds, by position.

    Args:
        module: the module.
        types: of the function's locals, parameters first.
        body: the function's.
        counted: also give short loops of which no more is known than how often they run.
    """
    found = {}
    for start, end in _innermost(body):
        if end - start <= _LONGEST:
            is_short = counted and end - start <= _LONGEST_COUNTED
            guard = _guard(module, types, body, start, end, is_short)
            if guard is not None:
                found[start] = guard
    return found


def _innermost(body: Body) -> Iterator[tuple[int, int]]:
    """Position of each loop without loops in it, and of its end."""
    open_blocks: list[int] = []
    loop = -1  # the latest loop, while no other loop has ended since
    for position, (row, _, _) in enumerate(body.instructions):
        family = row.meaning[0]
        if family in _OPENING:
            open_blocks.append(position)
            if family == "loop":
                loop = position
        elif family in ("end", "delegate") and open_blocks:
            start = open_blocks.pop()
            if start == loop:
                yield start, position
            if body.instructions[start][0].meaning[0] == "loop":
                loop = -1


_OPENING = frozenset({"block", "loop", "if", "try", "try_table"})


def _guard(
    module: ParsedModule,
    types: Sequence[ValType],
    body: Body,
    start: int,
    end: int,
    only_counted: bool,
) -> Guard | None:
    first = _Walk(module, types, body, start, end, {})
    if not first.run():
        return None
    steps = first.steps()
    unknown = {local: None for local, step in steps.items() if step is None}
    walk = _Walk(module, types, body, start, end, unknown) if unknown else first
    if unknown:
        walk.run()
    is_plain = bool(walk.accesses) and None not in walk.accesses and not walk.is_serial
    moving = {local: step for local, step in steps.items() if step is not None}
    is_plain &= not any(_step_of(address, moving) == _ZERO for address in walk.sums)
    if not is_plain and not only_counted:
        return None
    for comparison in walk.goes_on:
        counted = _counted(comparison, moving)
        if counted is not None:
            break
    else:
        return None
    accesses = _grouped(walk.accesses, moving) if is_plain else ()
    if len(accesses) > _MOST_ACCESSES:
        if not only_counted:
            return None
        accesses = ()
    return Guard(counted[0], counted[1], accesses, walk.has_stores and bool(accesses), end)


def _grouped(
    accesses: Iterable[tuple[int, Affine, int] | None], moving: Mapping[int, Affine]
) -> tuple[Access, ...]:
    """One check for what differs by constants: the span from the lowest address on."""
    groups: dict[tuple[int, tuple[tuple[int, int], ...]], list[tuple[int, int]]] = {}
    for access in accesses:
        assert access is not None
        memory, address, extent = access
        groups.setdefault((memory, address.terms), []).append((address.signed, extent))
    found = []
    for (memory, terms), spans in groups.items():
        lowest = min(const for const, _ in spans)
        extent = max(const - lowest + extent for const, extent in spans)
        address = Affine(lowest & _MASK, terms)
        found.append(Access(memory, address, _step_of(address, moving), extent))
    return tuple(found)


def _step_of(value: Affine, moving: Mapping[int, Affine]) -> Affine:
    step = _ZERO
    for local, by in value.terms:
        step = step.plus(moving.get(local, _ZERO), by)
    return step


_MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}


def _counted(
    comparison: Comparison, moving: Mapping[int, Affine]
) -> tuple[Comparison, Affine] | None:
    """The comparison with what moves on its left, and the step, if it must become false."""
    how, left, right = comparison.how, comparison.left, comparison.right
    by, other = _step_of(left, moving), _step_of(right, moving)
    if how in ("eq", "ne"):
        step = by.plus(other, -1)
        moves = step.is_const and step.const and how == "ne"
        return (Comparison("ne", left.plus(right, -1), _ZERO), step) if moves else None
    if other != _ZERO:
        if by != _ZERO:
            return None
        comparison = Comparison(how[0] + _MIRRORED[how[1:]], right, left)
        by = other
    rises = comparison.how[1:] in ("lt", "le")
    if by.is_const and (not by.const or rises != (by.signed > 0)):
        return None
    return (comparison, by) if by.is_const or rises else None


# --- following an iteration ---------------------------------------------------------------------

_State = dict[int, Affine | None]


@dataclass(slots=True)
class _Frame:
    kind: str
    height: int
    results: int
    incoming: list[_State] = field(default_factory=list)
    otherwise: _State | None = None


class _Walk:
    """One iteration, symbolically. ``run`` is False where the loop holds what is not followed.

    Attributes:
        accesses: memory, address and extent of each; None for an address that is not a sum.
        goes_on: conditions that each iteration meets, all but the last finding them true.
        sums: addresses of floats that it loads and then stores.
        is_serial: it has what keeps LLVM from vectorising it in any case: several ways out, or
            a sum of floats, whose order matters.
    """

    def __init__(
        self,
        module: ParsedModule,
        types: Sequence[ValType],
        body: Body,
        start: int,
        end: int,
        entry: Mapping[int, None],
    ) -> None:
        self._module, self._body, self._start, self._end = module, body, start, end
        self._types = types
        self._state: _State = dict(entry)
        self._stack: list[_Value] = []
        self._frames: list[_Frame] = []
        self._back: list[_State] = []
        self._live = True
        self.accesses: list[tuple[int, Affine, int] | None] = []
        self.goes_on: list[Comparison] = []
        self._exits: list[Comparison] = []
        self.has_stores = False
        self._ways_out = 0
        self._floats_read: set[int] = set()
        self._floats_set: set[int] = set()
        self._carries_float = False
        self._in_place: set[Affine] = set()
        self.sums: set[Affine] = set()

    @property
    def is_serial(self) -> bool:
        return self._ways_out > 1 or self._carries_float

    def run(self) -> bool:
        instructions = self._body.instructions
        ty = self._module.block_type(instructions[self._start][1])
        if ty.params:
            return False
        self._frames.append(_Frame("loop", 0, len(ty.results)))
        for position in range(self._start + 1, self._end):
            row, immediate, _ = instructions[position]
            if not self._step(row, immediate):
                return False
        self._ways_out += self._live  # over the end
        if len(self._back) > 1:  # who fails the first may still take another
            self.goes_on = self._exits
        return bool(self._back)

    def steps(self) -> dict[int, Affine | None]:
        """What an iteration adds to each local that it changes; None if that is not a sum."""
        found: dict[int, Affine | None] = {}
        for local in {local for state in self._back for local in state}:
            values = {state.get(local, _local(local)) for state in self._back}
            value = values.pop()
            step = None if values or value is None else value.plus(_local(local), -1)
            if step != _ZERO:
                found[local] = step
        for local, step in found.items():
            if step is not None and any(other in found for other, _ in step.terms):
                found[local] = None
        return found

    # -- instructions ----------------------------------------------------------------------------

    def _step(self, row: Opcode, immediate: object) -> bool:
        """Follow one instruction; False if there is no way to."""
        family = row.meaning[0]
        if not self._live and family not in ("block", "if", "else", "end"):
            return family in _FOLLOWED or _is_access(row)
        stack = self._stack
        if family == "local.get":
            assert isinstance(immediate, int)
            stack.append(self._state.get(immediate, _local(immediate)))
            if self._types[immediate] in _FLOATS and immediate not in self._floats_set:
                self._floats_read.add(immediate)
        elif family in ("local.set", "local.tee"):
            assert isinstance(immediate, int)
            value = stack[-1]
            self._state[immediate] = value if isinstance(value, Affine) else None
            if family == "local.set":
                stack.pop()
            if self._types[immediate] in _FLOATS:
                self._floats_set.add(immediate)
                self._carries_float |= immediate in self._floats_read
        elif family == "const":
            if row.results == (ValType.I32,):
                assert isinstance(immediate, int)
                stack.append(Affine(immediate & _MASK))
            else:
                stack.append(None)
        elif family in MEANINGS:
            assert row.params is not None
            count = len(row.params)
            self._ways_out += row.may_trap
            operands = stack[len(stack) - count :]
            del stack[len(stack) - count :]
            stack.append(_computed(row, operands))
        elif family in LANE_MEANINGS:
            assert row.params is not None
            del stack[len(stack) - len(row.params) :]
            stack.append(None)
        elif _is_access(row):
            self._access(row, immediate)
        elif family in _CONTROL:
            if family in ("block", "if") and self._module.block_type(immediate).params:
                return False
            self._control(family, immediate)
        elif family in _TAKES:
            takes, gives = _TAKES[family]
            del stack[len(stack) - takes :]
            stack.extend([None] * gives)
        else:
            return False
        return True

    def _access(self, row: Opcode, immediate: object) -> None:
        assert row.params is not None
        assert row.results is not None
        assert isinstance(immediate, tuple)
        operands = self._stack[len(self._stack) - len(row.params) :]
        del self._stack[len(self._stack) - len(row.params) :]
        self._stack.extend([None] * len(row.results))
        if not row.results:
            self.has_stores = True
        address, memory = operands[0], immediate[2]
        kind = row.params[1] if len(row.params) > 1 else row.results[0]
        if kind in _FLOATS and isinstance(address, Affine):
            at = address.plus(Affine(immediate[1]))
            if not row.results and at in self._in_place:
                self.sums.add(at)
            elif row.results:
                self._in_place.add(at)
        followed = isinstance(address, Affine) and is_guarded(self._module, memory)
        extent = immediate[1] + row.access_bytes
        self.accesses.append((memory, address, extent) if followed else None)  # type: ignore[arg-type]

    # -- control flow ----------------------------------------------------------------------------

    def _control(self, family: str, immediate: object) -> None:
        if family in ("block", "if"):
            ty = self._module.block_type(immediate)
            otherwise = None
            if family == "if" and self._live:
                self._stack.pop()
                otherwise = dict(self._state)
            kind = family if self._live else "dead"
            height = len(self._stack)
            self._frames.append(_Frame(kind, height, len(ty.results), otherwise=otherwise))
        elif family == "else":
            frame = self._frames[-1]
            if frame.kind == "if":
                self._leave(frame)
                assert frame.otherwise is not None
                self._state, frame.otherwise, self._live = frame.otherwise, None, True
                del self._stack[frame.height :]
        elif family == "end":
            frame = self._frames.pop()
            if frame.kind != "dead":
                self._leave(frame)
                if frame.otherwise is not None:
                    frame.incoming.append(frame.otherwise)
                self._live = bool(frame.incoming)
                self._state = _merged(frame.incoming)
                del self._stack[frame.height :]
                self._stack.extend([None] * frame.results)
        elif family in ("return", "unreachable"):
            self._live = False
            self._ways_out += 1
        else:
            assert isinstance(immediate, int)
            condition = self._stack.pop() if family == "br_if" else None
            self._branch(immediate, condition, family == "br_if")

    def _leave(self, frame: _Frame) -> None:
        if self._live:
            frame.incoming.append(dict(self._state))

    def _branch(self, depth: int, condition: _Value, is_conditional: bool) -> None:
        target = len(self._frames) - 1 - depth
        # Whether every iteration comes here: nothing on the way jumps past.
        certain = all(f.kind == "block" and not f.incoming for f in self._frames[1:])
        if isinstance(condition, Affine):
            condition = Comparison("ne", condition, _ZERO)
        if condition is not None and certain and not self._back:
            if target == 0:
                self.goes_on.append(condition)
            elif target < 0:
                self.goes_on.append(condition.negated())
                self._exits.append(condition.negated())
        if target == 0:
            self._back.append(dict(self._state))
        elif target < 0:
            self._ways_out += 1
        else:
            self._frames[target].incoming.append(dict(self._state))
        if not is_conditional:
            self._live = False


def is_guarded(module: ParsedModule, memory: int) -> bool:
    """Whether a stray access to a memory is caught by its guard pages, not by a check."""
    return module.memories[memory].address is ValType.I32


_CONTROL = frozenset({"block", "if", "else", "end", "br", "br_if", "return", "unreachable"})
_TAKES = {"drop": (1, 0), "select": (3, 1), "nop": (0, 0), "global.get": (0, 1)}
_FOLLOWED = _CONTROL | frozenset(_TAKES) | {"local.get", "local.set", "local.tee", "const"}
_FOLLOWED |= frozenset(MEANINGS) | frozenset(LANE_MEANINGS)


def _is_access(row: Opcode) -> bool:
    """Whether it is a load or store (not an atomic one)."""
    return row.imm in (Imm.MEMARG, Imm.MEMARG_LANE) and row.feature != "threads"


def _local(index: int) -> Affine:
    return Affine(0, ((index, 1),))


def _merged(states: Iterable[_State]) -> _State:
    """What is known where several ways meet."""
    ways = list(states)
    merged: _State = {}
    for local in {local for way in ways for local in way}:
        values = {way.get(local, _local(local)) for way in ways}
        merged[local] = values.pop() if len(values) == 1 else None
    return merged


def _computed(row: Opcode, operands: list[_Value]) -> _Value:
    """The result of a numeric instruction."""
    if row.params is None or row.params[0] is not ValType.I32:
        return None
    sums = [value for value in operands if isinstance(value, Affine)]
    name = row.name.removeprefix("i32.")
    if name == "eqz" and isinstance(operands[0], Comparison):
        return operands[0].negated()
    if len(sums) != len(operands):
        return None
    if name == "eqz":
        return Comparison("eq", sums[0], _ZERO)
    if len(sums) != 2:
        return None
    left, right = sums
    if name == "add":
        return left.plus(right)
    if name == "sub":
        return left.plus(right, -1)
    if name == "mul" and (left.is_const or right.is_const):
        by, value = (left, right) if left.is_const else (right, left)
        return _ZERO.plus(value, by.const)
    if name == "shl" and right.is_const:
        return _ZERO.plus(left, 1 << (right.const & 31))
    if row.meaning[0] == "icmp":
        return Comparison(row.meaning[1], left, right)
    return None
