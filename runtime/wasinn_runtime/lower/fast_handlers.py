"""The fast interpreter's handlers, derived from the opcode table, as LLVM IR.

A handler's name says what it is: the instruction, what is known of the module, the kinds of its
operands and where the result goes (``i32.add:ri>s``; kinds in ``fast_body.py``). Comparisons also
come with the branch that follows them (``i32.lt_s:ss?1``: branch if true). The order of words in
the stream: operands, immediates, the result's slot; of branches last the distance to the target, in
bytes from the handler's own word.

Sequences of these (``fast_sequences.py``) become handlers of their own, which is what makes the
interpreter fast: between their parts nothing is stored or jumped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import product

from wasinn_runtime.abi.layout import CodeEntry, FuncRef
from wasinn_runtime.lower.fast_body import CLASSES, FAST, Body, class_of
from wasinn_runtime.lower.meanings import MEANINGS
from wasinn_runtime.lower.state import STATE_MEANINGS, table_element, table_index, table_size
from wasinn_runtime.lower.threaded import Header, entry_unit
from wasinn_runtime.lower.units import preamble
from wasinn_runtime.lower.writer import (
    ELEMENT,
    INVARIANT,
    STATE,
    UNPREDICTABLE,
    LLVM_TYPE,
)
from wasinn_runtime.spec.features import FEATURES_2_0
from wasinn_runtime.spec.opcodes import ROWS, Imm, Opcode
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import GlobalType, Limits, MemoryType, TableType, ValType

__all__ = ["FAST_FEATURES", "HANDLERS", "TABLE_SYMBOL", "Shape", "interpreter_unit"]

FAST_FEATURES = FEATURES_2_0
"""The features whose instructions this interpreter runs."""

TABLE_SYMBOL = "wasinn_fast_handlers"
HOT_SYMBOL = "wasinn_fast_hot"


@dataclass(frozen=True, slots=True)
class Shape:
    """One handler.

    Attributes:
        write: writes its work; what comes after it is somebody else's affair.
        reads: the registers that hold operands of it.
        result: the register of its result, or nothing.
        ends: whether it goes on by itself, so that nothing can follow it in a sequence.
        branches: whether its last word is the distance to a target.
    """

    write: Callable[[Body], None]
    reads: str = ""
    result: str = ""
    ends: bool = False
    branches: bool = False


HANDLERS: dict[str, Shape] = {}
_I32, _I64, _F32, _F64, _V128 = ValType.I32, ValType.I64, ValType.F32, ValType.F64, ValType.V128
_FUNCREF = ValType.FUNCREF
# References are kept alike.
KINDS_OF_VALUES = (_I32, _I64, _F32, _F64, _V128, _FUNCREF)
_COPIED = {"r": _I64, "d": _F64, "f": _F32, "v": _V128}

MEMORY = {
    "": MemoryType(Limits(0)),
    "@32": MemoryType(Limits(0)),
    "@64": MemoryType(Limits(0), _I64),
}
TABLE = {"": TableType(_FUNCREF, Limits(0)), "@64": TableType(_FUNCREF, Limits(0), _I64)}


def _add(
    name: str,
    write: Callable[[Body], None],
    reads: str = "",
    result: str = "",
    ends: bool = False,
    branches: bool = False,
) -> None:
    assert name not in HANDLERS, name
    HANDLERS[name] = Shape(write, reads, result, ends, branches)


def _reads(kinds: str, types: tuple[ValType, ...]) -> str:
    return "".join(class_of(ty) for kind, ty in zip(kinds, types, strict=True) if kind == "r")


# --- rows with a signature: numbers and accesses of memory --------------------------------------


def kinds_of(types: tuple[ValType, ...], plain: bool) -> Iterator[str]:
    """The kinds of operands that handlers exist for.

    Args:
        types: of the operands.
        plain: only slots and, for the last operand, the register.
    """
    if len(types) > 2:
        yield "s" * len(types)
        return
    for kinds in product("sri", repeat=len(types)):
        registers = _reads("".join(kinds), types)
        if len(set(registers)) < len(registers):
            continue  # each holds one value
        if any(k == "i" and (plain or t is _V128) for k, t in zip(kinds, types, strict=True)):
            continue
        if kinds.count("i") == len(types) and types:
            continue
        yield "".join(kinds)


def _numeric(row: Opcode, kinds: str, dest: str, b: Body) -> None:
    assert row.params is not None and row.results is not None
    operands = [b.operand(kind, ty) for kind, ty in zip(kinds, row.params, strict=True)]
    b.result(dest, row.results[0], MEANINGS[row.meaning[0]](b, row, operands))


def _compare(row: Opcode, kinds: str, wanted: int, b: Body) -> None:
    """A comparison and the branch that its result decides."""
    assert row.params is not None
    operands = [b.operand(kind, ty) for kind, ty in zip(kinds, row.params, strict=True)]
    branch(b, MEANINGS[row.meaning[0]](b, row, operands), wanted)


def branch(b: Body, value: str, wanted: int) -> None:
    """End the handler: to the target if an i32 is not zero (or, ``wanted`` 0, is zero)."""
    holds = b.let(f"icmp {'ne' if wanted else 'eq'} i32 {value}, 0")
    taken, after = b.new_label("taken"), b.new_label("after")
    distance_at = b.place()
    b.words += 1
    b.do(f"br i1 {holds}, label %{taken}, label %{after}")
    b.label(taken)
    distance = b.let(f"load i64, ptr {distance_at}")
    b.go(b.let(f"getelementptr i8, ptr %pc, i64 {distance}"))
    b.label(after)
    b.next()


def addressed(row: Opcode, where: str) -> tuple[ValType, ...]:
    """The operands' types of an access of a memory."""
    assert row.params is not None
    return (MEMORY[where].address, *row.params[1:])


