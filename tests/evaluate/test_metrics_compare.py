"""Two runs on the same rows: values by hand, and how often chance is taken for a difference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from wasinn_host.evaluate import metrics
from wasinn_host.evaluate.metrics import Bootstrap
from wasinn_host.evaluate.metrics.compare import (
    Comparisons,
    compare_classification,
    compare_means,
    compare_qa,
    compare_regression,
    compare_tokens,
)
from wasinn_host.evaluate.metrics.paired import Comparison, mcnemar
from wasinn_host.evaluate.metrics.spearman import MOST_RESAMPLED
from wasinn_runtime.errors import UsageError

FEW = Bootstrap(resamples=200)
Run = tuple[NDArray[Any], NDArray[Any]]


def classifications(
    rows: int, seed: int, labels: int = 3, better: float = 0.0
) -> tuple[NDArray[np.int64], Run, Run]:
    """Labels and two runs whose logits have noise in common; the second one's pull is stronger."""
    random = np.random.default_rng(seed)
    actual = random.integers(0, labels, rows)
    shared = random.normal(size=(rows, labels)) + 1.2 * np.eye(labels)[actual]
    runs = []
    for pull in (0.0, better):
        logits = shared + 0.5 * random.normal(size=(rows, labels)) + pull * np.eye(labels)[actual]
        runs.append((logits.argmax(axis=1), logits))
    return actual, runs[0], runs[1]


def of_classification(rows: int, seed: int, better: float) -> Comparisons:
    return compare_classification(*classifications(rows, seed, better=better), options=FEW)


def of_regression(rows: int, seed: int, better: float) -> Comparisons:
    random = np.random.default_rng(seed)
    targets, shared, one, other = random.normal(size=(4, rows))
    first = targets + shared + one
    second = targets + (1 - better) * (shared + other)
    return compare_regression(targets, first, second, options=FEW)


def of_tokens(rows: int, seed: int, better: float) -> Comparisons:
    random = np.random.default_rng(seed)
    words = np.array(["O", "O", "B-A", "I-A", "B-B"])
    labels = words[random.integers(0, 5, (rows, 8))]
    runs = []
    for right in (0.75, 0.75 + better):
        kept = random.random((rows, 8)) < right
        runs.append(np.where(kept, labels, words[random.integers(0, 5, (rows, 8))]).tolist())
    return compare_tokens(labels.tolist(), runs[0], runs[1], options=FEW)


def of_qa(rows: int, seed: int, better: float) -> Comparisons:
    random = np.random.default_rng(seed)
    runs = []
    for share in (0.6, 0.6 + better):
        f1 = np.where(random.random(rows) < share, 1.0, random.random(rows))
        runs.append((f1 == 1, f1))
    return compare_qa(runs[0], runs[1], options=FEW)


TASKS = [of_classification, of_regression, of_tokens, of_qa]
Task = Callable[[int, int, float], Comparisons]


@pytest.mark.parametrize("task", TASKS)
def test_chance_is_rarely_taken_for_a_difference(task: Task) -> None:
    """Of runs of equal quality 0.05 should have p < 0.05, and 0.95 an interval with 0 in it."""
    low_p: dict[str, int] = {}
    covered: dict[str, int] = {}
    for seed in range(200):
        for name, found in task(120, seed, 0.0).items():
            assert found.p_value is not None
            assert found.low is not None
            assert found.high is not None
            low_p[name] = low_p.get(name, 0) + (found.p_value < 0.05)
            covered[name] = covered.get(name, 0) + (found.low <= 0 <= found.high)
    for name in low_p:
        assert low_p[name] / 200 <= 0.12, name
        assert 0.88 <= covered[name] / 200 <= 1, name


@pytest.mark.parametrize("task", TASKS)
def test_a_difference_is_found(task: Task) -> None:
    for name, found in task(1500, 0, 0.2).items():
        down = name in ("log_loss", "brier", "mae", "rmse")
        assert found.difference is not None
        assert (found.difference < 0) == down, name
        assert found.p_value is not None
        assert found.p_value < 0.01, name
        assert found.low is not None
        assert found.high is not None
        assert (found.high < 0) if down else (found.low > 0), name


