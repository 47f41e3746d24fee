"""One evaluation from data to results: read, compute, keep, measure."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from wasinn_host.evaluate.data import Data, DataError, find_data, open_data
from wasinn_host.evaluate.evaluation import Evaluation
from wasinn_host.evaluate.hashes import sha256_of
from wasinn_host.evaluate.host_side import GraphFiles, HostSide, find_graph
from wasinn_host.evaluate.local import Worker, compute
from wasinn_host.evaluate.outcome import Finished, finished, schema_of
from wasinn_host.evaluate.plan import Batch, Window, batches, windows
from wasinn_host.evaluate.report import write_report
from wasinn_host.evaluate.results import summary
from wasinn_host.evaluate.store import RunDirectory
from wasinn_host.evaluate.tasks import Task, make_task, read_rows
from wasinn_runtime.errors import WasinnError

__all__ = ["Progress", "TooManyFailures", "evaluate"]


class TooManyFailures(WasinnError):
    """More rows failed than may; what was finished is kept."""


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        rows: that are finished, with those of runs before this one.
        failed: of them.
        metric: the running metric's name; empty where there is none.
        value: it is, so far in this run; nan before the first row.
    """

    rows: int
    failed: int
    metric: str
    value: float


def evaluate(
    evaluation: Evaluation, progress: Callable[[Progress], None] | None = None
) -> dict[str, Any]:
    """Evaluates, and leaves ``report.html``, ``results.json`` and ``rows.parquet``.

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
    graph = find_graph(evaluation.graph)
    task = make_task(evaluation.task, evaluation.columns, evaluation.labels or graph.labels)
    data = open_data(
        find_data(evaluation.data),
        evaluation.format,
        split=evaluation.split,
        sample=evaluation.sample,
        seed=evaluation.seed,
        limit=evaluation.limit,
        shard=evaluation.shard,
    )
    described: dict[str, dict[str, Any]] = {
        "guest": {"path": evaluation.guest, "sha256": sha256_of(evaluation.guest)},
        "graph": graph.describe(),
        "data": {
            "source": evaluation.data,
            "sha256": data.sha256(),
            "split": evaluation.split,
            "columns": dict(evaluation.columns),
        },
    }
    hashes = {name: what["sha256"] for name, what in described.items()}
    if evaluation.resume and hashes["data"] is None:
        raise DataError(
            f"{evaluation.data}: may be another the next time: --resume needs a file, or a data "
            "set of the hub with its commit, hf:NAME@COMMIT"
        )
    settings = evaluation.fingerprint(hashes)
    store = RunDirectory(evaluation.output, settings, schema_of(task), evaluation.resume)
    try:
        if store.is_finished:
            import json

            found: dict[str, Any] = json.loads((store.path / "results.json").read_bytes())
            return found
        run = _Run(evaluation, task, data, graph, store, progress)
        described["graph"].update(run.compute())
        store.write_rows()
        results = summary(evaluation, task, store, described)
        store.finish(results)
        write_report(store.path)
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
        self._began = 0.0
        self._rows = self._failed = 0
        self._sum, self._count = 0.0, 0

    def compute(self) -> dict[str, str]:
        """Computes what is not there yet; says where."""
        self._began = time.monotonic() - self._store.elapsed_s
        try:
            return self._on_ray() if self._evaluation.engine == "ray" else self._here()
        finally:
            self._store.flush()

    def _on_ray(self) -> dict[str, str]:
        from wasinn_host.evaluate.cluster import compute_on_ray

        self._rows = sum(record[1] for record in self._store.records)
        where = {"backend": "", "device": ""}  # if all is there already
        for done, where in compute_on_ray(  # noqa: B007  # the last one is told
            self._evaluation, self._task, self._data, self._graph, self._store.all_done
        ):
            self._keep(done)
        if not self._store.records:
            raise DataError(f"{self._data.source}: no rows")
        return where

    def _here(self) -> dict[str, str]:
        stream = windows(read_rows(self._data, self._task), self._evaluation.window_rows)
        first = next(stream, None)
        if first is None:
            raise DataError(f"{self._data.source}: no rows")
        todo = self._todo(itertools.chain((first,), stream))
        with HostSide(self._evaluation, self._graph, self._task.given) as side:
            stop = threading.Event()
            workers = [
                Worker(side.start, self._evaluation.row_timeout_s, stop)
                for _ in range(self._evaluation.workers)
            ]
            try:
                for batch in compute(todo, workers, stop):
                    self._keep(finished(self._task, batch))
            finally:
                for worker in workers:
                    worker.close()
            return side.where()

    def _todo(self, stream: Iterable[Window]) -> Iterator[Batch]:
        for window in stream:
            done = self._store.done(window.number)
            for batch in batches(window, self._evaluation.batch_rows):
                if batch.place in done:
                    self._rows += len(batch.rows)
                else:
                    yield batch

    def _keep(self, done: Finished) -> None:
        rows = len(done.table)
        at_s = time.monotonic() - self._began
        self._store.add(
            done.window, done.batches, done.table, (done.place, rows, done.seconds, at_s)
        )
        self._rows += rows
        self._failed += done.failed
        self._sum += done.total
        self._count += done.measured
        if self._progress is not None:
            mean = self._sum / self._count if self._count else float("nan")
            self._progress(Progress(self._rows, self._failed, done.metric, mean))
        most = self._evaluation.max_failures
        if most is not None and self._failed > most:
            raise TooManyFailures(
                f"{self._failed} rows failed, at most {most} may; the latest: {done.error}"
            )
