"""What is wrong with data."""

from __future__ import annotations

from wasinn_runtime.errors import UsageError

__all__ = ["DataError"]


class DataError(UsageError):
    """A data set that can not be read; the message names the file and the line or row."""
