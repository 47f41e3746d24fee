"""The classic interpreter's handlers, derived from the opcode table, as one unit of LLVM IR.

There are two sets of them. The plain one is for functions where every operand takes one cell and
every address 32 bits; the wide one looks these things up. A function's ``Code`` says which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import wasinn_runtime.lower.atomics  # noqa: F401 registers meanings
from wasinn_runtime.abi.layout import CodeEntry, StoreContext, VMContext
from wasinn_runtime.errors import Internal
from wasinn_runtime.lower.classic_body import (
    CLASSIC,
    STATES,
    Body,
    Code,
    ModuleFacts,
    Pattern,
)
from wasinn_runtime.lower.classic_calls import BOTTOM_PC, CALLS, WIDE_CALLS, begin
from wasinn_runtime.lower.classic_code import DONE, PARTS, SEQUENCE_CODES, SKIP, Part
from wasinn_runtime.lower.classic_control import (
    CONTROL,
    WIDE,
    Frame,
    Write,
    drop_and_take,
)
from wasinn_runtime.lower.classic_exceptions import BOTTOM_SYMBOL, THROWING, unwind
from wasinn_runtime.lower.late_number import LateNumber
from wasinn_runtime.lower.meanings import MEANINGS
from wasinn_runtime.lower.simd import LANE_MEANINGS
from wasinn_runtime.lower.state import STATE_MEANINGS
from wasinn_runtime.lower.threaded import (
    HANDLER_ATTRIBUTES,
    Header,
    entry_stacks,
    leave_entry,
    trap_handlers,
    unless_handed_over,
)
from wasinn_runtime.lower.units import preamble
from wasinn_runtime.lower.writer import GLOBAL, INVARIANT, STATE, FunctionWriter
from wasinn_runtime.spec.opcodes import PREFIXES, ROWS, Imm, Opcode
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import Limits, MemoryType, TableType, ValType

__all__ = ["PLAIN_SYMBOL", "SPARE_BYTES", "WIDE_SYMBOL", "classic_unit"]

PLAIN_SYMBOL = f"{CLASSIC.name}_plain"
WIDE_SYMBOL = f"{CLASSIC.name}_wide"
# Beyond a frame's cells: declared locals are zeroed by 32 bytes.
SPARE_BYTES = 64

# Tests of what follows must stay tests: a jump through a table would cost what they save.
_ATTRIBUTES = HANDLER_ATTRIBUTES.replace("uwtable", 'uwtable "no-jump-tables"="true"')

_I32, _I64, _V128, _REF = ValType.I32, ValType.I64, ValType.V128, ValType.FUNCREF
_TWIN = "+"


# --- rows with a signature ----------------------------------------------------------------------


def _numeric(row: Opcode, b: Body) -> None:
    assert row.params is not None
    assert row.results is not None
    operands = [b.pop(ty) for ty in reversed(row.params)][::-1]
    result = MEANINGS[row.meaning[0]](b, row, operands)
    b.push(row.results[0], result)
    b.next()


def _with_lanes(row: Opcode, b: Body) -> None:
    """Of vectors, with a lane, a mask or a vector as immediate."""
    assert row.params is not None
    assert row.results is not None
    if row.imm is Imm.LANE:
        immediate = b.let(f"zext i8 {b.byte()} to i32")
    else:
        immediate = b.literal("<16 x i8>", 16)
    operands = [b.pop(ty) for ty in reversed(row.params)][::-1]
    b.push(row.results[0], LANE_MEANINGS[row.meaning[0]](b, row, immediate, operands))
    b.next()


def _constant(row: Opcode, b: Body) -> None:
    if row.imm is Imm.F32:
        b.cells.append(b.let(f"zext i32 {b.literal('i32', 4)} to i64"))
    elif row.imm is Imm.F64:
        b.cells.append(b.literal("i64", 8))
    else:
        b.cells.append(b.constant())
    b.next()


# --- memories and tables: which types their addresses have --------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    """An immediate that names a memory or a table.

    Attributes:
        facts: where the module's bytes about them are.
        narrow, wide: the types it may have.
    """

    facts: int
    narrow: object
    wide: object


_MEMORY = _Kind(ModuleFacts.ADDRESSES, MemoryType(Limits(0)), MemoryType(Limits(0), _I64))
_TABLE = _Kind(
    ModuleFacts.TABLE_ADDRESSES, TableType(_REF, Limits(0)), TableType(_REF, Limits(0), _I64)
)
_SHARED = (MemoryType(Limits(0), shared=True), MemoryType(Limits(0), _I64, shared=True))


# What means something else for shared memories.
_OF_SHARED = {"memory.grow", "atomic.wait", "atomic.notify"}


def _choose(
    b: Body, row: Opcode, kinds: list[_Kind], numbers: list[str], then: Callable[..., None]
) -> None:
    """End the handler by the way of writing that fits the types, found at run time."""

    def pick(found: list[LateNumber]) -> None:
        if len(found) == len(kinds):
            then(found)
            return
        kind, number = kinds[len(found)], numbers[len(found)]
        what = b.fact_of(kind.facts, number, "i8")
        facts = [kind.narrow, kind.wide]
        if row.meaning[0] in _OF_SHARED:
            facts += _SHARED
        else:
            what = b.let(f"and i8 {what}, 1")
        labels = [b.new_label("kind") for _ in facts]
        cases = " ".join(f"i8 {n}, label %{label}" for n, label in enumerate(labels))
        b.do(f"switch i8 {what}, label %{labels[0]} [ {cases} ]")
        forked = b.fork()
        for label, fact in zip(labels, facts, strict=True):
            b.join(forked)
            b.label(label)
            pick([*found, LateNumber(b, number, fact)])

    pick([])


def _address_type(number: object) -> ValType:
    fact = number.fact if isinstance(number, LateNumber) else None
    return fact.address if isinstance(fact, MemoryType | TableType) else _I32


_FAR = 1 << 62


def _access(row: Opcode, wide: bool, b: Body) -> None:
    """A load or store, or an atomic access."""
    if b.short:
        both = b.let(f"load i16, ptr {b.here()}, align 1")
        if not b.known:
            rare = b.let(f"icmp ne i16 {b.let(f'and i16 {both}, {0x80C0 - (1 << 16)}')}, 0")
            b.use_twin(rare)
        b.skip(2)
        offset = b.let(f"zext i16 {b.let(f'lshr i16 {both}, 8')} to i64")
        _access_at(row, wide, b, offset, None)
        return
    flags = b.unsigned()
    named = b.let(f"icmp ne i64 {b.let(f'and i64 {flags}, 64')}, 0")
    other, first, done = (b.new_label(hint) for hint in ("other", "first", "memory"))
    short = b.here()
    b.do(f"br i1 {named}, label %{other}, label %{first}")
    b.label(other)
    number = b.unsigned()
    long, after = b.here(), b.block
    b.do(f"br label %{done}")
    b.label(first)
    b.do(f"br label %{done}")
    b.label(done)
    b.read_at(b.let(f"phi ptr [ {short}, %{first} ], [ {long}, %{after} ]"))
    memory = b.let(f"phi i64 [ 0, %{first} ], [ {number}, %{after} ]")
    offset = b.unsigned()
    if wide:
        # More than any memory has, but not so much that adding the bytes of an access overflows.
        far = b.let(f"icmp ugt i64 {offset}, {_FAR}")
        offset = b.let(f"select i1 {far}, i64 {_FAR}, i64 {offset}")
    _access_at(row, wide, b, offset, memory)


def _access_at(row: Opcode, wide: bool, b: Body, offset: str, memory: str | None) -> None:
    lane = [b.let(f"zext i8 {b.byte()} to i32")] if row.imm is Imm.MEMARG_LANE else []

    def then(found: Sequence[LateNumber | int]) -> None:
        assert row.params is not None
        assert row.results is not None
        params = (_address_type(found[0]), *row.params[1:])
        operands = [b.pop(ty) for ty in reversed(params)][::-1]
        immediate = (0, LateNumber(b, offset), found[0], *lane)
        results = STATE_MEANINGS[row.meaning[0]](b.frame, row, immediate, operands)
        for ty, value in zip(row.results, results, strict=True):
            b.push(ty, value)
        b.next()

    if wide:
        _choose(b, row, [_MEMORY], [memory or "0"], then)
    else:
        then([0 if memory is None else LateNumber(b, memory)])


# --- rows whose types the module decides --------------------------------------------------------

_Types = tuple[ValType, ...]
_KINDS = {
    Imm.MEMORY: (_MEMORY,),
    Imm.DATA_MEMORY: (None, _MEMORY),
    Imm.MEMORY_MEMORY: (_MEMORY, _MEMORY),
    Imm.TABLE: (_TABLE,),
    Imm.ELEM_TABLE: (None, _TABLE),
    Imm.TABLE_TABLE: (_TABLE, _TABLE),
    Imm.DATA: (None,),
    Imm.ELEM: (None,),
    Imm.FUNC: (None,),
    Imm.NONE: (),
}


def _least(*types: ValType) -> ValType:
    return _I32 if _I32 in types else _I64


# By name: from the address types of its memories or tables, the types of operands and results.
_SIGNATURES: dict[str, Callable[..., tuple[_Types, _Types]]] = {
    "memory.size": lambda a: ((), (a,)),
    "memory.grow": lambda a: ((a,), (a,)),
    "memory.fill": lambda a: ((a, _I32, a), ()),
    "memory.init": lambda a: ((a, _I32, _I32), ()),
    "memory.copy": lambda a, b: ((a, b, _least(a, b)), ()),
    "table.get": lambda a: ((a,), (_REF,)),
    "table.set": lambda a: ((a, _REF), ()),
    "table.size": lambda a: ((), (a,)),
    "table.grow": lambda a: ((_REF, a), (a,)),
    "table.fill": lambda a: ((a, _REF, a), ()),
    "table.init": lambda a: ((a, _I32, _I32), ()),
    "table.copy": lambda a, b: ((a, b, _least(a, b)), ()),
    "data.drop": lambda: ((), ()),
    "elem.drop": lambda: ((), ()),
    "ref.is_null": lambda: ((_REF,), (_I32,)),
    "ref.func": lambda: ((), (_REF,)),
    "ref.as_non_null": lambda: ((_REF,), (_REF,)),
    "atomic.fence": lambda: ((), ()),
}


def _stateful(row: Opcode, wide: bool, b: Body) -> None:
    kinds = _KINDS.get(row.imm, ())
    numbers = [b.unsigned() for _ in kinds]
    typed = [(kind, n) for kind, n in zip(kinds, numbers, strict=True) if kind is not None]

    def then(found: Sequence[LateNumber]) -> None:
        rest = iter(found)
        all_ = [
            LateNumber(b, n) if kind is None else next(rest)
            for kind, n in zip(kinds, numbers, strict=True)
        ]
        params, results = _SIGNATURES[row.name](*map(_address_type, found))
        operands = [b.pop(ty) for ty in reversed(params)][::-1]
        immediate = tuple(all_) if len(all_) > 1 else all_[0] if all_ else None
        values = STATE_MEANINGS[row.meaning[0]](b.frame, row, immediate, operands)
        for ty, value in zip(results, values, strict=True):
            b.push(ty, value)
        b.next()

    if wide:
        _choose(b, row, [kind for kind, _ in typed], [n for _, n in typed], then)
    else:
        then([LateNumber(b, n) for _, n in typed])


def _fence(b: Body) -> None:
    b.skip(1)
    b.do("fence seq_cst")
    b.next()


def _ref_null(b: Body) -> None:
    b.signed()
    b.cells.append("0")
    b.next()


def _global(wide: bool, then: Callable[[Body, ValType, str], None], b: Body) -> None:
    number = b.unsigned()
    imported = b.of_code(Code.IMPORTED_GLOBALS)
    is_import = b.let(f"icmp ult i64 {number}, {imported}")
    begins, offset = b.of_code(Code.GLOBALS), b.let(f"shl i64 {number}, 4")
    own = b.let(f"getelementptr i8, ptr {b.vm}, i64 {b.let(f'add i64 {begins}, {offset}')}")
    if b.short:
        b.use_twin(is_import)
        cell = own
    else:
        imports, done, before = b.new_label("import"), b.new_label("cell"), b.block
        b.do(f"br i1 {is_import}, label %{imports}, label %{done}")
        b.label(imports)
        other = b.load_field(
            b.vm, b.layout.imported_global(LateNumber(b, number)), "ptr", INVARIANT
        )
        b.do(f"br label %{done}")
        b.label(done)
        cell = b.let(f"phi ptr [ {own}, %{before} ], [ {other}, %{imports} ]")
    if not wide:
        then(b, _I64, cell)
        return
    two = b.let(f"icmp ne i8 {b.fact_of(ModuleFacts.GLOBAL_CELLS, number, 'i8')}, 1")
    labels = b.new_label("wide"), b.new_label("narrow")
    b.do(f"br i1 {two}, label %{labels[0]}, label %{labels[1]}")
    forked = b.fork()
    for label, ty in zip(labels, (_V128, _I64), strict=True):
        b.join(forked)
        b.label(label)
        then(b, ty, cell)


_CELL = {_I64: "i64", _V128: "<16 x i8>"}


def _global_get(b: Body, ty: ValType, cell: str) -> None:
    b.push(ty, b.let(f"load {_CELL[ty]}, ptr {cell}, align 8, {GLOBAL}"))
    b.next()


def _global_set(b: Body, ty: ValType, cell: str) -> None:
    b.do(f"store {_CELL[ty]} {b.pop(ty)}, ptr {cell}, align 8, {GLOBAL}")
    b.next()


# --- what handles each row ----------------------------------------------------------------------

_CONTROL, _WIDE = CONTROL | CALLS, WIDE | WIDE_CALLS


@dataclass(frozen=True, slots=True)
class _Handled:
    """How a row is handled.

    Attributes:
        write: writes its handler.
        any_state: whether there is a version for each state.
        has_twin: whether there is a common version that leaves the rest to a twin.
        is_same: whether the wide handler is the plain one.
    """

    write: Write
    any_state: bool
    has_twin: bool
    is_same: bool = True


def _handled(row: Opcode, wide: bool) -> _Handled:
    """How a row is handled in one of the two sets.

    Raises:
        Internal: it is not.
    """
    family, one_byte = row.meaning[0], row.code < 256
    control = _WIDE.get(row.name) if wide else None
    same = control is None
    control = control or _CONTROL.get(row.name)
    if control is not None:
        return _Handled(control.write, control.any_state, row.imm is not Imm.NONE, same)
    if row.name in THROWING:
        return _Handled(THROWING[row.name], False, False)
    if family == "const":
        return _Handled(partial(_constant, row), True, row.imm in (Imm.I32, Imm.I64))
    if family in ("global.get", "global.set"):
        then = _global_get if family == "global.get" else _global_set
        return _Handled(partial(_global, wide, then), True, True, False)
    if family in LANE_MEANINGS:
        return _Handled(partial(_with_lanes, row), False, False)
    if row.imm in (Imm.MEMARG, Imm.MEMARG_LANE):
        # In functions with 64-bit memories, speed is not what interpreters are for.
        return _Handled(partial(_access, row, wide), one_byte and not wide, not wide, False)
    if row.name == "ref.null":
        return _Handled(_ref_null, False, True)
    if family == "atomic.fence":
        return _Handled(_fence, False, False)
    if row.name in _SIGNATURES:
        twin = bool(_KINDS[row.imm]) and not wide
        return _Handled(partial(_stateful, row, wide), one_byte and not wide, twin, False)
    if row.imm is Imm.NONE and family in MEANINGS:
        return _Handled(partial(_numeric, row), one_byte, False)
    raise Internal(f"{row.name}: the classic interpreter does not handle it")


# --- what is done without a jump between ---------------------------------------------------------

_NO_TYPE = 0x40
_Follow = Sequence[Pattern]
_COMPARISONS = {"eqz", "icmp", "fcmp"}


def _follow(row: Opcode) -> _Follow:
    """What an instruction's handler does too when the bytes behind it say so.

    Each test costs something, so it is for what mostly comes, and would take too many codes else.
    """
    if row.meaning[0] not in _COMPARISONS or row.code > 255:
        return ()
    br_if, if_ = PARTS["br_if"].row, PARTS["if"].row
    return (
        Pattern(0x80FF, br_if.code, _handled(br_if, False).write),  # the label has one byte
        Pattern(0xFFFF, if_.code | _NO_TYPE << 8, _handled(if_, False).write),
    )


def _part(part: Part) -> Write:
    """What writes an instruction of a sequence."""
    if part.row.imm in (Imm.I32, Imm.I64) and part.size == 3:
        return _two_byte_constant
    return _handled(part.row, False).write


def _two_byte_constant(b: Body) -> None:
    both = b.literal("i16", 2)
    high = b.let(f"ashr i16 {b.let(f'shl i16 {both}, 1')}, 2")
    high = b.let(f"and i16 {high}, -128")
    value = b.let(f"or i16 {high}, {b.let(f'and i16 {both}, 127')}")
    b.cells.append(b.let(f"sext i16 {value} to i64"))
    b.next()


def _prefix(prefix: int, symbol: str, b: Body) -> None:
    number = b.unsigned()
    place = b.let(f"getelementptr ptr, ptr @{symbol}, i64 {number}")
    handler = b.let(f"load ptr, ptr {place}, {INVARIANT}")
    b.jump_in_state(handler, pc=b.here(-1), sp=b.place_below(0))


def _skip(b: Body) -> None:
    """Go on so many bytes further."""
    size = b.let(f"zext i8 {b.byte()} to i64")
    b.read_at(b.let(f"getelementptr inbounds i8, ptr {b.here()}, i64 {size}"))
    b.next()


def _flush(b: Body) -> None:
    """For instructions that have a version for state 0 only."""
    b.spill()
    b.dispatch("%pc")


def _done(b: Body) -> None:
    """The function that ``run`` began has returned."""
    b.spill()
    b.do("ret void")


# --- the whole unit -----------------------------------------------------------------------------


class _Unit:
    """Handlers and tables in the making."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def handler(
        self, symbol: str, write: Write, state: int, twin: str = "", follow: _Follow = ()
    ) -> str:
        body = Body(symbol, state, twin)
        body.follow = follow
        if symbol.endswith(_TWIN):
            # Inlined, it would cost the usual way registers, and so a frame.
            body.lines[0] = body.lines[0].replace("#8", "#8 noinline cold")
        write(body)
        self.parts.append(body.finish())
        return f'ptr @"{symbol}"'

    def sequence(self, sequence: str) -> list[str]:
        """The handlers of a sequence by state."""
        symbols = []
        parts = [PARTS[name] for name in sequence.split()]
        first, *rest = (_part(part) for part in parts)
        for state in range(STATES):
            symbol = f"{CLASSIC.name}.{sequence}.{state}"
            body = Body(symbol, state)
            body.short = body.known = True
            body.rest, body.follow = rest, _follow(parts[-1].row)
            first(body)
            self.parts.append(body.finish())
            symbols.append(f'ptr @"{symbol}"')
        return symbols

    def versions(self, name: str, handled: _Handled, follow: _Follow) -> list[str]:
        """The handlers of a row by state; state 0 alone where the others flush first."""
        symbols = []
        for state in range(STATES if handled.any_state else 1):
            symbol = f"{CLASSIC.name}.{name}.{state}"
            twin = ""
            if handled.has_twin:
                twin = f"{symbol}{_TWIN}"
                self.handler(twin, handled.write, state)
            symbols.append(self.handler(symbol, handled.write, state, twin, follow))
        return symbols

    def table(self, symbol: str, handlers: list[str], linkage: str = "internal ") -> None:
        listed = ", ".join(handlers)
        self.parts.append(f"@{symbol} = {linkage}constant [{len(handlers)} x ptr] [{listed}]")


