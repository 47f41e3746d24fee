"""Who runs a kernel, each in a process of its own: native code, the peers, and wasinn's modes.

A contestant that is not installed, or that can not run a kernel, says so (``NotRun``) and is left
out; a wrong checksum is not its affair but the measuring one's (``field``).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.catalogue import Kernel
from benchmarks.errors import BenchmarkError, NotRun
from benchmarks.idle import idle_module
from benchmarks.machine import peer_program
from benchmarks.measure import Sample
from benchmarks.processes import ROOT, children_cpu_s, source_environment
from benchmarks.runners import has_wasm3
from benchmarks.toolchain import BUILD_FOLDER, build_native, zig_version
from wasinn_runtime.engines.modes import MODES

__all__ = [
    "COMPILED_MODES",
    "INTERPRETED_MODES",
    "Contestant",
    "WamrContestant",
    "WorkerContestant",
    "contestant",
]

INTERPRETED_MODES = ("fast-interp", "interp")
COMPILED_MODES = ("llvm-jit", "aot", "auto", "fast-jit")

_TIMEOUT_S = 300.0


class Contestant(Protocol):
    """Runs one kernel at a time."""

    @property
    def name(self) -> str:
        """Its column's heading."""

    def load(self, kernel: Kernel) -> float:
        """Prepare a kernel; the wall time it took, in seconds.

        Raises:
            NotRun: it can not.
        """

    def run(self, n: int) -> tuple[int, Sample]:
        """The checksum, and what it took.

        Raises:
            NotRun: it can not.
        """

    def close(self) -> None:
        """End what was started."""


def _module(kernel: Kernel) -> Path:
    if not kernel.wasm.exists():
        raise BenchmarkError(
            f"{kernel.wasm.name} is missing; `python -m benchmarks build` makes it"
        )
    return kernel.wasm


@dataclass
class WorkerContestant:
    """A worker process that is asked over a pipe; started when needed, again if it died.

    Attributes:
        name: its column's heading.
        command: what starts the worker.
        file: which file of a kernel it loads.
    """

    name: str
    command: Sequence[str]
    file: Callable[[Kernel], Path] = _module
    _process: subprocess.Popen[str] | None = None

    def load(self, kernel: Kernel) -> float:
        """See ``Contestant``."""
        return self.load_file(self.file(kernel))

    def load_file(self, file: Path) -> float:
        """The same with any file that exports ``run``."""
        return _number(self._ask({"load": str(file)}), "s")

    def run(self, n: int) -> tuple[int, Sample]:
        """See ``Contestant``."""
        reply = self._ask({"run": n})
        return int(str(reply["value"])), Sample(_number(reply, "wall_s"), _number(reply, "cpu_s"))

    def close(self) -> None:
        """See ``Contestant``."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _ask(self, request: dict[str, str | int]) -> dict[str, object]:
        process = self._process
        if process is None:
            process = self._process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=source_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert process.stdin is not None
        assert process.stdout is not None
        stop = threading.Timer(_TIMEOUT_S, process.kill)
        stop.start()
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            stop.cancel()
        if not line:
            status = process.wait()
            self.close()
            raise NotRun(f"its process ended with {status}")
        reply: dict[str, object] = json.loads(line)
        if "error" in reply:
            raise NotRun(str(reply["error"]))
        return reply


def _number(reply: dict[str, object], key: str) -> float:
    value = reply[key]
    assert isinstance(value, int | float)
    return float(value)


@dataclass
class WamrContestant:
    """WAMR's ``iwasm`` on a module, or on what ``wamrc`` made of it: one process for each run.

    The process's start is taken off: what a module takes that does nothing, the least of five.

    Attributes:
        name: its column's heading.
        iwasm: the program.
        wamrc: the compiler; None runs the module itself.
    """

    name: str
    iwasm: str
    wamrc: str | None = None
    _file: Path | None = None
    _start: Sample | None = None

    def load(self, kernel: Kernel) -> float:
        """See ``Contestant``."""
        module = _module(kernel)
        if self._start is None:
            BUILD_FOLDER.mkdir(exist_ok=True)
            empty = BUILD_FOLDER / "empty.wasm"
            empty.write_bytes(idle_module(1))
            file = self._compiled(empty)
            samples = [_iwasm(self.iwasm, file, 0)[1] for _ in range(5)]
            self._start = min(samples, key=lambda sample: sample.cpu_s)
        start = time.perf_counter()
        self._file = self._compiled(module)
        return time.perf_counter() - start

    def run(self, n: int) -> tuple[int, Sample]:
        """See ``Contestant``."""
        assert self._start is not None
        assert self._file is not None
        value, sample = _iwasm(self.iwasm, self._file, n)
        wall = max(sample.wall_s - self._start.wall_s, 1e-6)
        return value, Sample(wall, max(sample.cpu_s - self._start.cpu_s, 1e-6))

    def close(self) -> None:
        """See ``Contestant``."""

    def _compiled(self, module: Path) -> Path:
        if self.wamrc is None:
            return module
        target = BUILD_FOLDER / f"{module.stem}.wamr"
        _output([self.wamrc, "--opt-level=3", "-o", str(target), str(module)])
        return target


def _iwasm(program: str, file: Path, n: int) -> tuple[int, Sample]:
    """Run one file's ``run``: its result, and what the whole process took."""
    before = children_cpu_s()
    start = time.perf_counter()
    output = _output([program, "--stack-size=1048576", "-f", "run", str(file), str(n)])
    sample = Sample(time.perf_counter() - start, children_cpu_s() - before)
    found = re.search(r"(0x[0-9a-f]+|-?\d+):i64", output)
    if found is None:
        raise NotRun(f"iwasm printed {output.strip()[:200]!r}")
    value = int(found[1], 0)
    return value - (1 << 64) if value >= 1 << 63 else value, sample


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotRun(str(error)) from error
    if done.returncode:
        raise NotRun(f"{Path(command[0]).name}: {(done.stdout + done.stderr).strip()[:200]}")
    return done.stdout


def _worker(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.worker", *arguments]


def contestant(name: str) -> Contestant:
    """The contestant of this name.

    Args:
        name: "native", "native tuned", "wasmtime", "node", "wasm3", "WAMR", "WAMR AOT" or one of
            wasinn's modes.

    Raises:
        NotRun: it is not there; the message says what is missing.
    """
    if name in ("native", "native tuned"):
        if zig_version() is None:
            raise NotRun("ziglang is not installed")
        cpu = "baseline" if name == "native" else "native"
        return WorkerContestant(name, _worker("native"), lambda kernel: build_native(kernel, cpu))
    if name == "node":
        node = shutil.which("node")
        if node is None:
            raise NotRun("there is no `node` on the path")
        script = Path(__file__).parent / "scripts" / "node_worker.js"
        return WorkerContestant(name, [node, str(script)])
    if name == "wasm3" and not has_wasm3():
        raise NotRun("pywasm3 is not installed")
    if name in ("wasmtime", "wasm3"):
        return WorkerContestant(name, _worker(name))
    if name in ("WAMR", "WAMR AOT"):
        compiler = peer_program("wamrc") if name == "WAMR AOT" else None
        return WamrContestant(name, peer_program("iwasm"), compiler)
    if name not in MODES:
        raise NotRun(f"this version's modes are {', '.join(MODES)}")
    return WorkerContestant(name, _worker(name))
