"""Validates one function body: types on the operand stack and the indices of instructions.

The algorithm is that of the specification's appendix. Rows of the opcode table with a fixed
signature are driven by that signature alone; the other families have one method each. A
marker lies on the operand stack at the base of every block, so that the fast path compares
types and nothing else: what is not the expected type, also the end of the block's part of
the stack, is looked at by ``_pop``. Blocks nest without recursion.

Source: WebAssembly core specification 2.0, appendix A.3 and section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import Catch, ParsedModule
from wasinn_runtime.spec.opcodes import ROWS, Imm, Opcode
from wasinn_runtime.spec.types import (
    FuncType,
    Heap,
    RefType,
    ValType,
    matches,
    ref_type,
)
from wasinn_runtime.valid.operands import UNKNOWN, Types, local_types, show
from wasinn_runtime.valid.storage import StorageRules

__all__ = ["FunctionValidator", "OperandTypes", "local_types"]

_I32 = ValType.I32
_V128 = ValType.V128
_EXN = ref_type(False, Heap.EXN)
# What a reference is, of which nothing is known: it goes wherever a reference may go.
_ANY_REF = ref_type(False, Heap.BOTTOM)


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


class FunctionValidator(StorageRules):
    """Checks one body; made for it, used once; see :class:`Operands` for its arguments."""

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
        locals_ = self.locals
        local_count = len(locals_)
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
                push(locals_[imm])
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
                if stack[-1] is locals_[imm]:
                    pop()
                else:
                    self.row = row
                    self.at = at
                    self._pop(locals_[imm])
            elif kind == _TEE:
                if imm >= local_count:
                    self._no_local(row, imm, at)
                if stack[-1] is not locals_[imm]:
                    self.row = row
                    self.at = at
                    self._pop(locals_[imm])
                    push(locals_[imm])
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

    # --- control ---------------------------------------------------------------------------------

    def _enter(self, imm: object) -> None:
        if isinstance(imm, int):
            self._index("type", imm, len(self.module.types))
        type_ = self.module.block_type(imm)
        if self.row.name == "if":
            self._pop(_I32)
        self._pop_all(type_.params)
        self._open(type_.params, type_.results)

    def _else(self, imm: object) -> None:
        frame = self._close()
        self._open(frame.start, frame.end)

    def _end(self, imm: object) -> None:
        frame = self._close()
        if frame.row is not None and frame.row.name == "if":
            self._fits(frame.start, frame.end, "if without else")
        self.stack.extend(frame.end)

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
                raise self._mismatch(show(expected), show(types), f"br_table label {depth}")
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

    def _tag(self, index: object) -> Types:
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
        if self._pop_any() is _V128:
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
        if first is not second and UNKNOWN not in (first, second):
            raise self._mismatch(f"two values of one type, {first}", second)
        found = second if first is UNKNOWN else first
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
        if got is UNKNOWN:
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


class OperandTypes:
    """The types on the operand stack, at positions that are asked for in ascending order.

    Args:
        module, function, body: as for :class:`FunctionValidator`; the body is valid.
    """

    def __init__(self, module: ParsedModule, function: int, body: Body) -> None:
        self._validator = FunctionValidator(module, function, body)
        self._body, self._position = body, 0

    def __call__(self, position: int) -> Sequence[ValType]:
        """The types before an instruction that can be reached, deepest first.

        Args:
            position: of the instruction, in ``body.instructions``.
        """
        validator, body = self._validator, self._body
        if position > self._position:
            passed = body.instructions[self._position : position]
            validator.body = replace(body, instructions=passed)
            validator.run()
            self._position = position
        return [cell for cell in validator.stack if isinstance(cell, ValType)]
