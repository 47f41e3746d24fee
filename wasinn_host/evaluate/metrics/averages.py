"""Precision, recall and F1 of several labels or types, and their averages, on many resamples.

Where nothing was predicted, or nothing is there to find, precision or recall is 0. Averages are
over what occurs: scikit-learn's definition with ``zero_division=0``, and seqeval's.

Source: scikit-learn, User Guide, section 3.4.4.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from wasinn_host.evaluate.metrics.result import Floats

__all__ = ["AVERAGES", "PARTS", "averaged", "precision_recall_f1"]

PARTS: Final = ("precision", "recall", "f1")
AVERAGES: Final = ("macro", "micro", "weighted")


def precision_recall_f1(
    right: Floats, actual: Floats, predicted: Floats
) -> tuple[Floats, Floats, Floats]:
    """The three of each label.

    Args:
        right: float64 [resamples, labels], how often label and prediction are it.
        actual: likewise, how often the label is.
        predicted: likewise, how often the prediction is.
    """
    return (
        _divide(right, predicted),
        _divide(right, actual),
        _divide(2 * right, actual + predicted),
    )


def averaged(right: Floats, actual: Floats, predicted: Floats) -> list[Floats]:
    """``PARTS`` of each of ``AVERAGES``: nine float64 [resamples]; 0 where nothing occurs.

    Args:
        right: as for ``precision_recall_f1``, as are the others.
    """
    parts = precision_recall_f1(right, actual, predicted)
    occurring = (actual + predicted > 0).sum(axis=1)
    together = [column.sum(axis=1, keepdims=True) for column in (right, actual, predicted)]
    return [
        *(_divide(part.sum(axis=1), occurring) for part in parts),
        *(part[:, 0] for part in precision_recall_f1(*together)),
        *(_divide((part * actual).sum(axis=1), together[1][:, 0]) for part in parts),
    ]


def _divide(above: Floats, below: Floats) -> Floats:
    """0 where nothing is below."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
