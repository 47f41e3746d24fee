"""Tests of proposals skip the modes that do not have them."""

from __future__ import annotations

import pytest

from wasinn_runtime import Engine

__all__ = ["needs"]


def needs(engine: Engine, *features: str) -> None:
    """Skip a test that uses features which the engine's mode lacks."""
    missing = [name for name in features if name not in engine.features]
    if missing:
        pytest.skip(f"mode {engine.config.mode} has no {', '.join(missing)}")
