"""Folders of canaries for hostile cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.child import Canaries


@pytest.fixture
def canaries(tmp_path: Path) -> Canaries:
    """A folder whose files must stay as they are, and untold."""
    return Canaries(tmp_path / "canaries")
