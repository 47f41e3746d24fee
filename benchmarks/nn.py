"""The neural table: MiniLM through guest and WASI-NN against each bare library.

Both run the same file in one process with the same number of threads and take turns. The guest
times each of its inferences itself, from the tensors in its memory to the pooled vector; the bare
library is timed around the one call that computes, so everything the sandbox adds is counted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
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
from wasinn_models import ResolvedModel, resolve

__all__ = ["GUEST", "INFERENCES", "measure_nn"]

_BAR = 1.03
INFERENCES = 50
_TOKENS = 16
_WARM_UP = 5
GUEST = ROOT / "examples" / "semantic-search" / "semantic-search.wasm"


@dataclass(frozen=True)
class _Library:
    """One library, bare and behind a backend plugin.

    Attributes:
        model: the stored model's name.
        encoding: what the plugin reads it as.
        prepare: loads a file for so many threads; the result computes once with `_feeds`.
    """

    model: str
    encoding: str
    prepare: Callable[[Path, int], Callable[[], object]]


def _feeds() -> dict[str, NDArray[np.int64]]:
    """One row of 16 tokens for each input: int64 [1, 16]. The values do not change the time."""
    ones = np.ones((1, _TOKENS), dtype=np.int64)
    ids = np.arange(2000, 2000 + _TOKENS, dtype=np.int64)[None, :]
    return {"input_ids": ids, "attention_mask": ones, "token_type_ids": 0 * ones}


def _onnx(model: Path, threads: int) -> Callable[[], object]:
    """A session as the onnx backend makes it: these threads, all graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    feeds: dict[str, Any] = dict(_feeds())
    return lambda: session.run(None, feeds)


def _openvino(model: Path, threads: int) -> Callable[[], object]:
    from wasinn_backends.openvino import import_openvino

    core = import_openvino().Core()
    config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(str(model), "CPU", config).create_infer_request()
    feeds = _feeds()
    return lambda: request.infer(feeds)


def _tflite(model: Path, threads: int) -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(model), num_threads=threads)
    numbers = {each["name"]: each["index"] for each in interpreter.get_input_details()}
    output = interpreter.get_output_details()[0]["index"]
    feeds = _feeds()
    for name, array in feeds.items():
        interpreter.resize_tensor_input(numbers[name], array.shape)
    interpreter.allocate_tensors()

    def run() -> object:
        for name, array in feeds.items():
            interpreter.set_tensor(numbers[name], array)
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return run


def _torch(model: Path, threads: int) -> Callable[[], object]:
    import torch

    torch.set_num_threads(threads)
    module = torch.jit.load(str(model))  # type: ignore[no-untyped-call]
    tensors = [torch.from_numpy(array) for array in _feeds().values()]

    def run() -> object:
        with torch.inference_mode():
            return module(*tensors)

    return run


_LIBRARIES = {
    "onnx": _Library("minilm", "onnx", _onnx),
    "openvino": _Library("minilm", "onnx", _openvino),
    "tflite": _Library("minilm:tflite", "tensorflowlite", _tflite),
    "torch": _Library("minilm:torchscript", "pytorch", _torch),
}


def _bare(compute: Callable[[], object], inferences: int) -> Callable[[], Sample]:
    """Computes many times; the sample's wall time is the median of one."""

    def run() -> Sample:
        cpu = time.process_time()
        taken_ns = []
        for i in range(_WARM_UP + inferences):
            start = time.perf_counter_ns()
            compute()
            if i >= _WARM_UP:
                taken_ns.append(time.perf_counter_ns() - start)
        each_cpu = (time.process_time() - cpu) / (_WARM_UP + inferences)
        return Sample(statistics.median(taken_ns) / 1e9, each_cpu)

    return run


def _guest(
    backend: str, library: _Library, model: ResolvedModel, threads: int, inferences: int
) -> Callable[[], Sample]:
    """Runs the guest, which does the same and prints its median in nanoseconds."""
    host = Host(
        backend_options={backend: {"threads": str(threads)}},
        backend_routes={library.encoding: backend},
    )
    host.preload(f"minilm:{library.encoding}:cpu:{model.path}")
    vocabulary = model.directory / "vocab.txt"
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
    """One row of 16 tokens, many times, in the guest and bare, with each library.

    Args:
        rounds: how often each side measures.
        threads: of each library, the same on both sides.
        inferences: in one measurement, of which the median counts.

    Raises:
        BenchmarkError: the guest fails.
        WasinnError: the model is not there and can not be fetched.
    """
    pairs: dict[str, dict[str, Callable[[], Sample]]] = {}
    for name, library in _LIBRARIES.items():
        model = resolve(library.model)
        pairs[name] = {
            "guest, WASI-NN": _guest(name, library, model, threads, inferences),
            "bare library": _bare(library.prepare(model.path, threads), inferences),
        }
    measured = {name: _measured(pair, rounds) for name, pair in pairs.items()}
    ratios = {
        name: median_ratio(taken["guest, WASI-NN"].wall_s, taken["bare library"].wall_s)
        for name, taken in measured.items()
    }
    return Result(
        name="nn",
        table=Table(
            title=(
                f"MiniLM, one row of {_TOKENS} tokens, {threads} thread"
                f"{'s' if threads > 1 else ''}, {rounds} rounds of {inferences}"
            ),
            headings=("backend", "way", "median", "fastest", "slowest"),
            rows=tuple(
                (name, way, *_cells(samples))
                for name, taken in measured.items()
                for way, samples in taken.items()
            ),
        ),
        bars=tuple(
            Bar(f"{name}: guest and WASI-NN over the bare library", ratio, _BAR)
            for name, ratio in ratios.items()
        ),
        data={
            "rounds": rounds,
            "threads": threads,
            "inferences": inferences,
            "tokens": _TOKENS,
            "times": {
                name: {way: samples.to_json() for way, samples in taken.items()}
                for name, taken in measured.items()
            },
            "ratios": dict(ratios),
        },
    )


def _measured(pair: dict[str, Callable[[], Sample]], rounds: int) -> dict[str, Samples]:
    for warm_up in pair.values():
        warm_up()
    return interleave(pair, rounds)


def _cells(samples: Samples) -> tuple[str, ...]:
    wall = samples.wall_s
    return tuple(f"{t * 1000:.2f} ms" for t in (statistics.median(wall), min(wall), max(wall)))
