"""A module of a later version is refused with the name of what is missing."""

from __future__ import annotations

import pytest
import wasmtime

from wasinn_runtime import Module
from wasinn_runtime.errors import Malformed


@pytest.mark.parametrize(
    ("wat", "feature"),
    [
        ("(module (func (drop (v128.const i32x4 0 0 0 0))))", "SIMD"),
        ("(module (func return_call 0))", "tail calls"),
    ],
)
def test_the_feature_is_named(wat: str, feature: str) -> None:
    with pytest.raises(Malformed, match=f"needs {feature}, not supported yet; compile without it"):
        Module.validate(wasmtime.wat2wasm(wat))
