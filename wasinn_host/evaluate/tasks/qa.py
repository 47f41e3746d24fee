"""Extractive question answering: the part of a context that answers a question.

The guest's text of a row is the answer, empty for none; its one number is how sure the model is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.guests.answers import Answers
from wasinn_host.evaluate.metrics.answers import qa_metrics, score_answers
from wasinn_host.evaluate.metrics.compare import compare_qa
from wasinn_host.evaluate.metrics.paired import Comparison
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

__all__ = ["QuestionAnswering"]


class QuestionAnswering(Task):
    """See the module."""

    name = "qa"
    texts = ("question", "context")
    needed_texts = 2
    expected = ("answers",)

    def schema(self) -> Sequence[tuple[str, Any]]:
        arrow = need("pyarrow", "to keep results")
        return (
            ("answers", arrow.list_(arrow.string())),
            ("answer", arrow.string()),
            ("score", arrow.float64()),
            ("is_exact", arrow.bool_()),
            ("f1", arrow.float64()),
        )

    def outcome(self, rows: Sequence[Row], answers: Answers) -> tuple[Mapping[str, Any], list[str]]:
        scores, errors = numbers_of(answers, 1, "scores")
        references = column_of(rows)
        given = ["" if error else answers.text(place) for place, error in enumerate(errors)]
        worth = score_answers(given, references)
        expected = np.empty(len(rows), object)
        expected[:] = references
        return {
            "answers": expected,
            "answer": np.array(given, object),
            "score": scores[:, 0].astype(np.float64),
            "is_exact": worth.exact,
            "f1": worth.f1,
        }, errors

    def measure(self, columns: Any, seed: int) -> dict[str, Any]:
        options = Bootstrap(seed=seed)
        exact, f1 = _scores(columns)
        references = columns["answers"].to_pylist()
        # As in the metrics: a question without an answer has no reference, or empty ones only.
        answerable = score_answers([""] * len(references), references).answerable
        metrics = qa_metrics(exact, f1, answerable, options=options)
        return {
            "metrics": metrics_json(metrics, options),
            "worst": worst_rows(columns, 1 - f1, "answers", "answer", "score", "f1"),
        }

    def compare(self, first: Any, second: Any, seed: int) -> Mapping[str, Comparison]:
        return compare_qa(_scores(first), _scores(second), options=Bootstrap(seed=seed))

    def running(self, columns: Mapping[str, Any]) -> tuple[str, float, int]:
        return "f1", float(columns["f1"].sum()), len(columns["f1"])

    def _expected(self, data: Mapping[str, Any], where: str, number: int) -> list[str]:
        value = self._value(data, "answers", where, number)
        # SQuAD's form has where each begins, too.
        given = value.get("text") if isinstance(value, dict) else value
        given = [given] if isinstance(given, str) else given
        if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
            raise TaskError(
                f"{where}, row {number}: column {self._source('answers')!r}: expected a list of "
                f"texts, or SQuAD's {{'text': [...]}}, got {value!r:.60}"
            )
        return given


def _scores(columns: Any) -> tuple[Any, Any]:
    """Exact matches, bool [n], and F1, float64 [n]."""
    return columns["is_exact"].to_numpy(), columns["f1"].to_numpy()
