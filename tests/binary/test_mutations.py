"""Damaged modules: refused in words or accepted, never another exception, and never slowly.

The verdict is compared with wasmtime's, so neither a wrong refusal nor a wrong acceptance passes.
"""

from __future__ import annotations

import re
import time

import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.binary.damage import damaged, reference_verdict, verdict
from tests.binary.sample_modules import TEXTS, samples
from wasinn_runtime.engines.engine import Config, Engine
from wasinn_runtime.engines.modes import FEATURES_OF_MODE
from wasinn_runtime.engines.module import Module
from wasinn_runtime.errors import Invalid, Malformed

EXTENDED_CONSTANT = re.compile(r"constant expression required: .* has i(32|64)\.(add|sub|mul)")


@pytest.fixture(scope="module")
def reference() -> wasmtime.Engine:
    """An engine with the features of WebAssembly 2.0 without SIMD."""
    config = wasmtime.Config()
    for feature in (
        *("exceptions", "function_references", "gc", "memory64", "multi_memory", "relaxed_simd"),
        *("simd", "stack_switching", "tail_call", "threads", "wide_arithmetic"),
        "custom_page_sizes",
    ):
        setattr(config, f"wasm_{feature}", False)
    return wasmtime.Engine(config)


def check(engine: wasmtime.Engine, data: bytes) -> None:
    started = time.process_time()
    ours = verdict(data)
    assert time.process_time() - started < 3
    theirs = reference_verdict(engine, data)
    # The reference can not be told to refuse arithmetic in constant expressions.
    if not EXTENDED_CONSTANT.match(ours):
        assert bool(ours) == bool(theirs), f"ours: {ours!r}, reference: {theirs!r}"


@pytest.mark.parametrize("name", samples())
def test_samples_are_valid(name: str, reference: wasmtime.Engine) -> None:
    assert verdict(samples()[name]) == reference_verdict(reference, samples()[name]) == ""


SMALL = tuple(name for name, data in samples().items() if len(data) < 20_000)


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=damaged(samples(), SMALL))
def test_damage(data: bytes, reference: wasmtime.Engine) -> None:
    check(reference, data)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=damaged(samples(), tuple(samples())))
def test_damage_of_large_modules(data: bytes, reference: wasmtime.Engine) -> None:
    check(reference, data)


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=300))
def test_random_bytes(data: bytes, reference: wasmtime.Engine) -> None:
    check(reference, data)
    check(reference, b"\0asm\1\0\0\0" + data)


@pytest.mark.parametrize("name", TEXTS)
def test_cut_off_anywhere(name: str, reference: wasmtime.Engine) -> None:
    data = samples()[name]
    for size in range(len(data)):
        check(reference, data[:size])


def test_cut_off_examples(reference: wasmtime.Engine) -> None:
    for name, data in samples().items():
        if name not in TEXTS:
            for size in range(0, len(data), max(1, len(data) // 60)):
                check(reference, data[:size])


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=damaged(samples(), tuple(TEXTS)))
def test_what_remains_valid_compiles(data: bytes) -> None:
    """The compiler sees only what validation accepts, and can do all of that."""
    engine = Engine(Config("llvm-jit", cache=False, opt_level=0, verify_ir=True))
    refused = verdict(data, FEATURES_OF_MODE[engine.config.mode])
    if refused:
        with pytest.raises((Malformed, Invalid)) as caught:
            Module(engine, data)
        assert caught.value.message == refused
    else:
        Module(engine, data)
