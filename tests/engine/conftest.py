"""Modules from text, compiled in every mode there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime

from wasinn_runtime import Config, Engine, Instance, Module, Store
from wasinn_runtime.engines.modes import MODES

Build = Callable[..., Instance]


@pytest.fixture(scope="session", params=MODES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """One engine per mode, with LLVM's verifier on and a cache of its own."""
    mode: str = request.param
    directory: Path = tmp_path_factory.mktemp(f"cache-{mode}")
    return Engine(Config(mode=mode, cache_dir=directory, verify_ir=True))


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine)


@pytest.fixture
def build(engine: Engine, store: Store) -> Build:
    """``build(wat, *imports)``: an instance in the test's store."""

    def make(wat: str, *imports: object) -> Instance:
        return Instance(store, Module(engine, wasmtime.wat2wasm(wat)), imports)  # type: ignore[arg-type]

    return make
