"""Small ONNX models, made with the ``onnx`` package, and the registry that runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import FunctionProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from tests.nn.fake_guest import Guest
from wasinn_backends.onnx import OnnxBackend
from wasinn_host.nn import BackendRegistry, GraphRegistry, NnContext, TensorType

Array = np.ndarray[Any, Any]

ONNX_TYPES = {
    TensorType.F16: TensorProto.FLOAT16,
    TensorType.F32: TensorProto.FLOAT,
    TensorType.F64: TensorProto.DOUBLE,
    TensorType.U8: TensorProto.UINT8,
    TensorType.I32: TensorProto.INT32,
    TensorType.I64: TensorProto.INT64,
}
DTYPES: Mapping[TensorType, str] = {
    TensorType.F16: "<f2",
    TensorType.F32: "<f4",
    TensorType.F64: "<f8",
    TensorType.U8: "u1",
    TensorType.I32: "<i4",
    TensorType.I64: "<i8",
}

Shape = Sequence[int | str | None] | None


def value(name: str, shape: Shape = ("n",), element: int = TensorProto.FLOAT) -> ValueInfoProto:
    """Type and shape of an input or output."""
    return helper.make_tensor_value_info(name, element, shape)


def model_of(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    weights: Mapping[str, Array] | None = None,
    tensors: Sequence[TensorProto] = (),
    functions: Sequence[FunctionProto] = (),
    domains: Sequence[str] = (),
) -> bytes:
    """A serialized model."""
    initializers = [numpy_helper.from_array(a, name) for name, a in (weights or {}).items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, [*initializers, *tensors])
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(d, 1) for d in domains)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))
    return bytes(made.SerializeToString())


def doubling(element: int = TensorProto.FLOAT, shape: Shape = ("n",)) -> bytes:
    """y = x + x."""
    return model_of(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [value("x", shape, element)],
        [value("y", shape, element)],
    )


def matmul(weight: Array) -> bytes:
    """y = x @ weight, with any number of rows."""
    rows, columns = weight.shape
    return model_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", ("batch", rows))],
        [value("y", ("batch", columns))],
        {"w": weight},
    )


def endless_loop(shape: Sequence[int] = (1,)) -> bytes:
    """y = x doubled 2**62 times, by a Loop: it ends only when somebody ends it."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_out"]),
            helper.make_node("Add", ["carried", "carried"], ["carried_out"]),
        ],
        "body",
        [
            value("step", [], TensorProto.INT64),
            value("go_on", [], TensorProto.BOOL),
            value("carried", shape),
        ],
        [value("go_on_out", [], TensorProto.BOOL), value("carried_out", shape)],
    )
    return model_of(
        [helper.make_node("Loop", ["count", "always", "x"], ["y"], body=body)],
        [value("x", shape)],
        [value("y", shape)],
        {"count": np.array(1 << 62, np.int64), "always": np.array(True)},
    )


def onnx_graphs(**options: str) -> GraphRegistry:
    """The ONNX backend alone, with one thread unless said otherwise."""
    backends = BackendRegistry(options={"onnx": {"threads": "1", **options}}, discover=False)
    backends.add("onnx", OnnxBackend)
    return GraphRegistry(backends)


def onnx_guest(pages: int = 64) -> Guest:
    """A guest of a fresh registry."""
    return Guest(NnContext(onnx_graphs()), pages=pages)


def set_array(guest: Guest, context: int, index: int, array: Array) -> int:
    """Sets an input from an array; the errno."""
    for tensor_type, dtype in DTYPES.items():
        if array.dtype == np.dtype(dtype):
            return guest.set_input(context, index, tensor_type, array.shape, array.tobytes())
    raise TypeError(f"no tensor type for {array.dtype}")


def output_array(guest: Guest, context: int, index: int = 0) -> Array:
    """An output as an array, with the type and shape that the core reports."""
    tensor = guest.codec.context.get_output(context, index)
    errno, data = guest.get_output(context, index, tensor.data.nbytes)
    assert errno == 0, guest.error()
    assert data == tensor.data
    return np.frombuffer(data, DTYPES[tensor.type]).reshape(tensor.shape)
