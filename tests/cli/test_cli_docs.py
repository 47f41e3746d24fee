"""Every command of the help texts and of ``docs/cli.md`` is run; the tables there are compared."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import pytest

from tests.cli.command_line import ROOT, Wasinn
from wasinn_host.cli.commands.models import models
from wasinn_host.cli.help import Command, Group
from wasinn_host.cli.main import COMMANDS
from wasinn_host.cli.run_options import OPTIONS, TRACES
from wasinn_host.cli.status import STATUSES
from wasinn_runtime.engines.modes import DEFAULT_MODE, MODES

DOCUMENT = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
# What makes something and prints nothing.
_QUIET = ("models add", "models build", "wasinn compile")
_STATUS = re.compile(r"\s*# exit status (\d+)$")


def _of_help() -> Iterator[str]:
    from wasinn_host.cli.group import top

    root = top()
    context = click.Context(root)
    below = [root.get_command(context, name) for name in COMMANDS]
    commands: list[click.Command | None] = [root, *below, *models.commands.values()]
    for command in commands:
        assert isinstance(command, Command | Group), command
        assert command.examples, command.name
        yield from command.examples


def _of_document() -> Iterator[str]:
    for block in re.findall(r"^```sh\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()


LINES = sorted({*_of_help(), *_of_document()})
# MiniLM is 90 MB: the user's own store, as in the tests of the models; fetched if it is not there.
WITH_MINILM = [line for line in LINES if "minilm" in line]
QUICK = [line for line in LINES if "minilm" not in line]


@pytest.fixture
def place(tmp_path: Path, model_file: Path) -> Path:
    """A folder that looks like a checkout, with a model and a manifest of the user's."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("examples", "benchmarks", "docs"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(model_file, folder / "model.onnx")
    return folder


def check(wasinn: Wasinn, line: str, place: Path, env: Mapping[str, str] | None = None) -> None:
    """Runs a line; it must end as it says, by default well."""
    says = _STATUS.search(line)
    expected = int(says.group(1)) if says else 0
    ran = wasinn.shell(line, cwd=place, env=env)
    assert ran.status == expected, f"{line}\n{ran.out}\n{ran.err}"
    if not expected and not any(word in line for word in _QUIET):
        assert ran.out or "check" in line


@pytest.mark.parametrize("line", QUICK)
def test_line_runs(wasinn: Wasinn, line: str, place: Path, cache_dir: Path, tmp_path: Path) -> None:
    env = {}
    if "models" in line:
        # Entries that are added stay with the test; compiled code is shared.
        env["WASINN_CACHE_DIR"] = str(tmp_path / "cache")
        if "entry.toml" in line:
            made = wasinn.shell("wasinn models add model.onnx --name own", cwd=place, env=env)
            assert made.status == 0, made.err
            entry = tmp_path / "cache" / "models" / ".catalogue" / "own.toml"
            shutil.copy(entry, place / "entry.toml")
    check(wasinn, line, place, env)


@pytest.mark.slow
@pytest.mark.parametrize("line", WITH_MINILM)
def test_line_with_minilm_runs(wasinn: Wasinn, line: str, place: Path) -> None:
    own = {name: os.environ[name] for name in ("WASINN_CACHE_DIR",) if name in os.environ}
    check(wasinn, line, place, own or {"WASINN_CACHE_DIR": ""})


def test_there_are_enough_lines() -> None:
    """The patterns above find what is there."""
    assert len(WITH_MINILM) >= 4
    assert len(QUICK) >= 25
    assert any("# exit status 134" in line for line in QUICK)


def test_document_has_the_statuses() -> None:
    rows = re.findall(r"^\| (\d[\d.]*) \| (.+) \|$", DOCUMENT, re.MULTILINE)
    assert dict(rows) == STATUSES


def test_document_has_the_options_of_run() -> None:
    about_run = DOCUMENT.partition("## Running a guest")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(--[a-z-]+)(?: ([^`]*))?` \| (.+) \|$", about_run, re.MULTILINE)
    assert [(name, value) for name, value, _ in rows] == [(o.name, o.metavar) for o in OPTIONS]
    meanings = {name: meaning for name, _, meaning in rows}
    assert re.findall(r"`(\w+)`", meanings["--trace"]) == list(TRACES)
    assert [mode for mode in MODES if f"`{mode}`" not in meanings["--mode"]] == []
    assert f"`{DEFAULT_MODE}` (the default)" in meanings["--mode"]
    described = re.findall(r"^\| `([a-z-]+)` \| .+ \| .+ \|$", DOCUMENT, re.MULTILINE)
    assert [mode for mode in MODES if mode not in described] == []
