"""What came of a batch, as it is kept: one Arrow table, whoever computed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.guests.answers import FAILED, STATUS_WORDS, Answers
from wasinn_host.evaluate.local import Done
from wasinn_host.evaluate.plan import Row
from wasinn_host.evaluate.tasks import Task

__all__ = ["Finished", "finished", "schema_of"]

_EXCERPT: Final = 200


class Finished(NamedTuple):
    """A batch that was computed.

    Attributes:
        window: the window's number.
        batches: how many the window has.
        place: which of them this is.
        seconds: it took.
        table: its rows, with the schema of `schema_of`.
        failed: how many of them did.
        metric: the running metric's name, and of the rows that did not fail:
        total: its sum,
        measured: their number.
        error: of the last one that failed.
    """

    window: int
    batches: int
    place: int
    seconds: float
    table: Any
    failed: int
    metric: str
    total: float
    measured: int
    error: str


def schema_of(task: Task) -> Any:
    """The Arrow schema of ``rows.parquet``."""
    arrow = need("pyarrow", "to keep results")
    return arrow.schema(
        [
            ("row", arrow.int64()),
            ("id", arrow.string()),
            ("status", arrow.string()),
            ("error", arrow.string()),
            ("tokens", arrow.int32()),
            ("excerpt", arrow.string()),
            *task.schema(),
        ]
    )


def finished(task: Task, done: Done) -> Finished:
    """A batch's answers as the task understands them.

    Raises:
        TaskError: an expected value is none that the model can give.
    """
    batch, answers = done.batch, done.answers
    outcome, errors = task.outcome(batch.rows, answers)
    table = _table(task, batch.rows, answers, outcome, errors)
    failed = sum(map(bool, errors))
    if failed:
        is_good = np.array([not error for error in errors])
        outcome = {name: values[is_good] for name, values in outcome.items()}
    metric, total, count = task.running(outcome)
    error = next((error for error in reversed(errors) if error), "")
    return Finished(
        batch.window,
        batch.batches,
        batch.place,
        done.seconds,
        table,
        failed,
        metric,
        total,
        count,
        error,
    )


def _table(
    task: Task,
    rows: Sequence[Row],
    answers: Answers,
    outcome: Mapping[str, Any],
    errors: Sequence[str],
) -> Any:
    arrow = need("pyarrow", "to keep results")
    status = np.where([bool(error) for error in errors], FAILED, answers.status)
    columns: dict[str, Any] = {
        "row": [row.number for row in rows],
        "id": [row.id for row in rows],
        "status": [STATUS_WORDS[code] for code in status.tolist()],
        "error": [error or None for error in errors],
        "tokens": answers.tokens,
        "excerpt": [row.texts[0][:_EXCERPT] for row in rows],
    }
    for name, values in outcome.items():
        columns[name] = _lists(arrow, values) if values.ndim == 2 else values
    return arrow.table(columns, schema=schema_of(task))


def _lists(arrow: Any, values: Any) -> Any:
    """A matrix as a list of each row, without a Python object for each number."""
    rows, width = values.shape
    offsets = np.arange(rows + 1, dtype=np.int32) * width
    return arrow.ListArray.from_arrays(offsets, arrow.array(values.reshape(-1)))
