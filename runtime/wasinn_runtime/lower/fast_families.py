"""How the walk of ``fast_code.py`` treats control, calls, and what the module decides about."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from wasinn_runtime.abi.layout import SLOT_BYTES, CodeEntry, slot_cells
from wasinn_runtime.lower.fast_code import (
    FAMILIES,
    REST,
    Block,
    Family,
    Walk,
)
from wasinn_runtime.lower.fast_names import IF_FALSE, IF_TRUE, NUMBERS, by_kinds
from wasinn_runtime.lower.fast_plans import CLASS_NUMBER, OTHER, PLANS
from wasinn_runtime.lower.meanings import MEANINGS
from wasinn_runtime.spec.opcodes import ROWS, Imm, Opcode
from wasinn_runtime.spec.types import FuncType, MemoryType, TableType, ValType

__all__ = [
    "ENDS_OF_TRIES",
    "PARTS_OF_TRY",
    "branch_to",
    "dead",
    "family",
    "finish_block",
    "in_try",
    "move_results",
    "spill_registers",
]

_I32, _I64, _FUNCREF = ValType.I32, ValType.I64, ValType.FUNCREF


def family(*names: str) -> Callable[[Family], Family]:
    def register(function: Family) -> Family:
        FAMILIES.update(dict.fromkeys(names, function))
        return function

    return register


def _base_name(ty: ValType) -> str:
    return "ref" if ty.is_ref else ty.value


# --- blocks -------------------------------------------------------------------------------------


@family("block")
def _block(f: Walk, row: Opcode, imm: Any) -> None:
    ty = f.module.block_type(imm)
    f.settle(0, False)
    height = len(f.stack) - slot_cells(ty.params)
    f.blocks.append(Block("block", ty, height, f.new_label(), slot_cells(ty.results)))


@family("loop")
def _loop(f: Walk, row: Opcode, imm: Any) -> None:
    ty = f.module.block_type(imm)
    cells = slot_cells(ty.params)
    height = len(f.stack) - cells
    f.settle(0, False)
    f.settle(height, True)
    if f.hot:
        f.write_constants()  # another tier may take over: everything in its place
    block = Block("loop", ty, height, f.new_label(), cells)
    f.blocks.append(block)
    f.place_label(block.label)
    if f.hot:
        f.safepoint(f.loops + 1)
    f.loops += 1


@family("if")
def _if(f: Walk, row: Opcode, imm: Any) -> None:
    ty = f.module.block_type(imm)
    height = len(f.stack) - 1 - slot_cells(ty.params)
    block = Block("if", ty, height, f.new_label(), slot_cells(ty.results))
    block.other = f.new_label()
    # Without an else the parameters are the results, so they are where those go.
    _branch_if(f, block.other, False, bool(ty.params))
    block.entries = f.stack[:]
    f.blocks.append(block)


@family("else")
def _else(f: Walk, row: Opcode, imm: Any) -> None:
    _else_of(f, True)


def _else_of(f: Walk, reachable: bool) -> None:
    block = f.blocks[-1]
    if reachable:
        move_results(f, block)
        block.used = True
        f.emit("jump", block.label)
    f.rp[:] = [-1] * 4
    f.place_label(block.other)
    f.stack[:] = block.entries
    block.kind = "else"


@family("end")
def _end(f: Walk, row: Opcode, imm: Any) -> None:
    _end_of(f, True)


def _end_of(f: Walk, reachable: bool) -> None:
    if f.blocks[-1].kind == "func":
        if reachable:
            _return_values(f)
        return
    block = f.blocks.pop()
    if block.kind == "loop":
        if not reachable:
            dead(f)
        return
    if block.what is not None:
        ENDS_OF_TRIES[0](f, block, reachable)
        return
    if block.kind == "if":
        if reachable:
            move_results(f, block)
        f.place_label(block.other)
        block.used = True
    elif reachable and block.used:
        move_results(f, block)
    finish_block(f, block, reachable)


def finish_block(f: Walk, block: Block, reachable: bool) -> None:
    """Go on after a block, if anybody comes there."""
    if block.used:
        del f.stack[block.height :]
        f.rp[:] = [-1 if at >= block.height else at for at in f.rp]
        f.place_label(block.label)
        f.push(block.type.results)
    elif not reachable:
        dead(f)


_BLOCKS = frozenset({"block", "loop", "if", "try", "try_table"})
# What begins another part of a legacy try: filled by fast_tries.py.
PARTS_OF_TRY: dict[str, Callable[[Walk, Any, bool], None]] = {}
ENDS_OF_TRIES: list[Callable[[Walk, Block, bool], None]] = []


def dead(f: Walk) -> None:
    """Nothing reaches what follows, up to the else or end of the block that it is in."""
    f.rp[:] = [-1] * 4
    f.rs[:] = [-1] * 4
    depth = 0
    for row, imm, _ in f.instructions:
        name = row.meaning[0]
        if name in _BLOCKS:
            depth += 1
        elif depth:
            depth -= name in ("end", "delegate")
        elif name == "end":
            _end_of(f, False)
            return
        elif name == "else":
            _else_of(f, False)
            return
        elif name in PARTS_OF_TRY:
            PARTS_OF_TRY[name](f, imm, False)
            return


# --- branches -----------------------------------------------------------------------------------


def move_results(f: Walk, block: Block) -> None:
    """Put what a branch to a block carries where its continuation expects it; pops nothing."""
    first = len(f.stack) - block.takes
    if first == block.height:
        f.settle(first, True)
        return
    _move(f, first, f.own_slot(block.height))


def _move(f: Walk, first: int, offset: int) -> None:
    """Copy operands from a cell of the stack up to where they are wanted, which is below them."""
    stack = f.stack
    for position in range(first, len(stack)):
        entry = stack[position]
        if entry != REST and entry != offset:
            wide = position + 1 < len(stack) and stack[position + 1] == REST
            number = 3 if wide else None
            f.copy_to(entry, offset, number)
        offset += SLOT_BYTES


def _needs_moves(f: Walk, block: Block) -> bool:
    first = len(f.stack) - block.takes
    return bool(block.takes) and first != block.height


def branch_to(f: Walk, depth: int) -> None:
    """Go to a label, whatever the stack is like."""
    if depth == len(f.blocks) - 1:
        _return_values(f)
        return
    block = f.blocks[-1 - depth]
    block.used = True
    move_results(f, block)
    f.emit("jump", block.label)


@family("br")
def _br(f: Walk, row: Opcode, imm: Any) -> None:
    branch_to(f, imm)
    dead(f)


def _branch_if(f: Walk, label: int, wanted: bool, constants: bool) -> None:
    """Pop a condition, settle the rest, and branch if it holds (or does not)."""
    numbers = f.numbers
    entry = f.stack[-1]
    if entry == -1 and f.rk[0] == len(numbers) - 1:
        fused = (IF_TRUE if wanted else IF_FALSE).get(numbers[-1])
        if fused is not None:
            f.stack.pop()
            f.rp[0] = -1
            # What is settled now goes before the comparison: it reads none of those slots.
            at = len(numbers) - 1
            f.settle(0, constants)
            numbers.append(fused)
            f.words.append((*f.words[at], label))
            del numbers[at], f.words[at]
            for number in range(4):
                if f.rk[number] > at:
                    f.rk[number] -= 1
            return
    handler, words = f.take((_I32,), _CONDITIONS[wanted])
    f.settle(0, constants)
    numbers.append(handler)
    f.words.append((*words, label))


_CONDITIONS = {
    wanted: {kind: NUMBERS[f"branch:{kind}?{int(wanted)}"] for kind in "sr"}
    for wanted in (False, True)
}


@family("br_if")
def _br_if(f: Walk, row: Opcode, imm: Any) -> None:
    to_end = imm == len(f.blocks) - 1
    block = f.blocks[-1 - imm]
    first = len(f.stack) - 1 - (slot_cells(f.type.results) if to_end else block.takes)
    if to_end or (block.takes and first != block.height):
        around = f.new_label()
        _branch_if(f, around, False, True)
        branch_to(f, imm)
        f.place_label(around)
        return
    block.used = True
    _branch_if(f, block.label, True, bool(block.takes))


@family("br_table")
def _br_table(f: Walk, row: Opcode, imm: Any) -> None:
    labels, default = imm
    handler, words = f.take((_I32,), by_kinds("jump_table"))
    f.settle(0, True)
    targets: list[int] = []
    stubs: dict[int, int] = {}
    for depth in (*labels, default):
        to_end = depth == len(f.blocks) - 1
        block = f.blocks[-1 - depth]
        if to_end or _needs_moves(f, block):
            if depth not in stubs:
                stubs[depth] = f.new_label()
            targets.append(stubs[depth])
        else:
            block.used = True
            targets.append(block.label)
    f.targets[len(f.numbers)] = len(targets)
    f.numbers.append(handler)
    f.words.append((*words, len(labels), *targets))
    stack = f.stack[:]
    for depth, label in stubs.items():
        f.place_label(label)
        f.stack[:] = stack
        branch_to(f, depth)
    dead(f)


@family("return")
def _return(f: Walk, row: Opcode, imm: Any) -> None:
    _return_values(f)
    dead(f)


def _return_values(f: Walk) -> None:
    """Return what is on top of the stack, and leave the stack as it is."""
    results = f.type.results
    if len(results) == 1:
        kept = f.stack[:], f.rp[:]
        handler, words = f.take(results, by_kinds(f"return.{_base_name(results[0])}"))
        f.numbers.append(handler)
        f.words.append(tuple(words))
        f.stack[:], f.rp[:] = kept
        return
    if results:
        first = len(f.stack) - slot_cells(results)
        f.settle(first, True)  # some may be locals, which results would overwrite
        f.emit("move_down", f.own_slot(first), SLOT_BYTES * slot_cells(results))
    f.emit("return")


@family("unreachable")
def _unreachable(f: Walk, row: Opcode, imm: Any) -> None:
    f.emit("unreachable")
    dead(f)


@family("nop")
def _nop(f: Walk, row: Opcode, imm: Any) -> None:
    pass


# --- calls --------------------------------------------------------------------------------------


def _settle_arguments(f: Walk, ty: FuncType) -> int:
    """The arguments on top of the stack into their own slots; gives the first one's cell."""
    first = len(f.stack) - slot_cells(ty.params)
    f.settle(first, True)
    return first


