"""Sequence classification: one label of several for a text, or for a pair of texts.

The guest's numbers of a row are the model's logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.guests.answers import Answers
from wasinn_host.evaluate.metrics.classification import classification_metrics
from wasinn_host.evaluate.metrics.compare import compare_classification
from wasinn_host.evaluate.metrics.paired import Comparison
from wasinn_host.evaluate.metrics.result import Bootstrap
from wasinn_host.evaluate.plan import Row
from wasinn_host.evaluate.tasks.task import (
    Task,
    TaskError,
    column_of,
    matrix_of,
    metrics_json,
    numbers_of,
    worst_rows,
)

__all__ = ["Classification"]


class Classification(Task):
    """See the module."""

    name = "classification"
    expected = ("label",)

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
        if width == 1:
            raise TaskError(
                "the model gives 1 logit a row, expected one for each label: of a model with one "
                "sigmoid the guest gives two, 0 and the model's"
            )
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

    def measure(self, columns: Any, seed: int) -> dict[str, Any]:
        options = Bootstrap(seed=seed)
        label, prediction, logits = _arrays(columns)
        found = classification_metrics(label, prediction, logits, options=options)
        shown = columns.append_column("confidence", [found.confidence])
        badness = np.where(label == prediction, 0.0, found.confidence)
        worst = worst_rows(shown, badness, "label", "prediction", "confidence")
        names = self.labels or tuple(map(str, range(logits.shape[1])))
        return {
            "metrics": metrics_json(found.metrics, options),
            "labels": list(names),
            "confusion": None if found.confusion is None else found.confusion.tolist(),
            "calibration": [bin_.to_json() for bin_ in found.calibration],
            "worst": [
                {
                    **row,
                    "label": names[row["label"]],
                    "prediction": names[row["prediction"]],
                }
                for row in worst
            ],
        }

    def compare(self, first: Any, second: Any, seed: int) -> Mapping[str, Comparison]:
        label, *one = _arrays(first)
        _, *other = _arrays(second)
        return compare_classification(
            label, (one[0], one[1]), (other[0], other[1]), options=Bootstrap(seed=seed)
        )

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


def _arrays(columns: Any) -> tuple[Any, Any, Any]:
    """Labels int64 [n], predictions int64 [n] and logits float32 [n, labels] of a table."""
    label = columns["label"].to_numpy().astype(np.int64)
    prediction = columns["prediction"].to_numpy().astype(np.int64)
    logits = matrix_of(columns["logits"])
    return label, prediction, logits
