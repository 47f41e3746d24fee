"""Token classification, such as named entities: a label for each word.

The guest gets the words with a space between two of them. Its numbers of a row are the labels'
indices, one for each word. Words that a guest did not see, because a row is longer than the model,
count as ``O``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.guests.answers import FAILED, TRUNCATED, Answers
from wasinn_host.evaluate.metrics.compare import compare_tokens
from wasinn_host.evaluate.metrics.entities import entity_counts
from wasinn_host.evaluate.metrics.paired import Comparison
from wasinn_host.evaluate.metrics.result import Bootstrap
from wasinn_host.evaluate.metrics.tokens import token_metrics
from wasinn_host.evaluate.plan import Row
from wasinn_host.evaluate.tasks.task import Task, TaskError, column_of, metrics_json, worst_rows
from wasinn_runtime.errors import UsageError

__all__ = ["Tokens"]

_OUTSIDE: Final = "O"


class Tokens(Task):
    """See the module."""

    name = "tokens"
    texts = ("words",)
    expected = ("labels",)

    def __init__(self, columns: Mapping[str, str], labels: Sequence[str] = ()) -> None:
        super().__init__(columns, labels)
        if not labels:
            raise TaskError(
                "tokens: a guest answers with numbers of labels: give their names in the model's "
                "order, --labels O,B-PER,I-PER,..."
            )
        try:
            entity_counts([self.labels], [self.labels])
        except UsageError as error:
            raise TaskError(f"--labels: {error}") from error
        self._names = np.array(self.labels, object)

    def schema(self) -> Sequence[tuple[str, Any]]:
        arrow = need("pyarrow", "to keep results")
        names = arrow.list_(arrow.string())
        return (("labels", names), ("predictions", names))

    def outcome(self, rows: Sequence[Row], answers: Answers) -> tuple[Mapping[str, Any], list[str]]:
        labels = column_of(rows)
        predictions, errors = [], []
        ends = np.cumsum(answers.counts)
        for place, actual in enumerate(labels):
            numbers = answers.numbers[ends[place] - answers.counts[place] : ends[place]]
            error = self._error(answers, place, numbers, len(actual))
            errors.append(error)
            found = [] if error else self._names[numbers.astype(np.int64)].tolist()
            predictions.append(found + [_OUTSIDE] * (len(actual) - len(found)))
        return {"labels": _objects(labels), "predictions": _objects(predictions)}, errors

    def _error(self, answers: Answers, place: int, numbers: Any, words: int) -> str:
        """Why a row failed; ``""`` if it did not."""
        if answers.status[place] == FAILED:
            return answers.text(place) or "the guest does not say why"
        few = answers.status[place] == TRUNCATED and len(numbers) < words
        if len(numbers) != words and not few:
            return f"the guest gave {len(numbers)} labels for {words} words"
        is_index = (numbers >= 0) & (numbers < len(self.labels)) & (numbers == np.floor(numbers))
        if not is_index.all():
            wrong = numbers[int(np.argmin(is_index))]
            return f"the guest gave label {wrong:g}; there are {len(self.labels)}, from 0"
        return ""

    def measure(self, columns: Any, seed: int) -> dict[str, Any]:
        options = Bootstrap(seed=seed)
        labels, predictions = columns["labels"].to_pylist(), columns["predictions"].to_pylist()
        found = token_metrics(labels, predictions, options=options)
        rows = zip(labels, predictions, strict=True)
        wrong = np.array([len(actual) - _right(actual, said) for actual, said in rows])
        return {
            "metrics": metrics_json(found.metrics, options),
            "types": {
                name: {"support": found.support[name], **metrics_json(metrics, options)}
                for name, metrics in found.types.items()
            },
            "worst": worst_rows(columns, wrong, "labels", "predictions"),
        }

    def compare(self, first: Any, second: Any, seed: int) -> Mapping[str, Comparison]:
        runs = [run["predictions"].to_pylist() for run in (first, second)]
        return compare_tokens(first["labels"].to_pylist(), *runs, options=Bootstrap(seed=seed))

    def running(self, columns: Mapping[str, Any]) -> tuple[str, float, int]:
        rows = zip(columns["labels"], columns["predictions"], strict=True)
        right = sum(_right(actual, said) for actual, said in rows)
        return "token_accuracy", float(right), sum(map(len, columns["labels"]))

    def _text(self, data: Mapping[str, Any], column: str, where: str, number: int) -> str:
        return " ".join(self._words(data, where, number))

    def _words(self, data: Mapping[str, Any], where: str, number: int) -> list[str]:
        value = self._value(data, "words", where, number)
        words = value.split() if isinstance(value, str) else value
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise TaskError(
                f"{where}, row {number}: column {self._source('words')!r}: expected a list of "
                f"words, got {value!r:.60}"
            )
        for word in words:
            if not word or word.split() != [word]:
                raise TaskError(
                    f"{where}, row {number}: column {self._source('words')!r}: expected words "
                    f"without spaces in them, got {word!r:.60}"
                )
        text = super()._text({"words": " ".join(words)}, "words", where, number)
        return text.split(" ") if text else []

    def _expected(self, data: Mapping[str, Any], where: str, number: int) -> list[str]:
        value = self._value(data, "labels", where, number)
        given = value.split() if isinstance(value, str) else value
        column = self._source("labels")
        if not isinstance(given, list):
            raise TaskError(
                f"{where}, row {number}: column {column!r}: expected a list of labels, got "
                f"{value!r:.60}"
            )
        words = len(self._words(data, where, number))
        if len(given) != words:
            raise TaskError(f"{where}, row {number}: {words} words have {len(given)} labels")
        return [self._label(label, where, number) for label in given]

    def _label(self, label: object, where: str, number: int) -> str:
        if isinstance(label, str) and label in self.labels:
            return label
        if type(label) is int and 0 <= label < len(self.labels):
            return self.labels[label]
        raise TaskError(
            f"{where}, row {number}: label {label!r:.60}: expected one of "
            f"{', '.join(self.labels[:20])}, or a number from 0 to {len(self.labels) - 1}"
        )


def _right(labels: Sequence[str], predictions: Sequence[str]) -> int:
    """How many words of a row have their label."""
    return sum(map(str.__eq__, labels, predictions))


def _objects(lists: Sequence[list[str]]) -> Any:
    """Lists as an array [rows], however long they are."""
    array = np.empty(len(lists), object)
    array[:] = lists
    return array
