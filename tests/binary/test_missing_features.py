"""A module that needs what is not enabled is refused with the name of what is missing."""

from __future__ import annotations

import pytest
import wasmtime

from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.errors import Malformed, UsageError, WasinnError
from wasinn_runtime.spec.features import (
    ALL_FEATURES,
    FEATURES_2_0,
    FEATURES_3_0,
    parse_features,
)
from wasinn_runtime.valid.validate import validate


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("(func (drop (v128.const i32x4 0 0 0 0)))", "v128.const needs the feature simd"),
        ("(func (param v128))", "v128 needs the feature simd"),
        ("(func return_call 0)", "return_call needs the feature tail-call"),
        ("(func (local exnref))", "exn needs the feature exceptions"),
        ("(tag)", "tags: needs the feature exceptions"),
        ('(import "m" "t" (tag))', "a tag needs the feature exceptions"),
        ("(func (param (ref func)))", "a typed reference needs the feature function-references"),
        ("(func (drop (ref.null nofunc)))", "nofunc needs the feature function-references"),
        ("(rec (type (func)))", "malformed function type 0x4e: needs the feature function-ref"),
        ("(memory i64 1)", "needs the feature memory64"),
        ("(memory 1 1 shared)", "needs the feature threads"),
        (
            "(memory 1) (func (drop (i32.load 1 (i32.const 0))))",
            "a memory index needs the feature multi-memory",
        ),
        (
            "(memory 1) (func (drop (memory.size 1)))",
            "memory 1 needs the feature multi-memory",
        ),
        ("(func (atomic.fence))", "atomic.fence needs the feature threads"),
    ],
)
def test_the_feature_is_named(text: str, words: str) -> None:
    data = bytes(wasmtime.wat2wasm(f"(module {text})"))
    with pytest.raises(Malformed) as caught:
        validate(decode(data, features=FEATURES_2_0))
    assert words in caught.value.message
    assert "which is not enabled; compile without it, or enable it" in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "(func (param anyref))",
        "(func (drop (ref.null eq)))",
        "(type (struct))",
        "(type (array i8))",
        "(func (drop (ref.i31 (i32.const 1))))",
        "(func (drop (ref.eq (ref.null eq) (ref.null eq))))",
    ],
)
def test_garbage_collection_is_named(text: str) -> None:
    data = bytes(wasmtime.wat2wasm(f"(module {text})"))
    with pytest.raises(WasinnError, match="needs garbage collection, which is not supported"):
        validate(decode(data, features=ALL_FEATURES))


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("2.0", FEATURES_2_0 | {"simd"}),
        ("3.0", FEATURES_3_0),
        ("all", ALL_FEATURES),
        ("tail-call", FEATURES_2_0 | {"simd", "tail-call"}),
        ("3.0,-memory64, threads", FEATURES_3_0 - {"memory64"} | {"threads"}),
        ("legacy-exceptions", FEATURES_2_0 | {"simd", "exceptions", "legacy-exceptions"}),
    ],
)
def test_lists_of_features(text: str, features: frozenset[str]) -> None:
    assert parse_features(text) == features


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tail-calls", "unknown word 'tail-calls'; did you mean tail-call?"),
        ("gc", "unknown word 'gc'; known: 2.0, 3.0, all, bulk-memory"),
        ("-mvp", "unknown word '-mvp'"),
        ("2.0,3.0", "at most one of 2.0, 3.0, all"),
    ],
)
def test_wrong_lists_of_features(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_features(text)
    assert words in str(caught.value)
