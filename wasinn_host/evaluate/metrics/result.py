"""What a metric is, and how sure of it one can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wasinn_runtime.errors import UsageError

__all__ = ["Bools", "Bootstrap", "Floats", "Integers", "Metric"]

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Metric:
    """One number about a whole data set.

    Attributes:
        value: None where it is not defined; ``note`` then says why.
        standard_error: how far the value would spread over other samples of as many rows; None
            where nothing can be said.
        low: lower end of the confidence interval.
        high: upper end.
        note: why something is None, or what was left out; None if there is nothing to say.
    """

    value: float | None
    standard_error: float | None = None
    low: float | None = None
    high: float | None = None
    note: str | None = None

    def to_json(self, confidence: float) -> dict[str, Any]:
        """The row of ``results.json``; ``note`` is in it only when there is one.

        Args:
            confidence: the level that the interval was computed with, such as 0.95.
        """
        row: dict[str, Any] = {
            "value": self.value,
            "standard_error": self.standard_error,
            "low": self.low,
            "high": self.high,
            "confidence": confidence,
        }
        if self.note is not None:
            row["note"] = self.note
        return row


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are computed.

    Attributes:
        resamples: how many times the rows are drawn anew.
        seed: of numpy's PCG64. The same seed and rows give the same intervals, bit for bit.
        confidence: level of the intervals, between 0 and 1.

    Raises:
        UsageError: a value makes no sense.
    """

    resamples: int = 1000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 2:
            raise UsageError(
                f"resamples: expected 2 or more (1,000 is usual), got {self.resamples}"
            )
        if self.seed < 0:
            raise UsageError(f"seed: expected 0 or more, got {self.seed}")
        if not 0 < self.confidence < 1:
            raise UsageError(
                f"confidence: expected a number between 0 and 1 such as 0.95, got {self.confidence}"
            )
