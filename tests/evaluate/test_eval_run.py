"""Evaluations from data to results, on a real guest and a real model."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from tests.evaluate.bag_of_words import logits, make_rows, write_rows
from tests.evaluate.conftest import Enough, Make, rows_bytes, stop_after
from tests.evaluate.strange_guests import reactor
from wasinn_host.evaluate import evaluate
from wasinn_host.evaluate.data import DataError
from wasinn_host.evaluate.run import Progress, TooManyFailures, evaluate_graphs
from wasinn_host.evaluate.tasks import TaskError
from wasinn_runtime.errors import UsageError


def test_each_row_is_there_once_in_order_with_the_models_answer(evaluation: Make) -> None:
    seen: list[Progress] = []
    asked = evaluation(workers=2)
    results = evaluate(asked, seen.append)
    rows = pyarrow.parquet.read_table(Path(asked.output) / "rows.parquet").to_pylist()
    expected = make_rows(500)
    assert [row["row"] for row in rows] == list(range(500))
    assert [row["id"] for row in rows] == [row["id"] for row in expected]
    assert [row["logits"] for row in rows] == [logits(str(row["text"])) for row in expected]
    assert [row["label"] for row in rows] == [row["label"] for row in expected]
    # [CLS], the words, [SEP]
    assert [row["tokens"] for row in rows] == [len(str(r["text"]).split()) + 2 for r in expected]
    right = np.mean([row["label"] == row["prediction"] for row in rows])
    assert results["metrics"]["accuracy"]["value"] == pytest.approx(right)
    assert results["rows"] == {"requested": 500, "evaluated": 500, "failed": 0, "truncated": 0}
    assert json.loads((Path(asked.output) / "results.json").read_text()) == results
    assert seen[-1].rows == 500
    assert seen[-1].value == pytest.approx(right)
    assert sum(point["rows"] for point in results["throughput"]) == 500


def test_every_key_of_the_results_is_documented(evaluation: Make) -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluating.md").read_text(encoding="utf-8")
    table = page[page.index("| key | what it is |") :].split("\n\n")[0]
    keys = {
        key for line in table.splitlines() for key in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    results = evaluate(evaluation())
    assert set(results) <= keys
    assert keys - set(results) == {"types", "queries", "documents"}


def test_workers_do_not_change_what_comes_out(evaluation: Make, tmp_path: Path) -> None:
    for workers in (1, 3):
        evaluate(evaluation(workers=workers, output=str(tmp_path / str(workers))))
    one, three = rows_bytes(tmp_path, "1", "3")
    assert one == three


def test_a_directory_is_not_written_over(evaluation: Make, tmp_path: Path) -> None:
    evaluate(evaluation())
    with pytest.raises(UsageError, match="holds an evaluation already"):
        evaluate(evaluation())
    with pytest.raises(UsageError, match=r"--resume does not fit.*batch_rows was 16, and is 8 now"):
        evaluate(evaluation(resume=True, batch_rows=8))
    # The same one is finished: nothing is computed, the results are those.
    seen: list[Progress] = []
    again = evaluate(evaluation(resume=True), seen.append)
    assert again["rows"]["evaluated"] == 500
    assert not seen
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="files that no evaluation wrote"):
        evaluate(evaluation(output=str(tmp_path / "mine")))
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("after", [1, 100, 300, 499])
def test_what_was_finished_is_not_computed_again(
    evaluation: Make, tmp_path: Path, after: int
) -> None:
    with pytest.raises(Enough):
        evaluate(evaluation(), stop_after(after))
    seen: list[Progress] = []
    evaluate(evaluation(resume=True), seen.append)
    evaluate(evaluation(output=str(tmp_path / "whole")))
    rows, whole = rows_bytes(tmp_path, "out", "whole")
    assert rows == whole
    assert len(seen) <= (500 - after) // 16 + 5


def test_a_damaged_part_is_computed_again(evaluation: Make, tmp_path: Path) -> None:
    with pytest.raises(Enough):
        evaluate(evaluation(), stop_after(300))
    parts = sorted((tmp_path / "out" / "parts").glob("*.arrow"))
    parts[0].write_bytes(parts[0].read_bytes()[:-50])
    evaluate(evaluation(resume=True))
    evaluate(evaluation(output=str(tmp_path / "whole")))
    rows, whole = rows_bytes(tmp_path, "out", "whole")
    assert rows == whole


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ([{"text": "good"}], TaskError, "row 0: no column 'label'; there is: text; name one with"),
        ([{"label": 1}], TaskError, "row 0: no column 'text'"),
        ([{"text": "good", "label": 2}], TaskError, "row 0 .id 0.: label 2; the model tells 2"),
        ([{"text": "good", "label": -1}], TaskError, "row 0: label -1: expected"),
        ([{"text": "good", "label": "yes"}], TaskError, "row 0: label 'yes': expected"),
        ([{"text": 7, "label": 1}], TaskError, "row 0: column 'text': expected text, got 7"),
        ([{"text": "\ud800", "label": 1}], TaskError, "not Unicode text"),
        ([], DataError, "no rows"),
    ],
)
def test_data_that_do_not_fit(
    evaluation: Make,
    tmp_path: Path,
    rows: list[dict[str, object]],
    error: type[Exception],
    message: str,
) -> None:
    data = write_rows(tmp_path / "data.jsonl", rows)
    with pytest.raises(error, match=message):
        evaluate(evaluation(data=str(data)))


def test_a_text_longer_than_the_model_is_counted(evaluation: Make, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"text": "good " * 1000, "label": 1},
        {"text": "good", "label": 1},
    ]
    data = write_rows(tmp_path / "data.jsonl", rows)
    results = evaluate(evaluation(data=str(data)))
    assert results["rows"]["truncated"] == 1
    assert results["tokens"]["max"] == 256


def test_names_of_columns_and_labels(evaluation: Make, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"sentence": "good", "opinion": "pos", "key": "a"},
        {"sentence": "bad", "opinion": "neg", "key": "b"},
    ]
    data = write_rows(tmp_path / "data.jsonl", rows)
    results = evaluate(
        evaluation(
            data=str(data),
            columns={"text": "sentence", "label": "opinion", "id": "key"},
            labels=("neg", "pos"),
        )
    )
    assert results["metrics"]["accuracy"]["value"] == 1.0
    table = pyarrow.parquet.read_table(tmp_path / "out" / "rows.parquet")
    assert table["id"].to_pylist() == ["a", "b"]
    with pytest.raises(TaskError, match="has no column 'sentences'; there is: id, text"):
        evaluate(evaluation(columns={"sentences": "x"}, output=str(tmp_path / "b")))


def test_failures_are_counted_and_may_end_the_run(evaluation: Make, tmp_path: Path) -> None:
    guest = tmp_path / "guest.wasm"
    guest.write_bytes(reactor(rows="unreachable"))
    asked = {"guest": str(guest), "limit": 20}
    results = evaluate(evaluation(**asked))
    assert results["rows"] == {"requested": 20, "evaluated": 0, "failed": 20, "truncated": 0}
    assert len(results["failures"]) == 20
    assert results["metrics"] == {}
    with pytest.raises(TooManyFailures, match="rows failed, at most 3 may"):
        evaluate(evaluation(**asked, max_failures=3, output=str(tmp_path / "b")))


def test_texts_that_broke_other_tokenizers(evaluation: Make, tmp_path: Path) -> None:
    """Long words, words without end, what is invisible, and what is no letter at all."""
    texts = [
        "a" * 1_000_000,
        "aa " * 300_000,
        "good " * 3 + "a" * 500_000 + " good",
        "\u0301" * 200_000,
        "\u200b\u202e\u2066" * 100_000 + "good",
        "\u4e00" * 300_000,
        "\U0001f600" * 200_000,
        "!" * 500_000,
        "\x00" * 1000 + "good",
        "\ufdfa" * 100_000,
        "",
    ]
    data = write_rows(tmp_path / "data.jsonl", [{"text": text, "label": 1} for text in texts])
    results = evaluate(evaluation(data=str(data), row_timeout_s=10.0))
    assert results["rows"]["failed"] == 0, results["failures"]
    assert results["rows"]["evaluated"] == len(texts)
    assert results["duration_s"] < 60


def test_several_graphs_on_rows_that_are_read_once(
    evaluation: Make, tmp_path: Path, bag: Path
) -> None:
    (tmp_path / "more").mkdir()
    other = tmp_path / "more" / "other.onnx"
    other.write_bytes(bag.read_bytes())
    (tmp_path / "more" / "vocab.txt").write_bytes((bag.parent / "vocab.txt").read_bytes())
    data = tmp_path / "pipe.jsonl"
    write_rows(data, make_rows(500))
    several = [
        evaluation(
            data=str(data), output=str(tmp_path / name), graph=f"onnx:cpu:{path}", workers=workers
        )
        for name, path, workers in (("a", bag, 1), ("b", other, 2))
    ]
    seen: list[Progress] = []
    found = evaluate_graphs(several, seen.append)
    assert seen[-1].rows == 1000
    alone = evaluate(evaluation(data=str(data), output=str(tmp_path / "alone")))
    one, two, three = rows_bytes(tmp_path, "a", "b", "alone")
    assert one == two == three
    for results in found:
        assert results["metrics"] == alone["metrics"]
        assert results["graph"]["memory_bytes"] >= 0
        assert (tmp_path / "a" / "report.html").exists()
    # What is finished is not computed again.
    seen.clear()
    again = [dataclasses.replace(each, resume=True) for each in several]
    assert evaluate_graphs(again, seen.append) == found
    assert not seen


def test_several_graphs_go_on_where_they_ended(evaluation: Make, tmp_path: Path) -> None:
    several = [evaluation(output=str(tmp_path / name)) for name in ("a", "b")]
    with pytest.raises(Enough):
        evaluate_graphs(several, stop_after(400))
    evaluate_graphs([dataclasses.replace(each, resume=True) for each in several])
    evaluate(evaluation(output=str(tmp_path / "alone")))
    one, two, three = rows_bytes(tmp_path, "a", "b", "alone")
    assert one == two == three


def test_several_graphs_that_do_not_go_together(evaluation: Make, tmp_path: Path) -> None:
    first = evaluation(output=str(tmp_path / "a"))
    with pytest.raises(UsageError, match="with the same limit, got"):
        evaluate_graphs([first, evaluation(output=str(tmp_path / "b"), limit=3)])
    with pytest.raises(UsageError, match="expected an output for each"):
        evaluate_graphs([first, first])
    both = [evaluation(output=str(tmp_path / name), engine="ray") for name in "ab"]
    with pytest.raises(UsageError, match="on this machine only"):
        evaluate_graphs(both)
