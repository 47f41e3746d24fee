"""Two runs on the same rows: what each task's metrics differ by. Pure functions of their answers.

Rows have to be the same and in the same order in both runs. Each metric has its own p-value; with
many of them some are small by chance. ``metrics.paired`` says how they are computed. There is none
of the calibration error: resampling moves that of two runs by different amounts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.metrics.calibration import probabilities
from wasinn_host.evaluate.metrics.checks import numbers, same_length, some_rows
from wasinn_host.evaluate.metrics.classification import checked as classified
from wasinn_host.evaluate.metrics.confusion import features as confusion_features
from wasinn_host.evaluate.metrics.confusion import names as confusion_names
from wasinn_host.evaluate.metrics.confusion import statistic as confusion_statistic
from wasinn_host.evaluate.metrics.entities import Labelled, entity_counts
from wasinn_host.evaluate.metrics.means import mean_sums, means_of
from wasinn_host.evaluate.metrics.paired import (
    Comparison,
    compared,
    mcnemar,
    normal_comparison,
    paired_cells,
)
from wasinn_host.evaluate.metrics.ranking import Area, area
from wasinn_host.evaluate.metrics.regression import checked as regressed
from wasinn_host.evaluate.metrics.regression import (
    correlation_sums,
    error_sums,
    errors_of,
    pearson_of,
    why_undefined,
)
from wasinn_host.evaluate.metrics.resampling import Rows
from wasinn_host.evaluate.metrics.result import Bootstrap, Floats
from wasinn_host.evaluate.metrics.spearman import MOST_RESAMPLED, influence, rank_resamples
from wasinn_host.evaluate.metrics.tokens import features as token_features
from wasinn_host.evaluate.metrics.tokens import names as token_names
from wasinn_host.evaluate.metrics.tokens import statistic as token_statistic
from wasinn_runtime.errors import UsageError

__all__ = [
    "Comparisons",
    "compare_classification",
    "compare_means",
    "compare_qa",
    "compare_regression",
    "compare_tokens",
]

#: A comparison for each metric.
Comparisons: TypeAlias = dict[str, Comparison]


def compare_classification(
    labels: ArrayLike,
    first: tuple[ArrayLike, ArrayLike],
    second: tuple[ArrayLike, ArrayLike],
    *,
    options: Bootstrap | None = None,
    positive: int = 1,
) -> Comparisons:
    """Accuracy by McNemar's test, the area under the ROC curve by DeLong's, the rest by bootstrap.

    Args:
        labels: int [rows].
        first: the first run's predictions, int [rows], and logits, floats [rows, labels].
        second: the second run's.
        options: how intervals are computed.
        positive: which of two labels is the positive one.

    Raises:
        UsageError: as ``metrics.classification_metrics``; or the runs have not as many logits.
    """
    options = options or Bootstrap()
    actual, one, one_logits = classified(labels, *first, positive=positive)
    _, other, other_logits = classified(labels, *second, positive=positive)
    count = one_logits.shape[1]
    if other_logits.shape[1] != count:
        raise UsageError(
            f"logits: expected as many labels in both runs, got {count} and {other_logits.shape[1]}"
        )
    of_one = confusion_statistic(count, positive)
    values = [
        of_one((np.ones(len(actual)) @ confusion_features(actual, predicted, count))[None])[0]
        for predicted in (one, other)
    ]
    resampled = paired_cells(actual, (one, other), count, of_one, options)
    found = {
        name: compared(
            float(values[0][i]), float(values[1][i]), resampled[:, i], options, rows=len(actual)
        )
        for i, name in enumerate(confusion_names(count))
    }
    found["accuracy"] = mcnemar(one == actual, other == actual, options)
    found["roc_auc"] = _compare_areas(
        area(actual, one_logits, positive), area(actual, other_logits, positive), options
    )
    rows = [
        probabilities(actual, predicted, logits)
        for predicted, logits in ((one, one_logits), (other, other_logits))
    ]
    losses = [{"log_loss": row.loss, "brier": row.brier} for row in rows]
    return found | compare_means(losses[0], losses[1], options=options)


def _compare_areas(first: Area, second: Area, options: Bootstrap) -> Comparison:
    # Whether they are defined follows from the labels, which are the same.
    moves = None
    if first.influence is not None and second.influence is not None:
        moves = second.influence - first.influence
    one, other = (math.nan if run.value is None else run.value for run in (first, second))
    return normal_comparison(one, other, moves, options, test="DeLong", note=first.note)


def compare_means(
    first: Mapping[str, ArrayLike],
    second: Mapping[str, ArrayLike],
    *,
    options: Bootstrap | None = None,
) -> Comparisons:
    """The means of scores that each row has for itself, such as those of retrieval.

    Args:
        first: the first run's scores, numbers [rows] for each name, NaN where a row has none.
        second: the second run's, with the same names, and none for the same rows.
        options: how intervals are computed.

    Raises:
        UsageError: no rows, other names or lengths, an infinite score, or a row that has a score
            in one run only; the message names it.
    """
    options = options or Bootstrap()
    if set(first) != set(second) or not first:
        raise UsageError(
            f"expected scores of the same names in both runs, got {sorted(first)} and "
            f"{sorted(second)}"
        )
    names = list(first)
    columns = [[_scores(run[name], name) for name in names] for run in (first, second)]
    same_length(
        **{f"first {name}": len(columns[0][i]) for i, name in enumerate(names)},
        **{f"second {name}": len(columns[1][i]) for i, name in enumerate(names)},
    )
    one, other = (np.stack(run, axis=1) for run in columns)
    lonely = np.isnan(one) != np.isnan(other)
    if lonely.any():
        row, column = (int(at[0]) for at in np.nonzero(lonely))
        raise UsageError(
            f"{names[column]}: row {row}: expected a score in both runs or in neither, got "
            f"{one[row, column]} and {other[row, column]}"
        )
    values = [means_of(mean_sums(run).sum(axis=0)[None])[0] for run in (one, other)]
    units = Rows(len(one), options)
    resampled = units.replicates(mean_sums(other), means_of)
    resampled -= units.replicates(mean_sums(one), means_of)
    note = "not defined: no row has a score"
    return {
        name: compared(
            float(values[0][i]),
            float(values[1][i]),
            resampled[:, i],
            options,
            rows=int(np.isfinite(one[:, i]).sum()),
            note=note,
        )
        for i, name in enumerate(names)
    }


def _scores(values: ArrayLike, name: str) -> Floats:
    column = np.asarray(values, dtype=np.float64)
    some_rows(column.size, name)
    # The rows without a score are not looked at.
    numbers(np.where(np.isnan(column), 0.0, column), name)
    return column


def compare_regression(
    targets: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    options: Bootstrap | None = None,
) -> Comparisons:
    """Correlations and errors, by bootstrap; ``spearman`` of many rows by the delta method.

    Args:
        targets: numbers [rows].
        first: the first run's scores, numbers [rows].
        second: the second run's.
        options: how intervals are computed.

    Raises:
        UsageError: as ``metrics.regression_metrics``.
    """
    options = options or Bootstrap()
    actual, one = regressed(targets, first)
    _, other = regressed(targets, second)
    units = Rows(len(actual), options)
    runs = one, other
    sums = [error_sums(actual, run) for run in runs]
    values = [errors_of(run.sum(axis=0)[None])[0] for run in sums]
    apart = units.replicates(sums[1], errors_of) - units.replicates(sums[0], errors_of)
    found = {
        name: compared(
            float(values[0][i]), float(values[1][i]), apart[:, i], options, rows=len(actual)
        )
        for i, name in enumerate(("mae", "rmse"))
    }
    return {
        "pearson": _compare_pearson(actual, one, other, units, options),
        "spearman": _compare_spearman(actual, one, other, options),
        **found,
    }


def _compare_pearson(
    actual: Floats, one: Floats, other: Floats, units: Rows, options: Bootstrap
) -> Comparison:
    stats = need("scipy.stats", "for metrics")

    values, note = _correlations(actual, (one, other), stats.pearsonr, ranks=False)
    if note is not None:
        return compared(*values, np.zeros(0), options, rows=len(actual), note=note)
    resampled = [
        units.replicates(correlation_sums(actual, run), pearson_of)[:, 0] for run in (one, other)
    ]
    return compared(*values, resampled[1] - resampled[0], options, rows=len(actual))


def _compare_spearman(actual: Floats, one: Floats, other: Floats, options: Bootstrap) -> Comparison:
    stats = need("scipy.stats", "for metrics")

    values, note = _correlations(actual, (one, other), stats.spearmanr, ranks=True)
    if note is not None:
        return compared(*values, np.zeros(0), options, rows=len(actual), note=note)
    if len(actual) <= MOST_RESAMPLED:
        apart = rank_resamples(actual, other, options) - rank_resamples(actual, one, options)
        return compared(*values, apart, options, rows=len(actual))
    moves = influence(actual, other) - influence(actual, one)
    return normal_comparison(*values, moves, options, test="delta method")


def _correlations(
    actual: Floats, runs: tuple[Floats, Floats], correlation: Callable[..., Any], *, ranks: bool
) -> tuple[tuple[float, float], str | None]:
    """Both runs' values, NaN where not defined, and why that is."""
    notes = [why_undefined(actual, run, ranks=ranks) for run in runs]
    one, other = (
        float(correlation(actual, run).statistic) if note is None else math.nan
        for run, note in zip(runs, notes, strict=True)
    )
    return (one, other), notes[0] or notes[1]


