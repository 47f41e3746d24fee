"""Two evaluations that ended, compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluate.bag_of_words import make_rows, write_rows
from tests.evaluate.conftest import Enough, Make, stop_after
from tests.evaluate.test_eval_cli import WASINN, run
from wasinn_host.evaluate import evaluate
from wasinn_host.evaluate.compare import compare_runs
from wasinn_host.evaluate.metrics.compare import compare_classification
from wasinn_host.evaluate.saved import read_results, read_rows
from wasinn_runtime.errors import UsageError


def test_runs_that_answer_otherwise(evaluation: Make, tmp_path: Path, bag: Path) -> None:
    """The second run's vocabulary is the first's in another order: other tokens, other answers."""
    first = evaluation(output=str(tmp_path / "a"))
    evaluate(first)
    words = (bag.parent / "vocab.txt").read_text().splitlines()
    assets = tmp_path / "assets"
    assets.mkdir()
    shuffled = words[:5] + words[5:][::-1]
    (assets / "vocab.txt").write_text("\n".join(shuffled) + "\n")
    evaluate(evaluation(output=str(tmp_path / "b"), assets=str(assets)))
    found = compare_runs(tmp_path / "a", tmp_path / "b")
    assert found["schema"] == "wasinn-eval-compare-1"
    assert found["rows"] == {"compared": 500, "left_out": 0}
    tables = [read_rows(tmp_path / which, ["label", "prediction", "logits"]) for which in "ab"]
    one, other = ((t["prediction"].to_numpy(), t["logits"].to_pylist()) for t in tables)
    expected = compare_classification(tables[0]["label"].to_numpy(), one, other)
    assert found["differences"]["accuracy"] == expected["accuracy"].to_json(0.95)
    assert found["differences"]["accuracy"]["difference"] < 0
    assert found["differences"]["accuracy"]["p_value"] < 0.01
    for which, place in (("a", "first"), ("b", "second")):
        metrics = read_results(tmp_path / which)["metrics"]
        for name, row in found["differences"].items():
            assert row[place] == pytest.approx(metrics[name]["value"]), name


def test_the_command(evaluation: Make, tmp_path: Path) -> None:
    directories = [str(tmp_path / name) for name in ("a", "b")]
    for directory in directories:
        evaluate(evaluation(output=directory, limit=50))
    done = run([*WASINN, "eval", "compare", *directories])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("50 rows in both\n")
    accuracy = next(line for line in done.stdout.splitlines() if "accuracy" in line).split()
    assert accuracy[3:5] == ["+0.0000", "1.0000"]
    assert "rows/s" in done.stdout
    done = run([*WASINN, "eval", "compare", "--json", *directories])
    assert json.loads(done.stdout) == compare_runs(*directories)


def test_runs_that_can_not_be_compared(evaluation: Make, tmp_path: Path) -> None:
    evaluate(evaluation(output=str(tmp_path / "a"), limit=20))
    evaluate(evaluation(output=str(tmp_path / "few"), limit=19))
    with pytest.raises(UsageError, match=r"on the same rows, got 20 in .*a and 19 in .*few"):
        compare_runs(tmp_path / "a", tmp_path / "few")
    rows = make_rows(20)
    rows[7]["label"] = 1 - int(str(rows[7]["label"]))
    data = write_rows(tmp_path / "other.jsonl", rows)
    evaluate(evaluation(output=str(tmp_path / "other"), data=str(data)))
    with pytest.raises(UsageError, match=r"row 7 has label [01] in .*a and [01] in .*other"):
        compare_runs(tmp_path / "a", tmp_path / "other")
    evaluate(evaluation(output=str(tmp_path / "named"), limit=20, labels=("no", "yes")))
    with pytest.raises(UsageError, match="the same labels in both runs, got 0, 1 and no, yes"):
        compare_runs(tmp_path / "a", tmp_path / "named")


def test_results_that_can_not_be_read(evaluation: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not there: there is no such directory"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="not there: no evaluation wrote there"):
        read_results(tmp_path)
    with pytest.raises(Enough):
        evaluate(evaluation(), stop_after(100))
    with pytest.raises(UsageError, match="has not ended, go on with it by --resume"):
        read_results(tmp_path / "out")
    evaluate(evaluation(resume=True))
    results = tmp_path / "out" / "results.json"
    whole = results.read_text()
    results.write_text(whole[:100])
    with pytest.raises(UsageError, match=r"results.json: damaged: .*; evaluate again"):
        read_results(tmp_path / "out")
    results.write_text(whole.replace("wasinn-eval-1", "wasinn-eval-9"))
    with pytest.raises(
        UsageError, match="expected the schema 'wasinn-eval-1', got 'wasinn-eval-9'"
    ):
        read_results(tmp_path / "out")
    results.write_text(whole)
    rows = tmp_path / "out" / "rows.parquet"
    with pytest.raises(UsageError, match="can not be read"):
        read_rows(tmp_path / "out", ["nothing"])
    rows.write_bytes(rows.read_bytes()[:-20])
    with pytest.raises(UsageError, match="can not be read"):
        read_rows(tmp_path / "out", ["row"])
