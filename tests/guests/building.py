"""Builds a guest for a test. Not a test file."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples import build

__all__ = ["built"]


def built(guest: build.Guest, output: Path) -> Path:
    """The guest, built from its source just now; the test skips without Debian's rustc."""
    try:
        build.build(guest, output)
    except build.MissingToolError as error:
        # zig is a package that the tests install; rustc is the system's, and may not be there.
        if guest.is_rust:
            pytest.skip(str(error))
        raise
    return output
