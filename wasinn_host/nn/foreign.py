"""What an exception of somebody else's code says, as one line, whatever it is made of."""

from __future__ import annotations

from typing import Final

__all__ = ["one_line"]

_LONGEST: Final = 2000
"""Of a message that goes through every log: libraries put whole files into theirs."""


def one_line(error: BaseException) -> str:
    """Type and text of an exception; the type alone where there is no text to be had."""
    name = type(error).__name__
    try:
        text = " ".join(str(error).split())
    except Exception:  # its own __str__ is at fault, and must not replace what happened
        return name
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ..."
    return f"{name}: {text}" if text else name
