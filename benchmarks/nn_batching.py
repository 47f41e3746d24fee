"""The batching table: many guests at once on one graph, with batching over without it.

Once on a device that takes 5 ms for each call, whatever its size, and does one at a time; once with
MiniLM on ONNX Runtime's CPU, which gains nothing from batches and must not lose.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks.errors import BenchmarkError
from benchmarks.measure import Sample, interleave, median_ratio, timed
from benchmarks.nn import GUEST
from benchmarks.nn_calls import SOURCE
from benchmarks.report import Bar, Result, Table
from wasinn_host import Config, Host
from wasinn_host.nn import Target
from wasinn_host.nn.batching import Batching
from wasinn_host.nn.plugin import (
    Backend,
    Device,
    ExecutionContext,
    Graph,
    ModelSource,
    Tensor,
    TensorSpec,
    TensorType,
)
from wasinn_models import resolve

__all__ = ["FixedCost", "nn_batching_table"]

_COST_S = 0.005
_BYTES = 256
_TIMES_FASTER = 12.0
_NEVER_BELOW = 0.97
_SPECS = (TensorSpec("bytes", TensorType.U8, (None,)),)


class FixedCost(Backend):
    """Gives back what it gets, after 5 ms, and one call at a time."""

    api_version = 1
    encodings = frozenset({"fixed-cost"})

    def devices(self) -> Sequence[Device]:
        return (Device("device", Target.CPU, "5 ms for each call"),)

    def load(self, source: ModelSource, device: Device) -> Graph:
        return _Graph()


class _Graph(Graph):
    def __init__(self) -> None:
        self.device = threading.Lock()

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return _SPECS

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return _SPECS

    def create_context(self) -> ExecutionContext:
        return _Context(self)


class _Context(ExecutionContext):
    def __init__(self, graph: _Graph) -> None:
        self.graph = graph
        self.tensor = Tensor(TensorType.U8, (0,), memoryview(b""))

    def set_input(self, index: int, tensor: Tensor) -> None:
        self.tensor = Tensor(tensor.type, tensor.shape, memoryview(bytes(tensor.data)))

    def compute(self) -> None:
        with self.graph.device:
            time.sleep(_COST_S)

    def get_output(self, index: int) -> Tensor:
        return self.tensor


Work = Callable[[], None]


def _on_fixed_cost(stack: ExitStack, batching: Batching | None, guests: int, times: int) -> Work:
    host = stack.enter_context(Host(Config("llvm-jit"), batching=batching))
    host.backends.add("fixed-cost", FixedCost)
    host.graphs.register("echo", "fixed-cost", Target.CPU, builders=[b"model"])
    module = host.load(SOURCE.with_suffix(".wasm"))
    opened = [stack.enter_context(host.open(module)) for _ in range(guests)]
    for guest in opened:
        if guest.call("open") != 0:
            raise BenchmarkError("a guest can not open the model echo")
    pool = stack.enter_context(ThreadPoolExecutor(guests))

    def work() -> None:
        ended = [pool.submit(guest.call, "run", times, _BYTES) for guest in opened]
        if any(each.result() != 0 for each in ended):
            raise BenchmarkError("a call of a guest failed")

    return work


def _on_minilm(stack: ExitStack, batching: Batching | None, guests: int, times: int) -> Work:
    model = resolve("minilm")
    host = stack.enter_context(Host(batching=batching, backend_options={"onnx": {"threads": "1"}}))
    host.preload(f"minilm:onnx:cpu:{model.path}")
    module = host.load(GUEST)
    arguments = ["--vocab", "/model/vocab.txt", "--model", "minilm", "--bench", str(times)]
    pool = stack.enter_context(ThreadPoolExecutor(guests))

    def run() -> int:
        dirs = {"/model": str(model.directory)}
        return host.run(module, arguments, dirs=dirs, capture_output=True).exit_code

    def work() -> None:
        if any(each.result() for each in [pool.submit(run) for _ in range(guests)]):
            raise BenchmarkError("a guest failed")

    return work


def nn_batching_table(
    rounds: int, guests: int = 32, times: int = 10, minilm_guests: int = 4, minilm_times: int = 30
) -> Result:
    """Wall time of all guests together.

    Args:
        rounds: how often each way is measured.
        guests: at a time on the device of fixed cost, each
        times: inferences.
        minilm_guests: at a time on MiniLM, each
        minilm_times: inferences.

    Raises:
        BenchmarkError: a guest fails.
        WasinnError: MiniLM is not there and can not be fetched.
    """
    rows = []
    ratios = []
    for what, make, count, each in (
        ("5 ms for each call", _on_fixed_cost, guests, times),
        ("MiniLM, ONNX Runtime", _on_minilm, minilm_guests, minilm_times),
    ):
        with ExitStack() as stack:
            works = {
                "without": make(stack, None, count, each),
                "with": make(stack, Batching(), count, each),
            }
            contestants = {name: _timed(work) for name, work in works.items()}
            for warm_up in contestants.values():
                warm_up()
            samples = interleave(contestants, rounds)
        ratio = median_ratio(samples["without"].wall_s, samples["with"].wall_s)
        ratios.append(ratio)
        walls = [statistics.median(samples[name].wall_s) for name in works]
        rows.append((what, str(count), *(f"{s:.2f} s" for s in walls), f"{ratio:.2f}"))
    return Result(
        name="nn-batching",
        table=Table(
            title=f"Guests at a time on one graph, without and with batching, {rounds} rounds",
            headings=("graph", "guests", "without", "with", "times faster"),
            rows=tuple(rows),
        ),
        bars=(
            Bar("5 ms for each call: times faster", ratios[0], _TIMES_FASTER, "x", True),
            Bar("MiniLM: times faster", ratios[1], _NEVER_BELOW, "x", True),
        ),
        data={"rounds": rounds, "guests": guests, "ratios": list(ratios)},
    )


def _timed(work: Work) -> Callable[[], Sample]:
    return lambda: timed(work)
