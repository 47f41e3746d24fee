"""The commands that the examples' README files show work as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guests.runners import EXAMPLES
from wasinn_models.store import ResolvedModel

ROOT = EXAMPLES.parent

# Exit status of the last command, and something that standard output must hold.
EXPECTED = {
    "hello": (3, "Hello from WebAssembly\nargument: one\nargument: two\nNAME=you\n# hello\n"),
    "npu-plugin": (0, "17 passed, 1 skipped\n205 255 255\n"),
    "rust-files": (0, "gone: true\n1 3 one\n2 3 two\n2 lines\n"),
    "semantic-search": (0, "Leaves use sunlight, water and carbon dioxide to make sugar."),
    "qa-spans": (0, "wasinn_eval_rows: [i32 i32] -> [i32]"),
    "sentence-pairs": (0, "1 numbers, 0 characters of text"),
    "text-classification": (0, "2 numbers, 0 characters of text"),
    "text-classification-rust": (0, "2 numbers, 0 characters of text"),
    "text-embedding": (0, "384 numbers, 0 characters of text"),
    "token-classification": (0, "wasinn_eval_rows: [i32 i32] -> [i32]"),
}


def commands(name: str) -> str:
    """The shell lines of a README's first code block."""
    text = (EXAMPLES / name / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found.group(1)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_readme_commands(name: str, minilm: ResolvedModel, tmp_path: Path) -> None:
    work = tmp_path / name
    shutil.copytree(EXAMPLES / name, work)
    tool = tmp_path / "bin" / "wasinn"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wasinn_host.cli "$@"\n')
    tool.chmod(0o755)
    # Into a folder of its own, and without fetching the host that the plugin needs: it is here.
    site = tmp_path / "site"
    pip = tool.with_name("pip")
    pip.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m pip "$@" --quiet --no-deps --target "{site}"\n'
    )
    pip.chmod(0o755)
    tool.with_name("python").symlink_to(sys.executable)
    packages = [site, ROOT, ROOT / "runtime", ROOT / "backends", ROOT / "models"]
    done = subprocess.run(
        ["/bin/sh", "-c", commands(name)],
        cwd=work,
        env={
            **os.environ,
            "PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join([*map(str, packages), os.environ.get("PYTHONPATH", "")]),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    status, snippet = EXPECTED[name]
    assert done.returncode == status, done.stderr
    assert snippet in done.stdout