def _access(row: Opcode, where: str, kinds: str, dest: str, b: Body) -> None:
    assert row.results is not None
    types = addressed(row, where)
    operands = [b.operand(kind, ty) for kind, ty in zip(kinds, types, strict=True)]
    memory = b.number(MEMORY[where]) if where else 0
    found = STATE_MEANINGS[row.meaning[0]](b, row, (0, b.number(), memory), operands)
    if row.results:
        b.result(dest, row.results[0], found[0])


def _dests(row: Opcode) -> tuple[str, ...]:
    return (">r", ">s") if row.results else ("",)


def _signature_rows() -> None:
    for row in ROWS:
        if row.feature not in FAST_FEATURES or row.params is None or row.results is None:
            continue
        family = row.meaning[0]
        result = class_of(row.results[0]) if row.results else ""
        if row.imm is Imm.NONE and family in MEANINGS:
            for kinds in kinds_of(row.params, plain=len(row.params) == 1):
                reads = _reads(kinds, row.params)
                for dest in _dests(row):
                    write = partial(_numeric, row, kinds, dest)
                    _add(f"{row.name}:{kinds}{dest}", write, reads, result)
                if is_comparison(row):
                    for wanted in (0, 1):
                        write = partial(_compare, row, kinds, wanted)
                        _add(f"{row.name}:{kinds}?{wanted}", write, reads, "", True, True)
        elif row.imm is Imm.MEMARG and family in STATE_MEANINGS:
            for where in MEMORY:
                types = addressed(row, where)
                for kinds in kinds_of(types, plain=bool(where)):
                    reads = _reads(kinds, types)
                    for dest in _dests(row):
                        write = partial(_access, row, where, kinds, dest)
                        _add(f"{row.name}{where}:{kinds}{dest}", write, reads, result)


def is_comparison(row: Opcode) -> bool:
    """Whether its result is mostly wanted by a branch."""
    return row.meaning[0] in ("eqz", "icmp", "fcmp")


# --- rows that the module decides about ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Variant:
    """A row with all that its signature and its immediates depend on.

    Attributes:
        name: the handler's, without kinds.
        immediate: reads the immediate from the stream.
    """

    name: str
    row: Opcode
    params: tuple[ValType, ...]
    results: tuple[ValType, ...]
    immediate: Callable[[Body], object]


_BY_NAME = {row.name: row for row in ROWS}


