"""The table of what stays in memory after a model was loaded, asked and unloaded 10,000 times."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.processes import run_process, source_environment
from benchmarks.report import Bar, Json, Result, Table
from wasinn_host.nn import BackendRegistry

__all__ = ["nn_rounds_table"]

_LIMIT_MIB = 5.0


def nn_rounds_table(rounds: int = 10_000) -> Result:
    """Every installed backend, in a process each, with the first sample it brings.

    Raises:
        BenchmarkError: a process fails.
    """
    script = Path(__file__).parent / "scripts" / "nn_rounds.py"
    rows = []
    data: dict[str, Json] = {"rounds": rounds}
    worst = 0.0
    for report in BackendRegistry().installed():
        command = [sys.executable, str(script), report.location, str(rounds)]
        _, output = run_process(command, source_environment())
        taken = json.loads(output)
        more = (taken["after"] - taken["before"]) / (1 << 20)
        worst = max(worst, more)
        mib = [taken[when] / (1 << 20) for when in ("before", "after")]
        rows.append((report.name, *(f"{size:.1f} MiB" for size in mib), f"{more:.2f} MiB"))
        data[report.name] = taken
    return Result(
        name="nn-rounds",
        table=Table(
            title=f"Resident memory, before and after {rounds} rounds of load, compute and unload",
            headings=("backend", "before", "after", "more"),
            rows=tuple(rows),
        ),
        bars=(Bar("the backend that grows most", worst, _LIMIT_MIB, "MiB"),),
        data=data,
    )
