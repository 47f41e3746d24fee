"""What all tests have in common."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from wasinn_runtime import Engine
from wasinn_runtime.engines.fast_interp import fast_interpreter

Give = Callable[[Path], Path]


@pytest.fixture(scope="session", autouse=True)
def interpreter() -> Give:
    """Have the interpreter at hand: where it is not, ``auto`` compiles small modules instead.

    Gives what puts it into a cache directory of tests' own, where it is not made a second time.
    """
    engine = Engine()
    fast_interpreter(engine)

    def give(directory: Path) -> Path:
        assert engine.cache is not None
        (directory / "code").mkdir(mode=0o700, parents=True, exist_ok=True)
        for file in engine.cache.directory.glob("fast-interp-*"):
            shutil.copy2(file, directory / "code")
        return directory

    return give
