"""What this machine can do, one function for each check. Each tries the thing itself where it can.

Nothing here raises: what goes wrong is the finding.
"""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata

__all__ = ["CHECKS", "DISTRIBUTION", "Finding", "all_checks", "own_version"]

DISTRIBUTION = "wasinn-host"
_PYTHONS = ((3, 11), (3, 13))
_MACHINES = ("x86_64", "aarch64")
_ADDRESS_SPACE_BYTES = 8 << 30
# The interpreters and some guests.
_CACHE_BYTES = 32 << 20

# (module (func (export "quotient") (param i32 i32) (result i32) (i32.div_u ...)))
_PROBE = (
    b"\0asm\1\0\0\0\1\7\1\x60\2\x7f\x7f\1\x7f\3\2\1\0\7\x0c\1\x08quotient\0\0\x0a\x09\1\7\0"
    b"\x20\0\x20\1\x6e\x0b"
)


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        name: of the check, a key of ``CHECKS``.
        status: ``ok``, ``note`` (works, but less than it could), ``fail`` (no main job).
        found: for people.
        remedy: what to do, or empty.
        data: the same as numbers and words, for programs.
    """

    name: str
    status: str
    found: str
    remedy: str = ""
    data: Mapping[str, object] = field(default_factory=dict)


def own_version() -> str:
    """The installed distribution's version; ``unknown`` in a tree that is not installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "unknown (not installed)"


def all_checks() -> list[Finding]:
    """Runs every check."""
    findings = []
    for name, (_, check) in _CHECKS.items():
        try:
            findings.append(check(name))
        except ImportError as error:
            remedy = f"python -m pip install --force-reinstall {DISTRIBUTION}"
            findings.append(Finding(name, "fail", str(error), remedy))
        except Exception as error:
            text = " ".join(str(error).split())
            findings.append(Finding(name, "fail", f"{type(error).__name__}: {text}"))
    return findings


# --- the checks -----------------------------------------------------------------------------------


def _wasinn(name: str) -> Finding:
    version = own_version()
    return Finding(name, "ok", version, data={"version": version})


def _python(name: str) -> Finding:
    here = sys.version_info[:2]
    low, high = _PYTHONS
    data = {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
    }
    found = f"{data['implementation']} {data['version']}"
    if low <= here <= high and data["implementation"] == "CPython":
        return Finding(name, "ok", found, data=data)
    span = " to ".join(".".join(map(str, v)) for v in _PYTHONS)
    return Finding(name, "fail", found, f"use CPython {span}", data)


def _system(name: str) -> Finding:
    data = {
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
    }
    found = f"{data['system']} {data['kernel']} on {data['machine']}, {os.cpu_count()} processors"
    if sys.platform == "linux" and data["machine"] in _MACHINES:
        return Finding(name, "ok", found, data={**data, "processors": os.cpu_count()})
    return Finding(name, "fail", found, f"use Linux on {' or '.join(_MACHINES)}", data)


def _llvm(name: str) -> Finding:
    from wasinn_runtime.engines.llvm import host_target

    target = host_target()
    binding = metadata.version("llvmlite")
    return Finding(
        name,
        "ok",
        f"LLVM {target.llvm_version} (llvmlite {binding}), generating for {target.cpu}",
        data={
            "llvm": target.llvm_version,
            "llvmlite": binding,
            "triple": target.triple,
            "cpu": target.cpu,
            "features": [f for f in target.features.split(",") if f.startswith("+")],
        },
    )


def _engine(name: str) -> Finding:
    """Compiles and runs a function, and sees it trap."""
    from wasinn_runtime import Config, Engine, Instance, Module, Store, Trap

    engine = Engine(Config("llvm-jit", cache=False))
    instance = Instance(Store(engine), Module(engine, _PROBE, "probe"))
    quotient = instance.exports.quotient
    assert callable(quotient)
    if quotient(84, 2) != 42:
        return Finding(name, "fail", f"84 / 2 gave {quotient(84, 2)}", "please report this")
    try:
        quotient(1, 0)
    except Trap as trap:
        return Finding(name, "ok", f"compiled and ran a guest; it traps as it should ({trap.code})")
    return Finding(name, "fail", "dividing by zero did not trap", "please report this")


