"""Labelled tokens: entities and values are seqeval's own, for any labels."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import sequence_labeling as reference
from seqeval.metrics.sequence_labeling import get_entities

from wasinn_host.evaluate.metrics import Bootstrap, Metric, token_metrics
from wasinn_host.evaluate.metrics.entities import entity_counts
from wasinn_host.evaluate.metrics.tokens import features, names, statistic
from wasinn_runtime.errors import UsageError

FEW = Bootstrap(resamples=50)
Rows = list[list[str]]

LABELS = ["O", "B", "I", "E", "S", "B-", "I-"] + [
    f"{tag}-{kind}" for tag in "BIES" for kind in ("PER", "LOC", "a-b", "_")
]


def pairs(least: int = 1) -> st.SearchStrategy[list[list[tuple[str, str]]]]:
    """Rows of tokens, each with its label and its prediction."""
    token = st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS))
    # Where both are often the same some entities are right.
    same = st.sampled_from(LABELS).map(lambda label: (label, label))
    return st.lists(st.lists(st.one_of(same, token), max_size=8), min_size=least, max_size=6)


def apart(rows: list[list[tuple[str, str]]]) -> tuple[Rows, Rows]:
    return [[one for one, _ in row] for row in rows], [[other for _, other in row] for row in rows]


def data(rows: int, seed: int = 0, right: float = 0.8) -> tuple[Rows, Rows]:
    random = np.random.default_rng(seed)
    words = ["O", "O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG"]
    labels = random.integers(0, len(words), (rows, 9))
    kept = random.random((rows, 9)) < right
    predictions = np.where(kept, labels, random.integers(0, len(words), (rows, 9)))
    return [[words[i] for i in row] for row in labels], [
        [words[i] for i in row] for row in predictions
    ]


def of_seqeval(labels: Rows, predictions: Rows, average: str | None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is 0 for want of entities
        found = reference.precision_recall_fscore_support(labels, predictions, average=average)
    return found[:3]


@settings(max_examples=300, deadline=None)
@given(pairs())
def test_entities_are_those_of_seqeval(rows: list[list[tuple[str, str]]]) -> None:
    labels, predictions = apart(rows)
    found = entity_counts(labels, predictions)
    for i, (one, other) in enumerate(zip(labels, predictions, strict=True)):
        actual, predicted = set(get_entities(one)), set(get_entities(other))
        for got, expected in (
            (found.actual, actual),
            (found.predicted, predicted),
            (found.right, actual & predicted),
        ):
            counted = dict(zip(found.types, got.toarray()[i].tolist(), strict=True))
            kinds = Counter(kind for kind, _, _ in expected)
            assert {kind: n for kind, n in counted.items() if n} == dict(kinds)
    assert found.tokens.tolist() == [len(row) for row in labels]
    assert found.tokens_right.tolist() == [sum(a == b for a, b in row) for row in rows]


@settings(max_examples=100, deadline=None)
@given(pairs().filter(lambda rows: any(a != "O" or b != "O" for row in rows for a, b in row)))
def test_values_are_those_of_seqeval(rows: list[list[tuple[str, str]]]) -> None:
    labels, predictions = apart(rows)
    found = token_metrics(labels, predictions, options=FEW)
    for average, end in (("micro", ""), ("macro", "_macro"), ("weighted", "_weighted")):
        got = [found.metrics[f"{part}{end}"].value for part in ("precision", "recall", "f1")]
        assert got == pytest.approx(of_seqeval(labels, predictions, average)), average
    of_types = np.array(of_seqeval(labels, predictions, None)).T.tolist()
    assert [
        [metric.value for metric in parts.values()] for parts in found.types.values()
    ] == pytest.approx(np.array(of_types))
    assert list(found.types) == list(found.support)
    assert found.metrics["token_accuracy"].value == pytest.approx(
        reference.accuracy_score(labels, predictions)
    )


def test_by_hand() -> None:
    """seqeval's own example: the place of one entity is off by a token, the other is right."""
    labels = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    predictions = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
    found = token_metrics(labels, predictions, options=FEW)
    assert found.support == {"MISC": 1, "PER": 1}
    assert found.types["MISC"]["f1"].value == 0
    assert found.types["PER"]["f1"].value == 1
    assert found.metrics["f1"].value == found.metrics["f1_macro"].value == 0.5
    assert found.metrics["token_accuracy"].value == pytest.approx(8 / 10)


