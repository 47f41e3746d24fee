"""How an evaluation goes: a bar on a terminal, a line now and then elsewhere; on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from wasinn_host.cli.talk import say

if TYPE_CHECKING:
    from wasinn_host.evaluate.evaluation import Evaluation
    from wasinn_host.evaluate.run import Progress

__all__ = ["shown"]

_LINE_EVERY_S = 10.0


@contextlib.contextmanager
def shown(evaluation: Evaluation, times: int = 1) -> Iterator[Callable[[Progress], None]]:
    """Shows what is reported while the context is open.

    Args:
        evaluation: whose rows are counted.
        times: how often each is evaluated.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    rows = _total(evaluation)
    total = None if rows is None else rows * times
    bar = Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[metric]}", markup=False),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=5,
    )
    began = time.monotonic()
    with bar:
        task = bar.add_task(evaluation.task, total=total, speed="", metric="starting")
        first: list[int] = []

        def report(progress: Progress) -> None:
            first[:] = first or [progress.rows]
            seconds = time.monotonic() - began
            failed = f", {progress.failed} failed" if progress.failed else ""
            bar.update(
                task,
                completed=progress.rows,
                speed=f"{(progress.rows - first[0]) / seconds:.0f} rows/s",
                metric=f"{_metric(progress)}{failed}",
            )

        yield report


def _lines() -> Callable[[Progress], None]:
    began = last = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _LINE_EVERY_S:
            return
        last = now
        say(
            f"{progress.rows} rows, {progress.failed} failed, {progress.rows / (now - began):.0f} "
            f"rows/s {_metric(progress)}"
        )

    return report


def _metric(progress: Progress) -> str:
    return f"{progress.metric} {progress.value:.4f}" if progress.metric else ""


def _total(evaluation: Evaluation) -> int | None:
    """How many rows there will be, where that is known without reading them."""
    if evaluation.sample is not None:
        return evaluation.sample
    if evaluation.split is not None or evaluation.data == "-" or evaluation.shard is not None:
        return evaluation.limit
    count: int | None = None
    # A directory, or a name, is looked at by those who read it.
    with contextlib.suppress(OSError), open(evaluation.data, "rb") as file:
        if not evaluation.data.endswith(".parquet"):
            count = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    if count is None or evaluation.limit is None:
        return count or evaluation.limit
    return min(count, evaluation.limit)
