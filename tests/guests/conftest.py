"""Fixtures for the tests of the example guests: engines, and the MiniLM model."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guests.runners import RUNNERS, Runner
from wasinn_models.store import ModelStore, ResolvedModel


@pytest.fixture(params=sorted(RUNNERS))
def runner(request: pytest.FixtureRequest) -> Runner:
    """Each engine in turn."""
    return RUNNERS[request.param]


@pytest.fixture(scope="session")
def minilm() -> ResolvedModel:
    """all-MiniLM-L6-v2 in float32; fetched and built if the store does not have it yet."""
    return ModelStore().resolve("minilm:float32")


@pytest.fixture(scope="session")
def minilm_files(minilm: ResolvedModel) -> Path:
    """The folder with MiniLM's vocab.txt and tokenizer.json."""
    return minilm.directory
