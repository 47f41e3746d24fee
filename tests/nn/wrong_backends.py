"""A backend that keeps the contract, and others that break it in one way each.

The model is the letters ``DOUBLE`` and a digit's worth of bytes; the computation doubles bytes.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from wasinn_host.nn.plugin import (
    Backend,
    Device,
    ErrorKind,
    ExecutionContext,
    Graph,
    ModelSource,
    Sample,
    Target,
    Tensor,
    TensorSpec,
    TensorType,
    WasiNnError,
)

SPEC = TensorSpec("bytes", TensorType.U8, (2, None))
MODEL = b"DOUBLE" + bytes(10)


def doubled(data: bytes) -> bytes:
    return bytes(2 * value % 256 for value in data)


class Context(ExecutionContext):
    def __init__(self, graph: Doubling) -> None:
        self.graph = graph
        self.input: Tensor | None = None
        self.output: Tensor | None = None

    def set_input(self, index: int, tensor: Tensor) -> None:
        if index != 0:
            raise WasiNnError(ErrorKind.INVALID_ARGUMENT, f"no input {index}")
        SPEC.check(tensor, index)
        self.input = replace(tensor, data=memoryview(bytes(tensor.data)))

    def compute(self) -> None:
        if self.input is None:
            raise WasiNnError(ErrorKind.INVALID_ARGUMENT, "no input")
        data = memoryview(doubled(bytes(self.input.data)))
        self.output = replace(self.input, data=data)

    def get_output(self, index: int) -> Tensor:
        if self.output is None or index != 0:
            raise WasiNnError(ErrorKind.INVALID_ARGUMENT, f"no output {index}")
        return self.output

    def cancel(self) -> None:
        pass


class Doubling(Graph):
    context: ClassVar[type[Context]] = Context

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return (SPEC,)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return (SPEC,)

    def create_context(self) -> ExecutionContext:
        return self.context(self)


class Good(Backend):
    api_version = 1
    encodings = frozenset({"double"})
    graph: ClassVar[type[Doubling]] = Doubling

    def devices(self) -> Sequence[Device]:
        return (Device("cpu", Target.CPU, "this one"),)

    def load(self, source: ModelSource, device: Device) -> Graph:
        if len(source.builders) != 1:
            raise WasiNnError(ErrorKind.INVALID_ARGUMENT, "expected one part")
        self.look_at(source.builders[0])
        return self.graph()

    def look_at(self, model: bytes) -> None:
        if model != MODEL:
            raise WasiNnError(ErrorKind.INVALID_ENCODING, "not a model")

    def samples(self) -> Sequence[Sample]:
        data = bytes(range(6))
        given, wanted = (
            Tensor(TensorType.U8, (2, 3), memoryview(each)) for each in (data, doubled(data))
        )
        return (Sample("double", (MODEL,), (given,), (wanted,)),)


def _with(context: type[Context]) -> type[Good]:
    """The good backend with other contexts."""
    graph = type("Graph", (Doubling,), {"context": context})
    return type("Backend", (Good,), {"graph": graph})


class _KeepsView(Context):
    def set_input(self, index: int, tensor: Tensor) -> None:
        super().set_input(index, tensor)
        self.input = tensor


KeepsView = _with(_KeepsView)


class _OtherType(Context):
    def get_output(self, index: int) -> Tensor:
        return replace(super().get_output(index), type=TensorType.F32)


OtherType = _with(_OtherType)


class _OtherShape(Context):
    def get_output(self, index: int) -> Tensor:
        return replace(super().get_output(index), shape=(6,))


OtherShape = _with(_OtherShape)


class _WrongNumbers(Context):
    def compute(self) -> None:
        super().compute()
        assert self.output is not None
        self.output.data = memoryview(bytes(self.output.data.nbytes))


WrongNumbers = _with(_WrongNumbers)


class _NoView(Context):
    def get_output(self, index: int) -> Tensor:
        tensor = super().get_output(index)
        return replace(tensor, data=bytes(tensor.data))  # type: ignore[arg-type]


NoView = _with(_NoView)


class _OneInputForAll(Context):
    latest: ClassVar[Tensor | None] = None

    def set_input(self, index: int, tensor: Tensor) -> None:
        super().set_input(index, tensor)
        type(self).latest = self.input

    def compute(self) -> None:
        self.input = type(self).latest if self.input else None
        super().compute()


OneInputForAll = _with(_OneInputForAll)


class _OutputIsInput(Context):
    def set_input(self, index: int, tensor: Tensor) -> None:
        super().set_input(index, tensor)
        if self.output is not None:
            buffer = bytearray(doubled(bytes(tensor.data)))
            self.output = replace(self.output, data=memoryview(buffer))


OutputIsInput = _with(_OutputIsInput)


class _ComputesNothing(Context):
    def compute(self) -> None:
        if self.input is not None:
            super().compute()


ComputesNothing = _with(_ComputesNothing)


class _TakesAnyIndex(Context):
    def set_input(self, index: int, tensor: Tensor) -> None:
        super().set_input(0, tensor)


TakesAnyIndex = _with(_TakesAnyIndex)


class _TakesAnyTensor(Context):
    def set_input(self, index: int, tensor: Tensor) -> None:
        if index != 0:
            raise WasiNnError(ErrorKind.INVALID_ARGUMENT, f"no input {index}")
        self.input = replace(tensor, data=memoryview(bytes(tensor.data)))


TakesAnyTensor = _with(_TakesAnyTensor)


class _RaisesItsOwn(Context):
    def get_output(self, index: int) -> Tensor:
        if index != 0:
            raise IndexError("list index out of range")
        return super().get_output(index)


RaisesItsOwn = _with(_RaisesItsOwn)


class _Hangs(Context):
    def compute(self) -> None:
        super().compute()
        threading.Event().wait()


Hangs = _with(_Hangs)


class _BlocksInCancel(Context):
    def cancel(self) -> None:
        time.sleep(1.5)


BlocksInCancel = _with(_BlocksInCancel)


class _SharesScratch(Context):
    scratch: ClassVar[bytearray] = bytearray(6)

    def compute(self) -> None:
        super().compute()
        assert self.output is not None
        if self.output.data.nbytes == 6:
            self.scratch[:] = self.output.data
            time.sleep(0.001)
            self.output.data = memoryview(bytes(self.scratch))


SharesScratch = _with(_SharesScratch)


class _Prints(Context):
    def compute(self) -> None:
        super().compute()
        print("computing")


Prints = _with(_Prints)


class Leaks(Good):
    kept: ClassVar[list[bytes]] = []

    def look_at(self, model: bytes) -> None:
        super().look_at(model)
        self.kept.append(bytes([len(self.kept) % 256]) * (64 << 10))


class TakesNoise(Good):
    def look_at(self, model: bytes) -> None:
        pass


class RaisesKeyError(Good):
    def look_at(self, model: bytes) -> None:
        if model != MODEL:
            raise KeyError(model[:1])


class EndsTheProcess(Good):
    def look_at(self, model: bytes) -> None:
        if model.startswith(b"DOUBLE") and model != MODEL:
            os.abort()
        super().look_at(model)


class ChangingDevices(Good):
    count = 0

    def devices(self) -> Sequence[Device]:
        self.count += 1
        return (Device(f"cpu:{self.count}", Target.CPU, "another one each time"),)


class TakesAnyParts(Good):
    def load(self, source: ModelSource, device: Device) -> Graph:
        self.look_at(source.builders[0])
        return self.graph()


class NoSamples(Good):
    def samples(self) -> Sequence[Sample]:
        return ()


class EndsAtOnce(Good):
    def __init__(self, options: Mapping[str, str]) -> None:
        raise SystemExit("no accelerator")


class OldVersion(Good):
    api_version = 0
