"""Small models in TensorFlow's formats, written without TensorFlow: y = x * [1, 2, 4]."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

__all__ = ["FACTORS", "frozen_graph", "saved_model", "tensorflow_lite"]

FACTORS = np.array([1, 2, 4], np.float32)
_FLOAT = 1  # DT_FLOAT


def frozen_graph() -> bytes:
    """A GraphDef; x is float32 [?, 3]."""
    kind = _attribute("dtype", _field(6, _FLOAT))
    tensor = _field(1, _FLOAT) + _field(2, _shape(3)) + _field(4, FACTORS.tobytes())
    nodes = (
        _node("x", "Placeholder", (), kind, _attribute("shape", _field(7, _shape(-1, 3)))),
        _node("factors", "Const", (), kind, _attribute("value", _field(8, tensor))),
        _node("y", "Mul", ("x", "factors"), _attribute("T", _field(6, _FLOAT))),
    )
    return b"".join(_field(1, node) for node in nodes)


def saved_model() -> bytes:
    """The same graph as the file ``saved_model.pb`` of a SavedModel that has no variables."""
    x, y = (_field(1, f"{name}:0") + _field(2, _FLOAT) for name in "xy")
    signature = _field(1, _entry("x", x)) + _field(2, _entry("y", y))
    signature += _field(3, "tensorflow/serving/predict")
    meta = _field(1, _field(4, "serve")) + _field(2, frozen_graph())
    return _field(1, 1) + _field(2, meta + _field(5, _entry("serving_default", signature)))


def tensorflow_lite() -> bytes:
    """The same for TensorFlow Lite, by the schema of LiteRT's package; x is float32 [2, 3]."""
    schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
    flatbuffers: Any = importlib.import_module("flatbuffers")
    model, graph, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MUL
    code.version = 1
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1], [2]
    operator.builtinOptionsType = schema.BuiltinOptions.MulOptions
    operator.builtinOptions = schema.MulOptionsT()
    constant = schema.BufferT()
    constant.data = list(FACTORS.tobytes())
    graph.tensors = [
        _lite_tensor(schema, name, shape, buffer)
        for name, shape, buffer in (("x", [2, 3], 0), ("factors", [3], 1), ("y", [2, 3], 0))
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [2], [operator]
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT(), constant]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _lite_tensor(schema: Any, name: str, shape: list[int], buffer: int) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, shape, buffer
    tensor.type = schema.TensorType.FLOAT32
    return tensor


def _node(name: str, operator: str, inputs: tuple[str, ...], *attributes: bytes) -> bytes:
    given = b"".join(_field(3, source) for source in inputs)
    return _field(1, name) + _field(2, operator) + given + b"".join(attributes)


def _attribute(name: str, value: bytes) -> bytes:
    return _field(5, _entry(name, value))


def _entry(key: str, value: bytes) -> bytes:
    return _field(1, key) + _field(2, value)


def _shape(*sizes: int) -> bytes:
    return b"".join(_field(2, _field(1, size)) for size in sizes)


def _field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protobuf message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value % (1 << 64))
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
