"""Validates one function body: types on the operand stack and the indices of instructions.

The algorithm is that of the specification's appendix. Rows of the opcode table with a fixed
signature are driven by that signature alone; the other families have one method each. A
marker lies on the operand stack at the base of every block, so that the fast path compares
types and nothing else: what is not the expected type, also the end of the block's part of
the stack, is looked at by ``_pop``. Blocks nest without recursion.

Source: WebAssembly core specification 2.0, appendix A.3 and section 3.3.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, overload

from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import Catch, ParsedModule
from wasinn_runtime.errors import Invalid
from wasinn_runtime.spec.opcodes import ROWS, Imm, Opcode
from wasinn_runtime.spec.types import (
    FuncType,
    Heap,
    MemoryType,
    RefType,
    TableType,
    ValType,
    matches,
    ref_type,
)

__all__ = ["FunctionValidator", "local_types"]


class _Mark(enum.Enum):
    """What lies on the operand stack beside types."""

    BASE = "nothing"
    UNKNOWN = "any type"


_BASE = _Mark.BASE
_UNKNOWN = _Mark.UNKNOWN
_I32 = ValType.I32
_I64 = ValType.I64
_EXN = ref_type(False, Heap.EXN)
# What a reference is, of which nothing is known: it goes wherever a reference may go.
_ANY_REF = ref_type(False, Heap.BOTTOM)
_Cell = ValType | _Mark
_Types = tuple[ValType, ...]


class _Frame:
    """An open block.

    Attributes:
        row: what opened it, or this part of it; None for the function itself.
        start, end: the types that the block takes and leaves.
        base: where its mark lies on the operand stack.
        initialised: how many locals without a default were set when it began.
        unreachable: whether the rest of the block can not be reached.
    """

    __slots__ = ("base", "end", "initialised", "row", "start", "unreachable")

    def __init__(
        self, row: Opcode | None, start: _Types, end: _Types, base: int, initialised: int
    ) -> None:
        self.initialised = initialised
        self.row = row
        self.start = start
        self.end = end
        self.base = base
        self.unreachable = False

    @property
    def label(self) -> _Types:
        """The types that a branch to the block carries."""
        return self.start if self.row is not None and self.row.name == "loop" else self.end

    @property
    def name(self) -> str:
        return "the function" if self.row is None else self.row.name


class _Runs(Sequence[ValType]):
    """Types of very many locals, kept as the runs that the module declares."""

    def __init__(self, params: _Types, runs: list[tuple[int, ValType]]) -> None:
        self._types = list(params)
        self._ends = list(range(1, len(params) + 1))
        total = len(params)
        for count, type_ in runs:
            total += count
            self._types.append(type_)
            self._ends.append(total)
        self._total = total

    def __len__(self) -> int:
        return self._total

    @overload
    def __getitem__(self, index: int) -> ValType: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ValType]: ...
    def __getitem__(self, index: int | slice) -> ValType | Sequence[ValType]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._total))]
        return self._types[bisect_right(self._ends, index)]


# A list of all locals is made for up to this many; a file of many functions that each
# declare the most locals must not cost time that its size does not warrant.
_FEW_LOCALS = 500


def local_types(params: _Types, runs: list[tuple[int, ValType]]) -> Sequence[ValType]:
    """The types of all locals, parameters first; in memory that the module's size warrants."""
    if sum(count for count, _ in runs) > _FEW_LOCALS:
        return _Runs(params, runs)
    types = list(params)
    for count, type_ in runs:
        types.extend([type_] * count)
    return types


# How the main loop treats a row; the numbers follow how often code needs them.
_GET, _PUSH, _UNARY, _BINARY, _SET, _TEE, _LOAD, _STORE, _FAMILY = range(9)
_SIMPLE = {Imm.NONE, Imm.I32, Imm.I64, Imm.F32, Imm.F64, Imm.V128}
# kind, operand types (deepest first) and result as far as the kind has them, alignment in log2
_Plan = tuple[int, Any, Any, Any, int]


