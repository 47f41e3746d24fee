"""Batching: requests of many contexts become one, and each still gets what is its own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import helper

from tests.backends.onnx_models import matmul, model_of, value
from tests.nn.wrong_backends import MODEL, Context, Doubling, Good
from wasinn_backends.onnx import OnnxBackend
from wasinn_host.nn import batching
from wasinn_host.nn.batching import Batching, batched
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.plugin import (
    Cancellable,
    Device,
    ExecutionContext,
    Graph,
    ModelSource,
    Target,
    Tensor,
    TensorSpec,
    TensorType,
)
from wasinn_runtime.errors import UsageError

GUESTS = 8
Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def tensor(array: Array) -> Tensor:
    return Tensor(TensorType.F32, array.shape, array.reshape(-1).view(np.uint8).data)


def floats(data: Tensor) -> Array:
    return np.frombuffer(data.data, np.float32).reshape(data.shape)


def onnx(model: bytes) -> Graph:
    backend = OnnxBackend({"threads": "1"})
    return backend.load(ModelSource("onnx", (model,)), backend.devices()[0])


class Counting(Graph):
    """Counts what a graph's contexts compute, and makes each take a while, one at a time."""

    def __init__(self, graph: Graph, seconds: float = 0.005) -> None:
        self.graph, self.seconds = graph, seconds
        self.rows: list[int] = []
        self.device = threading.Lock()
        self.failing: Callable[[Array], bool] = lambda _x: False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.graph.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.graph.outputs

    def create_context(self) -> ExecutionContext:
        return _Counted(self, self.graph.create_context())

    def close(self) -> None:
        self.graph.close()


class _Counted(ExecutionContext):
    def __init__(self, graph: Counting, inner: ExecutionContext) -> None:
        self.graph, self.inner = graph, inner
        self.x: Array = np.zeros((0, 0), np.float32)
        self.ended = threading.Event()

    def set_input(self, index: int, tensor: Tensor) -> None:
        self.x = floats(tensor).copy()
        self.inner.set_input(index, tensor)

    def compute(self) -> None:
        with self.graph.device:
            if self.graph.failing(self.x):
                raise WasiNnError(ErrorKind.INVALID_ARGUMENT, "a bad row")
            if self.ended.wait(self.graph.seconds):
                raise WasiNnError(ErrorKind.RUNTIME_ERROR, "ended")
            self.graph.rows.append(len(self.x))
            self.inner.compute()

    def get_output(self, index: int) -> Tensor:
        return self.inner.get_output(index)

    def cancel(self) -> None:
        self.ended.set()

    def close(self) -> None:
        self.inner.close()


WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def counting() -> Counting:
    return Counting(onnx(matmul(WEIGHT)))


def asked(graph: Graph, inputs: Sequence[Array], times: int = 3) -> list[list[Array | str]]:
    """What each of many guests gets, all at the same time; words for errors."""
    barrier = threading.Barrier(len(inputs))

    def guest(x: Array) -> list[Array | str]:
        context = graph.create_context()
        barrier.wait()
        found: list[Array | str] = []
        for _ in range(times):
            try:
                context.set_input(0, tensor(x))
                context.compute()
                found.append(floats(context.get_output(0)).copy())
            except WasiNnError as error:
                found.append(error.message)
        context.close()
        return found

    with ThreadPoolExecutor(len(inputs)) as pool:
        return list(pool.map(guest, inputs))


def test_many_guests_share_computations(counting: Counting) -> None:
    graph = batched(counting, Batching(max=GUESTS, wait_s=0.05))
    inputs = [np.full((1 + i % 3, 2), i, np.float32) for i in range(GUESTS)]
    for x, found in zip(inputs, asked(graph, inputs, times=10), strict=True):
        for y in found:
            assert isinstance(y, np.ndarray)
            assert y.shape == (len(x), 3)
            np.testing.assert_array_equal(y, x @ WEIGHT)
    # The first runs alone, and so do those of the first batch once more, to compare.
    assert len(counting.rows) < 10 * GUESTS // 2
    assert max(counting.rows) >= sum(map(len, inputs)) - 3
    graph.close()


def test_one_guest_waits_for_nobody(counting: Counting) -> None:
    graph = batched(counting, Batching(wait_s=10))
    (found,) = asked(graph, [np.ones((1, 2), np.float32)], times=20)
    assert len(found) == 20
    assert threading.active_count() == 1 or not any(
        thread.name == "wasinn batching" for thread in threading.enumerate()
    )
    graph.close()


def test_other_shapes_are_other_batches() -> None:
    seen = Counting(
        onnx(
            model_of(
                [helper.make_node("Add", ["x", "x"], ["y"])],
                [value("x", ("batch", "length"))],
                [value("y", ("batch", "length"))],
            )
        )
    )
    graph = batched(seen, Batching(wait_s=0.02))
    inputs = [np.full((2, 3 + i % 2), i, np.float32) for i in range(GUESTS)]
    for x, found in zip(inputs, asked(graph, inputs), strict=True):
        for y in found:
            np.testing.assert_array_equal(y, x + x)
    assert any(rows > 2 for rows in seen.rows)
    graph.close()


def test_a_bad_row_fails_its_guest_alone(counting: Counting) -> None:
    counting.failing = lambda x: bool((x == 5).any())
    graph = batched(counting, Batching(wait_s=0.02))
    inputs = [np.full((1, 2), i, np.float32) for i in range(GUESTS)]
    for i, found in enumerate(asked(graph, inputs)):
        for y in found:
            if i == 5:
                assert y == "a bad row"
            else:
                np.testing.assert_array_equal(y, inputs[i] @ WEIGHT)
    graph.close()


