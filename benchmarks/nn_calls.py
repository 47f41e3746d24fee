"""The table of WASI-NN's own cost: a guest gives tensors to a backend that computes nothing.

Once with the backend in this process, once with it in one of its own, and beside them what two
copies of such a tensor take, which nobody can do without.
"""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.measure import Sample, interleave, median_ratio, timed
from benchmarks.report import Bar, Json, Result, Table
from benchmarks.toolchain import compile_c, wasm_flags
from wasinn_backends.null import NullBackend
from wasinn_host import Config, Host
from wasinn_host.nn import Target

__all__ = ["SOURCE", "build_nn_calls", "nn_calls_table"]

SOURCE = Path(__file__).parent / "callouts" / "nncalls.c"
_SMALL_BYTES = 1 << 10
_LARGE_BYTES = 16 << 20
_HERE, _APART, _COPIES = "backend in this process", "backend in its own", "two copies"
_CALLS_US = 12.0
_COPIES_RATIO = 1.1
_APART_US = 150.0
_APART_COPIES_RATIO = 1.15


def build_nn_calls() -> Path:
    """Rebuild the committed module.

    Raises:
        BenchmarkError: zig is missing.
    """
    target = SOURCE.with_suffix(".wasm")
    compile_c(wasm_flags(), SOURCE, target)
    return target


Run = Callable[[int, int], object]


def _in_guest(stack: ExitStack, isolate: bool) -> Run:
    host = stack.enter_context(Host(Config("llvm-jit"), isolate_backends=isolate))
    host.backends.add("null", NullBackend)
    host.graphs.register("echo", "null", Target.CPU, builders=[b"{}"])
    guest = stack.enter_context(host.open(host.load(SOURCE.with_suffix(".wasm"))))
    if guest.call("open") != 0:
        raise BenchmarkError("the guest can not open the model echo")

    def run(times: int, size: int) -> object:
        return guest.call("run", times, size)

    return run


def _copies() -> Run:
    """What ``memcpy`` takes, between memory that has been written to before."""
    first, second = (ctypes.create_string_buffer(_LARGE_BYTES) for _ in range(2))

    def run(times: int, size: int) -> object:
        for _ in range(times):
            ctypes.memmove(first, second, size)
            ctypes.memmove(second, first, size)
        return 0

    return run


def nn_calls_table(rounds: int, small: int = 2_000, large: int = 10) -> Result:
    """``set_input``, ``compute`` and ``get_output``, wall time of the three.

    Args:
        rounds: how often each way is measured.
        small: inferences of 1 KiB in one measurement.
        large: of 16 MiB.

    Raises:
        BenchmarkError: a call fails.
    """
    with ExitStack() as stack:
        runs = {
            _HERE: _in_guest(stack, False),
            _APART: _in_guest(stack, True),
            _COPIES: _copies(),
        }
        found = {
            size: _measured(runs, rounds, times, size)
            for times, size in ((small, _SMALL_BYTES), (large, _LARGE_BYTES))
        }
    rows = []
    data: dict[str, Json] = {"rounds": rounds}
    for size, each_us in found.items():
        for way, taken in each_us.items():
            figures = (statistics.median(taken), min(taken), max(taken))
            rows.append((f"{size >> 10} KiB", way, *(f"{figure:.1f} us" for figure in figures)))
            data[f"{size}, {way}"] = list(taken)
    little, much = found[_SMALL_BYTES], found[_LARGE_BYTES]
    apart_more = [a - h for a, h in zip(much[_APART], much[_HERE], strict=True)]
    return Result(
        name="nn-calls",
        table=Table(
            title=f"set_input, compute and get_output without a computation, {rounds} rounds",
            headings=("tensor", "way", "median", "fastest", "slowest"),
            rows=tuple(rows),
            left=2,
        ),
        bars=(
            Bar("three calls, 1 KiB", statistics.median(little[_HERE]), _CALLS_US, "us"),
            Bar(
                "three calls, 16 MiB, over two copies",
                median_ratio(much[_HERE], much[_COPIES]),
                _COPIES_RATIO,
            ),
            Bar(
                "in a process of its own, 1 KiB: more",
                statistics.median(
                    a - h for a, h in zip(little[_APART], little[_HERE], strict=True)
                ),
                _APART_US,
                "us",
            ),
            Bar(
                "in a process of its own, 16 MiB: more, over two copies",
                median_ratio(apart_more, much[_COPIES]),
                _APART_COPIES_RATIO,
            ),
        ),
        data=data,
    )


def _measured(
    runs: dict[str, Run], rounds: int, times: int, size: int
) -> dict[str, tuple[float, ...]]:
    """Microseconds for one inference, by way and round."""

    def contestant(name: str, run: Run) -> Callable[[], Sample]:
        def work() -> None:
            if (status := run(times, size)) != 0:
                raise BenchmarkError(f"{name}, {size} bytes: the guest says {status}")

        return lambda: timed(work)

    contestants = {name: contestant(name, run) for name, run in runs.items()}
    for warm_up in contestants.values():
        warm_up()
    return {
        name: tuple(s * 1e6 / times for s in taken.wall_s)
        for name, taken in interleave(contestants, rounds).items()
    }