def spill_registers(f: Walk) -> None:
    """What comes next uses the registers."""
    for number in range(4):
        if f.rp[number] >= 0:
            f.spill(number)


def _call_with(f: Walk, ty: FuncType, handler: int, words: Sequence[int]) -> None:
    """A call whose arguments are on top of the stack."""
    spill_registers(f)
    first = _settle_arguments(f, ty)
    place = f.own_slot(first)
    end = place + SLOT_BYTES * max(slot_cells(ty.params), slot_cells(ty.results))
    f.top = max(f.top, end)
    f.numbers.append(handler)
    f.words.append((*words, place, end))
    in_try(f)
    del f.stack[first:]
    f.rs[:] = [-1] * 4
    f.push(ty.results)
    if len(ty.results) == 1:
        f.rs[CLASS_NUMBER[ty.results[0].base]] = place


def in_try(f: Walk) -> None:
    """Say where exceptions of what was just written arrive in this function."""
    if f.tries:
        f.tries[-1].used = True
        f.emit("in_try", f.tries[-1].label)


def _dot(ty: FuncType) -> str:
    return "." + _base_name(ty.results[0]) if len(ty.results) == 1 else ""


def _defined(f: Walk, index: int, name: str) -> tuple[str, int]:
    """How a function is called that the module names: handler without result, and its word."""
    number = index - f.module.imported_functions
    if number < 0:
        return f"{name}_import", f.layout.imported_function(index)
    return name, number * CodeEntry.BYTES