def classic_unit() -> str:
    """The whole interpreter: ``PLAIN_SYMBOL``, ``WIDE_SYMBOL`` and ``CLASSIC.run_symbol``."""
    unit = _Unit()
    name = CLASSIC.name
    illegal = unit.handler(f"{name}.illegal", lambda b: b.trap(TrapCode.UNREACHABLE), 0)
    flush = [unit.handler(f"{name}.flush.{k}", _flush, k) for k in range(1, STATES)]
    done = [unit.handler(f"{name}.done.{k}", _done, k) for k in range(STATES)]
    skip = [unit.handler(f"{name}.skip.{k}", _skip, k) for k in range(STATES)]
    for k in range(STATES):
        unit.handler(f"{name}_drop.{k}", drop_and_take, k)
    unit.handler(f"{name}_unwind", unwind, 1)
    plain: dict[int, list[str]] = {}
    for wide, symbol in ((False, PLAIN_SYMBOL), (True, WIDE_SYMBOL)):
        found: dict[int, list[str]] = {}
        for row in ROWS:
            handled = _handled(row, wide)
            if wide and handled.is_same:
                found[row.code] = plain[row.code]
            else:
                name_ = f"{row.name}{'@wide' if wide else ''}"
                found[row.code] = unit.versions(name_, handled, _follow(row))
        if not wide:
            for sequence, code in SEQUENCE_CODES.items():
                found[code] = unit.sequence(sequence)
            plain = found
        found[SKIP] = skip
        by_byte: dict[int, list[str]] = {code: v for code, v in found.items() if code < 256}
        for prefix in PREFIXES:
            numbers = {code & 0xFFFF: v for code, v in found.items() if code >> 16 == prefix}
            if not numbers:
                continue
            second = f"{symbol}_{prefix:02x}"
            size = max(numbers) + 1
            unit.table(second, [numbers.get(n, [illegal])[0] for n in range(size)])
            write = partial(_prefix, prefix, second)
            by_byte[prefix] = unit.versions(f"{second}", _Handled(write, False, True), ())
        by_byte[DONE] = done
        listed = []
        for state in range(STATES):
            for byte in range(256):
                versions = by_byte.get(byte, [illegal])
                listed.append(versions[state] if len(versions) > state else flush[state - 1])
        unit.table(symbol, listed, "")
    declared = "declare ptr @wasinn_catch(ptr, ptr, ptr, i64)"
    return "\n".join(
        (
            preamble(),
            declared,
            _run(),
            trap_handlers(CLASSIC),
            *unit.parts,
            _ATTRIBUTES,
        )
    )


