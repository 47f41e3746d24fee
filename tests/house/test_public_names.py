"""The public surface: sorted, complete, small, typed."""

from __future__ import annotations

import importlib
import types
from pathlib import Path

import pytest

PACKAGES = ["wasinn_runtime", "wasinn_host", "wasinn_host.wasi", "wasinn_host.nn", "wasinn_models"]


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_sorted_and_exists(name: str) -> None:
    package = importlib.import_module(name)
    listed: list[str] = list(package.__all__)
    # ruff's order: constants, classes, functions
    assert len(listed) == len(set(listed))
    assert sorted(listed, key=_natural) == listed
    for item in listed:
        assert getattr(package, item) is not None
    assert len(listed) <= 40


@pytest.mark.parametrize("name", ["wasinn_runtime", "wasinn_host", "wasinn_host.wasi"])
def test_namespace_holds_nothing_else(name: str) -> None:
    package = importlib.import_module(name)
    for item in package.__all__:  # names that are looked up on first use
        getattr(package, item)
    public = {
        key
        for key, value in vars(package).items()
        if not key.startswith("_")
        and not isinstance(value, types.ModuleType)
        and key not in ("annotations", "TYPE_CHECKING")
    }
    assert public == set(package.__all__)


@pytest.mark.parametrize(
    "name", ["wasinn_runtime", "wasinn_host", "wasinn_backends", "wasinn_models"]
)
def test_packages_are_typed(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert (Path(module.__file__).parent / "py.typed").exists()


def _natural(name: str) -> tuple[int, str]:
    if name.isupper():
        return (0, name)
    return (1 if name[0].isupper() else 2, name)
