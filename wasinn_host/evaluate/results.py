"""``results.json``: what came out, as numbers."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from wasinn_host.evaluate.evaluation import Evaluation
from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.store import BatchRecord, RunDirectory
from wasinn_host.evaluate.tasks import Task

__all__ = ["SCHEMA", "summary"]

SCHEMA: Final = "wasinn-eval-1"
_MOST_FAILURES: Final = 100
_THROUGHPUT_POINTS: Final = 120
_BATCHES_A_POINT: Final = 4
"""So that the throughput shows how fast it is, and not where batches end."""
_BINS: Final = 30


def summary(
    evaluation: Evaluation, task: Task, store: RunDirectory, described: Mapping[str, Any]
) -> dict[str, Any]:
    """What ``results.json`` says, of the rows that were written."""
    parquet = need("pyarrow.parquet", "to read results")
    rows = parquet.read_table(
        store.path / "rows.parquet",
        columns=["row", "id", "status", "error", "tokens", *(name for name, _ in task.schema())],
    )
    compute = need("pyarrow.compute", "to read results")
    failed = compute.equal(rows["status"], "failed")
    good = rows.filter(compute.invert(failed))
    bad = rows.filter(failed)
    records = store.records
    duration_s = max((record[3] for record in records), default=0.0)
    counts = {
        "requested": len(rows),
        "evaluated": len(good),
        "failed": len(bad),
        "truncated": int(compute.sum(compute.equal(rows["status"], "truncated")).as_py() or 0),
    }
    measured = task.measure(good, evaluation.seed) if len(good) else {"metrics": {}, "worst": []}
    _add_texts(measured["worst"], store.path)
    return {
        "schema": SCHEMA,
        "task": task.name,
        "rows": counts,
        "labels": list(task.labels),
        **measured,
        # A row takes as long as its batch.
        "latency_s": _distribution(np.repeat([r[2] for r in records], [r[1] for r in records])),
        "tokens": _distribution(good["tokens"].to_numpy()),
        "throughput": _throughput(records),
        "duration_s": round(duration_s, 3),
        "rows_per_s": round(len(rows) / duration_s, 3) if duration_s else None,
        "failures": [
            {"row": row["row"], "id": row["id"], "error": row["error"]}
            for row in bad.slice(0, _MOST_FAILURES).to_pylist()
        ],
        **described,
        "seed": evaluation.seed,
        "settings": {
            "batch_rows": evaluation.batch_rows,
            "window_rows": evaluation.window_rows,
            "workers": evaluation.workers,
            "row_timeout_s": evaluation.row_timeout_s,
        },
        "environment": environment(),
    }


def _add_texts(worst: Sequence[dict[str, Any]], directory: Path) -> None:
    """Adds the beginning of each row's text. Of all rows it would be much to hold."""
    if not worst:
        return
    parquet = need("pyarrow.parquet", "to read results")
    chosen = [("row", "in", [row["row"] for row in worst])]
    found = parquet.read_table(
        directory / "rows.parquet", columns=["row", "excerpt"], filters=chosen
    )
    texts = dict(zip(found["row"].to_pylist(), found["excerpt"].to_pylist(), strict=True))
    for row in worst:
        row["text"] = texts[row["row"]]


def environment() -> dict[str, Any]:
    """What the numbers were made with."""
    import os

    packages = {}
    for name in ("wasinn-host", "llvmlite", "numpy", "onnxruntime", "pyarrow", "scikit-learn"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "byteorder": sys.byteorder,
        "packages": packages,
    }


def _distribution(values: npt.NDArray[Any]) -> dict[str, Any]:
    if not len(values):
        return {"count": 0}
    values = values.astype(np.float64)
    p50, p90, p99 = np.percentile(values, (50, 90, 99))
    counts, edges = np.histogram(values, _BINS)
    return {
        "count": len(values),
        "mean": float(values.mean()),
        "p50": float(p50),
        "p90": float(p90),
        "p99": float(p99),
        "max": float(values.max()),
        "histogram": [
            {"from": float(low), "to": float(high), "count": int(count)}
            for low, high, count in zip(edges, edges[1:], counts, strict=False)
        ],
    }


def _throughput(records: Sequence[BatchRecord]) -> list[dict[str, float]]:
    """Rows finished in each of equal parts of the run."""
    if not records:
        return []
    ends = np.array([record[3] for record in records])
    rows = np.array([record[1] for record in records], np.float64)
    end = float(ends.max()) or 1.0
    counts, edges = np.histogram(
        ends,
        max(1, min(_THROUGHPUT_POINTS, len(records) // _BATCHES_A_POINT)),
        (0, end),
        weights=rows,
    )
    return [
        {"at_s": round(float(at), 3), "rows": float(count)}
        for at, count in zip(edges[1:], counts, strict=False)
    ]
