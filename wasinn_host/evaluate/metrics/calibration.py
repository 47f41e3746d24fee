"""Metrics of probabilities: log loss, Brier score, expected calibration error, and its bins.

Sources: scikit-learn, User Guide, section 3.4.4 (log loss, Brier score); C. Guo et al., On
calibration of modern neural networks (2017), equation 3, with bins of one width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.metrics.resampling import Rows, measured
from wasinn_host.evaluate.metrics.result import (
    Bools,
    Bootstrap,
    Floats,
    Integers,
    Metric,
)

__all__ = ["Bin", "Probabilities", "calibration_bins", "probabilities", "probability_metrics"]

# Elements of float64 that are at hand at a time: 32 MiB.
_CHUNK: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows whose confidence is above ``start``, up to and with ``end``.

    Attributes:
        start: lower end; the first bin also holds it.
        end: upper end.
        count: rows in it.
        confidence: their mean probability of what was predicted; None without rows.
        accuracy: share of them that was predicted right; None without rows.
    """

    start: float
    end: float
    count: int
    confidence: float | None
    accuracy: float | None

    def to_json(self) -> dict[str, Any]:
        """A row of ``calibration`` in ``results.json``."""
        return {
            "from": self.start,
            "to": self.end,
            "count": self.count,
            "confidence": self.confidence,
            "accuracy": self.accuracy,
        }


@dataclass(frozen=True, slots=True)
class Probabilities:
    """What the model's probabilities (softmax of its logits) say of each row.

    Attributes:
        loss: float64 [rows], minus the logarithm of the label's probability, in nats.
        brier: float64 [rows], squared differences between probabilities and the label: with two
            labels that of one (0 to 1), with more the sum over all (0 to 2).
        confidence: float64 [rows], the probability of what was predicted.
        right: bool [rows], whether that is the label.
    """

    loss: Floats
    brier: Floats
    confidence: Floats
    right: Bools


def probabilities(
    labels: Integers, predictions: Integers, logits: NDArray[np.floating]
) -> Probabilities:
    """Softmax in float64, some rows at a time.

    The loss comes from the logits, so a probability that float64 rounds to 0 has a finite loss.
    scikit-learn has probabilities only, and takes a smallest one instead.

    Args:
        labels: int64 [rows].
        predictions: int64 [rows].
        logits: [rows, labels], finite.
    """
    rows, count = logits.shape
    loss, brier, confidence = np.empty(rows), np.empty(rows), np.empty(rows)
    step = max(1, _CHUNK // count)
    for start in range(0, rows, step):
        here = slice(start, start + step)
        part = logits[here].astype(np.float64)
        part -= part.max(axis=1, keepdims=True)
        line = np.arange(len(part))
        of_label = part[line, labels[here]]
        np.exp(part, out=part)
        total = part.sum(axis=1)
        loss[here] = np.log(total) - of_label
        part /= total[:, None]
        confidence[here] = part[line, predictions[here]]
        part[line, labels[here]] -= 1
        brier[here] = np.einsum("ij,ij->i", part, part)
    if count == 2:
        brier /= 2
    return Probabilities(loss, brier, confidence, labels == predictions)


def calibration_bins(found: Probabilities, bins: int) -> tuple[Bin, ...]:
    """Confidence and accuracy in bins of one width, the empty ones too."""
    edges = np.linspace(0, 1, bins + 1)
    which = _bin_of(found.confidence, bins)
    counts = np.bincount(which, minlength=bins)
    confidence = np.bincount(which, weights=found.confidence, minlength=bins)
    right = np.bincount(which, weights=found.right, minlength=bins)
    return tuple(
        Bin(
            float(edges[i]),
            float(edges[i + 1]),
            int(counts[i]),
            float(confidence[i] / counts[i]) if counts[i] else None,
            float(right[i] / counts[i]) if counts[i] else None,
        )
        for i in range(bins)
    )


def _bin_of(confidence: Floats, bins: int) -> Integers:
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)


def probability_metrics(found: Probabilities, bins: int, options: Bootstrap) -> dict[str, Metric]:
    """``log_loss``, ``brier`` and ``ece``, with intervals from the bootstrap over rows.

    Resamples of a calibration error are larger than it: differences that cancel out in the data do
    so less in a resample. So the interval of ``ece`` shows its spread, laid around the value; for
    the same reason the value itself is too high where rows are few.
    """
    sparse = need("scipy.sparse", "for metrics")

    rows = len(found.loss)
    units = Rows(rows, options)
    sums = np.stack([np.ones(rows), found.loss, found.brier], axis=1)
    means = units.replicates(sums, lambda totals: totals[:, 1:] / totals[:, :1])

    gaps = found.right - found.confidence
    which = _bin_of(found.confidence, bins)
    # One column for each bin, and a last one that counts rows.
    line = np.arange(rows)
    by_bin = sparse.csr_array(
        (
            np.concatenate([gaps, np.ones(rows)]),
            (np.concatenate([line, line]), np.concatenate([which, np.full(rows, bins)])),
        ),
        shape=(rows, bins + 1),
    )

    def error(totals: Floats) -> Floats:
        wrong: Floats = np.abs(totals[:, :bins]).sum(axis=1, keepdims=True)
        return wrong / totals[:, bins:]

    resampled = units.replicates(by_bin, error)[:, 0]
    ece = float(np.abs(np.bincount(which, weights=gaps, minlength=bins)).sum() / rows)
    calibration = measured(ece, resampled, options, rows=rows, centred=True)
    if calibration.low is not None:
        calibration = replace(calibration, low=max(0.0, calibration.low))
    return {
        "log_loss": measured(float(found.loss.mean()), means[:, 0], options, rows=rows),
        "brier": measured(float(found.brier.mean()), means[:, 1], options, rows=rows),
        "ece": calibration,
    }
