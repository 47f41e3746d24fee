"""The interface of tasks, and the table of those there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from wasinn_host.evaluate.data import Data
from wasinn_host.evaluate.guests.answers import FAILED, Answers
from wasinn_host.evaluate.metrics.paired import Comparison
from wasinn_host.evaluate.metrics.result import Bootstrap, Metric
from wasinn_host.evaluate.plan import Row
from wasinn_runtime.errors import UsageError

__all__ = [
    "MOST_WORST",
    "Task",
    "TaskError",
    "column_of",
    "make_task",
    "matrix_of",
    "metrics_json",
    "numbers_of",
    "read_rows",
    "task_names",
    "worst_rows",
]

_TASKS: Final = {
    "classification": "classification:Classification",
    "regression": "regression:Regression",
    "tokens": "tokens:Tokens",
    "qa": "qa:QuestionAnswering",
    "retrieval": "retrieval:Retrieval",
}
MOST_WORST: Final = 50
"""Rows that are shown as the worst."""


class TaskError(UsageError):
    """Data or answers that do not fit the task; the message names the row."""


class Task(ABC):
    """What is evaluated.

    Args:
        columns: for a column's name here, its name in the data.
        labels: the names of what the model tells apart, in its order; empty where they are not
            known or there are none.

    Attributes:
        name: what users call it.
        texts: the columns that the guest gets.
        needed_texts: how many of them the data must have.
        expected: the columns that say what is right.
    """

    name: ClassVar[str]
    texts: ClassVar[tuple[str, ...]] = ("text", "text_pair")
    needed_texts: ClassVar[int] = 1
    expected: ClassVar[tuple[str, ...]]

    def __init__(self, columns: Mapping[str, str], labels: Sequence[str] = ()) -> None:
        known = ("id", *self.texts, *self.expected)
        for column in columns:
            if column not in known:
                raise TaskError(
                    f"{self.name} has no column {column!r}; there is: {', '.join(known)}"
                )
        self.columns = dict(columns)
        self.labels = tuple(labels)
        self._given: tuple[str, ...] | None = None
        self._id = self._source("id")

    def read(self, number: int, data: Mapping[str, Any], where: str) -> Row:
        """A row as the guest gets it.

        Args:
            number: of the row.
            data: its columns.
            where: the data's name, for messages.

        Raises:
            TaskError: a column is missing or holds what it must not.
        """
        if self._given is None:
            # As the first row has them: a batch is of one kind.
            self._given = tuple(
                column
                for place, column in enumerate(self.texts)
                if place < self.needed_texts or self._source(column) in data
            )
        texts = tuple([self._text(data, column, where, number) for column in self._given])
        id_ = data.get(self._id)
        id_ = str(number if id_ is None else id_)
        return Row(number, id_, texts, self._expected(data, where, number))

    @property
    def given(self) -> tuple[str, ...]:
        """The columns of texts that the data have; known once a row was read."""
        assert self._given is not None
        return self._given

    @abstractmethod
    def schema(self) -> Sequence[tuple[str, Any]]:
        """The names and Arrow types of what `outcome` gives."""

    @abstractmethod
    def outcome(self, rows: Sequence[Row], answers: Answers) -> tuple[Mapping[str, Any], list[str]]:
        """What came of a batch.

        Args:
            rows: n of them.
            answers: of them.

        Returns:
            columns as in `schema`, n values each; and for each row why it failed, ``""`` where it
            did not.

        Raises:
            TaskError: an expected value is none that the model can give.
        """

    @abstractmethod
    def measure(self, columns: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Metrics and what belongs to them, as in ``results.json``.

        Args:
            columns: a table with ``row``, ``id`` and what is in `schema`, of the rows that did not
                fail; at least one.
            seed: of the resampling behind the intervals.

        Returns:
            ``metrics``; ``worst``, the rows that are furthest off, at most `MOST_WORST`; and what
            else the task shows.

        Raises:
            TaskError: something is wrong with the data that only all of them show.
        """

    @abstractmethod
    def compare(self, first: Any, second: Any, seed: int) -> Mapping[str, Comparison]:
        """What two runs on the same rows differ by.

        Args:
            first, second: tables as for `measure`, with the same rows in the same order.
            seed: of the resampling.

        Raises:
            UsageError: the two can not be compared.
        """

    @abstractmethod
    def running(self, columns: Mapping[str, Any]) -> tuple[str, float, int]:
        """A metric's name, a sum and a count, of one batch: the mean is shown while it runs. No
        name where nothing can be said before the end."""

    @abstractmethod
    def _expected(self, data: Mapping[str, Any], where: str, number: int) -> object: ...

    def _source(self, column: str) -> str:
        return self.columns.get(column, column)

    def _value(self, data: Mapping[str, Any], column: str, where: str, number: int) -> Any:
        source = self._source(column)
        if source in data:
            return data[source]
        asked = "" if source == column else f" (for {column})"
        raise TaskError(
            f"{where}, row {number}: no column {source!r}{asked}; there is: "
            f"{', '.join(map(str, data)) or 'none'}; name one with --column {column}=NAME"
        )

    def _text(self, data: Mapping[str, Any], column: str, where: str, number: int) -> str:
        value = self._value(data, column, where, number)
        if type(value) is str and value.isascii():
            return value
        if not isinstance(value, str):
            raise TaskError(
                f"{where}, row {number}: column {self._source(column)!r}: expected text, got "
                f"{value!r:.60}"
            )
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise TaskError(
                f"{where}, row {number}: column {self._source(column)!r}: not Unicode text: {error}"
            ) from error
        return value


