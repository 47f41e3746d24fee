"""The hello guest: arguments, environment, files, exit status, on each engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guests.runners import HELLO, Runner, run_wasinn

GREETING = "Hello from WebAssembly\n"


def test_arguments(runner: Runner) -> None:
    result = runner(HELLO, ["one", "two words", "", "äöü"])
    assert result.text == GREETING + (
        "argument: one\nargument: two words\nargument: \nargument: äöü\n"
    )


def test_environment(runner: Runner) -> None:
    env = {"NAME": "value with = in it", "EMPTY": ""}
    result = runner(HELLO, ["--env", "NAME", "--env", "EMPTY"], env=env)
    assert result.text == GREETING + "NAME=value with = in it\nEMPTY=\n"


def test_unset_variable(runner: Runner) -> None:
    result = runner(HELLO, ["--env", "HOME", "still here"])
    assert result.status == 1
    assert result.stderr == b"hello: the variable 'HOME' is not set\n"
    assert result.stdout.endswith(b"argument: still here\n")


def test_files(runner: Runner, tmp_path: Path) -> None:
    data = bytes(range(256)) * 64
    (tmp_path / "in.bin").write_bytes(data)
    args = ["--read", "box/in.bin", "--write", "box/out.txt", "first"]
    result = runner(HELLO, args, dirs={"box": tmp_path})
    assert (result.status, result.stderr) == (0, b"")
    assert result.stdout == GREETING.encode() + data
    assert (tmp_path / "out.txt").read_bytes() == b"first"
    result = runner(HELLO, ["--write", "/box/out.txt", "2nd"], dirs={"/box": tmp_path})
    assert result.text == GREETING
    assert (tmp_path / "out.txt").read_bytes() == b"2nd"


@pytest.mark.parametrize("name", ["box/missing.txt", "box/../secret.txt", "/etc/passwd", "other"])
def test_files_that_are_not_there_or_not_given(runner: Runner, tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    box = tmp_path / "box"
    box.mkdir()
    result = runner(HELLO, ["--read", name], dirs={"box": box})
    assert result.status == 1
    assert result.stdout == GREETING.encode()
    assert result.stderr.startswith(f"hello: cannot open '{name}': ".encode())


@pytest.mark.parametrize("code", [0, 1, 3, 77, 125])
def test_exit_status(runner: Runner, code: int) -> None:
    result = runner(HELLO, ["before", "--exit", str(code), "after"])
    assert result.status == code
    assert result.stdout == GREETING.encode() + b"argument: before\n"


def test_exit_status_past_what_wasmtime_passes_on() -> None:
    assert run_wasinn(HELLO, ["--exit", "255"]).status == 255


@pytest.mark.parametrize("args", [["--exit", "256"], ["--exit", "x"], ["--exit"], ["--bogus"]])
def test_wrong_use(runner: Runner, args: list[str]) -> None:
    result = runner(HELLO, args)
    assert result.status == 2
    assert result.stderr.startswith(b"hello: ")
