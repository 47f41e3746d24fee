"""Classification: every value against scikit-learn or by hand, intervals against known spreads."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from wasinn_host.evaluate.metrics import Bootstrap, Metric, classification_metrics
from wasinn_host.evaluate.metrics.confusion import features, names, statistic
from wasinn_host.evaluate.metrics.ranking import area
from wasinn_host.evaluate.metrics.resampling import UNITS, Rows
from wasinn_runtime.errors import UsageError

FEW = Bootstrap(resamples=50)


def data(
    rows: int, labels: int, seed: int = 0, pull: float = 1.0
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    random = np.random.default_rng(seed)
    actual = random.integers(0, labels, rows)
    logits = random.normal(size=(rows, labels)).astype(np.float32)
    logits[np.arange(rows), actual] += np.float32(pull)
    return actual, logits.argmax(axis=1), logits


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)


@pytest.mark.parametrize("labels", [2, 3, 7])
@pytest.mark.parametrize("rows", [40, 3000])
def test_values_are_those_of_scikit_learn(labels: int, rows: int) -> None:
    actual, predicted, logits = data(rows, labels, seed=labels)
    found = classification_metrics(actual, predicted, logits, options=FEW)
    shares = softmax(logits)
    expected: dict[str, Any] = {
        "accuracy": reference.accuracy_score(actual, predicted),
        "mcc": reference.matthews_corrcoef(actual, predicted),
        "log_loss": reference.log_loss(actual, shares),
        "brier": reference.brier_score_loss(actual, shares, labels=list(range(labels))),
    }
    for how in ("macro", "micro", "weighted", *(["binary"] if labels == 2 else [])):
        three = reference.precision_recall_fscore_support(actual, predicted, average=how)[:3]
        end = "" if how == "binary" else f"_{how}"
        for name, value in zip(("precision", "recall", "f1"), three, strict=True):
            expected[f"{name}{end}"] = value
    if labels == 2:
        expected["roc_auc"] = reference.roc_auc_score(actual, shares[:, 1])
    else:
        expected["roc_auc"] = reference.roc_auc_score(
            actual, shares, multi_class="ovr", average="macro"
        )
    for name, value in expected.items():
        assert found.metrics[name].value == pytest.approx(value, rel=1e-9), name
    assert set(found.metrics) == {*expected, "ece"}
    assert found.confusion is not None
    assert found.confusion.tolist() == reference.confusion_matrix(actual, predicted).tolist()


def test_the_other_label_can_be_the_positive_one() -> None:
    actual, predicted, logits = data(300, 2)
    found = classification_metrics(actual, predicted, logits, options=FEW, positive=0).metrics
    assert found["f1"].value == pytest.approx(reference.f1_score(actual, predicted, pos_label=0))
    assert found["roc_auc"].value == pytest.approx(
        reference.roc_auc_score(actual == 0, softmax(logits)[:, 0])
    )


def test_calibration_by_hand() -> None:
    """Three rows of 0.8, two of them right, and one of 0.6 that is wrong."""
    shares = np.array([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.6, 0.4]])
    actual, predicted = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0])
    found = classification_metrics(actual, predicted, np.log(shares), options=FEW, bins=2)
    low, high = found.calibration
    assert (low.start, low.end, low.count) == (0, 0.5, 0)
    assert low.confidence is low.accuracy is None
    assert (high.start, high.end, high.count) == (0.5, 1, 4)
    assert high.confidence == pytest.approx(0.75)
    assert high.accuracy == 0.5
    assert found.metrics["ece"].value == pytest.approx(0.25)
    ten = classification_metrics(actual, predicted, np.log(shares), options=FEW, bins=10)
    # |2 - 2.4| in one bin, |0 - 0.6| in the other, of four rows.
    assert ten.metrics["ece"].value == pytest.approx((0.4 + 0.6) / 4)
    assert sum(part.count for part in ten.calibration) == 4
    assert low.to_json() == {
        "from": 0.0,
        "to": 0.5,
        "count": 0,
        "confidence": None,
        "accuracy": None,
    }


def test_a_confidence_on_an_edge_is_in_the_bin_below() -> None:
    logits = np.zeros((4, 4), dtype=np.float32)  # 0.25 each
    found = classification_metrics([0, 1, 2, 3], [0, 0, 0, 0], logits, options=FEW, bins=4)
    assert [part.count for part in found.calibration] == [4, 0, 0, 0]
    assert found.metrics["ece"].value == 0


def test_log_loss_has_no_smallest_probability() -> None:
    found = classification_metrics([0], [1], np.array([[0.0, 3000.0]]), options=FEW).metrics
    assert found["log_loss"].value == 3000


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_largest_logits(dtype: type[np.floating]) -> None:
    most = np.finfo(dtype).max if dtype is not np.float64 else 1e150
    logits = np.array([[most, -most], [0, 1]], dtype=dtype)
    found = classification_metrics([1, 1], [0, 1], logits, options=FEW).metrics
    assert found["log_loss"].value == pytest.approx(float(most) + math.log1p(math.exp(-1)) / 2)
    assert found["brier"].value == pytest.approx((1 + (1 - 1 / (1 + math.exp(-1))) ** 2) / 2)


def test_area_does_not_round_probabilities_together() -> None:
    """All four probabilities are 1 in float64, the logits are in the right order."""
    logits = np.array([[0, 40], [0, 50], [0, 60], [0, 70]], dtype=np.float32)
    assert area(np.array([0, 0, 1, 1]), logits, 1).value == 1


def delong(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[float, float]:
    """Area and standard error as DeLong defines them, over all pairs."""
    pairs = scores[positive][:, None] - scores[~positive][None, :]
    kernel = (pairs > 0) + 0.5 * (pairs == 0)
    m, n = kernel.shape
    variance = kernel.mean(axis=1).var(ddof=1) / m + kernel.mean(axis=0).var(ddof=1) / n
    return float(kernel.mean()), math.sqrt(variance)


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_area_has_delongs_standard_error(decimals: int) -> None:
    random = np.random.default_rng(3)
    actual = random.integers(0, 2, 150)
    scores = np.round(random.normal(size=150) + actual, decimals)
    logits = np.stack([np.zeros(150), scores], axis=1)
    found = classification_metrics(actual, (scores > 0).astype(int), logits, options=FEW)
    value, error = delong(actual == 1, scores)
    metric = found.metrics["roc_auc"]
    assert (metric.value, metric.standard_error) == pytest.approx((value, error))
    assert metric.low is not None
    assert metric.high is not None
    assert 0 < metric.low < value < metric.high < 1


def test_area_over_three_labels_spreads_as_its_standard_error_says() -> None:
    values, errors = [], []
    for seed in range(300):
        actual, _, logits = data(200, 3, seed)
        found = area(actual, logits, 1)
        assert found.value is not None
        assert found.influence is not None
        values.append(found.value)
        errors.append(math.sqrt(float(np.sum(found.influence**2))))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)


def test_area_where_labels_are_missing() -> None:
    actual, _, logits = data(100, 4)
    kept = actual != 2
    found = area(actual[kept], logits[kept], 1)
    assert found.note == "mean over the 3 of 4 labels that occur"
    shares = softmax(logits[kept])
    assert found.value == pytest.approx(
        np.mean([reference.roc_auc_score(actual[kept] == i, shares[:, i]) for i in (0, 1, 3)])
    )
    one = classification_metrics([1, 1], [1, 0], logits[:2], options=FEW).metrics["roc_auc"]
    assert one == Metric(None, note="not defined: all rows have the label 1")
    single = classification_metrics([0, 1, 1], [0, 1, 1], logits[:3, :2], options=FEW).metrics[
        "roc_auc"
    ]
    assert single.value is not None
    assert single.standard_error is single.low is single.high is None
    assert single.note == "no interval: label 1 is in a single row, or in all but one"


@pytest.mark.parametrize("labels", [2, 4])
def test_each_resample_is_what_scikit_learn_says_of_those_rows(labels: int) -> None:
    """Also of resamples in which a label does not occur, or is never predicted."""
    random = np.random.default_rng(5)
    for _ in range(60):
        actual, predicted = random.integers(0, labels, (2, random.integers(2, 9)))
        totals = np.ones(len(actual)) @ features(actual, predicted, labels)
        found = dict(zip(names(labels), statistic(labels, 1)(totals[None])[0], strict=True))
        assert found["accuracy"] == pytest.approx(reference.accuracy_score(actual, predicted))
        if len(set(actual)) > 1 or len(set(predicted)) > 1:
            assert found["mcc"] == pytest.approx(reference.matthews_corrcoef(actual, predicted))
        for how in ("macro", "micro", "weighted"):
            three = reference.precision_recall_fscore_support(
                actual, predicted, average=how, zero_division=0
            )
            got = [found[f"{name}_{how}"] for name in ("precision", "recall", "f1")]
            assert got == pytest.approx(three[:3])


def test_accuracy_has_the_binomial_standard_error() -> None:
    actual, predicted, logits = data(2000, 2)
    options = Bootstrap(resamples=4000)
    found = classification_metrics(actual, predicted, logits, options=options).metrics["accuracy"]
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    error = math.sqrt(found.value * (1 - found.value) / 2000)
    assert found.standard_error == pytest.approx(error, rel=0.06)
    assert found.low == pytest.approx(found.value - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(found.value + 1.96 * error, abs=0.15 * error)


def test_intervals_cover_the_truth() -> None:
    """0.95 of intervals should; the bounds are four standard errors of the share away."""
    names = ["accuracy", "f1_macro", "mcc", "log_loss", "brier", "roc_auc"]
    truth = classification_metrics(*data(400_000, 3, seed=99), options=FEW).metrics
    covered = dict.fromkeys(names, 0)
    for seed in range(200):
        found = classification_metrics(*data(250, 3, seed=seed), options=Bootstrap(200)).metrics
        for name in names:
            true, low, high = truth[name].value, found[name].low, found[name].high
            assert true is not None
            assert low is not None
            assert high is not None
            covered[name] += low <= true <= high
    for name, times in covered.items():
        assert 0.89 <= times / 200 <= 1, name


def test_calibration_error_interval_is_around_the_value() -> None:
    actual, predicted, logits = data(500, 3, pull=0.0)
    found = classification_metrics(actual, predicted, logits * 3).metrics["ece"]
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    # Logits that are made so that their softmax is right: the lower end stops at 0.
    random = np.random.default_rng(2)
    logits = random.normal(size=(60, 2)).astype(np.float32)
    actual = (random.random(60) < softmax(logits)[:, 1]).astype(int)
    found = classification_metrics(actual, logits.argmax(axis=1), logits, bins=4).metrics["ece"]
    assert found.low == 0


def test_groups_spread_as_rows_do() -> None:
    """More rows than units, sorted by value: groups that were runs of rows would spread more."""
    rows = 40 * UNITS
    values = np.sort(np.random.default_rng(0).exponential(size=rows))
    options = Bootstrap(resamples=2000)
    sums = np.stack([np.ones(rows), values], axis=1)
    means = Rows(rows, options).replicates(sums, lambda totals: totals[:, 1:] / totals[:, :1])
    assert means.std() == pytest.approx(values.std() / math.sqrt(rows), rel=0.1)


def test_many_labels_are_resampled_in_groups() -> None:
    """More different cells than units."""
    actual, predicted, logits = data(30_000, 120)
    assert len(np.unique(actual * 120 + predicted)) > UNITS
    found = classification_metrics(actual, predicted, logits).metrics["accuracy"]
    assert found.value is not None
    error = math.sqrt(found.value * (1 - found.value) / 30_000)
    assert found.standard_error == pytest.approx(error, rel=0.15)


def test_a_seed_gives_the_same_again() -> None:
    columns = data(300, 3)
    one = classification_metrics(*columns, options=Bootstrap(100, seed=5))
    assert classification_metrics(*columns, options=Bootstrap(100, seed=5)).metrics == one.metrics
    assert classification_metrics(*columns, options=Bootstrap(100, seed=6)).metrics != one.metrics


def test_a_higher_confidence_is_a_wider_interval() -> None:
    columns = data(300, 3)
    narrow = classification_metrics(*columns, options=Bootstrap(confidence=0.5)).metrics
    wide = classification_metrics(*columns, options=Bootstrap(confidence=0.99)).metrics
    for name, metric in narrow.items():
        assert None not in (metric.low, metric.high)
        assert (wide[name].low or 0) < (metric.low or 0)
        assert (metric.high or 0) < (wide[name].high or 0)
    assert narrow["f1_macro"].to_json(0.5) == {
        "value": narrow["f1_macro"].value,
        "standard_error": narrow["f1_macro"].standard_error,
        "low": narrow["f1_macro"].low,
        "high": narrow["f1_macro"].high,
        "confidence": 0.5,
    }


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40), labels=st.integers(2, 5), seed=st.integers(0, 1000), data_=st.data()
)
def test_the_order_of_rows_changes_no_value(
    rows: int, labels: int, seed: int, data_: st.DataObject
) -> None:
    columns = data(rows, labels, seed)
    order = data_.draw(st.permutations(range(rows)))
    one = classification_metrics(*columns, options=FEW)
    other = classification_metrics(*(column[order] for column in columns), options=FEW)
    assert set(one.metrics) == set(other.metrics)
    for name, metric in one.metrics.items():
        assert other.metrics[name].value == pytest.approx(metric.value), name
    # Both are None where there are too many labels, which array_equal takes, and its types do not.
    assert np.array_equal(one.confusion, other.confusion)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(
    actual=st.lists(st.integers(0, 4), min_size=2, max_size=30).filter(lambda v: len(set(v)) > 1),
    more=st.integers(0, 2),
)
def test_perfect_predictions(actual: list[int], more: int) -> None:
    labels = max(actual) + 1 + more
    logits = np.eye(labels, dtype=np.float32)[actual] * 200
    found = classification_metrics(actual, actual, logits, options=FEW).metrics
    # Of two labels the positive one occurs, as the filter wants two different ones.
    for name, metric in found.items():
        assert metric.value == pytest.approx(0 if name in ("log_loss", "brier", "ece") else 1), name


def test_one_class_and_one_row() -> None:
    logits = np.array([[2.0, 0.0], [3.0, 0.0]])
    found = classification_metrics([0, 0], [0, 0], logits, options=FEW).metrics
    assert found["mcc"].value == 0
    assert found["mcc"].note == "defined as 0: all labels or all predictions are the same"
    assert found["f1"].value == 0
    assert found["f1_macro"].value == 1
    one = classification_metrics([0], [0], logits[:1], options=FEW).metrics["accuracy"]
    assert one == Metric(1.0, note="no interval: one row says nothing of the spread")
    assert one.to_json(0.95)["note"] == one.note


@pytest.mark.parametrize(
    ("labels", "predictions", "logits", "message"),
    [
        ([], [], np.zeros((0, 2)), r"logits: expected at least 1 row, got none: check that rows"),
        ([0], [0], [[1, 2]], r"logits: expected floats \[rows, labels\], got int64 \[1, 2\]"),
        ([0], [0], [1.0], r"logits: expected floats \[rows, labels\], got float64 \[1\]"),
        ([0], [0], [[1.0]], r"logits: expected 2 or more columns, got 1: for a model with one sig"),
        (
            [0, 1],
            [0, 1],
            [[0.0, 1.0], [0.0, math.nan]],
            "logits: row 1, column 1: expected a finite number, got nan: count this row as failed",
        ),
        ([0], [0], [[-math.inf, 1.0]], "row 0, column 0: expected a finite number, got -inf"),
        ([0], [0], [[1e200, 1.0]], r"row 0, column 0: expected a number within 1e150 of 0, got"),
        ([0, 2], [0, 1], np.zeros((2, 2)), r"labels: row 1: expected 0 to 1, got 2: the logits h"),
        ([0, -1], [0, 1], np.zeros((2, 2)), r"labels: row 1: expected 0 to 1, got -1: the logit"),
        ([0, 1], [0, 5], np.zeros((2, 2)), r"predictions: row 1: expected 0 to 1, got 5"),
        ([0.5], [0], np.zeros((1, 2)), r"labels: expected integers \[rows\], got float64 \[1\]"),
        ([0], [0, 1], np.zeros((2, 2)), "got labels 1, predictions 2, logits 2"),
    ],
)
def test_what_is_refused(labels: Any, predictions: Any, logits: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        classification_metrics(labels, predictions, logits)


def test_options_are_checked() -> None:
    columns = data(4, 2)
    with pytest.raises(UsageError, match="resamples: expected 2 or more"):
        Bootstrap(resamples=1)
    with pytest.raises(UsageError, match="seed: expected 0 or more, got -1"):
        Bootstrap(seed=-1)
    with pytest.raises(UsageError, match="confidence: expected a number between 0 and 1"):
        Bootstrap(confidence=95)
    with pytest.raises(UsageError, match="positive: expected 0 or 1, got 2"):
        classification_metrics(*columns, positive=2)
    with pytest.raises(UsageError, match="bins: expected 1 or more, got 0"):
        classification_metrics(*columns, bins=0)


def test_a_missing_library_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(UsageError, match=r"sklearn.*pip install 'wasinn-host\[eval\]'"):
        classification_metrics(*data(4, 2))
