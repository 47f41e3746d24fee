"""A number for a text, or for how much two texts are alike.

The guest's one number of a row is the score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.guests.answers import Answers
from wasinn_host.evaluate.metrics.compare import compare_regression
from wasinn_host.evaluate.metrics.paired import Comparison
from wasinn_host.evaluate.metrics.regression import regression_metrics
from wasinn_host.evaluate.metrics.result import Bootstrap
from wasinn_host.evaluate.plan import Row
from wasinn_host.evaluate.tasks.task import (
    Task,
    TaskError,
    column_of,
    metrics_json,
    numbers_of,
    worst_rows,
)

__all__ = ["Regression"]


class Regression(Task):
    """See the module."""

    name = "regression"
    expected = ("target",)

    def schema(self) -> Sequence[tuple[str, Any]]:
        arrow = need("pyarrow", "to keep results")
        return (("target", arrow.float64()), ("score", arrow.float64()))

    def outcome(self, rows: Sequence[Row], answers: Answers) -> tuple[Mapping[str, Any], list[str]]:
        scores, errors = numbers_of(answers, 1, "scores")
        return {
            "target": np.array(column_of(rows), np.float64),
            "score": scores[:, 0].astype(np.float64),
        }, errors

    def measure(self, columns: Any, seed: int) -> dict[str, Any]:
        options = Bootstrap(seed=seed)
        target, score = (columns[name].to_numpy() for name in ("target", "score"))
        return {
            "metrics": metrics_json(regression_metrics(target, score, options=options), options),
            "worst": worst_rows(columns, np.abs(target - score), "target", "score"),
        }

    def compare(self, first: Any, second: Any, seed: int) -> Mapping[str, Comparison]:
        scores = [run["score"].to_numpy() for run in (first, second)]
        return compare_regression(first["target"].to_numpy(), *scores, options=Bootstrap(seed=seed))

    def running(self, columns: Mapping[str, Any]) -> tuple[str, float, int]:
        difference = np.abs(columns["target"] - columns["score"])
        return "mae", float(difference.sum()), len(difference)

    def _expected(self, data: Mapping[str, Any], where: str, number: int) -> float:
        value = self._value(data, "target", where, number)
        try:
            target = float(value) if isinstance(value, int | float | str) else math.nan
        except (ValueError, OverflowError):
            target = math.nan
        if not math.isfinite(target):
            raise TaskError(
                f"{where}, row {number}: column {self._source('target')!r}: expected a finite "
                f"number, got {value!r:.60}"
            )
        return target
