"""What the package shows of itself, what importing it costs, and what a progress bar leaves."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

from rich.console import Console

import wasinn_models
from wasinn_models.errors import ModelError
from wasinn_models.rich_progress import progress_bar
from wasinn_runtime.errors import WasinnError


def test_the_public_names_are_sorted_and_there() -> None:
    assert wasinn_models.__all__ == sorted(wasinn_models.__all__)
    assert all(hasattr(wasinn_models, name) for name in wasinn_models.__all__)
    assert issubclass(ModelError, WasinnError)


def test_importing_it_imports_none_of_the_large_packages() -> None:
    script = (
        "import sys\n"
        "import wasinn_runtime.errors\n"
        "before = set(sys.modules)\n"
        "import wasinn_models, wasinn_models.operations\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new & {'numpy', 'onnx', 'onnxruntime', 'safetensors', 'huggingface_hub',"
        " 'rich', 'click'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_it_imports_nothing_of_the_project_but_its_errors() -> None:
    folder = Path(wasinn_models.__file__).parent
    for path in folder.rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if "wasinn_" in line and line.lstrip().startswith(("import ", "from ")):
                assert "wasinn_models" in line or "from wasinn_runtime.errors import" in line, path


def test_a_progress_bar_ends_in_one_line_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    with progress_bar(Console(file=stream)) as report:
        report("model.onnx", 0, 2_000_000)
        report("model.onnx", 2_000_000, 2_000_000)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("model.onnx: 2.0 MB in ")


def test_a_progress_bar_counts_many_files() -> None:
    stream = io.StringIO()
    with progress_bar(Console(file=stream)) as report:
        for number in range(5):
            report(f"file {number}", 1000, 1000)
    assert stream.getvalue().startswith("5 files: 5.0 kB in ")


def test_a_progress_bar_that_had_nothing_to_show_says_nothing() -> None:
    stream = io.StringIO()
    with progress_bar(Console(file=stream)):
        pass
    assert stream.getvalue() == ""
