"""Floats in and out of quantised models: a wrapper around execution contexts that converts.

A quantised model takes and gives integers that stand for other numbers. Guests of WAMR's first ABI
give and expect floats there; others do when the host's user asks for it. What has no quantisation,
or already comes as the model's own integers, goes through as it is. This module knows no backend;
it is no quantisation of models.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from wasinn_host.nn.plugin import (
    Cancellable,
    ErrorKind,
    ExecutionContext,
    Graph,
    Streaming,
    Tensor,
    TensorSpec,
    TensorType,
    WasiNnError,
)

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["FloatIo"]

#: How model formats call bytes with a sign. WASI-NN has no type for them: they travel as u8.
_SIGNED: Final = frozenset({"i8", "int8"})


class FloatIo:
    """Which inputs and outputs of a graph are quantised, and how to convert them.

    Raises:
        WasiNnError: ``unsupported_operation`` for a scale that makes no numbers.
    """

    def __init__(self, graph: Graph) -> None:
        self._inputs = _quantised(graph.inputs)
        self._outputs = _quantised(graph.outputs)

    def around(self, context: ExecutionContext) -> ExecutionContext:
        """One of the graph's contexts, with floats; itself when nothing is quantised."""
        if not self._inputs and not self._outputs:
            return context
        if isinstance(context, Streaming):
            return _FloatStream(context, context, self._inputs, self._outputs)
        return _FloatContext(context, self._inputs, self._outputs)


def _quantised(specs: tuple[TensorSpec, ...]) -> dict[int, _Conversion]:
    found = {}
    for index, spec in enumerate(specs):
        dtype = _integers(spec)
        if spec.quantization is not None and dtype is not None:
            found[index] = _Conversion(spec, dtype)
    return found


def _integers(spec: TensorSpec) -> DTypeLike | None:
    """What a quantised tensor's elements are; None where they are no bytes."""
    if spec.native_type.lower() in _SIGNED:
        return np.int8
    return np.uint8 if spec.type is TensorType.U8 else None


class _Conversion:
    """One input's or output's numbers as floats and as integers."""

    def __init__(self, spec: TensorSpec, dtype: DTypeLike) -> None:
        assert spec.quantization is not None
        scale = spec.quantization.scale
        if not 0 < scale < math.inf:
            raise WasiNnError(
                ErrorKind.UNSUPPORTED_OPERATION,
                f"the model quantises {spec.name or 'a tensor'} with the scale {scale}; "
                "expected a number above 0",
            )
        self._scale = scale
        self._zero_point = spec.quantization.zero_point
        self._dtype = dtype
        self._as_floats = replace(spec, type=TensorType.F32, native_type="", quantization=None)

    def quantised(self, tensor: Tensor, index: int) -> Tensor:
        """The nearest integers; what is beyond them becomes the least or the greatest.

        Args:
            tensor: of f32.
            index: the input's, for messages.

        Raises:
            WasiNnError: ``invalid_argument`` for a tensor that does not fit, or with a NaN.
        """
        self._as_floats.check(tensor, index)
        numbers = np.frombuffer(tensor.data, np.float32).astype(np.float64)
        if np.isnan(numbers).any():
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"input {index} ({self._as_floats.name}) holds a NaN, for which a quantised "
                "model has no number",
            )
        limits = np.iinfo(self._dtype)
        with np.errstate(over="ignore"):  # infinity is beyond the limits as well
            numbers = np.rint(numbers / self._scale) + self._zero_point
        integers = np.clip(numbers, limits.min, limits.max).astype(self._dtype)
        return Tensor(TensorType.U8, tensor.shape, integers.view(np.uint8).data)

    def floats(self, tensor: Tensor) -> Tensor:
        """The numbers that a tensor's integers stand for."""
        integers = np.frombuffer(tensor.data, self._dtype).astype(np.float64)
        with np.errstate(over="ignore"):
            numbers = ((integers - self._zero_point) * self._scale).astype("<f4")
        return Tensor(TensorType.F32, tensor.shape, numbers.view(np.uint8).data)


class _FloatContext(ExecutionContext):
    def __init__(
        self,
        context: ExecutionContext,
        inputs: dict[int, _Conversion],
        outputs: dict[int, _Conversion],
    ) -> None:
        self._context = context
        self._inputs = inputs
        self._outputs = outputs
        self._given: dict[int, Tensor] = {}

    def set_input(self, index: int, tensor: Tensor) -> None:
        conversion = self._inputs.get(index)
        if conversion is not None and tensor.type is TensorType.F32:
            tensor = conversion.quantised(tensor, index)
        self._context.set_input(index, tensor)

    def compute(self) -> None:
        self._given.clear()
        self._context.compute()

    def get_output(self, index: int) -> Tensor:
        conversion = self._outputs.get(index)
        if conversion is None:
            return self._context.get_output(index)
        # Kept, for a guest may ask twice: for the size first.
        given = self._given.get(index)
        if given is None:
            given = self._given[index] = conversion.floats(self._context.get_output(index))
        return given

    def cancel(self) -> None:
        if isinstance(self._context, Cancellable):
            self._context.cancel()

    def close(self) -> None:
        self._given.clear()
        self._context.close()


class _FloatStream(_FloatContext):
    """One that computes piece by piece."""

    def __init__(
        self,
        context: ExecutionContext,
        stream: Streaming,
        inputs: dict[int, _Conversion],
        outputs: dict[int, _Conversion],
    ) -> None:
        super().__init__(context, inputs, outputs)
        self._stream = stream

    def compute_single(self) -> None:
        self._given.clear()
        self._stream.compute_single()

    def get_output_single(self, index: int) -> Tensor:
        piece = self._stream.get_output_single(index)
        conversion = self._outputs.get(index)
        return piece if conversion is None else conversion.floats(piece)

    def fini_single(self) -> None:
        self._stream.fini_single()
