"""A million rows: seconds, and memory that hardly grows. Bounds are wide, for any machine."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from wasinn_host.evaluate import metrics
from wasinn_host.evaluate.metrics.compare import compare_classification, compare_regression

ROWS = 1_000_000
MIB = 1 << 20


def spent(work: Callable[[], object]) -> tuple[float, int]:
    """Seconds, and the most bytes at a time."""
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    tracemalloc.start()
    try:
        work()
        return seconds, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def classified(labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    actual = random.integers(0, labels, ROWS)
    logits = random.normal(size=(ROWS, labels)).astype(np.float32)
    logits[np.arange(ROWS), actual] += 1
    return actual, logits.argmax(axis=1), logits


@pytest.mark.slow
@pytest.mark.parametrize("labels", [2, 10])
def test_classification(labels: int) -> None:
    columns = classified(labels)
    seconds, most = spent(lambda: metrics.classification_metrics(*columns))
    assert seconds < 60
    assert most < 400 * MIB


@pytest.mark.slow
def test_regression() -> None:
    targets, noise = np.random.default_rng(0).normal(size=(2, ROWS))
    seconds, most = spent(lambda: metrics.regression_metrics(targets, targets + noise))
    assert seconds < 30
    assert most < 400 * MIB


@pytest.mark.slow
def test_tokens() -> None:
    """A fifth of the rows: the lists themselves are large."""
    words = np.array(["O", "O", "B-A", "I-A", "B-B"])
    random = np.random.default_rng(0)
    labels, predictions = words[random.integers(0, 5, (2, ROWS // 5, 20))].tolist()
    seconds, most = spent(lambda: metrics.token_metrics(labels, predictions))
    assert seconds < 40
    assert most < 400 * MIB


@pytest.mark.slow
def test_answers() -> None:
    f1 = np.random.default_rng(0).random(ROWS)
    seconds, most = spent(lambda: metrics.qa_metrics(f1 > 0.5, f1, f1 < 0.9))
    assert seconds < 30
    assert most < 400 * MIB


@pytest.mark.slow
def test_comparisons() -> None:
    actual, predicted, logits = classified(3)
    other = logits + np.random.default_rng(1).normal(size=logits.shape).astype(np.float32)
    runs = (predicted, logits), (other.argmax(axis=1), other)
    seconds, most = spent(lambda: compare_classification(actual, *runs))
    assert seconds < 60
    assert most < 500 * MIB
    scores = logits.T.astype(np.float64)
    seconds, most = spent(lambda: compare_regression(scores[0], scores[1], scores[2]))
    assert seconds < 60
    assert most < 500 * MIB