def numbers_of(
    answers: Answers, width: int | None, what: str
) -> tuple[npt.NDArray[np.float32], list[str]]:
    """The answers' numbers as one array, with zeros where a row failed.

    Args:
        answers: n of them.
        width: how many numbers a row must have; None for as many as the first that did not fail.
        what: they are, for messages.

    Returns:
        float32 [n, width], and for each row why it failed or ``""``.
    """
    counts = answers.counts
    is_done = answers.status != FAILED
    if width is None:
        done = counts[is_done]
        width = int(done[0]) if len(done) else 0
    errors = [""] * len(counts)
    for row in np.flatnonzero(~is_done).tolist():
        errors[row] = answers.text(row) or "the guest does not say why"
    if width and bool((counts == width).all()):
        values = answers.numbers.reshape(-1, width).copy()
    else:
        values = np.zeros((len(counts), width), np.float32)
        ends = np.cumsum(counts)
        for row, (end, count) in enumerate(zip(ends.tolist(), counts.tolist(), strict=True)):
            if errors[row]:
                continue
            if count != width or not width:
                errors[row] = f"the guest gave {count} {what}; expected {width or 'some'}"
                continue
            values[row] = answers.numbers[end - count : end]
    is_finite = np.isfinite(values).all(axis=1)
    for row in np.flatnonzero(~is_finite).tolist():
        errors[row] = errors[row] or f"{what} that are not finite: {values[row][:8].tolist()}"
        values[row] = 0
    return values, errors


def matrix_of(lists: Any) -> npt.NDArray[Any]:
    """A column of lists, equally long, as an array [rows, length]."""
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in lists.chunks]
    return np.concatenate(chunks).reshape(len(lists), -1)


def metrics_json(metrics: Mapping[str, Metric], options: Bootstrap) -> dict[str, Any]:
    """Metrics as in ``results.json``."""
    return {name: metric.to_json(options.confidence) for name, metric in metrics.items()}


def worst_rows(columns: Any, badness: npt.NDArray[Any], *shown: str) -> list[dict[str, Any]]:
    """The rows that are furthest off.

    Args:
        columns: a table as for `Task.measure`, n rows.
        badness: [n], how far off each is; those of 0 are not off.
        shown: columns that tell.
    """
    order = np.argsort(-badness, kind="stable")[:MOST_WORST]
    chosen = columns.select(["row", "id", *shown]).take(order[badness[order] > 0])
    found: list[dict[str, Any]] = chosen.to_pylist()
    return found


def task_names() -> list[str]:
    """What there is."""
    return list(_TASKS)


def make_task(name: str, columns: Mapping[str, str], labels: Sequence[str] = ()) -> Task:
    """The task of a name.

    Raises:
        TaskError: there is none, or it has no such column.
    """
    if name not in _TASKS:
        raise TaskError(f"unknown task {name!r}; there is: {', '.join(_TASKS)}")
    module, _, cls = _TASKS[name].partition(":")
    made: Task = getattr(import_module(f"wasinn_host.evaluate.tasks.{module}"), cls)(
        columns, labels
    )
    return made


def column_of(rows: Iterable[Row]) -> list[Any]:
    """What is expected of each row."""
    return [row.expected for row in rows]


def read_rows(data: Data, task: Task) -> Iterator[Row]:
    """The data's rows as the task reads them.

    Raises:
        DataError, TaskError: see `Data` and `Task.read`.
    """
    for number, row in data:
        yield task.read(number, row, data.source)
