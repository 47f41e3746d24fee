"""A simulated accelerator for dense layers: y = clamp(x @ weights >> shift), on bytes."""

import struct
import sys

import numpy as np

from wasinn_host.nn import plugin as nn

HEADER = struct.Struct("<4sHHB")  # magic, rows, columns, shift; then rows * columns signed bytes


def executable(weights, shift):
    """The accelerator's own format, for an array of int8."""
    return HEADER.pack(b"NPU8", *weights.shape, shift) + weights.tobytes()


def wrong(kind, message):
    return nn.WasiNnError(kind, message)


class NpuBackend(nn.Backend):
    api_version = 1
    encodings = frozenset({"npu8"})
    options = {"unit": "which of the two units to use first: 0 (the default) or 1"}

    def __init__(self, options):
        self.first = options.get("unit", "0")
        if self.first not in ("0", "1"):
            expected = f"option unit: expected 0 or 1, got {self.first!r}"
            raise wrong(nn.ErrorKind.INVALID_ARGUMENT, expected)

    def devices(self):
        units = sorted(("0", "1"), key=lambda unit: unit != self.first)
        return [nn.Device(f"npu:{u}", nn.Target.TPU, f"NPU8, unit {u}", 1 << 20) for u in units]

    def load(self, source, device):
        parts = source.read()
        if len(parts) != 1:
            expected = f"an NPU8 executable has one part, got {len(parts)}"
            raise wrong(nn.ErrorKind.INVALID_ARGUMENT, expected)
        if len(parts[0]) < HEADER.size or parts[0][:4] != b"NPU8":
            raise wrong(nn.ErrorKind.INVALID_ENCODING, "expected an NPU8 executable")
        _magic, rows, columns, shift = HEADER.unpack_from(parts[0])
        size = HEADER.size + rows * columns
        if len(parts[0]) != size or shift > 31:
            expected = f"{rows} x {columns} weights take {size} bytes, got {len(parts[0])}"
            raise wrong(nn.ErrorKind.INVALID_ENCODING, f"{expected}, with a shift of {shift}")
        weights = np.frombuffer(parts[0], np.int8, offset=HEADER.size).reshape(rows, columns)
        return NpuGraph(weights.astype(np.int32), shift)

    def samples(self):
        x, y = (
            nn.Tensor(nn.TensorType.U8, (1, 2), memoryview(b)) for b in (b"\x0a\x04", b"\x09\0")
        )
        model = executable(np.array([[1, -2], [2, 1]], np.int8), 1)
        return [nn.Sample("npu8", (model,), (x,), (y,))]


class NpuGraph(nn.Graph):
    inputs = outputs = ()  # each graph has its own

    def __init__(self, weights, shift):
        self.weights, self.shift = weights, shift
        self.inputs = (nn.TensorSpec("x", nn.TensorType.U8, (None, weights.shape[0])),)
        self.outputs = (nn.TensorSpec("y", nn.TensorType.U8, (None, weights.shape[1])),)

    def create_context(self):
        return NpuContext(self)


class NpuContext(nn.ExecutionContext):
    def __init__(self, graph):
        self.graph, self.x, self.y = graph, None, None

    def set_input(self, index, tensor):
        if index != 0:
            raise wrong(nn.ErrorKind.INVALID_ARGUMENT, f"input {index}: there is only input 0")
        self.graph.inputs[0].check(tensor, index)
        # tensor.data is guest memory: copy it now, and keep no reference.
        self.x = np.frombuffer(bytes(tensor.data), np.uint8).reshape(tensor.shape)

    def compute(self):
        if self.x is None:
            raise wrong(nn.ErrorKind.INVALID_ARGUMENT, "compute: input 0 is not set")
        sums = self.x.astype(np.int32) @ self.graph.weights >> self.graph.shift
        self.y = np.clip(sums, 0, 255).astype(np.uint8)

    def get_output(self, index):
        if self.y is None or index != 0:
            raise wrong(nn.ErrorKind.INVALID_ARGUMENT, f"there is no output {index}")
        return nn.Tensor(nn.TensorType.U8, self.y.shape, self.y.reshape(-1).data)


if __name__ == "__main__":
    sys.stdout.buffer.write(executable(np.array([[1, 2, 3], [4, 5, 6]], np.int8), 1))
