"""Builds the large guests: generated C, compiled once by zig in many units and kept in ``.build/``.

The large guest is a WASI command of about 20 MB that prints one line and uses few of its functions.
The middle one needs no imports; its ``run`` calls every function once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import generator
from benchmarks.errors import BenchmarkError
from benchmarks.generator import Program
from benchmarks.toolchain import BUILD_FOLDER, compile_c, wasm_flags, zig_version

__all__ = ["Guest", "large_guest", "middle_guest"]

_COMMON = ("-O2", "-std=c11", "-w", "-g0", "-fno-sanitize=undefined")

_WASI_MAIN = """\
#include <inttypes.h>
#include <stdio.h>
uint64_t call_some(int32_t n);
int main(int argc, char **argv) {
    (void)argv;
    printf("%" PRIx64 "\\n", call_some(argc));
    return 0;
}
"""

_RUN = """\
#include <stdint.h>
uint64_t call_some(int32_t n);
__attribute__((export_name("run"))) int64_t run(int32_t n) { return (int64_t)call_some(n); }
"""


@dataclass(frozen=True, slots=True)
class Guest:
    """A generated module.

    Attributes:
        name: for tables; with its size.
        file: the module.
        n: what to pass to ``run``, if it has one.
    """

    name: str
    file: Path
    n: int = 1


def large_guest(units: int = 80, functions: int = 150) -> Guest:
    """The WASI command, about 20 MB with its defaults; building it takes minutes the first time.

    Raises:
        BenchmarkError: zig is missing or fails.
    """
    program = Program(units, functions)
    step = max(1, units * functions // 40)
    target = ("-target", "wasm32-wasi", "-Wl,--no-gc-sections", "-Wl,--strip-debug")
    file = _built("large", program, program.caller(step, 200), _WASI_MAIN, target)
    return Guest(f"large guest, {file.stat().st_size / 1e6:.1f} MB", file)


def middle_guest(units: int = 2, functions: int = 40) -> Guest:
    """The module without imports; some seconds of work for LLVM.

    Raises:
        BenchmarkError: zig is missing or fails.
    """
    program = Program(units, functions, seed=7)
    file = _built("middle", program, program.caller(1, 1), _RUN, wasm_flags())
    return Guest(f"middle guest, {file.stat().st_size / 1e6:.2f} MB", file)


def _built(name: str, program: Program, caller: str, main: str, target: tuple[str, ...]) -> Path:
    flags = (*_COMMON, *target)
    sources: list[tuple[str, Callable[[], str]]] = [
        (f"unit{number}.c", partial(program.unit, number)) for number in range(program.units)
    ]
    sources += [("caller.c", lambda: caller), ("main.c", lambda: main)]
    digest = hashlib.sha256(Path(generator.__file__).read_bytes())
    digest.update(repr((flags, program.units, caller, main, zig_version())).encode())
    result = BUILD_FOLDER / f"{name}-{digest.hexdigest()[:16]}.wasm"
    if result.exists():
        return result
    if sys.stderr.isatty():
        print(f"building the {name} guest from generated C ...", file=sys.stderr)
    BUILD_FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD_FOLDER) as scratch:
        folder = Path(scratch)
        compile_flags = tuple(flag for flag in flags if not flag.startswith("-Wl,"))

        def compile_unit(source: tuple[str, Callable[[], str]]) -> Path:
            file_name, text = source
            path = folder / file_name
            path.write_text(text(), encoding="utf-8")
            compile_c((*compile_flags, "-c"), path, path.with_suffix(".o"))
            return path.with_suffix(".o")

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            objects = list(pool.map(compile_unit, sources))
        linked = folder / "linked.wasm"
        names = [path.name for path in objects]
        command = [sys.executable, "-m", "ziglang", "cc", *flags, "-o", linked.name, *names]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchmarkError(f"the {name} guest does not link:\n{done.stderr.strip()[:2000]}")
        shutil.move(linked, result)
    return result
