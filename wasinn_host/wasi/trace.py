"""``--trace=wasi``: one line for each call, in the manner of strace. Not logging set-up.

``fd_write(1, [1 buffer, 12 bytes]) = 0 SUCCESS, nwritten 12``

Calls are wrapped only when somebody listens; otherwise nothing here runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from wasinn_host.wasi.abi import CIOVEC, Errno
from wasinn_host.wasi.guest import MAX_IOVECS, Caller, GuestMemory, WasiFunction
from wasinn_host.wasi.signatures import Kind, Signature
from wasinn_runtime.errors import GuestExit, MemoryAccessError

__all__ = ["TraceSink", "line_writer", "traced"]

#: Bytes of a path that a line shows.
_SHOWN: Final = 120


class Logger(Protocol):
    """``logging.Logger``, as far as it is needed."""

    def debug(self, msg: str, /, *args: object) -> None: ...


#: A function that takes a line without its end, or a ``logging.Logger``.
TraceSink = Callable[[str], object] | Logger


def line_writer(sink: TraceSink) -> Callable[[str], object]:
    """The function that takes a line. Decided once, not for each line."""
    debug = getattr(sink, "debug", None)
    if callable(debug):
        return lambda line: debug("%s", line)
    if callable(sink):
        return sink
    raise TypeError(f"trace: expected a function or a logger, got {type(sink).__name__}")


def traced(
    signature: Signature, function: WasiFunction, write: Callable[[str], object], notes: list[str]
) -> WasiFunction:
    """Wrap a call so that it leaves a line.

    Args:
        signature: names and kinds of the arguments.
        function: the call, which never raises for what the guest did wrong.
        write: takes the line.
        notes: reasons the call left while it ran; emptied here.
    """

    def call(caller: Caller, *args: int) -> int | None:
        notes.clear()
        # Before the call: it may change the memory that the arguments point to.
        shown = _arguments(signature, caller.memory, args)
        head = f"{signature.name}({', '.join(shown)})"
        try:
            result = function(caller, *args)
        except GuestExit:
            write(f"{head} exits")
            raise
        except BaseException as error:
            write(f"{head} raises {type(error).__name__}")
            raise
        tail = "" if result is None else f" = {result} {Errno(result).name}"
        if result == Errno.SUCCESS:
            tail += "".join(_results(signature, caller.memory, args))
        if notes:
            tail += f" ({'; '.join(notes)})"
        write(head + tail)
        return result

    return call


def _arguments(
    signature: Signature, memory: GuestMemory | None, args: tuple[int, ...]
) -> list[str]:
    shown = []
    position = 0
    for _, kind in signature.params:
        width = len(kind.types)
        words = args[position : position + width]
        position += width
        if kind in (Kind.OUT_U32, Kind.OUT_U64):
            continue
        shown.append(_argument(kind, memory, words))
    return shown


def _argument(kind: Kind, memory: GuestMemory | None, words: tuple[int, ...]) -> str:
    value = words[0]
    if kind in (Kind.FLAGS, Kind.RIGHTS, Kind.PTR):
        return f"{value:#x}"
    if kind is Kind.S64:
        return str(value - (1 << 64) if value >> 63 else value)
    if kind is Kind.BUF:
        return f"{value:#x}, {words[1]} bytes"
    if kind is Kind.PATH:
        return _text(memory, value, words[1])
    if kind is Kind.IOVS:
        return _iovecs(memory, value, words[1])
    return str(value)


def _text(memory: GuestMemory | None, ptr: int, length: int) -> str:
    try:
        data = memory.read(ptr, min(length, _SHOWN)) if memory is not None else None
    except MemoryAccessError:
        data = None
    if data is None:
        return f"<{length} bytes at {ptr:#x}>"
    # ascii(): a guest must not be able to steer the terminal that shows the trace.
    return ascii(data.decode("utf-8", "replace")) + ("..." if length > _SHOWN else "")


def _iovecs(memory: GuestMemory | None, ptr: int, count: int) -> str:
    buffers = f"{count} buffer{'s' if count != 1 else ''}"
    if memory is None or count > MAX_IOVECS:
        return f"[{buffers}]"
    try:
        pairs = CIOVEC.iter_unpack(memory.read(ptr, 8 * count))
    except MemoryAccessError:
        return f"[{buffers} at {ptr:#x}]"
    return f"[{buffers}, {sum(length for _, length in pairs)} bytes]"


def _results(signature: Signature, memory: GuestMemory | None, args: tuple[Any, ...]) -> list[str]:
    shown = []
    position = 0
    for name, kind in signature.params:
        if memory is not None and kind is Kind.OUT_U32:
            shown.append(f", {name} {memory.read_u32(args[position])}")
        elif memory is not None and kind is Kind.OUT_U64:
            shown.append(f", {name} {memory.read_u64(args[position])}")
        position += len(kind.types)
    return shown
