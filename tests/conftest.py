"""What all tests have in common."""

from __future__ import annotations

import pytest

from wasinn_runtime import Engine
from wasinn_runtime.engines.fast_interp import fast_interpreter


@pytest.fixture(scope="session", autouse=True)
def interpreter() -> None:
    """Have the interpreter at hand: where it is not, ``auto`` compiles small modules instead."""
    fast_interpreter(Engine())
