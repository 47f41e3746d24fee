"""What the example guests say of arguments, models and data that they can not use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet
import pytest
from onnx import TensorProto, helper, numpy_helper

from examples import build
from tests.evaluate.bag_of_words import write_rows
from tests.evaluate.bert_reference import INPUTS, asked, build_echo, build_encoder, write_vocabulary
from wasinn_host.evaluate import Evaluation, evaluate
from wasinn_host.evaluate.guests.answers import FAILED, GuestBroke

GUESTS = sorted(name for name, guest in build.GUESTS.items() if guest.is_reactor)
CLASSIFIERS = ("text-classification", "text-classification-rust")
TEXTS = {name: 2 if name in ("sentence-pairs", "qa-spans") else 1 for name in GUESTS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_vocabulary(tmp_path_factory.mktemp("errors"))
    build_echo(folder)
    return folder


def build_constant(folder: Path, value: float, outputs: int, last: int = 0) -> Path:
    """A model that puts out one number: float32 [rows, width], or [rows, width, last]."""
    names = [f"out{n}" for n in range(outputs)]
    shape: list[str | int] = ["b", "s", *([last] if last else [])]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "zero"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "two"], ["column"]),
        *(
            helper.make_node("Add", ["column" if last else "flat", "values"], [name])
            for name in names
        ),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in INPUTS],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names],
        [
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
            numpy_helper.from_array(np.array([2]), "two"),
            numpy_helper.from_array(np.full(last or 1, value, np.float32), "values"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path = folder / f"constant-{value}-{outputs}-{last}.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("name", GUESTS)
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--max-token",), "unknown argument '--max-token'"),
        (("five",), "unknown argument 'five'"),
        (("--max-tokens",), "--max-tokens takes a number from 8 to 65536, not ''"),
        (("--max-tokens", "7"), "--max-tokens takes a number from 8 to 65536, not '7'"),
        (("--max-tokens", "65537"), "from 8 to 65536, not '65537'"),
        (("--max-tokens", "99999999999999999999"), "not '99999999999999999999'"),
        (("--max-tokens", "12x"), "not '12x'"),
        (("--cased", "--max-tokens", "-9"), "not '-9'"),
    ],
)
def test_wrong_arguments_are_named(
    folder: Path, name: str, args: tuple[str, ...], message: str
) -> None:
    with (
        pytest.raises(GuestBroke, match=f"{name}.wasm does not start: .*: {name}: .*{message}"),
        asked(name, folder / "echo.onnx", *args),
    ):
        pass


@pytest.mark.parametrize("name", GUESTS)
def test_a_folder_without_a_vocabulary(folder: Path, tmp_path: Path, name: str) -> None:
    model = tmp_path / "echo.onnx"
    model.write_bytes((folder / "echo.onnx").read_bytes())
    with pytest.raises(GuestBroke, match=f": {name}: .*/model/vocab.txt"), asked(name, model):
        pass
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\nword\n")
    message = rf": {name}: /model/vocab.txt: the vocabulary has no \[SEP\]"
    with pytest.raises(GuestBroke, match=message), asked(name, model):
        pass


@pytest.mark.parametrize("name", GUESTS)
def test_too_many_texts(folder: Path, name: str) -> None:
    with (
        asked(name, folder / "echo.onnx") as ask,
        pytest.raises(GuestBroke, match=f": {name}: a row has .*text.* here, got 3"),
    ):
        ask(("a", "b", "c"))


def test_outputs_of_other_shapes(folder: Path) -> None:
    encoder = build_encoder(folder, "embedding")
    message = r"text-embedding: output 0 has 160 numbers a row, before it had 128: .*\[rows, dim"
    with asked("text-embedding", encoder) as ask:
        ask(("the film",))
        with pytest.raises(GuestBroke, match=message):
            ask(("the good film",))
    pooled = build_encoder(folder, "pooled")
    message = r"token-classification: output 0 has 32 numbers a row: it must be \[rows, 5, labels\]"
    with (
        asked("token-classification", pooled) as ask,
        pytest.raises(GuestBroke, match=message),
    ):
        ask(("the good film",))
    # One output; and two of three dimensions.
    with (
        asked("qa-spans", folder / "echo.onnx") as ask,
        pytest.raises(GuestBroke, match="qa-spans: getting output 1: invalid_argument"),
    ):
        ask(("the", "film"))
    message = r"qa-spans: outputs 0 and 1 have 10 and 10 numbers a row: each must be \[rows, 5\]"
    with (
        asked("qa-spans", build_constant(folder, 1.0, 2, 2)) as ask,
        pytest.raises(GuestBroke, match=message),
    ):
        ask(("the", "film"))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_more_tokens_than_the_model_takes(folder: Path, name: str) -> None:
    model = build_encoder(folder, "classification", 2)
    message = rf"{name}: computing rows \[1, 602\]: .*does the model take as many"
    with (
        asked(name, model, "--max-tokens", "1000") as ask,
        pytest.raises(GuestBroke, match=message),
    ):
        ask(("the " * 600,))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("name", "outputs", "last"), [("token-classification", 1, 3), ("qa-spans", 2, 0)]
)
def test_numbers_that_are_not_finite_fail_the_row(
    folder: Path, name: str, outputs: int, last: int, value: float
) -> None:
    with asked(name, build_constant(folder, value, outputs, last)) as ask:
        answers = ask(*[("the good film",) * TEXTS[name]] * 2)
        assert answers.status.tolist() == [FAILED, FAILED]
        assert answers.text(1) == "the model's logits are not finite"
        assert answers.counts.tolist() == [0, 0]


def test_of_equal_spans_and_labels_the_first_is_taken(folder: Path) -> None:
    with asked("qa-spans", build_constant(folder, 1.0, 2), "--empty") as ask:
        answers = ask(("a film", "the Café is good"), ("", ""), ("in", "it"))
        assert [answers.text(row) for row in range(3)] == ["the", "", "it"]
        assert answers.numbers.tolist() == [2.0, 2.0, 2.0]
    with asked("token-classification", build_constant(folder, 1.0, 1, 3)) as ask:
        (found,) = ask.numbers(("the good film",))
        assert found.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_special_tokens_in_a_text_are_text_if_it_is_asked_for(folder: Path, name: str) -> None:
    for args, length in (((), 5), (("--literal",), 9)):
        with asked(name, folder / "echo.onnx", *args) as ask:
            assert ask(("the [SEP] film",)).tokens.tolist() == [length], args


CLASSIFICATION: tuple[str, str, dict[str, object]] = (
    "classification",
    "classification",
    {"text": "good", "label": 1},
)
TASKS: dict[str, tuple[str, str, dict[str, object]]] = {
    "text-classification": CLASSIFICATION,
    "text-classification-rust": CLASSIFICATION,
    "sentence-pairs": (
        "regression",
        "pooled",
        {"text": "a film", "text_pair": "the film", "target": 4.5},
    ),
    "token-classification": (
        "tokens",
        "token-classification",
        {"words": ["Zoë", "\u200b", "in", "Paris."], "labels": ["B-X", "O", "O", "I-X"]},
    ),
    "qa-spans": (
        "qa",
        "question-answering",
        {"question": "good ?", "context": "the film is good .", "answers": ["the film"]},
    ),
    "text-embedding": ("retrieval", "pooled", {"text": "a film", "role": "document"}),
}


@pytest.mark.parametrize("name", GUESTS)
def test_an_evaluation_of_its_task(folder: Path, tmp_path: Path, name: str) -> None:
    task, head, row = TASKS[name]
    rows: list[dict[str, object]] = [{"id": f"r{n}", **row} for n in range(5)]
    if task == "retrieval":
        rows[0] |= {"role": "query", "relevant": ["r3"]}
    model = build_encoder(folder, head, 3 if head.endswith("classification") else 0)
    results = evaluate(
        Evaluation(
            guest=str(build.GUESTS[name].prebuilt),
            graph=f"onnx:cpu:{model}",
            data=str(write_rows(tmp_path / "rows.jsonl", rows)),
            task=task,
            labels=("O", "B-X", "I-X") if head.endswith("classification") else (),
            output=str(tmp_path / "out"),
            batch_rows=2,
        )
    )
    assert results["rows"] == {"requested": 5, "evaluated": 5, "failed": 0, "truncated": 0}
    table = pyarrow.parquet.read_table(tmp_path / "out" / "rows.parquet").to_pylist()
    assert [found["status"] for found in table] == ["ok"] * 5
    assert all(found["tokens"] > 2 for found in table)
    columns = {"classification": "prediction", "regression": "score", "tokens": "predictions"}
    values = [found[columns.get(task, "id")] for found in table]
    assert len({str(value) for value in values}) == (1 if task in columns else 5)
