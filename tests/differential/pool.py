"""Runs cases in worker processes, so that a crash or an endless run is a finding, not the end."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from tests.differential.cases import Case
from tests.differential.check import Verdict, VerdictKind

__all__ = ["code_cache", "run_cases"]

_ROOT = Path(__file__).resolve().parents[2]
# One module in all modes; LLVM needs seconds for the largest.
_TIMEOUT_S = 120.0


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="wasinn-differential-cache-")


def code_cache() -> Path:
    """A folder for the compiled code of all workers, as long as this process lives."""
    return Path(_folder().name)


class _Worker:
    """A process, made anew whenever it is gone."""

    def __init__(self, modes: Sequence[str], cache: Path | None) -> None:
        self._modes = modes
        self._cache = cache or code_cache()
        self._process: subprocess.Popen[str] | None = None

    def run(self, case: Case) -> Verdict:
        process = self._process
        if process is None:
            process = self._process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        asked = {"source": case.source, "seed": case.seed, "features": sorted(case.features)}
        too_long = threading.Timer(_TIMEOUT_S, process.kill)
        too_long.start()
        try:
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            too_long.cancel()
        if line:
            answer = json.loads(line)
            return Verdict(VerdictKind(answer["kind"]), answer["why"], answer["steps"])
        code = process.wait()
        self.close()
        # Signal 9 is our own, after the time given above.
        why = f"no end in {_TIMEOUT_S:.0f} s" if code == -9 else f"the process ended with {code}"
        return Verdict(VerdictKind.CRASHED, why)

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.differential.worker"]
        command += [str(self._cache), *self._modes]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT
        )

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.wait()
            self._process = None


def run_cases(
    cases: Iterable[Case],
    modes: Sequence[str],
    jobs: int,
    tell: Callable[[Case, Verdict], None],
    cache: Path | None = None,
) -> None:
    """Run all cases, ``jobs`` at a time.

    Args:
        cases: what to run.
        modes: of our engine.
        jobs: how many processes.
        tell: told of each verdict, by one thread at a time, in any order.
        cache: where compiled code is kept; without, as long as this process lives.
    """
    waiting: queue.SimpleQueue[Case | None] = queue.SimpleQueue()
    for case in cases:
        waiting.put(case)
    for _ in range(jobs):
        waiting.put(None)
    telling = threading.Lock()
    failures: list[BaseException] = []

    def work() -> None:
        worker = _Worker(modes, cache)
        try:
            while (case := waiting.get()) is not None and not failures:
                verdict = worker.run(case)
                with telling:
                    tell(case, verdict)
        except BaseException as error:
            failures.append(error)
        finally:
            worker.close()

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
