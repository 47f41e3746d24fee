"""One evaluation from data to results: read, compute, keep, measure."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from wasinn_host.evaluate.data import DataError, find_data, open_data
from wasinn_host.evaluate.evaluation import Evaluation
from wasinn_host.evaluate.hashes import sha256_of
from wasinn_host.evaluate.host_side import HostSide, find_graph
from wasinn_host.evaluate.local import Worker, compute
from wasinn_host.evaluate.outcome import Finished, finished, schema_of
from wasinn_host.evaluate.plan import Batch, Window, batches, windows
from wasinn_host.evaluate.report import write_report
from wasinn_host.evaluate.results import summary
from wasinn_host.evaluate.saved import read_results
from wasinn_host.evaluate.store import RunDirectory
from wasinn_host.evaluate.tasks import make_task, read_rows
from wasinn_runtime.errors import UsageError, WasinnError

__all__ = ["Progress", "TooManyFailures", "evaluate", "evaluate_graphs"]


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
    with _Run(evaluation, progress) as run:
        if not run.is_finished:
            if evaluation.engine == "ray":
                run.compute_on_ray()
            else:
                _compute_here([run])
        return run.results()


def evaluate_graphs(
    evaluations: Sequence[Evaluation], progress: Callable[[Progress], None] | None = None
) -> list[dict[str, Any]]:
    """Evaluates several models, or guests, on the same rows, which are read once.

    They take turns, a window of rows each, so that none takes time from another.

    Args:
        evaluations: differ in graph, guest, output and the like only.
        progress: is told of all rows of all of them.

    Returns:
        what is in ``results.json`` of each.

    Raises:
        UsageError: they would not read the same rows; or as `evaluate`.
    """
    _need_same_rows(evaluations)
    told: dict[int, Progress] = {}

    def tell(which: int) -> Callable[[Progress], None]:
        def one(of_one: Progress) -> None:
            told[which] = of_one
            if progress is not None:
                rows = sum(each.rows for each in told.values())
                failed = sum(each.failed for each in told.values())
                progress(Progress(rows, failed, of_one.metric, of_one.value))

        return one

    with contextlib.ExitStack() as stack:
        runs = [
            stack.enter_context(_Run(evaluation, tell(which)))
            for which, evaluation in enumerate(evaluations)
        ]
        labels = {run.task.labels for run in runs}
        if len(labels) > 1:
            several = " and ".join(", ".join(names) or "none" for names in sorted(labels))
            raise UsageError(f"expected models with the same labels, got {several}")
        _compute_here([run for run in runs if not run.is_finished])
        return [run.results() for run in runs]


_OWN: Final = ("guest", "graph", "output", "assets", "args", "workers", "nn_options")
"""What evaluations on the same rows may differ in."""


def _need_same_rows(evaluations: Sequence[Evaluation]) -> None:
    for name in (field.name for field in dataclasses.fields(Evaluation)):
        values = [getattr(evaluation, name) for evaluation in evaluations]
        if name not in _OWN and any(value != values[0] for value in values):
            raise UsageError(f"expected evaluations with the same {name}, got {values}")
    outputs = [str(Path(evaluation.output)) for evaluation in evaluations]
    if len(set(outputs)) < len(outputs):
        raise UsageError(f"expected an output for each, got {', '.join(outputs)}")
    if any(evaluation.engine != "local" for evaluation in evaluations):
        raise UsageError("several graphs are evaluated on this machine only: --engine local")


def _compute_here(runs: Sequence[_Run]) -> None:
    """Has each run compute the same rows, which are read once."""
    if not runs:
        return
    stream = windows(read_rows(runs[0].data, runs[0].task), runs[0].evaluation.window_rows)
    first = next(stream, None)
    if first is None:
        raise DataError(f"{runs[0].data.source}: no rows")
    stream = itertools.chain((first,), stream)
    with contextlib.ExitStack() as stack:
        for run in runs:
            stack.enter_context(run.started(runs[0].task.given))
        if len(runs) == 1:
            runs[0].compute(stream)
            return
        for window in stream:
            for run in runs:
                run.compute((window,))


class _Run:
    """One evaluation and its directory. A context manager.

    Attributes:
        evaluation: what is evaluated.
        task: its task.
        data: its rows.
    """

    def __init__(self, evaluation: Evaluation, progress: Callable[[Progress], None] | None) -> None:
        self.evaluation = evaluation
        self._progress = progress
        self._graph = graph = find_graph(evaluation.graph)
        self.task = make_task(
            evaluation.task, evaluation.columns, evaluation.labels or graph.labels
        )
        self.data = open_data(
            find_data(evaluation.data),
            evaluation.format,
            split=evaluation.split,
            sample=evaluation.sample,
            seed=evaluation.seed,
            limit=evaluation.limit,
            shard=evaluation.shard,
        )
        self._described: dict[str, dict[str, Any]] = {
            "guest": {"path": evaluation.guest, "sha256": sha256_of(evaluation.guest)},
            "graph": graph.describe(),
            "data": {
                "source": evaluation.data,
                "sha256": self.data.sha256(),
                "split": evaluation.split,
                "columns": dict(evaluation.columns),
            },
        }
        hashes = {name: what["sha256"] for name, what in self._described.items()}
        if evaluation.resume and hashes["data"] is None:
            raise DataError(
                f"{evaluation.data}: may be another the next time: --resume needs a file, or a "
                "data set of the hub with its commit, hf:NAME@COMMIT"
            )
        settings = evaluation.fingerprint(hashes)
        self._store = RunDirectory(
            evaluation.output, settings, schema_of(self.task), evaluation.resume
        )
        self.is_finished = self._store.is_finished
        self._spent_s, self._since = self._store.elapsed_s, 0.0
        self._memory = self._memory_before = 0
        self._has_begun = False
        self._rows = self._failed = 0
        self._sum, self._count = 0.0, 0
        self._workers: list[Worker] = []
        self._stop = threading.Event()

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def results(self) -> dict[str, Any]:
        """Writes rows, results and report, if they are not there; what is in ``results.json``."""
        if self.is_finished:
            return read_results(self._store.path)
        self._store.write_rows()
        results = summary(self.evaluation, self.task, self._store, self._described)
        self._store.finish(results)
        write_report(self._store.path)
        return results

    @contextlib.contextmanager
    def started(self, given: Sequence[str]) -> Iterator[None]:
        """With model and guests ready for rows with these texts."""
        before = _resident_bytes()
        with HostSide(self.evaluation, self._graph, given) as side:
            self._memory = _resident_bytes() - before
            self._workers = [
                Worker(side.start, self.evaluation.row_timeout_s, self._stop)
                for _ in range(self.evaluation.workers)
            ]
            try:
                yield
                self._described["graph"].update(side.where(), memory_bytes=max(0, self._memory))
            finally:
                for worker in self._workers:
                    worker.close()

    def compute(self, stream: Iterable[Window]) -> None:
        """Computes of these windows what is not there yet."""
        self._since = time.monotonic()
        if not self._has_begun:
            self._memory_before = _resident_bytes()
        try:
            for batch in compute(self._todo(stream), self._workers, self._stop):
                self._keep(finished(self.task, batch))
        finally:
            self._spent_s += time.monotonic() - self._since
            self._store.flush()

    def compute_on_ray(self) -> None:
        """Has actors compute what is not there yet."""
        from wasinn_host.evaluate.cluster import compute_on_ray

        self._since = time.monotonic()
        self._rows = sum(record[1] for record in self._store.records)
        where = {"backend": "", "device": ""}  # if all is there already
        try:
            for done, where_it_was in compute_on_ray(
                self.evaluation, self.task, self.data, self._graph, self._store.all_done
            ):
                where = where_it_was
                self._keep(done)
        finally:
            self._store.flush()
        if not self._store.records:
            raise DataError(f"{self.data.source}: no rows")
        self._described["graph"].update(where)

    def _todo(self, stream: Iterable[Window]) -> Iterator[Batch]:
        for window in stream:
            done = self._store.done(window.number)
            for batch in batches(window, self.evaluation.batch_rows):
                if batch.place in done:
                    self._rows += len(batch.rows)
                else:
                    yield batch

    def _keep(self, done: Finished) -> None:
        rows = len(done.table)
        at_s = self._spent_s + time.monotonic() - self._since
        if not self._has_begun:
            self._has_begun = True
            self._memory += _resident_bytes() - self._memory_before
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
        most = self.evaluation.max_failures
        if most is not None and self._failed > most:
            raise TooManyFailures(
                f"{self._failed} rows failed, at most {most} may; the latest: {done.error}"
            )


def _resident_bytes() -> int:
    """What this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
