"""Ratios, means, and the views of results. The clocks themselves are the system's affair."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.errors import BenchmarkError
from benchmarks.measure import Sample, geometric_mean, interleave, median_ratio, timed
from benchmarks.processes import run_process
from benchmarks.report import SCHEMA, Bar, Result, Table, show, write_json

_RESULT = Result(
    name="sample",
    table=Table("A title", ("kernel", "ratio"), (("crc32", "1.05"), ("fib", "10.00"))),
    bars=(
        Bar("mean", 1.05, 1.10),
        Bar("time", 6.0, 5.0, "s"),
        Bar("speed", 0.7, 0.65, at_least=True),
    ),
    data={"rounds": 2},
    notes=("A note.",),
)


def test_contestants_take_turns() -> None:
    order: list[str] = []

    def contestant(name: str) -> Callable[[], Sample]:
        def run() -> Sample:
            order.append(name)
            return Sample(float(len(order)), 0.0)

        return run

    samples = interleave({name: contestant(name) for name in "abc"}, 2)
    assert order == list("abcabc")
    assert samples["b"].wall_s == (2.0, 5.0)


def test_ratio_is_formed_within_a_round() -> None:
    # The machine was ten times slower in the second round; the ratio does not see it.
    assert median_ratio([2.0, 20.0, 2.0], [1.0, 10.0, 4.0]) == 2.0


def test_geometric_mean() -> None:
    assert geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="nothing"):
        geometric_mean([])


def test_timed_tells_waiting_from_computing() -> None:
    sample = timed(lambda: time.sleep(0.05))
    assert sample.wall_s >= 0.05
    assert sample.cpu_s < 0.04


def test_markdown_in_a_pipe() -> None:
    out = io.StringIO()
    show(_RESULT, Console(file=out, width=20))
    assert out.getvalue() == (
        "A title\n\n"
        "| kernel | ratio |\n"
        "| ------ | ----: |\n"
        "| crc32  |  1.05 |\n"
        "| fib    | 10.00 |\n\n"
        "- mean: 1.05 x, bar 1.10: met\n"
        "- time: 6.00 s, bar 5.00: NOT MET\n"
        "- speed: 0.70 x, bar at least 0.65: met\n"
        "- A note.\n\n"
    )


def test_rich_table_on_a_terminal() -> None:
    out = io.StringIO()
    show(_RESULT, Console(file=out, force_terminal=True, width=80))
    assert "\x1b[" in out.getvalue()
    assert "NOT MET" in out.getvalue()


def test_json_document(tmp_path: Path) -> None:
    target = tmp_path / "results.json"
    write_json([_RESULT], target)
    document = json.loads(target.read_text())
    assert document["schema"] == SCHEMA
    assert document["machine"]["processor"]
    assert document["versions"]["python"]
    table = document["tables"]["sample"]
    assert table["data"] == {"rounds": 2}
    assert [bar["met"] for bar in table["bars"]] == [True, False, True]
    assert list(tmp_path.iterdir()) == [target]


def test_failing_process_says_why() -> None:
    with pytest.raises(BenchmarkError, match=r"ended with 2:\n.*"):
        run_process(["ls", "--no-such-option"])
    with pytest.raises(BenchmarkError, match="does not start"):
        run_process(["no-such-command-anywhere"])