@family("call")
def _call(f: Walk, row: Opcode, imm: Any) -> None:
    ty = f.module.func_type(imm)
    name, word = _defined(f, imm, "call")
    _call_with(f, ty, NUMBERS[f"{name}{_dot(ty)}"], (word,))


def _indirect(f: Walk, imm: Any) -> tuple[FuncType, ValType, str, tuple[int, int]]:
    """Type, type of the operand, what the handler is called, and its words."""
    type_index, table = imm
    ty = f.module.types[type_index]
    address = f.module.tables[table].address
    name = f"call_indirect{_dot(ty)}"
    name += "<@64" if address is _I64 else "" if ty.is_final else "<"
    return ty, address, name, (f.layout.table(table), f.layout.signature(type_index))


@family("call_indirect")
def _call_indirect(f: Walk, row: Opcode, imm: Any) -> None:
    ty, address, name, places = _indirect(f, imm)
    handler, words = f.take((address,), by_kinds(name))
    _call_with(f, ty, handler, [*words, *places])


@family("call_ref")
def _call_ref(f: Walk, row: Opcode, imm: Any) -> None:
    ty = f.module.types[imm]
    handler, words = f.take((_FUNCREF,), by_kinds(f"call_ref{_dot(ty)}"))
    _call_with(f, ty, handler, words)


