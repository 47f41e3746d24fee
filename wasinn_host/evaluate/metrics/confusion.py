"""Metrics of which label was taken for which: accuracy, precision, recall, F1 and MCC.

All of them follow from three totals for each label: rows where label and prediction are it, rows
with that label, rows with that prediction.

Source: for MCC of more than two labels J. Gorodkin, Comparing two K-category assignments by a
K-category correlation coefficient (2004); for the rest see ``averages``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.metrics.averages import AVERAGES, PARTS, averaged, precision_recall_f1
from wasinn_host.evaluate.metrics.resampling import Cells, Statistic, measured
from wasinn_host.evaluate.metrics.result import Bootstrap, Floats, Integers, Metric

__all__ = ["confusion_matrix", "confusion_metrics", "features", "names", "statistic"]

_ONE_CLASS = "defined as 0: all labels or all predictions are the same"


def names(labels: int) -> tuple[str, ...]:
    """The metrics of so many labels; with two there are also those of the positive one."""
    of_averages = [f"{metric}_{how}" for how in AVERAGES for metric in PARTS]
    return ("accuracy", "mcc", *(PARTS if labels == 2 else ()), *of_averages)


def features(labels: Integers, predictions: Integers, count: int) -> Any:
    """What each row adds to the totals.

    Args:
        labels: int64 [rows].
        predictions: int64 [rows].
        count: how many labels there are.

    Returns:
        scipy's sparse float64 [rows, 3 * count]: right, labels, predictions.
    """
    sparse = need("scipy.sparse", "for metrics")
    rows = np.arange(len(labels))
    right = labels == predictions
    line = np.concatenate([rows[right], rows, rows])
    column = np.concatenate([labels[right], count + labels, 2 * count + predictions])
    return sparse.csr_array((np.ones(len(line)), (line, column)), shape=(len(labels), 3 * count))


def statistic(count: int, positive: int) -> Statistic:
    """The metrics in the order of ``names``, from totals [resamples, 3 * count]."""

    def metrics(totals: Floats) -> Floats:
        right, actual, predicted = np.split(totals, 3, axis=1)
        parts = precision_recall_f1(right, actual, predicted)
        columns = [right.sum(axis=1) / actual.sum(axis=1), _mcc(right, actual, predicted)]
        if count == 2:
            columns += [part[:, positive] for part in parts]
        columns += averaged(right, actual, predicted)
        return np.stack(columns, axis=1)

    return metrics


def _mcc(right: Floats, actual: Floats, predicted: Floats) -> Floats:
    rows = actual.sum(axis=1)
    # Shares, not numbers of rows: those are too large when squared twice.
    actual = actual / rows[:, None]
    predicted = predicted / rows[:, None]
    covariance = right.sum(axis=1) / rows - (actual * predicted).sum(axis=1)
    of_actual = 1 - (actual**2).sum(axis=1)
    of_predicted = 1 - (predicted**2).sum(axis=1)
    both = np.sqrt(np.clip(of_actual, 0, None) * np.clip(of_predicted, 0, None))
    # A label that all rows have leaves no more than what was rounded off.
    one_class = (actual.max(axis=1) == 1) | (predicted.max(axis=1) == 1)
    return np.where(one_class, 0.0, covariance / np.where(one_class, 1.0, both))


def confusion_matrix(labels: Integers, predictions: Integers, count: int) -> Integers:
    """How often each label (line) was predicted as each (column): int64 [count, count]."""
    cells = np.bincount(labels * count + predictions, minlength=count * count)
    return cells.reshape(count, count)


def confusion_metrics(
    labels: Integers, predictions: Integers, count: int, positive: int, options: Bootstrap
) -> dict[str, Metric]:
    """The metrics of ``names``. The bootstrap draws cells of the confusion matrix, a multinomial.

    Args:
        labels: int64 [rows], 0 to count - 1.
        predictions: int64 [rows], likewise.
        count: how many labels there are.
        positive: which of two labels is the positive one.
    """
    cells = Cells(labels * count + predictions, options)
    resampled = cells.replicates(
        lambda codes: features(codes // count, codes % count, count), statistic(count, positive)
    )
    values = _values(cells, count, positive)
    return {
        name: measured(
            values[name],
            resampled[:, column],
            options,
            rows=len(labels),
            note=_ONE_CLASS if name == "mcc" and _is_one_class(labels, predictions) else None,
        )
        for column, name in enumerate(names(count))
    }


def _is_one_class(labels: Integers, predictions: Integers) -> bool:
    return bool((labels == labels[0]).all() or (predictions == predictions[0]).all())


def _values(cells: Cells, count: int, positive: int) -> dict[str, float]:
    """scikit-learn's values. It takes a cell for a row with a weight: the same, and much faster."""
    metrics = need("sklearn.metrics", "for metrics")

    actual, predicted = cells.codes // count, cells.codes % count
    given: dict[str, Any] = {"sample_weight": cells.counts}

    def of(how: str, **options: Any) -> tuple[float, float, float]:
        three: Callable[..., Any] = metrics.precision_recall_fscore_support
        precision, recall, f1, _ = three(
            actual, predicted, average=how, zero_division=0, **options, **given
        )
        return float(precision), float(recall), float(f1)

    # scikit-learn's MCC would hold labels * labels numbers, and warn when there is one label.
    totals = cells.counts @ features(actual, predicted, count)
    values = {
        "accuracy": float(metrics.accuracy_score(actual, predicted, **given)),
        "mcc": float(_mcc(*np.split(totals[None], 3, axis=1))[0]),
    }
    for how in AVERAGES:
        for name, value in zip(PARTS, of(how), strict=True):
            values[f"{name}_{how}"] = value
    if count == 2:
        binary = of("binary", labels=[0, 1], pos_label=positive)
        values |= dict(zip(PARTS, binary, strict=True))
    return values
