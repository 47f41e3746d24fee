"""Evaluation on a Ray of this machine with two workers, one of which is lost on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.evaluate.bag_of_words import make_rows, write_rows
from tests.evaluate.conftest import Enough, Make, rows_bytes, stop_after
from tests.evaluate.strange_guests import reactor
from wasinn_host.evaluate import evaluate
from wasinn_host.evaluate.data import DataError
from wasinn_host.evaluate.guests.answers import GuestBroke
from wasinn_host.evaluate.run import Progress
from wasinn_host.evaluate.tasks import TaskError

# Ray warns of what its own parts still do.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ray = pytest.importorskip("ray")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, log_to_driver=False, logging_level=40, include_dashboard=False)
    yield
    ray.shutdown()


def actors() -> list[int]:
    """The processes of this test's actors."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            above = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue  # it has ended
        if title.startswith(b"ray::MapWorker") and above == os.getpid():
            found.append(int(folder.name))
    return found


def test_the_same_rows_as_here_though_an_actor_is_killed(evaluation: Make, tmp_path: Path) -> None:
    data = str(write_rows(tmp_path / "data.jsonl", make_rows(20_000)))
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        if not killed and progress.rows > 2_000:
            killed.append(actors()[0])
            os.kill(killed[0], signal.SIGKILL)

    asked = {"data": data, "window_rows": 256}
    results = evaluate(evaluation(**asked, engine="ray", workers=2), kill)
    assert killed
    here = evaluate(evaluation(**asked, output=str(tmp_path / "here")))
    del here["graph"]["memory_bytes"]  # of this process
    assert results["graph"] == here["graph"]
    assert "onnx" in results["graph"]["backend"]
    assert (results["rows"]["evaluated"], results["rows"]["failed"]) == (20_000, 0)
    one, other = rows_bytes(tmp_path, "out", "here")
    assert one == other


def test_what_was_finished_is_not_computed_again(evaluation: Make, tmp_path: Path) -> None:
    with pytest.raises(Enough):
        evaluate(evaluation(), stop_after(200))
    seen: list[Progress] = []
    evaluate(evaluation(engine="ray", resume=True), seen.append)
    assert seen[0].rows > 200
    assert seen[-1].rows == 500
    evaluate(evaluation(output=str(tmp_path / "whole")))
    one, other = rows_bytes(tmp_path, "out", "whole")
    assert one == other


def test_errors_are_those_of_one_process(evaluation: Make, tmp_path: Path) -> None:
    guest = tmp_path / "guest.wasm"
    guest.write_bytes(reactor(open="(i32.const 3)"))
    with pytest.raises(GuestBroke, match="does not start: wasinn_eval_open returned 3"):
        evaluate(evaluation(engine="ray", guest=str(guest), output=str(tmp_path / "a")))
    data = tmp_path / "data.jsonl"
    data.write_text('{"text": "good"}\n')
    with pytest.raises(TaskError, match="row 0: no column 'label'"):
        evaluate(evaluation(engine="ray", data=str(data), output=str(tmp_path / "b")))
    data.write_text('{"text": "good", "label": 1}\nbroken\n')
    with pytest.raises(DataError, match="line 2: no JSON"):
        evaluate(evaluation(engine="ray", data=str(data), output=str(tmp_path / "c")))
    with pytest.raises(DataError, match="standard input can not be read by the actors"):
        evaluate(evaluation(engine="ray", data="-", output=str(tmp_path / "d")))
