"""How the classic interpreter's handlers reach operands and immediates.

Code is a function's own bytes, but for some opcodes (``classic_code.py``): pc is the address of an
opcode, immediates follow it as the binary format has them. A handler's common version reads
immediates of one byte each and jumps to its twin, which reads any, when there are more.

Of the operand stack, up to two topmost cells are in registers. How many is the *state*, and each
state has a version of a handler and a table of them: a handler ends by a jump through the table of
the state that it leaves. So values that are used at once never get to memory, and where paths
meet, nothing has to agree.

    state 0   all cells are in memory, below sp
    state 1   the topmost is in t
    state 2   the topmost is in t, the next in s

``Body`` implements ``lower.state.Frame``: a ``LateNumber`` stands for what only the bytes know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from wasinn_runtime.abi.layout import VMContext, VMLayout
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.lower.late_number import FactsByNumber, LateNumber
from wasinn_runtime.lower.state import Frame
from wasinn_runtime.lower.threaded import Handler, Interpreter
from wasinn_runtime.lower.writer import COLD, INVARIANT, LLVM_TYPE
from wasinn_runtime.spec.types import GlobalType, Limits, MemoryType, TableType, ValType

__all__ = ["CLASSIC", "STATES", "Body", "Code", "ModuleFacts", "Pattern"]

CLASSIC = Interpreter(
    "wasinn_classic",
    (
        ("sp", "ptr"),  # the first free cell in memory
        ("s", "i64"),
        ("t", "i64"),
        ("stp", "ptr"),  # the place in the side table
        ("dt", "ptr"),  # the handlers, state after state
        ("cd", "ptr"),  # the running function's Code
    ),
)
STATES = 3
TABLE_BYTES = 256 * 8


class Code:
    """What ``CodeEntry.CODE`` points to; see also ``threaded.Header``, which is before it."""

    FIRST = 0  # ptr: the first instruction
    LAST = 8  # ptr: the final end
    SIDE_TABLE = 16  # ptr
    HANDLERS = 24  # ptr: the table of state 0, the others follow
    LOCAL_BYTES = 32  # i64: of parameters, locals and cells for exceptions
    IMPORTED_GLOBALS = 40  # i64: how many
    GLOBALS = 48  # i64: where in the VMContext global 0 would be, were it defined there
    IMPORTED_FUNCTIONS = 56  # i64: how many
    MODULE = 64  # ptr ModuleFacts
    LOCALS = 72  # ptr: of each local 4 bytes: twice its offset, and 1 more if it has two cells
    TRIES = 80  # ptr: the function's tries, innermost first; 0 if it has none
    WORDS = 11


class ModuleFacts:
    """What handlers must know of a module beside its layout. All are pointers or i64."""

    FUNCTION_CELLS = 0  # ptr: of each function 4 bytes: cells of parameters, of results
    TYPE_CELLS = 8  # ptr: of each type the same
    REFERENCES = 16  # ptr: of each function 4 bytes: where its FuncRef is in the VMContext
    ADDRESSES = 24  # ptr: of each memory a byte: 1 for addresses of i64, 2 if shared, or both
    TABLE_ADDRESSES = 32  # ptr: those of the tables
    GLOBAL_CELLS = 40  # ptr: of each global a byte
    FINAL = 48  # ptr: of each type a byte: 1 if it has no subtypes
    PLACES = 56  # i64 each: where in the VMContext regions begin, in the order of ``REGIONS``
    REGIONS = (
        "signature",
        "imported_function",
        "memory",
        "table",
        "imported_global",
        "data_segment",
        "element_segment",
        "tag",
    )
    WORDS = PLACES // 8 + len(REGIONS)


_STRIDES = {
    "signature": VMContext.SIGNATURE_BYTES,
    "memory": VMContext.RESOURCE_BYTES,
    "table": VMContext.RESOURCE_BYTES,
    "imported_global": 8,
    "data_segment": VMContext.SEGMENT_BYTES,
    "element_segment": VMContext.SEGMENT_BYTES,
    "tag": 8,
}


_Forked = tuple[list[str], int, tuple[str, int], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a handler looks for behind its own instruction, to do it at once.

    Attributes:
        mask, value: of the four bytes there, those that decide and what they must be. They leave
            no doubt of how long the immediates are.
        write: writes what it does.
    """

    mask: int
    value: int
    write: Callable[[Body], None]


