"""Libraries that only evaluation needs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from wasinn_runtime.errors import UsageError

__all__ = ["need"]


def need(module: str, what_for: str) -> Any:
    """A library of the extra ``eval``.

    Args:
        module: its name.
        what_for: the end of "is needed ...".

    Raises:
        UsageError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{module.partition('.')[0]} is needed {what_for} ({error}); "
            "install it with: pip install 'wasinn-host[eval]'"
        ) from error
