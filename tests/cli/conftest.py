"""What the tests of the command share: a cache for the session, guests from text, a small model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.command_line import ROOT, SOURCES, Inside, Wasinn, Wat
from tests.conftest import Give


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory, interpreter: Give) -> Path:
    """One cache for all tests of a run, not the user's: guests are compiled once."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    directory = base / "wasinn-cache"
    return interpreter(directory)


@pytest.fixture(scope="session")
def wasinn(cache_dir: Path) -> Wasinn:
    """The command, with warnings as errors."""
    ours = ("WASINN_", "NO_COLOR", "FORCE_COLOR", "TERM")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return Wasinn(
        {
            **kept,
            "PYTHONPATH": os.pathsep.join(SOURCES),
            "PYTHONWARNINGS": "error",
            "WASINN_CACHE_DIR": str(cache_dir),
        }
    )


@pytest.fixture
def inside(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cache_dir: Path
) -> Inside:
    """The command in this process, in the project's folder."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("WASINN_CACHE_DIR", str(cache_dir))
    return Inside(capsys)


@pytest.fixture
def wat(tmp_path: Path) -> Wat:
    """Makes modules in the test's directory."""
    return Wat(tmp_path)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real ONNX model that doubles a vector."""
    import onnx
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n"]) for n in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubling", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(model, path)
    return path