def _address_space(name: str) -> Finding:
    from wasinn_runtime.errors import LimitExceeded
    from wasinn_runtime.machine import native

    data = {"tried_bytes": _ADDRESS_SPACE_BYTES}
    try:
        address = native.reserve(_ADDRESS_SPACE_BYTES, writable=False)
    except LimitExceeded as error:
        return Finding(name, "fail", str(error), "raise the limit: ulimit -v unlimited", data)
    native.release(address, _ADDRESS_SPACE_BYTES)
    return Finding(name, "ok", f"{_ADDRESS_SPACE_BYTES >> 30} GiB can be reserved", data=data)


def _cache(name: str) -> Finding:
    from wasinn_runtime.engines.cache import default_cache_dir

    directory = default_cache_dir()
    data = {"directory": str(directory)}
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(b"wasinn")
    except OSError as error:
        return Finding(
            name,
            "note",
            f"{directory} can not be written ({error.strerror}): every start compiles anew",
            "name another directory in WASINN_CACHE_DIR",
            data,
        )
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    if free < _CACHE_BYTES:
        return Finding(
            name,
            "note",
            f"{directory} has {free / 1e6:.1f} MB free: compiled code may find no room",
            "make room, or name another directory in WASINN_CACHE_DIR",
            {**data, "free_bytes": free},
        )
    found = f"{directory}, {free / 1e9:.1f} GB free"
    return Finding(name, "ok", found, data={**data, "free_bytes": free})


def _openat2(name: str) -> Finding:
    from wasinn_host.wasi.kernel import has_openat2

    if has_openat2():
        return Finding(name, "ok", "the kernel keeps guests in their directories (openat2)")
    return Finding(
        name,
        "note",
        "no openat2: paths are walked one component at a time, as safe but slower",
        "use Linux 5.6 or later, and let openat2 through a seccomp filter",
    )


def _extras(name: str) -> Finding:
    """The optional packages of the extra ``models``, from the distribution's own metadata."""
    wanted = list(_optional_packages())
    if not wanted:
        return Finding(name, "note", "wasinn is not installed: nothing says what it would need")
    missing = [package for package in wanted if not _is_installed(package)]
    data = {"packages": wanted, "missing": missing}
    if missing:
        return Finding(
            name,
            "note",
            f"models can not be built: {', '.join(missing)} missing",
            f"python -m pip install {' '.join(missing)}",
            data,
        )
    return Finding(name, "ok", f"models can be built ({', '.join(wanted)})", data=data)


def _optional_packages() -> Iterator[str]:
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return
    for requirement in requirements:
        package, _, marker = requirement.partition(";")
        if re.search(r"extra\s*==\s*['\"]models['\"]", marker):
            found = re.match(r"[A-Za-z0-9._-]+", package)
            if found:
                yield found.group()


def _is_installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _backends(name: str) -> Finding:
    from wasinn_host.nn import BackendRegistry
    from wasinn_host.nn.discovery import REPORT_PATIENCE_S

    registry = BackendRegistry()
    try:
        reports = registry.report(patience_s=REPORT_PATIENCE_S)
    finally:
        registry.close()
    working = [r for r in reports if not r.error]
    broken = [r for r in reports if r.error]
    shown = [f"{r.name} ({', '.join(r.encodings)})" for r in working]
    found = ", ".join(shown) or "none works"
    data = {"working": [r.name for r in working], "broken": {r.name: r.error for r in broken}}
    if broken:
        found += "; broken: " + "; ".join(r.error for r in broken)
    if not any("onnx" in r.encodings for r in working):
        remedy = f"python -m pip install --force-reinstall {DISTRIBUTION} onnxruntime"
        return Finding(name, "fail", found, remedy, data)
    if broken:
        return Finding(name, "note", found, "repair or uninstall the broken ones", data)
    return Finding(name, "ok", found, data=data)


_CHECKS: dict[str, tuple[str, Callable[[str], Finding]]] = {
    "wasinn": ("the installed version", _wasinn),
    "python": ("the interpreter", _python),
    "system": ("operating system and processor", _system),
    "llvm": ("the compiler, and the processor it generates for", _llvm),
    "engine": ("compiles a guest, runs it, sees it trap", _engine),
    "address space": ("room for a guest's 32-bit memory and its guard pages", _address_space),
    "cache": ("where compiled code and models are kept", _cache),
    "directories": ("how guests are kept in their directories", _openat2),
    "model builder": ("optional packages for `wasinn models build`", _extras),
    "backends": ("plugins that run models", _backends),
}

#: Names of the checks and what each looks at, for the help.
CHECKS: dict[str, str] = {name: meaning for name, (meaning, _) in _CHECKS.items()}