def _plan(row: Opcode) -> _Plan:
    by_name = {"local.get": _GET, "local.set": _SET, "local.tee": _TEE}
    if row.name in by_name:
        return by_name[row.name], None, None, None, 0
    params, results = row.params, row.results
    if params is None or results is None:
        return _FAMILY, None, None, None, 0
    natural = row.access_bytes.bit_length() - 1
    shape = (len(params), len(results))
    if row.imm is Imm.MEMARG and row.feature != "threads":
        if shape == (1, 1):
            return _LOAD, params[0], None, results[0], natural
        if shape == (2, 0):
            return _STORE, params[0], params[1], None, natural
    if row.imm in _SIMPLE:
        if shape == (0, 1):
            return _PUSH, None, None, results[0], 0
        if shape == (1, 1):
            return _UNARY, params[0], None, results[0], 0
        if shape == (2, 1):
            return _BINARY, params[0], params[1], results[0], 0
    return _FAMILY, None, None, None, natural


_PLANS: dict[Opcode, _Plan] = {row: _plan(row) for row in ROWS}
# For functions with locals that have no default: whoever reads one, or sets it, is looked at.
_CAREFUL_PLANS: dict[Opcode, _Plan] = {
    row: (_FAMILY, None, None, None, 0) if plan[0] in (_GET, _SET, _TEE) else plan
    for row, plan in _PLANS.items()
}


def _show(types: Sequence[object]) -> str:
    return "[" + " ".join(str(getattr(t, "value", t)) for t in types) + "]"


