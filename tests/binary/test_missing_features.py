"""A module of a later version is refused with the name of what is missing."""

from __future__ import annotations

import pytest
import wasmtime

from wasinn_runtime import Module
from wasinn_runtime.errors import Malformed


@pytest.mark.parametrize(
    ("wat", "feature"),
    [
        ("(module (func (drop (v128.const i32x4 0 0 0 0))))", "v128.const needs the feature simd"),
        ("(module (func (param v128)))", "v128 needs the feature simd"),
    ],
)
def test_the_feature_is_named(wat: str, feature: str) -> None:
    with pytest.raises(Malformed, match=feature):
        Module.validate(wasmtime.wat2wasm(wat))
