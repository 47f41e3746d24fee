"""Metrics of labelled tokens, such as named entities. ``entities`` says what an entity is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.metrics.averages import AVERAGES, PARTS, averaged, precision_recall_f1
from wasinn_host.evaluate.metrics.entities import EntityCounts, Labelled, entity_counts
from wasinn_host.evaluate.metrics.resampling import Rows, Statistic, measured
from wasinn_host.evaluate.metrics.result import Bootstrap, Floats, Metric

__all__ = ["Tokens", "features", "names", "statistic", "token_metrics"]

_NO_ENTITY = "not defined: neither labels nor predictions have an entity"
_NO_TOKEN = "not defined: the rows have no tokens"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Metrics of labelled tokens.

    Attributes:
        metrics: ``precision``, ``recall`` and ``f1`` over all entities (the micro average), these
            three with ``_macro`` and ``_weighted``, and ``token_accuracy``.
        types: ``precision``, ``recall`` and ``f1`` of each type of entity, sorted.
        support: how many entities of each type the labels have.
    """

    metrics: dict[str, Metric]
    types: dict[str, dict[str, Metric]]
    support: dict[str, int]


def token_metrics(
    labels: Labelled, predictions: Labelled, *, options: Bootstrap | None = None
) -> Tokens:
    """Metrics of labelled tokens, by seqeval's definition in its ``default`` mode.

    Precision without predictions, recall without entities and F1 without either are 0, as in
    seqeval; where no row has any entity, they are None. The bootstrap draws rows.

    Args:
        labels: a list of labels for each row: ``O``, or ``B-``, ``I-``, ``E-`` or ``S-`` and a
            type.
        predictions: likewise, as many in each row.
        options: how intervals are computed.

    Raises:
        UsageError: no rows, lengths that differ, or something that is no label; the message names
            the row.
    """
    options = options or Bootstrap()
    counts = entity_counts(labels, predictions)
    rows = len(counts.tokens)
    added = features(counts)
    of_all = statistic(len(counts.types))
    values = of_all(np.asarray(added.sum(axis=0))[None])[0]
    resampled = Rows(rows, options).replicates(added, of_all)

    def metric(column: int, absent: str) -> Metric:
        value = float(values[column])
        if np.isnan(value):
            return Metric(None, note=absent)
        return measured(value, resampled[:, column], options, rows=rows)

    general = names()
    found = {
        name: metric(column, _NO_TOKEN if name == "token_accuracy" else _NO_ENTITY)
        for column, name in enumerate(general)
    }
    types = {
        name: {
            part: metric(len(general) + i * len(counts.types) + j, _NO_ENTITY)
            for i, part in enumerate(PARTS)
        }
        for j, name in enumerate(counts.types)
    }
    support = np.asarray(counts.actual.sum(axis=0))
    return Tokens(found, types, {name: int(support[j]) for j, name in enumerate(counts.types)})


def names() -> tuple[str, ...]:
    """The metrics over all types, in the order of ``statistic``."""
    ends = ["" if how == "micro" else f"_{how}" for how in AVERAGES]
    return ("token_accuracy", *(f"{part}{end}" for end in ends for part in PARTS))


def features(counts: EntityCounts) -> Any:
    """What each row adds to the totals: sparse float64 [rows, 2 + 3 * types]."""
    sparse = need("scipy.sparse", "for metrics")

    of_tokens = sparse.csr_array(
        np.stack([counts.tokens, counts.tokens_right], axis=1, dtype=np.float64)
    )
    return sparse.hstack([of_tokens, counts.right, counts.actual, counts.predicted], format="csr")


def statistic(types: int) -> Statistic:
    """The metrics of ``names``, then each of ``PARTS`` for all types; NaN where nothing occurs."""

    def metrics(totals: Floats) -> Floats:
        count, right_tokens = totals[:, 0], totals[:, 1]
        split = (totals[:, 2 + i * types : 2 + (i + 1) * types] for i in range(3))
        right, actual, predicted = split
        accuracy = np.where(count > 0, right_tokens / np.maximum(count, 1), np.nan)
        occurs = actual + predicted > 0
        any_occurs = occurs.any(axis=1)
        of_all = [
            np.where(any_occurs, column, np.nan) for column in averaged(right, actual, predicted)
        ]
        of_types = [
            np.where(occurs, part, np.nan) for part in precision_recall_f1(right, actual, predicted)
        ]
        return np.concatenate([np.stack([accuracy, *of_all], axis=1), *of_types], axis=1)

    return metrics
