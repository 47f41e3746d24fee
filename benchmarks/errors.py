"""What a benchmark raises when it cannot measure. Not the errors of what it measures."""

from __future__ import annotations

from wasinn_runtime.errors import WasinnError

__all__ = ["BenchmarkError", "NotRun"]


class BenchmarkError(WasinnError):
    """Something a measurement needs is missing, failed, or gave a wrong result."""


class NotRun(BenchmarkError):
    """A contestant is not there or can not run something; the table says so and goes on."""
