"""A process that runs kernels in one way and is told what to do, a line of JSON at a time.

    python -m benchmarks.worker native|wasmtime|wasm3|MODE [--no-cache]

``{"load": path}`` answers ``{"s": wall time}``; ``{"run": n}`` answers ``{"value": checksum as
text, "wall_s": .., "cpu_s": ..}``; what fails answers ``{"error": why}`` and leaves the worker
usable. It compares nothing: that is for the one who asks (``contestants``).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import timed
from benchmarks.report import Json
from benchmarks.runners import NativeRunner, Run, Runner, WasinnRunner, Wasm3Runner, WasmtimeRunner

__all__ = ["serve"]

_RUNNERS: dict[str, Callable[[], Runner]] = {
    "native": NativeRunner,
    "wasmtime": WasmtimeRunner,
    "wasm3": Wasm3Runner,
}


class _Worker:
    """The current kernel, if one is loaded."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._run: Run | None = None

    def answer(self, request: dict[str, Json]) -> dict[str, Json]:
        if "load" in request:
            self._run = None
            start = time.perf_counter()
            self._run = self._runner.load(Path(str(request["load"])))
            return {"s": time.perf_counter() - start}
        run, n = self._run, request["run"]
        if run is None or not isinstance(n, int):
            raise ValueError("nothing is loaded")
        results: list[int] = []
        sample = timed(lambda: results.append(run(n)))
        return {"value": str(results[0]), "wall_s": sample.wall_s, "cpu_s": sample.cpu_s}


def serve(runner: Runner) -> None:
    """Answer requests until there are no more."""
    worker = _Worker(runner)
    for line in sys.stdin:
        try:
            reply = worker.answer(json.loads(line))
        except Exception as error:
            # Whatever an engine says against a kernel is an answer, its words are for the table.
            reply = {"error": f"{error}" or type(error).__name__}
        print(json.dumps(reply), flush=True)


def main(arguments: list[str]) -> None:
    """Serve the way to run that the arguments name."""
    way, *options = arguments
    make = _RUNNERS.get(way)
    serve(make() if make is not None else WasinnRunner(way, cache="--no-cache" not in options))


if __name__ == "__main__":
    main(sys.argv[1:])
