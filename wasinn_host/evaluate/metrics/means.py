"""Means of scores that each row has for itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from wasinn_host.evaluate.metrics.resampling import Rows, measured
from wasinn_host.evaluate.metrics.result import Bootstrap, Floats, Metric

__all__ = ["mean_metrics", "mean_sums", "means_of"]


def mean_metrics(
    columns: Mapping[str, Floats], options: Bootstrap, *, note: str | None = None
) -> dict[str, Metric]:
    """The mean of each column over the rows that have a score.

    The bootstrap draws from all rows, so how many have a score varies too.

    Args:
        columns: float64 [rows] each, NaN where a row has no score.
        note: what there is to say of the values.
    """
    scores = np.stack(list(columns.values()), axis=1)
    sums = mean_sums(scores)
    resampled = Rows(len(scores), options).replicates(sums, means_of)
    values = means_of(sums.sum(axis=0)[None])[0]
    counts = np.isfinite(scores).sum(axis=0)
    return {
        name: measured(
            None if counts[i] == 0 else float(values[i]),
            resampled[:, i],
            options,
            rows=int(counts[i]),
            note="not defined: no row has a score" if counts[i] == 0 else note,
        )
        for i, name in enumerate(columns)
    }


def mean_sums(scores: Floats) -> Floats:
    """What each row adds to the totals: [rows, 2 * columns], numbers of scores, then scores."""
    has = np.isfinite(scores)
    return np.concatenate([has.astype(np.float64), np.where(has, scores, 0.0)], axis=1)


def means_of(totals: Floats) -> Floats:
    """The means [resamples, columns]; NaN where no row has a score."""
    count, total = np.split(totals, 2, axis=1)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
