"""Floats in and out of quantised models: roundings, limits and refusals, on hand-made graphs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.nn.fake_guest import Guest
from wasinn_host.nn import BackendRegistry, GraphRegistry, NnContext, TensorType
from wasinn_host.nn.plugin import (
    Backend,
    Cancellable,
    Device,
    ErrorKind,
    ExecutionContext,
    Graph,
    ModelSource,
    Quantization,
    Streaming,
    Target,
    Tensor,
    TensorSpec,
    WasiNnError,
)
from wasinn_host.nn.quantized import FloatIo

PLAIN = TensorSpec("plain", TensorType.F32, (None,))
UNSIGNED = TensorSpec("levels", TensorType.U8, (2, None), "uint8", Quantization(0.5, 128))
SIGNED = TensorSpec("signed", TensorType.U8, (2, None), "int8", Quantization(0.25, -3))
WIDE = TensorSpec("wide", TensorType.I32, (None,), "int32", Quantization(0.5, 0))


class Echo(ExecutionContext):
    """Output i is input i; it says what reached it."""

    def __init__(self) -> None:
        self.inputs: dict[int, Tensor] = {}
        self.reads = 0
        self.events: list[str] = []

    def set_input(self, index: int, tensor: Tensor) -> None:
        self.inputs[index] = replace(tensor, data=memoryview(bytes(tensor.data)))

    def compute(self) -> None:
        self.events.append("compute")

    def get_output(self, index: int) -> Tensor:
        self.reads += 1
        return self.inputs[index]

    def cancel(self) -> None:
        self.events.append("cancel")

    def close(self) -> None:
        self.events.append("close")


class Quantised(Graph):
    """Inputs and outputs as the test wants them."""

    specs: tuple[TensorSpec, ...] = (UNSIGNED,)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.specs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.specs

    def create_context(self) -> ExecutionContext:
        return Echo()


class QuantisedBackend(Backend):
    api_version = 1
    encodings = frozenset({"tensorflowlite", "quantised"})

    def devices(self) -> Sequence[Device]:
        return (Device("cpu", Target.CPU, "this one"),)

    def load(self, source: ModelSource, device: Device) -> Graph:
        return graph_of(UNSIGNED)


def graph_of(*specs: TensorSpec) -> Graph:
    graph = Quantised()
    graph.specs = specs
    return graph


def floats(*numbers: float, rows: int = 2) -> Tensor:
    data = np.array(numbers, np.float32)
    return Tensor(TensorType.F32, (rows, len(numbers) // rows), data.view(np.uint8).data)


def values(tensor: Tensor) -> list[float]:
    assert tensor.type is TensorType.F32
    return list(struct.unpack(f"<{tensor.data.nbytes // 4}f", tensor.data))


def test_unsigned_bytes_there_and_back() -> None:
    echo = Echo()
    context = FloatIo(graph_of(UNSIGNED)).around(echo)
    context.set_input(0, floats(-64.0, 63.5, 0.0, 0.5))
    assert echo.inputs[0].type is TensorType.U8
    assert echo.inputs[0].shape == (2, 2)
    assert bytes(echo.inputs[0].data) == bytes([0, 255, 128, 129])
    context.compute()
    assert values(context.get_output(0)) == [-64.0, 63.5, 0.0, 0.5]


def test_signed_bytes_there_and_back() -> None:
    echo = Echo()
    context = FloatIo(graph_of(SIGNED)).around(echo)
    context.set_input(0, floats(-31.25, 32.5, 0.0, -0.25))
    assert struct.unpack("<4b", echo.inputs[0].data) == (-128, 127, -3, -4)
    context.compute()
    assert values(context.get_output(0)) == [-31.25, 32.5, 0.0, -0.25]


def test_a_type_without_a_wasi_nn_name_counts_by_its_own() -> None:
    echo = Echo()
    spec = replace(SIGNED, type=None, native_type="INT8")
    FloatIo(graph_of(spec)).around(echo).set_input(0, floats(0.0, 0.5))
    assert struct.unpack("<2b", echo.inputs[0].data) == (-3, -1)


@pytest.mark.parametrize(
    ("number", "integer"),
    [
        (0.2, 128),
        (0.3, 129),
        (-0.3, 127),
        (1e30, 255),
        (-1e30, 0),
        (float("inf"), 255),
        (float("-inf"), 0),
        (-0.0, 128),
    ],
)
def test_the_nearest_integer_within_the_limits(number: float, integer: int) -> None:
    echo = Echo()
    FloatIo(graph_of(UNSIGNED)).around(echo).set_input(0, floats(number, number))
    assert bytes(echo.inputs[0].data) == bytes([integer] * 2)


@pytest.mark.parametrize("scale", [1e-45, 1e38])
def test_scales_at_the_edge_give_no_warning_and_no_nan(scale: float) -> None:
    echo = Echo()
    spec = replace(UNSIGNED, quantization=Quantization(scale, 1))
    context = FloatIo(graph_of(spec)).around(echo)
    context.set_input(0, floats(3e38, -3e38))
    assert list(echo.inputs[0].data) in ([255, 0], [4, 0])
    context.compute()
    assert not np.isnan(values(context.get_output(0))).any()


def test_what_comes_as_integers_goes_through() -> None:
    echo = Echo()
    context = FloatIo(graph_of(UNSIGNED)).around(echo)
    given = Tensor(TensorType.U8, (2, 2), memoryview(b"abcd"))
    context.set_input(0, given)
    assert echo.inputs[0] == given


@pytest.mark.parametrize(
    "tensor",
    [
        floats(1.0, 2.0, 3.0, rows=3),
        Tensor(TensorType.F32, (2,), memoryview(bytes(8))),
        Tensor(TensorType.F32, (2, 2), memoryview(bytes(15))),
        Tensor(TensorType.F32, (2, 1 << 40), memoryview(bytes(8))),
        floats(1.0, float("nan")),
    ],
    ids=["rows", "rank", "short", "overflow", "nan"],
)
def test_tensors_that_do_not_fit(tensor: Tensor) -> None:
    echo = Echo()
    with pytest.raises(WasiNnError, match=r"input 0 \(levels\)") as caught:
        FloatIo(graph_of(UNSIGNED)).around(echo).set_input(0, tensor)
    assert caught.value.kind is ErrorKind.INVALID_ARGUMENT
    assert not echo.inputs


@pytest.mark.parametrize("scale", [0.0, -0.5, float("nan"), float("inf")])
def test_scales_that_make_no_numbers(scale: float) -> None:
    spec = replace(UNSIGNED, quantization=Quantization(scale, 0))
    with pytest.raises(WasiNnError, match="levels with the scale") as caught:
        FloatIo(graph_of(spec))
    assert caught.value.kind is ErrorKind.UNSUPPORTED_OPERATION


def test_only_bytes_are_converted() -> None:
    echo = Echo()
    assert FloatIo(graph_of(PLAIN, WIDE)).around(echo) is echo


def test_inputs_without_quantisation_stay_beside_one_with() -> None:
    echo = Echo()
    context = FloatIo(graph_of(PLAIN, UNSIGNED)).around(echo)
    given = floats(1.5, 2.5, rows=1)
    context.set_input(0, given)
    context.set_input(1, floats(0.0, 0.0))
    assert bytes(echo.inputs[0].data) == bytes(given.data)
    context.compute()
    assert values(context.get_output(0)) == [1.5, 2.5]
    assert values(context.get_output(1)) == [0.0, 0.0]


def test_outputs_are_converted_once_for_each_compute() -> None:
    echo = Echo()
    context = FloatIo(graph_of(UNSIGNED)).around(echo)
    context.set_input(0, floats(1.0, 2.0))
    context.compute()
    first = context.get_output(0)
    context.set_input(0, floats(3.0, 4.0))
    assert context.get_output(0) is first
    assert values(first) == [1.0, 2.0]
    context.compute()
    assert values(context.get_output(0)) == [3.0, 4.0]
    assert echo.reads == 2


def test_cancel_and_close_reach_the_context() -> None:
    echo = Echo()
    context = FloatIo(graph_of(UNSIGNED)).around(echo)
    assert isinstance(context, Cancellable)
    context.cancel()
    context.close()
    assert echo.events == ["cancel", "close"]


class Stream(Echo):
    """Gives its input a row at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.row = -1

    def compute_single(self) -> None:
        self.row += 1
        if self.row == self.inputs[0].shape[0]:
            raise WasiNnError(ErrorKind.END_OF_SEQUENCE, "no more rows")

    def get_output_single(self, index: int) -> Tensor:
        whole = self.inputs[index]
        width = whole.shape[1]
        data = whole.data[self.row * width : (self.row + 1) * width]
        return Tensor(whole.type, (1, width), data)

    def fini_single(self) -> None:
        self.row = -1


