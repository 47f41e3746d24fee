"""Times whole processes. Waits for each; keeps their output to compare, never shows it."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.measure import Sample

__all__ = ["ROOT", "run_process"]

ROOT = Path(__file__).resolve().parent.parent


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_process(
    command: Sequence[str], env: Mapping[str, str] | None = None
) -> tuple[Sample, bytes]:
    """Run a command from the project's root; give its times and standard output.

    Raises:
        BenchmarkError: it cannot be started, or its exit status is not 0.
    """
    cpu, wall = _children_cpu_s(), time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise BenchmarkError(f"{command[0]} does not start: {error.strerror}") from error
    sample = Sample(time.perf_counter() - wall, _children_cpu_s() - cpu)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise BenchmarkError(f"`{' '.join(command)}` ended with {done.returncode}:\n{said}")
    return sample, done.stdout
