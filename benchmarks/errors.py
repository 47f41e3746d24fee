"""What a benchmark raises when it cannot measure. Not the errors of what it measures."""

from __future__ import annotations

from wasinn_runtime.errors import WasinnError

__all__ = ["BenchmarkError"]


class BenchmarkError(WasinnError):
    """Something a measurement needs is missing, failed, or gave a wrong result."""
