"""What both interpreters share: threaded handlers, their registers, frames, calls and the way in.

A handler is an LLVM function that does its work and jumps to the next one. ``preserve_nonecc``
passes the interpreter's registers in CPU registers, ``musttail`` makes the jump a jump. What the
handlers mean, and how code points at them, is each interpreter's own affair.

Registers of every interpreter:

    pc   what it executes; the interpreter's own reading
    fp   the running function's slots: locals, then operands
    vm   the VMContext of its instance
    mem  the first byte of that instance's memory 0
    cs   the lowest used byte of the control stack

The code of a function (``CodeEntry.CODE``) begins with a word that ``start`` gets as pc. Four words
before it say what a caller must know, see ``Header``. A call leaves a control frame, see
``ControlFrame``; a return takes it back and goes on at its pc. So guests' calls of guests use no
native stack, and the slots of all callers stay where they are.

Not here: compiled code's stubs and the core (``units.py``, ``core.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wasinn_runtime.abi.layout import CodeEntry, StoreContext, VMContext
from wasinn_runtime.lower.writer import COLD, INVARIANT, STATE, FunctionWriter
from wasinn_runtime.spec.traps import TrapCode

__all__ = [
    "HANDLER_ATTRIBUTES",
    "ControlFrame",
    "Handler",
    "Header",
    "Interpreter",
    "entry_stacks",
    "entry_unit",
    "leave_entry",
    "trap_handlers",
    "trap_unit",
    "unless_handed_over",
]

# Handlers must be unwindable, as all frames of guests; they need no check of the stack's end, since
# there is one of them at a time above ``run``, which has one.
HANDLER_ATTRIBUTES = "attributes #8 = { uwtable }"


class Header:
    """Offsets from a function's code to what callers must know of it."""

    FRAME_BYTES = -8  # i64: its slots, locals and operands
    PARAM_CELLS = -16  # i64
    RESULT_CELLS = -24  # i64
    MEMORY_AT = -32  # i64: where in its VMContext memory 0's base is; of anything if it has none
    WORDS = 4


class ControlFrame:
    """What a call leaves on the control stack: the caller's registers."""

    PC = 0  # ptr: where it goes on
    FP = 8
    VM = 16
    MEM = 24
    CURRENT = 32  # ptr: its CodeEntry
    BYTES = 48


