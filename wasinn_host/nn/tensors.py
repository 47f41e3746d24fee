"""Tensors as numbers: for those who compare results, not for those who compute."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from wasinn_host.nn.plugin import Tensor, TensorType

__all__ = ["STRUCT_FORMATS", "difference", "numbers"]

#: The `struct` module's letter for each type that it knows.
STRUCT_FORMATS: Final = {
    TensorType.F16: "e",
    TensorType.F32: "f",
    TensorType.F64: "d",
    TensorType.U8: "B",
    TensorType.I32: "i",
    TensorType.I64: "q",
}
_FLOATS: Final = {TensorType.F16, TensorType.F32, TensorType.F64, TensorType.BF16}


def numbers(tensor: Tensor) -> Sequence[float]:
    """The elements, row-major."""
    if tensor.type is TensorType.BF16:
        halves = struct.iter_unpack("<2s", tensor.data)
        return [struct.unpack("<f", b"\0\0" + half)[0] for (half,) in halves]
    count = tensor.data.nbytes // tensor.type.size_bytes
    return struct.unpack(f"<{count}{STRUCT_FORMATS[tensor.type]}", tensor.data)


def difference(got: Tensor, want: Tensor, tolerance: float) -> str:
    """How two tensors differ; empty if they do not.

    Args:
        got: the one,
        want: and the one it should be.
        tolerance: how far a float may be off, as a part of the larger of 1 and the wanted number.
            Integers must be equal, and NaN is equal to NaN.
    """
    if got.type is not want.type or got.shape != want.shape:
        return (
            f"expected {want.type.value} {list(want.shape)}, got {got.type.value} {list(got.shape)}"
        )
    if got.data == want.data:
        return ""
    slack = tolerance if got.type in _FLOATS else 0.0
    for at, (a, b) in enumerate(zip(numbers(got), numbers(want), strict=True)):
        # Written so that a NaN is no match for a number.
        if not (a == b or abs(a - b) <= slack * max(1.0, abs(b)) or (a != a and b != b)):
            return f"element {at}: expected {b:.9g}, got {a:.9g}"
    return ""
