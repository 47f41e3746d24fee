"""JSON lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

from wasinn_host.evaluate.data.errors import DataError

__all__ = ["LONGEST_ROW_BYTES", "read_lines"]

_decode: Final = json.JSONDecoder().raw_decode
LONGEST_ROW_BYTES: Final = 64 << 20
"""Of one row in a text format; more is a mistake, or an attack on our memory."""


def read_lines(file: BinaryIO, name: str) -> Iterator[Mapping[str, Any]]:
    """The objects of a file. Lines of white space are left out.

    Args:
        file: its bytes.
        name: for messages.

    Raises:
        DataError: a line is no JSON object, not UTF-8, or too long.
    """
    number = 0
    while line := file.readline(LONGEST_ROW_BYTES + 1):
        number += 1
        if len(line) > LONGEST_ROW_BYTES:
            raise DataError(
                f"{name}, line {number}: longer than {LONGEST_ROW_BYTES >> 20} MiB; expected one "
                "JSON object a line"
            )
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            text = line.decode().strip()
            if not text:
                continue
            row, end = _decode(text)
            if end != len(text):
                raise ValueError(f"something follows it: {text[end : end + 20]!r}")
        except UnicodeDecodeError as error:
            raise DataError(f"{name}, line {number}: not UTF-8: {error}") from error
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{name}, line {number}: no JSON: {error}; it begins with {_shown(line)}"
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"{name}, line {number}: expected a JSON object, got {_shown(line)}")
        yield row


def _shown(line: bytes) -> str:
    return repr(line[:60].decode("utf-8", "backslashreplace").rstrip())
