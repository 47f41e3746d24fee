"""One function to LLVM IR with operands as SSA values: the LLVM tiers' view of the table.

Owns calls, locals and the operand stack; ``lower/ssa_blocks.py`` has control flow. Trusts
validation: a function that was not validated must not come here. Never recurses on nesting.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import cached_property

# For the meanings and handlers that they register.
import wasinn_runtime.lower.atomics
import wasinn_runtime.lower.ssa_calls  # noqa: F401
from wasinn_runtime.abi.layout import VMContext, VMLayout
from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.errors import Invalid
from wasinn_runtime.lower.convention import (
    arguments,
    give,
    native_name,
    native_params,
    native_result,
    opaque,
    receive,
    results,
    tail_name,
)
from wasinn_runtime.lower.guards import Guard, guarded_loops
from wasinn_runtime.lower.handlers import HANDLERS, handler
from wasinn_runtime.lower.local_flow import local_flow
from wasinn_runtime.lower.meanings import INTEGER_TEXT, MEANINGS, as_i32, float_immediate
from wasinn_runtime.lower.opaque import arithmetic_operands, flowing
from wasinn_runtime.lower.simd import LANE_MEANINGS
from wasinn_runtime.lower.ssa_blocks import Block
from wasinn_runtime.lower.ssa_exceptions import Try
from wasinn_runtime.lower.ssa_guards import lower_guarded
from wasinn_runtime.lower.state import STATE_MEANINGS
from wasinn_runtime.lower.writer import (
    INVARIANT,
    LLVM_TYPE,
    SELDOM_RUN,
    UNPREDICTABLE,
    FunctionWriter,
)
from wasinn_runtime.spec.opcodes import BY_NAME, ROWS, Opcode
from wasinn_runtime.spec.types import FuncType, ValType

__all__ = ["Block", "Lowering", "lower_function", "native_name"]

_GET = BY_NAME["local.get"]
_WHOLE_CONSTANTS = frozenset({BY_NAME["i32.const"], BY_NAME["i64.const"]})
_BLOCKS = frozenset({"block", "loop", "if", "try", "try_table"})
_ENDS = frozenset({"end", "delegate"})
_PARTS = frozenset({"else", "catch", "catch_all"})

# IR that a function may become: a few bytes can stand for a thousand values (a call of a function
# with as many results), and LLVM takes longer than in proportion. Compilers' output stays below
# two lines a byte.
_LINES, _LINES_PER_BYTE = 20_000, 5
# From here on LLVM's optimisations take minutes (they are quadratic in these), so they are left
# out. A switch of as many cases is as deep; nobody has more locals, operands, loops or divisions
# in one function but to annoy.
_DEEPEST, _MOST_VALUES, _MOST_LOCALS_TIMES_LOOPS, _MOST_CHECKS = 2_000, 5_000, 500_000, 8_000


class Lowering:
    """The state while one function is written. Implements ``lower.state.Frame``.

    Attributes:
        stack: the operands' values.
        values: the locals' values; not used while ``flow`` is None, when they are in memory.
    """

    _may_name_locals = True

    def __init__(
        self,
        module: ParsedModule,
        layout: VMLayout,
        places: Mapping[int, int],
        index: int,
        body: Body,
        unit: Container[int] | None,
        quick: bool = False,
    ) -> None:
        self.module = module
        self.unit = unit
        self.layout = layout
        self.places = places
        self.type = module.func_type(index)
        self.body = body
        self._index = index
        self.vm = "%vm"
        self.keep_load = True
        # The most iterations of a loop's plain version; None for any number.
        self.longest_plain: int | None = None
        # Around a loop that is lowered twice: how many blocks; whether its stores need a fence
        # where it is left.
        self._around: int | None = None
        self._needs_fence = False
        self.stack: list[str] = []
        self.blocks: list[Block] = []
        self.reachable = True
        self.position = 0
        self._most_operands = 0
        self._bases: dict[int, str] = {}
        self._budget = _LINES + _LINES_PER_BYTE * len(module.data)
        self._edge_values = 0
        self.locals = [*self.type.params]
        for count, ty in body.locals:
            self.locals.extend([ty] * count)
        self.values: list[str] = []
        self.flow = local_flow(body, len(self.locals)) if self._may_name_locals else None
        self._kept = 0  # how many lines there were when a local was given its value last
        self.quick = quick
        self._guards = self._find_guards()
        self.makes_tail_calls = False
        self.tries: list[Try] = []
        self.has_pads = False
        context = f"ptr nonnull swiftself align 16 dereferenceable({layout.total_bytes}) %vm"
        self._signature = f"({context}{native_params(self.type)})"
        self.w = FunctionWriter(
            f"define internal fastcc {native_result(self.type)} @{native_name(index)}"
            f"{self._signature} #0",
            quick=quick,
        )

    # -- services of Frame -----------------------------------------------------------------------

    def memory_base(self, index: int) -> str:
        return self._bases[index]

    @cached_property
    def rethrows(self) -> bool:
        """Whether a catch may throw its exception again."""
        return any(row.meaning[0] == "rethrow" for row, _, _ in self.body.instructions)

    def _find_guards(self) -> Mapping[int, Guard]:
        """The loops to lower twice, for the vectoriser."""
        has_loops = self.flow is None or self.flow.after
        if self.quick or not has_loops:
            return {}
        return guarded_loops(self.module, self.locals, self.body)

    # -- the whole function ----------------------------------------------------------------------

    def run(self) -> str:
        self._prologue()
        self.blocks.append(Block("func", "return", self.type, 0))
        lines = self.w.lines
        self._budget += len(lines)  # declared locals have a limit of their own
        self.lower(0, len(self.body.instructions))
        if self.has_pads:
            lines[0] = lines[0].removesuffix("{") + "personality ptr @__gcc_personality_v0 {"
        if self._is_awkward():
            lines[0] = lines[0].replace(" #0 ", " #1 ")
        if not self.makes_tail_calls:
            return self.w.finish()
        lines[0] = lines[0].replace(f"@{native_name(self._index)}(", f"@{tail_name(self._index)}(")
        return self.w.finish() + "\n" + self._preserving_entry()

    def lower(self, position: int, stop: int) -> None:
        """Lower the instructions from one position to another."""
        instructions, lines, let = self.body.instructions, self.w.lines, self.w.let
        has_values = self.flow is not None
        while position < stop:
            row, immediate, at = instructions[position]
            if self.reachable:  # two of three instructions are these, and need no handler
                stack = self.stack
                if row is _GET and has_values:
                    stack.append(self.values[immediate])  # type: ignore[call-overload]
                    position += 1
                    continue
                if row in _WHOLE_CONSTANTS:
                    stack.append(str(immediate))
                    position += 1
                    continue
                text = INTEGER_TEXT.get(row)
                if text is not None:
                    right = stack.pop()
                    stack[-1] = let(f"{text}{stack[-1]}, {right}")
                    if len(stack) > self._most_operands:
                        self._most_operands = len(stack)
                    position += 1
                    continue
            if len(lines) + self._edge_values > self._budget:
                raise self._too_complex(at)
            if not self.reachable:
                position = self._skip_dead(position)
                continue
            self.position = position
            family = row.meaning[0]
            if family == "loop" and self._around is None and position in self._guards:
                if len(lines) < self._budget // 2:
                    ty = self.module.block_type(immediate)
                    position = lower_guarded(self, position, self._guards[position], ty)
                    continue
            elif family == "select" and immediate is None:
                immediate = (self.body.select_types[at],)
            HANDLERS[family](self, row, immediate)
            if len(self.stack) > self._most_operands:
                self._most_operands = len(self.stack)
            position += 1

    def _preserving_entry(self) -> str:
        """What callers by name call: it comes back with the context where it was."""
        ty, name = self.type, native_name(self._index)
        result = native_result(ty)
        w = FunctionWriter(f"define internal fastcc {result} @{name}{self._signature} #0")
        context = f"ptr swiftself {opaque(w, '%vm')}"
        call = f"notail call fastcc {result} @{tail_name(self._index)}({context}"
        call += f"{native_params(ty)}) noinline"
        if result == "void":
            w.do(call)
            w.do("ret void")
        else:
            w.do(f"ret {result} {w.let(call)}")
        return w.finish()

    def _too_complex(self, at: int) -> Invalid:
        label = self.module.function_label(self._index)
        message = (
            f"function too complex: its first {at - self.body.start} bytes stand for more than "
            f"{self._budget} operations; use fewer parameters and results, or smaller functions"
        )
        return Invalid(message, at, self.module.where, label)

    def _is_awkward(self) -> bool:
        """Whether optimising it would take LLVM minutes."""
        count = len(self.locals)
        if max(count, self._most_operands) > _MOST_VALUES or self.w.checks > _MOST_CHECKS:
            return True
        labels = self.w.labels
        if labels <= _DEEPEST and labels * count <= _MOST_LOCALS_TIMES_LOOPS:
            return False
        depth = deepest = loops = 0
        for row, _, _ in self.body.instructions:
            family = row.meaning[0]
            if family in _BLOCKS:
                depth += 1
                deepest = max(deepest, depth)
                loops += family == "loop"
            elif family in _ENDS:
                depth -= 1
        return deepest > _DEEPEST or loops * count > _MOST_LOCALS_TIMES_LOOPS

    def _skip_dead(self, position: int) -> int:
        """Pass over code that nothing reaches, up to what ends or divides its block."""
        depth = 0
        while True:
            row, immediate, _ = self.body.instructions[position]
            family = row.meaning[0]
            if family in _BLOCKS:
                depth += 1
            elif depth == 0 and (family in _ENDS or family in _PARTS):
                HANDLERS[family](self, row, immediate)
                return position + 1
            elif family in _ENDS:
                depth -= 1
            position += 1

    def _prologue(self) -> None:
        w = self.w
        values = receive(w, self.type, "%vm")
        values += [_ZERO.get(ty, "null") for ty in self.locals[len(values) :]]
        if self.flow is None:
            self.store_locals(values)
        else:
            self.values = values
        for i in range(len(self.module.memories)):
            place = self.layout.memory(i) + VMContext.RESOURCE_BASE
            self._bases[i] = w.load_field("%vm", place, "ptr", INVARIANT)

    # -- locals ----------------------------------------------------------------------------------

    def store_locals(self, values: list[str]) -> None:
        """Keep the locals in memory from here on."""
        w = self.w
        for i, ty in enumerate(self.locals):
            w.do(f"%l{i} = alloca {LLVM_TYPE[ty]}")
        for i, (ty, value) in enumerate(zip(self.locals, values, strict=True)):
            w.do(f"store {LLVM_TYPE[ty]} {value}, ptr %l{i}")

    def local(self, index: int) -> str:
        """The value of a local."""
        if self.flow is not None:
            return self.values[index]
        return self.w.let(f"load {LLVM_TYPE[self.locals[index]]}, ptr %l{index}")

    def set_local(self, index: int, value: str) -> None:
        """Give a local a value."""
        ty = self.locals[index]
        value = flowing(self.w, ty, value)
        if self.flow is None:
            self.w.do(f"store {LLVM_TYPE[ty]} {value}, ptr %l{index}")
        else:
            self.values[index] = value
            self._kept = len(self.w.lines)

    def merged(self, position: int) -> tuple[int, ...]:
        """The locals that may meet with different values at the label of a block."""
        return () if self.flow is None else self.flow.merged.get(position, ())

    def leaving(self, position: int) -> tuple[int, ...]:
        """The locals that a loop sets and that matter after it."""
        return () if self.flow is None else self.flow.after[position]

    def join(
        self, types: Sequence[ValType], merged: Sequence[int], incoming: list[tuple[list[str], str]]
    ) -> list[str]:
        """The values at a label that was just written, of operands of these types and of locals.

        Returns:
            The operands; the locals are as they are from here on.
        """
        w, results = self.w, []
        kinds = [*types, *(self.locals[i] for i in merged)]
        for i, ty in enumerate(kinds):
            value = incoming[0][0][i]
            for values, _ in incoming:
                if values[i] != value:
                    edges = ", ".join([f"[ {values[i]}, %{at} ]" for values, at in incoming])
                    value = w.let(f"phi {LLVM_TYPE[ty]} {edges}")
                    break
            results.append(value)
        count = len(types)
        for i, value in zip(merged, results[count:], strict=True):
            self.values[i] = value
        self._budget += len(merged)
        return results[:count]

    # -- operands --------------------------------------------------------------------------------

    def pop(self, count: int) -> list[str]:
        if count == 0:
            return []
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def condition(self) -> str:
        """Pop an i32 and give it as i1; a comparison just made is used as it is."""
        value = self.stack.pop()
        return self.flag(value) or self.w.let(f"icmp ne i32 {value}, 0")

    def flag(self, value: str) -> str:
        """What a popped i32 was just made of as i1, or nothing; the i32 is not written then."""
        lines = self.w.lines
        extended = f"  {value} = zext i1 "
        if not lines[-1].startswith(extended):
            return ""
        found = lines[-1][len(extended) : -len(" to i32")]
        if len(lines) != self._kept:
            lines.pop()
        return found

    # -- blocks ----------------------------------------------------------------------------------

    def open_block(self, kind: str, ty: FuncType) -> Block:
        """Begin a forward block."""
        label = self.w.new_label("end")
        height = len(self.stack) - len(ty.params)
        block = Block(kind, label, ty, height, self.merged(self.position))
        self.blocks.append(block)
        return block

    def begin_loop_check(self) -> None:
        """Called before what chooses between the versions of a loop."""

    def begin_version(self, plain: bool, guard: Guard) -> None:
        """From here on a loop is lowered whose accesses can not trap, or one where they may."""
        self.keep_load = not plain
        self._around, self._needs_fence = len(self.blocks), plain and guard.has_stores

    @property
    def is_version(self) -> bool:
        """Whether a loop is being lowered that has another version."""
        return self._around is not None

    def end_versions(self) -> None:
        self._around, self._needs_fence = None, False

    def leaves_stores(self, depth: int) -> bool:
        """Whether a branch leads out of a loop whose stores LLVM thinks nobody waits for."""
        around = self._around
        return self._needs_fence and around is not None and len(self.blocks) - 1 - depth < around

    def back_edge(self, depth: int) -> str:
        """What to say of a branch: the exact version of a loop is seldom run, and stays small."""
        if self.keep_load and self._around == len(self.blocks) - 1 - depth:
            return f", {SELDOM_RUN}"
        return ""

    def begin_loop(self, block: Block, entry: list[str]) -> None:
        """Write a loop's label, with room for its phi nodes."""
        w, label = self.w, block.label
        self._edge(block, entry)
        w.do(f"br label %{label}")
        w.label(label)
        block.phi_names = [w.reserve_value() for _ in (*entry, *block.merged)]
        block.phis = [w.reserve() for _ in block.phi_names]
        self.stack.extend(block.phi_names[: len(entry)])
        for i, name in zip(block.merged, block.phi_names[len(entry) :], strict=True):
            self.values[i] = name
        self._budget += len(block.merged)

    def end_loop(self, block: Block) -> None:
        """Fill in the phi nodes; all branches to the loop are known."""
        types = [*block.type.params, *(self.locals[i] for i in block.merged)]
        for i, (line, ty) in enumerate(zip(block.phis, types, strict=True)):
            edges = ", ".join([f"[ {values[i]}, %{at} ]" for values, at in block.incoming])
            self.w.fill(line, f"{block.phi_names[i]} = phi {LLVM_TYPE[ty]} {edges}")

    def at_loop(self, block: Block) -> None:
        """Called right after a loop's label and its parameters' places."""

    def safepoint(self) -> None:
        """Called where an iteration of a loop begins, its parameters on the operand stack."""

    def branch(self, depth: int) -> str:
        """Note an edge from here to a block's label and give the label."""
        block = self.blocks[-1 - depth]
        count = len(block.branch_types)
        self._edge_values += count
        if self._edge_values > self._budget:
            raise self._too_complex(self.body.end)
        values = self.stack[len(self.stack) - count :]
        given = zip(block.branch_types, values, strict=True)
        values = [flowing(self.w, ty, value) for ty, value in given]
        self._edge(block, values)
        return block.label

    def _edge(self, block: Block, operands: list[str]) -> None:
        values = self.values
        block.incoming.append(([*operands, *[values[i] for i in block.merged]], self.w.block))

    def fall_out(self, block: Block) -> None:
        """Go on after the end of a block that is left over its end."""
        self._edge(block, self.stack[len(self.stack) - len(block.type.results) :])
        self.w.do(f"br label %{block.label}")

    def place_label(self, block: Block) -> list[str]:
        """Begin a forward block's continuation; its results are phi nodes."""
        self.w.label(block.label)
        return self.join(block.type.results, block.merged, block.incoming)

    def do_return(self, values: list[str]) -> None:
        give(self.w, self.type, values, "%vm")

    def call(self, ty: FuncType, callee: str, context: str, entry: str = "") -> None:
        """Call with the arguments on the stack; ``entry`` for a callee reached by a pointer."""
        w = self.w
        given = zip(ty.params, self.pop(len(ty.params)), strict=True)
        listed = arguments(w, ty, [flowing(w, t, value) for t, value in given], context)
        nest = ""
        if entry:
            nest, context = f"ptr nest {entry}, ", self._pointed_context(context)
        result = native_result(ty)
        text = f"fastcc {result} {callee}({nest}ptr swiftself {context}{listed})"
        returned = self.guest_call(text, result != "void")
        self.stack.extend(results(w, ty, returned, "%vm"))

    def _pointed_context(self, context: str) -> str:
        """The context for a call through a pointer, which may come back with another in its place.

        What ``opaque`` does takes the quick generator as long as twenty other instructions: inline
        assembly is the other one's affair. But it takes what was loaded for a value of its own.
        """
        if not self.quick:
            return opaque(self.w, context)
        return self.own_load(self.w.field("%vm", VMContext.SELF)) if context == "%vm" else context

    def own_load(self, place: str) -> str:
        """A pointer that LLVM takes for another than any it has."""
        return self.w.let(f"load volatile ptr, ptr {place}")

    def guest_call(self, call: str, returns: bool) -> str:
        """A call whose arguments are popped; as ``may_throw``."""
        return self.may_throw(call, returns)

    def may_throw(self, call: str, returns: bool) -> str:
        """A call that may end by an exception; the name of what it returned.

        Args:
            call: what follows the word ``call``.
            returns: whether it returns a value.
        """
        if self.tries:
            around = self.tries[-1]
            around.is_landed = True
            after = self.w.new_label("back")
            text = f"invoke {call} to label %{after} unwind label %{around.pad}"
            value = ""
            if returns:
                value = self.w.let(text)
            else:
                self.w.do(text)
            self.w.label(after)
            return value
        # Not even the last call may become a jump: endless recursion must use up the stack.
        text = f"notail call {call}"
        if returns:
            return self.w.let(text)
        self.w.do(text)
        return ""


