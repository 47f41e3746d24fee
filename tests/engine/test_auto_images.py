"""Mode ``auto`` begins with what is sooner, and makes the AOT image beside guests that run long."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import wasmtime

from wasinn_runtime import Config, Engine, Func, Instance, Module, Store
from wasinn_runtime.engines import fast_interp, tiered
from wasinn_runtime.engines.aot import AotCode, image_key
from wasinn_runtime.engines.tiered import Tiered

WASM = bytes(
    wasmtime.wat2wasm(
        """(module
          (func $step (param i64) (result i64) (i64.add (local.get 0) (i64.const 3)))
          (func (export "run") (param i64) (result i64) (local i64)
            (loop $l
              (local.set 1 (i64.xor (call $step (local.get 1)) (local.get 0)))
              (br_if $l (i64.gt_s
                (local.tee 0 (i64.sub (local.get 0) (i64.const 1))) (i64.const 0))))
            (local.get 1)))"""
    )
)
TURNS = 100_000


def load(directory: Path | None) -> Module:
    config = Config("auto", cache=directory is not None, cache_dir=directory)
    return Module(Engine(config), WASM)


def run(module: Module) -> object:
    function = Instance(Store(module.engine), module).exports["run"]
    assert isinstance(function, Func)
    return function(TURNS)


def has_image(module: Module) -> bool:
    cache = module.engine.cache
    return cache is not None and image_key(module.parsed, 2) in cache


def until(condition: object) -> bool:
    assert callable(condition)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not made one."""
    monkeypatch.setattr(fast_interp, "_made", [])


def test_image_is_made_beside_a_guest_that_runs_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wasinn_runtime.engines.background._LEAST_SECONDS", 0.1)
    module = load(tmp_path)
    assert isinstance(module.code, Tiered)
    expected = run(module)
    assert until(lambda: has_image(module))
    assert run(module) == expected
    later = load(tmp_path)
    assert isinstance(later.code, AotCode)
    assert run(later) == expected


def test_no_image_is_made_for_guests_that_end_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wasinn_runtime.engines.background._LEAST_SECONDS", 0.5)
    module = load(tmp_path)
    run(module)
    gone = module.parsed
    del module
    time.sleep(1.0)
    cache = Engine(Config(cache_dir=tmp_path)).cache
    assert cache is not None
    assert image_key(gone, 2) not in cache


def test_no_image_is_made_of_what_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wasinn_runtime.engines.background._LEAST_SECONDS", 0.0)
    monkeypatch.setattr("wasinn_runtime.engines.background._MOST_IMAGE_BYTES", 10)
    module = load(tmp_path)
    run(module)
    assert until(lambda: list((tmp_path / "code").glob("hot-*")))
    time.sleep(0.5)
    assert not has_image(module)


@pytest.mark.usefixtures("no_interpreter")
def test_small_modules_are_compiled_where_there_is_no_interpreter(tmp_path: Path) -> None:
    module = load(tmp_path)
    assert isinstance(module.code, AotCode)
    assert not list((tmp_path / "code").glob("fast-interp-*"))
    assert run(module) == run(load(None))
    assert has_image(module)


@pytest.mark.usefixtures("no_interpreter")
def test_an_interpreter_in_the_cache_is_used(tmp_path: Path) -> None:
    fast_interp.fast_interpreter(Engine(Config(cache_dir=tmp_path)))
    fast_interp._made.clear()
    assert isinstance(load(tmp_path).code, Tiered)


@pytest.mark.usefixtures("no_interpreter")
def test_large_modules_make_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tiered, "_SOONER_BYTES", 10)
    module = load(tmp_path)
    assert isinstance(module.code, Tiered)
    assert "making the interpreter, once for this machine" in capfd.readouterr().err
    assert list((tmp_path / "code").glob("fast-interp-*"))
