"""Metrics of a regression, such as the similarity of two sentences: correlations and errors.

Sources: scipy.stats (``pearsonr``, ``spearmanr``); scikit-learn, User Guide, section 3.4.6.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.metrics.checks import numbers, same_length
from wasinn_host.evaluate.metrics.resampling import Rows, measured
from wasinn_host.evaluate.metrics.result import Bootstrap, Floats, Metric
from wasinn_host.evaluate.metrics.spearman import spearman

__all__ = [
    "checked",
    "correlation_sums",
    "error_sums",
    "errors_of",
    "pearson_of",
    "regression_metrics",
    "why_undefined",
]

# Below it a column's spread, relative to its mean, is what rounding left; scipy warns there.
_NO_SPREAD: Final = float(np.finfo(np.float64).eps ** 0.75)


def regression_metrics(
    targets: ArrayLike, scores: ArrayLike, *, options: Bootstrap | None = None
) -> dict[str, Metric]:
    """``pearson``, ``spearman``, ``mae`` and ``rmse``.

    A correlation is None where a column is constant; ``note`` says which. Intervals are the
    bootstrap's over rows, those of ``spearman`` as its module says.

    Args:
        targets: numbers [rows], what the data says.
        scores: numbers [rows], what the model says.
        options: how intervals are computed.

    Raises:
        UsageError: no rows, columns of different length, a number that is not finite or beyond
            1e150; the message names the first row.
    """
    options = options or Bootstrap()
    actual, scored = checked(targets, scores)
    rows = len(actual)
    units = Rows(rows, options)
    return {
        "pearson": _pearson(actual, scored, units, options),
        "spearman": _spearman(actual, scored, options),
        **_errors(actual, scored, units, options),
    }


def checked(targets: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """The two columns as float64 [rows].

    Raises:
        UsageError: as ``regression_metrics``.
    """
    actual, scored = numbers(targets, "targets"), numbers(scores, "scores")
    same_length(targets=len(actual), scores=len(scored))
    return actual, scored


def why_undefined(targets: Floats, scores: Floats, *, ranks: bool) -> str | None:
    """Why the columns have no correlation; None where they have.

    Args:
        ranks: of ranks, for which a spread that rounding may have left counts too.
    """
    if len(targets) < 2:
        return "not defined: a correlation needs at least 2 rows"
    for name, column in (("targets", targets), ("scores", scores)):
        if (column == column[0]).all():
            return f"not defined: all {name} are {column[0]:g}"
        mean = column.mean()
        if not ranks and np.linalg.norm(column - mean) < _NO_SPREAD * abs(mean):
            return f"not defined: all {name} are {column[0]:g} but for rounding"
    return None


def _pearson(actual: Floats, scored: Floats, units: Rows, options: Bootstrap) -> Metric:
    note = why_undefined(actual, scored, ranks=False)
    if note is not None:
        return Metric(None, note=note)
    stats = need("scipy.stats", "for metrics")

    resampled = units.replicates(correlation_sums(actual, scored), pearson_of)[:, 0]
    value = float(stats.pearsonr(actual, scored).statistic)
    return measured(value, resampled, options, rows=len(actual))


def correlation_sums(first: Floats, second: Floats) -> Floats:
    """What each row adds to a correlation's totals: float64 [rows, 6], for ``pearson_of``.

    Both columns are centred and scaled first, which changes no correlation and keeps the digits.
    """
    x, y = (_scaled(column) for column in (first, second))
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)


def _scaled(column: Floats) -> Floats:
    centred = column - column.mean()
    return np.asarray(centred / np.abs(centred).max())


def pearson_of(totals: Floats) -> Floats:
    """The correlation [resamples, 1] of totals [resamples, 6]; NaN where a column is constant."""
    n, x, y, xx, yy, xy = totals.T
    of_x, of_y = n * xx - x * x, n * yy - y * y
    # A constant column leaves what was rounded off.
    constant = (of_x <= 1e-12 * n * xx) | (of_y <= 1e-12 * n * yy)
    both = np.sqrt(np.where(constant, 1.0, of_x * of_y))
    found = np.where(constant, np.nan, (n * xy - x * y) / both)
    return np.clip(found, -1, 1)[:, None]


def _spearman(actual: Floats, scored: Floats, options: Bootstrap) -> Metric:
    note = why_undefined(actual, scored, ranks=True)
    return Metric(None, note=note) if note is not None else spearman(actual, scored, options)


def _errors(actual: Floats, scored: Floats, units: Rows, options: Bootstrap) -> dict[str, Metric]:
    metrics = need("sklearn.metrics", "for metrics")

    resampled = units.replicates(error_sums(actual, scored), errors_of)
    values = (
        metrics.mean_absolute_error(actual, scored),
        metrics.root_mean_squared_error(actual, scored),
    )
    return {
        name: measured(float(values[i]), resampled[:, i], options, rows=len(actual))
        for i, name in enumerate(("mae", "rmse"))
    }


def error_sums(actual: Floats, scored: Floats) -> Floats:
    """What each row adds to the errors' totals: float64 [rows, 3], for ``errors_of``."""
    off = scored - actual
    return np.stack([np.ones(len(off)), np.abs(off), off * off], axis=1)


def errors_of(totals: Floats) -> Floats:
    """MAE and RMSE [resamples, 2] of totals [resamples, 3]."""
    means = totals[:, 1:] / totals[:, :1]
    return np.stack([means[:, 0], np.sqrt(means[:, 1])], axis=1)