def _tail_with(
    f: Walk, ty: FuncType, name: str, words: Sequence[int], operand: ValType | None = None
) -> None:
    """A call instead of a return; ``operand`` is the type of what says whom to call."""
    spill_registers(f)
    if operand is not None:
        # In its own slot, which lies above where the arguments go.
        f.settle(len(f.stack) - 1, True)
        words = [f.stack.pop(), *words]
        name += ":s"
    first = _settle_arguments(f, ty)
    cells = slot_cells(ty.params)
    if cells:
        f.emit("move_down", f.own_slot(first), SLOT_BYTES * cells)
    end = SLOT_BYTES * max(cells, slot_cells(ty.results))
    f.top = max(f.top, end)
    f.emit(name, *words, end)
    dead(f)


@family("return_call")
def _return_call(f: Walk, row: Opcode, imm: Any) -> None:
    ty = f.module.func_type(imm)
    name, word = _defined(f, imm, "return_call")
    _tail_with(f, ty, f"{name}{_dot(ty)}", (word,))


@family("return_call_indirect")
def _return_call_indirect(f: Walk, row: Opcode, imm: Any) -> None:
    ty, address, name, places = _indirect(f, imm)
    _tail_with(f, ty, f"return_{name}", places, address)


@family("return_call_ref")
def _return_call_ref(f: Walk, row: Opcode, imm: Any) -> None:
    ty = f.module.types[imm]
    _tail_with(f, ty, f"return_call_ref{_dot(ty)}", (), _FUNCREF)


# --- branches on references ---------------------------------------------------------------------


def _branch_null(f: Walk, label: int, wanted: int) -> None:
    """Branch if the reference on top is null (or is not), and leave it there."""
    f.settle(0, True)
    f.emit(f"branch_null:s?{wanted}", f.stack[-1], label)


@family("br_on_null")
def _br_on_null(f: Walk, row: Opcode, imm: Any) -> None:
    around = f.new_label()
    _branch_null(f, around, 0)
    reference = f.stack.pop()
    branch_to(f, imm)
    f.place_label(around)
    f.stack.append(reference)


@family("br_on_non_null")
def _br_on_non_null(f: Walk, row: Opcode, imm: Any) -> None:
    around = f.new_label()
    _branch_null(f, around, 1)
    branch_to(f, imm)
    f.place_label(around)
    f.stack.pop()


