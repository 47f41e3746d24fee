"""The table of a large guest's start: whole processes, until their first byte of output.

Cold is with nothing kept of this guest; what an engine keeps once for the machine is there. Warm is
with what the first run kept.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.guests import large_guest
from benchmarks.measure import Sample, Samples, interleave, median_ratio
from benchmarks.processes import ROOT, children_cpu_s, source_environment, wasinn_command
from benchmarks.report import Bar, Json, Result, Table
from wasinn_runtime.engines.modes import MODES

__all__ = ["start_table"]

_MODE = "auto"
_COLD_LIMIT = 1.0
_WARM_LIMIT_S = 0.5
_OURS_COLD, _OURS_WARM = f"wasinn run --mode {_MODE}, cold", f"wasinn run --mode {_MODE}, warm"
_THEIRS_COLD, _THEIRS_WARM = "wasmtime, compile and run", "wasmtime, cached"
_SCRIPTS = Path(__file__).parent / "scripts"


def _first_output(
    command: Sequence[str], env: Mapping[str, str], expected: bytes | None
) -> tuple[Sample, bytes]:
    """Wall time to the first byte, processor time of the whole process, and the output.

    Raises:
        BenchmarkError: it fails, or prints something else than is expected.
    """
    cpu, start = children_cpu_s(), time.perf_counter()
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
        ) as process,
    ):
        assert process.stdout is not None
        first = process.stdout.read(1)
        wall = time.perf_counter() - start
        output = first + process.stdout.read()
        status = process.wait()
        said.seek(0)
        words = said.read().decode(errors="replace").strip()
    sample = Sample(wall, children_cpu_s() - cpu)
    if status or not output or (expected is not None and output != expected):
        raise BenchmarkError(
            f"`{' '.join(command)}` ended with {status} and printed {output[:100]!r}, "
            f"expected {expected!r}: {words[-1000:]}"
        )
    return sample, output


@dataclass(frozen=True, slots=True)
class _Contestant:
    """A command with caches of its own.

    Attributes:
        caches: the folder that its caches are in.
        once: the state of that folder before a cold run; None: runs are warm.
    """

    command: Sequence[str]
    caches: Path
    once: Path | None
    expected: bytes

    def __call__(self) -> Sample:
        if self.once is not None:
            shutil.rmtree(self.caches, ignore_errors=True)
            shutil.copytree(self.once, self.caches)
        return _first_output(self.command, _environment(self.caches), self.expected)[0]


def _environment(caches: Path) -> dict[str, str]:
    own = {"XDG_CACHE_HOME": str(caches), "WASINN_CACHE_DIR": str(caches / "wasinn")}
    return {**source_environment(), **own}


def start_table(
    rounds: int, cold_rounds: int = 2, guest: Path | None = None, mode: str = _MODE
) -> Result:
    """Time the large guest's first output, cold and warm.

    Args:
        rounds: of warm runs.
        cold_rounds: of cold runs, which are long and differ little.
        guest: another WASI command; the large guest if None.
        mode: the mode of ours.
    """
    title = "A large guest's start: wall time to its first output"
    headings = ("command", "median", "fastest", "slowest", "processor")
    if mode not in MODES:
        note = f"not measured: {mode} is not one of this version's modes, {', '.join(MODES)}"
        return Result("start", Table(title, headings, ()), (), {}, (note,))
    if guest is None:
        large = large_guest()
        guest, name = large.file, large.name
    else:
        name = guest.name
    with tempfile.TemporaryDirectory() as scratch:
        cold, warm = _measure(guest, Path(scratch), mode, rounds, cold_rounds)
    samples = {**cold, **warm}
    ratio = median_ratio(samples[_OURS_COLD].wall_s, samples[_THEIRS_COLD].wall_s)
    behind_s = statistics.median(
        a - b for a, b in zip(samples[_OURS_WARM].wall_s, samples[_THEIRS_WARM].wall_s, strict=True)
    )
    times: dict[str, Json] = {way: taken.to_json() for way, taken in samples.items()}
    return Result(
        name="start",
        table=Table(
            title=f"{title} ({name}), {cold_rounds} rounds cold and {rounds} warm",
            headings=headings,
            rows=tuple((way, *_cells(taken)) for way, taken in samples.items()),
        ),
        bars=(
            Bar("cold, over wasmtime's compile and run", ratio, _COLD_LIMIT),
            Bar("warm, behind wasmtime with its cache", behind_s, _WARM_LIMIT_S, "s"),
        ),
        data={"rounds": rounds, "cold_rounds": cold_rounds, "times": times},
        notes=() if shutil.which("node") else ("node was not run: there is no `node` on the path",),
    )


def _measure(
    guest: Path, scratch: Path, mode: str, rounds: int, cold_rounds: int
) -> tuple[dict[str, Samples], dict[str, Samples]]:
    ours = [*wasinn_command(), "run", "--mode", mode, str(guest)]
    theirs = [sys.executable, str(_SCRIPTS / "wasmtime_wasi.py"), str(guest)]
    empty, machine = scratch / "empty", scratch / "machine"
    empty.mkdir()
    # What is built once for the machine: another guest in the same mode leaves it behind.
    hello = str(ROOT / "examples" / "hello" / "hello.wasm")
    _first_output([*ours[:-1], hello], _environment(machine), None)
    _, expected = _first_output(theirs, _environment(scratch / "wasmtime"), None)

    def contestant(command: Sequence[str], caches: str, once: Path | None) -> _Contestant:
        return _Contestant(command, scratch / caches, once, expected)

    cold: dict[str, Callable[[], Sample]] = {
        _OURS_COLD: contestant(ours, "wasinn", machine),
        _THEIRS_COLD: contestant(theirs, "cold", empty),
    }
    node = shutil.which("node")
    if node is not None:
        command = [node, "--no-warnings", str(_SCRIPTS / "node_wasi.js"), str(guest)]
        cold["node (node:wasi), cold"] = contestant(command, "node", empty)
    taken = interleave(cold, cold_rounds)
    warm = {
        _OURS_WARM: contestant(ours, "wasinn", None),
        _THEIRS_WARM: contestant(theirs, "wasmtime", None),
    }
    for warm_up in warm.values():
        warm_up()
    return taken, interleave(warm, rounds)


def _cells(samples: Samples) -> tuple[str, ...]:
    wall = samples.wall_s
    figures = (statistics.median(wall), min(wall), max(wall), statistics.median(samples.cpu_s))
    return tuple(f"{figure:.2f} s" for figure in figures)
