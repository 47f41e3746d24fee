"""Evaluation on Ray: windows of rows stream through actors, each with host, guest and model.

One task reads the data and hands out a window after the other, no faster than they are computed.
Ray starts a lost actor anew and gives it the window again; nothing is kept before a window is
whole, so no row is lost or there twice. Batches are planned as they are in one process, and so the
results are the same.

Every machine of the cluster needs this package, and the guest, model and data under the same paths.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from wasinn_host.evaluate.data import Data, DataError
from wasinn_host.evaluate.data.source import STANDARD_INPUT
from wasinn_host.evaluate.evaluation import Evaluation
from wasinn_host.evaluate.guests.answers import GuestBroke
from wasinn_host.evaluate.host_side import GraphFiles, HostSide
from wasinn_host.evaluate.local import Worker
from wasinn_host.evaluate.outcome import Finished, finished
from wasinn_host.evaluate.plan import Window, batches, windows
from wasinn_host.evaluate.tasks import Task, read_rows
from wasinn_runtime.errors import UsageError, WasinnError

__all__ = ["compute_on_ray"]

_ONE_WINDOW_BYTES: Final = 1
"""Of a block at most, so that each window is a block, and any actor can take it."""


def compute_on_ray(
    evaluation: Evaluation,
    task: Task,
    data: Data,
    graph: GraphFiles,
    done: Mapping[int, frozenset[int]],
) -> Iterator[tuple[Finished, dict[str, str]]]:
    """Has actors compute what is not done yet; gives batches in whatever order they are done, and
    of each the backend and device of the actor.

    Args:
        evaluation: what.
        task: its task, as no row has been read with it.
        data: its rows.
        graph: its model.
        done: for each window, which batches are there already.

    Raises:
        UsageError: Ray is not installed; the data are standard input.
        WasinnError: as the actors' own, such as DataError, TaskError, GuestBroke.
    """
    if data.source == STANDARD_INPUT:
        raise DataError("standard input can not be read by the actors of Ray; give a file")
    ray = _ray()
    # Reading waits for actors most of the time: it must not keep one from its place.
    dataset = ray.data.read_datasource(_source(evaluation, task, data, dict(done)), num_cpus=0)
    dataset.context.target_max_block_size = _ONE_WINDOW_BYTES
    dataset.context.enable_progress_bars = False
    dataset = dataset.map_batches(
        _Actor,
        fn_constructor_args=(evaluation, task, graph),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=evaluation.workers),
        num_cpus=1,
    )
    try:
        for row in dataset.iter_rows():
            batches_of_window, where = pickle.loads(row["finished"])
            for done_now in batches_of_window:
                yield done_now, where
    except ray.exceptions.RayError as error:
        raise _ours(error) from error


def _ray() -> Any:
    # It would tell users of risks that are none here, from C++.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UsageError(
            f"Ray is needed for --engine ray ({error}); install it with: "
            "pip install 'wasinn-host[ray]'"
        ) from error
    if not ray.is_initialized():
        # RAY_ADDRESS, or a cluster of this machine; else one is started here.
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def _ours(error: BaseException) -> BaseException:
    """What an actor raised, out of what Ray made of it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, WasinnError | OSError):
            return seen
        seen = getattr(seen, "cause", None) or seen.__cause__
    return GuestBroke(f"Ray failed: {error}", is_hopeless=True)


def _source(evaluation: Evaluation, task: Task, data: Data, done: dict[int, frozenset[int]]) -> Any:
    """The data as Ray reads them: one stream of windows."""
    import pyarrow
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    def read() -> Iterable[Any]:
        for window in windows(read_rows(data, task), evaluation.window_rows):
            done_here = done.get(window.number, frozenset())
            if len(done_here) * evaluation.batch_rows >= len(window.rows):
                continue
            packed = pickle.dumps((window, done_here, task.given))
            yield pyarrow.table({"window": [packed]})

    class Windows(Datasource):
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[Any]:
            return [ReadTask(read, BlockMetadata(None, None, None, None))]

    return Windows()  # type: ignore[no-untyped-call]  # of an untyped library


class _Actor:
    """One host, with one guest after the other."""

    def __init__(self, evaluation: Evaluation, task: Task, graph: GraphFiles) -> None:
        self._evaluation = evaluation
        self._task = task
        self._graph = graph
        self._worker: Worker | None = None
        self._where: dict[str, str] = {}

    def __call__(self, table: Any) -> Any:
        import pyarrow

        found = []
        for packed in table["window"].to_pylist():
            computed = list(self._compute(*pickle.loads(packed)))
            found.append(pickle.dumps((computed, self._where)))
        return pyarrow.table({"finished": found})

    def _compute(
        self, window: Window, done: frozenset[int], given: tuple[str, ...]
    ) -> Iterator[Finished]:
        if self._worker is None:
            side = HostSide(self._evaluation, self._graph, given)
            stop = threading.Event()
            self._worker = Worker(side.start, self._evaluation.row_timeout_s, stop)
            self._where = side.where()
        for batch in batches(window, self._evaluation.batch_rows):
            if batch.place not in done:
                yield finished(self._task, self._worker.compute(batch))
