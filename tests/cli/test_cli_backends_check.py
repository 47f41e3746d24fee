"""``wasinn backends check``: the kit on the command line."""

from __future__ import annotations

from tests.cli.command_line import Wasinn


def test_the_command(wasinn: Wasinn) -> None:
    ran = wasinn("backends", "check", "null")
    assert ran.status == 0
    assert "results         passed" in ran.out
    assert ran.out.endswith("null: 15 passed, 3 skipped\n")
    ran = wasinn("backends", "check", "onyx")
    assert ran.status == 125
    assert "no backend plugin is named onyx; did you mean onnx?" in ran.err
    ran = wasinn("backends", "check", "onnx", "--model", "onnx")
    assert ran.status == 125
    assert "--model onnx: expected ENCODING:PATH" in ran.err


def test_the_command_fails_with_the_plugin(wasinn: Wasinn) -> None:
    ran = wasinn("backends", "check", "null", "--option", "fault=compute")
    assert ran.status == 1
    assert "ZeroDivisionError: null backend: fault on demand in compute" in ran.out