def test_a_graph_whose_rows_depend_on_each_other_is_not_batched(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mixing = Counting(
        onnx(
            model_of(
                [helper.make_node("Softmax", ["x"], ["y"], axis=0)],
                [value("x", ("batch", 2))],
                [value("y", ("batch", 2))],
            )
        )
    )
    graph = batched(mixing, Batching(wait_s=0.02))
    inputs = [np.full((1, 2), i, np.float32) for i in range(GUESTS)]
    for found in asked(graph, inputs, times=5):
        for y in found:
            np.testing.assert_array_equal(y, [[1, 1]])
    assert "not batched any more: a batch does not give what single requests do" in caplog.text
    assert sum(rows > 1 for rows in mixing.rows) == 1
    graph.close()


def test_outputs_that_can_not_be_shared_out_are_not_batched(
    caplog: pytest.LogCaptureFixture,
) -> None:
    longer = model_of(
        [helper.make_node("Concat", ["x", "one"], ["y"], axis=0)],
        [value("x", ("batch", 2))],
        [value("y", ("more", 2))],
        {"one": np.ones((1, 2), np.float32)},
    )
    graph = batched(Counting(onnx(longer)), Batching(wait_s=0.02))
    inputs = [np.full((1, 2), i, np.float32) for i in range(GUESTS)]
    for x, found in zip(inputs, asked(graph, inputs), strict=True):
        for y in found:
            np.testing.assert_array_equal(y, [*x, [1, 1]])
    assert " rows" in caplog.text
    graph.close()


def test_a_cancelled_request_ends_at_once(counting: Counting) -> None:
    counting.seconds = 0.5
    graph = batched(counting, Batching(wait_s=0.01))
    contexts = [graph.create_context() for _ in range(3)]
    errors: list[str] = []

    def compute(context: ExecutionContext) -> None:
        try:
            context.compute()
        except WasiNnError as error:
            errors.append(error.message)

    threads = []
    for context in contexts:
        context.set_input(0, tensor(np.ones((1, 2), np.float32)))
        threads.append(threading.Thread(target=compute, args=(context,)))
        threads[-1].start()
        time.sleep(0.05)
    began = time.monotonic()
    last = contexts[2]
    assert isinstance(last, Cancellable)
    last.cancel()
    threads[2].join()
    assert time.monotonic() - began < 0.3
    assert errors == ["the computation was cancelled"]
    for thread in threads:
        thread.join()
    assert len(errors) == 1
    for context in contexts[:2]:
        np.testing.assert_array_equal(floats(context.get_output(0)), [[3, 5, 7]])
    with pytest.raises(WasiNnError, match="none before compute"):
        last.get_output(0)
    for context in contexts:
        context.close()
    graph.close()


def test_graphs_that_do_not_say_enough_are_left_as_they_are() -> None:
    backend = Good({})
    graph = backend.load(ModelSource("double", (MODEL,)), Device("cpu", Target.CPU, ""))
    assert isinstance(graph, Doubling)
    assert issubclass(graph.context, Context)
    assert batched(graph, Batching()) is graph  # its first axis has a fixed size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max=32,wait=2ms", Batching(32, 0.002)),
        ("max=4", Batching(4, 0.002)),
        ("wait=500us", Batching(32, 0.0005)),
        ("wait=1s,max=1", Batching(1, 1.0)),
    ],
)
def test_what_the_command_line_says(text: str, expected: Batching) -> None:
    parsed = Batching.parse(text)
    assert parsed.max == expected.max
    assert parsed.wait_s == pytest.approx(expected.wait_s)


@pytest.mark.parametrize(
    "text", ["", "max", "max=x", "wait=2", "max=0", "most=3", "wait=-1ms", "max=2,wait=nanms"]
)
def test_what_makes_no_sense_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="batching"):
        Batching.parse(text)


def test_guests_that_come_and_go_through_many_trials(
    counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "_FIRST", 8)
    monkeypatch.setattr(batching, "_OFTEN", 16)
    counting.seconds = 0
    graph = batched(counting, Batching(max=4, wait_s=0.0005))

    def guest(number: int) -> int:
        rng = random.Random(number)
        asked_for = 0
        for _ in range(rng.randrange(1, 4)):
            context = graph.create_context()
            for _ in range(rng.randrange(1, 60)):
                x = np.full((rng.randrange(1, 4), 2), rng.randrange(100), np.float32)
                context.set_input(0, tensor(x))
                context.compute()
                np.testing.assert_array_equal(floats(context.get_output(0)), x @ WEIGHT)
                asked_for += 1
                if rng.random() < 0.2:
                    time.sleep(rng.random() / 500)
            context.close()
        return asked_for

    with ThreadPoolExecutor(12) as pool:
        total = sum(pool.map(guest, range(60), timeout=60))
    assert total > 1000
    graph.close()


def test_what_is_faster_without_batches_goes_without(counting: Counting) -> None:
    class Slower(_Counted):
        def compute(self) -> None:
            time.sleep(0.001 * len(self.x) ** 2)
            self.inner.compute()

    counting.create_context = lambda: Slower(counting, counting.graph.create_context())  # type: ignore[method-assign]
    graph = batched(counting, Batching(wait_s=0.002))
    inputs = [np.full((1, 2), i, np.float32) for i in range(GUESTS)]
    asked(graph, inputs, times=30)
    began = time.monotonic()
    asked(graph, inputs, times=30)
    # 30 ms side by side; in batches of eight, 64 ms each, it would be 2 s.
    assert time.monotonic() - began < 1
    graph.close()