_ZERO = {
    ValType.I32: "0",
    ValType.I64: "0",
    ValType.F32: float_immediate(ValType.F32, 0),
    ValType.F64: float_immediate(ValType.F64, 0),
    ValType.V128: "zeroinitializer",
}

# --- parametric and local -----------------------------------------------------------------------


@handler("drop")
def _drop(f: Lowering, row: Opcode, immediate: object) -> None:
    f.stack.pop()


@handler("local.get")
def _local_get(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    f.stack.append(f.local(immediate))


@handler("local.set")
def _local_set(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    f.set_local(immediate, f.stack.pop())


@handler("local.tee")
def _local_tee(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    f.set_local(immediate, f.stack[-1])


@handler("const")
def _const(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    assert row.results is not None
    ty = row.results[0]
    is_float = ty in (ValType.F32, ValType.F64)
    f.stack.append(float_immediate(ty, immediate) if is_float else str(immediate))


@handler("select")
def _select(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, tuple)
    t = LLVM_TYPE[immediate[0]]
    condition = f.condition()
    first, second = (flowing(f.w, immediate[0], value) for value in f.pop(2))
    # Who wrote a select meant one: without the mark LLVM turns many back into branches.
    chosen = f"select i1 {condition}, {t} {first}, {t} {second}, {UNPREDICTABLE}"
    f.stack.append(f.w.let(chosen))


# --- everything else comes from the tables of meanings ------------------------------------------

_UNTYPED_OPERANDS = {
    "global.get": 0,
    "global.set": 1,
    "table.get": 1,
    "table.set": 2,
    "table.grow": 2,
    "table.fill": 3,
    "ref.null": 0,
    "ref.is_null": 1,
    "ref.func": 0,
    "ref.as_non_null": 1,
}


def _numeric(f: Lowering, row: Opcode, immediate: object) -> None:
    assert row.params is not None
    operands = arithmetic_operands(f.w, row, f.pop(len(row.params)))
    f.stack.append(MEANINGS[row.meaning[0]](f.w, row, operands))


_PAIRS = {
    "icmp": ["eq ne", "slt sge", "sgt sle", "ult uge", "ugt ule"],
    "fcmp": ["oeq une", "olt uge", "ogt ule", "ole ugt", "oge ult"],
}
_OPPOSITE = {
    (kind, first): second
    for kind, pairs in _PAIRS.items()
    for pair in pairs
    for first, second in (pair.split(), pair.split()[::-1])
}


def _lanes(f: Lowering, row: Opcode, immediate: object) -> None:
    assert row.params is not None
    operands = f.pop(len(row.params))
    f.stack.append(LANE_MEANINGS[row.meaning[0]](f.w, row, immediate, operands))


def _stateful(f: Lowering, row: Opcode, immediate: object) -> None:
    count = _UNTYPED_OPERANDS[row.meaning[0]] if row.params is None else len(row.params)
    f.stack.extend(STATE_MEANINGS[row.meaning[0]](f, row, immediate, f.pop(count)))


def _eqz(f: Lowering, row: Opcode, immediate: object) -> None:
    """Of a comparison just made: the opposite one."""
    value, w = f.stack[-1], f.w
    flag = f.flag(value)
    if not flag:
        _numeric(f, row, immediate)
        return
    f.stack.pop()
    comparison = w.lines[-1].split(" ", 6)  # two spaces, name, =, icmp or fcmp, how, the rest
    opposite = _OPPOSITE.get((comparison[4], comparison[5])) if comparison[2] == flag else None
    if opposite is not None:
        comparison[5] = opposite
        w.lines[-1] = " ".join(comparison)
    else:
        flag = w.let(f"xor i1 {flag}, true")
    f.stack.append(as_i32(w, flag))


HANDLERS.update(dict.fromkeys(MEANINGS, _numeric))
HANDLERS["eqz"] = _eqz
HANDLERS.update(dict.fromkeys(LANE_MEANINGS, _lanes))
HANDLERS.update(dict.fromkeys(STATE_MEANINGS, _stateful))

_missing = [row.name for row in ROWS if row.meaning[0] not in HANDLERS]
if _missing:
    raise ValueError(f"instructions without a meaning: {', '.join(_missing)}")


def lower_function(
    module: ParsedModule,
    layout: VMLayout,
    places: Mapping[int, int],
    index: int,
    body: Body,
    unit: Container[int] | None = None,
    quick: bool = False,
) -> str:
    """The LLVM IR text of one validated function.

    Args:
        module: the module it belongs to.
        layout: of the module's VMContext.
        places: which FuncRef belongs to a function that can be reached by reference.
        index: the function's index, imports first.
        body: its decoded body, after validation.
        unit: the functions that are compiled together; None for the whole module.
        quick: for LLVM's quick code generator: no loop is lowered twice, since nothing vectorises
            it, and calls go without what that generator can not select.

    Returns:
        One ``define``; it refers to other functions by ``native_name``.

    Raises:
        Invalid: it would become far more IR than its size explains.
    """
    return Lowering(module, layout, places, index, body, unit, quick).run()