@family("ref.as_non_null")
def _ref_as_non_null(f: Walk, row: Opcode, imm: Any) -> None:
    _do(f, "ref.as_non_null", (_FUNCREF,), (), (_FUNCREF,))


# --- parametric and local -----------------------------------------------------------------------


@family("drop")
def _drop(f: Walk, row: Opcode, imm: Any) -> None:
    if f.stack[-1] == REST:
        f.stack.pop()
    entry = f.stack.pop()
    if REST < entry < 0:
        f.rp[-1 - entry] = -1


@family("select")
def _select(f: Walk, row: Opcode, imm: Any) -> None:
    f.select(imm[0])


# --- memories, tables, globals, references ------------------------------------------------------


def _wide(address: ValType) -> str:
    return "@64" if address is _I64 else ""


def _do(
    f: Walk,
    name: str,
    params: Sequence[ValType],
    immediates: Sequence[int],
    results: Sequence[ValType],
) -> None:
    handler, words = f.take(params, by_kinds(name))
    f.finish(handler, [*words, *immediates], results)


def _global(f: Walk, index: int) -> tuple[ValType, str, int]:
    """Type, what handlers are called, and the place in the VMContext."""
    ty = f.module.globals_[index].value
    imported = f.module.imported_globals
    if index < imported:
        return ty, f"{_base_name(ty)}@import", f.layout.imported_global(index)
    return ty, _base_name(ty), f.layout.defined_global(index - imported)


@family("global.get")
def _global_get(f: Walk, row: Opcode, imm: Any) -> None:
    ty, name, place = _global(f, imm)
    _do(f, f"global.get.{name}", (), (place,), (ty,))


@family("global.set")
def _global_set(f: Walk, row: Opcode, imm: Any) -> None:
    ty, name, place = _global(f, imm)
    _do(f, f"global.set.{name}", (ty,), (place,), ())


def _memory(f: Walk, index: int) -> tuple[ValType, str, int]:
    """Address type, what handlers are called, and the place in the VMContext."""
    ty = f.module.memories[index].address
    return ty, _wide(ty), f.layout.memory(index)


@family("memory.size")
def _memory_size(f: Walk, row: Opcode, imm: Any) -> None:
    size, where, place = _memory(f, imm)
    _do(f, f"memory.size{where}", (), (place,), (size,))


@family("memory.grow")
def _memory_grow(f: Walk, row: Opcode, imm: Any) -> None:
    size, where, place = _memory(f, imm)
    where += "shared" * f.module.memories[imm].shared
    _do(f, f"memory.grow{where}", (size,), (place,), (size,))


@family("memory.fill")
def _memory_fill(f: Walk, row: Opcode, imm: Any) -> None:
    size, where, place = _memory(f, imm)
    _do(f, f"memory.fill{where}", (size, _I32, size), (place,), ())


@family("memory.init")
def _memory_init(f: Walk, row: Opcode, imm: Any) -> None:
    size, where, place = _memory(f, imm[1])
    data = f.layout.data_segment(imm[0])
    _do(f, f"memory.init{where}", (size, _I32, _I32), (data, place), ())


def _copy_between(
    f: Walk, name: str, into: MemoryType | TableType, out: MemoryType | TableType
) -> tuple[str, tuple[ValType, ...]]:
    both = (into.address, out.address)
    bits = ["64" if ty is _I64 else "32" for ty in both]
    count = _I32 if _I32 in both else _I64
    return f"{name}@{bits[0]}.{bits[1]}", (*both, count)


@family("memory.copy")
def _memory_copy(f: Walk, row: Opcode, imm: Any) -> None:
    memories = f.module.memories
    name, params = _copy_between(f, "memory.copy", memories[imm[0]], memories[imm[1]])
    _do(f, name, params, (f.layout.memory(imm[0]), f.layout.memory(imm[1])), ())


