"""Timing: contestants take turns, and ratios are formed within a turn. Knows no contestant.

On a machine that does other things too, two figures taken minutes apart say little about each
other; two taken one after the other, many times, do.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.report import Json

__all__ = ["Sample", "Samples", "geometric_mean", "interleave", "median_ratio", "timed"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One run: time on the wall, and time the thread (or the child process) had a processor."""

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Samples:
    """All runs of one contestant, in the order of the rounds."""

    runs: tuple[Sample, ...]

    @property
    def wall_s(self) -> tuple[float, ...]:
        return tuple(run.wall_s for run in self.runs)

    @property
    def cpu_s(self) -> tuple[float, ...]:
        return tuple(run.cpu_s for run in self.runs)

    def to_json(self) -> Json:
        """Medians and extremes in seconds."""
        return {"wall_s": _spread(self.wall_s), "cpu_s": _spread(self.cpu_s)}


def _spread(values: Sequence[float]) -> Json:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def timed(work: Callable[[], object]) -> Sample:
    """Run ``work`` once in this thread."""
    wall, cpu = time.perf_counter(), time.thread_time()
    work()
    return Sample(time.perf_counter() - wall, time.thread_time() - cpu)


def interleave(contestants: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, Samples]:
    """Let every contestant run once a round, always in the same order."""
    runs: dict[str, list[Sample]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            runs[name].append(run())
    return {name: Samples(tuple(taken)) for name, taken in runs.items()}


def median_ratio(values: Sequence[float], base: Sequence[float]) -> float:
    """The median over the rounds of ``values[i] / base[i]``."""
    return statistics.median(v / b for v, b in zip(values, base, strict=True))


def geometric_mean(ratios: Iterable[float]) -> float:
    """The geometric mean of positive numbers.

    Raises:
        ValueError: there are none.
    """
    logs = [math.log(ratio) for ratio in ratios]
    if not logs:
        raise ValueError("the geometric mean of nothing is not defined")
    return math.exp(sum(logs) / len(logs))