def test_rows_of_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows read some at a time, with types that come up later, count as when read at once."""
    labels, predictions = data(50)
    labels.append(["B-LATE"])
    predictions.append(["B-LATE"])
    whole = token_metrics(labels, predictions, options=FEW)
    for chunk in (1, 20):
        monkeypatch.setattr("wasinn_host.evaluate.metrics.entities._CHUNK", chunk)
        assert token_metrics(labels, predictions, options=FEW) == whole
    assert whole.support["LATE"] == 1


def test_each_resample_is_what_seqeval_says_of_those_rows() -> None:
    labels, predictions = data(6)
    counts = entity_counts(labels, predictions)
    added, of_all = features(counts), statistic(len(counts.types))
    for drawn in np.random.default_rng(0).integers(0, 6, (20, 6)):
        totals = np.bincount(drawn, minlength=6) @ added
        found = dict(zip(names(), of_all(totals[None])[0], strict=False))
        rows = [labels[i] for i in drawn], [predictions[i] for i in drawn]
        for average, end in (("micro", ""), ("macro", "_macro"), ("weighted", "_weighted")):
            got = [found[f"{part}{end}"] for part in ("precision", "recall", "f1")]
            assert got == pytest.approx(of_seqeval(*rows, average))


def test_a_resample_without_entities_has_no_value() -> None:
    """Three tokens, two of them right; then also entities of one type and none of the other."""
    none, one = statistic(2)(np.array([[3.0, 2, 0, 0, 0, 0, 0, 0], [3.0, 2, 1, 0, 1, 0, 2, 0]]))
    assert none[0] == one[0] == pytest.approx(2 / 3)
    assert np.isnan(none[1:]).all()
    of_types = one[len(names()) :].reshape(3, 2)
    assert of_types[:, 0].tolist() == pytest.approx([0.5, 1, 2 / 3])
    assert np.isnan(of_types[:, 1]).all()


def test_intervals_cover_the_truth() -> None:
    truth = token_metrics(*data(60_000, seed=999), options=FEW).metrics
    covered = dict.fromkeys(truth, 0)
    for seed in range(200):
        found = token_metrics(*data(80, seed), options=Bootstrap(200)).metrics
        for name, metric in found.items():
            true = truth[name].value
            assert true is not None
            assert metric.low is not None
            assert metric.high is not None
            covered[name] += metric.low <= true <= metric.high
    for name, times in covered.items():
        assert 0.88 <= times / 200 <= 1, name


@settings(max_examples=50, deadline=None)
@given(rows=pairs(), data_=st.data())
def test_the_order_of_rows_changes_no_value(
    rows: list[list[tuple[str, str]]], data_: st.DataObject
) -> None:
    one = token_metrics(*apart(rows), options=FEW)
    other = token_metrics(*apart(data_.draw(st.permutations(rows))), options=FEW)
    assert one.support == other.support
    for name, metric in one.metrics.items():
        assert other.metrics[name].value == pytest.approx(metric.value), name


@settings(max_examples=50, deadline=None)
@given(pairs())
def test_perfect_predictions(rows: list[list[tuple[str, str]]]) -> None:
    labels, _ = apart(rows)
    found = token_metrics(labels, labels, options=FEW)
    has_entity = any(label != "O" for row in labels for label in row)
    for name, metric in found.metrics.items():
        expected = any(labels) if name == "token_accuracy" else has_entity
        assert metric.value == (pytest.approx(1) if expected else None), name
    for parts in found.types.values():
        assert [metric.value for metric in parts.values()] == [1, 1, 1]


def test_rows_without_entities_or_tokens() -> None:
    found = token_metrics([["O"], []], [["O"], []], options=FEW)
    none = "not defined: neither labels nor predictions have an entity"
    assert found.metrics["f1"] == found.metrics["precision_macro"] == Metric(None, note=none)
    assert found.types == {}
    assert found.support == {}
    assert found.metrics["token_accuracy"].value == 1
    empty = token_metrics([[]], [[]], options=FEW).metrics["token_accuracy"]
    assert empty == Metric(None, note="not defined: the rows have no tokens")


def test_a_type_that_only_the_model_has() -> None:
    found = token_metrics([["O"], ["B-PER"]], [["B-LOC"], ["B-PER"]], options=FEW)
    assert found.support == {"LOC": 0, "PER": 1}
    assert [metric.value for metric in found.types["LOC"].values()] == [0, 0, 0]
    assert found.metrics["f1_macro"].value == 0.5
    assert found.metrics["f1"].value == pytest.approx(2 / 3)
    assert found.metrics["f1_weighted"].value == 1


def test_a_standard_error() -> None:
    """Of a share of independent tokens, one in each row."""
    random = np.random.default_rng(0)
    right = random.random(3000) < 0.7
    labels = [["B-A"]] * 3000
    predictions = [["B-A" if hit else "O"] for hit in right]
    recall = token_metrics(labels, predictions, options=Bootstrap(3000)).metrics["recall"]
    assert recall.value == pytest.approx(right.mean())
    error = math.sqrt(right.mean() * (1 - right.mean()) / 3000)
    assert recall.standard_error == pytest.approx(error, rel=0.06)


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([], [], "labels: expected at least 1 row, got none"),
        ([["O"]], [], "expected as many rows in each, got labels 1, predictions 0"),
        (
            [["O"], ["O", "O"]],
            [["O"], ["O"]],
            "row 1: expected as many predictions as labels, got 1 predictions and 2 labels",
        ),
        (
            [["O"], ["O", "PER"]],
            [["O"], ["O", "O"]],
            "labels: row 1, token 1: expected O, or B-, I-, E- or S- and a type such as B-PER, "
            "got 'PER'",
        ),
        ([["O"]], [["BPER"]], "predictions: row 0, token 0: expected O, or.*got 'BPER'"),
        ([["O"]], [["O-PER"]], "predictions: row 0, token 0: expected O, or.*got 'O-PER'"),
        ([["O"]], [[""]], "predictions: row 0, token 0: expected O, or.*got ''"),
        ([["O"]], [[3]], "predictions: row 0, token 0: expected O, or.*got 3"),
        ([["O"]], [[["O"]]], r"predictions: row 0, token 0: expected O, or.*got \['O'\]"),
        ([["O"], "O"], [["O"], ["O"]], "labels: row 1: expected a list of labels, got str"),
        ([["O"]], [None], "predictions: row 0: expected a list of labels, got NoneType"),
    ],
)
def test_what_is_refused(labels: Any, predictions: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        token_metrics(labels, predictions)


def test_the_row_is_named_in_later_parts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wasinn_host.evaluate.metrics.entities._CHUNK", 2)
    with pytest.raises(UsageError, match="predictions: row 4, token 0: "):
        token_metrics([["O"]] * 5, [["O"]] * 4 + [["X"]])
