"""Sequence classification: one label of several for a text, or for a pair of texts.

The guest's numbers of a row are the model's logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.guests.answers import Answers
from wasinn_host.evaluate.plan import Row
from wasinn_host.evaluate.tasks.task import Task, TaskError, column_of, numbers_of

__all__ = ["Classification"]


class Classification(Task):
    """See the module."""

    name = "classification"
    expected = "label"

    def __init__(self, columns: Mapping[str, str], labels: Sequence[str] = ()) -> None:
        super().__init__(columns, labels)
        self._width: int | None = len(labels) or None

    def schema(self) -> Sequence[tuple[str, Any]]:
        arrow = need("pyarrow", "to keep results")
        return (
            ("label", arrow.int32()),
            ("prediction", arrow.int32()),
            ("logits", arrow.list_(arrow.float32())),
        )

    def outcome(self, rows: Sequence[Row], answers: Answers) -> tuple[Mapping[str, Any], list[str]]:
        logits, errors = numbers_of(answers, self._width, "logits")
        self._width = width = self._width or logits.shape[1] or None
        labels = np.array(column_of(rows), np.int32)
        if width is not None and labels.max(initial=-1) >= width:
            wrong = rows[int(np.argmax(labels >= width))]
            raise TaskError(
                f"row {wrong.number} (id {wrong.id}): label {wrong.expected}; the model tells "
                f"{width} labels apart, 0 to {width - 1}"
            )
        predictions = (
            logits.argmax(axis=1).astype(np.int32) if width else np.zeros(len(rows), np.int32)
        )
        return {"label": labels, "prediction": predictions, "logits": logits}, errors

    def measure(self, columns: Mapping[str, Any], seed: int) -> dict[str, Any]:
        label = columns["label"].to_numpy()
        prediction = columns["prediction"].to_numpy()
        return {"metrics": {"accuracy": {"value": float((label == prediction).mean())}}}

    def running(self, columns: Mapping[str, Any]) -> tuple[str, float, int]:
        right = columns["label"] == columns["prediction"]
        return "accuracy", float(right.sum()), len(right)

    def _expected(self, data: Mapping[str, Any], where: str, number: int) -> int:
        value = self._value(data, "label", where, number)
        if isinstance(value, str) and value in self.labels:
            return self.labels.index(value)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 7:
            value = int(value)
        if type(value) is int and 0 <= value < (len(self.labels) or 1 << 20):
            return value
        known = ", ".join(self.labels[:20])
        raise TaskError(
            f"{where}, row {number}: label {value!r:.60}: expected "
            + (f"one of {known}" if known else "a number from 0; for names give --labels A,B,...")
        )
