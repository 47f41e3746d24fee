"""Stores: what instances, memories, tables, globals and functions belong to and live as long as."""

from __future__ import annotations

import ctypes
from threading import get_ident
from typing import TYPE_CHECKING, Protocol

from wasinn_runtime.abi.layout import Activation, StoreContext, TableDef
from wasinn_runtime.errors import Exhaustion, Internal, Interrupted, Trap, UsageError
from wasinn_runtime.machine import native
from wasinn_runtime.machine.capture import Captures
from wasinn_runtime.machine.exceptions import ExceptionHeap
from wasinn_runtime.machine.interrupt import Deadline, Interrupt
from wasinn_runtime.machine.lazy import describe_entry
from wasinn_runtime.machine.memory import MemoryRegion
from wasinn_runtime.machine.table import TableRegion
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import FuncType, MemoryType, TableType, ValType

if TYPE_CHECKING:
    from wasinn_runtime.machine.func import Func
    from wasinn_runtime.machine.image import Image

__all__ = ["Compiler", "Store"]

# Calls with more arguments or results than this get an activation of their own.
_USUAL_SLOTS = 32
_USUAL_CELLS = Activation.SLOTS // 8 + _USUAL_SLOTS
_ACTIVATION = StoreContext.ACTIVATION // 8
_VALUE_SP, _CONTROL_SP = StoreContext.VALUE_SP // 8, StoreContext.CONTROL_SP // 8
_VALUE_STACK = StoreContext.VALUE_STACK // 8
# An interpreter's frame has a slot for each value; compiled code keeps most of them in registers.
_REGION_FACTOR = 4
_FLOOR, _HOST_LIMIT = StoreContext.STACK_FLOOR // 8, StoreContext.HOST_STACK_LIMIT // 8


class Compiler(Protocol):
    """What a store needs of its engine."""

    core: native.Core
    max_stack_bytes: int

    def signature(self, ty: FuncType) -> int:
        """The process-wide number of a type."""

    def type_of_signature(self, number: int) -> FuncType:
        """The type that has this number."""

    def trampolines(self, ty: FuncType) -> native.Trampolines:
        """The adapters between the entries of functions of a signature."""

    def describe_address(self, pc: int) -> str | None:
        """Which guest function a code address lies in."""


