"""Retrieval: rankings against a whole matrix of cosines, values by hand and by scikit-learn."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import ndcg_score

from wasinn_host.evaluate.metrics import Bootstrap, Metric, retrieval_metrics
from wasinn_host.evaluate.metrics.nearest import nearest
from wasinn_runtime.errors import UsageError

FEW = Bootstrap(resamples=50)
Floats = NDArray[np.float64]


def cosines(queries: NDArray[Any], documents: NDArray[Any]) -> Floats:
    one, other = queries.astype(np.float64), documents.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1)[:, None] * np.linalg.norm(other, axis=1)
    return np.asarray(one @ other.T / lengths)


def ranked(queries: NDArray[Any], documents: NDArray[Any]) -> NDArray[np.int64]:
    """All documents, equal ones in their order."""
    return np.argsort(-np.round(cosines(queries, documents), 9), axis=1, kind="stable")


@pytest.fixture(params=[(512, 8192), (1, 1), (3, 7), (8, 2)], ids=str)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wasinn_host.evaluate.metrics.nearest._QUERIES", request.param[0])
    monkeypatch.setattr("wasinn_host.evaluate.metrics.nearest._DOCUMENTS", request.param[1])


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("depth", [1, 4, 40, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rankings_are_those_of_the_whole_matrix(depth: int, dtype: type[np.floating]) -> None:
    random = np.random.default_rng(0)
    queries = random.normal(size=(20, 16)).astype(dtype)
    documents = random.normal(size=(60, 16)).astype(dtype)
    found = nearest(queries, documents, depth)
    assert np.array_equal(found, ranked(queries, documents)[:, :depth])


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("depth", [1, 5, 30])
def test_equal_documents_are_in_their_order(depth: int) -> None:
    """Few different vectors, many times each, at lengths that leave other last digits."""
    random = np.random.default_rng(1)
    different = random.normal(size=(4, 24)).astype(np.float32)
    which = random.integers(0, 4, 50)
    documents = different[which] * random.uniform(0.1, 10, (50, 1))
    queries = random.normal(size=(9, 24)).astype(np.float32)
    found = nearest(queries, documents, depth)
    for query, got in zip(queries, found, strict=True):
        order = np.argsort(-cosines(query[None], different)[0])
        assert got.tolist() == [i for kind in order for i in np.flatnonzero(which == kind)][:depth]


def test_blocks_of_real_size_do_not_change_a_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix products of other shapes add up in another order."""
    random = np.random.default_rng(2)
    documents = random.normal(size=(9000, 100)).astype(np.float32)
    documents[::7] = documents[3]
    queries = random.normal(size=(600, 100)).astype(np.float32)
    queries[::5] = documents[3]
    expected = ranked(queries, documents)[:, :20]
    assert np.array_equal(nearest(queries, documents, 20), expected)
    monkeypatch.setattr("wasinn_host.evaluate.metrics.nearest._DOCUMENTS", 617)
    assert np.array_equal(nearest(queries, documents, 20), expected)


def test_documents_that_come_in_the_worst_order() -> None:
    """Each one is nearer than all before it."""
    angles = np.linspace(math.pi, 0, 20_000)
    documents = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = nearest(np.array([[1.0, 0.0]]), documents, 5)
    assert found.tolist() == [[19_999, 19_998, 19_997, 19_996, 19_995]]


def test_very_small_and_very_large_vectors() -> None:
    documents = np.array([[0, 1e-160], [1e149, 1e149], [1e-160, 0]])
    assert nearest(np.array([[1e-300, 0.0]]), documents, 3).tolist() == [[2, 1, 0]]


def test_values_by_hand() -> None:
    """Documents around a circle; the query looks along the first."""
    angles = np.radians([0, 10, 20, 30, 40])
    documents = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    queries = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    relevant = [[0], [1, 3], [4], []]
    found = retrieval_metrics(queries, documents, relevant, depths=(1, 3), options=FEW)
    assert found.ranking.tolist() == [[0, 1, 2]] * 4
    second = 1 / math.log2(3)
    assert {name: metric.value for name, metric in found.metrics.items()} == pytest.approx(
        {
            "recall@1": (1 + 0 + 0) / 3,
            "ndcg@1": (1 + 0 + 0) / 3,
            "recall@3": (1 + 0.5 + 0) / 3,
            "ndcg@3": (1 + second / (1 + second) + 0) / 3,
            "mrr@3": (1 + 0.5 + 0) / 3,
        }
    )
    assert (found.queries, found.without_relevant) == (4, 1)
    for metric in found.metrics.values():
        assert metric.note == "1 of 4 queries have no relevant documents and are left out"
    assert found.scores["mrr@3"].tolist() == pytest.approx([1, 0.5, 0, math.nan], nan_ok=True)


def test_ndcg_is_that_of_scikit_learn() -> None:
    depths = (1, 3, 10, 50)
    random = np.random.default_rng(3)
    queries, documents = random.normal(size=(15, 8)), random.normal(size=(30, 8))
    relevant = [random.choice(30, size=random.integers(1, 12), replace=False) for _ in range(15)]
    truth = np.zeros((15, 30))
    for query, numbers in enumerate(relevant):
        truth[query, numbers] = 1
    found = retrieval_metrics(
        queries, documents, [list(n) for n in relevant], depths=depths, options=FEW
    )
    for depth in depths:
        expected = ndcg_score(truth, cosines(queries, documents), k=depth)
        assert found.metrics[f"ndcg@{depth}"].value == pytest.approx(expected)


