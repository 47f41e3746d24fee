"""Our generator: which instructions and types it brings, and that it keeps to the features."""

from __future__ import annotations

from functools import cache

import pytest
import wasmtime

from tests.differential.cases import COMPARABLE
from tests.differential.table_modules import table_module
from wasinn_runtime.binary.code import decode_body
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.spec.features import ALL_FEATURES, FEATURES_2_0
from wasinn_runtime.spec.types import ValType

_MODULES = 150
_LEGACY = COMPARABLE | {"legacy-exceptions"}


@cache
def _modules() -> list[ParsedModule]:
    return [
        decode(table_module(seed, COMPARABLE), "table", ALL_FEATURES) for seed in range(_MODULES)
    ]


@cache
def _names() -> frozenset[str]:
    return frozenset(
        row.name
        for module in _modules()
        for number in range(len(module.code))
        for row, _, _ in decode_body(module, number).instructions
    )


@pytest.mark.parametrize(
    "name",
    [
        *("return_call", "return_call_indirect", "return_call_ref"),
        *("try_table", "throw", "throw_ref"),
        *("memory.copy", "memory.init", "memory.grow", "table.init"),
        *("br_table", "br_if", "call_indirect", "f64.promote_f32", "f64x2.promote_low_f32x4"),
    ],
)
def test_there_is(name: str) -> None:
    assert name in _names()


@pytest.mark.parametrize("name", ["try", "catch", "catch_all", "delegate", "rethrow", "throw"])
def test_there_is_of_the_exceptions_before(name: str) -> None:
    modules = [decode(table_module(seed, _LEGACY), "legacy", ALL_FEATURES) for seed in range(20)]
    bodies = [decode_body(module, n) for module in modules for n in range(len(module.code))]
    assert name in {row.name for body in bodies for row, _, _ in body.instructions}


def test_memories_are_several_and_of_both_address_types() -> None:
    kinds = {tuple(memory.address for memory in module.memories) for module in _modules()}
    assert {ValType.I32, ValType.I64} == {address for kind in kinds for address in kind}
    assert {1, 2, 3} == {len(kind) for kind in kinds}
    assert any(len(set(kind)) == 2 for kind in kinds)


def test_blocks_take_and_give_values() -> None:
    types = [
        module.block_type(imm)
        for module in _modules()
        for number in range(len(module.code))
        for row, imm, _ in decode_body(module, number).instructions
        if row.name == "if"
    ]
    assert any(len(ty.params) > 1 and len(ty.results) > 1 for ty in types)


def test_modules_keep_to_the_features() -> None:
    for seed in range(_MODULES):
        data = table_module(seed, FEATURES_2_0)
        module = decode(data, "table", FEATURES_2_0)
        for number in range(len(module.code)):
            decode_body(module, number)
        wasmtime.Module.validate(wasmtime.Engine(), data)