def variants() -> Iterator[Variant]:
    """Of memories, tables, globals, segments and references."""
    for name, ty in (*((t.value, t) for t in KINDS_OF_VALUES),):
        if ty is _FUNCREF:
            name = "ref"
        for own, imported in (("", 0), ("@import", 1)):
            fact = GlobalType(ty, True)

            def cell(b: Body, fact: GlobalType = fact, imported: int = imported) -> object:
                b.describe(imported_globals=imported)
                return b.number(fact)

            yield Variant(f"global.get.{name}{own}", _BY_NAME["global.get"], (), (ty,), cell)
            yield Variant(f"global.set.{name}{own}", _BY_NAME["global.set"], (ty,), (), cell)
    for where, memory in (("", MEMORY["@32"]), ("@64", MEMORY["@64"])):
        size = memory.address

        def one(b: Body, fact: object = memory) -> object:
            return b.number(fact)

        def segment(b: Body, fact: object = memory) -> object:
            return b.number(), b.number(fact)

        row = _BY_NAME["memory.size"]
        yield Variant(f"memory.size{where}", row, (), (size,), one)
        row = _BY_NAME["memory.grow"]
        yield Variant(f"memory.grow{where}", row, (size,), (size,), one)
        row = _BY_NAME["memory.fill"]
        yield Variant(f"memory.fill{where}", row, (size, _I32, size), (), one)
        row = _BY_NAME["memory.init"]
        yield Variant(f"memory.init{where}", row, (size, _I32, _I32), (), segment)
    yield from _copies("memory.copy", MEMORY["@32"], MEMORY["@64"])
    yield from _copies("table.copy", TABLE[""], TABLE["@64"])
    for where, table in TABLE.items():
        size = table.address

        def one(b: Body, fact: object = table) -> object:
            return b.number(fact)

        def segment(b: Body, fact: object = table) -> object:
            return b.number(), b.number(fact)

        for name, params, results in (
            ("table.get", (size,), (_FUNCREF,)),
            ("table.set", (size, _FUNCREF), ()),
            ("table.size", (), (size,)),
            ("table.grow", (_FUNCREF, size), (size,)),
            ("table.fill", (size, _FUNCREF, size), ()),
        ):
            yield Variant(f"{name}{where}", _BY_NAME[name], params, results, one)
        row = _BY_NAME["table.init"]
        yield Variant(f"table.init{where}", row, (size, _I32, _I32), (), segment)

    def plain(b: Body) -> object:
        return b.number()

    yield Variant("data.drop", _BY_NAME["data.drop"], (), (), plain)
    yield Variant("elem.drop", _BY_NAME["elem.drop"], (), (), plain)
    yield Variant("ref.func", _BY_NAME["ref.func"], (), (_FUNCREF,), plain)
    row = _BY_NAME["ref.is_null"]
    yield Variant("ref.is_null", row, (_FUNCREF,), (_I32,), lambda b: None)


def _copies(
    name: str, narrow: MemoryType | TableType, wide: MemoryType | TableType
) -> Iterator[Variant]:
    row = _BY_NAME[name]
    facts = {"32": narrow, "64": wide}
    for (to, into), (at, out) in product(facts.items(), repeat=2):
        count = _I64 if into is wide and out is wide else _I32

        def pair(b: Body, into: object = into, out: object = out) -> object:
            return b.number(into), b.number(out)

        params = (into.address, out.address, count)
        yield Variant(f"{name}@{to}.{at}", row, params, (), pair)


def _stateful(variant: Variant, kinds: str, dest: str, b: Body) -> None:
    operands = [b.operand(kind, ty) for kind, ty in zip(kinds, variant.params, strict=True)]
    immediate = variant.immediate(b)
    found = STATE_MEANINGS[variant.row.meaning[0]](b, variant.row, immediate, operands)
    for ty, value in zip(variant.results, found, strict=True):
        b.result(dest, ty, value)


def _variant_rows() -> None:
    for variant in variants():
        result = class_of(variant.results[0]) if variant.results else ""
        for kinds in kinds_of(variant.params, plain=not variant.name.startswith("global.")):
            reads = _reads(kinds, variant.params)
            for dest in (">r", ">s") if variant.results else ("",):
                write = partial(_stateful, variant, kinds, dest)
                _add(f"{variant.name}:{kinds}{dest}", write, reads, result)