_COMMON = (("pc", "ptr"), ("fp", "ptr"), ("vm", "ptr"), ("mem", "ptr"), ("cs", "ptr"))


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One interpreter: the prefix of its symbols and its registers beyond the common ones.

    Attributes:
        name: the prefix; ``<name>_run`` is the array entry of all functions it interprets.
        own: (name, LLVM type) of its own registers, zero when a function begins.
    """

    name: str
    own: tuple[tuple[str, str], ...] = ()

    @property
    def registers(self) -> tuple[tuple[str, str], ...]:
        return _COMMON + self.own

    @property
    def run_symbol(self) -> str:
        return f"{self.name}_run"

    @property
    def done_symbol(self) -> str:
        return f"{self.name}_done"

    def trap_symbol(self, code: TrapCode) -> str:
        return f"{self.name}_trap_{code.name.lower()}"

    @property
    def parameters(self) -> str:
        return ", ".join(f"{t} %{name}" for name, t in self.registers)

    def header(self, symbol: str) -> str:
        """The first line of a handler."""
        return f'define internal preserve_nonecc void @"{symbol}"({self.parameters}) #8'


_ZERO = {"ptr": "null", "i64": "0", "double": "0.0", "float": "0.0"}


class Handler(FunctionWriter):
    """A handler in the making.

    Attributes:
        at: the value of each register at this point, by its name.
    """

    def __init__(self, interpreter: Interpreter, symbol: str) -> None:
        super().__init__(interpreter.header(symbol))
        self.interpreter = interpreter
        self.at = {name: f"%{name}" for name, _ in interpreter.registers}

    # -- going on --------------------------------------------------------------------------------

    def finish(self) -> str:
        """Write the trap blocks, as jumps: so handlers need no frame of their own."""
        listed = ", ".join(f"{t} %{name}" for name, t in self.interpreter.registers)
        for code, label in self._traps.items():
            self.lines.append(f"{label}:")
            trap = self.interpreter.trap_symbol(code)
            self.do(f"musttail call preserve_nonecc void @{trap}({listed})")
            self.do("ret void")
        self.lines.append("}")
        return "\n".join(self.lines)

    def jump(self, handler: str, **changed: str) -> None:
        """End the block by jumping to a handler's address, with some registers changed."""
        values = {**self.at, **changed}
        listed = ", ".join(f"{t} {values[name]}" for name, t in self.interpreter.registers)
        self.do(f"musttail call preserve_nonecc void {handler}({listed})")
        self.do("ret void")

    def go(self, pc: str, **changed: str) -> None:
        """End the block by going on at ``pc``, where the next handler's address is."""
        self.jump(self.let(f"load ptr, ptr {pc}"), pc=pc, **changed)

    # -- calls -----------------------------------------------------------------------------------

    def store_context(self, vm: str = "") -> str:
        """The StoreContext of the running instance."""
        return self.load_field(vm or self.at["vm"], VMContext.STORE, "ptr", INVARIANT)

    def call(
        self,
        entry: str,
        context: str,
        slots: str,
        after: str,
        same_instance: bool,
        outside: Callable[[], None],
    ) -> None:
        """End the block by calling a function, whatever runs it; the call goes on at ``after``.

        Handlers that may need native code do it in a handler of their own, so that the usual way
        needs no native frame.

        Args:
            entry: its CodeEntry.
            context: its VMContext, or HostContext.
            slots: where its arguments are and its results shall be.
            after: the pc after it.
            same_instance: it is a function of the running instance.
            outside: ends the block when this interpreter does not run it.
        """
        self._if_ours(entry, outside)
        code = self.load_field(entry, CodeEntry.CODE, "ptr", STATE)
        store = self.store_context()
        control = self.let(f"getelementptr i8, ptr {self.at['cs']}, i64 -{ControlFrame.BYTES}")
        self.check_room(code, slots, control)
        self.push_frame(store, after)
        self._enter(store, entry, code, slots, control, context, same_instance)

    def _if_ours(self, entry: str, outside: Callable[[], None]) -> None:
        """Go on in a new block if this interpreter runs a function."""
        array = self.load_field(entry, CodeEntry.ARRAY, "ptr", STATE)
        ours = self.let(f"icmp eq ptr {array}, @{self.interpreter.run_symbol}")
        inside, other = self.new_label("inside"), self.new_label("outside")
        self.do(f"br i1 {ours}, label %{inside}, label %{other}")
        self.label(other)
        outside()
        self.label(inside)

    def save_stacks(self, end: str) -> None:
        """Say what is in use of both stacks: values up to ``end``, and all control frames."""
        store = self.store_context()
        self.do(f"store ptr {end}, ptr {self.field(store, StoreContext.VALUE_SP)}, {STATE}")
        control = self.field(store, StoreContext.CONTROL_SP)
        self.do(f"store ptr {self.at['cs']}, ptr {control}, {STATE}")

    def push_frame(self, store: str, after: str) -> str:
        """Leave a control frame that goes on at ``after``; gives the new control stack pointer.

        That there is room must be known.
        """
        control = self.let(f"getelementptr i8, ptr {self.at['cs']}, i64 -{ControlFrame.BYTES}")
        current = self.load_field(store, StoreContext.CURRENT, "ptr", STATE)
        for offset, value in (
            (ControlFrame.PC, after),
            (ControlFrame.FP, self.at["fp"]),
            (ControlFrame.VM, self.at["vm"]),
            (ControlFrame.MEM, self.at["mem"]),
            (ControlFrame.CURRENT, current),
        ):
            self.do(f"store ptr {value}, ptr {self.field(control, offset)}")
        return control

    def _enter(
        self,
        store: str,
        entry: str,
        code: str,
        slots: str,
        control: str,
        context: str,
        same_instance: bool,
    ) -> None:
        self.do(f"store ptr {entry}, ptr {self.field(store, StoreContext.CURRENT)}, {STATE}")
        changed = {"fp": slots, "cs": control}
        if not same_instance:
            changed.update(vm=context, mem=self.memory_of(code, context))
        self.go(code, **changed)

    def check_room(self, code: str, slots: str, control: str) -> None:
        """Trap unless a function's slots and a frame more fit between the two stacks."""
        size = self.load_field(code, Header.FRAME_BYTES, "i64", INVARIANT)
        end = self.let(f"getelementptr i8, ptr {slots}, i64 {size}")
        full = self.let(f"icmp ugt ptr {end}, {control}")
        self.trap_if(full, TrapCode.CALL_STACK_EXHAUSTED)

    def memory_of(self, code: str, context: str) -> str:
        """The base of memory 0 of the instance that a function belongs to."""
        offset = self.load_field(code, Header.MEMORY_AT, "i64", INVARIANT)
        place = self.let(f"getelementptr i8, ptr {context}, i64 {offset}")
        return self.let(f"load ptr, ptr {place}, {INVARIANT}")

    def tail_call(
        self, entry: str, context: str, same_instance: bool, outside: Callable[[], None]
    ) -> None:
        """End the block by becoming another function, whose arguments are at fp already.

        Args:
            entry: its CodeEntry.
            context: its context.
            same_instance: it is a function of the running instance.
            outside: ends the block when this interpreter does not run it.
        """
        self._if_ours(entry, outside)
        code = self.load_field(entry, CodeEntry.CODE, "ptr", STATE)
        store, at = self.store_context(), self.at
        self.check_room(code, at["fp"], at["cs"])
        self._enter(store, entry, code, at["fp"], at["cs"], context, same_instance)

    def hand_over(
        self, entry: str, context: str, caller_jumps: str, put: Callable[[str], None]
    ) -> None:
        """Leave a tail call of what else runs to the native caller, if that can make it.

        Otherwise go on in a new block. Without this, functions of several tiers that jump to each
        other would leave a native frame each time.

        Args:
            entry, context: as for ``tail_call``.
            caller_jumps: i1: the function was called natively, by who makes tail calls.
            put: writes the copying of the arguments to an address.
        """
        jump = self.load_field(entry, CodeEntry.JUMP, "ptr", STATE)
        is_open = self.let(f"icmp ne ptr {jump}, null")
        both = self.let(f"and i1 {is_open}, {caller_jumps}")
        over, here = self.new_label("over"), self.new_label("here")
        self.do(f"br i1 {both}, label %{over}, label %{here}")
        self.label(over)
        store = self.store_context()
        put(self.field(store, StoreContext.EXCHANGE))
        self.do(f"store ptr {entry}, ptr {self.field(store, StoreContext.TAIL_ENTRY)}, {STATE}")
        place = self.field(store, StoreContext.TAIL_CONTEXT)
        self.do(f"store ptr {context}, ptr {place}, {STATE}")
        self.do("ret void")  # to the way in
        self.label(here)

    def leave(self) -> None:
        """End the block by returning to the caller; results are at fp already."""
        cs, store = self.at["cs"], self.store_context()
        pc = self.load_field(cs, ControlFrame.PC, "ptr", STATE)
        current = self.let(f"load ptr, ptr {self.field(cs, ControlFrame.CURRENT)}")
        self.do(f"store ptr {current}, ptr {self.field(store, StoreContext.CURRENT)}, {STATE}")
        changed = {
            name: self.let(f"load ptr, ptr {self.field(cs, offset)}")
            for name, offset in (
                ("fp", ControlFrame.FP),
                ("vm", ControlFrame.VM),
                ("mem", ControlFrame.MEM),
            )
        }
        control = self.let(f"getelementptr i8, ptr {cs}, i64 {ControlFrame.BYTES}")
        self.go(pc, cs=control, **changed)


