"""The Rust guest: what Rust's standard library asks of WASI, on each engine."""

from __future__ import annotations

from pathlib import Path

from tests.guests.runners import RUST_FILES, TRAPPED, Runner

# Follows from main.rs alone: 10 lines of "line N", 90 and 900 more, without their line feeds.
CHARACTERS = sum(len(f"line {number}") for number in range(1000))

FILES_REPORT = f"""\
make it again: Err(AlreadyExists)
contents: "one\\ntwo\\ndrei äöü\\n"
length: 20, file: true, dir: false
from 16: [b6, c3, bc, 0a]
cut and written past the end: [111, 110, 101, 10, 0, 0, 33]
create_new: Err(AlreadyExists)
copied: 7
listed: a/ first.txt second.txt
1000 lines, {CHARACTERS} characters
missing file: Err(NotFound)
left: a/
gone: true
"""


def test_files(runner: Runner, tmp_path: Path) -> None:
    result = runner(RUST_FILES, ["files", "/data"], dirs={"/data": tmp_path})
    assert result.text == FILES_REPORT
    assert list(tmp_path.iterdir()) == []


def test_files_without_the_directory(runner: Runner, tmp_path: Path) -> None:
    result = runner(RUST_FILES, ["files", "/elsewhere"], dirs={"/data": tmp_path})
    assert result.status == 1
    assert result.stderr.startswith(b"rust-files: cannot make '/elsewhere/rust-files-work': ")


def test_environment(runner: Runner) -> None:
    env = {"B": "2", "A": "one äöü", "EMPTY": ""}
    assert runner(RUST_FILES, ["env"], env=env).text == "A=one äöü\nB=2\nEMPTY=\n"
    assert runner(RUST_FILES, ["env", "A"], env=env).text == "one äöü\n"
    assert runner(RUST_FILES, ["env"]).text == ""
    result = runner(RUST_FILES, ["env", "MISSING"], env=env)
    assert (result.status, result.stdout) == (1, b"")
    assert result.stderr.startswith(b"rust-files: variable 'MISSING': ")


def test_arguments(runner: Runner) -> None:
    result = runner(RUST_FILES, ["args", "plain", "two words", "", 'quo"te', "日本"])
    assert result.text == '1: "plain"\n2: "two words"\n3: ""\n4: "quo\\"te"\n5: "日本"\n'


def test_lines(runner: Runner) -> None:
    result = runner(RUST_FILES, ["lines"], stdin="one\n\nthree äöü\r\nno line feed".encode())
    assert result.text == "1 3 one\n2 0 \n3 9 three äöü\n4 12 no line feed\n4 lines\n"
    assert runner(RUST_FILES, ["lines"]).text == "0 lines\n"


def test_many_lines(runner: Runner) -> None:
    lines = [f"line {number} " + "x" * (number % 300) for number in range(3000)]
    result = runner(RUST_FILES, ["lines"], stdin="\n".join(lines).encode())
    expected = [f"{i} {len(line)} {line}\n" for i, line in enumerate(lines, 1)]
    assert result.text == "".join(expected) + "3000 lines\n"


def test_lines_that_are_not_utf8(runner: Runner) -> None:
    result = runner(RUST_FILES, ["lines"], stdin=b"good\nb\xffd\n")
    assert (result.status, result.stdout) == (1, b"1 4 good\n")
    assert result.stderr.startswith(b"rust-files: cannot read standard input: ")


def test_clocks(runner: Runner) -> None:
    assert runner(RUST_FILES, ["time"]).text == "clocks run\n"


def test_exit_status(runner: Runner) -> None:
    for code in (0, 1, 42, 125):
        assert runner(RUST_FILES, ["exit", str(code)]).status == code
    assert runner(RUST_FILES, []).status == 2


def test_panic_traps(runner: Runner) -> None:
    result = runner(RUST_FILES, ["panic"])
    assert result.status == TRAPPED
    assert b"panicked at 'asked to'" in result.stderr
