"""One function to LLVM IR with operands as SSA values: the LLVM tiers' view of the table.

Owns control flow, calls, locals and the operand stack. Trusts validation: a function that was not
validated must not come here. Never recurses on nesting.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from functools import cached_property

# For the meanings and handlers that they register.
import wasinn_runtime.lower.atomics
import wasinn_runtime.lower.ssa_calls  # noqa: F401
from wasinn_runtime.abi.layout import VMContext, VMLayout
from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import Catch, ParsedModule
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
from wasinn_runtime.lower.guards import guarded_loops
from wasinn_runtime.lower.handlers import HANDLERS, handler
from wasinn_runtime.lower.meanings import MEANINGS, float_immediate
from wasinn_runtime.lower.opaque import arithmetic_operands, flowing
from wasinn_runtime.lower.simd import LANE_MEANINGS
from wasinn_runtime.lower.ssa_exceptions import Try, end_try, end_try_table
from wasinn_runtime.lower.ssa_guards import FENCE, lower_guarded
from wasinn_runtime.lower.state import STATE_MEANINGS
from wasinn_runtime.lower.writer import (
    INVARIANT,
    LLVM_TYPE,
    SELDOM_RUN,
    UNPREDICTABLE,
    FunctionWriter,
)
from wasinn_runtime.spec.opcodes import ROWS, Opcode
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import FuncType, ValType

__all__ = ["Block", "Lowering", "lower_function", "native_name"]

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


@dataclass(slots=True)
class Block:
    """A control frame: ``incoming`` are the branches to its label, one entry an edge."""

    kind: str
    label: str
    type: FuncType
    height: int
    incoming: list[tuple[list[str], str]] = field(default_factory=list)
    phis: list[int] = field(default_factory=list)
    phi_names: list[str] = field(default_factory=list)
    else_label: str = ""
    else_values: list[str] = field(default_factory=list)
    # Of tries: the clauses of a try_table; the exception that a catch has, and where those go
    # that it does not take.
    clauses: tuple[Catch, ...] = ()
    cell: str | None = None
    other: str = ""

    @property
    def branch_types(self) -> tuple[ValType, ...]:
        return self.type.params if self.kind == "loop" else self.type.results


class Lowering:
    """The state while one function is written. Implements ``lower.state.Frame``."""

    def __init__(
        self,
        module: ParsedModule,
        layout: VMLayout,
        places: Mapping[int, int],
        index: int,
        body: Body,
        unit: Container[int] | None,
        vectorised: bool = True,
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
        self._guards = guarded_loops(module, self.locals, body) if vectorised else {}
        self.makes_tail_calls = False
        self.tries: list[Try] = []
        self.has_pads = False
        context = f"ptr nonnull swiftself align 16 dereferenceable({layout.total_bytes}) %vm"
        self._signature = f"({context}{native_params(self.type)})"
        self.w = FunctionWriter(
            f"define internal fastcc {native_result(self.type)} @{native_name(index)}"
            f"{self._signature} #0"
        )

    # -- services of Frame -----------------------------------------------------------------------

    def memory_base(self, index: int) -> str:
        return self._bases[index]

    @cached_property
    def rethrows(self) -> bool:
        """Whether a catch may throw its exception again."""
        return any(row.meaning[0] == "rethrow" for row, _, _ in self.body.instructions)

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
        instructions, lines = self.body.instructions, self.w.lines
        while position < stop:
            row, immediate, at = instructions[position]
            family = row.meaning[0]
            if len(lines) + self._edge_values > self._budget:
                raise self._too_complex(at)
            if not self.reachable:
                position = self._skip_dead(position)
                continue
            self.position = position
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
        for i, ty in enumerate(self.locals):
            w.do(f"%l{i} = alloca {LLVM_TYPE[ty]}")
        for i, ty in enumerate(self.locals):
            value = values[i] if i < len(values) else _ZERO.get(ty, "null")
            w.do(f"store {LLVM_TYPE[ty]} {value}, ptr %l{i}")
        for i in range(len(self.module.memories)):
            place = self.layout.memory(i) + VMContext.RESOURCE_BASE
            self._bases[i] = w.load_field("%vm", place, "ptr", INVARIANT)

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
        words = self.w.lines[-1].split()
        if len(words) == 7 and words[0] == value and words[2:4] == ["zext", "i1"]:
            return words[4]
        return self.w.let(f"icmp ne i32 {value}, 0")

    # -- blocks ----------------------------------------------------------------------------------

    def open_block(self, kind: str, ty: FuncType) -> Block:
        """Begin a forward block."""
        label = self.w.new_label("end")
        block = Block(kind, label, ty, len(self.stack) - len(ty.params))
        self.blocks.append(block)
        return block

    def begin_loop_check(self) -> None:
        """Begin what chooses between the versions of a loop; here it is entered from outside."""
        check = Block("loop", self.w.new_label("check"), FuncType((), ()), len(self.stack))
        self.w.do(f"br label %{check.label}")
        self.w.label(check.label)
        self.at_loop(check)

    def begin_version(self, plain: bool, has_stores: bool) -> None:
        """From here on a loop is lowered whose accesses can not trap, or one where they may."""
        self.keep_load = not plain
        self._around, self._needs_fence = len(self.blocks), plain and has_stores

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

    def at_loop(self, block: Block) -> None:
        """Called right after a loop's label and its parameters' places."""

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
        block.incoming.append((values, self.w.block))
        return block.label

    def place_label(self, block: Block) -> list[str]:
        """Begin a forward block's continuation; its results are phi nodes."""
        self.w.label(block.label)
        results = []
        for i, ty in enumerate(block.type.results):
            edges = ", ".join(f"[ {values[i]}, %{at} ]" for values, at in block.incoming)
            results.append(self.w.let(f"phi {LLVM_TYPE[ty]} {edges}"))
        return results

    def do_return(self, values: list[str]) -> None:
        give(self.w, self.type, values, "%vm")

    def call(self, ty: FuncType, callee: str, context: str, entry: str = "") -> None:
        """Call with the arguments on the stack; ``entry`` for a callee reached by a pointer."""
        w = self.w
        given = zip(ty.params, self.pop(len(ty.params)), strict=True)
        listed = arguments(w, ty, [flowing(w, t, value) for t, value in given], context)
        nest = ""
        if entry:
            nest, context = f"ptr nest {entry}, ", opaque(w, context)
        result = native_result(ty)
        text = f"fastcc {result} {callee}({nest}ptr swiftself {context}{listed})"
        returned = self.may_throw(text, result != "void")
        self.stack.extend(results(w, ty, returned, "%vm"))

    def may_throw(self, call: str, returns: bool) -> str:
        """A call of guest code; the name of what it returned.

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
    ValType.F32: "0.0",
    ValType.F64: "0.0",
    ValType.V128: "zeroinitializer",
}

# --- blocks and branches ------------------------------------------------------------------------


@handler("block")
def _block(f: Lowering, row: Opcode, immediate: object) -> None:
    f.open_block("block", f.module.block_type(immediate))


@handler("loop")
def _loop(f: Lowering, row: Opcode, immediate: object) -> None:
    w, ty = f.w, f.module.block_type(immediate)
    entry = f.pop(len(ty.params))
    block = Block("loop", w.new_label("loop"), ty, len(f.stack))
    block.incoming.append((entry, w.block))
    w.do(f"br label %{block.label}")
    w.label(block.label)
    for i in range(len(ty.params)):
        block.phis.append(w.reserve())
        name = f"%{block.label}.{i}"
        block.phi_names.append(name)
        f.stack.append(name)
    f.blocks.append(block)
    if not f.is_version:
        f.at_loop(block)


@handler("if")
def _if(f: Lowering, row: Opcode, immediate: object) -> None:
    w, ty = f.w, f.module.block_type(immediate)
    condition = f.condition()
    params = f.stack[len(f.stack) - len(ty.params) :]
    then = w.new_label("then")
    block = Block("if", w.new_label("end"), ty, len(f.stack) - len(ty.params))
    block.else_label, block.else_values = w.new_label("else"), params
    w.do(f"br i1 {condition}, label %{then}, label %{block.else_label}")
    w.label(then)
    f.blocks.append(block)


@handler("else")
def _else(f: Lowering, row: Opcode, immediate: object) -> None:
    block = f.blocks[-1]
    if f.reachable:
        f.w.do(f"br label %{f.branch(0)}")
    del f.stack[block.height :]
    f.stack.extend(block.else_values)
    f.w.label(block.else_label)
    block.kind, block.else_label = "else", ""
    f.reachable = True


_TRIES = {"try_table": end_try_table, "try": end_try, "catch": end_try}


@handler("end")
def _end(f: Lowering, row: Opcode, immediate: object) -> None:
    w, block = f.w, f.blocks[-1]
    if block.kind in _TRIES:
        _TRIES[block.kind](f)
        return
    if block.kind == "loop":
        f.blocks.pop()
        for i, (line, ty) in enumerate(zip(block.phis, block.type.params, strict=True)):
            edges = ", ".join(f"[ {values[i]}, %{at} ]" for values, at in block.incoming)
            w.fill(line, f"{block.phi_names[i]} = phi {LLVM_TYPE[ty]} {edges}")
        return
    if block.kind == "if":  # no else: the parameters are the results
        if f.reachable:
            w.do(f"br label %{f.branch(0)}")
        w.label(block.else_label)
        del f.stack[block.height :]
        f.stack.extend(block.else_values)
        f.reachable = True
    f.blocks.pop()
    count = len(block.type.results)
    if not block.incoming and f.reachable:  # nobody branches here: fall through
        if block.kind == "func":
            f.do_return(f.pop(count))
            f.reachable = False
        return
    if f.reachable:
        block.incoming.append((f.stack[len(f.stack) - count :], w.block))
        w.do(f"br label %{block.label}")
    del f.stack[block.height :]
    f.reachable = bool(block.incoming)
    if f.reachable:
        f.stack.extend(f.place_label(block))
        if block.kind == "func":
            f.do_return(f.pop(count))
            f.reachable = False


@handler("br")
def _br(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    if f.leaves_stores(immediate):
        f.w.do(FENCE)
    f.w.do(f"br label %{f.branch(immediate)}{f.back_edge(immediate)}")
    f.reachable = False


@handler("br_if")
def _br_if(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    condition = f.condition()
    after = f.w.new_label("next")
    if f.leaves_stores(immediate):
        leaving = f.w.new_label("leave")
        f.w.do(f"br i1 {condition}, label %{leaving}, label %{after}")
        f.w.label(leaving)
        f.w.do(FENCE)
        f.w.do(f"br label %{f.branch(immediate)}")
    else:
        back = f.back_edge(immediate)
        f.w.do(f"br i1 {condition}, label %{f.branch(immediate)}, label %{after}{back}")
    f.w.label(after)


@handler("br_table")
def _br_table(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, tuple)
    labels, default = immediate
    value = f.stack.pop()
    target = f.branch(default)
    cases = " ".join(f"i32 {i}, label %{f.branch(depth)}" for i, depth in enumerate(labels))
    f.w.do(f"switch i32 {value}, label %{target} [ {cases} ]")
    f.reachable = False


@handler("return")
def _return(f: Lowering, row: Opcode, immediate: object) -> None:
    f.do_return(f.stack[len(f.stack) - len(f.type.results) :])
    f.reachable = False


@handler("unreachable")
def _unreachable(f: Lowering, row: Opcode, immediate: object) -> None:
    f.w.trap(TrapCode.UNREACHABLE)
    f.reachable = False


@handler("nop")
def _nop(f: Lowering, row: Opcode, immediate: object) -> None:
    pass


# --- parametric and local -----------------------------------------------------------------------


@handler("drop")
def _drop(f: Lowering, row: Opcode, immediate: object) -> None:
    f.stack.pop()


@handler("local.get")
def _local_get(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    f.stack.append(f.w.let(f"load {LLVM_TYPE[f.locals[immediate]]}, ptr %l{immediate}"))


@handler("local.set")
def _local_set(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    ty = f.locals[immediate]
    value = flowing(f.w, ty, f.stack.pop())
    f.w.do(f"store {LLVM_TYPE[ty]} {value}, ptr %l{immediate}")


@handler("local.tee")
def _local_tee(f: Lowering, row: Opcode, immediate: object) -> None:
    assert isinstance(immediate, int)
    ty = f.locals[immediate]
    f.w.do(f"store {LLVM_TYPE[ty]} {flowing(f.w, ty, f.stack[-1])}, ptr %l{immediate}")


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


def _lanes(f: Lowering, row: Opcode, immediate: object) -> None:
    assert row.params is not None
    operands = f.pop(len(row.params))
    f.stack.append(LANE_MEANINGS[row.meaning[0]](f.w, row, immediate, operands))


def _stateful(f: Lowering, row: Opcode, immediate: object) -> None:
    count = _UNTYPED_OPERANDS[row.meaning[0]] if row.params is None else len(row.params)
    f.stack.extend(STATE_MEANINGS[row.meaning[0]](f, row, immediate, f.pop(count)))


HANDLERS.update(dict.fromkeys(MEANINGS, _numeric))
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
    vectorised: bool = True,
) -> str:
    """The LLVM IR text of one validated function.

    Args:
        module: the module it belongs to.
        layout: of the module's VMContext.
        places: which FuncRef belongs to a function that can be reached by reference.
        index: the function's index, imports first.
        body: its decoded body, after validation.
        unit: the functions that are compiled together; None for the whole module.
        vectorised: LLVM will vectorise loops, so that it is worth to lower some of them twice.

    Returns:
        One ``define``; it refers to other functions by ``native_name``.

    Raises:
        Invalid: it would become far more IR than its size explains.
    """
    return Lowering(module, layout, places, index, body, unit, vectorised).run()
