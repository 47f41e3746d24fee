"""``wasinn eval`` as its users see it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.evaluate.bag_of_words import GUEST, make_rows, write_rows

WASINN = (sys.executable, "-m", "wasinn_host.cli")


def words(bag: Path, data: Path, output: Path, *more: str) -> list[str]:
    return [
        *(*WASINN, "eval", "run", str(GUEST), "--graph", f"onnx:cpu:{bag}", "--data", str(data)),
        *("--task", "classification", "-o", str(output), *more),
    ]


def run(words: list[str], input: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, capture_output=True, text=True, timeout=120, check=False, input=input
    )


def test_figures_on_standard_output_nothing_else(bag: Path, reviews: Path, tmp_path: Path) -> None:
    done = run(words(bag, reviews, tmp_path / "out", "--workers", "2"))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "500 of 500 rows, 0 failed"
    assert lines[1].split()[0] == "accuracy"
    assert lines[-1] == f"results: {tmp_path}/out/"


def test_json_is_the_file(bag: Path, reviews: Path, tmp_path: Path) -> None:
    done = run(words(bag, reviews, tmp_path / "out", "--json"))
    assert json.loads(done.stdout) == json.loads((tmp_path / "out" / "results.json").read_text())


def test_standard_input(bag: Path, reviews: Path, tmp_path: Path) -> None:
    done = run(words(bag, Path("-"), tmp_path / "out"), input=reviews.read_text())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("500 of 500 rows")


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (("--task", "translation"), 125, "unknown task 'translation'; there is: classification"),
        (("--data", "nowhere.jsonl"), 125, "nowhere.jsonl: no such file"),
        (("--column", "text"), 125, "expected OURS=THEIRS"),
        (("--shard", "0/4"), 125, "--shard '0/4': expected I/N"),
        (("--graph", "onnx:cpu:nowhere.onnx"), 125, "there is no file 'nowhere.onnx'"),
        (("--graph", "onnx:gpu"), 125, "no model"),
        (("--nn-option", "threads=1"), 125, "expected PLUGIN.KEY=VALUE"),
        (("--batch", "0"), 125, "batch_rows: expected 1 or more"),
        (("--assets", "nowhere"), 125, "'nowhere' is no directory"),
    ],
)
def test_wrong_words(
    bag: Path, reviews: Path, tmp_path: Path, change: tuple[str, ...], status: int, message: str
) -> None:
    done = run(words(bag, reviews, tmp_path / "out", *change))
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_goes_on(bag: Path, tmp_path: Path, end: signal.Signals) -> None:
    data = write_rows(tmp_path / "data.jsonl", make_rows(30_000))
    out = tmp_path / "out"
    with subprocess.Popen(
        words(bag, data, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        waited = time.monotonic() + 60
        while len(list(out.glob("parts/*.arrow"))) < 3:
            assert process.poll() is None
            assert time.monotonic() < waited
            time.sleep(0.01)
        os.kill(process.pid, end)
        _, told = process.communicate(timeout=60)
    if end == signal.SIGINT:
        assert (process.returncode, told) == (130, "wasinn: interrupted\n")
    else:
        assert process.returncode == -signal.SIGKILL
    assert not (out / "results.json").exists()
    assert len(list(out.glob("parts/*.arrow"))) >= 3
    done = run(words(bag, data, out, "--resume"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("30000 of 30000 rows, 0 failed\n")
    whole = run(words(bag, data, tmp_path / "whole"))
    assert whole.returncode == 0
    assert (out / "rows.parquet").read_bytes() == (tmp_path / "whole/rows.parquet").read_bytes()


def test_two_at_a_time_on_one_directory(bag: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "data.jsonl", make_rows(30_000))
    out = tmp_path / "out"
    with subprocess.Popen(words(bag, data, out), stdout=subprocess.DEVNULL) as process:
        while not (out / "parts").exists() or not list((out / "parts").glob("*.arrow")):
            assert process.poll() is None
            time.sleep(0.01)
        done = run(words(bag, data, out, "--resume"))
        process.kill()
    assert done.returncode == 125
    assert "another evaluation is writing to it" in done.stderr


def test_check(bag: Path) -> None:
    done = run([*WASINN, "eval", "check", str(GUEST), "--graph", f"onnx:cpu:{bag}"])
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 8


def test_a_full_disk_keeps_what_is_finished(bag: Path, reviews: Path, tmp_path: Path) -> None:
    """Files that may not grow fail as they do on a full disk, in the same places."""
    command = words(bag, reviews, tmp_path / "out", "--window", "100")
    limited = run(["sh", "-c", 'ulimit -f 40; exec "$@"', "sh", *command])
    assert limited.returncode == 125
    assert "File too large" in limited.stderr
    assert "rows.parquet" in limited.stderr or "results.json" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert not (tmp_path / "out" / "results.json").exists()
    kept = sorted((tmp_path / "out" / "parts").glob("*.arrow"))
    assert len(kept) == 5
    assert not list((tmp_path / "out").rglob(".*.*"))  # no half-written file
    done = run([*command, "--resume"])
    assert done.returncode == 0, done.stderr
    whole = run(words(bag, reviews, tmp_path / "whole", "--window", "100"))
    assert whole.returncode == 0
    rows = [(tmp_path / name / "rows.parquet").read_bytes() for name in ("out", "whole")]
    assert rows[0] == rows[1]


def test_several_graphs_make_a_table(bag: Path, reviews: Path, tmp_path: Path) -> None:
    command = words(bag, reviews, tmp_path / "out", "--graph", f"again=onnx:cpu:{bag}")
    done = run(command)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        *("accuracy", "mcc", "precision", "failed", "rows/s", "memory", "MB", "size", "MB")
    ]
    assert [line.split()[0] for line in lines[1:3]] == ["bag.onnx", "again"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"bag.onnx", "again"}
    done = run([*command, "--graph", f"again=onnx:cpu:{bag}"])
    assert done.returncode == 125
    assert "expected a name of its own, NAME=MODEL" in done.stderr
