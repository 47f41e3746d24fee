"""Regression: values against scipy and scikit-learn, spreads against many samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sklearn import metrics as reference

from wasinn_host.evaluate.metrics import Bootstrap, Metric, regression_metrics
from wasinn_host.evaluate.metrics.regression import correlation_sums, pearson_of
from wasinn_host.evaluate.metrics.spearman import MOST_RESAMPLED, influence, rank_resamples
from wasinn_runtime.errors import UsageError

FEW = Bootstrap(resamples=50)
Floats = NDArray[np.float64]
CORRELATIONS = ("pearson", "spearman")


def data(rows: int, seed: int = 0, share: float = 0.7, decimals: int = 8) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    targets, noise = random.normal(size=(2, rows))
    return targets, np.round(share * targets + math.sqrt(1 - share**2) * noise, decimals)


@pytest.mark.parametrize("rows", [5, 900, MOST_RESAMPLED + 1])
@pytest.mark.parametrize("decimals", [0, 8])
def test_values_are_those_of_the_libraries(rows: int, decimals: int) -> None:
    targets, scores = data(rows, decimals=decimals)
    found = regression_metrics(targets, scores, options=FEW)
    assert {name: metric.value for name, metric in found.items()} == {
        "pearson": pytest.approx(stats.pearsonr(targets, scores).statistic),
        "spearman": pytest.approx(stats.spearmanr(targets, scores).statistic),
        "mae": pytest.approx(reference.mean_absolute_error(targets, scores)),
        "rmse": pytest.approx(reference.root_mean_squared_error(targets, scores)),
    }


def test_by_hand() -> None:
    found = regression_metrics([1, 2, 3, 4], [2, 2, 5, 4], options=FEW)
    assert found["mae"].value == pytest.approx((1 + 0 + 2 + 0) / 4)
    assert found["rmse"].value == pytest.approx(math.sqrt((1 + 4) / 4))
    # Ranks 1.5, 1.5, 4, 3 against 1, 2, 3, 4: sums of products 4, of squares 5 and 4.5.
    assert found["spearman"].value == pytest.approx(3.5 / math.sqrt(5 * 4.5))


def test_each_resample_is_what_scipy_says_of_those_rows() -> None:
    targets, scores = data(12, decimals=0)
    options = Bootstrap(resamples=40)
    # The same draws as inside, as rows and not as weights.
    drawn = np.random.Generator(np.random.PCG64([0, 1])).integers(0, 12, size=(40, 12))
    ranked = rank_resamples(targets, scores, options)
    for rows, got in zip(drawn, ranked, strict=True):
        if len(set(targets[rows])) > 1 and len(set(scores[rows])) > 1:
            assert got == pytest.approx(stats.spearmanr(targets[rows], scores[rows]).statistic)
            totals = correlation_sums(targets, scores)[rows].sum(axis=0)
            expected = stats.pearsonr(targets[rows], scores[rows]).statistic
            assert pearson_of(totals[None])[0, 0] == pytest.approx(expected)
        else:
            assert math.isnan(got)


def test_a_resample_of_one_row_has_no_correlation() -> None:
    """Whatever rounding leaves of the spread."""
    targets, scores = data(40)
    sums = correlation_sums(targets, scores)
    for times in (2, 3, 7, 40):
        assert np.isnan(pearson_of(times * sums)).all()
        assert np.isnan(pearson_of(np.stack([sums] * times).sum(axis=0))).all()


@pytest.mark.parametrize(("share", "decimals"), [(0.0, 8), (0.6, 8), (0.95, 8), (0.8, 0)])
def test_rank_correlation_spreads_as_both_estimates_say(share: float, decimals: int) -> None:
    samples = [data(300, seed, share, decimals) for seed in range(400)]
    spread = np.std([stats.spearmanr(*pair).statistic for pair in samples])
    delta = np.mean([math.sqrt(float(np.sum(influence(*pair) ** 2))) for pair in samples])
    drawn = np.mean([rank_resamples(*pair, Bootstrap(200)).std() for pair in samples[:30]])
    assert delta == pytest.approx(spread, rel=0.15)
    assert drawn == pytest.approx(spread, rel=0.15)


def test_the_two_ways_to_a_rank_correlations_interval_agree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    columns = data(3000)
    options = Bootstrap(resamples=3000)
    drawn = regression_metrics(*columns, options=options)["spearman"]
    monkeypatch.setattr("wasinn_host.evaluate.metrics.spearman.MOST_RESAMPLED", 2999)
    delta = regression_metrics(*columns, options=options)["spearman"]
    assert drawn.value == delta.value
    assert drawn != delta
    assert drawn.standard_error is not None
    for name in ("standard_error", "low", "high"):
        apart = abs(getattr(drawn, name) - getattr(delta, name))
        assert apart < 0.15 * drawn.standard_error, name


def test_intervals_cover_the_truth() -> None:
    """0.95 of intervals should; the bounds are four standard errors of the share away."""
    truth = regression_metrics(*data(1_000_000, seed=999))
    covered = dict.fromkeys(truth, 0)
    for seed in range(200):
        found = regression_metrics(*data(200, seed), options=Bootstrap(200))
        for name, metric in found.items():
            true = truth[name].value
            assert true is not None
            assert metric.low is not None
            assert metric.high is not None
            covered[name] += metric.low <= true <= metric.high
    for name, times in covered.items():
        assert 0.89 <= times / 200 <= 1, name


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=1, max_size=30),
    data_=st.data(),
)
def test_the_order_of_rows_changes_no_value(
    pairs: list[tuple[int, int]], data_: st.DataObject
) -> None:
    other = data_.draw(st.permutations(pairs))
    one = regression_metrics(*zip(*pairs, strict=True), options=FEW)
    two = regression_metrics(*zip(*other, strict=True), options=FEW)
    for name, metric in one.items():
        assert two[name].value == pytest.approx(metric.value), name
        constant = any(len(set(column)) == 1 for column in zip(*pairs, strict=True))
        assert (metric.value is None) == (name in CORRELATIONS and constant)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=30).filter(
        lambda values: len(set(values)) > 1
    )
)
def test_perfect_predictions(values: list[float]) -> None:
    found = regression_metrics(values, values, options=FEW)
    for name, metric in found.items():
        if metric.value is None:  # floats next to each other, far from 0
            assert metric.note is not None
            assert metric.note.endswith("but for rounding")
        else:
            assert metric.value == pytest.approx(1 if name in CORRELATIONS else 0), name


@pytest.mark.parametrize(
    ("targets", "scores", "note"),
    [
        ([2, 2, 2], [1, 2, 3], "not defined: all targets are 2"),
        ([1, 2, 3], [0.1, 0.1, 0.1], "not defined: all scores are 0.1"),
        ([1], [1], "not defined: a correlation needs at least 2 rows"),
    ],
)
def test_no_correlation(targets: list[float], scores: list[float], note: str) -> None:
    found = regression_metrics(targets, scores, options=FEW)
    for name in CORRELATIONS:
        assert found[name] == Metric(None, note=note)
    assert found["mae"].value == pytest.approx(np.mean(np.abs(np.subtract(targets, scores))))


def test_a_column_that_is_constant_but_for_rounding() -> None:
    found = regression_metrics([1e20, 1e20 + 1e5, 1e20], [1, 2, 3], options=FEW)
    assert found["pearson"].value is None
    assert found["pearson"].note == "not defined: all targets are 1e+20 but for rounding"
    assert found["spearman"].value == pytest.approx(0)


def test_where_most_resamples_have_no_correlation() -> None:
    found = regression_metrics([1, 1, 1, 1, 5], [1, 2, 3, 4, 5], options=Bootstrap(500))
    for name in CORRELATIONS:
        assert found[name].low is not None
    found = regression_metrics([1, 2], [3, 4], options=Bootstrap())
    for name in CORRELATIONS:
        assert found[name].value == pytest.approx(1)
        assert found[name].low is None
        assert found[name].note == "no interval: not defined in 502 of 1000 resamples"


def test_one_outlier_does_not_cost_the_digits() -> None:
    targets, scores = data(200)
    targets[0] = 1e9
    found = regression_metrics(targets, scores)["pearson"]
    assert found.value == pytest.approx(stats.pearsonr(targets, scores).statistic)
    assert found.standard_error is not None


@pytest.mark.parametrize(
    ("targets", "scores", "message"),
    [
        ([], [], "targets: expected at least 1 row, got none"),
        ([1, 2], [1, math.nan], "scores: row 1: expected a finite number, got nan: count this"),
        ([1, math.inf], [1, 2], "targets: row 1: expected a finite number, got inf"),
        ([1, 1e200], [1, 2], r"targets: row 1: expected a number within 1e150 of 0, got 1e\+200"),
        ([1, 2], [1], "expected as many rows in each, got targets 2, scores 1"),
        (["a"], [1], r"targets: expected numbers \[rows\], got <U1 \[1\]"),
        ([[1]], [1], r"targets: expected numbers \[rows\], got int64 \[1, 1\]"),
    ],
)
def test_what_is_refused(targets: Any, scores: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        regression_metrics(targets, scores)


@pytest.mark.parametrize("scale", [1e-140, 1.0, 1e140])
def test_numbers_of_any_size(scale: float) -> None:
    targets, scores = (column * scale for column in data(50))
    found, plain = regression_metrics(targets, scores), regression_metrics(*data(50))
    for name in CORRELATIONS:
        assert found[name].value == pytest.approx(plain[name].value)
        assert found[name].low == pytest.approx(plain[name].low)
    rmse = plain["rmse"].value
    assert rmse is not None
    assert found["rmse"].value == pytest.approx(rmse * scale)
