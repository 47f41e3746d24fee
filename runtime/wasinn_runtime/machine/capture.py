"""Stopping a call at a safepoint, with its frames in canonical form. See docs/aot.md.

Only code that was compiled migratable has safepoints. This module asks for the stop and reads what
the code left; how it gets there is in ``lower/migratable.py``.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import FrameRecord, StoreContext, VMContext
from wasinn_runtime.errors import Internal, LimitExceeded, UsageError, WasinnError
from wasinn_runtime.machine import native

if TYPE_CHECKING:
    from wasinn_runtime.machine.interrupt import Interrupt

__all__ = ["Captured", "Captures", "Frame"]

# Address space; frames of the deepest guests take a few MiB of it.
_ROOM_BYTES = 1 << 30
_NEXT, _END = StoreContext.CAPTURE_NEXT // 8, StoreContext.CAPTURE_END // 8


@dataclass(frozen=True, slots=True)
class Frame:
    """A canonical frame: where a function of a guest is, and what it works on.

    The innermost frame is about to run the instruction it is at: a ``loop``, whose parameters are
    the topmost operands, or the function's first. Every other one is at a call whose arguments are
    no longer among the operands, and goes on behind it with the call's results.

    Attributes:
        instance: which of the store's, in the order in which they were made, from 0.
        function: its index in the module, imports included.
        offset: of the instruction, in the module's bytes.
        cells: 8 bytes each, little endian: the locals, then the operands by height; a v128 takes
            two. A value of 4 bytes leaves the rest zero. References are addresses, which mean
            something to this store only.
    """

    instance: int
    function: int
    offset: int
    cells: bytes


class Captured(WasinnError):
    """The call was asked to stop at a safepoint, and did.

    Args:
        frames: of the guest, the innermost first.
    """

    def __init__(self, frames: tuple[Frame, ...]) -> None:
        self.frames = frames
        super().__init__(f"the call was captured at a safepoint, in {len(frames)} frames")


class Captures:
    """The requests of one store. Owned by it."""

    def __init__(self, context: native.Cells, interrupt: Interrupt) -> None:
        self._context = context
        self._interrupt = interrupt
        self._numbers: dict[int, int] = {}  # of the instances, by their contexts
        self._wanted = False
        self._rigid: str | None = None
        self._room: native.Reservation | None = None

    def note_instance(self, context: int, module: str, migratable: bool) -> None:
        """See ``Store.note_instance``."""
        self._numbers[context] = len(self._numbers)
        if self._wanted:
            _set(context, True)
        if not migratable and self._rigid is None:
            self._rigid = module

    def request(self) -> None:
        """See ``Store.capture``."""
        if self._rigid is not None:
            raise UsageError(
                f"{self._rigid} can not be captured: its code has no safepoints; compile it with "
                "`wasinn compile --migratable`"
            )
        with self._interrupt.held() as depth:
            if depth == 0:
                raise UsageError("no call of the store is under way; there is nothing to capture")
            if depth > 1:
                raise UsageError(
                    "a host call is under way: a host function that the guest called has called a "
                    "guest in turn, and its frames are Python's; capture when it has returned"
                )
            if self._interrupt.watcher is not None:  # asked for already
                return
            self._room = native.Reservation(_ROOM_BYTES, writable=True)
            self._context[_NEXT] = self._room.address
            self._context[_END] = self._room.address + _ROOM_BYTES
            self._interrupt.watcher = self._follow
            self._follow(depth)

    def _follow(self, depth: int) -> None:
        """Let the outermost call stop, while no host function has called a guest in turn."""
        self._wanted = depth == 1
        for context in self._numbers:
            _set(context, self._wanted)
        if not depth:
            self._interrupt.watcher = None

    def take(self, complete: bool) -> WasinnError:
        """What to raise after a call has left its frames.

        Args:
            complete: whether there was room for all.
        """
        room, self._room = self._room, None
        if room is None:
            return Internal("a call stopped at a safepoint that nobody asked for")
        if not complete:
            return LimitExceeded(
                f"the frames of the call take more than {_ROOM_BYTES:,} bytes; it is lost"
            )
        frames, at, end = [], room.address, self._context[_NEXT]
        while at < end:
            context, function, offset, count = (ctypes.c_uint64 * 4).from_address(at)
            cells = ctypes.string_at(at + FrameRecord.CELLS, 8 * count)
            frames.append(Frame(self._numbers[context], function, offset, cells))
            at += FrameRecord.CELLS + 8 * count
        return Captured(tuple(frames))


def _set(context: int, wanted: bool) -> None:
    """Have an instance's code stop at its next safepoint, or go on."""
    ctypes.c_uint64.from_address(context + VMContext.CAPTURE).value = int(wanted)
