"""The neural table: MiniLM through guest and WASI-NN against a bare ONNX Runtime session.

Both run the same file in one process with the same number of threads and take turns. The guest
times each of its inferences itself, from the tensors in its memory to the pooled vector; the bare
session is timed around ``InferenceSession.run`` alone, so everything the sandbox adds is counted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.errors import BenchmarkError
from benchmarks.measure import Sample, Samples, interleave, median_ratio
from benchmarks.processes import ROOT
from benchmarks.report import Bar, Result, Table
from wasinn_host import Host
from wasinn_models import resolve

__all__ = ["GUEST", "INFERENCES", "measure_nn"]

_BAR = 1.05
INFERENCES = 50
_TOKENS = 16
_WARM_UP = 5
GUEST = ROOT / "examples" / "semantic-search" / "semantic-search.wasm"


def _session(model: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session as the onnx backend makes it: these threads, all graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _feeds(session: onnxruntime.InferenceSession) -> dict[str, NDArray[np.int64]]:
    """One row of 16 tokens for each input: int64 [1, 16]. The values do not change the time."""
    feeds = {}
    for value in session.get_inputs():
        if value.type != "tensor(int64)":
            raise BenchmarkError(f"input {value.name} is {value.type}, expected tensor(int64)")
        fill = 0 if "type" in value.name else 1
        feeds[value.name] = np.full((1, _TOKENS), fill, dtype=np.int64)
    if "input_ids" in feeds:
        feeds["input_ids"] = np.arange(2000, 2000 + _TOKENS, dtype=np.int64)[None, :]
    return feeds


def _bare(model: Path, threads: int, inferences: int) -> Callable[[], Sample]:
    """Runs a bare session many times; the sample's wall time is the median of one inference."""
    session = _session(model, threads)
    feeds: dict[str, Any] = dict(_feeds(session))

    def run() -> Sample:
        cpu = time.process_time()
        taken_ns = []
        for i in range(_WARM_UP + inferences):
            start = time.perf_counter_ns()
            session.run(None, feeds)
            if i >= _WARM_UP:
                taken_ns.append(time.perf_counter_ns() - start)
        each_cpu = (time.process_time() - cpu) / (_WARM_UP + inferences)
        return Sample(statistics.median(taken_ns) / 1e9, each_cpu)

    return run


def _guest(model: Path, vocabulary: Path, threads: int, inferences: int) -> Callable[[], Sample]:
    """Runs the guest, which does the same and prints its median in nanoseconds."""
    host = Host(backend_options={"onnx": {"threads": str(threads)}})
    host.preload(f"minilm:onnx:cpu:{model}")
    module = host.load(GUEST)
    arguments = ["--vocab", f"/model/{vocabulary.name}", "--model", "minilm"]
    arguments += ["--bench", str(inferences)]

    def run() -> Sample:
        cpu = time.process_time()
        ended = host.run(
            module, arguments, dirs={"/model": str(vocabulary.parent)}, capture_output=True
        )
        each_cpu = (time.process_time() - cpu) / (_WARM_UP + inferences)
        if ended.exit_code or ended.stdout is None:
            said = (ended.stderr or b"").decode(errors="replace")
            raise BenchmarkError(f"the guest ended with {ended.exit_code}: {said}")
        return Sample(int(ended.stdout) / 1e9, each_cpu)

    return run


def measure_nn(rounds: int, threads: int, inferences: int = INFERENCES) -> Result:
    """One row of 16 tokens, many times, in the guest and bare.

    Args:
        rounds: how often each side measures.
        threads: of ONNX Runtime, the same on both sides.
        inferences: in one measurement, of which the median counts.

    Raises:
        BenchmarkError: the guest fails.
        WasinnError: the model is not there and can not be fetched.
    """
    model = resolve("minilm")
    contestants = {
        "guest, WASI-NN": _guest(model.path, model.directory / "vocab.txt", threads, inferences),
        "InferenceSession.run": _bare(model.path, threads, inferences),
    }
    for warm_up in contestants.values():
        warm_up()
    samples = interleave(contestants, rounds)
    guest, bare = samples["guest, WASI-NN"], samples["InferenceSession.run"]
    ratio = median_ratio(guest.wall_s, bare.wall_s)
    return Result(
        name="nn",
        table=Table(
            title=(
                f"MiniLM, one row of {_TOKENS} tokens, {threads} thread"
                f"{'s' if threads > 1 else ''}, {rounds} rounds of {inferences}"
            ),
            headings=("way", "median", "fastest", "slowest"),
            rows=tuple((name, *_cells(s)) for name, s in samples.items()),
        ),
        bars=(Bar("guest and WASI-NN over a bare session", ratio, _BAR),),
        data={
            "rounds": rounds,
            "threads": threads,
            "inferences": inferences,
            "tokens": _TOKENS,
            "times": {name: s.to_json() for name, s in samples.items()},
            "ratio": ratio,
        },
    )


def _cells(samples: Samples) -> tuple[str, ...]:
    wall = samples.wall_s
    return tuple(f"{t * 1000:.2f} ms" for t in (statistics.median(wall), min(wall), max(wall)))
