"""Small TFLite models, made with the flatbuffers schema of LiteRT's package, and who runs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.backends.onnx_models import output_array, set_array
from tests.nn.fake_guest import Guest
from wasinn_backends.tflite import TfliteBackend
from wasinn_host.nn import BackendRegistry, GraphRegistry, NnContext, TensorType

__all__ = ["TFLITE", "Op", "T", "add", "doubling", "guest", "model_of", "output_array", "packed"]
__all__ += ["schema", "set_array"]

Array = np.ndarray[Any, Any]

TFLITE = 4
"""WASI-NN's number of the encoding."""

NATIVE = {
    TensorType.F16: schema.TensorType.FLOAT16,
    TensorType.F32: schema.TensorType.FLOAT32,
    TensorType.F64: schema.TensorType.FLOAT64,
    TensorType.U8: schema.TensorType.UINT8,
    TensorType.I32: schema.TensorType.INT32,
    TensorType.I64: schema.TensorType.INT64,
}
INT8 = schema.TensorType.INT8


@dataclass(frozen=True)
class T:
    """A tensor; any size where the shape has -1."""

    name: str
    shape: Sequence[int] = (-1,)
    type: int = schema.TensorType.FLOAT32
    data: bytes | None = None
    scale: float = 0.0
    zero_point: int = 0


@dataclass(frozen=True)
class Op:
    """An operator, with tensors by number."""

    code: int
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: Any = None


def _tensor(given: T, buffer: int) -> Any:
    made = schema.TensorT()
    made.name = given.name
    made.shape = [max(size, 1) for size in given.shape]
    made.shapeSignature = list(given.shape) if -1 in given.shape else None
    made.type = given.type
    made.buffer = buffer
    if given.scale:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale = [given.scale]
        made.quantization.zeroPoint = [given.zero_point]
    return made


def _operator(model: Any, given: Op) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = given.code
    code.deprecatedBuiltinCode = min(given.code, 127)
    code.version = 1
    model.operatorCodes.append(code)
    made = schema.OperatorT()
    made.opcodeIndex = len(model.operatorCodes) - 1
    made.inputs, made.outputs = list(given.inputs), list(given.outputs)
    if given.options is not None:
        name = type(given.options).__name__.removesuffix("T")
        made.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        made.builtinOptions = given.options
    return made


def model_of(
    tensors: Sequence[T], inputs: Sequence[int], outputs: Sequence[int], operators: Sequence[Op]
) -> Any:
    """The schema's object of a model with one graph, which tests may spoil before it is packed."""
    model = schema.ModelT()
    model.version = 3
    model.operatorCodes = []
    model.buffers = [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors = []
    for tensor in tensors:
        if tensor.data is not None:
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.frombuffer(tensor.data, np.uint8)
        place = 0 if tensor.data is None else len(model.buffers) - 1
        graph.tensors.append(_tensor(tensor, place))
    graph.inputs, graph.outputs = list(inputs), list(outputs)
    graph.operators = [_operator(model, operator) for operator in operators]
    model.subgraphs = [graph]
    return model


def packed(model: Any) -> bytes:
    """The flatbuffer of a model."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def add(inputs: Sequence[int], output: int) -> Op:
    return Op(schema.BuiltinOperator.ADD, inputs, [output], schema.AddOptionsT())


def doubling(element: int = schema.TensorType.FLOAT32, shape: Sequence[int] = (-1,)) -> bytes:
    """y = x + x."""
    tensors = [T("x", shape, element), T("y", shape, element)]
    return packed(model_of(tensors, [0], [1], [add([0, 0], 1)]))


def quantised_doubling(element: int, scale: float, zero_point: int) -> bytes:
    """y = x + x in bytes; y has twice the scale of x, so that the bytes are the same."""
    tensors = [
        T("x", (-1,), element, scale=scale, zero_point=zero_point),
        T("y", (-1,), element, scale=2 * scale, zero_point=zero_point),
    ]
    return packed(model_of(tensors, [0], [1], [add([0, 0], 1)]))


def guest(options: Mapping[str, str] | None = None, pages: int = 64) -> Guest:
    """A guest of a fresh registry with this backend alone."""
    backends = BackendRegistry(
        options={"tflite": {"threads": "1", **(options or {})}}, discover=False
    )
    backends.add("tflite", TfliteBackend)
    return Guest(NnContext(GraphRegistry(backends)), pages=pages)
