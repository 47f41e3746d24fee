"""The start-up tables: a whole ``wasinn run`` process, and ``make demo`` the second time."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.measure import Sample, Samples, interleave, median_ratio
from benchmarks.processes import ROOT, run_process, source_environment, wasinn_command
from benchmarks.report import Bar, Result, Table

__all__ = ["measure_demo", "measure_hello"]

_HELLO_BAR = 2.0
_DEMO_BAR_S = 5.0


def _contestant(
    name: str, command: Sequence[str], env: Mapping[str, str], expected: bytes
) -> Callable[[], Sample]:
    def run() -> Sample:
        sample, output = run_process(command, env)
        if output != expected:
            raise BenchmarkError(f"{name} printed {output[:200]!r}, expected {expected[:200]!r}")
        return sample

    return run


def measure_hello(rounds: int) -> Result:
    """``wasinn run hello.wasm`` with a warm cache against a wasmtime script and bare Python.

    Raises:
        BenchmarkError: the guest is missing, or the two print different things.
    """
    guest = ROOT / "examples" / "hello" / "hello.wasm"
    if not guest.exists():
        raise BenchmarkError("examples/hello/hello.wasm is missing")
    app = str(guest.relative_to(ROOT))
    script = Path(__file__).parent / "scripts" / "wasmtime_wasi.py"
    env = source_environment()
    commands = {
        "wasinn run": [*wasinn_command(), "run", app],
        "wasmtime script": [sys.executable, str(script), app],
    }
    # The first runs fill the caches; their output is what later ones are held against.
    _, expected = run_process(commands["wasmtime script"], env)
    contestants = {
        name: _contestant(name, command, env, expected) for name, command in commands.items()
    }
    contestants["python -c pass"] = _contestant("python", [sys.executable, "-c", "pass"], env, b"")
    for warm_up in contestants.values():
        warm_up()
    samples = interleave(contestants, rounds)
    ours, theirs = samples["wasinn run"], samples["wasmtime script"]
    ratio = median_ratio(ours.wall_s, theirs.wall_s)
    return Result(
        name="startup",
        table=Table(
            title=f"hello.wasm as a whole process, compiled before, {rounds} rounds",
            headings=("command", "median", "fastest", "slowest", "processor"),
            rows=tuple((name, *_cells(s)) for name, s in samples.items()),
        ),
        bars=(Bar("wasinn run over a wasmtime script, wall time", ratio, _HELLO_BAR),),
        data={
            "rounds": rounds,
            "times": {name: s.to_json() for name, s in samples.items()},
            "ratio": ratio,
        },
    )


def _cells(samples: Samples) -> tuple[str, ...]:
    wall = samples.wall_s
    figures = (statistics.median(wall), min(wall), max(wall), statistics.median(samples.cpu_s))
    return tuple(f"{figure * 1000:.0f} ms" for figure in figures)


def measure_demo(rounds: int) -> Result:
    """``make demo`` when everything it needs is already there.

    Raises:
        BenchmarkError: it fails.
    """
    command = ["make", "demo"]
    run_process(command)  # Sets up what is missing; not timed.
    samples = interleave({"make demo": lambda: run_process(command)[0]}, rounds)["make demo"]
    return Result(
        name="demo",
        table=Table(
            title=f"make demo, not the first time, {rounds} rounds",
            headings=("command", "median", "fastest", "slowest", "processor"),
            rows=(("make demo", *_cells(samples)),),
        ),
        bars=(Bar("make demo, wall time", statistics.median(samples.wall_s), _DEMO_BAR_S, "s"),),
        data={"rounds": rounds, "times": samples.to_json()},
    )
