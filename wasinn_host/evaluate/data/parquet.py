"""Parquet and Arrow files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from wasinn_host.evaluate.data.errors import DataError
from wasinn_host.evaluate.extra import need

__all__ = ["read_parquet"]

_ROWS_AT_ONCE = 4096


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> Iterator[Mapping[str, Any]]:
    """The rows of a Parquet file, some thousand in memory at a time.

    Args:
        path: the file.
        columns: only these; None for all.

    Raises:
        DataError: it is no Parquet file, or damaged.
    """
    parquet = need("pyarrow.parquet", "to read Parquet files")
    arrow = need("pyarrow", "to read Parquet files")
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
                yield from batch.to_pylist()
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise DataError(f"{path}: can not be read as Parquet: {error}") from error
