"""What the tests of bad input share: the real command, modules from text, and a host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command_line import SOURCES, Wasinn, Wat
from tests.conftest import Give
from wasinn_host.host import Host
from wasinn_runtime import Config


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory, interpreter: Give) -> Path:
    """A cache of this session's own."""
    return interpreter(tmp_path_factory.mktemp("bad-input-cache"))


@pytest.fixture(scope="session")
def wasinn(cache_dir: Path) -> Wasinn:
    """The command as a process; a traceback in one, or one that hangs, fails the test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WASINN_")}
    return Wasinn(
        {
            **kept,
            "PYTHONPATH": os.pathsep.join(SOURCES),
            "PYTHONWARNINGS": "error",
            "NO_COLOR": "1",
            "WASINN_CACHE_DIR": str(cache_dir),
        }
    )


@pytest.fixture
def wat(tmp_path: Path) -> Wat:
    """Makes modules in the test's directory."""
    return Wat(tmp_path)


@pytest.fixture(scope="session")
def host(cache_dir: Path) -> Iterator[Host]:
    """A host that compiles quickly."""
    with Host(
        Config(opt_level=0, cache_dir=cache_dir), backend_options={"onnx": {"threads": "1"}}
    ) as made:
        yield made