def test_metrics_from_the_whole_ranking() -> None:
    """Recall and reciprocal rank, query by query."""
    random = np.random.default_rng(4)
    queries, documents = random.normal(size=(40, 6)), random.normal(size=(80, 6))
    relevant = [list(random.choice(80, size=random.integers(1, 5))) for _ in range(40)]
    found = retrieval_metrics(queries, documents, relevant, depths=(10, 2), options=FEW)
    for query, order in enumerate(ranked(queries, documents)):
        right = set(relevant[query])
        for depth in (2, 10):
            share = len(right & set(order[:depth])) / len(right)
            assert found.scores[f"recall@{depth}"][query] == pytest.approx(share)
        first = min(list(order).index(number) for number in right) + 1
        assert found.scores["mrr@10"][query] == (1 / first if first <= 10 else 0)


def test_fewer_documents_than_depth() -> None:
    found = retrieval_metrics([[1.0, 0.0]], [[0.0, 1.0], [1.0, 0.1]], [[0]], options=FEW)
    assert found.ranking.tolist() == [[1, 0]]
    assert found.metrics["recall@1"].value == 0
    assert found.metrics["recall@10"].value == 1
    assert found.metrics["ndcg@10"].value == pytest.approx(1 / math.log2(3))
    assert found.metrics["mrr@10"].value == 0.5


def test_no_query_has_relevant_documents() -> None:
    found = retrieval_metrics([[1.0]], [[1.0]], [[]], options=FEW)
    note = "1 of 1 queries have no relevant documents and are left out"
    assert set(found.metrics.values()) == {Metric(None, note=note)}
    assert found.metrics["mrr@10"].to_json(0.95)["value"] is None


def test_memory_does_not_grow_with_queries_times_documents() -> None:
    random = np.random.default_rng(5)
    queries, documents = (random.normal(size=(rows, 4)) for rows in (6000, 20_000))
    tracemalloc.start()
    try:
        nearest(queries, documents, 10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < len(queries) * len(documents) * 8 / 3


def test_standard_error_is_that_of_the_queries() -> None:
    random = np.random.default_rng(6)
    documents = random.normal(size=(300, 12))
    queries = documents + 0.9 * random.normal(size=(300, 12))
    relevant = [[i] if i % 4 else [] for i in range(300)]
    found = retrieval_metrics(queries, documents, relevant, options=Bootstrap(4000))
    for name, metric in found.metrics.items():
        scores = found.scores[name][~np.isnan(found.scores[name])]
        assert len(scores) == 225
        assert metric.value == pytest.approx(scores.mean())
        assert metric.standard_error == pytest.approx(scores.std() / math.sqrt(225), rel=0.06)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 12), data_=st.data())
def test_the_order_of_queries_changes_no_value(seed: int, rows: int, data_: st.DataObject) -> None:
    random = np.random.default_rng(seed)
    queries, documents = random.normal(size=(rows, 3)), random.normal(size=(15, 3))
    relevant = [list(random.choice(15, size=random.integers(0, 4))) for _ in range(rows)]
    order = data_.draw(st.permutations(range(rows)))
    one = retrieval_metrics(queries, documents, relevant, options=FEW)
    other = retrieval_metrics(queries[order], documents, [relevant[i] for i in order], options=FEW)
    assert one.without_relevant == other.without_relevant
    for name, metric in one.metrics.items():
        assert other.metrics[name].value == pytest.approx(metric.value), name


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 30))
def test_perfect_rankings(seed: int, rows: int) -> None:
    documents = np.random.default_rng(seed).normal(size=(rows, 5))
    found = retrieval_metrics(documents * 3, documents, [[i] for i in range(rows)], options=FEW)
    assert [metric.value for metric in found.metrics.values()] == [1] * 7


@pytest.mark.parametrize(
    ("queries", "documents", "relevant", "message"),
    [
        (np.zeros((0, 2)), [[1.0, 0.0]], [], "queries: expected at least 1 row, got none"),
        ([[1.0]], np.zeros((0, 1)), [[]], "documents: expected at least 1 row, got none"),
        ([[1.0]], [[1.0, 2.0]], [[]], "vectors of the same model, got 1 and 2 dimensions"),
        (np.zeros((1, 0)), np.zeros((1, 0)), [[]], "queries: expected 1 dimension or more, got 0"),
        ([[1]], [[1.0]], [[]], r"queries: expected floats \[rows, dimensions\], got int64"),
        ([[1.0]], [[1.0], [math.nan]], [[]], "documents: row 1, column 0: expected a finite num"),
        ([[1.0]], [[1.0], [0.0]], [[]], "documents: row 1: expected a vector that has a directio"),
        ([[1.0], [0.0]], [[1.0]], [[], []], "queries: row 1: expected a vector that has a dire"),
        ([[1.0]], [[1.0]], [], "expected as many rows in each, got queries 1, relevant 0"),
        (
            [[1.0], [1.0]],
            [[1.0]],
            [[0], [0, 1]],
            "relevant: row 1: expected numbers of documents, 0 to 0, got 1",
        ),
        (
            [[1.0]],
            [[1.0]],
            [[-1]],
            "relevant: row 0: expected numbers of documents, 0 to 0, got -1",
        ),
        ([[1.0]], [[1.0]], [["d0"]], "relevant: expected numbers of documents, got <U2"),
    ],
)
def test_what_is_refused(queries: Any, documents: Any, relevant: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        retrieval_metrics(queries, documents, relevant)


@pytest.mark.parametrize("depths", [(), (0, 3)])
def test_depths_are_checked(depths: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="depths: expected numbers of 1 or more, got"):
        retrieval_metrics([[1.0]], [[1.0]], [[0]], depths=depths)
