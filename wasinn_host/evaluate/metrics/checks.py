"""Checks of what metrics are given. Each error names the first row that is wrong."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wasinn_host.evaluate.metrics.result import Floats, Integers
from wasinn_runtime.errors import UsageError

__all__ = ["finite", "indices", "matrix", "numbers", "same_length", "some_rows"]

# Elements that are looked at at a time.
_CHUNK: Final = 1 << 22
# Numbers up to it can be squared and added up in float64.
_MOST: Final = np.float64(1e150)


def some_rows(count: int, what: str) -> None:
    """Refuses no rows.

    Raises:
        UsageError: there are none.
    """
    if count == 0:
        raise UsageError(
            f"{what}: expected at least 1 row, got none: check that rows of the data were "
            "evaluated and did not fail"
        )


def same_length(**lengths: int) -> None:
    """Refuses columns of different length.

    Raises:
        UsageError: names them and their lengths.
    """
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UsageError(f"expected as many rows in each, got {got}")


def indices(values: Any, what: str, count: int, remedy: str) -> Integers:
    """A column of numbers from 0 to count - 1, as int64 [rows].

    Args:
        remedy: what to do about a number that is too large.

    Raises:
        UsageError: no integers, not one column, or a number outside of the range.
    """
    column = np.asarray(values)
    some_rows(column.size, what)
    if column.ndim != 1 or column.dtype.kind not in "iu":
        raise UsageError(
            f"{what}: expected integers [rows], got {column.dtype} {list(column.shape)}"
        )
    wrong = (column < 0) | (column >= count)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UsageError(
            f"{what}: row {row}: expected 0 to {count - 1}, got {column[row]}: {remedy}"
        )
    return column.astype(np.int64)


def numbers(values: Any, what: str) -> Floats:
    """A column of numbers that can be squared, as float64 [rows].

    Raises:
        UsageError: not one column of numbers, or one is not finite or beyond 1e150.
    """
    column = np.asarray(values)
    some_rows(column.size, what)
    if column.ndim != 1 or column.dtype.kind not in "iuf":
        raise UsageError(
            f"{what}: expected numbers [rows], got {column.dtype} {list(column.shape)}"
        )
    column = column.astype(np.float64)
    bad = ~(np.abs(column) <= _MOST)
    if bad.any():
        row = int(np.argmax(bad))
        raise UsageError(f"{what}: row {row}: {_expected(column[row])}")
    return column


def matrix(values: Any, what: str, second: str) -> NDArray[np.floating]:
    """Finite floats in two dimensions, as they are (not copied).

    Args:
        second: what the second dimension is.

    Raises:
        UsageError: another shape or type, or a number that is not finite.
    """
    array = np.asarray(values)
    if array.ndim != 2 or array.dtype.kind != "f":
        raise UsageError(
            f"{what}: expected floats [rows, {second}], got {array.dtype} {list(array.shape)}"
        )
    some_rows(len(array), what)
    finite(array, what)
    return array


def finite(array: NDArray[np.floating], what: str) -> None:
    """Refuses NaN, infinity, and numbers too large to be squared in float64.

    Args:
        array: [rows, columns].

    Raises:
        UsageError: names the first row with one.
    """
    step = max(1, _CHUNK // max(1, array.shape[1]))
    for start in range(0, len(array), step):
        part = array[start : start + step]
        bad = ~(np.abs(part) <= _MOST)
        if bad.any():
            row = int(np.argmax(bad.any(axis=1)))
            column = int(np.argmax(bad[row]))
            raise UsageError(
                f"{what}: row {start + row}, column {column}: {_expected(part[row, column])}"
            )


def _expected(got: np.floating) -> str:
    number = "a number within 1e150 of 0" if np.isfinite(got) else "a finite number"
    return f"expected {number}, got {got}: count this row as failed and leave it out"