def compare_tokens(
    labels: Labelled,
    first: Labelled,
    second: Labelled,
    *,
    options: Bootstrap | None = None,
) -> Comparisons:
    """The metrics of all entities and of tokens, by bootstrap over rows.

    Args:
        labels: a list of labels for each row.
        first: the first run's predictions.
        second: the second run's.
        options: how intervals are computed.

    Raises:
        UsageError: as ``metrics.token_metrics``.
    """
    options = options or Bootstrap()
    values, resampled = [], []
    for predictions in (first, second):
        counts = entity_counts(labels, predictions)
        of_all = token_statistic(len(counts.types))
        added = token_features(counts)
        values.append(of_all(np.asarray(added.sum(axis=0))[None])[0])
        resampled.append(Rows(len(labels), options).replicates(added, of_all))
    names = token_names()
    apart = resampled[1][:, : len(names)] - resampled[0][:, : len(names)]
    return {
        name: compared(
            float(values[0][i]),
            float(values[1][i]),
            apart[:, i],
            options,
            rows=len(labels),
            note="not defined: in one of the runs there is nothing to count",
        )
        for i, name in enumerate(names)
    }


def compare_qa(
    first: tuple[ArrayLike, ArrayLike],
    second: tuple[ArrayLike, ArrayLike],
    *,
    options: Bootstrap | None = None,
) -> Comparisons:
    """``exact`` by McNemar's test, ``f1`` by bootstrap.

    Args:
        first: the first run's exact matches, bool [rows], and F1, numbers [rows].
        second: the second run's.
        options: how intervals are computed.

    Raises:
        UsageError: no rows, lengths that differ, a score that is not finite.
    """
    options = options or Bootstrap()
    exact = [np.asarray(run[0], dtype=np.bool_) for run in (first, second)]
    f1 = [numbers(run[1], "f1") for run in (first, second)]
    same_length(
        **{"first exact": len(exact[0]), "second exact": len(exact[1])},
        **{"first f1": len(f1[0]), "second f1": len(f1[1])},
    )
    return {
        "exact": mcnemar(exact[0], exact[1], options),
        **compare_means({"f1": f1[0]}, {"f1": f1[1]}, options=options),
    }
