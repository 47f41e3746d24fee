"""README and guides: their examples run, their tables are generated, their links lead on."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scripts.feature_table import feature_table, table_in
from wasinn_host.nn.plugin import ANY_ENCODING, Backend
from wasinn_runtime.spec.features import ALL_FEATURES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def python_examples() -> list[tuple[str, str]]:
    return [
        (f"{page.name}-{i}", code)
        for page in (ROOT / "README.md", ROOT / "docs" / "embedding.md")
        for i, code in enumerate(blocks(page, "python"))
    ]


@pytest.mark.parametrize(
    ("name", "code"), python_examples(), ids=lambda v: v if len(v) < 40 else ""
)
def test_python_example(name: str, code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{name}:\n{done.stderr}"


def commands() -> list[str]:
    lines = "".join(blocks(ROOT / "README.md", "sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("wasinn ")]


@pytest.mark.parametrize("command", commands())
def test_command(command: str, tmp_path: Path) -> None:
    tool = tmp_path / "wasinn"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wasinn_host.cli "$@"\n')
    tool.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", "-c", command.replace("-o results/", f"-o {tmp_path}/")],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=600,  # a model may have to be built
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    if "--top 1" in command:
        assert f"```\n{done.stdout}```" in (ROOT / "README.md").read_text()


def test_feature_table_is_the_tables() -> None:
    """``make features`` renews it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert table_in(text) == feature_table()
    assert len(feature_table().splitlines()) == 2 + len(ALL_FEATURES)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```$|`[^`]*`", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_nothing_tells_where_it_was_made() -> None:
    """No absolute path of a developer's machine and no registry's host in any tracked file."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile(
        rb"/(root|home/[a-z]+|work/main)/[\w.]|\bpypi\.(org|python)|deb\.debian\.org|npmjs"
    )
    wrong = [
        name
        for name in listed.stdout.split("\0")
        if name
        and (ROOT / name).is_file()
        and name != "tests/house/test_readme.py"
        and pattern.search((ROOT / name).read_bytes())
    ]
    assert wrong == []


def test_backends() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| ([^|]+) \| [^|]+ \| [^|]+ \| (?:`(\w+)`|none) \|$",
        (ROOT / "README.md").read_text(),
        re.M,
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = project["entry-points"]["wasinn.backends"]
    assert sorted(name for name, _, _ in rows) == sorted(ours)
    for name, encodings, extra in rows:
        module, _, attribute = ours[name].partition(":")
        backend: type[Backend] = getattr(importlib.import_module(module), attribute)
        if ANY_ENCODING not in backend.encodings:
            assert set(encodings.split(", ")) == backend.encodings
        assert not extra or extra in project["optional-dependencies"]
