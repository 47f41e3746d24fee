"""The fast-jit table: how much speed it gives up for how much less compiling, against llvm-jit.

Run times are a view of a field. Compile times are taken here, in fresh modules without a cache:
all that stands between a module's bytes and the end of its first run, less what a run takes.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.catalogue import Kernel
from benchmarks.compute import mean_rows, ratio_cell, unmeasured
from benchmarks.contestants import WorkerContestant
from benchmarks.errors import NotRun
from benchmarks.field import BASE, Fields
from benchmarks.guests import middle_guest
from benchmarks.report import Bar, Json, Result, Table
from wasinn_runtime.engines.modes import MODES

__all__ = ["fast_jit_table"]

_FAST, _FULL = "fast-jit", "llvm-jit"
_NAMES = (BASE, _FULL, _FAST)
_SPEED_LIMIT = 0.65
_COMPILE_LIMIT = 0.10
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class _Subject:
    """A module to compile; ``n`` for a run that touches its functions and takes little time."""

    name: str
    file: Path
    n: int


def _compiler(mode: str) -> WorkerContestant:
    command = [sys.executable, "-m", "benchmarks.worker", mode, "--no-cache"]
    return WorkerContestant(mode, command)


def _compile_s(worker: WorkerContestant, subject: _Subject) -> float:
    """Wall time of loading and the first run, less the second run."""
    load_s = worker.load_file(subject.file)
    first, second = worker.run(subject.n)[1], worker.run(subject.n)[1]
    return max(load_s + first.wall_s - second.wall_s, 1e-6)


def _compile_times(
    subjects: Sequence[_Subject], progress: Callable[[str], None]
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Medians in seconds by subject and mode, and notes on what did not compile."""
    modes = [mode for mode in (_FULL, _FAST) if mode in MODES]
    workers = {mode: _compiler(mode) for mode in modes}
    times: dict[str, dict[str, float]] = {}
    notes: list[str] = []
    try:
        for worker in workers.values():
            _compile_s(worker, subjects[0])  # loads LLVM and makes the adapters of `run`
        for subject in subjects:
            progress(f"compiling {subject.name}")
            taken: dict[str, list[float]] = {mode: [] for mode in modes}
            try:
                for _ in range(_ROUNDS):
                    for mode, worker in workers.items():
                        taken[mode].append(_compile_s(worker, subject))
            except NotRun as reason:
                notes.append(f"{subject.name} was not compiled: {reason}")
                continue
            times[subject.name] = {mode: statistics.median(t) for mode, t in taken.items()}
    finally:
        for worker in workers.values():
            worker.close()
    return times, notes


def _subject(kernel: Kernel) -> _Subject:
    return _Subject(kernel.name, kernel.wasm, kernel.tiny_n)


def fast_jit_table(fields: Fields) -> Result:
    """Speed relative to llvm-jit, and compile time relative to it."""
    field = fields.fast(_NAMES)
    guest = middle_guest()
    subjects = [*(_subject(k) for k in fields.kernels), _Subject(guest.name, guest.file, guest.n)]
    times, notes = _compile_times(subjects, fields.progress)
    rows: list[tuple[str, ...]] = []
    compiled: dict[str, Json] = {}

    def compile_cells(name: str) -> tuple[str, str, str]:
        full, fast = times.get(name, {}).get(_FULL), times.get(name, {}).get(_FAST)
        ratio = fast / full if fast is not None and full is not None else None
        compiled[name] = {_FULL: full, _FAST: fast, "ratio": ratio}
        return _milliseconds(full), _milliseconds(fast), ratio_cell(ratio)

    for kernel in field.kernels:
        run = field.ratio(kernel, _FAST, _FULL)
        rows.append((kernel.name, ratio_cell(run), *compile_cells(kernel.name)))
    rows.append((guest.name, "", *compile_cells(guest.name)))
    rows += [(*row, "", "", "") for row in mean_rows(field, [(_FAST, _FULL)], 1)]
    bars: list[Bar] = []
    what = f"{_FAST}'s speed relative to {_FULL}, geometric mean"
    mean = field.mean(_FAST, _FULL)
    if mean is None:
        notes.append(unmeasured(what, _SPEED_LIMIT, field, _FAST, _FULL))
    else:
        bars.append(Bar(what, 1 / mean, _SPEED_LIMIT, at_least=True))
    for what, names in (
        (f"compile time of all kernels, {_FAST} over {_FULL}", [k.name for k in field.kernels]),
        (f"compile time of {guest.name}, {_FAST} over {_FULL}", [guest.name]),
    ):
        both = [times[name] for name in names if len(times.get(name, {})) == 2]
        if both:
            ratio = sum(t[_FAST] for t in both) / sum(t[_FULL] for t in both)
            bars.append(Bar(what, ratio, _COMPILE_LIMIT))
        else:
            notes.append(unmeasured(what, _COMPILE_LIMIT, field, _FAST, _FULL))
    return Result(
        name="fast-jit",
        table=Table(
            title=f"{_FAST} and {_FULL}: run time, and compile time in {_ROUNDS} rounds",
            headings=(
                "module",
                f"run, {_FAST} / {_FULL}",
                f"compile, {_FULL}",
                f"compile, {_FAST}",
                "ratio",
            ),
            rows=tuple(rows),
        ),
        bars=tuple(bars),
        data={"field": field.to_json(_NAMES), "compile_s": compiled},
        notes=(*notes, *field.notes(_NAMES)),
    )


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"
