"""All metrics of a classification: which label was predicted, and with what probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wasinn_host.evaluate.metrics.calibration import (
    Bin,
    calibration_bins,
    probabilities,
    probability_metrics,
)
from wasinn_host.evaluate.metrics.checks import indices, matrix, same_length
from wasinn_host.evaluate.metrics.confusion import confusion_matrix, confusion_metrics
from wasinn_host.evaluate.metrics.ranking import roc_auc
from wasinn_host.evaluate.metrics.result import Bootstrap, Metric
from wasinn_runtime.errors import UsageError

if TYPE_CHECKING:
    from wasinn_host.evaluate.metrics.result import Floats, Integers

__all__ = ["Classification", "checked", "classification_metrics"]

#: Labels up to which the confusion matrix is made; more would be no table that anybody reads.
_MOST_IN_MATRIX: Final = 1000


@dataclass(frozen=True, slots=True)
class Classification:
    """Metrics of a classification.

    Attributes:
        metrics: ``accuracy``, ``mcc``, ``precision_macro``, ``precision_micro``,
            ``precision_weighted``, ``recall_*``, ``f1_*``, with two labels ``precision``,
            ``recall`` and ``f1`` of the positive one; ``roc_auc``, ``log_loss``, ``brier`` and
            ``ece``, the expected calibration error.
        confusion: int64 [labels, labels], how often each label (line) was predicted as each
            (column); None with more than 1,000 labels.
        calibration: bins of confidence, ascending, the empty ones too.
        confidence: float64 [rows], the probability of what was predicted.
    """

    metrics: dict[str, Metric]
    confusion: Integers | None
    calibration: tuple[Bin, ...]
    confidence: Floats


def classification_metrics(
    labels: ArrayLike,
    predictions: ArrayLike,
    logits: ArrayLike,
    *,
    options: Bootstrap | None = None,
    positive: int = 1,
    bins: int = 15,
) -> Classification:
    """Metrics of a classification. See the modules of each for definitions and sources.

    Args:
        labels: int [rows], what the data says.
        predictions: int [rows], what the model says, mostly where its logits are highest.
        logits: float32 or float64 [rows, labels], before softmax.
        options: how intervals are computed.
        positive: which of two labels is the positive one; not used with more.
        bins: how many bins of confidence there are.

    Raises:
        UsageError: no rows, shapes that do not fit, a label or prediction that the logits do not
            have, a logit that is not finite; the message names the first row.
    """
    options = options or Bootstrap()
    actual, predicted, scores = checked(labels, predictions, logits, positive=positive)
    count = scores.shape[1]
    if bins < 1:
        raise UsageError(f"bins: expected 1 or more, got {bins}")
    found = probabilities(actual, predicted, scores)
    return Classification(
        {
            **confusion_metrics(actual, predicted, count, positive, options),
            "roc_auc": roc_auc(actual, scores, positive, options),
            **probability_metrics(found, bins, options),
        },
        confusion_matrix(actual, predicted, count) if count <= _MOST_IN_MATRIX else None,
        calibration_bins(found, bins),
        found.confidence,
    )


def checked(
    labels: ArrayLike, predictions: ArrayLike, logits: ArrayLike, *, positive: int
) -> tuple[Integers, Integers, NDArray[np.floating]]:
    """The three as arrays: int64 [rows], int64 [rows], floats [rows, labels].

    Raises:
        UsageError: as ``classification_metrics``.
    """
    if positive not in (0, 1):
        raise UsageError(f"positive: expected 0 or 1, got {positive}")
    scores = matrix(logits, "logits", "labels")
    count = scores.shape[1]
    if count < 2:
        raise UsageError(
            f"logits: expected 2 or more columns, got {count}: for a model with one sigmoid put a "
            "column of zeros before its logit"
        )
    of_model = f"the logits have {count} columns"
    actual = indices(
        labels, "labels", count, f"{of_model}; check the data's labels and their order"
    )
    predicted = indices(predictions, "predictions", count, of_model)
    same_length(labels=len(actual), predictions=len(predicted), logits=len(scores))
    return actual, predicted, scores
