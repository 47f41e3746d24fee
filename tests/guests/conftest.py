"""Fixtures for the tests of the example guests: engines, and the MiniLM files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.guests.runners import RUNNERS, Runner


@pytest.fixture(params=sorted(RUNNERS))
def runner(request: pytest.FixtureRequest) -> Runner:
    """Each engine in turn."""
    return RUNNERS[request.param]


@pytest.fixture(scope="session")
def minilm_files() -> Path:
    """The folder with MiniLM's vocab.txt and tokenizer.json."""
    return Path(os.environ["WASINN_TEST_MINILM"])