# --- the way in ---------------------------------------------------------------------------------


def entry_unit(interpreter: Interpreter) -> str:
    """The array entry of all functions that an interpreter runs, and its way back.

    It takes arguments from the caller's slots to the value stack, which may be elsewhere, and the
    results back. ``StoreContext.CURRENT`` is what it was when it returns. The lowest control frame
    goes on at ``<name>_done.code``, or a word after it where the caller makes tail calls.
    """
    name, run = interpreter.name, interpreter.run_symbol
    w = FunctionWriter(
        f"define void @{run}(ptr %function, ptr %vm, ptr %slots, i64 %jumps) #0 "
        "personality ptr @__gcc_personality_v0"
    )
    store = w.load_field("%vm", VMContext.STORE, "ptr", INVARIANT)
    places, before = entry_stacks(w, store)
    fp, cs = before[StoreContext.VALUE_SP], before[StoreContext.CONTROL_SP]
    code = w.load_field("%function", CodeEntry.CODE, "ptr", STATE)
    size = w.load_field(code, Header.FRAME_BYTES, "i64", INVARIANT)
    end = w.let(f"getelementptr i8, ptr {fp}, i64 {size}")
    control = w.let(f"getelementptr i8, ptr {cs}, i64 -{ControlFrame.BYTES}")
    w.trap_if(w.let(f"icmp ugt ptr {end}, {control}"), TrapCode.CALL_STACK_EXHAUSTED)
    _copy_cells(w, code, Header.PARAM_CELLS, fp, "%slots")
    offset = w.load_field(code, Header.MEMORY_AT, "i64", INVARIANT)
    memory = w.let(f"getelementptr i8, ptr %vm, i64 {offset}")
    base = w.let(f"load ptr, ptr {memory}, {INVARIANT}")
    after = w.field(control, ControlFrame.PC)
    back = w.let(f"getelementptr ptr, ptr @{interpreter.done_symbol}.code, i64 %jumps")
    w.do(f"store ptr {back}, ptr {after}")
    for field, value in (
        (ControlFrame.FP, fp),
        (ControlFrame.VM, "%vm"),
        (ControlFrame.MEM, base),
        (ControlFrame.CURRENT, before[StoreContext.CURRENT]),
    ):
        w.do(f"store ptr {value}, ptr {w.field(control, field)}")
    w.do(f"store ptr %function, ptr {places[StoreContext.CURRENT]}, {STATE}")
    values = {"pc": code, "fp": fp, "vm": "%vm", "mem": base, "cs": control}
    listed = ", ".join(
        f"{t} {values.get(register, _ZERO.get(t, 'zeroinitializer'))}"
        for register, t in interpreter.registers
    )
    first = w.let(f"load ptr, ptr {code}")
    w.do(f"invoke preserve_nonecc void {first}({listed}) to label %fine unwind label %thrown")
    w.label("fine")
    unless_handed_over(w, store)
    _copy_cells(w, code, Header.RESULT_CELLS, "%slots", fp)
    leave_entry(w, places, before)
    done = interpreter.done_symbol
    return "\n".join(
        (
            f"; {name}: see lower/threaded.py",
            w.finish(),
            interpreter.header(done) + " {\n  ret void\n}",
            trap_unit(interpreter),
            f"@{done}.code = internal constant [2 x ptr] [ptr @{done}, ptr @{done}]",
        )
    )