class FunctionValidator:
    """Checks one body; made for it, used once.

    Args:
        module: must have passed the checks of its sections.
        function: index among all functions, imports included.
        body: the decoded body.
    """

    def __init__(self, module: ParsedModule, function: int, body: Body) -> None:
        self.module = module
        self.function = function
        self.body = body
        type_ = module.func_type(function)
        self.locals = local_types(type_.params, body.locals)
        self.parameters = len(type_.params)
        # Of the locals without a default, those that have a value here, and in which order.
        self.initialised: dict[int, None] = {}
        self.stack: list[_Cell] = [_BASE]
        self.frames = [_Frame(None, (), type_.results, 0, 0)]
        # The instruction at hand, for messages; kept only where something can fail.
        self.row = body.instructions[-1][0]
        self.at = body.start

    def run(self) -> None:
        """Checks all of it.

        Raises:
            Invalid: with the function's label and the instruction's offset.
        """
        stack = self.stack
        push = stack.append
        pop = stack.pop
        has_defaults = all(type_.is_defaultable for _, type_ in self.body.locals)
        plans = _PLANS if has_defaults else _CAREFUL_PLANS
        families = _FAMILIES
        local_types = self.locals
        local_count = len(local_types)
        memories = len(self.module.memories)
        # The type of addresses, unless memories differ in it.
        addresses = {memory.address for memory in self.module.memories}
        address = addresses.pop() if len(addresses) == 1 else None
        instructions: list[tuple[Opcode, Any, int]] = self.body.instructions
        for row, imm, at in instructions:
            kind, first, second, result, natural = plans[row]
            if kind == _FAMILY:
                self.row = row
                self.at = at
                families[row](self, imm)
            elif kind == _GET:
                if imm >= local_count:
                    self._no_local(row, imm, at)
                push(local_types[imm])
            elif kind == _PUSH:
                push(result)
            elif kind == _BINARY:
                if stack[-1] is second and stack[-2] is first:
                    pop()
                    stack[-1] = result
                else:
                    self._typed(row, at)
            elif kind == _UNARY:
                if stack[-1] is first:
                    stack[-1] = result
                else:
                    self._typed(row, at)
            elif kind == _SET:
                if imm >= local_count:
                    self._no_local(row, imm, at)
                if stack[-1] is local_types[imm]:
                    pop()
                else:
                    self.row = row
                    self.at = at
                    self._pop(local_types[imm])
            elif kind == _TEE:
                if imm >= local_count:
                    self._no_local(row, imm, at)
                if stack[-1] is not local_types[imm]:
                    self.row = row
                    self.at = at
                    self._pop(local_types[imm])
                    push(local_types[imm])
            else:
                if imm[2] >= memories or imm[0] > natural:
                    self._memory_access(row, imm, at)
                if kind == _LOAD:
                    if stack[-1] is address:
                        stack[-1] = result
                    else:
                        self._access(row, imm, at)
                elif stack[-1] is second and stack[-2] is address:
                    del stack[-2:]
                else:
                    self._access(row, imm, at)

    # --- failing ---------------------------------------------------------------------------------

    def _invalid(self, message: str) -> Invalid:
        label = self.module.function_label(self.function)
        return Invalid(message, self.at, self.module.where, label)

    def _no_local(self, row: Opcode, index: object, at: int) -> None:
        self.at = at
        raise self._invalid(f"unknown local {index}: {row.name}, {len(self.locals)} locals")

    def _memory_access(self, row: Opcode, imm: tuple[int, ...], at: int) -> None:
        self.at = at
        self.row = row
        self._memory(imm[2])
        raise self._invalid(
            f"alignment must not be larger than natural: {row.name} of {row.access_bytes} bytes, "
            f"alignment 2**{imm[0]}"
        )

    def _mismatch(self, expected: object, got: object, what: str = "") -> Invalid:
        return self._invalid(
            f"type mismatch: {what or self.row.name} expected {expected}, got {got}"
        )

    def _index(self, what: str, index: object, count: int) -> int:
        """An index that must be below ``count``."""
        assert isinstance(index, int)
        if index >= count:
            there = f"there are {count}" if count else "there is none"
            raise self._invalid(f"unknown {what} {index}: {self.row.name}, {there}")
        return index

    def _memory(self, index: object) -> MemoryType:
        return self.module.memories[self._index("memory", index, len(self.module.memories))]

    # --- the operand stack -----------------------------------------------------------------------

    def _pop_any(self, expected: object = "a value", what: str = "") -> ValType | _Mark:
        top = self.stack[-1]
        if top is not _BASE:
            return self.stack.pop()
        if self.frames[-1].unreachable:
            return _UNKNOWN
        raise self._mismatch(expected, "nothing", what)

    def _pop(self, expected: ValType, what: str = "") -> _Cell:
        got = self._pop_any(expected, what)
        if got is expected or got is _UNKNOWN:
            return got
        if not (isinstance(got, RefType) and matches(got, expected)):
            raise self._mismatch(expected, got, what)
        return got

    def _pop_all(self, types: _Types, what: str = "") -> None:
        count = len(types)
        stack = self.stack
        if count == 0:
            return
        if tuple(stack[-count:]) == types:
            del stack[-count:]
            return
        for type_ in reversed(types):
            self._pop(type_, what)

    def _peek_all(self, types: _Types) -> None:
        """Pops, and pushes what was there again: an unknown type stays unknown."""
        count = len(types)
        if count == 0 or tuple(self.stack[-count:]) == types:
            return
        popped = [self._pop(type_) for type_ in reversed(types)]
        self.stack.extend(reversed(popped))

    def _typed(self, row: Opcode, at: int) -> None:
        """A row with a signature, where the fast path has not found what it expects."""
        self.row = row
        self.at = at
        assert row.params is not None
        assert row.results is not None
        self._pop_all(row.params)
        self.stack.extend(row.results)

    def _access(self, row: Opcode, imm: tuple[int, ...], at: int) -> None:
        """A load or store; the address is of the memory's type."""
        self.row = row
        self.at = at
        assert row.params is not None
        assert row.results is not None
        self._pop_all((self._memory(imm[2]).address, *row.params[1:]))
        self.stack.extend(row.results)

    def _unreachable(self, imm: object = None) -> None:
        frame = self.frames[-1]
        del self.stack[frame.base + 1 :]
        frame.unreachable = True

    # --- control ---------------------------------------------------------------------------------

    def _enter(self, imm: object) -> None:
        if isinstance(imm, int):
            self._index("type", imm, len(self.module.types))
        type_ = self.module.block_type(imm)
        if self.row.name == "if":
            self._pop(_I32)
        self._pop_all(type_.params)
        self._open(type_.params, type_.results)

    def _open(self, start: _Types, end: _Types) -> None:
        initialised = len(self.initialised)
        self.frames.append(_Frame(self.row, start, end, len(self.stack), initialised))
        self.stack.append(_BASE)
        self.stack.extend(start)

    def _close(self) -> _Frame:
        frame = self.frames[-1]
        self._pop_all(frame.end, f"end of {frame.name}")
        if self.stack[-1] is not _BASE:
            left = [*self.stack[frame.base + 1 :], *frame.end]
            raise self._mismatch(_show(frame.end), _show(left), f"end of {frame.name}")
        self.stack.pop()
        while len(self.initialised) > frame.initialised:
            self.initialised.popitem()
        return self.frames.pop()

    def _else(self, imm: object) -> None:
        frame = self._close()
        self._open(frame.start, frame.end)

    def _end(self, imm: object) -> None:
        frame = self._close()
        if frame.row is not None and frame.row.name == "if":
            self._fits(frame.start, frame.end, "if without else")
        self.stack.extend(frame.end)

    def _fits(self, types: _Types, into: _Types, what: str = "") -> None:
        """Whether all of one list may go where the other is expected."""
        if types != into and not (len(types) == len(into) and all(map(matches, types, into))):
            raise self._mismatch(_show(into), _show(types), what)

    def _label(self, depth: object) -> _Types:
        self._index("label", depth, len(self.frames))
        assert isinstance(depth, int)
        return self.frames[-1 - depth].label

    def _br(self, imm: object) -> None:
        self._pop_all(self._label(imm))
        self._unreachable()

    def _br_if(self, imm: object) -> None:
        self._pop(_I32)
        types = self._label(imm)
        self._pop_all(types)
        self.stack.extend(types)

    def _br_table(self, imm: object) -> None:
        assert isinstance(imm, tuple)
        labels, default = imm
        self._pop(_I32)
        expected = self._label(default)
        checked = {id(expected)}
        # Tables repeat their labels, and labels their types: look at each only once.
        for depth in dict.fromkeys(labels):
            types = self._label(depth)
            if id(types) in checked:
                continue
            checked.add(id(types))
            if len(types) != len(expected):
                raise self._mismatch(_show(expected), _show(types), f"br_table label {depth}")
            self._peek_all(types)
        self._pop_all(expected)
        self._unreachable()

    def _return(self, imm: object) -> None:
        self._pop_all(self.frames[0].end)
        self._unreachable()

    def _call(self, imm: object) -> None:
        type_ = self.module.func_type(self._index("function", imm, len(self.module.type_indices)))
        self._pop_all(type_.params, f"call of function {imm}")
        self.stack.extend(type_.results)

    def _tail_call(self, type_: FuncType, what: str = "") -> None:
        self._pop_all(type_.params, what)
        self._fits(type_.results, self.frames[0].end, what or f"results of {self.row.name}")
        self._unreachable()

    def _return_call(self, imm: object) -> None:
        type_ = self.module.func_type(self._index("function", imm, len(self.module.type_indices)))
        self._tail_call(type_, f"tail call of function {imm}")

    def _type(self, index: object) -> FuncType:
        return self.module.types[self._index("type", index, len(self.module.types))]

    def _indirect(self, imm: object) -> FuncType:
        assert isinstance(imm, tuple)
        type_index, index = imm
        table = self._table(index)
        type_ = self._type(type_index)
        if not matches(table.element, ValType.FUNCREF):
            raise self._mismatch("a table of funcref", table.element)
        self._pop(table.address)
        return type_

    def _call_indirect(self, imm: object) -> None:
        type_ = self._indirect(imm)
        self._pop_all(type_.params)
        self.stack.extend(type_.results)

    def _return_call_indirect(self, imm: object) -> None:
        self._tail_call(self._indirect(imm))

    def _call_ref(self, imm: object) -> None:
        type_ = self._type(imm)
        self._pop(ref_type(True, type_))
        self._pop_all(type_.params)
        self.stack.extend(type_.results)

    def _return_call_ref(self, imm: object) -> None:
        type_ = self._type(imm)
        self._pop(ref_type(True, type_))
        self._tail_call(type_)

    # --- exceptions ------------------------------------------------------------------------------

    def _tag(self, index: object) -> _Types:
        """What an exception of the tag carries."""
        tags = self.module.tag_indices
        return self.module.tag_type(self._index("tag", index, len(tags))).type.params

    def _throw(self, imm: object) -> None:
        self._pop_all(self._tag(imm))
        self._unreachable()

    def _throw_ref(self, imm: object) -> None:
        self._pop(ValType.EXNREF)
        self._unreachable()

    def _try_table(self, imm: object) -> None:
        assert isinstance(imm, tuple)
        block, clauses = imm
        # Equal clauses may come in any number.
        for clause in dict.fromkeys(clauses):
            self._clause(clause)
        self._enter(block)

    def _clause(self, clause: Catch) -> None:
        types = () if clause.tag is None else self._tag(clause.tag)
        if clause.with_ref:
            types = (*types, _EXN)
        self._fits(types, self._label(clause.label), f"label {clause.label} of a catch clause")

    def _catch(self, imm: object) -> None:
        carried = () if imm is None else self._tag(imm)
        frame = self._close()
        self._open(carried, frame.end)

    def _rethrow(self, imm: object) -> None:
        self._label(imm)
        assert isinstance(imm, int)
        row = self.frames[-1 - imm].row
        if row is None or row.meaning[0] not in ("catch", "catch_all"):
            raise self._invalid(f"invalid rethrow label {imm}: it is no catch")
        self._unreachable()

    def _delegate(self, imm: object) -> None:
        frame = self._close()
        self._label(imm)
        self.stack.extend(frame.end)

    # --- parametric, variables, references -----------------------------------------------------

    def _drop(self, imm: object) -> None:
        if self._pop_any() is ValType.V128:
            self.body.wide_drops.add(self.at)

    def _select(self, imm: object) -> None:
        self._pop(_I32)
        if imm is not None:
            assert isinstance(imm, tuple)
            if len(imm) != 1:
                raise self._invalid(f"invalid result arity: select of {len(imm)} types")
            self._pop(imm[0])
            self._pop(imm[0])
            self.stack.append(imm[0])
            return
        second = self._pop_any()
        first = self._pop_any(second.value)
        for type_ in (first, second):
            if isinstance(type_, RefType):
                raise self._mismatch("numbers, unless it names a type", type_)
        if first is not second and _UNKNOWN not in (first, second):
            raise self._mismatch(f"two values of one type, {first}", second)
        found = second if first is _UNKNOWN else first
        self.stack.append(found)
        if isinstance(found, ValType):
            self.body.select_types[self.at] = found

    def _global_get(self, imm: object) -> None:
        index = self._index("global", imm, len(self.module.globals_))
        self.stack.append(self.module.globals_[index].value)

    def _global_set(self, imm: object) -> None:
        type_ = self.module.globals_[self._index("global", imm, len(self.module.globals_))]
        if not type_.mutable:
            raise self._invalid(f"global is immutable: global.set of immutable global {imm}")
        self._pop(type_.value)

    def _no_local_value(self, index: int) -> bool:
        return (
            index >= self.parameters
            and not self.locals[index].is_defaultable
            and index not in self.initialised
        )

    def _local_index(self, imm: object) -> int:
        assert isinstance(imm, int)
        if imm >= len(self.locals):
            self._no_local(self.row, imm, self.at)
        return imm

    def _local_get(self, imm: object) -> None:
        index = self._local_index(imm)
        if self._no_local_value(index):
            raise self._invalid(
                f"uninitialized local {index}: {self.locals[index]} has no default; set it first, "
                "in this block or around it"
            )
        self.stack.append(self.locals[index])

    def _local_set(self, imm: object) -> None:
        index = self._local_index(imm)
        self._pop(self.locals[index])
        if self._no_local_value(index):
            self.initialised[index] = None

    def _local_tee(self, imm: object) -> None:
        self._local_set(imm)
        assert isinstance(imm, int)
        self.stack.append(self.locals[imm])

    def _ref_null(self, imm: object) -> None:
        assert isinstance(imm, RefType)
        self.stack.append(imm)

    def _pop_ref(self) -> RefType:
        got = self._pop_any("a reference")
        if got is _UNKNOWN:
            return _ANY_REF
        if not isinstance(got, RefType):
            raise self._mismatch("a reference", got)
        return got

    def _ref_is_null(self, imm: object) -> None:
        self._pop_ref()
        self.stack.append(_I32)

    def _ref_as_non_null(self, imm: object) -> None:
        self.stack.append(self._pop_ref().non_null)

    def _br_on_null(self, imm: object) -> None:
        got = self._pop_ref()
        types = self._label(imm)
        self._pop_all(types)
        self.stack.extend(types)
        self.stack.append(got.non_null)

    def _br_on_non_null(self, imm: object) -> None:
        got = self._pop_ref()
        types = self._label(imm)
        if not types:
            raise self._mismatch("a label that takes a reference", "one that takes nothing")
        self.stack.append(got.non_null)
        self._pop_all(types)
        self.stack.extend(types[:-1])

    def _ref_func(self, imm: object) -> None:
        index = self._index("function", imm, len(self.module.type_indices))
        if index not in self.module.declared_functions:
            raise self._invalid(
                f"undeclared function reference: function {index} is in no element segment, "
                "export or global"
            )
        is_typed = "function-references" in self.module.features
        type_ = ref_type(False, self.module.func_type(index)) if is_typed else ValType.FUNCREF
        self.stack.append(type_)

    # --- tables and memories ---------------------------------------------------------------------

    def _table(self, index: object) -> TableType:
        return self.module.tables[self._index("table", index, len(self.module.tables))]

    def _table_get(self, imm: object) -> None:
        table = self._table(imm)
        self._pop(table.address)
        self.stack.append(table.element)

    def _table_set(self, imm: object) -> None:
        table = self._table(imm)
        self._pop_all((table.address, table.element))

    def _table_size(self, imm: object) -> None:
        self.stack.append(self._table(imm).address)

    def _table_grow(self, imm: object) -> None:
        table = self._table(imm)
        self._pop_all((table.element, table.address))
        self.stack.append(table.address)

    def _table_fill(self, imm: object) -> None:
        table = self._table(imm)
        self._pop_all((table.address, table.element, table.address))

    def _table_copy(self, imm: object) -> None:
        assert isinstance(imm, tuple)
        into, source = map(self._table, imm)
        self._may_hold(into, source.element)
        self._pop_all((into.address, source.address, _smaller(into.address, source.address)))

    def _table_init(self, imm: object) -> None:
        assert isinstance(imm, tuple)
        into = self._table(imm[1])
        self._may_hold(into, self._elements(imm[0]))
        self._pop_all((into.address, _I32, _I32))

    def _may_hold(self, table: TableType, element: ValType) -> None:
        if not matches(element, table.element):
            raise self._mismatch(table.element, element)

    def _elem_drop(self, imm: object) -> None:
        self._elements(imm)

    def _elements(self, index: object) -> ValType:
        segments = self.module.elements
        return segments[self._index("elem segment", index, len(segments))].type

    def _data(self, index: object) -> None:
        self._index("data segment", index, self.module.data_count or 0)

    def _memory_size(self, imm: object) -> None:
        self.stack.append(self._memory(imm).address)

    def _memory_grow(self, imm: object) -> None:
        address = self._memory(imm).address
        self._pop(address)
        self.stack.append(address)

    def _memory_fill(self, imm: object) -> None:
        address = self._memory(imm).address
        self._pop_all((address, _I32, address))

    def _memory_copy(self, imm: object) -> None:
        assert isinstance(imm, tuple)
        into, source = (self._memory(index).address for index in imm)
        self._pop_all((into, source, _smaller(into, source)))

    def _memory_init(self, imm: object) -> None:
        assert isinstance(imm, tuple)
        address = self._memory(imm[1]).address
        self._data(imm[0])
        self._pop_all((address, _I32, _I32))

    def _atomic(self, imm: object) -> None:
        """An access of the threads proposal: its alignment is its size."""
        assert isinstance(imm, tuple)
        row = self.row
        self._memory(imm[2])
        if 1 << imm[0] != row.access_bytes:
            raise self._invalid(
                f"alignment must be natural: {row.name} of {row.access_bytes} bytes, "
                f"alignment 2**{imm[0]}"
            )
        self._access(row, imm, self.at)

    def _vector(self, imm: object) -> None:
        """Rows of vectors whose lanes must exist."""
        what = self.row.imm
        if what is Imm.LANE:
            self._lane(imm)
        elif what is Imm.LANES:
            assert isinstance(imm, tuple)
            self._lane(max(imm))
        elif what is Imm.MEMARG_LANE:
            assert isinstance(imm, tuple)
            if imm[0] > self.row.access_bytes.bit_length() - 1:
                self._memory_access(self.row, imm, self.at)
            self._lane(imm[3])
            self._access(self.row, imm, self.at)
            return
        self._typed(self.row, self.at)

    def _by_signature(self, imm: object) -> None:
        self._typed(self.row, self.at)

    def _lane(self, lane: object) -> None:
        assert isinstance(lane, int)
        if lane >= self.row.lanes:
            count = self.row.lanes
            raise self._invalid(f"invalid lane index {lane}: {self.row.name} has {count} lanes")


