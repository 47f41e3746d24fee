"""The documents nearest to each query, by the cosine of their vectors. Exact, some at a time.

Cosines are computed in float64 and compared to 9 decimals, and equal ones are ordered as the
documents are. Vectors of float32 tell no more than 7 decimals, and without it the order in which a
matrix product adds up would decide between equal vectors, and with it the size of the blocks.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from wasinn_host.evaluate.metrics.result import Floats, Integers
from wasinn_runtime.errors import UsageError

__all__ = ["nearest"]

# Queries and documents in one block: 32 MiB of cosines, and some copies of that.
_QUERIES: Final = 512
_DOCUMENTS: Final = 8192
_DECIMALS: Final = 9


def nearest(queries: NDArray[np.floating], documents: NDArray[np.floating], depth: int) -> Integers:
    """The documents nearest to each query, the nearest first.

    Args:
        queries: [queries, dimensions], finite.
        documents: [documents, dimensions], finite.
        depth: how many are wanted; all documents if there are fewer.

    Returns:
        int64 [queries, depth], numbers of documents.

    Raises:
        UsageError: a vector is all zeros.
    """
    depth = min(depth, len(documents))
    found = np.empty((len(queries), depth), dtype=np.int64)
    for first in range(0, len(queries), _QUERIES):
        of = _directions(queries[first : first + _QUERIES], "queries", first)
        best = np.empty((len(of), 0))
        which = np.empty((len(of), 0), dtype=np.int64)
        for start in range(0, len(documents), _DOCUMENTS):
            block = _directions(documents[start : start + _DOCUMENTS], "documents", start)
            cosines, numbers = _candidates(of @ block.T, best, depth)
            # What was kept comes first, so columns stay in the order of the documents.
            best, which = _highest(
                np.concatenate([best, cosines], axis=1),
                np.concatenate([which, start + numbers], axis=1),
                depth,
            )
        order = np.argsort(-best, axis=1, kind="stable")
        found[first : first + len(of)] = np.take_along_axis(which, order, axis=1)
    return found


def _directions(vectors: NDArray[np.floating], what: str, first: int) -> Floats:
    """The vectors as float64 of length 1."""
    largest = np.abs(vectors).max(axis=1).astype(np.float64)
    if not largest.all():
        row = first + int(np.argmin(largest != 0))
        raise UsageError(
            f"{what}: row {row}: expected a vector that has a direction, got all zeros: count "
            "this row as failed and leave it out"
        )
    scaled = vectors / largest[:, None]  # squares of very small numbers would be 0
    return np.asarray(scaled / np.linalg.norm(scaled, axis=1, keepdims=True))


def _candidates(cosines: Floats, best: Floats, depth: int) -> tuple[Floats, Integers]:
    """What of a block may be among the highest, in its order: rounded cosines and columns.

    Most of a block is below all that is kept already, so little is left to be ordered.
    """
    limit = best.min(axis=1) if best.shape[1] == depth else np.full(len(best), -2.0)
    # The limit is round itself, so what is not above it is not so once rounded; an equal one comes
    # too late.
    line, column = np.nonzero(cosines > limit[:, None])
    counts = np.bincount(line, minlength=len(best))
    place = np.arange(len(line)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = np.full((len(best), int(counts.max())), -np.inf)
    numbers = np.zeros(kept.shape, dtype=np.int64)
    kept[line, place] = np.round(cosines[line, column], _DECIMALS)
    numbers[line, place] = column
    return kept, numbers


def _highest(cosines: Floats, numbers: Integers, depth: int) -> tuple[Floats, Integers]:
    """The ``depth`` highest of each line, in their order; of equal ones the first."""
    columns = cosines.shape[1]
    if columns <= depth:
        return cosines, numbers
    limit = np.partition(cosines, columns - depth, axis=1)[:, columns - depth, None]
    above = cosines > limit
    equal = cosines == limit
    room = depth - above.sum(axis=1, keepdims=True)
    kept = above | (equal & (np.cumsum(equal, axis=1) <= room))
    return cosines[kept].reshape(-1, depth), numbers[kept].reshape(-1, depth)
