"""A plain-Python machine that goes on from canonical frames, to check what compiled code left.

It works on the memories, globals and tables of the store that was captured, and shares no code
with what compiled the guest: meanings of numbers are the twins of ``spec``, branches and heights
come from ``valid.facts``. What it does not know ends with an error that names the instruction.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from wasinn_runtime import Frame, Instance
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.module import Catch
from wasinn_runtime.spec.features import ALL_FEATURES
from wasinn_runtime.spec.numeric import NUMERIC_ROWS, evaluate
from wasinn_runtime.spec.numeric_simd import VECTOR_ROWS, evaluate_vector
from wasinn_runtime.spec.opcodes import Opcode
from wasinn_runtime.spec.types import FuncType, ValType
from wasinn_runtime.valid.facts import Branch, cells, examine
from wasinn_runtime.valid.function import local_types
from wasinn_runtime.valid.validate import valid_body

__all__ = ["Guest", "Host", "Machine"]

_CELL = (1 << 64) - 1
_BITS = {ValType.I32: 32, ValType.F32: 32}

#: A function of the host: its arguments and results are cells.
Host = Callable[..., Sequence[int]]


@dataclass(slots=True)
class _Frame:
    code: _Code
    position: int
    cells: list[int]


class _Thrown(Exception):
    def __init__(self, tag: int, values: list[int]) -> None:
        self.tag = tag
        self.values = values


#: What an instruction does to a frame: the position to go on at (None for the next), or a call.
_Step = Callable[[_Frame], "int | _Call | None"]


@dataclass(slots=True)
class _Call:
    guest: Guest
    function: int
    is_tail: bool = False


@dataclass
class Guest:
    """An instance with the module that its code was compiled from.

    Attributes:
        instance: where memories, globals and tables are.
        source: the module's bytes.
        imports: of each imported function what it is: a host's, or another guest's by number.
    """

    instance: Instance
    source: bytes
    imports: Sequence[Host | tuple[Guest, int]] = ()
    codes: dict[int, _Code] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.module = decode(self.source, features=ALL_FEATURES)
        self.parts = self.instance._parts

    def code(self, function: int) -> _Code:
        found = self.codes.get(function)
        if found is None:
            found = self.codes[function] = _Code(self, function)
        return found

    def references(self) -> dict[int, tuple[Guest, int]]:
        """The functions of this module by the addresses of their FuncRefs."""
        first = self.module.imported_functions
        escaping = self.instance._blueprint.references
        return {self.parts.reference(i): (self, i) for i in escaping if i >= first}


class _Code:
    """A function, made ready to be run."""

    def __init__(self, guest: Guest, function: int) -> None:
        module = guest.module
        self.guest, self.function = guest, function
        self.type = module.func_type(function)
        self.body = valid_body(module, function)
        self.facts = examine(module, function, self.body)
        self.locals = local_types(self.type.params, self.body.locals)
        self.base = cells(self.locals)
        self.starts = [0]
        for ty in self.locals:
            self.starts.append(self.starts[-1] + cells((ty,)))
        self.offsets = [at for _, _, at in self.body.instructions]
        self.tries: list[tuple[int, int]] = []
        self.steps = [self._step(i) for i in range(len(self.body.instructions))]
        self._find_tries()

    def position(self, offset: int) -> int:
        position = bisect_left(self.offsets, offset)
        assert self.offsets[position] == offset, (self.function, hex(offset))
        return position

    def family(self, position: int) -> str:
        return self.body.instructions[position][0].meaning[0]

    def _find_tries(self) -> None:
        open_blocks: list[int] = []
        for position in range(len(self.steps)):
            family = self.family(position)
            if family in ("block", "loop", "if", "try_table"):
                open_blocks.append(position)
            elif family == "end" and open_blocks:
                start = open_blocks.pop()
                if self.family(start) == "try_table":
                    self.tries.append((start, position))

    # -- instructions ----------------------------------------------------------------------------

    def _step(self, position: int) -> _Step:
        row, immediate, at = self.body.instructions[position]
        family = row.meaning[0]
        branches = self.facts.branches.get(position, ())
        if family in _IDLE:
            return _nothing
        if row in _NUMERIC:
            return partial(_numeric, row)
        if row in _VECTOR:
            return partial(_vector, row, immediate)
        if family == "const":
            assert isinstance(immediate, int)
            assert row.results is not None
            return partial(_const, _to_cells(row.results[0], immediate))
        if family in ("local.get", "local.set", "local.tee"):
            assert isinstance(immediate, int)
            span = slice(self.starts[immediate], self.starts[immediate + 1])
            return partial(_LOCALS[family], span)
        if family in ("global.get", "global.set"):
            assert isinstance(immediate, int)
            ty = self.guest.module.globals_[immediate].value
            count = cells((ty,))
            place = (ctypes.c_uint64 * count).from_address(self.guest.parts.global_cells[immediate])
            mask = (1 << _BITS.get(ty, 64)) - 1
            return partial(_global_get if family == "global.get" else _global_set, place, mask)
        if family in ("load", "store"):
            return partial(_load if family == "load" else _store, self.guest, row, immediate)
        if family == "drop":
            return partial(_drop, 2 if at in self.body.wide_drops else 1)
        if family == "select":
            ty = immediate[0] if isinstance(immediate, tuple) else self.body.select_types[at]
            return partial(_select, cells((ty,)))
        if family in _BRANCHES:
            return partial(_BRANCHES[family], self.base, branches)
        if family == "return":
            results = cells(self.type.results)
            last = len(self.body.instructions) - 1
            return partial(_br, self.base, (Branch(last, 0, results),))
        if family in ("call", "return_call"):
            assert isinstance(immediate, int)
            return partial(_call, _Call(self.guest, immediate, family == "return_call"))
        if family in ("call_indirect", "return_call_indirect"):
            return partial(_call_indirect, self.guest, immediate, family[0] == "r")
        if family == "throw":
            assert isinstance(immediate, int)
            params = self.guest.module.tag_type(immediate).type.params
            return partial(_throw, immediate, cells(params))
        if family == "memory.size":
            assert isinstance(immediate, int)
            return partial(_memory_size, self.guest, immediate)
        if family in ("memory.copy", "memory.fill"):
            return partial(_bulk, self.guest, family)
        return partial(_unknown, row)


_NUMERIC, _VECTOR = frozenset(NUMERIC_ROWS), frozenset(VECTOR_ROWS)
_IDLE = frozenset({"block", "loop", "end", "nop", "try_table"})


def _mask(ty: ValType) -> int:
    return (1 << _BITS.get(ty, 64)) - 1


def _to_cells(ty: ValType, value: int) -> list[int]:
    if ty is ValType.V128:
        return [value & _CELL, value >> 64]
    return [value & _mask(ty)]


def _pop(stack: list[int], ty: ValType) -> int:
    if ty is ValType.V128:
        high = stack.pop()
        return stack.pop() | high << 64
    return stack.pop() & _mask(ty)


def _pop_all(stack: list[int], types: Sequence[ValType]) -> list[int]:
    return [_pop(stack, ty) for ty in reversed(types)][::-1]


def _nothing(f: _Frame) -> None:
    pass


def _unknown(row: Opcode, f: _Frame) -> None:
    raise NotImplementedError(f"the reference machine lacks {row.name}")


def _numeric(row: Opcode, f: _Frame) -> None:
    f.cells.append(evaluate(row, *_pop_all(f.cells, row.params or ())))


def _vector(row: Opcode, immediate: object, f: _Frame) -> None:
    assert row.results is not None
    value = evaluate_vector(row, immediate, *_pop_all(f.cells, row.params or ()))
    f.cells.extend(_to_cells(row.results[0], value))


def _const(value: list[int], f: _Frame) -> None:
    f.cells.extend(value)


def _local_get(span: slice, f: _Frame) -> None:
    f.cells.extend(f.cells[span])


def _local_tee(span: slice, f: _Frame) -> None:
    count = span.stop - span.start
    f.cells[span] = f.cells[-count:]


def _local_set(span: slice, f: _Frame) -> None:
    _local_tee(span, f)
    del f.cells[-(span.stop - span.start) :]


_LOCALS = {"local.get": _local_get, "local.set": _local_set, "local.tee": _local_tee}


def _global_get(place: ctypes.Array[ctypes.c_uint64], mask: int, f: _Frame) -> None:
    f.cells.extend(cell & mask for cell in place)


def _global_set(place: ctypes.Array[ctypes.c_uint64], mask: int, f: _Frame) -> None:
    count = len(place)
    place[:] = [*f.cells[-count:]]
    del f.cells[-count:]


def _address(guest: Guest, immediate: object, byte_count: int, index: int) -> int:
    assert isinstance(immediate, tuple)
    memory = guest.parts.memories[immediate[2]]
    at: int = index + immediate[1]
    assert at + byte_count <= memory.byte_length, "a trap, which compiled code did not meet"
    return memory.base + at


def _load(guest: Guest, row: Opcode, immediate: object, f: _Frame) -> None:
    assert row.results is not None
    count, ty = row.access_bytes, row.results[0]
    place = _address(guest, immediate, count, f.cells.pop() & 0xFFFFFFFF)
    value = int.from_bytes(ctypes.string_at(place, count), "little", signed="sext" in row.meaning)
    f.cells.extend([value & _mask(ty)] if ty is not ValType.V128 else _to_cells(ty, value))


def _store(guest: Guest, row: Opcode, immediate: object, f: _Frame) -> None:
    assert row.params is not None
    value = _pop(f.cells, row.params[1])
    count = row.access_bytes
    place = _address(guest, immediate, count, f.cells.pop() & 0xFFFFFFFF)
    ctypes.memmove(place, (value & ((1 << 8 * count) - 1)).to_bytes(count, "little"), count)


def _memory_size(guest: Guest, index: int, f: _Frame) -> None:
    f.cells.append(guest.parts.memories[index].byte_length >> 16)


def _bulk(guest: Guest, family: str, f: _Frame) -> None:
    count, source, to = (f.cells.pop() & 0xFFFFFFFF for _ in range(3))
    memory = guest.parts.memories[0]
    assert to + count <= memory.byte_length
    if family == "memory.fill":
        ctypes.memset(memory.base + to, source & 0xFF, count)
    else:
        assert source + count <= memory.byte_length
        ctypes.memmove(memory.base + to, memory.base + source, count)


def _drop(count: int, f: _Frame) -> None:
    del f.cells[-count:]


def _select(count: int, f: _Frame) -> None:
    chosen = f.cells.pop() & 0xFFFFFFFF
    second = f.cells[-count:]
    del f.cells[-count:]
    if not chosen:
        f.cells[-count:] = second


def _go(base: int, branch: Branch, f: _Frame) -> int:
    carried = f.cells[len(f.cells) - branch.carried :]
    del f.cells[base + branch.height :]
    f.cells.extend(carried)
    return branch.target


def _br(base: int, branches: Sequence[Branch], f: _Frame) -> int:
    return _go(base, branches[0], f)


def _br_if(base: int, branches: Sequence[Branch], f: _Frame) -> int | None:
    return _go(base, branches[0], f) if f.cells.pop() & 0xFFFFFFFF else None


def _if(base: int, branches: Sequence[Branch], f: _Frame) -> int | None:
    return None if f.cells.pop() & 0xFFFFFFFF else _go(base, branches[0], f)


def _br_table(base: int, branches: Sequence[Branch], f: _Frame) -> int:
    return _go(base, branches[min(f.cells.pop() & 0xFFFFFFFF, len(branches) - 1)], f)


_BRANCHES: Mapping[str, Callable[[int, Sequence[Branch], _Frame], int | None]] = {
    "br": _br,
    "else": _br,
    "br_if": _br_if,
    "if": _if,
    "br_table": _br_table,
}


def _call(call: _Call, f: _Frame) -> _Call:
    return call


def _call_indirect(guest: Guest, immediate: object, is_tail: bool, f: _Frame) -> _Call:
    assert isinstance(immediate, tuple)
    table = guest.parts.tables[immediate[1]]
    index = f.cells.pop() & 0xFFFFFFFF
    assert index < table.size
    reference = ctypes.c_uint64.from_address(table.base + 8 * index).value
    for other in Machine.guests:
        found = other.references().get(reference)
        if found is not None:
            return _Call(*found, is_tail)
    raise AssertionError("a reference to a function that nobody knows")


def _throw(tag: int, count: int, f: _Frame) -> None:
    raise _Thrown(tag, f.cells[len(f.cells) - count :])


class Machine:
    """Goes on from frames.

    Args:
        guests: the store's instances, in the order in which they were made.
        frames: of a captured call.
    """

    guests: Sequence[Guest] = ()

    def __init__(self, guests: Sequence[Guest], frames: Sequence[Frame]) -> None:
        Machine.guests = guests
        self._frames: list[_Frame] = []
        for number, frame in reversed(list(enumerate(frames))):
            code = guests[frame.instance].code(frame.function)
            position = code.position(frame.offset)
            values = [*memoryview(frame.cells).cast("Q")]
            height = code.facts.heights[position]
            if number:  # at a call: without what it takes, and on behind it
                height -= self._taken(code, position)
                position += 1
            else:
                assert position == 0 or code.family(position) == "loop"
            assert len(values) == code.base + height, (frame, height)
            self._frames.append(_Frame(code, position, values))

    @staticmethod
    def _taken(code: _Code, position: int) -> int:
        row, immediate, _ = code.body.instructions[position]
        module = code.guest.module
        if row.meaning[0] == "call":
            assert isinstance(immediate, int)
            return cells(module.func_type(immediate).params)
        assert row.meaning[0] == "call_indirect", row.name
        assert isinstance(immediate, tuple)
        return 1 + cells(module.types[immediate[0]].params)

    def run(self, most_steps: int = 5_000_000) -> list[int]:
        """Go on to the end of the outermost call; its results' cells."""
        frames = self._frames
        for _ in range(most_steps):
            f = frames[-1]
            position = f.position
            if position == len(f.code.steps):
                results = f.cells[len(f.cells) - cells(f.code.type.results) :]
                frames.pop()
                if not frames:
                    return results
                frames[-1].cells.extend(results)
                continue
            f.position = position + 1
            try:
                step = f.code.steps[position](f)
            except _Thrown as thrown:
                self._unwind(thrown)
                continue
            if isinstance(step, int):
                f.position = step
            elif step is not None:
                self._enter(f, step)
        raise AssertionError("the guest goes on for too long")

    def _enter(self, f: _Frame, call: _Call) -> None:
        guest, function = call.guest, call.function
        target: Host | tuple[Guest, int] = (guest, function)
        ty: FuncType = guest.module.func_type(function)
        while isinstance(target, tuple) and target[1] < target[0].module.imported_functions:
            target = target[0].imports[target[1]]
        count = cells(ty.params)
        given = f.cells[len(f.cells) - count :]
        del f.cells[len(f.cells) - count :]
        if not isinstance(target, tuple):
            f.cells.extend(target(*given))
            return
        code = target[0].code(target[1])
        if call.is_tail:
            self._frames.pop()
        self._frames.append(_Frame(code, 0, given + [0] * (code.base - count)))

    def _unwind(self, thrown: _Thrown) -> None:
        while self._frames:
            f = self._frames[-1]
            at = f.position - 1
            for start, end in f.code.tries:  # inner ones end first
                if not start < at < end:
                    continue
                immediate = f.code.body.instructions[start][1]
                assert isinstance(immediate, tuple)
                clauses: Sequence[Catch] = immediate[1]
                branches = f.code.facts.branches[start]
                for clause, branch in zip(clauses, branches, strict=True):
                    if clause.tag is None or clause.tag == thrown.tag:
                        assert not clause.with_ref
                        del f.cells[f.code.base + branch.height :]
                        f.cells.extend([] if clause.tag is None else thrown.values)
                        f.position = branch.target
                        return
            self._frames.pop()
        raise AssertionError("nobody catches")