# --- moving values ------------------------------------------------------------------------------


def _copy(ty: ValType, kind: str, b: Body) -> None:
    value = b.operand(kind, ty)
    kept = dict(b.at)
    b.to_register(ty, value)
    b.store_slot(b.slot(), ty)
    b.at.update(kept)  # a copy is no result


def _load_constant(ty: ValType, b: Body) -> None:
    b.to_register(ty, b.operand("i", ty))


def _load_vector(dest: str, b: Body) -> None:
    value = b.word("<16 x i8>")
    b.words += 1
    b.result(dest, _V128, value)


def _select(register: str, kinds: str, dest: str, b: Body) -> None:
    ty = _COPIED[register]
    t = LLVM_TYPE[ty]
    first, second = (b.operand(kind, ty) for kind in kinds[:2])
    condition = b.let(f"icmp ne i32 {b.operand(kinds[2], _I32)}, 0")
    chosen = f"select i1 {condition}, {t} {first}, {t} {second}, {UNPREDICTABLE}"
    b.result(dest, ty, b.let(chosen))


def _moves() -> None:
    for register, ty in _COPIED.items():
        _add(f"copy.{register}:r", partial(_copy, ty, "r"), register)
        if register in "rv":
            _add(f"copy.{register}:s", partial(_copy, ty, "s"))
        if register != "v":
            _add(f"const.{register}", partial(_load_constant, ty), "", register)
        for kinds in product("sri", "sri", "sr"):
            listed = "".join(kinds)
            reads = _reads(listed, (ty, ty, _I32))
            if len(set(reads)) < len(reads) or (register == "v" and "i" in kinds):
                continue
            for dest in (">r", ">s"):
                write = partial(_select, register, listed, dest)
                _add(f"select.{register}:{listed}{dest}", write, reads, register)
    _add("copy.r:i", partial(_copy, _I64, "i"))
    for dest in (">r", ">s"):
        _add(f"v128.const:{dest}", partial(_load_vector, dest), "", "v")


# --- control ------------------------------------------------------------------------------------


def _jump(b: Body) -> None:
    b.go(b.let(f"getelementptr i8, ptr %pc, i64 {b.word()}"))


def _branch_if(kind: str, wanted: int, b: Body) -> None:
    branch(b, b.operand(kind, _I32), wanted)


def _jump_table(kind: str, b: Body) -> None:
    """Words: operand, number of the default target, the distances."""
    index = b.let(f"zext i32 {b.operand(kind, _I32)} to i64")
    last = b.word()
    number = b.let(f"call i64 @llvm.umin.i64(i64 {index}, i64 {last})")
    place = b.let(f"getelementptr i64, ptr {b.place()}, i64 {number}")
    distance = b.let(f"load i64, ptr {place}")
    b.go(b.let(f"getelementptr i8, ptr %pc, i64 {distance}"))


def _unreachable(b: Body) -> None:
    b.trap(TrapCode.UNREACHABLE)


def _out_of_bounds(b: Body) -> None:
    b.trap(TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS)


def _return(ty: ValType, kind: str, b: Body) -> None:
    b.to_register(ty, b.operand(kind, ty))
    b.store_slot(b.at["fp"], ty)
    b.leave()


def _move_down(b: Body) -> None:
    """Cells to fp from further up. Words: offset, bytes."""
    source = b.slot()
    size = b.word()
    b.do(f"call void @llvm.memmove.p0.p0.i64(ptr {b.at['fp']}, ptr {source}, i64 {size}, i1 false)")


def _zero(count: int, b: Body) -> None:
    """Declared locals begin as zero. Words: offset of the first; of ``zero.n`` also bytes."""
    place = b.slot()
    size = str(8 * count) if count else b.word()
    b.do(f"call void @llvm.memset.p0.i64(ptr {place}, i8 0, i64 {size}, i1 false)")


def result_name(ty: ValType) -> str:
    """How handlers of calls and returns name a type."""
    return "ref" if ty.is_ref else ty.value


_RESULT_TYPES = {result_name(ty): ty for ty in KINDS_OF_VALUES}
RESULTS = ("", *_RESULT_TYPES)


