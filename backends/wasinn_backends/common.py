"""What backends refuse in the same words, and their common sample. No library, and no state.

For the backends of this folder; the interface for all plugins is `wasinn_host.nn.plugin`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np

from wasinn_host.nn.plugin import (
    ErrorKind,
    ModelSource,
    Sample,
    Tensor,
    TensorSpec,
    TensorType,
    WasiNnError,
)

__all__ = [
    "DOUBLING_ONNX",
    "NUMPY_TYPES",
    "bytes_of",
    "check_index",
    "check_inputs_set",
    "check_one_part",
    "doubling_sample",
    "number_option",
    "output_at",
    "processors",
    "uncarried",
]

_Output = TypeVar("_Output")

NUMPY_TYPES: Final[Mapping[TensorType, np.dtype[Any]]] = {
    TensorType.F16: np.dtype(np.float16),
    TensorType.F32: np.dtype(np.float32),
    TensorType.F64: np.dtype(np.float64),
    TensorType.U8: np.dtype(np.uint8),
    TensorType.I32: np.dtype(np.int32),
    TensorType.I64: np.dtype(np.int64),
}
"""The types that numpy has too, which are all but bf16."""

# y = x + x, floats of shape [n, 3], operator set 13.
DOUBLING_ONNX: Final = (
    b'\x08\x08:>\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x00Z\x14\n\x01x\x12\x0f\n\r\x08\x01\x12\t\n\x03\x12\x01n\n'
    b"\x02\x08\x03b\x14\n\x01y\x12\x0f\n\r\x08\x01\x12\t\n\x03\x12\x01n\n\x02\x08\x03B\x04\n\x00\x10\r"
)


def bytes_of(array: np.ndarray[Any, Any]) -> memoryview:
    """The memory of a contiguous array, as tensors carry it."""
    return array.reshape(-1).view(np.uint8).data


def doubling_sample(encoding: str, model: bytes) -> Sample:
    """The sample of a model that computes ``y = x + x`` for float32 [n, 3]."""
    x = np.array([[0.5, -1, 2], [3, 4, -5]], np.float32)
    given, doubled = (Tensor(TensorType.F32, x.shape, bytes_of(array)) for array in (x, x + x))
    return Sample(encoding, (model,), (given,), (doubled,))


def number_option(
    options: Mapping[str, str], name: str, default: int, least: int, most: int
) -> int:
    """An option that is a number.

    Raises:
        WasiNnError: ``invalid_argument``: it is none, or outside of the limits.
    """
    text = options.get(name, str(default))
    if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
        raise WasiNnError(
            ErrorKind.INVALID_ARGUMENT,
            f"option {name}: expected a number from {least} to {most}, got {text!r}",
        )
    return int(text)


def check_one_part(source: ModelSource, what: str) -> None:
    """Refuses a model of several parts, or of none.

    Args:
        source: the model.
        what: its format with the article, such as ``an ONNX``.

    Raises:
        WasiNnError: ``invalid_argument``.
    """
    parts: Sequence[object] = source.paths or source.builders
    if len(parts) != 1:
        raise WasiNnError(
            ErrorKind.INVALID_ARGUMENT, f"{what} model has one part, got {len(parts)}"
        )


def check_index(specs: Sequence[TensorSpec], index: int) -> None:
    """Refuses an input that the model does not have.

    Raises:
        WasiNnError: ``invalid_argument``.
    """
    if index >= len(specs):
        raise WasiNnError(
            ErrorKind.INVALID_ARGUMENT,
            f"input {index}: the model has {len(specs)} inputs "
            f"({', '.join(spec.name for spec in specs)})",
        )


def check_inputs_set(specs: Sequence[TensorSpec], given: Sequence[object | None]) -> None:
    """Refuses to compute before every input is set that must be.

    Args:
        specs: the inputs,
        given: and for each what was set; None for nothing.

    Raises:
        WasiNnError: ``invalid_argument``; it names those that are missing.
    """
    missing = [
        f"{index} ({spec.name})"
        for index, (spec, value) in enumerate(zip(specs, given, strict=True))
        if value is None and not spec.is_optional
    ]
    if not missing:
        return
    raise WasiNnError(ErrorKind.INVALID_ARGUMENT, f"compute: not set: input {', '.join(missing)}")


def output_at(outputs: Sequence[_Output] | None, index: int, names: Sequence[str] = ()) -> _Output:
    """One of the outputs.

    Args:
        outputs: all of them; None when nothing was computed.
        index: the one that is asked for.
        names: of the outputs, where the model names them.

    Raises:
        WasiNnError: ``invalid_argument``: it is not there.
    """
    if outputs is None:
        raise WasiNnError(
            ErrorKind.INVALID_ARGUMENT, f"output {index}: there is none before compute"
        )
    if index >= len(outputs):
        listed = f" ({', '.join(names)})" if names else ""
        raise WasiNnError(
            ErrorKind.INVALID_ARGUMENT,
            f"output {index}: the model has {len(outputs)} outputs{listed}",
        )
    return outputs[index]


def processors() -> int:
    """How many this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def uncarried(output: str, native: str) -> WasiNnError:
    """The error for an output of a type that WASI-NN lacks.

    Args:
        output: which one: its index, and its name where it has one.
        native: the library's word for what it is.
    """
    return WasiNnError(
        ErrorKind.UNSUPPORTED_OPERATION,
        f"output {output} is a {native}, which WASI-NN tensors can not carry",
    )
