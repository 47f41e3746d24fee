"""One evaluation from data to results: read, compute, keep, measure."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from wasinn_host.evaluate.data import Data, DataError, open_data
from wasinn_host.evaluate.evaluation import Evaluation
from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.guests.answers import FAILED, STATUS_WORDS
from wasinn_host.evaluate.host_side import GraphFiles, HostSide, find_graph
from wasinn_host.evaluate.local import Batch, Done, Worker, compute
from wasinn_host.evaluate.plan import Row, Window, batches, windows
from wasinn_host.evaluate.results import summary
from wasinn_host.evaluate.store import RunDirectory
from wasinn_host.evaluate.tasks import Task, make_task
from wasinn_runtime.errors import WasinnError

__all__ = ["Progress", "TooManyFailures", "evaluate"]

_EXCERPT: Final = 200


class TooManyFailures(WasinnError):
    """More rows failed than may; what was finished is kept."""


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        rows: that are finished, with those of runs before this one.
        failed: of them.
        metric: the running metric's name.
        value: it is, so far in this run; nan before the first row.
    """

    rows: int
    failed: int
    metric: str
    value: float


def evaluate(
    evaluation: Evaluation, progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Evaluates, and leaves ``results.json``, ``rows.parquet`` and ``report.html``.

    Args:
        evaluation: what.
        progress: is told after each batch, in the calling thread.

    Returns:
        what is in ``results.json``.

    Raises:
        UsageError: something given is wrong; the message says what.
        DataError: the data are.
        GuestBroke: the guest does not start.
        TooManyFailures: more rows failed than may.
        OSError: a file can not be read or written. Whatever ends it: what was finished is kept,
            and a run with ``resume`` goes on from there.
    """
    task = make_task(evaluation.task, evaluation.columns, evaluation.labels)
    data = open_data(
        evaluation.data,
        evaluation.format,
        split=evaluation.split,
        sample=evaluation.sample,
        seed=evaluation.seed,
        limit=evaluation.limit,
        shard=evaluation.shard,
    )
    graph = find_graph(evaluation.graph)
    described = {
        "guest": {"path": evaluation.guest, "sha256": _sha256(evaluation.guest)},
        "graph": graph.describe(),
        "data": {
            "source": evaluation.data,
            "sha256": data.sha256(),
            "split": evaluation.split,
            "columns": dict(evaluation.columns),
        },
        "seed": evaluation.seed,
    }
    hashes = {name: described[name]["sha256"] for name in ("guest", "graph", "data")}  # type: ignore[index]
    if evaluation.resume and hashes["data"] is None:
        raise DataError("standard input can not be read again: --resume needs a file")
    settings = evaluation.fingerprint(hashes)
    store = RunDirectory(evaluation.output, settings, _schema(task), evaluation.resume)
    try:
        if store.is_finished:
            import json

            found: dict[str, Any] = json.loads((store.path / "results.json").read_bytes())
            return found
        run = _Run(evaluation, task, data, graph, store, progress)
        described["graph"].update(run.compute())  # type: ignore[attr-defined]
        store.write_rows()
        results = summary(evaluation, task, store, described)
        store.finish(results)
        return results
    finally:
        store.close()


class _Run:
    """The computing part."""

    def __init__(
        self,
        evaluation: Evaluation,
        task: Task,
        data: Data,
        graph: GraphFiles,
        store: RunDirectory,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._evaluation = evaluation
        self._task = task
        self._data = data
        self._graph = graph
        self._store = store
        self._progress = progress
        self._rows = self._failed = 0
        self._sum, self._count, self._metric = 0.0, 0, ""

    def compute(self) -> dict[str, str]:
        """Computes what is not there yet; says where."""
        import time

        window_stream = windows(self._read(), self._evaluation.window_rows)
        first = next(window_stream, None)
        if first is None:
            raise DataError(f"{self._data.source}: no rows")
        began = time.monotonic() - self._store.elapsed_s
        columns = self._task.given
        with HostSide(self._evaluation, self._graph, columns) as side:
            where = side.where()
            stop = threading.Event()
            workers = [
                Worker(side.start, self._evaluation.row_timeout_s, stop)
                for _ in range(self._evaluation.workers)
            ]
            try:
                todo = self._todo(first, window_stream)
                for done in compute(todo, workers, stop):
                    self._keep(done, time.monotonic() - began)
            finally:
                for worker in workers:
                    worker.close()
                self._store.flush()
        return where

    def _read(self) -> Iterator[Row]:
        where = self._data.source
        for number, row in self._data:
            yield self._task.read(number, row, where)

    def _todo(self, first: Window, others: Iterable[Window]) -> Iterator[Batch]:
        for window in _chained(first, others):
            planned = batches(window, self._evaluation.batch_rows)
            done = self._store.done(window.number)
            for place, rows in enumerate(planned):
                if place in done:
                    self._rows += len(rows)
                else:
                    yield Batch(window.number, len(planned), place, rows)

    def _keep(self, done: Done, at_s: float) -> None:
        batch, answers = done.batch, done.answers
        outcome, errors = self._task.outcome(batch.rows, answers)
        table = _table(self._task, batch.rows, answers, outcome, errors)
        record = (batch.place, len(batch.rows), done.seconds, at_s)
        self._store.add(batch.window, batch.batches, table, record)
        failed = sum(map(bool, errors))
        self._rows += len(batch.rows)
        self._failed += failed
        if not failed:
            self._metric, more, count = self._task.running(outcome)
            self._sum += more
            self._count += count
        if self._progress is not None:
            mean = self._sum / self._count if self._count else float("nan")
            self._progress(Progress(self._rows, self._failed, self._metric, mean))
        most = self._evaluation.max_failures
        if most is not None and self._failed > most:
            first = next(error for error in errors if error)
            raise TooManyFailures(
                f"{self._failed} rows failed, at most {most} may; the latest: {first}"
            )


def _chained(first: Window, others: Iterable[Window]) -> Iterator[Window]:
    yield first
    yield from others


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _schema(task: Task) -> Any:
    arrow = need("pyarrow", "to keep results")
    return arrow.schema(
        [
            ("row", arrow.int64()),
            ("id", arrow.string()),
            ("status", arrow.string()),
            ("error", arrow.string()),
            ("tokens", arrow.int32()),
            ("excerpt", arrow.string()),
            *task.schema(),
        ]
    )


def _table(
    task: Task, rows: Sequence[Row], answers: Any, outcome: Mapping[str, Any], errors: Sequence[str]
) -> Any:
    arrow = need("pyarrow", "to keep results")
    status = np.where([bool(error) for error in errors], FAILED, answers.status)
    columns = {
        "row": [row.number for row in rows],
        "id": [row.id for row in rows],
        "status": [STATUS_WORDS[code] for code in status.tolist()],
        "error": [error or None for error in errors],
        "tokens": answers.tokens,
        "excerpt": [row.texts[0][:_EXCERPT] for row in rows],
    }
    for name, values in outcome.items():
        is_matrix = isinstance(values, np.ndarray) and values.ndim == 2
        columns[name] = _lists(arrow, values) if is_matrix else values
    return arrow.table(columns, schema=_schema(task))


def _lists(arrow: Any, values: Any) -> Any:
    """A matrix as a list of each row, without a Python object for each number."""
    rows, width = values.shape
    offsets = np.arange(0, rows * width + 1, max(width, 1), dtype=np.int32)[: rows + 1]
    if not width:
        offsets = np.zeros(rows + 1, np.int32)
    return arrow.ListArray.from_arrays(offsets, arrow.array(values.reshape(-1)))