@family("table.copy")
def _table_copy(f: Walk, row: Opcode, imm: Any) -> None:
    tables = f.module.tables
    name, params = _copy_between(f, "table.copy", tables[imm[0]], tables[imm[1]])
    _do(f, name, params, (f.layout.table(imm[0]), f.layout.table(imm[1])), ())


@family("table.init")
def _table_init(f: Walk, row: Opcode, imm: Any) -> None:
    size = f.module.tables[imm[1]].address
    words = (f.layout.element_segment(imm[0]), f.layout.table(imm[1]))
    _do(f, f"table.init{_wide(size)}", (size, _I32, _I32), words, ())


@family("table.get", "table.set", "table.size", "table.grow", "table.fill")
def _table(f: Walk, row: Opcode, imm: Any) -> None:
    size, name = f.module.tables[imm].address, row.name
    shapes: dict[str, tuple[tuple[ValType, ...], tuple[ValType, ...]]] = {
        "table.get": ((size,), (_FUNCREF,)),
        "table.set": ((size, _FUNCREF), ()),
        "table.size": ((), (size,)),
        "table.grow": ((_FUNCREF, size), (size,)),
        "table.fill": ((size, _FUNCREF, size), ()),
    }
    params, results = shapes[name]
    _do(f, f"{name}{_wide(size)}", params, (f.layout.table(imm),), results)


@family("data.drop")
def _data_drop(f: Walk, row: Opcode, imm: Any) -> None:
    f.emit("data.drop:", f.layout.data_segment(imm))


@family("elem.drop")
def _elem_drop(f: Walk, row: Opcode, imm: Any) -> None:
    f.emit("elem.drop:", f.layout.element_segment(imm))


@family("atomic.fence")
def _fence(f: Walk, row: Opcode, imm: Any) -> None:
    f.emit("atomic.fence:")


@family("ref.null")
def _ref_null(f: Walk, row: Opcode, imm: Any) -> None:
    f.constant(0)


@family("ref.is_null")
def _ref_is_null(f: Walk, row: Opcode, imm: Any) -> None:
    _do(f, "ref.is_null", (_FUNCREF,), (), (_I32,))


@family("ref.func")
def _ref_func(f: Walk, row: Opcode, imm: Any) -> None:
    _do(f, "ref.func", (), (f.layout.funcref(f.places[imm]),), (_FUNCREF,))


# --- rows by their signature alone --------------------------------------------------------------


def _constant_vector(f: Walk, row: Opcode, imm: Any) -> None:
    f.finish(NUMBERS["v128.const:>r"], _halves(imm), (ValType.V128,))


def _halves(bits: int) -> list[int]:
    """A vector as two words."""
    return [*struct.unpack("<2q", bits.to_bytes(16, "little"))]


def _lane(f: Walk, row: Opcode, imm: Any) -> None:
    _do(f, f"{row.name}.{imm}", row.params or (), (), row.results or ())


def _mask(f: Walk, row: Opcode, imm: Any) -> None:
    words = _halves(int.from_bytes(bytes(imm), "little"))
    _do(f, row.name, row.params or (), words, row.results or ())


def _lane_access(f: Walk, row: Opcode, imm: Any) -> None:
    f.access(row, imm[:3], imm[3:])


_BY_IMMEDIATE: dict[Imm, Family] = {
    Imm.V128: _constant_vector,
    Imm.LANE: _lane,
    Imm.LANES: _mask,
    Imm.MEMARG_LANE: _lane_access,
}
for _row in ROWS:
    if PLANS[_row][0] == OTHER and _row.params is not None:
        if _row.imm is Imm.NONE and _row.meaning[0] in MEANINGS:
            FAMILIES.setdefault(_row.meaning[0], Walk.row)
        elif _row.imm is Imm.MEMARG:
            FAMILIES.setdefault(_row.meaning[0], Walk.access)
        elif _row.imm in _BY_IMMEDIATE:
            FAMILIES.setdefault(_row.meaning[0], _BY_IMMEDIATE[_row.imm])
