"""The compute table: each kernel natively, in wasmtime and in wasinn, in one process."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.catalogue import Kernel
from benchmarks.errors import BenchmarkError
from benchmarks.measure import Sample, Samples, geometric_mean, interleave, median_ratio, timed
from benchmarks.report import Bar, Json, Result, Table
from benchmarks.runners import NativeRunner, Run, Runner, WasinnRunner, WasmtimeRunner

__all__ = ["KernelTimes", "measure_compute", "measure_kernel"]

_NATIVE_BAR = 1.10
_WASMTIME_BAR = 0.85

_BASELINE, _TUNED, _WASMTIME, _WASINN = "native", "native tuned", "wasmtime", "wasinn"


@dataclass(frozen=True, slots=True)
class KernelTimes:
    """One kernel's samples by runner, and the checksum all of them agreed on."""

    kernel: Kernel
    checksum: int
    samples: dict[str, Samples]

    def ratio(self, name: str, base: str) -> float:
        """Processor time of ``name`` over ``base``: the median over the rounds."""
        return median_ratio(self.samples[name].cpu_s, self.samples[base].cpu_s)


def measure_kernel(kernel: Kernel, runners: Sequence[Runner], rounds: int) -> KernelTimes:
    """Time one kernel in every runner, in turns.

    Raises:
        BenchmarkError: two runners give different checksums.
    """
    runs = {runner.name: runner.load(kernel) for runner in runners}
    agree(kernel, {name: run(kernel.tiny_n) for name, run in runs.items()})
    checksums: dict[str, int] = {}

    def contestant(name: str, run: Run) -> Callable[[], Sample]:
        def work() -> None:
            checksums[name] = run(kernel.timed_n)

        return lambda: timed(work)

    samples = interleave({name: contestant(name, run) for name, run in runs.items()}, rounds)
    return KernelTimes(kernel, agree(kernel, checksums), samples)


def agree(kernel: Kernel, checksums: dict[str, int]) -> int:
    """The checksum, if all are the same.

    Raises:
        BenchmarkError: they are not.
    """
    if len(set(checksums.values())) != 1:
        raise BenchmarkError(f"{kernel.name}: the checksums differ: {checksums}")
    return next(iter(checksums.values()))


def measure_compute(
    kernels: Sequence[Kernel], rounds: int, progress: Callable[[str], None]
) -> Result:
    """Time all kernels and hold the geometric means against the bars.

    Args:
        progress: told each kernel's name before it is measured.
    """
    runners: list[Runner] = [
        NativeRunner("baseline"),
        NativeRunner("native"),
        WasmtimeRunner(),
        WasinnRunner(),
    ]
    times = []
    for kernel in kernels:
        progress(kernel.name)
        times.append(measure_kernel(kernel, runners, rounds))
    return _result(times, rounds)


def _result(times: Sequence[KernelTimes], rounds: int) -> Result:
    columns = (
        ("wasinn / native", _WASINN, _BASELINE),
        ("wasinn / native tuned", _WASINN, _TUNED),
        ("wasinn / wasmtime", _WASINN, _WASMTIME),
        ("wasmtime / native", _WASMTIME, _BASELINE),
    )
    rows: list[tuple[str, ...]] = []
    data: dict[str, Json] = {}
    for t in times:
        ratios = {heading: t.ratio(name, base) for heading, name, base in columns}
        rows.append(
            (
                t.kernel.name,
                t.kernel.group,
                f"{statistics.median(t.samples[_BASELINE].cpu_s):.3f} s",
                *(f"{ratio:.2f}" for ratio in ratios.values()),
            )
        )
        data[t.kernel.name] = {
            "group": t.kernel.group,
            "n": t.kernel.timed_n,
            "checksum": t.checksum,
            "times": {name: s.to_json() for name, s in t.samples.items()},
            "ratios": dict(ratios),
        }
    means = {
        heading: geometric_mean(t.ratio(name, base) for t in times)
        for heading, name, base in columns
    }
    rows.append(("geometric mean", "", "", *(f"{mean:.2f}" for mean in means.values())))
    return Result(
        name="kernels",
        table=Table(
            title=f"Compute kernels, processor time, median of {rounds} rounds (lower is better)",
            headings=("kernel", "group", "native", *(heading for heading, _, _ in columns)),
            rows=tuple(rows),
            left=2,
        ),
        bars=(
            Bar("geometric mean over native (baseline CPU)", means["wasinn / native"], _NATIVE_BAR),
            Bar("geometric mean over wasmtime", means["wasinn / wasmtime"], _WASMTIME_BAR),
        ),
        data={"rounds": rounds, "kernels": data, "geometric_means": dict(means)},
    )
