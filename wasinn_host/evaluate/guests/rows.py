"""Guests that take rows through their exports. The layout is ``examples/include/wasinn_eval.h``.

    wasinn_eval_open(version) -> 0              ready, or why not on stderr
    wasinn_eval_request(size) -> pointer        room for a request
    wasinn_eval_rows(pointer, size) -> pointer  the answer, or 0 and why not on stderr

What the guest says is not trusted: each pointer and count of an answer is checked.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from wasinn_host.evaluate.guests.answers import (
    FAILED,
    MOST_STDERR_BYTES,
    Answers,
    GuestBroke,
    with_last_line,
)
from wasinn_host.host import Guest, Host
from wasinn_host.wasi import Capture
from wasinn_runtime import GuestExit, Module, Trap
from wasinn_runtime.errors import MemoryAccessError, WasinnError

__all__ = ["EXPORTS", "VERSION", "RowsGuest"]

VERSION: Final = 1
EXPORTS: Final = ("wasinn_eval_open", "wasinn_eval_request", "wasinn_eval_rows")
_HEADER: Final = struct.Struct("<II")
_ANSWER: Final = struct.Struct("<7I")
_MOST_NUMBERS: Final = 1 << 26
_MOST_TEXT_BYTES: Final = 1 << 28
_START_S: Final = 60.0
"""A guest that is not ready by then never will be."""


class RowsGuest:
    """One instance. For one thread at a time.

    Args:
        host: has the model under the name ``model``.
        module: the guest.
        options: of the guest, see ``GuestOptions``; its stderr is kept here.

    Raises:
        GuestBroke: it does not start.
    """

    def __init__(self, host: Host, module: Module, options: dict[str, Any]) -> None:
        self._stderr = Capture(MOST_STDERR_BYTES)
        self._stderr_before = 0
        self._guest: Guest | None = None
        try:
            self._guest = host.open(module, **options, stderr=self._stderr)
            with self._guest.store.deadline(_START_S):
                refused = self._guest.call("wasinn_eval_open", VERSION)
            if refused:
                raise GuestBroke(self._said(f"wasinn_eval_open returned {refused}"))
        except (GuestBroke, GuestExit, Trap, WasinnError) as error:
            self.close()
            raise GuestBroke(
                f"{module.parsed.where} does not start: {self._why(error)}", is_hopeless=True
            ) from error

    def ask(self, rows: Sequence[Sequence[str]], timeout_s: float | None) -> Answers:
        """What the guest answers for a batch.

        Args:
            rows: the texts of each, as many for all.
            timeout_s: how long it may take.

        Raises:
            GuestBroke: it trapped, ended, took too long, or answered what it must not.
        """
        guest = self._guest
        assert guest is not None
        memory = guest.memory
        request = _request(rows)
        self._stderr_before = len(self._stderr.data)
        try:
            with guest.store.deadline(timeout_s):
                at = _pointer(guest.call("wasinn_eval_request", len(request)))
                if not at:
                    raise GuestBroke(
                        self._said(f"it has no room for a request of {len(request)} bytes")
                    )
                memory.write(at, request)
                told = _pointer(guest.call("wasinn_eval_rows", at, len(request)))
            if not told:
                raise GuestBroke(self._said("wasinn_eval_rows returned 0"))
            return _answers(memory, told, len(rows))
        except GuestBroke:
            raise
        except (GuestExit, Trap, WasinnError) as error:
            raise GuestBroke(self._why(error)) from error

    def cancel(self) -> None:
        """Stops what it does. From any thread."""
        guest = self._guest
        if guest is not None:
            guest.store.cancel()

    def close(self) -> None:
        """Ends it."""
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.close()

    def _why(self, error: BaseException) -> str:
        if isinstance(error, GuestBroke):
            return str(error)
        if isinstance(error, GuestExit):
            return self._said(f"it ended with status {error.code}")
        return self._said(str(error).partition("\n")[0])

    def _said(self, what: str) -> str:
        """With the last line that it wrote to stderr since it was asked."""
        return with_last_line(what, self._stderr.data[self._stderr_before :])


def _pointer(value: object) -> int:
    assert isinstance(value, int)
    return value & 0xFFFF_FFFF


def _request(rows: Sequence[Sequence[str]]) -> bytes:
    fields = [field.encode() for row in rows for field in row]
    columns = len(rows[0])
    lengths = np.fromiter(map(len, fields), np.uint64, len(fields))
    table = np.empty((len(fields), 2), "<u4")
    start = _HEADER.size + 8 * len(fields)
    ends = np.cumsum(lengths) + start
    if len(ends) and int(ends[-1]) > 0xFFFF_FFFF:
        raise GuestBroke(f"a batch of {int(ends[-1])} bytes does not fit into a guest")
    table[:, 0] = ends - lengths
    table[:, 1] = lengths
    return b"".join((_HEADER.pack(len(rows), columns), table.tobytes(), *fields))


def _answers(memory: Any, at: int, rows: int) -> Answers:
    try:
        count, status_at, tokens_at, counts_at, numbers_at, lengths_at, text_at = memory.unpack(
            _ANSWER, at
        )
        if count != rows:
            raise GuestBroke(f"it answered {count} rows, it was asked {rows}")
        status, tokens, counts, lengths = (
            _array(memory, place, rows) for place in (status_at, tokens_at, counts_at, lengths_at)
        )
        if rows and int(status.max()) > FAILED:
            wrong = int(np.argmax(status > FAILED))
            raise GuestBroke(
                f"it gave row {wrong} of the batch the status {status[wrong]}; expected 0 to 2"
            )
        total = int(counts.sum(dtype=np.uint64))
        if total > _MOST_NUMBERS:
            raise GuestBroke(f"it answered {total} numbers; the most is {_MOST_NUMBERS}")
        text_bytes = int(lengths.sum(dtype=np.uint64))
        if text_bytes > _MOST_TEXT_BYTES:
            raise GuestBroke(
                f"it answered {text_bytes} bytes of text; the most is {_MOST_TEXT_BYTES}"
            )
        numbers = np.frombuffer(memory.view(numbers_at, 4 * total), "<f4").astype(np.float32)
        texts = _texts(memory.read(text_at, text_bytes), lengths) if text_bytes else ()
    except MemoryAccessError as error:
        raise GuestBroke(f"it answered with a bad pointer: {error}") from error
    return Answers(
        status.astype(np.int32),
        np.minimum(tokens, 0x7FFF_FFFF).astype(np.int32),
        counts.astype(np.int32),
        numbers,
        texts,
    )


def _array(memory: Any, at: int, count: int) -> npt.NDArray[np.uint32]:
    return np.frombuffer(memory.read(at, 4 * count), "<u4").astype(np.uint32, copy=False)


def _texts(data: bytes, lengths: npt.NDArray[np.uint32]) -> tuple[str, ...]:
    ends = np.cumsum(lengths, dtype=np.uint64).tolist()
    starts = [0, *ends[:-1]]
    return tuple(data[a:b].decode("utf-8", "replace") for a, b in zip(starts, ends, strict=True))
