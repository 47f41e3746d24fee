"""Builds the kernels with zig's C compiler: native shared libraries and WebAssembly modules.

Not a general build system: one file in, one file out. Native libraries are kept in ``.build/``
under a digest of everything that went into them; modules are committed beside their sources.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path

from benchmarks.catalogue import Kernel
from benchmarks.errors import BenchmarkError
from benchmarks.machine import processor_name

__all__ = [
    "BUILD_FOLDER",
    "NATIVE_FLAGS",
    "WASM_FLAGS",
    "build_native",
    "build_native_file",
    "build_wasm",
    "compile_c",
    "wasm_flags",
    "zig_version",
]

BUILD_FOLDER = Path(__file__).parent / ".build"

# What both sides share. WebAssembly has no fused multiply-add, so native code gets none either:
# the checksums must agree.
_COMMON = (
    "-O3",
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-g0",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-sanitize=undefined",
)

NATIVE_FLAGS = (*_COMMON, "-shared", "-fPIC", "-fvisibility=hidden")

# WebAssembly 2.0 without SIMD; nothing that came later. The kernels that are about SIMD add it.
_WASM_FEATURES = "mvp+bulk_memory+multivalue+mutable_globals+nontrapping_fptoint+sign_ext"

WASM_FLAGS = (
    *_COMMON,
    "-target",
    "wasm32-freestanding",
    "-nostdlib",
    "-Wl,--no-entry",
    "-Wl,--strip-debug",
    "-Wl,-z,stack-size=65536",
)


@cache
def zig_version() -> str | None:
    """The version of the ``ziglang`` package, or None if it is not installed."""
    if importlib.util.find_spec("ziglang") is None:
        return None
    return importlib.metadata.version("ziglang")


def wasm_flags(simd: bool = False) -> tuple[str, ...]:
    """What a module is built with."""
    return (*WASM_FLAGS, f"-mcpu={_WASM_FEATURES}{'+simd128' if simd else ''}")


def compile_c(flags: tuple[str, ...], source: Path, target: Path) -> None:
    """Run the compiler on one file; the target appears whole or not at all.

    Raises:
        BenchmarkError: zig is missing or the source does not compile.
    """
    if zig_version() is None:
        raise BenchmarkError("building C takes zig's compiler: pip install ziglang")
    unfinished = target.with_suffix(".unfinished")
    command = [sys.executable, "-m", "ziglang", "cc", *flags, "-o", str(unfinished), source.name]
    # From the source's folder, so that no path of this machine gets into the output.
    done = subprocess.run(command, cwd=source.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{source.name} does not build:\n{done.stderr.strip()}")
    unfinished.replace(target)


def build_native(kernel: Kernel, cpu: str) -> Path:
    """The kernel as a shared library for ``cpu`` ("baseline" or "native"), built when needed.

    Raises:
        BenchmarkError: zig is missing or the source does not compile.
    """
    flags = (*NATIVE_FLAGS, f"-mcpu={cpu}")
    return _kept(kernel.source, kernel.headers, flags, cpu)


def build_native_file(source: Path) -> Path:
    """Any one C file as a shared library for the baseline CPU, built when needed.

    Raises:
        BenchmarkError: zig is missing or the source does not compile.
    """
    return _kept(source, (), (*NATIVE_FLAGS, "-mcpu=baseline"), "baseline")


def _kept(source: Path, headers: tuple[Path, ...], flags: tuple[str, ...], cpu: str) -> Path:
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in (source, *headers)))
    digest.update(
        repr((flags, zig_version(), processor_name() if cpu == "native" else "")).encode()
    )
    target = BUILD_FOLDER / f"{source.stem}-{cpu}-{digest.hexdigest()[:16]}.so"
    if not target.exists():
        BUILD_FOLDER.mkdir(exist_ok=True)
        compile_c(flags, source, target)
    return target


def build_wasm(kernel: Kernel) -> None:
    """Rebuild the committed module from its source.

    Raises:
        BenchmarkError: zig is missing or the source does not compile.
    """
    compile_c(wasm_flags(kernel.simd), kernel.source, kernel.wasm)
