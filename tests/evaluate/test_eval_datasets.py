"""Data sets of Hugging Face: directories, and what ``load_dataset`` takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import pytest

from tests.evaluate.bag_of_words import make_rows, write_rows
from tests.evaluate.conftest import Make, rows_bytes
from wasinn_host.evaluate import evaluate
from wasinn_host.evaluate.data import DataError, find_data, open_data


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A directory with two splits."""
    datasets.disable_progress_bars()
    rows = make_rows(120)
    parts = {
        "train": datasets.Dataset.from_list(rows[:20]),
        "test": datasets.Dataset.from_list(rows[20:]),
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def rows_of(source: str | Path, **more: Any) -> list[Mapping[str, Any]]:
    return [row for _, row in open_data(find_data(str(source)), **more)]


def test_a_split_of_a_directory_is_evaluated_as_its_rows_in_a_file(
    saved: Path, evaluation: Make, tmp_path: Path
) -> None:
    evaluate(evaluation(data=str(saved), split="test", output=str(tmp_path / "a")))
    lines = write_rows(tmp_path / "lines.jsonl", make_rows(120)[20:])
    evaluate(evaluation(data=str(lines), output=str(tmp_path / "b")))
    one, other = rows_bytes(tmp_path, "a", "b")
    assert one == other
    again = evaluate(
        evaluation(data=str(saved), split="test", output=str(tmp_path / "a"), resume=True)
    )
    assert again["rows"]["evaluated"] == 100


def test_samples_and_shards_of_a_directory(saved: Path) -> None:
    whole = rows_of(saved, split="test")
    assert len(whole) == 100
    assert rows_of(saved, split="test", shard=(1, 4)) == whole[1::4]
    sample = rows_of(saved, split="test", sample=10, seed=3)
    assert len(sample) == 10
    assert sample == rows_of(saved, split="test", sample=10, seed=3)


def test_splits_that_are_not_there(saved: Path) -> None:
    with pytest.raises(DataError, match="say which with --split; there is: train, test"):
        rows_of(saved)
    with pytest.raises(DataError, match="no split 'dev'; there is: train, test"):
        rows_of(saved, split="dev")
    assert len(rows_of(saved / "train")) == 20
    with pytest.raises(DataError, match="it has no splits; leave out --split test"):
        rows_of(saved / "train", split="test")


def test_a_damaged_directory(saved: Path) -> None:
    (path,) = (saved / "test").glob("*.arrow")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="can not be read as a data set"):
        rows_of(saved, split="test")
    (saved / "dataset_dict.json").write_text("{")
    with pytest.raises(DataError, match="can not be read as a data set"):
        rows_of(saved, split="train")


def test_what_load_dataset_takes(tmp_path: Path, evaluation: Make) -> None:
    (tmp_path / "files").mkdir()
    write_rows(tmp_path / "files" / "train.jsonl", make_rows(30))
    source = f"hf:{tmp_path / 'files'}"
    assert [row["text"] for row in rows_of(source)] == [row["text"] for row in make_rows(30)]
    assert open_data(source).sha256() is None
    assert open_data(f"{source}@{'a' * 40}").sha256() is not None
    results = evaluate(evaluation(data=source))
    assert results["rows"]["evaluated"] == 30
    with pytest.raises(DataError, match="--resume needs a file, or a data set of the hub with"):
        evaluate(evaluation(data=source, resume=True))


def test_names_that_are_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="hf:/nowhere: can not be had: "):
        rows_of("hf:/nowhere")
    with pytest.raises(DataError, match="nor one of `wasinn datasets`: movie-reviews"):
        rows_of("nowhere")
