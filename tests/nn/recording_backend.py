"""A small backend for tests of the host: it adds one to bytes, and records what is done to it.

A real plugin by the contract, with more devices and more encodings than the null backend has.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import ClassVar

from wasinn_host.nn.plugin import (
    Backend,
    Device,
    ErrorKind,
    ExecutionContext,
    Graph,
    ModelSource,
    Target,
    Tensor,
    TensorSpec,
    TensorType,
    WasiNnError,
)

SPEC = TensorSpec("bytes", TensorType.U8, (None,))


class RecordingBackend(Backend):
    """Reads the encodings ``onnx`` and ``openvino``, on two GPUs and a CPU."""

    api_version = 1
    encodings = frozenset({"onnx", "openvino"})
    options: ClassVar[Mapping[str, str]] = {"greeting": "kept for the test to look at"}
    made: ClassVar[list[RecordingBackend]] = []

    def __init__(self, options: Mapping[str, str]) -> None:
        self.given = dict(options)
        self.events: list[str] = []
        self.sources: list[ModelSource] = []
        self.is_slow = threading.Event()
        self.made.append(self)

    def devices(self) -> Sequence[Device]:
        return (
            Device("gpu:0", Target.GPU, "first", 8 << 30),
            Device("gpu:1", Target.GPU, "second"),
            Device("cpu", Target.CPU, "slow"),
        )

    def load(self, source: ModelSource, device: Device) -> Graph:
        if source.read()[0].startswith(b"bad"):
            raise WasiNnError(ErrorKind.INVALID_ENCODING, "the model starts with bad")
        self.events.append(f"load {source.encoding} on {device.id}")
        self.sources.append(source)
        return RecordingGraph(self.events)

    def close(self) -> None:
        self.events.append("close backend")


class RecordingGraph(Graph):
    def __init__(self, events: list[str]) -> None:
        self.events = events

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return (SPEC,)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return (SPEC,)

    def create_context(self) -> ExecutionContext:
        self.events.append("create context")
        return RecordingContext(self.events)

    def close(self) -> None:
        self.events.append("close graph")


class RecordingContext(ExecutionContext):
    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.input = bytearray()
        self.output: Tensor | None = None

    def set_input(self, index: int, tensor: Tensor) -> None:
        SPEC.check(tensor, index)
        self.input[:] = tensor.data

    def compute(self) -> None:
        self.events.append("compute")
        data = bytes((value + 1) % 256 for value in self.input)
        self.output = Tensor(TensorType.U8, (len(data),), memoryview(data))

    def get_output(self, index: int) -> Tensor:
        if self.output is None or index != 0:
            raise WasiNnError(ErrorKind.INVALID_ARGUMENT, f"no output {index}")
        return self.output

    def close(self) -> None:
        self.events.append("close context")
