"""Limits on what a guest computes and on configured graphs, and how the user names all limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.nn.fake_guest import FakeInterrupt, Guest
from tests.nn.streaming_backend import StreamingBackend
from wasinn_host.nn import BackendRegistry, GraphRegistry, NnContext, NnLimits
from wasinn_host.nn.compute_budget import ComputeBudget
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.plugin import (
    Backend,
    Device,
    ExecutionContext,
    Graph,
    ModelSource,
    Target,
    Tensor,
    TensorSpec,
)
from wasinn_runtime.errors import UsageError


class Waiting(ExecutionContext):
    """Computes until it is cancelled or told to end."""

    running = 0
    most = 0
    ends = threading.Event()
    _count = threading.Lock()

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def set_input(self, index: int, tensor: Tensor) -> None: ...

    def compute(self) -> None:
        with Waiting._count:
            Waiting.running += 1
            Waiting.most = max(Waiting.most, Waiting.running)
        try:
            until = time.monotonic() + 30
            while not Waiting.ends.is_set() and time.monotonic() < until:
                if self.cancelled.wait(0.002):
                    raise WasiNnError(ErrorKind.RUNTIME_ERROR, "cancelled")
        finally:
            with Waiting._count:
                Waiting.running -= 1

    def get_output(self, index: int) -> Tensor:
        raise NotImplementedError

    def cancel(self) -> None:
        self.cancelled.set()


class WaitingGraph(Graph):
    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return ()

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return ()

    def create_context(self) -> ExecutionContext:
        return Waiting()


class WaitingBackend(Backend):
    api_version = 1
    encodings = frozenset({"onnx"})

    def devices(self) -> Sequence[Device]:
        return (Device("cpu", Target.CPU, "waits"),)

    def load(self, source: ModelSource, device: Device) -> Graph:
        return WaitingGraph()


@pytest.fixture
def graphs() -> Iterator[GraphRegistry]:
    Waiting.running = Waiting.most = 0
    Waiting.ends.clear()
    backends = BackendRegistry(discover=False)
    backends.add("waiting", WaitingBackend)
    backends.add("ggml", StreamingBackend)
    made = GraphRegistry(backends)
    yield made
    made.close()
    backends.close()


def _contexts(nn: NnContext, count: int) -> list[int]:
    graph = nn.load([memoryview(b"x")], "onnx", Target.CPU)
    return [nn.init_execution_context(graph) for _ in range(count)]


def test_seconds_in_all_end_a_running_computation_and_refuse_the_next(
    graphs: GraphRegistry,
) -> None:
    nn = NnContext(graphs, NnLimits(compute_seconds=0.2))
    first, second = _contexts(nn, 2)
    began = time.monotonic()
    with pytest.raises(WasiNnError, match=r"computations took 0\.\d+ s, its limit is 0\.2 s") as no:
        nn.compute(first)
    assert time.monotonic() - began < 10
    assert no.value.kind is ErrorKind.TOO_LARGE
    with pytest.raises(WasiNnError, match="its limit is") as no:
        nn.compute(second)
    assert no.value.kind is ErrorKind.TOO_LARGE
    assert nn.compute_s is not None
    assert 0.2 <= nn.compute_s < 10
    nn.close()


def test_seconds_of_computations_at_one_time_add_up(graphs: GraphRegistry) -> None:
    nn = NnContext(graphs, NnLimits(compute_seconds=2.0))
    kinds = []

    def run(context: int) -> None:
        with pytest.raises(WasiNnError) as no:
            nn.compute(context)
        kinds.append(no.value.kind)

    began = time.monotonic()
    threads = [threading.Thread(target=run, args=(context,)) for context in _contexts(nn, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    took = time.monotonic() - began
    assert kinds == [ErrorKind.TOO_LARGE] * 4
    assert nn.compute_s is not None
    assert nn.compute_s >= 2.0
    assert took < nn.compute_s  # they ran side by side
    nn.close()


def test_time_that_passes_without_computing_is_not_counted(graphs: GraphRegistry) -> None:
    nn = NnContext(graphs, NnLimits(compute_seconds=1000))
    (context,) = _contexts(nn, 1)
    Waiting.ends.set()
    nn.compute(context)
    time.sleep(0.3)
    nn.compute(context)
    assert nn.compute_s is not None
    assert nn.compute_s < 0.3
    nn.close()


def test_computations_at_a_time_take_turns(graphs: GraphRegistry) -> None:
    nn = NnContext(graphs, NnLimits(computes=2))
    threads = [threading.Thread(target=nn.compute, args=(c,)) for c in _contexts(nn, 6)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 10
    while Waiting.running < 2 and time.monotonic() < until:
        time.sleep(0.002)
    time.sleep(0.05)
    assert Waiting.running == 2
    Waiting.ends.set()
    for thread in threads:
        thread.join(20)
    assert (Waiting.running, Waiting.most) == (0, 2)
    nn.close()


def test_an_interrupt_ends_the_wait_for_a_turn(graphs: GraphRegistry) -> None:
    nn = NnContext(graphs, NnLimits(computes=1))
    running, waiting = _contexts(nn, 2)
    thread = threading.Thread(target=nn.compute, args=(running,))
    thread.start()
    while Waiting.running < 1:
        time.sleep(0.002)
    interrupt = FakeInterrupt()
    threading.Timer(0.05, interrupt.set).start()
    with pytest.raises(WasiNnError, match="the guest is being stopped"):
        nn.compute(waiting, interrupt)
    Waiting.ends.set()
    thread.join(20)
    nn.close()
    interrupt.close()


def test_a_failing_cancel_does_not_end_the_time_keeping() -> None:
    class Failing(Waiting):
        asked = 0

        def cancel(self) -> None:
            self.asked += 1
            if self.asked == 1:
                raise ValueError("not now")
            super().cancel()

    Waiting.ends.clear()
    budget, context = ComputeBudget(None, 0.1), Failing()
    with pytest.raises(WasiNnError, match="its limit is"):
        budget.run(context.compute, context, None)
    assert context.asked >= 2
    budget.close()


def test_configured_graphs_are_limited_until_they_are_given_back(graphs: GraphRegistry) -> None:
    graphs.register("speller", "ggml", Target.CPU, builders=[b"GGUF"])
    nn = NnContext(graphs, NnLimits(configured_graphs=2))
    first, second = (nn.load_by_name("speller", config) for config in (b"{}", b'{"a":1}'))
    with pytest.raises(WasiNnError, match="2 named graphs with a configuration") as no:
        nn.load_by_name("speller", b'{"a":2}')
    assert no.value.kind is ErrorKind.TOO_LARGE
    nn.load_by_name("speller")  # without one it costs the host nothing
    context = nn.init_execution_context(first)
    nn.unload(first)
    with pytest.raises(WasiNnError, match="which is its limit"):
        nn.load_by_name("speller", b'{"a":2}')  # its context still holds the first
    nn.finalize_execution_context(context)
    nn.load_by_name("speller", b'{"a":2}')
    nn.unload(second)
    with pytest.raises(WasiNnError, match="not_found"):
        nn.load_by_name("nobody", b"{}")
    nn.load_by_name("speller", b"{}")
    nn.close()


def test_a_guest_sees_too_large(graphs: GraphRegistry) -> None:
    nn = NnContext(graphs, NnLimits(compute_seconds=0))
    guest = Guest(nn)
    context = guest.open(b"x")
    assert guest.compute(context) == 7
    nn.close()


def test_limits_by_name() -> None:
    assert NnLimits.parse([]) == NnLimits()
    words = ["graphs=3", "model-bytes=64M", "tensor-bytes=1k", "compute-seconds=2.5", "computes=1"]
    assert NnLimits.parse(words) == NnLimits(
        graphs=3, model_bytes=64 << 20, tensor_bytes=1024, compute_seconds=2.5, computes=1
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["graph=1"], r"unknown limit 'graph'; did you mean graphs"),
        (["graphs"], "limit 'graphs': expected a number of 0 or more"),
        (["graphs=-1"], "expected a number of 0 or more"),
        (["graphs=1k"], "expected a number of 0 or more"),
        (["model-bytes=1T"], "or one with k, M or G"),
        (["compute-seconds=soon"], r"expected seconds of 0 or more, for example 2\.5"),
        (["compute-seconds=nan"], "expected seconds"),
        (["compute-seconds=inf"], "expected seconds"),
        (["rank=1", "rank=2"], "there is one for rank already"),
        (["computes=0"], "expected at least 1"),
    ],
)
def test_limits_that_say_nothing_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        NnLimits.parse(words)
