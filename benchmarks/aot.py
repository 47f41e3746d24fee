"""The table of ahead-of-time compiling: `wasinn compile` on the middle guest, as whole processes.

Our own share is what is neither LLVM's optimiser nor its code generator: reading, validating,
writing IR and its parsing by LLVM, linking, writing, and Python's start.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.errors import BenchmarkError, NotRun
from benchmarks.guests import Guest, middle_guest
from benchmarks.machine import peer_program
from benchmarks.measure import Sample, Samples, interleave, median_ratio
from benchmarks.processes import run_process, source_environment, wasinn_command
from benchmarks.report import Bar, Json, Result, Table

__all__ = ["aot_table"]

_SHARE_LIMIT = 15.0
_WAMRC_LIMIT = 1.0
_JOBS_LIMIT = 0.6
_ONE, _TWO, _WAMRC = "wasinn compile, 1 job", "wasinn compile, 2 jobs", "wamrc"


def aot_table(rounds: int) -> Result:
    """Compile the middle guest at O3 with one job and with two, and with wamrc."""
    from wasinn_host.cli.main import COMMANDS

    title = f"Ahead of time: the middle guest at O3, {rounds} rounds"
    headings = ("command", "median", "fastest", "slowest", "processor")
    if "compile" not in COMMANDS:
        note = "not measured: this version has no `wasinn compile`"
        return Result("aot", Table(title, headings, ()), (), {}, (note,))
    guest = middle_guest()
    with tempfile.TemporaryDirectory() as folder:
        samples, shares, notes = _measure(guest, Path(folder), rounds)
    rows = [(name, *_cells(taken)) for name, taken in samples.items()]
    share = statistics.median(shares) * 100
    jobs = median_ratio(samples[_TWO].wall_s, samples[_ONE].wall_s)
    bars = [
        Bar("our own share of one job", share, _SHARE_LIMIT, "%"),
        Bar("two jobs over one, wall time", jobs, _JOBS_LIMIT),
    ]
    if _WAMRC in samples:
        ratio = median_ratio(samples[_ONE].wall_s, samples[_WAMRC].wall_s)
        bars.append(Bar("one job over wamrc, wall time", ratio, _WAMRC_LIMIT))
    times: dict[str, Json] = {name: taken.to_json() for name, taken in samples.items()}
    return Result(
        name="aot",
        table=Table(f"{title} ({guest.name})", headings, tuple(rows)),
        bars=tuple(bars),
        data={"rounds": rounds, "times": times, "own_share": list(shares)},
        notes=tuple(notes),
    )


def _measure(
    guest: Guest, folder: Path, rounds: int
) -> tuple[dict[str, Samples], list[float], list[str]]:
    env = {**source_environment(), "WASINN_CACHE_DIR": str(folder / "cache")}
    script = Path(__file__).parent / "scripts" / "compile_share.py"
    shares: list[float] = []
    notes: list[str] = []

    def arguments(jobs: int) -> list[str]:
        target = str(folder / f"jobs{jobs}.aot")
        return [str(guest.file), "-o", target, "--opt", "3", "--jobs", str(jobs)]

    def one_job() -> Sample:
        sample, output = run_process([sys.executable, str(script), *arguments(1)], env)
        took = json.loads(output.splitlines()[-1])
        if not took["llvm_s"]:
            raise BenchmarkError("one job did not compile in its own process; no share is known")
        shares.append(1 - took["llvm_s"] / took["total_s"])
        return sample

    contestants: dict[str, Callable[[], Sample]] = {
        _ONE: one_job,
        _TWO: lambda: run_process([*wasinn_command(), "compile", *arguments(2)], env)[0],
    }
    try:
        wamrc = peer_program("wamrc")
    except NotRun as reason:
        notes.append(f"wamrc was not run: {reason}")
    else:
        command = [wamrc, "--opt-level=3", "-o", str(folder / "wamr"), str(guest.file)]
        contestants[_WAMRC] = lambda: run_process(command, env)[0]
    return interleave(contestants, rounds), shares, notes


def _cells(samples: Samples) -> tuple[str, ...]:
    wall = samples.wall_s
    figures = (statistics.median(wall), min(wall), max(wall), statistics.median(samples.cpu_s))
    return tuple(f"{figure:.2f} s" for figure in figures)