@pytest.mark.parametrize("labels", [2, 3])
def test_values_are_those_of_the_metrics(labels: int) -> None:
    actual, one, other = classifications(400, 1, labels, better=0.5)
    found = compare_classification(actual, one, other, options=FEW)
    values = [
        metrics.classification_metrics(actual, *run, options=FEW).metrics for run in (one, other)
    ]
    assert {*found, "ece"} == set(values[0])
    for name, comparison in found.items():
        assert comparison.first == pytest.approx(values[0][name].value), name
        assert comparison.second == pytest.approx(values[1][name].value), name
        assert comparison.first is not None
        assert comparison.second is not None
        assert comparison.difference == pytest.approx(comparison.second - comparison.first), name


def test_values_of_the_other_tasks() -> None:
    random = np.random.default_rng(2)
    targets, one, other = random.normal(size=(3, 90))
    of_scores = compare_regression(targets, one, other, options=FEW)
    for name, metric in metrics.regression_metrics(targets, other, options=FEW).items():
        assert of_scores[name].second == pytest.approx(metric.value)
    labels, runs = (
        [["B-A", "O"], ["B-B", "I-B"]],
        ([["O", "O"], ["B-B", "I-B"]], [["B-A", "O"]] * 2),
    )
    of_labels = compare_tokens(labels, runs[0], runs[1], options=FEW)
    for number, name in enumerate(("first", "second")):
        expected = metrics.token_metrics(labels, runs[number], options=FEW).metrics
        assert {key: getattr(found, name) for key, found in of_labels.items()} == {
            key: pytest.approx(metric.value) for key, metric in expected.items()
        }
    exact, f1 = np.array([True, False, True]), np.array([1.0, 0.5, 1.0])
    of_answers = compare_qa((exact, f1), (~exact, 1 - f1), options=FEW)
    assert of_answers["exact"].first == pytest.approx(2 / 3)
    assert of_answers["f1"].second == pytest.approx(1 / 6)


@pytest.mark.parametrize("task", TASKS)
def test_tests_are_named(task: Task) -> None:
    special = {
        "accuracy": "McNemar, exact",
        "exact": "McNemar, chi-square with correction",
        "roc_auc": "DeLong",
    }
    for name, found in task(90, 0, 0.0).items():
        assert found.test == special.get(name, "paired bootstrap")
        assert found.note is None


def test_runs_that_are_the_same() -> None:
    actual, run, _ = classifications(100, 0)
    for found in compare_classification(actual, run, run, options=FEW).values():
        assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_the_other_order_of_runs_turns_the_sign() -> None:
    actual, one, other = classifications(150, 4, better=0.1)
    there = compare_classification(actual, one, other, options=FEW)
    back = compare_classification(actual, other, one, options=FEW)
    for name, found in there.items():
        assert back[name].difference == pytest.approx(-(found.difference or 0))
        assert back[name].p_value == pytest.approx(found.p_value, rel=0.5, abs=0.05), name
        assert back[name].standard_error == pytest.approx(found.standard_error, rel=0.3), name


@pytest.mark.parametrize(
    ("only_first", "only_second", "test", "p_value"),
    [
        (0, 0, "McNemar, exact", 1.0),
        (1, 8, "McNemar, exact", 2 * (1 + 9) / 2**9),
        (4, 4, "McNemar, exact", 1.0),
        (24, 0, "McNemar, exact", 2 / 2**24),
        (10, 30, "McNemar, chi-square with correction", math.erfc(math.sqrt(19**2 / 40 / 2))),
        (20, 20, "McNemar, chi-square with correction", 1.0),
    ],
)
def test_mcnemar_by_hand(only_first: int, only_second: int, test: str, p_value: float) -> None:
    """Also 60 rows that both have right, and 40 that neither has."""
    first = np.array([True] * 60 + [False] * 40 + [True] * only_first + [False] * only_second)
    second = np.array([True] * 60 + [False] * 40 + [False] * only_first + [True] * only_second)
    found = mcnemar(first, second, Bootstrap(2000))
    assert found.test == test
    assert found.p_value == pytest.approx(p_value)
    rows = 100 + only_first + only_second
    difference = (only_second - only_first) / rows
    assert found.difference == pytest.approx(difference)
    error = math.sqrt(((only_first + only_second) / rows - difference**2) / rows)
    assert found.standard_error == pytest.approx(error, rel=0.08)


