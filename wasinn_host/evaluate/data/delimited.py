"""CSV and TSV with a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from wasinn_host.evaluate.data.errors import DataError
from wasinn_host.evaluate.data.lines import LONGEST_ROW_BYTES

__all__ = ["read_delimited"]


class _Bounded(io.RawIOBase):
    """Raises before the csv module would gather a field without end."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._since_row = 0

    def lines(self) -> Iterator[str]:
        """The text's lines, with their ends."""
        for number, line in enumerate(self._raw(), 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{self._name}, line {number}: not UTF-8: {error}") from error
            if "\0" in text:
                raise DataError(f"{self._name}, line {number}: a zero byte; this is no text file")
            yield text

    def row_ended(self) -> None:
        """A row is whole: what comes belongs to the next."""
        self._since_row = 0

    def _raw(self) -> Iterator[bytes]:
        while line := self._file.readline(LONGEST_ROW_BYTES + 1):
            self._since_row += len(line)
            if self._since_row > LONGEST_ROW_BYTES:
                raise DataError(
                    f"{self._name}: a row of more than {LONGEST_ROW_BYTES >> 20} MiB; is a quote "
                    "left open?"
                )
            yield line


def read_delimited(file: BinaryIO, name: str, delimiter: str) -> Iterator[Mapping[str, Any]]:
    """The rows of a file as texts by the names in its first row.

    Args:
        file: its bytes, UTF-8.
        name: for messages.
        delimiter: ``,`` or a tab. Fields may be quoted as RFC 4180 says.

    Raises:
        DataError: not UTF-8, a row has other than the header's fields, a field has no end.
    """
    csv.field_size_limit(LONGEST_ROW_BYTES)
    bounded = _Bounded(file, name)
    reader = csv.reader(bounded.lines(), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    try:
        for fields in reader:
            bounded.row_ended()
            if not fields:
                continue
            if header is None:
                header = fields
                doubled = sorted({column for column in header if header.count(column) > 1})
                if doubled:
                    raise DataError(f"{name}: the header names {doubled[0]!r} twice")
                continue
            if len(fields) != len(header):
                raise DataError(
                    f"{name}, line {reader.line_num}: {len(fields)} fields; the header has "
                    f"{len(header)} ({', '.join(header)})"
                )
            yield dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.line_num}: {error}") from error