@dataclass(frozen=True, slots=True)
class _Callee:
    """What a handler found that calls: CodeEntry, context, and whether it is of this instance."""

    entry: str
    context: str
    own: bool


def _call(find: Callable[[Body], _Callee], outside: str, b: Body) -> None:
    """Words after the callee: offset of the arguments, offset of the end of what is in use."""
    before = b.words
    callee = find(b)
    slots = b.slot()
    b.words += 1

    def leave() -> None:
        b.jump(f'@"{outside}"', pc=b.place(before - 1 - b.words))

    b.call(callee.entry, callee.context, slots, b.place(), callee.own, leave)


def _call_outside(find: Callable[[Body], _Callee], result: str, b: Body) -> None:
    """The same call when something else than this interpreter runs the function."""
    callee = find(b)
    slots, end = b.slot(), b.slot()
    b.native_call(callee.entry, callee.context, slots, end)
    ty = _RESULT_TYPES.get(result)
    if ty is not None:  # its register holds the result, as after a return
        b.to_register(ty, b.let(f"load {LLVM_TYPE[ty]}, ptr {slots}, align 8"))
    b.next()


def _own(b: Body) -> _Callee:
    """Words: the callee's CodeEntry."""
    return _Callee(b.word("ptr"), b.vm, True)


def _referred(b: Body, reference: str) -> _Callee:
    context = b.load_field(reference, FuncRef.CONTEXT, "ptr", INVARIANT)
    entry = b.load_field(reference, FuncRef.ENTRY, "ptr", INVARIANT)
    return _Callee(entry, context, False)


def _imported(b: Body) -> _Callee:
    """Words: the place of the FuncRef in the VMContext."""
    return _referred(b, b.let(f"getelementptr i8, ptr {b.vm}, i64 {b.word()}"))


def _indirect(where: str, kind: str, b: Body) -> _Callee:
    """Words: operand, the places of the table and of the type's number in the VMContext."""
    table = TABLE[where]
    operand = b.operand(kind, table.address)
    place = b.number(table)
    index = table_index(b, place, operand)
    outside = b.let(f"icmp uge i64 {index}, {table_size(b, place)}")
    b.trap_if(outside, TrapCode.UNDEFINED_ELEMENT)
    reference = b.let(f"load ptr, ptr {table_element(b, place, index)}, {ELEMENT}")
    b.trap_if(b.let(f"icmp eq ptr {reference}, null"), TrapCode.UNINITIALIZED_ELEMENT)
    has = b.load_field(reference, FuncRef.SIGNATURE, "i64", INVARIANT)
    wanted = b.load_field(b.vm, b.number(), "i64", INVARIANT)
    b.trap_if(b.let(f"icmp ne i64 {has}, {wanted}"), TrapCode.INDIRECT_CALL_TYPE_MISMATCH)
    return _referred(b, reference)


def _count(b: Body) -> None:
    """Counts how often it is run, in its own word: for choosing sequences."""
    place = b.place()
    b.words += 1
    before = b.let(f"load i64, ptr {place}")
    b.do(f"store i64 {b.let(f'add i64 {before}, 1')}, ptr {place}")


def _hot(b: Body) -> None:
    """A safepoint of code that may move up. Words: the CodeEntry, the number of the loop.

    Every slot is in its place. When the counter is used up it calls what ``HOT_SYMBOL`` points to:
    ``i32 (entry, vm, fp, loop)``, which answers 0 to go on here, or 1 when it has run the function
    to its end and put the results at fp. It may use the value stack above the function's frame.
    """
    entry, loop = b.word("ptr"), b.word()
    counter = b.field(entry, CodeEntry.COUNT)
    left = b.let(f"sub i64 {b.let(f'load i64, ptr {counter}, {STATE}')}, 1")
    b.do(f"store i64 {left}, ptr {counter}, {STATE}")
    cold, after, leave = b.new_label("cold"), b.new_label("after"), b.new_label("leave")
    used_up = b.let(f"icmp slt i64 {left}, 0")
    b.do(f"br i1 {used_up}, label %{cold}, label %{after}, !prof !20")
    b.label(cold)
    code = b.load_field(entry, CodeEntry.CODE, "ptr", STATE)
    size = b.load_field(code, Header.FRAME_BYTES, "i64", INVARIANT)
    b.save_stacks(b.let(f"getelementptr i8, ptr {b.at['fp']}, i64 {size}"))
    hook = b.let(f"load ptr, ptr @{HOT_SYMBOL}")
    fp = b.at["fp"]
    done = b.let(f"call i32 {hook}(ptr {entry}, ptr {b.vm}, ptr {fp}, i64 {loop})")
    ended = b.let(f"icmp ne i32 {done}, 0")
    b.do(f"br i1 {ended}, label %{leave}, label %{after}")
    b.label(leave)
    b.leave()
    b.label(after)
    b.next()


