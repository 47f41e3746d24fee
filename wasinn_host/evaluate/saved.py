"""Results of an evaluation that ended, read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.results import SCHEMA
from wasinn_runtime.errors import UsageError

__all__ = ["read_results", "read_rows"]


def read_results(directory: str | Path) -> dict[str, Any]:
    """What ``results.json`` holds.

    Raises:
        UsageError: there is none, it is damaged, or of another schema; the message says what to do.
    """
    path = Path(directory) / "results.json"
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        why = "there is no such directory"
        if Path(directory).is_dir():
            why = "the evaluation has not ended, go on with it by --resume"
            if not (Path(directory) / "run.json").exists():
                why = "no evaluation wrote there"
        raise UsageError(f"{path}: not there: {why}") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: damaged: {error}; evaluate again") from error
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise UsageError(f"{path}: expected the schema {SCHEMA!r}, got {schema!r:.60}")
    results: dict[str, Any] = found
    return results


def read_rows(directory: str | Path, columns: Sequence[str]) -> Any:
    """Columns of ``rows.parquet``, as an Arrow table.

    Raises:
        UsageError: it is not there, or damaged, or has no such column.
    """
    arrow = need("pyarrow", "to read results")
    parquet = need("pyarrow.parquet", "to read results")
    path = Path(directory) / "rows.parquet"
    try:
        table = parquet.read_table(path, columns=list(columns))
    except (OSError, arrow.ArrowException) as error:
        raise UsageError(f"{path}: can not be read: {error}") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise UsageError(f"{path}: expected a column {missing[0]!r}; evaluate again")
    return table
