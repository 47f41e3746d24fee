"""What two runs on the same rows differ by, and whether that could be chance.

Rows are drawn for both runs together, so what makes a row hard for both does not count as chance.
The difference is always that of the second run less the first.

Sources: Q. McNemar, Note on the sampling error of the difference between correlated proportions
(1947), with the correction of A. Edwards (1948); B. Efron and R. Tibshirani, An Introduction to the
Bootstrap (1993), section 15.4, for significance from the resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.metrics.confusion import features
from wasinn_host.evaluate.metrics.resampling import Cells, Statistic
from wasinn_host.evaluate.metrics.result import Bools, Bootstrap, Floats, Integers

__all__ = ["BOOTSTRAP", "Comparison", "compared", "mcnemar", "normal_comparison", "paired_cells"]

BOOTSTRAP: Final = "paired bootstrap"
#: Rows that one run has right and the other wrong, below which chi-square is no good description.
_FEW: Final = 25


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far two runs on the same rows are apart in one metric.

    Attributes:
        first: the first run's value; None where it is not defined, and then all but ``note`` is.
        second: the second run's.
        difference: second less first.
        standard_error: of the difference.
        low: lower end of its confidence interval.
        high: upper end.
        p_value: how often chance alone gives a difference as large, of either sign.
        test: what gave the p-value.
        note: why something is None; None if there is nothing to say.
    """

    first: float | None
    second: float | None
    difference: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    p_value: float | None
    test: str | None
    note: str | None = None

    def to_json(self, confidence: float) -> dict[str, Any]:
        """One row of a report; ``note`` is in it only when there is one.

        Args:
            confidence: the level that the interval was computed with.
        """
        row = {name: getattr(self, name) for name in self.__slots__}
        row["confidence"] = confidence
        if self.note is None:
            del row["note"]
        return row


def _undefined(first: float, second: float, note: str | None) -> Comparison:
    one, other = (None if np.isnan(value) else value for value in (first, second))
    return Comparison(one, other, None, None, None, None, None, None, note)


def compared(
    first: float,
    second: float,
    resampled: Floats,
    options: Bootstrap,
    *,
    rows: int,
    p_value: float | None = None,
    test: str = BOOTSTRAP,
    note: str | None = None,
) -> Comparison:
    """A comparison from resampled differences, with the percentile interval.

    Without a ``p_value`` it is the share of resamples on the other side of 0, twice: the level at
    which the interval would end at 0. One is added to both counts, so it is never below
    2 / (resamples + 1).

    Args:
        first: the first run's value on all rows; NaN where it is not defined.
        second: the second run's.
        resampled: float64 [resamples], second less first, NaN where a resample has no value.
        rows: how many rows there are. One row says nothing of a spread.
        p_value: another test's.
        test: that test's name.
        note: why a value is not defined.
    """
    if np.isnan(first) or np.isnan(second):
        return _undefined(first, second, note)
    difference = second - first
    defined = resampled[np.isfinite(resampled)]
    if rows < 2 or 2 * len(defined) < len(resampled):
        note = "no interval: one row says nothing of the spread"
        if rows > 1:
            without = len(resampled) - len(defined)
            note = f"no interval: not defined in {without} of {len(resampled)} resamples"
        kept = None if p_value is None else test
        return Comparison(first, second, difference, None, None, None, p_value, kept, note)
    if p_value is None:
        beyond = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
        p_value = min(1.0, 2 * (beyond + 1) / (len(defined) + 1))
    tail = (1 - options.confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    error = float(defined.std(ddof=1))
    return Comparison(first, second, difference, error, float(low), float(high), p_value, test)


def normal_comparison(
    first: float,
    second: float,
    influence: Floats | None,
    options: Bootstrap,
    *,
    test: str,
    note: str | None = None,
) -> Comparison:
    """A comparison from each row's influence on the difference, by the normal distribution.

    Args:
        first: the first run's value; NaN where it is not defined.
        second: the second run's.
        influence: float64 [rows], the variance is the sum of squares; None if it is not known.
        test: its name.
        note: why something is None.
    """
    stats = need("scipy.stats", "for metrics")

    if np.isnan(first) or np.isnan(second):
        return _undefined(first, second, note)
    difference = second - first
    error = None if influence is None else float(np.sqrt(np.sum(influence**2)))
    if error is None or (error == 0 and difference != 0):
        note = note if error is None else "no p-value: neither value varies with its rows"
        return Comparison(first, second, difference, None, None, None, None, None, note)
    p_value = 2 * float(stats.norm.sf(abs(difference) / error)) if error else 1.0
    reach = float(stats.norm.ppf((1 + options.confidence) / 2)) * error
    low, high = difference - reach, difference + reach
    return Comparison(first, second, difference, error, low, high, p_value, test, note)


def mcnemar(first: Bools, second: Bools, options: Bootstrap) -> Comparison:
    """Whether two runs are right equally often, from the rows that only one has right.

    The p-value is exact, from the binomial distribution, where these are fewer than 25, and else
    from chi-square with one degree of freedom and the correction for continuity. The interval of
    the difference is the paired bootstrap's.

    Args:
        first: bool [rows], where the first run is right.
        second: bool [rows], where the second is.
    """
    stats = need("scipy.stats", "for metrics")

    rows = len(first)
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    differing = only_first + only_second
    if differing < _FEW:
        test = "McNemar, exact"
        p_value = float(stats.binomtest(only_first, differing).pvalue) if differing else 1.0
    else:
        test = "McNemar, chi-square with correction"
        # The correction moves towards no difference, not past it.
        apart = max(0, abs(only_first - only_second) - 1)
        p_value = float(stats.chi2.sf(apart**2 / differing, 1))
    resampled = Cells(second.astype(np.int64) - first, options).replicates(
        lambda codes: np.stack([np.ones(len(codes)), codes], axis=1),
        lambda totals: totals[:, 1:] / totals[:, :1],
    )[:, 0]
    return compared(
        float(first.sum() / rows),
        float(second.sum() / rows),
        resampled,
        options,
        rows=rows,
        p_value=p_value,
        test=test,
    )


def paired_cells(
    labels: Integers,
    predictions: tuple[Integers, Integers],
    count: int,
    of_one: Statistic,
    options: Bootstrap,
) -> Floats:
    """Resampled differences of metrics of a confusion matrix: float64 [resamples, metrics].

    Args:
        labels: int64 [rows], 0 to count - 1.
        predictions: int64 [rows] of each run, likewise.
        count: how many labels there are.
        of_one: one run's metrics, from totals [resamples, 3 * count].
    """
    sparse = need("scipy.sparse", "for metrics")

    def both(codes: Integers) -> Any:
        label, first, second = codes // count**2, codes // count % count, codes % count
        return sparse.hstack([features(label, one, count) for one in (first, second)], format="csr")

    def difference(totals: Floats) -> Floats:
        first, second = np.split(totals, 2, axis=1)
        return np.asarray(of_one(second) - of_one(first))

    codes = (labels * count + predictions[0]) * count + predictions[1]
    return Cells(codes, options).replicates(both, difference)