def entry_stacks(w: FunctionWriter, store: str) -> tuple[dict[int, str], dict[int, str]]:
    """Of the interpreter's registers in the store's context: where they are, and what is there."""
    places = {
        field: w.field(store, field)
        for field in (StoreContext.VALUE_SP, StoreContext.CONTROL_SP, StoreContext.CURRENT)
    }
    before = {field: w.let(f"load ptr, ptr {place}, {STATE}") for field, place in places.items()}
    return places, before


def unless_handed_over(w: FunctionWriter, store: str) -> None:
    """Go on in a new block, or leave if a tail call waits: its arguments may be in the slots."""
    pending = w.load_field(store, StoreContext.TAIL_ENTRY, "ptr", STATE)
    waits, results = w.let(f"icmp ne ptr {pending}, null"), w.new_label("results")
    w.do(f"br i1 {waits}, label %leave, label %{results}, {COLD}")
    w.label(results)


def leave_entry(w: FunctionWriter, places: dict[int, str], before: dict[int, str]) -> None:
    """Return with the stacks as they were, also (at ``thrown``) when an exception passes."""
    w.do("br label %leave")
    w.label("leave")
    for field, place in places.items():
        w.do(f"store ptr {before[field]}, ptr {place}, {STATE}")
    w.do("ret void")
    w.label("thrown")
    landed = w.let("landingpad { ptr, i32 } cleanup")
    for field, place in places.items():
        w.do(f"store ptr {before[field]}, ptr {place}, {STATE}")
    w.do(f"resume {{ ptr, i32 }} {landed}")


def trap_unit(interpreter: Interpreter) -> str:
    """What handlers jump to that trap, and their attributes: for each unit that has handlers."""
    return trap_handlers(interpreter) + "\n" + HANDLER_ATTRIBUTES


def trap_handlers(interpreter: Interpreter) -> str:
    """What handlers jump to that trap."""
    return "\n".join(_trap_handler(interpreter, code) for code in TrapCode)


def _trap_handler(interpreter: Interpreter, code: TrapCode) -> str:
    header = interpreter.header(interpreter.trap_symbol(code))
    call = f"call void @wasinn_trap(i32 {code.value}) noreturn cold"
    return f"{header} cold noinline {{\n  {call}\n  unreachable\n}}"


def _copy_cells(w: FunctionWriter, code: str, field: int, target: str, source: str) -> None:
    count = w.load_field(code, field, "i64", INVARIANT)
    size = w.let(f"shl nuw nsw i64 {count}, 3")
    w.do(f"call void @llvm.memmove.p0.p0.i64(ptr {target}, ptr {source}, i64 {size}, i1 false)")
