"""Metrics of retrieval: whether the documents nearest to a query are those that answer it.

Sources: recall and reciprocal rank as in P. Bajaj et al., MS MARCO (2016), which stops looking at a
rank too; nDCG of K. Järvelin and J. Kekäläinen, Cumulated gain-based evaluation of IR techniques
(2002), with the logarithm of rank + 1 as trec_eval has it, and a document relevant or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from wasinn_host.evaluate.metrics.checks import matrix, same_length
from wasinn_host.evaluate.metrics.means import mean_metrics
from wasinn_host.evaluate.metrics.nearest import nearest
from wasinn_host.evaluate.metrics.result import Bools, Bootstrap, Floats, Integers, Metric
from wasinn_runtime.errors import UsageError

__all__ = ["Retrieval", "retrieval_metrics"]

_DEPTHS: Final = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Metrics of retrieval.

    Attributes:
        metrics: for each depth k ``recall@k`` and ``ndcg@k``, and ``mrr@k`` for the largest. Means
            over queries that have relevant documents.
        queries: how many queries there are.
        without_relevant: how many of them have no relevant documents and are left out; the notes
            of the metrics say so too.
        ranking: int64 [queries, largest depth], numbers of documents, the nearest first.
        scores: float64 [queries] for each metric, NaN for a query that was left out.
    """

    metrics: dict[str, Metric]
    queries: int
    without_relevant: int
    ranking: Integers
    scores: dict[str, Floats]


def retrieval_metrics(
    queries: ArrayLike,
    documents: ArrayLike,
    relevant: Sequence[Sequence[int]],
    *,
    absent: ArrayLike | None = None,
    depths: Sequence[int] = _DEPTHS,
    options: Bootstrap | None = None,
) -> Retrieval:
    """Ranks all documents for each query by the cosine of their vectors.

    Time grows with queries times documents; memory does not, cosines are made some at a time. The
    bootstrap draws queries; the documents stay.

    Args:
        queries: float32 or float64 [queries, dimensions].
        documents: likewise, [documents, dimensions].
        relevant: for each query the numbers of the documents that answer it, 0 the first.
        absent: int [queries], how many more documents answer each, that are not there and so can
            not be found; none by default.
        depths: how many documents recall and nDCG look at, each 1 or more.
        options: how intervals are computed.

    Raises:
        UsageError: no queries or documents, shapes that do not fit, a vector that is not finite or
            all zeros, or a number that no document has; the message names the row.
    """
    asked = matrix(queries, "queries", "dimensions")
    found_in = matrix(documents, "documents", "dimensions")
    if asked.shape[1] != found_in.shape[1]:
        raise UsageError(
            f"queries and documents: expected vectors of the same model, got {asked.shape[1]} "
            f"and {found_in.shape[1]} dimensions"
        )
    if asked.shape[1] == 0:
        raise UsageError("queries: expected 1 dimension or more, got 0")
    steps = _checked_depths(depths)
    counts, pairs = _pairs(relevant, len(asked), len(found_in))
    lost = np.zeros(len(asked), np.int64) if absent is None else np.asarray(absent, np.int64)
    same_length(queries=len(asked), absent=len(lost))
    counts = counts + lost
    ranking = nearest(asked, found_in, steps[-1])
    hits = np.isin(np.arange(len(asked))[:, None] * len(found_in) + ranking, pairs)
    scores = _scores(hits, counts, steps)
    kept = counts > 0
    without = int(len(asked) - kept.sum())
    notes = []
    if without:
        notes.append(
            f"{without} of {len(asked)} queries have no relevant documents and are left out"
        )
    if lost.any():
        notes.append(f"{lost.sum()} relevant documents are not there, and count as not found")
    note = "; ".join(notes) or None
    if kept.any():
        of_kept = {name: column[kept] for name, column in scores.items()}
        metrics = mean_metrics(of_kept, options or Bootstrap(), note=note)
    else:
        metrics = dict.fromkeys(scores, Metric(None, note=note))
    return Retrieval(metrics, len(asked), without, ranking, scores)


def _checked_depths(depths: Sequence[int]) -> list[int]:
    steps = sorted(set(depths))
    if not steps or steps[0] < 1:
        raise UsageError(f"depths: expected numbers of 1 or more, got {list(depths)}")
    return steps


def _pairs(relevant: Any, queries: int, documents: int) -> tuple[Integers, Integers]:
    """How many relevant documents each query has, and a number for each pair of the two."""
    same_length(queries=queries, relevant=len(relevant))
    lengths = np.fromiter(map(len, relevant), dtype=np.int64, count=queries)
    numbers = np.array(list(chain.from_iterable(relevant)))
    query = np.repeat(np.arange(queries), lengths)
    if len(numbers) == 0:
        return np.zeros(queries, dtype=np.int64), query
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise UsageError(f"relevant: expected numbers of documents, got {numbers.dtype}")
    wrong = (numbers < 0) | (numbers >= documents)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise UsageError(
            f"relevant: row {query[at]}: expected numbers of documents, 0 to {documents - 1}, got "
            f"{numbers[at]}"
        )
    pairs = np.unique(query * documents + numbers)
    return np.bincount(pairs // documents, minlength=queries), pairs


def _scores(hits: Bools, counts: Integers, depths: Sequence[int]) -> dict[str, Floats]:
    """The metrics of each query.

    Args:
        hits: bool [queries, ranks], whether the document at each rank is relevant.
        counts: int64 [queries], how many relevant documents there are.
    """
    ranks = np.arange(1, depths[-1] + 1)
    gains = 1 / np.log2(ranks + 1)
    has = counts > 0
    found = np.where(has, counts, 1)
    best = np.concatenate([[0.0], np.cumsum(gains)])
    scores = {}
    for depth in depths:
        here = hits[:, :depth]
        scores[f"recall@{depth}"] = here.sum(axis=1) / found
        ideal = best[np.minimum(found, depth)]
        scores[f"ndcg@{depth}"] = here @ gains[: here.shape[1]] / ideal
    first = np.argmax(hits, axis=1)
    scores[f"mrr@{depths[-1]}"] = np.where(hits.any(axis=1), 1 / (first + 1), 0.0)
    return {name: np.where(has, column, np.nan) for name, column in scores.items()}
