"""What the figures depend on: processor, system, versions. Measures nothing itself."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path

__all__ = ["describe_machine", "describe_versions", "processor_name"]

_PACKAGES = ("wasinn-host", "llvmlite", "wasmtime", "ziglang", "onnxruntime", "numpy")


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
    """Versions of Python and of the packages measured; None for what is not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions
