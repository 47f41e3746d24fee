"""Guests of both forms that break the contract: each way is told, and costs its own rows only."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet
import pytest
import wasmtime

from tests.evaluate.bag_of_words import make_rows, write_rows
from tests.evaluate.conftest import Make
from tests.evaluate.strange_guests import program, reactor
from wasinn_host.evaluate import evaluate
from wasinn_host.evaluate.check import check_guest
from wasinn_host.evaluate.guests.answers import GuestBroke
from wasinn_runtime.errors import UsageError

# The request's last byte: the end of the last row's text.
LAST_BYTE = "(i32.load8_u (i32.sub (i32.add (local.get $at) (local.get $size)) (i32.const 1)))"
IF_BAD = f"(if (i32.eq {LAST_BYTE} (i32.const 33)) (then {{}}))"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"rows": IF_BAD.format("unreachable")}, "unreachable"),
        ({"rows": IF_BAD.format("(return (i32.const 0))")}, "wasinn_eval_rows returned 0"),
        ({"rows": IF_BAD.format("(loop $ever (br $ever))")}, "timeout"),
        ({"rows": IF_BAD.format("(return (i32.const -8))")}, "bad pointer"),
        (
            {"answer": IF_BAD.format("(i32.store (i32.const 1024) (i32.const 9))")},
            "answered 9 rows",
        ),
        ({"answer": IF_BAD.format("(i32.store (i32.const 1028) (i32.const -4))")}, "bad pointer"),
        ({"answer": IF_BAD.format("(i32.store (i32.const 1040) (i32.const -4))")}, "bad pointer"),
        (
            {"answer": IF_BAD.format("(i32.store (i32.const 4096) (i32.const -1))")},
            "answered 4294967295 numbers",
        ),
        (
            {"answer": IF_BAD.format("(i32.store (i32.const 1044) (i32.const 8192))")},
            "bytes of text",
        ),
        (
            {
                "answer": IF_BAD.format("(i32.store (i32.const 1028) (i32.const 8192))"),
            },
            "the status 1065353216; expected 0 to 2",
        ),
        (
            {"answer": IF_BAD.format("(i32.store (i32.const 4096) (i32.const 3))")},
            "gave 3 logits; expected 2",
        ),
        (
            {"answer": IF_BAD.format("(i32.store (i32.const 8192) (i32.const 0x7fc00000))")},
            "logits that are not finite: .nan, 2.0.",
        ),
        (
            {
                "request": "(select (i32.const 0) (i32.const 65536) (i32.eq (local.get 0) "
                "(i32.const 77)))"
            },
            "no room for a request of 77 bytes",
        ),
    ],
)
def test_only_the_row_that_breaks_a_guest_fails(
    evaluation: Make, tmp_path: Path, parts: dict[str, str], message: str
) -> None:
    guest = tmp_path / "guest.wasm"
    guest.write_bytes(reactor(**parts))
    rows: list[dict[str, object]] = [{"text": "x" * (i + 1), "label": 1} for i in range(40)]
    # The longest is the last of its batch.
    rows[17] = {"text": "x" * 60 + "!", "label": 1}
    data = write_rows(tmp_path / "data.jsonl", rows)
    # What is about the first row, or about one request, needs the row alone.
    batch_rows = 1 if "logits" in message or "room" in message else 16
    results = evaluate(
        evaluation(guest=str(guest), data=str(data), row_timeout_s=0.25, batch_rows=batch_rows)
    )
    table = pyarrow.parquet.read_table(tmp_path / "out" / "rows.parquet").to_pylist()
    failed = [row for row in table if row["status"] == "failed"]
    assert [row["row"] for row in failed] == [17]
    assert results["rows"]["failed"] == 1
    assert results["failures"][0]["error"] == failed[0]["error"]
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(failed[0]["error"])
    assert all(row["logits"] == [1.0, 2.0] for row in table if row["status"] == "ok")


def test_a_guest_that_does_not_start_ends_the_run(evaluation: Make, tmp_path: Path) -> None:
    guest = tmp_path / "guest.wasm"
    for code, message in (("(i32.const 3)", "wasinn_eval_open returned 3"), ("unreachable", "")):
        guest.write_bytes(reactor(open=code))
        with pytest.raises(GuestBroke, match=f"does not start: .*{message}"):
            evaluate(evaluation(guest=str(guest), output=str(tmp_path / f"out{len(code)}")))


def test_a_module_of_neither_form(evaluation: Make, tmp_path: Path) -> None:
    guest = tmp_path / "guest.wasm"
    guest.write_bytes(bytes(wasmtime.wat2wasm('(module (func (export "wasinn_eval_open")))')))
    with pytest.raises(UsageError, match="lacks wasinn_eval_request, wasinn_eval_rows"):
        evaluate(evaluation(guest=str(guest)))


def answer(**more: object) -> str:
    return json.dumps({"id": "0", "numbers": [1.5, -2.5], "tokens": 3, **more})


def test_a_program_answers_in_lines(evaluation: Make, tmp_path: Path) -> None:
    guest = tmp_path / "guest.wasm"
    guest.write_bytes(program(answer()))
    evaluate(evaluation(guest=str(guest), limit=3, batch_rows=1))
    table = pyarrow.parquet.read_table(tmp_path / "out" / "rows.parquet").to_pylist()
    assert [row["logits"] for row in table] == [[1.5, -2.5]] * 3
    assert [row["tokens"] for row in table] == [3] * 3
    assert [row["prediction"] for row in table] == [0] * 3


@pytest.mark.parametrize(
    ("printed", "status", "message"),
    [
        ((), 0, "printed 0 lines for 1 rows"),
        ((answer(), answer()), 0, "printed 2 lines for 1 rows"),
        ((answer(),), 4, "ended with status 4"),
        (("hello",), 0, "its line 1 is no JSON"),
        (("[1]",), 0, "expected a JSON object, got '.1.'"),
        (("[" * 100_000,), 0, "its line 1 is no JSON"),
        ((answer(id="1"),), 0, 'expected "id": "0", got \'1\''),
        ((answer(logits=[1]),), 0, "unknown key 'logits'"),
        ((answer(tokens=-1),), 0, "tokens: expected a whole number"),
        ((answer(tokens=True),), 0, "tokens: expected a whole number"),
        ((answer(status="done"),), 0, "status: expected ok, truncated, failed"),
        ((answer(text=7),), 0, "text: expected a string"),
        ((answer(numbers="12"),), 0, "numbers: expected a list"),
        ((answer(numbers=[[1]]),), 0, "numbers: expected a list"),
        ((answer(numbers=[1e300, 0]),), 0, "not finite"),
        ((answer(numbers=[float("nan"), 0]),), 0, "not finite"),
        ((answer(status="failed", text="no such word"),), 0, "^no such word$"),
        ((answer(status="failed"),), 0, "does not say why"),
    ],
)
def test_a_program_that_prints_what_it_must_not(
    evaluation: Make, tmp_path: Path, printed: tuple[str, ...], status: int, message: str
) -> None:
    guest = tmp_path / "guest.wasm"
    guest.write_bytes(program(*printed, status=status))
    data = write_rows(tmp_path / "data.jsonl", make_rows(1))
    results = evaluate(evaluation(guest=str(guest), data=str(data), labels=("no", "yes")))
    assert results["rows"]["failed"] == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(results["failures"][0]["error"])


def test_the_check_passes_on_ours_and_tells_what_others_break(bag: Path, tmp_path: Path) -> None:
    from tests.evaluate.bag_of_words import GUEST

    graph = f"onnx:cpu:{bag}"
    findings = list(check_guest(str(GUEST), graph))
    assert len(findings) == 8
    assert all(finding.is_kept for finding in findings), findings
    guest = tmp_path / "guest.wasm"
    for parts, rule in (
        ({"open": "(i32.const 1)"}, "it starts"),
        ({"rows": "unreachable"}, "it answers each row of a batch"),
        (
            {"answer": "(i32.store (i32.const 8192) (i32.const 0x7fc00000))"},
            "its numbers are finite",
        ),
        (
            {"rows": "(if (i32.gt_u (local.get $rows) (i32.const 50)) (then unreachable))"},
            "it answers batches of all sizes, and texts of all kinds",
        ),
        # The first number counts the calls.
        (
            {"rows": "(i32.store (i32.const 8) (i32.add (i32.load (i32.const 8)) (i32.const 1)))"},
            "the same batch gives the same answers",
        ),
        (
            {"rows": "(f32.store (i32.const 8) (f32.convert_i32_u (local.get $rows)))"},
            "a row's answer does not depend on the others of its batch",
        ),
        ({}, "it says how many tokens the model saw"),
    ):
        guest.write_bytes(reactor(**parts))
        broken = [finding.rule for finding in check_guest(str(guest), graph) if not finding.is_kept]
        assert rule in broken
