"""Area under the ROC curve, with DeLong's standard error; a bootstrap would sort each resample.

With more than two labels it is the mean over the labels that occur, each against the rest.

Sources: E. DeLong, D. DeLong and D. Clarke-Pearson, Comparing the areas under two or more
correlated receiver operating characteristic curves (1988); computed by sorting, as in X. Sun and
W. Xu, Fast implementation of DeLong's algorithm (2014). The variance of the mean over labels adds
up each row's shares in the areas of all labels, as DeLong's covariance does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.metrics.result import (
    Bools,
    Bootstrap,
    Floats,
    Integers,
    Metric,
)

__all__ = ["Area", "area", "roc_auc"]

# Elements of float64 that are at hand at a time: 32 MiB.
_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Area:
    """An area under the ROC curve.

    Attributes:
        value: None where no label has both rows that are it and rows that are not.
        influence: float64 [rows], how much each row moves the value: the variance is the sum of
            squares. None where a label has a single row, or all but one.
        note: why something is None, or which labels were left out.
    """

    value: float | None
    influence: Floats | None
    note: str | None


def area(labels: Integers, logits: NDArray[np.floating], positive: int) -> Area:
    """The area under the ROC curve, with what each row does to it.

    With two labels rows are ordered by the difference of the logits, with more by the logarithm of
    a label's probability: softmax rounds probabilities near 1 to the same number, these do not.
    Time grows with rows times labels: each label's rows are sorted, the others looked up in them.

    Args:
        labels: int64 [rows].
        logits: [rows, labels], finite.
        positive: which of two labels is the positive one.
    """
    count = logits.shape[1]
    occurring = np.unique(labels)
    if len(occurring) < 2:
        return Area(None, None, f"not defined: all rows have the label {occurring[0]}")
    note = None
    if count == 2:
        classes = [positive]
        scores = logits[:, positive].astype(np.float64) - logits[:, 1 - positive]
        normaliser = None
    else:
        classes = [int(label) for label in occurring]
        normaliser = _log_sum_exp(logits)
        if len(classes) < count:
            note = f"mean over the {len(classes)} of {count} labels that occur"
    value = 0.0
    influence: Floats | None = np.zeros(len(labels))
    for label in classes:
        if normaliser is not None:
            scores = logits[:, label].astype(np.float64) - normaliser
        one, moves = _one_area(labels == label, scores)
        value += one / len(classes)
        if moves is None:
            influence = None
            note = f"no interval: label {label} is in a single row, or in all but one"
        elif influence is not None:
            influence += moves / len(classes)
    return Area(value, influence, note)


def _log_sum_exp(logits: NDArray[np.floating]) -> Floats:
    sums = np.empty(len(logits))
    step = max(1, _CHUNK // logits.shape[1])
    for start in range(0, len(logits), step):
        part = logits[start : start + step].astype(np.float64)
        highest = part.max(axis=1)
        sums[start : start + step] = highest + np.log(np.exp(part - highest[:, None]).sum(axis=1))
    return sums


def _one_area(positive: Bools, scores: Floats) -> tuple[float, Floats | None]:
    """DeLong's structural components, as each row's influence on the area."""
    of_positives = scores[positive]
    order = np.argsort(of_positives)
    ascending = of_positives[order]
    m, n = len(ascending), len(scores) - len(ascending)
    # How many positive rows are below each negative one, without and with those that are equal.
    below = np.searchsorted(ascending, scores[~positive], side="left")
    up_to = np.searchsorted(ascending, scores[~positive], side="right")
    # Share of the other class that each row is on the right side of; equal ones count half.
    of_negatives = 1 - (below + up_to) / (2 * m)
    lower = np.bincount(below, minlength=m + 1) + np.bincount(up_to, minlength=m + 1)
    of_positives[order] = np.cumsum(lower)[:m] / (2 * n)
    value = float(of_positives.mean())
    if m < 2 or n < 2:
        return value, None
    influence = np.empty(len(positive))
    influence[positive] = (of_positives - value) / np.sqrt(m * (m - 1.0))
    influence[~positive] = (of_negatives - value) / np.sqrt(n * (n - 1.0))
    return value, influence


def roc_auc(
    labels: Integers, logits: NDArray[np.floating], positive: int, options: Bootstrap
) -> Metric:
    """The area as a metric. The interval is normal on the logit scale, so it stays in 0 to 1.

    An area of exactly 0 or 1 has a standard error of 0 and itself as interval.
    """
    special = need("scipy.special", "for metrics")
    stats = need("scipy.stats", "for metrics")

    found = area(labels, logits, positive)
    if found.value is None or found.influence is None:
        return Metric(found.value, note=found.note)
    value = found.value
    error = float(np.sqrt(np.sum(found.influence**2)))
    low = high = value
    if 0 < value < 1:
        reach = stats.norm.ppf((1 + options.confidence) / 2) * error / (value * (1 - value))
        low, high = (float(special.expit(special.logit(value) + side * reach)) for side in (-1, 1))
    return Metric(value, error, low, high, found.note)