def test_areas_have_delongs_covariance() -> None:
    """Over all pairs of rows, as DeLong writes it."""
    actual, one, other = classifications(80, 5, labels=2)
    components = []
    for _, logits in (one, other):
        scores = logits[:, 1] - logits[:, 0]
        pairs = scores[actual == 1][:, None] - scores[actual == 0][None, :]
        kernel = (pairs > 0) + 0.5 * (pairs == 0)
        components.append((kernel.mean(axis=1), kernel.mean(axis=0)))
    variance = 0.0
    for of_first, of_second in zip(*components, strict=True):
        covariance = np.cov(of_first, of_second) / len(of_first)
        variance += covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    found = compare_classification(actual, one, other, options=FEW)["roc_auc"]
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert found.difference is not None
    z = abs(found.difference) / math.sqrt(variance)
    assert found.p_value == pytest.approx(math.erfc(z / math.sqrt(2)))
    assert found.low == pytest.approx(found.difference - 1.959964 * math.sqrt(variance))


def test_what_rows_have_in_common_is_no_chance() -> None:
    """Rows that are hard for both runs: the difference is surer than either mean."""
    random = np.random.default_rng(6)
    hard = random.normal(size=500) * 10
    one, other = (hard + random.normal(size=500) for _ in range(2))
    found = compare_means({"f1": one}, {"f1": other}, options=Bootstrap(2000))["f1"]
    spread = (other - one).std() / math.sqrt(500)
    assert found.standard_error == pytest.approx(spread, rel=0.08)
    assert spread < 0.2 * one.std() / math.sqrt(500)


def test_means_leave_out_rows_without_a_score() -> None:
    one = {"recall@5": [0.0, math.nan, 1.0], "mrr@5": [0.2, math.nan, 0.4]}
    other = {"mrr@5": [0.4, math.nan, 0.4], "recall@5": [1.0, math.nan, 1.0]}
    found = compare_means(one, other, options=FEW)
    assert found["recall@5"].difference == 0.5
    assert found["mrr@5"].difference == pytest.approx(0.1)
    none = {"recall@5": [math.nan, math.nan]}
    absent = compare_means(none, none, options=FEW)["recall@5"]
    assert absent == Comparison(
        None, None, None, None, None, None, None, None, "not defined: no row has a score"
    )


def test_rank_correlations_of_many_rows() -> None:
    random = np.random.default_rng(7)
    targets, one, other = random.normal(size=(3, MOST_RESAMPLED + 1))
    one, other = targets + one, targets + 0.9 * other
    found = compare_regression(targets, one, other, options=FEW)["spearman"]
    assert found.test == "delta method"
    assert found.first == pytest.approx(stats.spearmanr(targets, one).statistic)
    few = compare_regression(targets[:2000], one[:2000], other[:2000], options=Bootstrap(1000))
    assert few["spearman"].test == "paired bootstrap"
    assert few["spearman"].standard_error is not None
    expected = few["spearman"].standard_error * math.sqrt(2000 / MOST_RESAMPLED)
    assert found.standard_error == pytest.approx(expected, rel=0.15)
    assert found.p_value is not None
    assert found.p_value < 0.01


def test_where_there_is_nothing_to_compare() -> None:
    found = compare_regression([1, 2, 3], [5, 5, 5], [1, 2, 4], options=FEW)
    for name in ("pearson", "spearman"):
        assert found[name].first is None
        assert found[name].second is not None
        assert found[name].difference is found[name].p_value is None
        assert found[name].test is None
        assert found[name].note == "not defined: all scores are 5"
    assert found["mae"].difference is not None
    of_tokens = compare_tokens([["O"]], [["O"]], [["B-A"]], options=FEW)["f1"]
    assert (of_tokens.first, of_tokens.second, of_tokens.p_value) == (None, 0, None)
    assert of_tokens.note == "not defined: in one of the runs there is nothing to count"


