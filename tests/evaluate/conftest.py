"""A model, its data, and an evaluation of them to vary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.bag_of_words import GUEST, build_model, make_rows, write_rows
from wasinn_host.evaluate import Evaluation
from wasinn_host.evaluate.run import Progress

Make = Callable[..., Evaluation]


class Enough(Exception):
    """What ends a run that is to be ended."""


def stop_after(rows: int) -> Callable[[Progress], None]:
    """Ends a run once so many rows are finished."""

    def stop(progress: Progress) -> None:
        if progress.rows >= rows:
            raise Enough

    return stop


def rows_bytes(folder: Path, *names: str) -> list[bytes]:
    """The bytes of ``rows.parquet`` of each run."""
    return [(folder / name / "rows.parquet").read_bytes() for name in names]


@pytest.fixture(scope="session")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of bag_of_words.py, with its vocabulary beside it."""
    return build_model(tmp_path_factory.mktemp("bag"))


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 rows as JSON lines."""
    return write_rows(tmp_path_factory.mktemp("rows") / "reviews.jsonl", make_rows(500))


@pytest.fixture
def evaluation(bag: Path, reviews: Path, tmp_path: Path) -> Make:
    """An evaluation of the rows, with what is given instead of the defaults."""

    def make(**given: Any) -> Evaluation:
        return Evaluation(
            **{
                "guest": str(GUEST),
                "graph": f"onnx:cpu:{bag}",
                "data": str(reviews),
                "task": "classification",
                "output": str(tmp_path / "out"),
                "window_rows": 128,
                "batch_rows": 16,
                **given,
            }
        )

    return make
