"""What tasks make of rows and answers. Values that the tests expect were worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow
import pytest

from wasinn_host.evaluate.guests.answers import FAILED, OK, TRUNCATED, Answers
from wasinn_host.evaluate.local import Done
from wasinn_host.evaluate.outcome import Finished, finished
from wasinn_host.evaluate.plan import Batch
from wasinn_host.evaluate.tasks import Task, TaskError, make_task, task_names

NAMES = ("O", "B-PER", "I-PER", "B-LOC")

DATA: Mapping[str, Mapping[str, Any]] = {
    "classification": {"text": "a", "label": 1},
    "regression": {"text": "a", "text_pair": "b", "target": 0.5},
    "tokens": {"words": ["Ada", "Lovelace", "wrote"], "labels": ["B-PER", "I-PER", "O"]},
    "qa": {"question": "Who?", "context": "It was Ada.", "answers": ["Ada", "the Ada"]},
    "retrieval": {"text": "a", "role": "query", "relevant": ["d1"]},
}

NUMBERS: Mapping[str, Sequence[float]] = {"tokens": (1, 2, 0), "qa": (1,), "regression": (0.4,)}


def _task(name: str) -> Task:
    return make_task(name, {}, NAMES if name == "tokens" else ())


def _answers(
    numbers: Sequence[Sequence[float]],
    *,
    status: Sequence[int] | None = None,
    texts: Sequence[str] = (),
) -> Answers:
    return Answers(
        np.array(status or [OK] * len(numbers), np.int32),
        np.ones(len(numbers), np.int32),
        np.array([len(row) for row in numbers], np.int32),
        np.array([n for row in numbers for n in row], np.float32),
        texts,
    )


def _finished(task: Task, data: Sequence[Mapping[str, Any]], answers: Answers) -> Finished:
    rows = [task.read(number, row, "data") for number, row in enumerate(data)]
    return finished(task, Done(Batch(0, 1, 0, rows), answers, 0.1))


def _kept(task: Task, data: Sequence[Mapping[str, Any]], answers: Answers) -> Any:
    return _finished(task, data, answers).table


def _good(table: Any) -> Any:
    return table.filter(pyarrow.compute.not_equal(table["status"], "failed"))


def test_the_cases_here_are_all_tasks() -> None:
    assert set(DATA) == set(task_names())


@pytest.mark.parametrize("name", DATA)
def test_a_row_without_a_column_is_refused(name: str) -> None:
    for column in DATA[name]:
        if column == "text_pair":
            continue
        row = {key: value for key, value in DATA[name].items() if key != column}
        with pytest.raises(TaskError, match=f"data, row 7: no column '{column}'; there is: "):
            _task(name).read(7, row, "data")


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("wrong", [None, 3.5, {"a": 1}, [["x"]], "\ud800"])
def test_a_row_with_something_else_in_a_column_is_refused(name: str, wrong: object) -> None:
    for column in DATA[name]:
        if (name, column, wrong) == ("regression", "target", 3.5):
            continue
        if column in ("label", "labels", "answers", "relevant") and wrong == "\ud800":
            continue  # a text that is none of the labels, or is never given to a guest
        with pytest.raises(TaskError, match=r"data, row 0: "):
            _task(name).read(0, {**DATA[name], column: wrong}, "data")


@pytest.mark.parametrize("name", DATA)
def test_a_row_that_fails_says_why_and_is_not_measured(name: str) -> None:
    task = _task(name)
    good = NUMBERS.get(name, (1, 2))
    given = _answers([good, []], status=[OK, FAILED], texts=["Ada", "too bad"])
    done = _finished(task, [DATA[name]] * 2, given)
    assert done.table["status"].to_pylist() == ["ok", "failed"]
    assert done.table["error"].to_pylist() == [None, "too bad"]
    assert (done.failed, done.error) == (1, "too bad")
    if done.metric:
        assert np.isfinite(done.total)
        assert done.measured == (3 if name == "tokens" else 1)


def test_one_logit_is_refused() -> None:
    with pytest.raises(TaskError, match="gives 1 logit a row, expected one for each label"):
        _kept(_task("classification"), [DATA["classification"]], _answers([[0.3]]))


def test_classification_measures_and_shows_the_worst() -> None:
    task = make_task("classification", {}, ("no", "yes"))
    data = [{"text": str(i), "label": i % 2} for i in range(4)]
    kept = _kept(task, data, _answers([[2, 0], [0, 1], [0, 3], [1, 0]]))
    found = task.measure(kept, 0)
    assert found["metrics"]["accuracy"]["value"] == 0.5
    assert found["metrics"]["accuracy"]["confidence"] == 0.95
    assert found["labels"] == ["no", "yes"]
    assert found["confusion"] == [[1, 1], [1, 1]]
    assert sum(bin_["count"] for bin_ in found["calibration"]) == 4
    sigmoid = [1 / (1 + np.exp(-3)), 1 / (1 + np.exp(-1))]
    assert [(row["row"], row["label"], row["prediction"]) for row in found["worst"]] == [
        (2, "no", "yes"),
        (3, "yes", "no"),
    ]
    assert [row["confidence"] for row in found["worst"]] == pytest.approx(sigmoid)


def test_regression_measures_and_shows_the_worst() -> None:
    task = _task("regression")
    data = [{"text": "a", "target": target} for target in (0, 1, 2)]
    kept = _kept(task, data, _answers([[0], [1.5], [2.25]]))
    found = task.measure(kept, 0)
    assert found["metrics"]["mae"]["value"] == 0.25
    assert found["metrics"]["spearman"]["value"] == pytest.approx(1)
    assert [row["row"] for row in found["worst"]] == [1, 2]
    assert found["worst"][0]["target"] == 1
    assert found["worst"][0]["score"] == 1.5


def test_labels_of_words() -> None:
    task = _task("tokens")
    data: list[Mapping[str, Any]] = [
        DATA["tokens"],
        {"words": "Bern is big", "labels": "B-LOC O O"},
    ]
    kept = _kept(task, data, _answers([[1, 2, 0], [1, 0, 0]]))
    assert kept["labels"].to_pylist() == [["B-PER", "I-PER", "O"], ["B-LOC", "O", "O"]]
    assert kept["predictions"].to_pylist() == [["B-PER", "I-PER", "O"], ["B-PER", "O", "O"]]
    found = task.measure(kept, 0)
    assert found["metrics"]["f1"]["value"] == 0.5
    assert found["metrics"]["token_accuracy"]["value"] == pytest.approx(5 / 6)
    assert found["types"]["PER"]["support"] == 1
    assert found["types"]["PER"]["precision"]["value"] == 0.5
    assert [row["row"] for row in found["worst"]] == [1]


def test_words_that_were_not_seen_are_outside() -> None:
    task = _task("tokens")
    kept = _kept(task, [DATA["tokens"]], _answers([[1]], status=[TRUNCATED]))
    assert kept["status"].to_pylist() == ["truncated"]
    assert kept["predictions"].to_pylist() == [["B-PER", "O", "O"]]


@pytest.mark.parametrize(
    ("numbers", "error"),
    [
        ([1, 2], "the guest gave 2 labels for 3 words"),
        ([1, 2, 0, 0], "the guest gave 4 labels for 3 words"),
        ([1, 2, 4], "the guest gave label 4; there are 4, from 0"),
        ([1, -1, 0], "the guest gave label -1; there are 4"),
        ([1, 0.5, 0], "the guest gave label 0.5; there are 4"),
        ([1, float("nan"), 0], "the guest gave label nan; there are 4"),
    ],
)
def test_labels_that_are_none_fail_the_row(numbers: list[float], error: str) -> None:
    kept = _kept(_task("tokens"), [DATA["tokens"]], _answers([numbers]))
    assert kept["status"].to_pylist() == ["failed"]
    assert kept["error"][0].as_py().startswith(error)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"words": ["a b", "c"], "labels": ["O", "O"]}, "without spaces in them, got 'a b'"),
        ({"words": ["", "c"], "labels": ["O", "O"]}, "without spaces in them, got ''"),
        ({"words": ["a", "c"], "labels": ["O"]}, "2 words have 1 labels"),
        ({"words": ["a"], "labels": ["B-ORG"]}, "label 'B-ORG': expected one of O, B-PER"),
        ({"words": ["a"], "labels": [4]}, "label 4: expected one of .* from 0 to 3"),
        ({"words": ["a"], "labels": [True]}, "label True: expected one of"),
    ],
)
def test_words_and_labels_that_do_not_fit(row: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        _task("tokens").read(0, row, "data")


def test_tokens_need_names_of_labels() -> None:
    with pytest.raises(TaskError, match="give their names in the model's order, --labels"):
        make_task("tokens", {})
    with pytest.raises(TaskError, match=r"--labels: .*PERSON"):
        make_task("tokens", {}, ("O", "PERSON"))


def test_answers_to_questions() -> None:
    task = _task("qa")
    data: list[Mapping[str, Any]] = [
        DATA["qa"],
        {"question": "When?", "context": "In 1843.", "answers": {"text": ["1843"], "start": [3]}},
        {"question": "Why?", "context": "It rained.", "answers": []},
        {"question": "What?", "context": "A big dog.", "answers": "big dog"},
    ]
    texts = ["The Ada", "in 1843", "", "dog"]
    kept = _kept(task, data, _answers([[1.5], [2], [3], [4]], texts=texts))
    assert kept["answers"].to_pylist() == [["Ada", "the Ada"], ["1843"], [], ["big dog"]]
    assert kept["is_exact"].to_pylist() == [True, False, True, False]
    assert kept["f1"].to_pylist() == pytest.approx([1, 2 / 3, 1, 2 / 3])
    found = task.measure(kept, 0)
    assert found["metrics"]["exact"]["value"] == 0.5
    assert found["metrics"]["unanswerable_exact"]["value"] == 1
    assert [row["row"] for row in found["worst"]] == [1, 3]
    assert found["worst"][0]["answer"] == "in 1843"


def _library(failed: int = OK) -> tuple[Task, Any]:
    task = _task("retrieval")
    data: list[Mapping[str, Any]] = [
        {"id": "q1", "text": "north", "role": "query", "relevant": ["d1"]},
        {"id": "q2", "text": "east", "role": "query", "relevant": "d1 d2"},
        {"id": "d1", "text": "up", "role": "document"},
        {"id": "d2", "text": "right", "role": "document", "relevant": None},
        {"id": "d3", "text": "down", "role": "document"},
    ]
    vectors: list[list[float]] = [[0, 1], [1, -0.1], [0, 2], [3, 0], [0, -1]]
    status = [OK, OK, OK, failed, OK]
    return task, _kept(task, data, _answers(vectors, status=status, texts=["", "", "", "x", ""]))


def test_documents_are_ranked() -> None:
    task, kept = _library()
    found = task.measure(kept, 0)
    assert (found["queries"], found["documents"]) == (2, 3)
    # q2: d2, then d3, then d1.
    assert found["metrics"]["recall@1"]["value"] == 0.75
    assert found["metrics"]["recall@5"]["value"] == 1
    assert found["metrics"]["mrr@10"]["value"] == 1
    assert [(row["id"], row["nearest"]) for row in found["worst"]] == [("q2", ["d2", "d3", "d1"])]


def test_a_document_that_failed_counts_as_not_found() -> None:
    task, kept = _library(FAILED)
    found = task.measure(_good(kept), 0)
    assert found["metrics"]["recall@5"]["value"] == 0.75
    assert "1 relevant documents are not there" in found["metrics"]["recall@5"]["note"]


def test_documents_have_to_be_told_apart() -> None:
    task = _task("retrieval")
    data = [{"id": "d", "text": "a", "role": "document"}] * 2
    query = {"id": "q", "text": "a", "role": "query", "relevant": ["d"]}
    kept = _kept(task, [*data, query], _answers([[1.0, 0]] * 3))
    with pytest.raises(TaskError, match="two documents have the id 'd'"):
        task.measure(kept, 0)
    with pytest.raises(TaskError, match="needs queries and documents; 0 and 2 were evaluated"):
        task.measure(kept.slice(0, 2), 0)


def test_a_vector_without_direction_fails_the_row() -> None:
    kept = _kept(_task("retrieval"), [DATA["retrieval"]] * 2, _answers([[0, 0], [1, 0]]))
    assert kept["error"].to_pylist() == [
        "the guest gave a vector of zeros, which has no direction",
        None,
    ]


@pytest.mark.parametrize("name", DATA)
def test_a_run_differs_from_itself_by_nothing(name: str) -> None:
    task, kept = _library() if name == "retrieval" else (_task(name), None)
    if kept is None:
        numbers = NUMBERS.get(name, (1, 2))
        rows: list[Mapping[str, Any]] = [DATA[name]] * 6
        if name == "classification":
            rows = [{"text": "a", "label": i % 2} for i in range(6)]
        if name == "regression":
            rows = [{"text": "a", "target": i} for i in range(6)]
            kept = _kept(task, rows, _answers([[i / 2 + i % 2] for i in range(6)]))
        else:
            kept = _kept(task, rows, _answers([numbers] * 6, texts=["Ada"] * 6))
    found = task.compare(kept, kept, 0)
    assert set(found) <= set(task.measure(kept, 0)["metrics"])
    assert found
    for metric, comparison in found.items():
        assert comparison.difference == 0, metric
        assert comparison.p_value == pytest.approx(1, abs=0.01), metric