class _Module:
    """What meanings ask of a module: nothing has 64-bit addresses unless the number says so."""

    memories = FactsByNumber(MemoryType(Limits(0)))
    tables = FactsByNumber(TableType(ValType.FUNCREF, Limits(0)))
    globals_ = FactsByNumber(GlobalType(ValType.I64, True))


class _Layout:
    """Places in the VMContext, computed from the index and where the region begins."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def __getattr__(self, name: str) -> Any:
        return lambda index: self._place(name, index)

    def _place(self, name: str, index: int) -> LateNumber:
        b = self._body
        if name == "funcref":  # what _Places gave
            assert isinstance(index, LateNumber)
            return index
        at = ModuleFacts.PLACES + 8 * ModuleFacts.REGIONS.index(name)
        begins = b.load_field(b.facts(), at, "i64", INVARIANT)
        if isinstance(index, LateNumber):
            stride = _STRIDES[name]
            begins = b.let(f"add i64 {begins}, {b.let(f'mul i64 {index}, {stride}')}")
        return LateNumber(b, begins)


class _Places:
    """Where the FuncRef of a function is."""

    def __init__(self, body: Body) -> None:
        self._body = body

    def __getitem__(self, index: int) -> LateNumber:
        b = self._body
        assert isinstance(index, LateNumber)
        found = b.fact_of(ModuleFacts.REFERENCES, index.value, "i32")
        return LateNumber(b, b.let(f"zext i32 {found} to i64"))


class Body(Handler):
    """A handler of the classic interpreter in the making. Implements ``lower.state.Frame``.

    Args:
        symbol: its name.
        state: the state that it begins in.
        twin: the handler that reads immediates of any length; empty if this one does.

    Attributes:
        cells: values of the topmost cells that are not in memory, deepest first.
        origin: the address of the instruction that is being written.
        short: whether immediates are expected to have one byte.
        known: whether it is known that they have.
        give_up: ends the block when what is expected is wrong, or for whatever else is rare.
        rest: what else this handler does, instruction by instruction.
        follow: what may be done at once after all that.
    """

    module = cast("ParsedModule", _Module())

    def __init__(self, symbol: str, state: int, twin: str = "") -> None:
        super().__init__(CLASSIC, symbol)
        self.cells = ["%s", "%t"][STATES - 1 - state :]
        self.symbol = symbol
        self.short = bool(twin)
        self.known = False
        self.origin = "%pc"
        self.rest: Sequence[Callable[[Body], None]] = ()
        self.follow: Sequence[Pattern] = ()
        self.give_up: Callable[[], None] = partial(self.leave_to, twin)
        self.layout = cast("VMLayout", _Layout(self))
        self.places = cast("Mapping[int, int]", _Places(self))
        self._below = 0  # bytes from sp to the first free cell in memory
        self._read = ("%pc", 1)

    # -- services of Frame -----------------------------------------------------------------------

    @property
    def keep_load(self) -> bool:
        """What one instruction does must have happened when one that follows it traps."""
        return self.known or bool(self.follow)

    @property
    def w(self) -> Body:
        return self

    @property
    def frame(self) -> Frame:
        """This as what meanings ask for; they only read its attributes."""
        return cast("Frame", self)

    @property
    def vm(self) -> str:
        return self.at["vm"]

    def memory_base(self, index: int) -> str:
        if not isinstance(index, LateNumber):
            return self.at["mem"]
        place = self.layout.memory(index) + VMContext.RESOURCE_BASE
        return self.load_field(self.vm, place, "ptr", INVARIANT)

    def facts(self) -> str:
        """The module's ``ModuleFacts``."""
        return self.of_code(Code.MODULE, "ptr")

    def fact_of(self, field: int, index: str, llvm_type: str) -> str:
        """An element of one of the arrays of ``ModuleFacts``."""
        array = self.load_field(self.facts(), field, "ptr", INVARIANT)
        place = self.let(f"getelementptr {llvm_type}, ptr {array}, i64 {index}")
        return self.let(f"load {llvm_type}, ptr {place}, {INVARIANT}")

    def of_code(self, field: int, llvm_type: str = "i64") -> str:
        """A field of the running function's ``Code``, or of its header."""
        return self.load_field(self.at["cd"], field, llvm_type, INVARIANT)

    # -- the operand stack -----------------------------------------------------------------------

    def fork(self) -> _Forked:
        """What ``join`` takes, to write another path from here."""
        return [*self.cells], self._below, self._read, {**self.at}

    def join(self, forked: _Forked) -> None:
        """Go back to what was known when ``fork`` was called."""
        cells, self._below, self._read, at = forked
        self.cells[:], self.at = cells, {**at}

    def _place(self) -> str:
        return self.place_below(0)

    def place_below(self, cells: int) -> str:
        """The address of a cell in memory; 0 is the first free one."""
        offset = self._below - 8 * cells
        sp = self.at["sp"]
        return self.let(f"getelementptr inbounds i8, ptr {sp}, i64 {offset}") if offset else sp

    def pop(self, ty: ValType) -> str:
        """Take the topmost value."""
        t = LLVM_TYPE[ty]
        if ty is ValType.V128:
            if not self.cells:
                self._below -= 16
                return self.let(f"load {t}, ptr {self._place()}, align 8")
            high, low = self.pop(ValType.I64), self.pop(ValType.I64)
            pair = self.let(f"insertelement <2 x i64> poison, i64 {low}, i64 0")
            pair = self.let(f"insertelement <2 x i64> {pair}, i64 {high}, i64 1")
            return self.let(f"bitcast <2 x i64> {pair} to {t}")
        if not self.cells:
            self._below -= 8
            return self.let(f"load {t}, ptr {self._place()}, align 8")
        value = self.cells.pop()
        if t == "i64":
            return value
        if t in ("i32", "float"):
            value = self.let(f"trunc i64 {value} to i32")
            return value if t == "i32" else self.let(f"bitcast i32 {value} to float")
        if t == "ptr":
            return self.let(f"inttoptr i64 {value} to ptr")
        return self.let(f"bitcast i64 {value} to {t}")

    def peek(self, ty: ValType) -> str:
        """The topmost value, which stays."""
        cells, below = [*self.cells], self._below
        value = self.pop(ty)
        self.cells, self._below = cells, below
        return value

    def push(self, ty: ValType, value: str) -> None:
        t = LLVM_TYPE[ty]
        if ty is ValType.V128:
            pair = self.let(f"bitcast {t} {value} to <2 x i64>")
            for lane in (0, 1):
                self.cells.append(self.let(f"extractelement <2 x i64> {pair}, i64 {lane}"))
            return
        if t == "float":
            t, value = "i32", self.let(f"bitcast float {value} to i32")
        if t == "i32":
            value = self.let(f"zext i32 {value} to i64")
        elif t == "ptr":
            value = self.let(f"ptrtoint ptr {value} to i64")
        elif t == "double":
            value = self.let(f"bitcast double {value} to i64")
        self.cells.append(value)

    def spill(self, keep: int = 0) -> None:
        """Put all cells but so many into memory."""
        while len(self.cells) > keep:
            self.do(f"store i64 {self.cells.pop(0)}, ptr {self._place()}, align 8")
            self._below += 8

    def move_stack(self, sp: str) -> None:
        """Have the operands in memory end elsewhere."""
        self.at["sp"], self._below = sp, 0

    # -- the bytes -------------------------------------------------------------------------------

    def here(self, ahead: int = 0) -> str:
        """The address of the next byte that nobody has read."""
        base, offset = self._read
        offset += ahead
        return self.let(f"getelementptr inbounds i8, ptr {base}, i64 {offset}") if offset else base

    def skip(self, size: int) -> None:
        base, offset = self._read
        self._read = (base, offset + size)

    def read_at(self, address: str) -> None:
        """Go on reading elsewhere."""
        self._read = (address, 0)

    def byte(self) -> str:
        """The next byte, an i8."""
        value = self.let(f"load i8, ptr {self.here()}")
        self.skip(1)
        return value

    def literal(self, llvm_type: str, size: int) -> str:
        """A constant in its own bytes."""
        value = self.let(f"load {llvm_type}, ptr {self.here()}, align 1")
        self.skip(size)
        return value

    def use_twin(self, condition: str) -> None:
        """Leave it to the twin if an i1 holds."""
        long, short = self.new_label("long"), self.new_label("short")
        self.do(f"br i1 {condition}, label %{long}, label %{short}, {COLD}")
        self.label(long)
        kept = self.fork()
        self.give_up()
        self.join(kept)
        self.label(short)

    def leave_to(self, handler: str) -> None:
        """End the block by jumping to another handler for this instruction, in the same state."""
        listed = ", ".join(f"{t} %{name}" for name, t in CLASSIC.registers)
        self.do(f'musttail call preserve_nonecc void @"{handler}"({listed})')
        self.do("ret void")

    def unsigned(self) -> str:
        """The next LEB128 number, unsigned, as i64."""
        if self.short:
            value = self.byte()
            if not self.known:
                self.use_twin(self.let(f"icmp slt i8 {value}, 0"))
            return self.let(f"zext i8 {value} to i64")
        value, _ = self._any_length()
        return value

    def signed(self) -> str:
        """The next LEB128 number, signed, as i64."""
        if self.short:
            value = self.byte()
            if not self.known:
                self.use_twin(self.let(f"icmp slt i8 {value}, 0"))
            value = self.let(f"shl i8 {value}, 1")
            return self.let(f"ashr i64 {self.let(f'sext i8 {value} to i64')}, 1")
        return self._any_signed()

    def constant(self) -> str:
        """The same for constants, of which also two and three bytes are common."""
        if not self.short:
            return self._any_signed()
        if self.known:
            return self.signed()
        done = self.new_label("constant")
        found: list[tuple[str, str, str]] = []
        low = "0"
        for place in range(3):
            byte = self.byte()
            is_last, last, more = (
                self.let(f"icmp sge i8 {byte}, 0"),
                *map(self.new_label, ("last", "more")),
            )
            self.do(f"br i1 {is_last}, label %{last}, label %{more}")
            self.label(last)
            high = self.let(f"sext i8 {self.let(f'shl i8 {byte}, 1')} to i64")
            high = self.let(f"shl i64 {self.let(f'ashr i64 {high}, 1')}, {7 * place}")
            found.append((self.let(f"or i64 {high}, {low}"), self.here(), last))
            self.do(f"br label %{done}")
            self.label(more)
            bits = self.let(f"zext i8 {self.let(f'and i8 {byte}, 127')} to i64")
            low = self.let(f"or i64 {low}, {self.let(f'shl i64 {bits}, {7 * place}')}")
        kept = self.fork()
        self.give_up()
        self.join(kept)
        self.label(done)
        values = ", ".join(f"[ {value}, %{label} ]" for value, _, label in found)
        places = ", ".join(f"[ {place}, %{label} ]" for _, place, label in found)
        self.read_at(self.let(f"phi ptr {places}"))
        return self.let(f"phi i64 {values}")

    def _any_signed(self) -> str:
        value, bits = self._any_length()
        # bits may be 70: those of a number of 64 are all there then
        unused = self.let(f"call i64 @llvm.usub.sat.i64(i64 64, i64 {bits})")
        value = self.let(f"shl i64 {value}, {unused}")
        return self.let(f"ashr i64 {value}, {unused}")

    def _any_length(self) -> tuple[str, str]:
        """A LEB128 number and how many bits were read."""
        start, before = self.here(), self.block
        again, done = self.new_label("more"), self.new_label("read")
        place, shift, sofar = (f"%{again}.{word}" for word in ("at", "shift", "sum"))
        next_place, next_shift, total = (f"{n}.next" for n in (place, shift, sofar))
        self.do(f"br label %{again}")
        self.label(again)
        self.do(f"{place} = phi ptr [ {start}, %{before} ], [ {next_place}, %{again} ]")
        self.do(f"{shift} = phi i64 [ 0, %{before} ], [ {next_shift}, %{again} ]")
        self.do(f"{sofar} = phi i64 [ 0, %{before} ], [ {total}, %{again} ]")
        byte = self.let(f"load i8, ptr {place}")
        bits = self.let(f"zext i8 {self.let(f'and i8 {byte}, 127')} to i64")
        self.do(f"{total} = or i64 {sofar}, {self.let(f'shl i64 {bits}, {shift}')}")
        self.do(f"{next_place} = getelementptr inbounds i8, ptr {place}, i64 1")
        self.do(f"{next_shift} = add i64 {shift}, 7")
        more = self.let(f"icmp slt i8 {byte}, 0")
        self.do(f"br i1 {more}, label %{again}, label %{done}")
        self.label(done)
        self.read_at(next_place)
        return total, next_shift

    def number(self, fact: object = None) -> LateNumber:
        """The next unsigned number as an immediate."""
        return LateNumber(self, self.unsigned(), fact)

    # -- going on --------------------------------------------------------------------------------

    def dispatch(self, pc: str, stp: str = "") -> None:
        """End the block by going on at an instruction."""
        self.spill(STATES - 1)
        state = len(self.cells)
        sp = self._place()
        opcode = self.let(f"zext i8 {self.let(f'load i8, ptr {pc}')} to i64")
        place = self.let(f"getelementptr inbounds ptr, ptr {self.at['dt']}, i64 {opcode}")
        if state:
            offset = TABLE_BYTES * state
            place = self.let(f"getelementptr inbounds i8, ptr {place}, i64 {offset}")
        handler = self.let(f"load ptr, ptr {place}, {INVARIANT}")
        self.jump_in_state(handler, pc=pc, sp=sp, stp=stp or self.at["stp"])

    def jump_in_state(self, handler: str, **changed: str) -> None:
        """End the block by jumping to a handler for the state that is now."""
        registers = dict(zip("ts", reversed(self.cells), strict=False))
        # A mark of its own keeps LLVM from joining jumps, which the CPU predicts by where they are.
        mark = f"{self.symbol} {len(self.lines)}"
        self.do(f'call void asm sideeffect "# {mark}", ""()')
        self.jump(handler, **{"s": "poison", "t": "poison", **registers, **changed})

    def next(self) -> None:
        """End the handler by going on after what was read: with the rest of it, or anything."""
        pc = self.here()
        outer = self.origin, self.rest, self.follow, self.short, self.known
        if self.rest:
            self.origin, (write, *self.rest) = pc, self.rest
            self.skip(1)
            write(self)
        elif self.follow:
            self._look_ahead(pc)
        else:
            self.dispatch(pc)
        self.origin, self.rest, self.follow, self.short, self.known = outer

    def _look_ahead(self, pc: str) -> None:
        """End the handler by what follows, if that is expected, or by going on there."""
        ahead = self.let(f"load i32, ptr {pc}, align 1")
        before = self.fork()
        patterns = self.follow
        self.origin, self.follow, self.short, self.known = pc, (), True, True
        for pattern in patterns:
            fused, apart = self.new_label("fused"), self.new_label("apart")
            decides = self.let(f"and i32 {ahead}, {pattern.mask}")
            follows = self.let(f"icmp eq i32 {decides}, {pattern.value}")
            self.do(f"br i1 {follows}, label %{fused}, label %{apart}")
            self.label(fused)
            self.read_at(pc)
            self.skip(1)
            pattern.write(self)
            self.join(before)
            self.label(apart)
        self.dispatch(pc)
