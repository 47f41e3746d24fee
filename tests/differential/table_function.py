"""Writes the body of a random function, from the opcode table: what a module needs it to have.

Expressions, accesses, loops and calls of WebAssembly 2.0 and vectors, through memories of either
address type. Newer control flow is in ``table_control.py``, the module in ``table_modules.py``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from tests.differential.nans import SHAPE_OF_NANS
from wasinn_runtime.spec.opcodes import ROWS, Imm, Opcode
from wasinn_runtime.spec.types import ValType

__all__ = [
    "F32",
    "F64",
    "HEADER",
    "I32",
    "I64",
    "LOCALS",
    "NUMBERS",
    "PAGE",
    "Function",
    "Kinds",
    "Memory",
]

PAGE = 65536
I32, I64, F32, F64 = ValType.I32, ValType.I64, ValType.F32, ValType.F64
_V128 = ValType.V128
NUMBERS = (I32, I64, F32, F64)
_FLOATS = ("0", "-0", "1", "-1", "0.5", "inf", "-inf", "nan", "0x1p-149", "0x1p31", "-0x1p63")
# Parameters and locals of every function: numbers of each type, then what loops count with.
LOCALS = {I32: (0, 4, 5), I64: (1, 6), F32: (2, 7), F64: (3, 8), _V128: (12,)}
HEADER = "(param i32 i64 f32 f64)"
_COUNTER, _POINTER, _OTHER = 9, 10, 11

# How often each kind of statement comes, and what writes it.
Kinds = Sequence[tuple[int, Callable[[int], str]]]


@cache
def _numeric_rows(features: frozenset[str]) -> dict[ValType, list[Opcode]]:
    """Rows of operands and one result, without choice of the result, by its type."""
    rows: dict[ValType, list[Opcode]] = {ty: [] for ty in (*NUMBERS, _V128)}
    for row in ROWS:
        known = row.feature in features and row.feature not in ("relaxed-simd", "threads")
        plain = row.imm in (Imm.NONE, Imm.LANE, Imm.LANES)
        types = (*(row.params or ()), *(row.results or ()))
        if known and plain and row.params and row.results and set(types) <= set(rows):
            rows[row.results[0]].append(row)
    return rows


@cache
def _accesses(features: frozenset[str], stores: bool) -> list[Opcode]:
    return [
        row
        for row in ROWS
        if row.imm is Imm.MEMARG
        and row.feature in features
        and row.feature != "threads"
        and row.params is not None
        and (len(row.params) == 2) == stores
    ]


@dataclass(frozen=True, slots=True)
class Memory:
    """A memory of the module: its name, and whether its addresses have 64 bits."""

    name: str
    is_long: bool

    @property
    def address(self) -> str:
        return "i64" if self.is_long else "i32"

    def size(self, text: str) -> str:
        """A number of bytes or pages in its address type, from an i32."""
        return f"(i64.extend_i32_u {text})" if self.is_long else text


class Function:
    """Writes one function's body."""

    def __init__(
        self,
        rng: random.Random,
        features: frozenset[str],
        callees: int,
        types: int,
        memories: Sequence[Memory],
    ) -> None:
        self._rng = rng
        self._features = features
        self._callees = callees
        self._types = types
        self._memories = memories
        self._has_vectors = "simd" in features
        self._busy: set[int] = set()  # locals that a loop around counts with
        self._loops = 0

    # -- expressions -----------------------------------------------------------------------------

    def expression(self, ty: ValType, depth: int) -> str:
        rng = self._rng
        if depth <= 0 or rng.random() < 0.1:
            return self._leaf(ty)
        if rng.random() < 0.12:
            loads = [r for r in _accesses(self._features, False) if r.results == (ty,)]
            row = rng.choice(loads)
            memory = self._memory()
            return f"({row.name} {memory.name} {self._offset()} {self.address(depth - 1, memory)})"
        if rng.random() < 0.08:
            first, second = self.expression(ty, depth - 1), self.expression(ty, depth - 1)
            return f"(select {first} {second} {self.expression(I32, depth - 1)})"
        if rng.random() < 0.06:
            return self._conditional(ty, depth)
        row = rng.choice(_numeric_rows(self._features)[ty])
        return self._applied(row, depth)

    def _applied(self, row: Opcode, depth: int) -> str:
        rng = self._rng
        assert row.params is not None
        assert row.results is not None
        operands = " ".join(self.expression(ty, depth - 1) for ty in row.params)
        lanes = ""
        if row.imm is Imm.LANE:
            lanes = f" {rng.randrange(row.lanes)}"
        elif row.imm is Imm.LANES:
            lanes = " " + " ".join(str(rng.randrange(32)) for _ in range(16))
        text = f"({row.name}{lanes} {operands})"
        return f"(call ${SHAPE_OF_NANS[row]} {text})" if row in SHAPE_OF_NANS else text

    def _conditional(self, ty: ValType, depth: int) -> str:
        condition = self.expression(I32, depth - 1)
        then, other = self.expression(ty, depth - 1), self.expression(ty, depth - 1)
        return f"(if (result {ty.value}) {condition} (then {then}) (else {other}))"

    def _leaf(self, ty: ValType) -> str:
        rng = self._rng
        if rng.random() < 0.5:
            return f"(local.get {rng.choice(LOCALS[ty])})"
        if rng.random() < 0.2 and ty is not _V128:
            return f"(global.get ${ty.value})"
        return self.constant(ty)

    def constant(self, ty: ValType) -> str:
        """A telling number."""
        rng = self._rng
        if ty in (F32, F64):
            return f"({ty.value}.const {rng.choice(_FLOATS)})"
        if ty is _V128:
            shape, values = rng.choice((("f32x4", 4), ("f64x2", 2), ("i64x2", 2), ("i8x16", 16)))
            width = {"i64x2": 64, "i8x16": 8}.get(shape)
            lanes = [
                rng.choice(_FLOATS) if width is None else str(self._integer(width))
                for _ in range(values)
            ]
            return f"(v128.const {shape} {' '.join(lanes)})"
        return f"({ty.value}.const {self._integer(32 if ty is I32 else 64)})"

    def _integer(self, width: int) -> int:
        rng = self._rng
        value = rng.choice((0, 1, -1, 1 << rng.randrange(width), (1 << rng.randrange(width)) - 1))
        value = (value + rng.choice((0, 0, 0, 1, -1))) % (1 << width)
        return value - (value >> (width - 1) << width)

    # -- memory ----------------------------------------------------------------------------------

    def _offset(self) -> str:
        rng = self._rng
        if rng.random() < 0.9:
            return ""
        return f"offset={rng.choice((1, 2, 8, 16, 100, PAGE - 8, PAGE, 0xFFFFFFFF))}"

    def _memory(self) -> Memory:
        return self._rng.choice(self._memories)

    def address(self, depth: int, memory: Memory) -> str:
        """Mostly inside, often near an edge, now and then anywhere."""
        if memory.is_long and self._rng.random() < 0.03:
            return self.expression(I64, depth)
        return memory.size(self._short_address(depth))

    def _short_address(self, depth: int) -> str:
        rng = self._rng
        kind = rng.random()
        if kind < 0.15:
            edge = rng.choice((0, PAGE, 2 * PAGE))
            return f"(i32.const {max(0, edge - rng.randrange(20))})"
        if kind < 0.98:
            return f"(i32.and {self.expression(I32, min(depth, 2))} (i32.const 0xfff0))"
        return self.expression(I32, depth)

    def store(self, depth: int) -> str:
        row = self._rng.choice(_accesses(self._features, True))
        assert row.params is not None
        value = self.expression(row.params[1], depth)
        memory = self._memory()
        where = self.address(depth, memory)
        return f"({row.name} {memory.name} {self._offset()} {where} {value})"

    def _bulk(self, depth: int) -> str:
        rng = self._rng
        size = f"(i32.const {rng.choice((0, 0, 1, 8, 100, 300, PAGE, 2 * PAGE))})"
        if rng.random() < 0.2:
            size = self.expression(I32, 1)
        small = f"(i32.const {rng.choice((0, 0, 1, 3, 9, 11))})"
        memory, other = self._memory(), self._memory()
        where, many = self.address(1, memory), memory.size(size)
        # As long as the shorter addresses are.
        both = many if other.is_long else size
        pages = memory.size(f"(i32.const {rng.choice((0, 1, 1, 5))})")
        value = self.expression(I32, depth)
        init = f"{memory.name} $data {where} (i32.const {rng.randrange(12)}) {small}"
        return rng.choice(
            (
                f"(memory.fill {memory.name} {where} {value} {many})",
                f"(memory.copy {memory.name} {other.name} {where} {self.address(1, other)} {both})",
                f"(memory.init {init})",
                "(data.drop $data)",
                f"(drop (memory.grow {memory.name} {pages}))",
                f"(table.init $table $functions {small} (i32.const {rng.randrange(5)}) {small})",
                f"(table.copy $table $table {small} (i32.const {rng.randrange(8)}) {small})",
                f"(table.fill $table {small} (ref.null func) {small})",
                f"(drop (table.grow $table (ref.null func) (i32.const {rng.randrange(4)})))",
                "(elem.drop $functions)",
            )
        )

    # -- statements ------------------------------------------------------------------------------

    def loops(self, count: int) -> str:
        """Nothing but loops, so that all of them are come to."""
        return "\n".join(self.loop(2) for _ in range(count))

    def statements(self, count: int, depth: int) -> str:
        return "\n".join(self._statement(depth) for _ in range(count))

    def _statement(self, depth: int) -> str:
        kinds = self._kinds()
        weights = [weight for weight, _ in kinds]
        (_, kind), *_ = self._rng.choices(kinds, weights)
        return kind(depth)

    def _kinds(self) -> Kinds:
        return (
            (6, self._set),
            (5, self.store),
            (3, self._set_global),
            (4, self.loop),
            (2, self._bulk),
            (2, self._if),
            (2, self._br_table),
            (2, self._call),
            (2, self._call_indirect),
            (1, self._values),
            (1, lambda depth: f"(drop {self.expression(self._type(), depth)})"),
        )

    def _type(self) -> ValType:
        types = (*NUMBERS, _V128) if self._has_vectors else NUMBERS
        return self._rng.choice(types)

    def _set(self, depth: int) -> str:
        ty = self._type()
        return f"(local.set {self._rng.choice(LOCALS[ty])} {self.expression(ty, depth)})"

    def _set_global(self, depth: int) -> str:
        ty = self._rng.choice(NUMBERS)
        return f"(global.set ${ty.value} {self.expression(ty, depth)})"

    def _if(self, depth: int) -> str:
        condition = self.expression(I32, depth)
        then, other = self.statements(2, depth - 1), self.statements(1, depth - 1)
        return f"(if {condition} (then {then}) (else {other}))"

    def _br_table(self, depth: int) -> str:
        labels = " ".join(str(self._rng.randrange(3)) for _ in range(self._rng.randrange(1, 6)))
        choice = self.expression(I32, depth)
        inner = f"(block {self.statements(1, depth - 1)} (br_table {labels} {choice}))"
        return f"(block (block {inner} {self.statements(1, depth - 1)}) {self.store(depth)})"

    def _values(self, depth: int) -> str:
        """A block whose values go round a loop as its parameters."""
        first, second = self.expression(I32, depth), self.expression(F64, depth)
        self._loops += 1
        turn = f"$turn{self._loops}"
        return f"""
          (block (result f64 i32)
            {first} {second}
            (loop {turn} (param i32 f64) (result f64 i32)
              (local.set 8) (local.set 4)
              (i32.shr_u (local.get 4) (i32.const {self._rng.choice((1, 5, 9))})) (local.get 8)
              (br_if {turn} (i32.gt_u (local.get 4) (i32.const {self._rng.randrange(40)})))
              (local.set 8) (local.set 4) (local.get 8) (local.get 4)))
          (local.set 4) (local.set 8)"""

    def _call(self, depth: int) -> str:
        if not self._callees:
            return self._set(depth)
        given = " ".join(self.expression(ty, depth - 1) for ty in NUMBERS)
        return f"(local.set 4 (call $g{self._rng.randrange(self._callees)} {given}))"

    def _call_indirect(self, depth: int) -> str:
        number = self._rng.randrange(self._types)
        element = self._rng.choice((f"(i32.const {self._rng.randrange(9)})", "(local.get 0)"))
        given = " ".join(self.expression(ty, depth - 1) for ty in NUMBERS[: number + 1])
        return f"(local.set 4 (call_indirect $table (type $t{number}) {given} {element}))"

    # -- loops through memory --------------------------------------------------------------------

    def loop(self, depth: int) -> str:
        """Counts with one local and moves another through memory, which it may leave."""
        rng = self._rng
        if _COUNTER in self._busy:
            return self.store(depth)
        self._busy.add(_COUNTER)
        self._loops += 1
        label, after = f"$loop{self._loops}", f"$after{self._loops}"
        turns, step = rng.randrange(1, 70), rng.choice((1, 1, 1, 2, 4, 8, -1, -1, -2, -8, 3, -5))
        stride = rng.choice((1, 2, 4, 4, 8, 8, 16, 24, -1, -4, -8, 3))
        # Where the last turn comes to an edge, give or take; or anywhere inside.
        edge = rng.choice((0, PAGE, PAGE, 2 * PAGE))
        start = edge - turns * stride + rng.randrange(-24, 25) * rng.choice((0, 1, 1))
        if rng.random() < 0.4:
            start = rng.randrange(200, PAGE - 2000)
        if rng.random() < 0.1:
            start = rng.choice((-8, -1, 0x7FFFFFF8, 0))
        first = rng.choice((0, 1, 5, -3, turns, 0x7FFFFFF0, -0x80000000, 1000))
        last = first + turns * step
        start, first, last = (_as_i32(value) for value in (start, first, last))
        how = "ne"
        if rng.random() < 0.6:
            how = rng.choice(("lt", "le") if step > 0 else ("gt", "ge")) + rng.choice(("_s", "_u"))
            last = _as_i32(last + rng.randrange(-2, 3))
        by = self._step(stride)
        body = [self._loop_part(depth) for _ in range(rng.randrange(1, 4))]
        count = f"(local.tee {_COUNTER} (i32.add (local.get {_COUNTER}) (i32.const {step})))"
        move = f"(local.set {_POINTER} (i32.add (local.get {_POINTER}) {by}))"
        bound = f"(i32.const {last})"
        if rng.random() < 0.3:
            bound = f"(i32.add (local.get {_OTHER}) (i32.const {_as_i32(last - stride)}))"
        body.insert(rng.randrange(len(body) + 1), move)
        if rng.random() < 0.7:
            turn = f"(br_if {label} (i32.{how} {count} {bound}))"
            code = f"(loop {label} {' '.join(body)} {turn})"
        else:
            leave = f"(br_if {after} (i32.eqz (i32.{how} {count} {bound})))"
            body.insert(rng.randrange(len(body) + 1), leave)
            code = f"(block {after} (loop {label} {' '.join(body)} (br {label})))"
        self._busy.discard(_COUNTER)
        return f"""
          (local.set {_COUNTER} (i32.const {first}))
          (local.set {_POINTER} (i32.const {start}))
          (local.set {_OTHER} (i32.const {stride}))
          {code}"""

    def _step(self, stride: int) -> str:
        return f"(local.get {_OTHER})" if self._rng.random() < 0.3 else f"(i32.const {stride})"

    def _loop_part(self, depth: int) -> str:
        rng = self._rng
        at = rng.choice(
            (
                f"(local.get {_POINTER})",
                f"(local.get {_POINTER})",
                f"(i32.add (local.get {_POINTER}) (i32.const {rng.choice((4, 8, -8, 64))}))",
                f"(i32.sub (local.get {_POINTER}) (local.get {_OTHER}))",
                f"(i32.shl (local.get {_COUNTER}) (i32.const 2))",
                "(i32.const 16)",
            )
        )
        memory = self._memory()
        at = memory.size(at)
        offset = f"{memory.name} offset={rng.choice((0, 0, 0, 4, 8, 1024))}"
        kind = rng.random()
        if kind < 0.45:
            row = rng.choice(_accesses(self._features, True))
            assert row.params is not None
            return f"({row.name} {offset} {at} {self._loop_value(row.params[1], at, offset)})"
        if kind < 0.9:
            ty = rng.choice((I32, I64))
            local = rng.choice(LOCALS[ty])
            word = rng.choice(("add", "xor", "or", "sub", "mul"))
            value = self._loop_value(ty, at, offset)
            return f"(local.set {local} ({ty.value}.{word} (local.get {local}) {value}))"
        inner = self.store(1)
        return f"(if (i32.eqz (i32.and (local.get {_COUNTER}) (i32.const 7))) (then {inner}))"

    def _loop_value(self, ty: ValType, at: str, offset: str) -> str:
        """Something loaded, something computed."""
        loads = [r for r in _accesses(self._features, False) if r.results == (ty,)]
        load = f"({self._rng.choice(loads).name} {offset} {at})"
        if ty in (I32, I64) and self._rng.random() < 0.5:
            word = self._rng.choice(("add", "sub", "xor", "mul", "shl"))
            return f"({ty.value}.{word} {load} {self._leaf(ty)})"
        return load if self._rng.random() < 0.7 else self.expression(ty, 1)


def _as_i32(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)
