"""What the figures depend on: processor, system, versions. Measures nothing itself."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path

from benchmarks.errors import NotRun

__all__ = ["describe_machine", "describe_versions", "peer_program", "processor_name"]

_PACKAGES = (
    "wasinn-host",
    "llvmlite",
    "wasmtime",
    "pywasm3",
    "ziglang",
    "onnxruntime",
    "numpy",
)

# Programs that no package brings: the variables that name them.
_PROGRAMS = {"iwasm": "WASINN_BENCH_IWASM", "wamrc": "WASINN_BENCH_WAMRC"}


def peer_program(name: str) -> str:
    """The path of WAMR's ``iwasm`` or ``wamrc``.

    Raises:
        NotRun: its variable names no program.
    """
    variable = _PROGRAMS[name]
    path = os.environ.get(variable)
    if not path:
        raise NotRun(f"{variable} names no {name}")
    if not os.access(path, os.X_OK):
        raise NotRun(f"{variable} is {path}, which is no program")
    return path


def _program_version(command: list[str]) -> str | None:
    """The first number with dots that ``--version`` prints."""
    try:
        done = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else None


@cache
def processor_name() -> str:
    """The processor's name as the kernel gives it, or the architecture."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def describe_machine() -> dict[str, str | int]:
    """Processor, number of processors this process may use, system."""
    return {
        "processor": processor_name(),
        "processors": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
    }


def describe_versions() -> dict[str, str | None]:
    """Versions of Python, the packages and the programs measured; None for what is not there."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    versions["node"] = _program_version(["node"])
    for name in _PROGRAMS:
        try:
            versions[name] = _program_version([peer_program(name)])
        except NotRun:
            versions[name] = None
    return versions
