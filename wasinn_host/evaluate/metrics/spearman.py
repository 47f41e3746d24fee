"""Spearman's rank correlation and its spread. Ranks are of the resample, not of the data.

Up to ``MOST_RESAMPLED`` rows each resample is ranked anew: rows are sorted once, and a resample's
ranks are sums of its weights in that order. Resampling fixed ranks would be faster and wrong, since
ranks vary too. Above it the standard error is the delta method's, from each row's influence, and
the interval is normal on Fisher's z scale.

Sources: C. Croux and C. Dehon, Influence functions of the Spearman and Kendall correlation measures
(2010), equation 6, here with mid-ranks so that ties are right; R. Fisher, On the probable error of
a coefficient of correlation (1921).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.metrics.resampling import measured, weights_of
from wasinn_host.evaluate.metrics.result import Bootstrap, Floats, Integers, Metric

__all__ = ["MOST_RESAMPLED", "influence", "rank_resamples", "spearman"]

#: Rows up to which resamples are ranked: it takes about a second.
MOST_RESAMPLED: Final = 20_000


@dataclass(frozen=True, slots=True)
class _Sorted:
    """One column, sorted.

    Attributes:
        order: int64 [rows], rows from the lowest value to the highest.
        start: int64 [values], where each different value begins in that order.
        which: int64 [rows], the number of each row's value among the different ones.
    """

    order: Integers
    start: Integers
    which: Integers


def _sorted(column: Floats) -> _Sorted:
    order = np.argsort(column, kind="stable")
    ascending = column[order]
    begins = np.concatenate([[True], ascending[1:] != ascending[:-1]])
    which = np.empty(len(column), dtype=np.int64)
    which[order] = np.cumsum(begins) - 1
    return _Sorted(order, np.flatnonzero(begins), which)


def rank_resamples(first: Floats, second: Floats, options: Bootstrap) -> Floats:
    """The correlation on each resample: float64 [resamples], NaN where a column is constant.

    Calls with the same number of rows and options draw the same rows, so two can be compared.
    """
    rows = len(first)
    columns = _sorted(first), _sorted(second)
    found = []
    for weights in weights_of(rows, None, options):
        ranks, spreads = zip(*(_ranks(weights, column) for column in columns), strict=True)
        together = np.einsum("ij,ij,ij->i", weights, *ranks)
        both = np.sqrt(spreads[0] * spreads[1])
        found.append(np.divide(together, both, out=np.full(len(weights), np.nan), where=both > 0))
    return np.asarray(np.clip(np.concatenate(found), -1, 1))


def _ranks(weights: Floats, column: _Sorted) -> tuple[Floats, Floats]:
    """Each row's mid-rank less the mean rank [resamples, rows], and their sum of squares."""
    of_value = np.add.reduceat(weights[:, column.order], column.start, axis=1)
    # The mean of mid-ranks is always half the number of rows.
    ranks = np.cumsum(of_value, axis=1) - of_value / 2 - weights.shape[1] / 2
    spread = np.einsum("ij,ij,ij->i", of_value, ranks, ranks)
    return ranks[:, column.which], spread


def influence(first: Floats, second: Floats) -> Floats:
    """How much each row moves the correlation: the variance is the sum of squares.

    Args:
        first: float64 [rows], not constant.
        second: likewise.

    Returns:
        float64 [rows].
    """
    rows = len(first)
    columns = [_sorted(first), _sorted(second)]
    ranks = [_middle(column, np.ones(rows)) / rows for column in columns]
    means = [rank - 0.5 for rank in ranks]
    spreads = [float(np.mean(rank**2)) for rank in means]
    both = np.sqrt(spreads[0] * spreads[1])
    value = float(np.mean(means[0] * means[1])) / both
    # What a row adds by its own ranks, and by moving those of the rows above it.
    together = means[0] * means[1]
    for column, other in zip(columns, reversed(means), strict=True):
        together = together + _above(column, other) / rows
    moves = (together - together.mean()) / both
    for column, rank, spread in zip(columns, means, spreads, strict=True):
        square = rank**2 + 2 * _above(column, rank) / rows
        moves = moves - value / 2 * (square - square.mean()) / spread
    return np.asarray(moves / rows)


def _middle(column: _Sorted, values: Floats) -> Floats:
    """For each row the sum over rows below it, and half of those that are equal."""
    of_value = np.add.reduceat(values[column.order], column.start)
    middle: Floats = (np.cumsum(of_value) - of_value / 2)[column.which]
    return middle


def _above(column: _Sorted, values: Floats) -> Floats:
    """The same over rows above it."""
    return np.asarray(values.sum() - _middle(column, values))


def spearman(first: Floats, second: Floats, options: Bootstrap) -> Metric:
    """The rank correlation as a metric; not defined for fewer than two rows or a constant column.

    Args:
        first: float64 [rows], finite.
        second: likewise.
    """
    stats = need("scipy.stats", "for metrics")

    rows = len(first)
    value = float(stats.spearmanr(first, second).statistic)
    if rows <= MOST_RESAMPLED:
        return measured(value, rank_resamples(first, second, options), options, rows=rows)
    error = float(np.sqrt(np.sum(influence(first, second) ** 2)))
    low = high = value
    if abs(value) < 1:
        reach = stats.norm.ppf((1 + options.confidence) / 2) * error / (1 - value**2)
        low, high = (float(np.tanh(np.arctanh(value) + side * reach)) for side in (-1, 1))
    return Metric(value, error, low, high)
