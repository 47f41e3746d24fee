"""Two evaluations that ended, compared on the rows that both have."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.metrics.result import Bootstrap
from wasinn_host.evaluate.saved import read_results, read_rows
from wasinn_host.evaluate.tasks import Task, make_task
from wasinn_runtime.errors import UsageError

__all__ = ["COMPARISON_SCHEMA", "compare_runs"]

COMPARISON_SCHEMA: Final = "wasinn-eval-compare-1"
_SHOWN: Final = ("guest", "graph", "data")


def compare_runs(first: str | Path, second: str | Path, *, seed: int = 0) -> dict[str, Any]:
    """What the second of two runs on the same data does otherwise, and whether it may be chance.

    A row that failed in one of the runs is left out, and counted.

    Args:
        first, second: the directories of results.
        seed: of the resampling.

    Returns:
        a document of the schema ``wasinn-eval-compare-1``: ``task``; ``runs``, of each its
        directory, guest, graph, ``rows_per_s`` and how many rows failed; ``rows``, how many are
        compared and ``left_out``; ``differences``, for each metric ``first``, ``second``,
        ``difference`` (second less first), ``standard_error``, ``low``, ``high``, ``confidence``,
        ``p_value`` and ``test``.

    Raises:
        UsageError: one of them has no results; they have not the same task, rows or expected
            values; no row is good in both.
    """
    directories = (Path(first), Path(second))
    results = [read_results(directory) for directory in directories]
    task = _task(results)
    columns = ["row", "id", "status", *(name for name, _ in task.schema())]
    tables = [read_rows(directory, columns) for directory in directories]
    _same_rows(directories, tables, ["row", "id", *task.expected])
    compute = need("pyarrow.compute", "to compare results")
    good = compute.and_(*(compute.not_equal(table["status"], "failed") for table in tables))
    kept = [table.filter(good) for table in tables]
    if not len(kept[0]):
        raise UsageError(f"{first} and {second}: no row was evaluated in both")
    options = Bootstrap(seed=seed)
    compared = task.compare(kept[0], kept[1], seed)
    return {
        "schema": COMPARISON_SCHEMA,
        "task": task.name,
        "runs": [
            {
                "directory": str(directory),
                **{name: found[name] for name in _SHOWN},
                "rows_per_s": found["rows_per_s"],
                "failed": found["rows"]["failed"],
            }
            for directory, found in zip(directories, results, strict=True)
        ],
        "rows": {"compared": len(kept[0]), "left_out": len(good) - len(kept[0])},
        "differences": {
            name: difference.to_json(options.confidence) for name, difference in compared.items()
        },
        "seed": seed,
    }


def _task(results: list[dict[str, Any]]) -> Task:
    names = [found["task"] for found in results]
    if names[0] != names[1]:
        raise UsageError(f"expected two runs of one task, got {names[0]} and {names[1]}")
    labels = [found.get("labels", []) for found in results]
    if labels[0] != labels[1]:
        raise UsageError(
            f"expected the same labels in both runs, got {', '.join(labels[0])} and "
            f"{', '.join(labels[1])}"
        )
    return make_task(names[0], {}, labels[0])


def _same_rows(directories: tuple[Path, Path], tables: list[Any], columns: list[str]) -> None:
    one, other = tables
    if len(one) != len(other):
        raise UsageError(
            f"expected runs on the same rows, got {len(one)} in {directories[0]} and {len(other)} "
            f"in {directories[1]}"
        )
    for name in columns:
        if one[name].equals(other[name]):
            continue
        a, b = one[name].to_pylist(), other[name].to_pylist()
        at = next(i for i in range(len(a)) if a[i] != b[i])
        raise UsageError(
            f"expected runs on the same rows; row {one['row'][at]} has {name} {a[at]!r:.60} in "
            f"{directories[0]} and {b[at]!r:.60} in {directories[1]}"
        )