class Store:
    """Owns everything a group of instances uses. One thread at a time may call into it.

    Everything made in a store lives until nobody refers to the store or to any of it.

    Args:
        engine: what compiles for it.
        max_memory_bytes: the most that each linear memory may grow to; None for 4 GiB.
    """

    def __init__(self, engine: Compiler, *, max_memory_bytes: int | None = None) -> None:
        self.engine = engine
        self.core = engine.core
        self.max_memory_bytes = max_memory_bytes
        self.interrupt = Interrupt(self.core.stop_signal)
        self._context = native.sparse_buffer(StoreContext.BYTES)
        self._context[StoreContext.STACK_BUDGET // 8] = engine.max_stack_bytes
        self._context[StoreContext.SERVICES // 8] = id(self)
        self.context = ctypes.addressof(self._context)
        self.exceptions = ExceptionHeap(self.core, self._context)
        self._captures = Captures(self._context, self.interrupt)
        self._owner: dict[str, int] = {}
        self._kept: list[object] = []
        self._externs: list[object] = []
        self._handles: dict[int, int] = {}
        self._activations: list[native.Cells] = []

    # -- what lives in it ------------------------------------------------------------------------

    def keep(self, thing: object) -> None:
        """Keep something alive as long as the store."""
        self._kept.append(thing)

    def new_memory(self, ty: MemoryType, image: Image | None = None) -> MemoryRegion:
        """A memory, which begins with the image if that can be mapped."""
        region = MemoryRegion(self.core, ty, self.max_memory_bytes, image)
        self.keep(region)
        return region

    def new_table(self, ty: TableType) -> TableRegion:
        region = TableRegion(ty)
        self.keep(region)
        if ty.element.base is ValType.EXNREF:
            self.exceptions.add_table(region.base, region.cells, TableDef.SIZE // 8)
        return region

    def provide_stacks(self) -> None:
        """Make sure that interpreters have stacks: one region, used from both ends."""
        if self._context[_VALUE_SP]:
            return
        size = _REGION_FACTOR * self.engine.max_stack_bytes
        region = native.Reservation(size, writable=True)
        self.keep(region)
        low = region.address
        self._context[_VALUE_SP], self._context[_CONTROL_SP] = low, low + size
        self._context[_VALUE_STACK] = low

    def extern_handle(self, value: object) -> int:
        """The slot that stands for a Python object; the same object has the same."""
        handle = self._handles.get(id(value))
        if handle is None:
            self._externs.append(value)
            handle = self._handles[id(value)] = len(self._externs)
        return handle

    def extern_object(self, handle: int) -> object:
        return self._externs[handle - 1]

    def func_at(self, reference: int) -> Func:
        """The function that a FuncRef's address stands for."""
        from wasinn_runtime.machine.func import Func

        return Func.at(self, reference)

    # -- limits in time --------------------------------------------------------------------------

    def deadline(self, timeout_s: float | None) -> Deadline:
        """A context manager: calls that run when the time is over end with ``Interrupted``."""
        return Deadline(self.interrupt, timeout_s)

    def cancel(self, reason: str = "cancelled") -> None:
        """End the running call from any thread; later calls are refused as well."""
        self.interrupt.trigger(reason)

    # -- safepoints ------------------------------------------------------------------------------

    def note_instance(self, context: int, module: str, migratable: bool) -> None:
        """Count an instance, by the address of its VMContext."""
        self._captures.note_instance(context, module, migratable)

    def capture(self) -> None:
        """Have the call under way stop at its next safepoint, from any thread.

        It ends with ``Captured``, which holds its frames. Memories, globals and tables are as the
        guest left them at that point, and the instances can be called again. A call that ends
        before it comes to a safepoint, or that is in a host function for long, is not disturbed.

        Raises:
            UsageError: no call is under way; the guest is called by a host function that a guest
                called, whose frames are Python's; or an instance's code can not stop.
            LimitExceeded: there is no address space for the frames.
        """
        self._captures.request()

    # -- calls -----------------------------------------------------------------------------------

    def enter(self, room: int) -> native.Cells:
        """The activation of a call, with its own slots; ``leave`` takes it back.

        Args:
            room: slots for the arguments or the results, whichever are more.
        """
        if room > _USUAL_SLOTS:
            return native.buffer(Activation.SLOTS + 8 * room)
        try:
            activation = self._activations.pop()
        except IndexError:
            return native.buffer(Activation.SLOTS + 8 * _USUAL_SLOTS)
        activation[0] = activation[1] = 0
        return activation

    def leave(self, activation: native.Cells) -> None:
        """End what ``enter`` began."""
        if len(activation) == _USUAL_CELLS:
            self._activations.append(activation)

    def invoke(self, activation: native.Cells, reference: int) -> None:
        """Call guest code; arguments and results are in the activation's slots.

        Ctrl-C may raise between any two steps here. Each is harmless when what follows is left out:
        a claim that stays is this thread's, whose next call takes it over and ends it.

        Args:
            activation: from ``enter``.
            reference: address of the FuncRef.

        Raises:
            UsageError: another thread is calling into this store.
            Trap: and its kinds; or whatever a host function raised, as the same object.
        """
        me, context, interrupt = get_ident(), self._context, self.interrupt
        if self._owner.setdefault("thread", me) != me:  # claims and looks in one step
            raise UsageError(
                "the store is in use by another thread; give each thread a store of its own"
            )
        try:
            is_outermost = not context[_ACTIVATION]
            if is_outermost:
                context[_FLOOR], context[_HOST_LIMIT] = native.stack_floor()
            if not interrupt.begin(activation, is_outermost):
                raise self._interrupted()
            ended = self.core.invoke(ctypes.addressof(activation), self.context, reference)
        finally:
            interrupt.end(activation)
            if not context[_ACTIVATION]:
                self._owner.clear()
        if ended:
            raise self._failure(activation, ended)

    def _failure(self, activation: native.Cells, ended: int) -> BaseException:
        """Why an activation ended early."""
        if not self._context[_ACTIVATION]:
            self.exceptions.when_idle()
        if ended == 2:
            return self.exceptions.take()
        if ended in (4, 5):
            return self._captures.take(complete=ended == 4)
        if ended == 3:
            return Internal("an exception of the guest met a frame that can not be unwound")
        code = TrapCode(activation[Activation.TRAP_CODE // 8])
        if code is TrapCode.HOST_ERROR:
            raised: BaseException | None = native.pending.__dict__.pop("error", None)
            # Only an asynchronous exception can strike before the callback's own try begins.
            return raised if raised is not None else KeyboardInterrupt()
        if code is TrapCode.INTERRUPTED:
            return self._interrupted()
        function = self.engine.describe_address(activation[Activation.TRAP_PC // 8])
        if function is None and (entry := activation[Activation.TRAP_ENTRY // 8]):
            function = describe_entry(entry)
        kind = Exhaustion if code is TrapCode.CALL_STACK_EXHAUSTED else Trap
        return kind(code.text, function)

    def _interrupted(self) -> BaseException:
        if self.interrupt.is_set():
            return Interrupted(self.interrupt.reason)
        # Ctrl-C on the main thread: Python noted it and raises it here, or at its next instruction.
        if ctypes.pythonapi.PyErr_CheckSignals() == 0:
            return KeyboardInterrupt()
        raise Internal("unreachable: PyErr_CheckSignals returned an error without raising")
