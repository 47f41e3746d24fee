"""Reports: what is in them, and that nothing of guests or data becomes more than text."""

from __future__ import annotations

import html.parser
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.bag_of_words import make_rows, write_rows
from tests.evaluate.conftest import Make
from tests.evaluate.strange_guests import reactor
from tests.evaluate.test_eval_cli import WASINN, run
from wasinn_host.evaluate import evaluate
from wasinn_host.evaluate.report import write_report
from wasinn_runtime.errors import UsageError

HOSTILE = [
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "</table></td><a href='javascript:alert(1)'>x</a>",
    "{{ 7 * 7 }}{% for x in y %}",
    "\u202eabc\u0000\u001b[31m\x07",
    "$\\frac{1}{0}$ \\input{/etc/passwd}",
]


class Page(html.parser.HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(directory: Path) -> Page:
    return Page((directory / "report.html").read_text(encoding="utf-8"))


def test_a_run_leaves_a_report(evaluation: Make, tmp_path: Path) -> None:
    results = evaluate(evaluation(labels=("bad", "good")))
    page = page_of(tmp_path / "out")
    assert page.tags.count("figure") == 5
    for text in (
        "500",
        f"{results['metrics']['accuracy']['value']:.4g}",
        "What was predicted of rows of each label",
        "How often the model is right where it is how sure",
        "Rows per second over the run",
        "text-classification.wasm",
        results["guest"]["sha256"],
        "wasinn-eval-1",
    ):
        assert text in page.text, text
    for name in results["metrics"]:
        assert name in page.text
    for row in results["worst"]:
        assert row["text"] in page.text


def test_the_page_can_fetch_and_run_nothing(evaluation: Make, tmp_path: Path) -> None:
    evaluate(evaluation())
    page = page_of(tmp_path / "out")
    assert not {"script", "link", "img", "iframe", "image", "object", "a"} & set(page.tags)
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    for name, value in page.attributes:
        assert not name.startswith("on")
        assert not name.endswith(("href", "src")) or str(value).startswith("#")
    assert not re.search(r"https?://|url\((?!#)", (tmp_path / "out" / "report.html").read_text())


def test_the_same_results_give_the_same_page(evaluation: Make, tmp_path: Path) -> None:
    evaluate(evaluation())
    first = (tmp_path / "out" / "report.html").read_bytes()
    assert write_report(tmp_path / "out").read_bytes() == first


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_stay_texts(evaluation: Make, tmp_path: Path, text: str) -> None:
    rows = make_rows(40)
    for row in rows:
        row["text"], row["id"] = f"{row['text']} {text}", text
        row["label"] = 1 - int(str(row["label"]))  # so that some are among the worst
    data = write_rows(tmp_path / "data.jsonl", rows)
    evaluate(evaluation(data=str(data), labels=(text, f"{text}2"), columns={"id": "id"}))
    plain = tmp_path / "plain"
    evaluate(evaluation(limit=40, output=str(plain), labels=("a", "b")))
    page = page_of(tmp_path / "out")
    assert set(page.tags) == set(page_of(plain).tags)
    assert {name for name, _ in page.attributes} == {n for n, _ in page_of(plain).attributes}
    assert not set(page.text) & set("\u202e\u0000\u001b\x07")
    if text.isprintable():
        assert text in page.text


def test_what_guests_say_stays_text(evaluation: Make, tmp_path: Path) -> None:
    guest = tmp_path / "guest.wasm"
    guest.write_bytes(reactor(rows="unreachable"))
    evaluate(evaluation(guest=str(guest), limit=20))
    page = page_of(tmp_path / "out")
    assert "No row was evaluated." in page.text
    assert "unreachable" in page.text
    path = tmp_path / "out" / "results.json"
    results = json.loads(path.read_text())
    for failure, text in zip(results["failures"], HOSTILE, strict=False):
        failure["error"] = text
    results["failures"][0]["error"] = "x" * 1_000_000
    path.write_text(json.dumps(results))
    page = Page(write_report(tmp_path / "out").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert "(1,000,000 characters)" in page.text
    assert (tmp_path / "out" / "report.html").stat().st_size < 200_000


def test_a_regression_shows_points(evaluation: Make, tmp_path: Path) -> None:
    path = tmp_path / "out"
    evaluate(evaluation())
    results: dict[str, Any] = json.loads((path / "results.json").read_text())
    import numpy as np
    import pyarrow
    import pyarrow.parquet

    count = 12_001
    scores = np.random.default_rng(0).normal(size=(2, count))
    table = {"target": scores[0], "score": scores[1], "status": ["ok"] * count}
    pyarrow.parquet.write_table(pyarrow.table(table), path / "rows.parquet")
    results.update(task="regression", confusion=None, calibration=[], worst=[])
    (path / "results.json").write_text(json.dumps(results))
    page = Page(write_report(path).read_text(encoding="utf-8"))
    assert "What the model says against what the data say (one row in 3)" in page.text
    assert (path / "report.html").stat().st_size < 2_000_000


def test_many_labels_make_no_figure(evaluation: Make, tmp_path: Path) -> None:
    evaluate(evaluation())
    path = tmp_path / "out" / "results.json"
    results = json.loads(path.read_text())
    results["labels"] = [str(i) for i in range(31)]
    results["confusion"] = [[1] * 31] * 31
    path.write_text(json.dumps(results))
    page = Page(write_report(tmp_path / "out").read_text(encoding="utf-8"))
    assert "What was predicted" not in page.text


def test_the_command(evaluation: Make, tmp_path: Path) -> None:
    evaluate(evaluation(limit=20))
    (tmp_path / "out" / "report.html").unlink()
    done = run([*WASINN, "eval", "report", str(tmp_path / "out")])
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).stat().st_size > 10_000
    with pytest.raises(UsageError, match="no evaluation wrote there"):
        write_report(tmp_path)


def test_the_template_is_in_the_wheel(tmp_path: Path) -> None:
    import subprocess
    import sys

    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "-w", str(tmp_path), str(root)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "wasinn_host/evaluate/report/page.html.j2" in names
    assert "wasinn_models/data/entries/movie-reviews.toml" in names
