"""What people read: lines on standard error, data on standard output. Decides nothing.

Names come from untrusted modules, so nothing that a terminal would obey is ever written: control
characters and the like are shown as escapes.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

__all__ = ["colour", "put", "safe", "say"]

_CODES = {"red": 31, "green": 32, "yellow": 33, "cyan": 36}


def safe(text: str) -> str:
    """The text with everything that is not printable escaped, except line feeds."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def say(text: str, name: str = "wasinn") -> None:
    """Writes a message to standard error, after the program's name; never fails.

    Args:
        text: one line or several, without the final line feed.
        name: what stands before the colon.
    """
    stream = sys.stderr
    if stream is None:
        return
    try:
        stream.write(f"{colour(name, 'cyan', stream)}: {safe(text)}\n")
        stream.flush()
    except (OSError, ValueError):
        # There is nobody left to tell; the exit status still says it.
        return


def put(text: str) -> None:
    """Writes data to standard output.

    Args:
        text: made of safe parts, with its final line feed.

    Raises:
        OSError: it can not be written, or standard output is closed.
    """
    if sys.stdout is None:
        raise OSError("standard output is closed")
    sys.stdout.write(text)


def colour(text: str, name: str, stream: TextIO | None = None) -> str:
    """The text in a colour, if the stream is a terminal and ``NO_COLOR`` is not set.

    Args:
        text: what to colour.
        name: one of red, green, yellow, cyan.
        stream: where it will be written; standard output by default.
    """
    stream = sys.stdout if stream is None else stream
    if stream is None or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    try:
        is_terminal = stream.isatty()
    except ValueError:
        return text
    return f"\x1b[{_CODES[name]}m{text}\x1b[0m" if is_terminal else text