def test_areas_that_can_not_be_compared() -> None:
    logits = np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [0.0, 4.0]])
    run = logits.argmax(axis=1), logits
    one_label = compare_classification([1, 1, 1, 1], run, run, options=FEW)["roc_auc"]
    assert one_label.first is one_label.p_value is None
    assert one_label.note == "not defined: all rows have the label 1"
    single = compare_classification([0, 1, 1, 1], run, run, options=FEW)["roc_auc"]
    assert single.first == 1
    assert single.p_value is None
    assert single.note == "no interval: label 1 is in a single row, or in all but one"
    flat = np.zeros(4, dtype=int), np.zeros((4, 2))
    fixed = compare_classification([0, 0, 1, 1], run, flat, options=FEW)["roc_auc"]
    assert fixed.difference == -0.5
    assert fixed.standard_error is fixed.p_value is None
    assert fixed.note == "no p-value: neither value varies with its rows"


def test_one_row_is_no_sample() -> None:
    found = compare_means({"f1": [0.0]}, {"f1": [1.0]}, options=FEW)["f1"]
    assert found.difference == 1
    assert found.low is found.p_value is None
    assert found.test is None
    assert found.note == "no interval: one row says nothing of the spread"
    assert compare_qa(([False], [0.0]), ([True], [1.0]))["exact"].p_value == 1


def test_resamples_without_a_value() -> None:
    found = compare_regression([1, 2], [3, 4], [4, 3])["pearson"]
    assert found.difference == pytest.approx(-2)
    assert found.p_value is None
    assert found.note == "no interval: not defined in 502 of 1000 resamples"


def test_as_json() -> None:
    found = compare_means({"f1": [0.0, 1.0, 0.5]}, {"f1": [1.0, 1.0, 0.5]}, options=FEW)["f1"]
    assert found.to_json(0.95) == {
        "first": 0.5,
        "second": pytest.approx(5 / 6),
        "difference": pytest.approx(1 / 3),
        "standard_error": found.standard_error,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "test": "paired bootstrap",
        "confidence": 0.95,
    }
    noted = compare_means({"f1": [0.0]}, {"f1": [1.0]}, options=FEW)["f1"].to_json(0.9)
    assert noted["note"] == "no interval: one row says nothing of the spread"


def test_a_seed_gives_the_same_again() -> None:
    columns = classifications(200, 8, better=0.1)
    one = compare_classification(*columns, options=Bootstrap(100, seed=1))
    assert compare_classification(*columns, options=Bootstrap(100, seed=1)) == one
    assert compare_classification(*columns, options=Bootstrap(100, seed=2)) != one


def test_what_is_refused() -> None:
    actual, one, _ = classifications(5, 0)
    narrow = np.zeros(5, dtype=int), np.zeros((5, 2))
    with pytest.raises(UsageError, match="expected as many labels in both runs, got 3 and 2"):
        compare_classification(np.zeros(5, dtype=int), one, narrow)
    with pytest.raises(UsageError, match="got labels 5, predictions 4, logits 4"):
        compare_classification(actual, one, (one[0][:4], one[1][:4]))
    with pytest.raises(UsageError, match="positive: expected 0 or 1, got 3"):
        compare_classification(actual, one, one, positive=3)
    with pytest.raises(UsageError, match=r"same names in both runs, got \['a'\] and \['b'\]"):
        compare_means({"a": [1.0]}, {"b": [1.0]})
    with pytest.raises(UsageError, match="expected scores of the same names"):
        compare_means({}, {})
    with pytest.raises(UsageError, match="got first a 1, second a 2"):
        compare_means({"a": [1.0]}, {"a": [1.0, 2.0]})
    with pytest.raises(UsageError, match=r"a: row 1: expected a score in both.*got nan and 2\.0"):
        compare_means({"a": [1.0, math.nan]}, {"a": [1.0, 2.0]})
    with pytest.raises(UsageError, match="a: row 0: expected a finite number, got inf"):
        compare_means({"a": [math.inf]}, {"a": [1.0]})
    with pytest.raises(UsageError, match="a: expected at least 1 row, got none"):
        compare_means({"a": []}, {"a": []})
    with pytest.raises(
        UsageError, match="got first exact 1, second exact 1, first f1 1, second f1"
    ):
        compare_qa(([True], [1.0]), ([True], [1.0, 0.0]))