def _smaller(one: ValType, other: ValType) -> ValType:
    """The type of a size that fits both kinds of addresses."""
    return _I64 if one is _I64 and other is _I64 else _I32


_Method = Callable[[FunctionValidator, object], None]
_V = FunctionValidator
_BY_MEANING: dict[str, _Method] = {
    "unreachable": _V._unreachable,
    "block": _V._enter,
    "loop": _V._enter,
    "if": _V._enter,
    "else": _V._else,
    "end": _V._end,
    "br": _V._br,
    "br_if": _V._br_if,
    "br_table": _V._br_table,
    "return": _V._return,
    "call": _V._call,
    "call_indirect": _V._call_indirect,
    "drop": _V._drop,
    "select": _V._select,
    "global.get": _V._global_get,
    "global.set": _V._global_set,
    "table.get": _V._table_get,
    "table.set": _V._table_set,
    "table.grow": _V._table_grow,
    "table.fill": _V._table_fill,
    "ref.null": _V._ref_null,
    "ref.is_null": _V._ref_is_null,
    "ref.func": _V._ref_func,
    "local.get": _V._local_get,
    "local.set": _V._local_set,
    "local.tee": _V._local_tee,
    "table.size": _V._table_size,
    "table.copy": _V._table_copy,
    "table.init": _V._table_init,
    "elem.drop": _V._elem_drop,
    "memory.size": _V._memory_size,
    "memory.grow": _V._memory_grow,
    "memory.fill": _V._memory_fill,
    "memory.copy": _V._memory_copy,
    "memory.init": _V._memory_init,
    "data.drop": _V._data,
    "return_call": _V._return_call,
    "return_call_indirect": _V._return_call_indirect,
    "call_ref": _V._call_ref,
    "return_call_ref": _V._return_call_ref,
    "ref.as_non_null": _V._ref_as_non_null,
    "br_on_null": _V._br_on_null,
    "br_on_non_null": _V._br_on_non_null,
    "throw": _V._throw,
    "throw_ref": _V._throw_ref,
    "try_table": _V._try_table,
    "try": _V._enter,
    "catch": _V._catch,
    "catch_all": _V._catch,
    "rethrow": _V._rethrow,
    "delegate": _V._delegate,
}
_BY_IMMEDIATE: dict[Imm, _Method] = {
    Imm.LANE: _V._vector,
    Imm.LANES: _V._vector,
    Imm.MEMARG_LANE: _V._vector,
    Imm.MEMARG: _V._atomic,
    Imm.NONE: _V._by_signature,
    Imm.ZERO: _V._by_signature,
}


def _families() -> dict[Opcode, _Method]:
    """The method of every row that the main loop does not treat itself.

    Raises:
        NotImplementedError: at import, naming the rows without one.
    """
    found: dict[Opcode, _Method] = {}
    missing: list[str] = []
    for row in ROWS:
        if _CAREFUL_PLANS[row][0] != _FAMILY:
            continue
        method = _BY_MEANING.get(row.meaning[0])
        if method is None and row.is_typed:
            method = _BY_IMMEDIATE.get(row.imm)
        if method is None:
            missing.append(row.name)
        else:
            found[row] = method
    if missing:
        raise NotImplementedError(f"no validation rule for {', '.join(missing)}")
    return found


_FAMILIES = _families()
