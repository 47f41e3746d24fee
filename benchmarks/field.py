"""A field: kernels by contestants, timed in turns. The compute tables are views of fields.

Knows no bar and no table. Contestants that are not there or can not run a kernel are noted with
their reason; one that gives a wrong checksum ends the measurement.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.catalogue import Kernel
from benchmarks.contestants import COMPILED_MODES, INTERPRETED_MODES, Contestant, contestant
from benchmarks.errors import BenchmarkError, NotRun
from benchmarks.measure import Sample, Samples, geometric_mean, median_ratio
from benchmarks.report import Json

__all__ = ["BASE", "FAST", "SLOW", "Field", "Fields", "agree", "measure_field"]

BASE = "native"
FAST = (BASE, "native tuned", "wasmtime", "node", "WAMR AOT", *COMPILED_MODES)
SLOW = (BASE, "wasm3", "WAMR", *INTERPRETED_MODES)


@dataclass
class Field:
    """What was measured.

    Attributes:
        kernels: in their order.
        samples: by kernel and contestant; without those that did not run.
        checksums: what the contestants agreed on, by kernel.
        absent: why a contestant is not there at all.
        refused: why a contestant did not run single kernels: kernel to reason, by contestant.
    """

    kernels: Sequence[Kernel]
    rounds: int
    samples: dict[str, dict[str, Samples]] = field(default_factory=dict)
    checksums: dict[str, int] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    refused: dict[str, dict[str, str]] = field(default_factory=dict)

    def ratio(self, kernel: Kernel, name: str, base: str) -> float | None:
        """Processor time of ``name`` over ``base``, the median over the rounds; None: not run."""
        samples = self.samples[kernel.name]
        if name not in samples or base not in samples:
            return None
        return median_ratio(samples[name].cpu_s, samples[base].cpu_s)

    def spread(self, kernel: Kernel, name: str) -> float | None:
        """How much longer the longest run took than the shortest, as a part of the median."""
        samples = self.samples[kernel.name].get(name)
        if samples is None:
            return None
        times = samples.cpu_s
        return (max(times) - min(times)) / statistics.median(times)

    def mean(self, name: str, base: str, simd: bool | None = None) -> float | None:
        """The geometric mean of the ratios over all kernels that both ran.

        Args:
            simd: only the kernels that are about SIMD, or only those that are not.
        """
        kernels = [k for k in self.kernels if simd is None or k.simd == simd]
        ratios = [self.ratio(k, name, base) for k in kernels]
        known = [ratio for ratio in ratios if ratio is not None]
        return geometric_mean(known) if known else None

    def has(self, name: str) -> bool:
        return any(name in samples for samples in self.samples.values())

    def notes(self, names: Sequence[str]) -> tuple[str, ...]:
        """Who of them did not run what, and why, and how steady the figures are."""
        notes = [
            f"{name} was not run: {self.absent[name]}" for name in names if name in self.absent
        ]
        for name in names:
            by_reason: dict[str, list[str]] = {}
            for kernel, reason in self.refused.get(name, {}).items():
                by_reason.setdefault(_without_place(reason), []).append(kernel)
            notes += [
                f"{name} did not run {', '.join(kernels)}: {reason}"
                for reason, kernels in by_reason.items()
            ]
        spreads = [self.spread(k, name) for k in self.kernels for name in names]
        known = [spread for spread in spreads if spread is not None]
        if known and self.rounds > 1:
            text = f"{statistics.median(known) * 100:.1f} % of the median time"
            notes.append(f"a contestant's rounds lie within {text} on half of the kernels")
        return tuple(notes)

    def to_json(self, names: Sequence[str]) -> Json:
        """Times, checksums and what did not run."""
        kernels: dict[str, Json] = {}
        for kernel in self.kernels:
            samples = self.samples[kernel.name]
            kernels[kernel.name] = {
                "group": kernel.group,
                "checksum": self.checksums[kernel.name],
                "times": {name: samples[name].to_json() for name in names if name in samples},
            }
        return {
            "rounds": self.rounds,
            "kernels": kernels,
            "absent": {name: self.absent[name] for name in names if name in self.absent},
            "refused": {name: dict(self.refused[name]) for name in names if name in self.refused},
        }


def _without_place(reason: str) -> str:
    """A reason without the place in a module that it starts with, so that equal ones are equal."""
    return re.sub(
        r"^\S+\.wasm(:0x[0-9a-f]+)?: (function \d+[^:]*: )?", "", " ".join(reason.split())
    )


def agree(kernel: Kernel, checksums: dict[str, int]) -> int:
    """The checksum, if all are the same.

    Raises:
        BenchmarkError: they are not.
    """
    if len(set(checksums.values())) != 1:
        raise BenchmarkError(f"{kernel.name}: the checksums differ: {checksums}")
    return next(iter(checksums.values()))


def measure_field(
    kernels: Sequence[Kernel],
    contestants: Sequence[Contestant],
    size: Callable[[Kernel], int],
    rounds: int,
    progress: Callable[[str], None] = lambda text: None,
) -> Field:
    """Time kernels in every contestant, in turns, after one run of each that does not count.

    Args:
        size: the ``n`` of a kernel's timed runs.
        progress: told each kernel's name before it is measured.

    Raises:
        BenchmarkError: two contestants give different checksums.
    """
    result = Field(kernels, rounds)
    for kernel in kernels:
        progress(kernel.name)
        _measure_kernel(result, kernel, contestants, size(kernel))
    return result


def _measure_kernel(
    result: Field, kernel: Kernel, contestants: Sequence[Contestant], n: int
) -> None:
    running: list[Contestant] = []
    tiny: dict[str, int] = {}
    checksums: dict[str, int] = {}
    for one in contestants:
        try:
            one.load(kernel)
            tiny[one.name], _ = one.run(kernel.tiny_n)
            # Warms caches up, and lets engines with several tiers reach the last.
            checksums[one.name], _ = one.run(n)
        except NotRun as reason:
            result.refused.setdefault(one.name, {})[kernel.name] = str(reason)
            tiny.pop(one.name, None)
        else:
            running.append(one)
    if not running:
        raise BenchmarkError(f"{kernel.name}: nobody ran it: {result.refused}")
    agree(kernel, tiny)
    agree(kernel, checksums)
    runs: dict[str, list[Sample]] = {one.name: [] for one in running}
    for _ in range(result.rounds):
        for one in running:
            value, sample = one.run(n)
            # A kernel may go on from the memory that its last run left, but all do so alike.
            checksums[one.name] = value
            runs[one.name].append(sample)
        agree(kernel, checksums)
    result.checksums[kernel.name] = agree(kernel, checksums)
    result.samples[kernel.name] = {name: Samples(tuple(taken)) for name, taken in runs.items()}


@dataclass
class Fields:
    """Fields over one choice of kernels, measured when first asked for and then kept.

    Attributes:
        everyone: measure all contestants at once, whoever is asked for: for all tables in one run.
    """

    kernels: Sequence[Kernel]
    rounds: int
    progress: Callable[[str], None]
    everyone: bool = False
    _kept: dict[tuple[str, ...], Field] = field(default_factory=dict)

    def fast(self, names: Sequence[str] = FAST) -> Field:
        """Compiled code, on runs of about a tenth of a second."""
        return self._field(FAST, names, lambda kernel: kernel.timed_n, self.rounds)

    def slow(self, names: Sequence[str] = SLOW) -> Field:
        """Interpreters, on runs a tenth as long, and in three rounds at most: they are steady."""
        return self._field(SLOW, names, lambda kernel: kernel.slow_n, min(self.rounds, 3))

    def _field(
        self,
        whole: tuple[str, ...],
        names: Sequence[str],
        size: Callable[[Kernel], int],
        rounds: int,
    ) -> Field:
        wanted = tuple(name for name in whole if self.everyone or name in names)
        if wanted not in self._kept:
            self._kept[wanted] = self._measure(wanted, size, rounds)
        return self._kept[wanted]

    def _measure(self, names: tuple[str, ...], size: Callable[[Kernel], int], rounds: int) -> Field:
        there: list[Contestant] = []
        absent: dict[str, str] = {}
        for name in names:
            try:
                there.append(contestant(name))
            except NotRun as reason:
                absent[name] = str(reason)
        try:
            result = measure_field(self.kernels, there, size, rounds, self.progress)
        finally:
            for one in there:
                one.close()
        result.absent = absent
        return result