def test_pieces_are_converted_too() -> None:
    context = FloatIo(graph_of(UNSIGNED)).around(Stream())
    assert isinstance(context, Streaming)
    context.set_input(0, floats(1.0, 2.0, 3.0, 4.0))
    pieces = []
    for _ in range(2):
        context.compute_single()
        pieces.append(values(context.get_output_single(0)))
    assert pieces == [[1.0, 2.0], [3.0, 4.0]]
    with pytest.raises(WasiNnError, match="no more rows"):
        context.compute_single()
    context.fini_single()
    context.compute_single()
    assert values(context.get_output_single(0)) == [1.0, 2.0]


def test_what_can_not_stream_still_can_not() -> None:
    assert not isinstance(FloatIo(graph_of(UNSIGNED)).around(Echo()), Streaming)


@pytest.mark.parametrize("how", ["guest", "context", "not"])
def test_through_the_abi(how: str) -> None:
    backends = BackendRegistry(discover=False)
    backends.add("quantised", QuantisedBackend)
    graphs = GraphRegistry(backends)
    guest = Guest(NnContext(graphs, float_io=how == "guest"))
    assert guest.load(b"model", encoding=4) == 0, guest.error()
    nn = guest.codec.context
    handle = nn.init_execution_context(guest.result, float_io=how == "context")
    data = struct.pack("<2f", 1.1, -2.0)
    assert guest.set_input(handle, 0, TensorType.F32, (2, 1), data) == 0
    assert guest.compute(handle) == 0
    assert guest.get_output(handle, 0, 4)[0] == 7
    assert guest.result == 8
    # A graph that converts knows halves only.
    expected = data if how == "not" else struct.pack("<2f", 1.0, -2.0)
    assert guest.get_output(handle, 0, 8) == (0, expected)
    nn.close()
    graphs.close()
    backends.close()
