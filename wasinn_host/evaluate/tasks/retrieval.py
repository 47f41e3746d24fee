"""Retrieval: whether the documents nearest to a query are those that answer it.

Each row is a query or a document. The guest's numbers of a row are its vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.guests.answers import Answers
from wasinn_host.evaluate.metrics import retrieval as metrics
from wasinn_host.evaluate.metrics.compare import compare_means
from wasinn_host.evaluate.metrics.paired import Comparison
from wasinn_host.evaluate.metrics.result import Bootstrap
from wasinn_host.evaluate.plan import Row
from wasinn_host.evaluate.tasks.task import (
    Task,
    TaskError,
    column_of,
    matrix_of,
    metrics_json,
    numbers_of,
    worst_rows,
)

__all__ = ["Retrieval"]

_QUERY, _DOCUMENT = "query", "document"
_ROLES: Final = (_QUERY, _DOCUMENT)
_SHOWN: Final = 5
"""The nearest documents that are shown of a query."""


class Retrieval(Task):
    """See the module."""

    name = "retrieval"
    texts = ("text",)
    expected = ("role", "relevant")

    def __init__(self, columns: Mapping[str, str], labels: Sequence[str] = ()) -> None:
        super().__init__(columns, labels)
        self._width: int | None = None

    def schema(self) -> Sequence[tuple[str, Any]]:
        arrow = need("pyarrow", "to keep results")
        return (
            ("role", arrow.string()),
            ("relevant", arrow.list_(arrow.string())),
            ("vector", arrow.list_(arrow.float32())),
        )

    def outcome(self, rows: Sequence[Row], answers: Answers) -> tuple[Mapping[str, Any], list[str]]:
        vectors, errors = numbers_of(answers, self._width, "numbers")
        self._width = self._width or vectors.shape[1] or None
        for row in np.flatnonzero(~vectors.any(axis=1)).tolist():
            errors[row] = errors[row] or "the guest gave a vector of zeros, which has no direction"
        expected = column_of(rows)
        relevant = np.empty(len(rows), object)
        relevant[:] = [ids for _, ids in expected]
        roles = np.array([role for role, _ in expected], object)
        return {"role": roles, "relevant": relevant, "vector": vectors}, errors

    def measure(self, columns: Any, seed: int) -> dict[str, Any]:
        options = Bootstrap(seed=seed)
        queries, ids, found = _ranked(columns, options)
        off = 1 - np.nan_to_num(found.scores["ndcg@10"], nan=1.0)
        nearest = [[ids[at] for at in near] for near in found.ranking[:, :_SHOWN].tolist()]
        shown = queries.append_column("nearest", [nearest])
        return {
            "metrics": metrics_json(found.metrics, options),
            "queries": found.queries,
            "documents": len(ids),
            "worst": worst_rows(shown, off, "relevant", "nearest"),
        }

    def compare(self, first: Any, second: Any, seed: int) -> Mapping[str, Comparison]:
        options = Bootstrap(seed=seed)
        runs = [_ranked(run, options)[2].scores for run in (first, second)]
        return compare_means(*runs, options=options)

    def running(self, columns: Mapping[str, Any]) -> tuple[str, float, int]:
        return "", 0.0, 0

    def _expected(
        self, data: Mapping[str, Any], where: str, number: int
    ) -> tuple[str, tuple[str, ...]]:
        role = self._value(data, "role", where, number)
        if role not in _ROLES:
            raise TaskError(
                f"{where}, row {number}: column {self._source('role')!r}: expected "
                f"{' or '.join(_ROLES)}, got {role!r:.60}"
            )
        if role == _DOCUMENT:
            return role, ()
        value = self._value(data, "relevant", where, number)
        ids = value.split() if isinstance(value, str) else value
        if not isinstance(ids, list) or not all(type(id_) in (str, int) for id_ in ids):
            raise TaskError(
                f"{where}, row {number}: column {self._source('relevant')!r}: expected the ids of "
                f"the documents that answer it, got {value!r:.60}"
            )
        return role, tuple(map(str, ids))


def _ranked(columns: Any, options: Bootstrap) -> tuple[Any, list[str], metrics.Retrieval]:
    """The queries as a table, the documents' ids, and what was found."""
    compute = need("pyarrow.compute", "to measure")
    queries, documents = (columns.filter(compute.equal(columns["role"], r)) for r in _ROLES)
    if not len(queries) or not len(documents):
        raise TaskError(
            f"retrieval needs queries and documents; {len(queries)} and {len(documents)} were "
            "evaluated"
        )
    ids = documents["id"].to_pylist()
    place = {id_: at for at, id_ in enumerate(ids)}
    if len(place) < len(ids):
        twice = next(id_ for at, id_ in enumerate(ids) if place[id_] != at)
        raise TaskError(f"two documents have the id {twice!r:.60}: relevant ones have to be told")
    relevant, absent = [], []
    for wanted in queries["relevant"].to_pylist():
        known = [place[document] for document in wanted if document in place]
        relevant.append(known)
        absent.append(len(wanted) - len(known))
    found = metrics.retrieval_metrics(
        matrix_of(queries["vector"]),
        matrix_of(documents["vector"]),
        relevant,
        absent=absent,
        options=options,
    )
    return queries, ids, found
