"""The instances table: many instances of one loaded module, each made and called once."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import wasmtime

import wasinn_runtime as wasinn
from benchmarks.catalogue import Kernel, kernels_named
from benchmarks.errors import BenchmarkError
from benchmarks.measure import Sample, interleave, median_ratio, timed
from benchmarks.report import Bar, Json, Result, Table

__all__ = ["COUNT", "measure_instances"]

COUNT = 1_000
_BAR_US = 100.0

# One with little memory and no data, one with 128 KiB and data segments, one with a table.
_KERNELS = ("fib", "crc32", "dispatch")

MakeAndCall = Callable[[], object]


def _in_wasinn(kernel: Kernel) -> MakeAndCall:
    engine = wasinn.Engine(wasinn.Config("llvm-jit"))
    module = wasinn.Module(engine, kernel.wasm.read_bytes())

    def make() -> object:
        instance = wasinn.Instance(wasinn.Store(engine), module, [])
        run = instance.exports["run"]
        assert isinstance(run, wasinn.Func)
        run(0)
        return instance

    return make


def _in_wasmtime(kernel: Kernel) -> MakeAndCall:
    engine = wasmtime.Engine()
    module = wasmtime.Module(engine, kernel.wasm.read_bytes())

    def make() -> object:
        store = wasmtime.Store(engine)
        instance = wasmtime.Instance(store, module, [])
        run = instance.exports(store)["run"]
        assert isinstance(run, wasmtime.Func)
        run(store, 0)
        return store, instance

    return make


def _one_at_a_time(make: MakeAndCall, count: int) -> Callable[[], Sample]:
    def work() -> None:
        for _ in range(count):
            make()

    return lambda: timed(work)


def _all_alive(make: MakeAndCall, count: int) -> Callable[[], Sample]:
    def work() -> None:
        alive = [make() for _ in range(count)]
        if len(alive) != count:
            raise BenchmarkError(f"{len(alive)} instances are alive, not {count}")

    return lambda: timed(work)


def measure_instances(rounds: int, count: int = COUNT) -> Result:
    """Make ``count`` instances in a store each and call ``run(0)``, dropping or keeping them."""
    ways = (("one at a time", _one_at_a_time), ("all alive at the end", _all_alive))
    rows: list[tuple[str, ...]] = []
    data: dict[str, Json] = {}
    worst_us = 0.0
    for kernel in kernels_named(_KERNELS):
        ours, theirs = _in_wasinn(kernel), _in_wasmtime(kernel)
        for way, contestant in ways:
            contestants = {
                "wasinn": contestant(ours, count),
                "wasmtime": contestant(theirs, count),
            }
            for make in (ours, theirs):
                make()
            samples = interleave(contestants, rounds)
            each_us = {
                name: statistics.median(s.wall_s) * 1e6 / count for name, s in samples.items()
            }
            ratio = median_ratio(samples["wasinn"].wall_s, samples["wasmtime"].wall_s)
            worst_us = max(worst_us, each_us["wasinn"])
            rows.append(
                (
                    kernel.name,
                    way,
                    *(f"{value:.0f} us" for value in each_us.values()),
                    f"{ratio:.2f}",
                )
            )
            data[f"{kernel.name}, {way}"] = {
                "times": {name: s.to_json() for name, s in samples.items()},
                "ratio": ratio,
            }
    return Result(
        name="instances",
        table=Table(
            title=f"{count} instances of a loaded module, made and called, time for each",
            headings=("module", "way", "wasinn", "wasmtime", "wasinn / wasmtime"),
            rows=tuple(rows),
            left=2,
        ),
        bars=(Bar("slowest case, wall time", worst_us, _BAR_US, "us"),),
        data={"rounds": rounds, "count": count, "cases": data},
    )
