"""Times whole processes. Waits for each; keeps their output to compare, never shows it."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.measure import Sample

__all__ = ["ROOT", "children_cpu_s", "run_process", "source_environment", "wasinn_command"]

ROOT = Path(__file__).resolve().parent.parent

_SOURCE_FOLDERS = (".", "runtime", "backends", "models")


def wasinn_command() -> list[str]:
    """The installed ``wasinn``, or the same from the source tree."""
    installed = shutil.which("wasinn", path=str(Path(sys.executable).parent))
    if installed is not None:
        return [installed]
    return [sys.executable, "-c", "from wasinn_host.cli.main import main; main()"]


def source_environment() -> dict[str, str]:
    """This process's environment, with the source tree importable by all contestants alike.

    Python may keep its bytecode, as that of anything installed is.
    """
    folders = [str((ROOT / folder).resolve()) for folder in _SOURCE_FOLDERS]
    own = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**own, "PYTHONPATH": os.pathsep.join(folders)}


def children_cpu_s() -> float:
    """Processor time of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_process(
    command: Sequence[str], env: Mapping[str, str] | None = None
) -> tuple[Sample, bytes]:
    """Run a command from the project's root; give its times and standard output.

    Raises:
        BenchmarkError: it cannot be started, or its exit status is not 0.
    """
    cpu, wall = children_cpu_s(), time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise BenchmarkError(f"{command[0]} does not start: {error.strerror}") from error
    sample = Sample(time.perf_counter() - wall, children_cpu_s() - cpu)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise BenchmarkError(f"`{' '.join(command)}` ended with {done.returncode}:\n{said}")
    return sample, done.stdout
