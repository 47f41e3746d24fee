"""What a guest answers for a batch of rows, however it was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from wasinn_runtime.errors import WasinnError

__all__ = [
    "FAILED",
    "MOST_STDERR_BYTES",
    "OK",
    "STATUS_WORDS",
    "TRUNCATED",
    "Answers",
    "GuestBroke",
    "with_last_line",
]

MOST_STDERR_BYTES = 1 << 20
"""Of what a guest writes there; further writes fail."""

OK, TRUNCATED, FAILED = 0, 1, 2
STATUS_WORDS = ("ok", "truncated", "failed")
"""Of a row, by its number."""


class GuestBroke(WasinnError):
    """A guest did not answer, or not as the contract says. It must not be asked again.

    Attributes:
        is_hopeless: whether the next one would be no better, such as one that can not start.
    """

    def __init__(self, message: str, *, is_hopeless: bool = False) -> None:
        super().__init__(message)
        self.is_hopeless = is_hopeless


@dataclass(frozen=True, slots=True)
class Answers:
    """What came of n rows.

    Attributes:
        status: int32 [n], `OK`, `TRUNCATED` or `FAILED`.
        tokens: int32 [n], what the model saw of each; 0 where the guest does not say.
        counts: int32 [n], how many numbers each has.
        numbers: float32 [sum of counts], those of a row together.
        texts: of each row; why, where it failed. Empty as a whole when no row has any.
    """

    status: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.float32]
    texts: Sequence[str]

    @classmethod
    def failed(cls, why: str) -> Answers:
        """Those of one row that failed."""
        zero = np.zeros(1, np.int32)
        return cls(np.full(1, FAILED, np.int32), zero, zero, np.zeros(0, np.float32), (why,))

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Those of several batches, as of one."""

        def all_of(name: str) -> Any:
            return np.concatenate([getattr(part, name) for part in parts])

        texts: list[str] = []
        if any(part.texts for part in parts):
            for part in parts:
                texts += part.texts or [""] * len(part.status)
        return cls(all_of("status"), all_of("tokens"), all_of("counts"), all_of("numbers"), texts)

    def __len__(self) -> int:
        return len(self.status)

    def text(self, row: int) -> str:
        """The text of a row; empty where it has none."""
        return self.texts[row] if self.texts else ""


def with_last_line(what: str, stderr: bytes) -> str:
    """What went wrong, and the last line that a guest wrote to stderr, if any."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return f"{what}: {lines[-1]}" if lines else what
