"""What shall be evaluated: everything that decides what comes out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wasinn_runtime.errors import UsageError

__all__ = ["ENGINES", "Evaluation"]

ENGINES = ("local", "ray")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A guest, a model, data, a task, and where the results go.

    Attributes:
        guest: the module's path.
        graph: the model: a name of the catalogue, such as ``sentiment`` or ``sentiment:int8``, or
            ``ENCODING:TARGET:PATH``.
        data: a file's path, a name of ``wasinn datasets``, a directory of Hugging Face's
            ``datasets``, ``hf:NAME``, or ``-`` for standard input.
        task: one of ``tasks.task_names()``.
        output: the directory of the results; made, and refused if it holds those of another run.
        format: of the data, where its name does not tell.
        columns: for a column that the task reads, its name in the data.
        labels: the names of what the model tells apart, in its order; by default what the
            catalogue says of it.
        split, sample, seed, limit, shard: which rows, see ``data.Data``.
        assets: the directory that the guest sees as ``/model``; None for that of the model.
        args: the guest's command line after its name.
        batch_rows: how many rows a guest gets at once.
        window_rows: how many rows are sorted by length together.
        engine: ``local``, or ``ray`` for the actors of a Ray cluster.
        workers: how many guests run side by side; with Ray, how many actors.
        row_timeout_s: how long a row may take; a batch as many times that as it has rows.
        max_failures: rows that may fail; the run ends at one more. None for any number.
        resume: whether to go on with what the output directory holds.
        nn_options: options of backend plugins, by plugin name.
    """

    guest: str
    graph: str
    data: str
    task: str
    output: str
    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    labels: Sequence[str] = ()
    split: str | None = None
    sample: int | None = None
    seed: int = 0
    limit: int | None = None
    shard: tuple[int, int] | None = None
    assets: str | None = None
    args: Sequence[str] = ()
    batch_rows: int = 32
    window_rows: int = 1024
    engine: str = "local"
    workers: int = 1
    row_timeout_s: float | None = 60.0
    max_failures: int | None = None
    resume: bool = False
    nn_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("batch_rows", "window_rows", "workers"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: expected 1 or more, got {getattr(self, name)}")
        if self.engine not in ENGINES:
            raise UsageError(f"unknown engine {self.engine!r}; there is: {', '.join(ENGINES)}")
        if self.row_timeout_s is not None and self.row_timeout_s <= 0:
            raise UsageError(f"row_timeout_s: expected seconds above 0, got {self.row_timeout_s}")
        if self.max_failures is not None and self.max_failures < 0:
            raise UsageError(f"max_failures: expected 0 or more, got {self.max_failures}")

    def fingerprint(self, hashes: Mapping[str, str | None]) -> dict[str, Any]:
        """What decides each row's result, as JSON can hold it: two runs with the same may be one.

        Args:
            hashes: of the guest, the model and the data.
        """
        deciding = {
            "task": self.task,
            "graph": self.graph,
            "columns": dict(self.columns),
            "labels": list(self.labels),
            "split": self.split,
            "sample": self.sample,
            "seed": self.seed,
            "limit": self.limit,
            "shard": list(self.shard) if self.shard else None,
            "args": list(self.args),
            "batch_rows": self.batch_rows,
            "window_rows": self.window_rows,
            "row_timeout_s": self.row_timeout_s,
            "nn_options": {name: dict(options) for name, options in self.nn_options.items()},
            "sha256": dict(hashes),
        }
        found: dict[str, Any] = json.loads(json.dumps(deciding))
        return found