def _run() -> str:
    """The array entry of all functions that the classic interpreter runs."""
    name = CLASSIC.name
    bottom = ["ptr null"] * Code.WORDS
    bottom[Code.HANDLERS // 8] = f"ptr @{PLAIN_SYMBOL}"
    w = FunctionWriter(
        f"define void @{CLASSIC.run_symbol}(ptr %function, ptr %vm, ptr %slots, i64 %jumps) #0 "
        "personality ptr @__gcc_personality_v0"
    )
    store = w.load_field("%vm", VMContext.STORE, "ptr", INVARIANT)
    places, before = entry_stacks(w, store)
    fp, cs = before[StoreContext.VALUE_SP], before[StoreContext.CONTROL_SP]
    code = w.load_field("%function", CodeEntry.CODE, "ptr", STATE)
    control = w.let(f"getelementptr i8, ptr {cs}, i64 -{Frame.BYTES}")
    size = w.load_field(code, Header.FRAME_BYTES, "i64", INVARIANT)
    end = w.let(f"getelementptr i8, ptr {fp}, i64 {size}")
    w.trap_if(w.let(f"icmp ugt ptr {end}, {control}"), TrapCode.CALL_STACK_EXHAUSTED)
    params = w.let(f"shl i64 {w.load_field(code, Header.PARAM_CELLS, 'i64', INVARIANT)}, 3")
    w.do(f"call void @llvm.memmove.p0.p0.i64(ptr {fp}, ptr %slots, i64 {params}, i1 false)")
    for word, value in (
        (Frame.PC, w.let(f"getelementptr i8, ptr @{BOTTOM_PC}, i64 %jumps")),
        (Frame.FP, fp),
        (Frame.VM, "%vm"),
        (Frame.MEM, "null"),
        (Frame.CURRENT, before[StoreContext.CURRENT]),
        (Frame.STP, "null"),
        (Frame.CD, f"@{BOTTOM_SYMBOL}"),
    ):
        w.do(f"store ptr {value}, ptr {w.field(control, word)}")
    w.do(f"store ptr %function, ptr {places[StoreContext.CURRENT]}, {STATE}")
    offset = w.load_field(code, Header.MEMORY_AT, "i64", INVARIANT)
    memory = w.let(f"getelementptr i8, ptr %vm, i64 {offset}")
    values = {
        "pc": "null",
        "fp": fp,
        "vm": "%vm",
        "mem": w.let(f"load ptr, ptr {memory}, {INVARIANT}"),
        "cs": control,
        "sp": w.let(f"getelementptr i8, ptr {fp}, i64 {params}"),
        "s": "0",
        "t": "0",
        "stp": "null",
        "dt": "null",
        "cd": code,
    }
    listed = ", ".join(f"{t} {values[register]}" for register, t in CLASSIC.registers)
    w.do(f"invoke preserve_nonecc void @{name}_begin({listed}) to label %fine unwind label %thrown")
    w.label("fine")
    unless_handed_over(w, store)
    results = w.let(f"shl i64 {w.load_field(code, Header.RESULT_CELLS, 'i64', INVARIANT)}, 3")
    w.do(f"call void @llvm.memmove.p0.p0.i64(ptr %slots, ptr {fp}, i64 {results}, i1 false)")
    leave_entry(w, places, before)
    first = Body(f"{name}_begin", 0)
    begin(first, "%sp")
    return "\n".join(
        (
            w.finish(),
            first.finish(),
            f"@{BOTTOM_PC} = internal constant [2 x i8] [i8 {DONE}, i8 {DONE}]",
            f"@{BOTTOM_SYMBOL} = internal constant [{Code.WORDS} x ptr] [{', '.join(bottom)}]",
        )
    )
