"""Small models for OpenVINO, and one computation of them without a guest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.backends.onnx_models import DTYPES
from wasinn_backends.openvino import OpenVinoBackend, import_openvino
from wasinn_host.nn.plugin import ExecutionContext, Graph, ModelSource, Target, Tensor

__all__ = ["WEIGHT", "backend_graph", "ops", "ov", "run", "save_ir", "tensor_of"]

Array = np.ndarray[Any, Any]
# Not by an import statement, which would report to OpenVINO's maker.
ov = import_openvino()
ops = ov.opset13

WEIGHT = np.random.default_rng(7).standard_normal((5, 3)).astype(np.float32)


def backend_graph(encoding: str, *parts: bytes, **options: str) -> Graph:
    backend = OpenVinoBackend(options or {"threads": "1"})
    cpu = next(d for d in backend.devices() if d.target is Target.CPU)
    return backend.load(ModelSource(encoding, parts), cpu)


def tensor_of(array: Array) -> Tensor:
    kind = next(t for t, dtype in DTYPES.items() if np.dtype(dtype) == array.dtype)
    flat = np.ascontiguousarray(array).reshape(-1)
    return Tensor(kind, array.shape, flat.view(np.uint8).data)


def run(context: ExecutionContext, *inputs: Array) -> Array:
    for index, array in enumerate(inputs):
        context.set_input(index, tensor_of(array))
    context.compute()
    out = context.get_output(0)
    return np.frombuffer(out.data, DTYPES[out.type]).reshape(out.shape).copy()


def save_ir(folder: Path) -> Path:
    """y = x @ WEIGHT as OpenVINO's own two files; the XML's path."""
    x = ops.parameter([-1, 5], np.float32, name="x")
    model = ov.Model([ops.matmul(x, ops.constant(WEIGHT), False, False)], [x], "test")
    path = folder / "m.xml"
    ov.serialize(model, path, folder / "m.bin")
    return path
