"""Guests that are whole programs: JSON lines on standard input, JSON lines on standard output.

A run of the program gets one batch and then the end of its input. For each row, in their order:

    {"id": "17", "text": "a fine film"}
    {"id": "17", "numbers": [-1.5, 2.25], "tokens": 6}

``numbers`` and ``text`` of an answer are what the task says; ``status`` is ``ok`` where it is left
out, ``truncated`` when the model saw only a part, ``failed`` when ``text`` says why there is no
answer. What the guest says is not trusted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from wasinn_host.evaluate.guests.answers import (
    MOST_STDERR_BYTES,
    STATUS_WORDS,
    Answers,
    GuestBroke,
    with_last_line,
)
from wasinn_host.host import Guest, GuestOptions, Host
from wasinn_host.wasi import Capture
from wasinn_runtime import GuestExit, Module, Store
from wasinn_runtime.errors import WasinnError

__all__ = ["LinesGuest"]

_MOST_TOKENS: Final = 0x7FFF_FFFF
_KEYS: Final = ("id", "numbers", "text", "tokens", "status")


class LinesGuest:
    """A program, started for each batch.

    Args:
        host: has the model under the name ``model``.
        module: the guest.
        options: of the guest, see ``GuestOptions``.
        columns: the names of a row's texts.
    """

    def __init__(
        self, host: Host, module: Module, options: Mapping[str, Any], columns: Sequence[str]
    ) -> None:
        self._host = host
        self._module = module
        self._options = dict(options)
        self._columns = tuple(columns)
        self._store: Store | None = None

    def ask(self, rows: Sequence[Sequence[str]], timeout_s: float | None) -> Answers:
        """What the program answers for a batch. See `rows.RowsGuest.ask`.

        Raises:
            GuestBroke: it trapped, failed, took too long, or printed what it must not.
        """
        asked = "".join(
            json.dumps({"id": str(i), **dict(zip(self._columns, row, strict=True))}) + "\n"
            for i, row in enumerate(rows)
        )
        out, err = Capture(), Capture(MOST_STDERR_BYTES)
        options = GuestOptions(**self._options, stdin=asked.encode(), stdout=out, stderr=err)
        self._store = store = Store(self._host.engine)
        try:
            with (
                store.deadline(timeout_s),
                Guest(self._host, self._module, options, store) as guest,
            ):
                status = guest.start()
        except GuestExit as exit_:
            status = exit_.code
        except WasinnError as error:
            raise GuestBroke(str(error).partition("\n")[0]) from error
        finally:
            self._store = None
        if status:
            raise GuestBroke(with_last_line(f"it ended with status {status}", err.data))
        lines = out.data.splitlines()
        if len(lines) != len(rows):
            raise GuestBroke(f"it printed {len(lines)} lines for {len(rows)} rows")
        return _joined([_answer(line, i) for i, line in enumerate(lines)])

    def cancel(self) -> None:
        """Stops what it does. From any thread."""
        store = self._store
        if store is not None:
            store.cancel()

    def close(self) -> None:
        """Nothing lives between two batches."""


def _answer(line: bytes, index: int) -> tuple[int, int, list[float], str]:
    where = f"its line {index + 1}"
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise GuestBroke(f"{where} is no JSON: {error}: {_shown(line)}") from error
    if not isinstance(answer, dict):
        raise GuestBroke(f"{where}: expected a JSON object, got {_shown(line)}")
    unknown = sorted(set(answer) - set(_KEYS))
    if unknown:
        raise GuestBroke(f"{where}: unknown key {unknown[0]!r}; there is: {', '.join(_KEYS)}")
    if answer.get("id") != str(index):
        raise GuestBroke(f'{where}: expected "id": "{index}", got {answer.get("id")!r:.80}')
    status, tokens = answer.get("status", "ok"), answer.get("tokens", 0)
    numbers, text = answer.get("numbers", []), answer.get("text", "")
    if status not in STATUS_WORDS:
        raise GuestBroke(f"{where}: status: expected {', '.join(STATUS_WORDS)}, got {status!r:.80}")
    if type(tokens) is not int or not 0 <= tokens <= _MOST_TOKENS:
        raise GuestBroke(f"{where}: tokens: expected a whole number, got {tokens!r:.80}")
    if not isinstance(text, str):
        raise GuestBroke(f"{where}: text: expected a string, got {text!r:.80}")
    if not isinstance(numbers, list) or not all(type(n) in (int, float) for n in numbers):
        raise GuestBroke(f"{where}: numbers: expected a list of numbers, got {numbers!r:.80}")
    return STATUS_WORDS.index(status), tokens, numbers, text


def _shown(line: bytes) -> str:
    text = line[:80].decode("utf-8", "backslashreplace")
    return repr(text) + ("..." if len(line) > 80 else "")


def _joined(answers: Sequence[tuple[int, int, list[float], str]]) -> Answers:
    texts = tuple(text for *_, text in answers)
    with np.errstate(over="ignore"):  # beyond float32 is infinite
        numbers = np.array([n for _, _, row, _ in answers for n in row], np.float64)
        narrow = numbers.astype(np.float32)
    return Answers(
        np.array([status for status, *_ in answers], np.int32),
        np.array([tokens for _, tokens, *_ in answers], np.int32),
        np.array([len(row) for _, _, row, _ in answers], np.int32),
        narrow,
        texts if any(texts) else (),
    )
