"""A progress bar on standard error for the reports of ``progress.py``; one summary line at the end.

Where standard error is no terminal nothing is drawn, and only the summary line is written.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import (
    Progress as RichProgress,
)

from wasinn_models.progress import Progress

__all__ = ["progress_bar"]

# With more pieces of work than this the summary line says only how many there were.
MOST_NAMES = 3


@contextlib.contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Progress]:
    """Draws the work that is reported while the context is open.

    Args:
        console: where to draw; standard error by default.

    Yields:
        A callback to hand to whatever reports progress.
    """
    console = console or Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    began_s = time.monotonic()
    totals: dict[str, int] = {}
    bar = RichProgress(
        *columns,
        console=console,
        disable=not console.is_terminal,
        transient=True,
        refresh_per_second=5,
    )
    with bar:
        tasks: dict[str, TaskID] = {}

        def report(label: str, done: int, total: int | None) -> None:
            if label not in tasks:
                tasks[label] = bar.add_task(label, total=total)
            totals[label] = done
            bar.update(tasks[label], completed=done, total=total)

        yield report
    if totals:
        seconds = time.monotonic() - began_s
        names = ", ".join(totals) if len(totals) <= MOST_NAMES else f"{len(totals)} files"
        console.print(
            f"{names}: {decimal(sum(totals.values()))} in {seconds:.1f} s",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