def _control() -> None:
    _add("jump", _jump, ends=True, branches=True)
    _add("unreachable", _unreachable, ends=True)
    _add("out_of_bounds", _out_of_bounds, ends=True)
    for kind in "sr":
        reads = "r" if kind == "r" else ""
        for wanted in (0, 1):
            _add(
                f"branch:{kind}?{wanted}", partial(_branch_if, kind, wanted), reads, "", True, True
            )
        _add(f"jump_table:{kind}", partial(_jump_table, kind), reads, ends=True)
    _add("return", Body.leave, ends=True)
    for ty in KINDS_OF_VALUES:
        for kind in "sri" if ty is not _V128 else "sr":
            reads = class_of(ty) if kind == "r" else ""
            _add(f"return.{result_name(ty)}:{kind}", partial(_return, ty, kind), reads, ends=True)
    finders: list[tuple[str, str, str, Callable[[Body], _Callee]]] = [
        ("call", "", "", _own),
        ("call_import", "", "", _imported),
    ]
    for where in TABLE:
        for kind in "sr":
            reads = "r" if kind == "r" else ""
            found = partial(_indirect, where, kind)
            finders.append(("call_indirect", f"{where}:{kind}", reads, found))
    for name, rest, reads, find in finders:
        for result in RESULTS:
            whole = f"{name}.{result}{rest}" if result else f"{name}{rest}"
            _add(f"{whole}!", partial(_call_outside, find, result), reads, ends=True)
            _add(whole, partial(_call, find, f"{whole}!"), reads, ends=True)
    _add("move_down", _move_down)
    for count in range(9):
        _add(f"zero.{count or 'n'}", partial(_zero, count))
    _add("count", _count)
    _add("hot", _hot, ends=True)


_signature_rows()
_variant_rows()
_moves()
_control()


# --- the whole interpreter ----------------------------------------------------------------------


def sequence_reads(parts: tuple[str, ...], register: str) -> bool:
    """Whether handlers look at a register before they put something else into it."""
    for part in parts:
        shape = HANDLERS[part]
        if register in shape.reads:
            return True
        if register == shape.result:
            return False
    return True  # the next handler may


def write_handler(symbol: str, parts: tuple[str, ...]) -> str:
    """The IR of one handler, or of several in sequence."""
    b = Body(symbol)
    for number, part in enumerate(parts):
        shape = HANDLERS[part]
        # LLVM would delete a load that nobody reads, and with it the trap.
        b.keep_load = not sequence_reads(parts[number + 1 :], shape.result or "r")
        b.describe()
        shape.write(b)
    if not shape.ends:
        b.next()
    return b.finish()


def interpreter_unit(sequences: tuple[tuple[str, ...], ...]) -> str:
    """The whole interpreter. ``TABLE_SYMBOL`` lists the handlers and then the sequences."""
    parts = [preamble(), entry_unit(FAST)]
    parts.append(f"@{HOT_SYMBOL} = global ptr null")
    parts.append("declare i64 @llvm.umin.i64(i64, i64)")
    symbols = []
    for sequence in (*((name,) for name in HANDLERS), *sequences):
        symbol = "+".join(sequence)
        parts.append(write_handler(symbol, sequence))
        symbols.append(f'ptr @"{symbol}"')
    listed = ", ".join(symbols)
    parts.append(f"@{TABLE_SYMBOL} = constant [{len(symbols)} x ptr] [{listed}]")
    return "\n".join(parts)
