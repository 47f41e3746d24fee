"""Validation of function bodies: what is refused, in which words, and what stays polymorphic."""

from __future__ import annotations

import pytest
import wasmtime

from tests.binary.wasm_bytes import (
    EXTERNREF,
    F64,
    FUNCREF,
    HEADER,
    I32,
    I64,
    body,
    func_type,
    function_module,
    name,
    section,
    u32,
    vec,
)
from wasinn_runtime.binary.code import decode_body
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.errors import Invalid
from wasinn_runtime.spec.features import ALL_FEATURES, FEATURES_2_0
from wasinn_runtime.spec.opcodes import ROWS, Imm, Opcode
from wasinn_runtime.spec.types import ValType
from wasinn_runtime.valid import function
from wasinn_runtime.valid.validate import validate, validate_function

MEMORY = section(5, vec([b"\0\1"]))
TABLES = section(4, vec([b"\x70\0\1", b"\x6f\0\1"]))
GLOBALS = section(6, vec([I32 + b"\0\x41\0\x0b", I64 + b"\1\x42\0\x0b"]))


def message(data: bytes, features: frozenset[str] = FEATURES_2_0) -> str:
    """The words of the refusal."""
    module = decode(data, "app.wasm", features)
    with pytest.raises(Invalid) as caught:
        validate(module)
    return caught.value.message


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"\x41\1\x44" + bytes(8) + b"\x6a", "type mismatch: i32.add expected i32, got f64"),
        (b"\x41\1\x6a", "type mismatch: i32.add expected i32, got nothing"),
        (b"\x42\1\x45\x0f", "type mismatch: i32.eqz expected i32, got i64"),
        (b"\x1a", "type mismatch: drop expected a value, got nothing"),
        (b"\x41\1", "type mismatch: end of the function expected [], got [i32]"),
        (b"\x02\x7f\x0b\x1a", "type mismatch: end of block expected i32, got nothing"),
        (b"\x41\1\x02\x40\x1a\x0b", "type mismatch: drop expected a value, got nothing"),
        (b"\x41\1\x04\x7f\x41\1\x0b\x1a", "type mismatch: if without else expected [i32], got []"),
        (b"\x41\1\x04\x7f\x41\1\x05\x42\1\x0b\x1a", "type mismatch: end of else expected i32, got"),
        (b"\x03\x40\x0c\2\x0b", "unknown label 2: br, there are 2"),
        (b"\x41\0\x0d\1", "unknown label 1: br_if, there are 1"),
        (b"\x41\0\x0e\1\5\0", "unknown label 5: br_table"),
        (b"\x20\0\x1a", "unknown local 0: local.get, 0 locals"),
        (b"\x41\0\x21\3", "unknown local 3: local.set, 0 locals"),
        (b"\x41\0\x22\3", "unknown local 3: local.tee, 0 locals"),
        (b"\x23\2\x1a", "unknown global 2: global.get, there are 2"),
        (b"\x41\1\x24\0", "global is immutable: global.set of immutable global 0"),
        (b"\x41\1\x24\1", "type mismatch: global.set expected i64, got i32"),
        (b"\x10\7", "unknown function 7: call, there are 1"),
        (b"\x41\0\x11\1\0", "unknown type 1: call_indirect, there are 1"),
        (b"\x41\0\x11\0\2", "unknown table 2: call_indirect, there are 2"),
        (b"\x41\0\x11\0\1", "type mismatch: call_indirect expected a table of funcref, got extern"),
        (b"\x02\1\x0b", "unknown type 1: block, there are 1"),
        (b"\x41\0\x28\3\0\x1a", "alignment must not be larger than natural: i32.load of 4 bytes"),
        (b"\x41\0\x41\0\x3a\1\0", "alignment must not be larger than natural: i32.store8 of 1 b"),
        (b"\x41\0\x43\0\0\0\0\x38\2\0\x42\0", "end of the function expected [], got [i64]"),
        (b"\x41\0\x41\0\x38\2\0", "type mismatch: f32.store expected f32, got i32"),
        (b"\xd2\0\x1a", "undeclared function reference: function 0"),
        (b"\xd2\1\x1a", "unknown function 1: ref.func"),
        (b"\x41\0\xd1\x1a", "type mismatch: ref.is_null expected a reference, got i32"),
        (b"\xd0\x70\xd0\x70\x41\0\x1b\x1a", "type mismatch: select expected numbers, unless it na"),
        (b"\x41\0\x42\0\x41\0\x1b\x1a", "type mismatch: select expected two values of one type, i"),
        (b"\x41\0\x41\0\x41\0\x1c\0", "invalid result arity: select of 0 types"),
        (b"\x41\0\x41\0\x41\0\x1c\2\x7f\x7f", "invalid result arity: select of 2 types"),
        (b"\x41\0\xd0\x6f\x26\0", "type mismatch: table.set expected funcref, got externref"),
        (b"\xfc\x0e\0\1", "type mismatch: table.copy expected funcref, got externref"),
        (b"\xfc\x0c\0\0", "unknown elem segment 0: table.init, there is none"),
        (b"\xfc\x0d\4", "unknown elem segment 4: elem.drop"),
        (b"\x02\x7f\x41\0\x41\0\x0e\1\1\0\x0b\x1a", "br_table label 1 expected [i32], got []"),
    ],
)
def test_refused(code: bytes, words: str) -> None:
    got = message(function_module(code, extra=TABLES + MEMORY + GLOBALS))
    assert words in got


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"\x3f\0\x1a", "unknown memory 0: memory.size, there is none"),
        (b"\x41\0\x28\0\0\x1a", "unknown memory 0: i32.load, there is none"),
        (b"\x41\0\x41\0\x41\0\xfc\x0a\0\0", "unknown memory 0: memory.copy, there is none"),
        (b"\x41\0\x25\0\x1a", "unknown table 0: table.get, there is none"),
        (b"\x41\0\x11\0\0", "unknown table 0: call_indirect, there is none"),
    ],
)
def test_refused_in_an_empty_module(code: bytes, words: str) -> None:
    assert message(function_module(code)).startswith(words)


def test_data_segments_are_known_by_the_data_count() -> None:
    count = section(12, u32(1))
    data = function_module(b"\xfc\x09\1", extra=count) + section(11, vec([b"\1" + name("x")]))
    assert message(data).startswith("unknown data segment 1: data.drop, there are 1")


UNREACHABLE = b"\0"


@pytest.mark.parametrize(
    ("code", "results"),
    [
        (b"\x6a", I32),
        (b"\x6a\x1a", b""),
        (b"\x42\1\x41\0\x1b", I64),
        (b"\x1b", I32),
        (b"\x1b\x1a", b""),
        (b"\xd1\x1a", b""),
        (b"\x36\2\0", b""),
        (b"\x21\0\x22\0\x1a", b""),
        (b"\x0e\1\0\0", b""),
        (b"\x02\x40\x0b", b""),
        (b"\x0d\0", I32),
        (b"", I32 + I64 + F64),
        (b"\x0c\0\x6a\x1a", b""),
    ],
)
def test_unreachable_code_is_polymorphic(code: bytes, results: bytes) -> None:
    data = function_module(UNREACHABLE + code, I32, results, extra=MEMORY)
    validate(decode(data))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"\x42\1\x6a\x1a", "i32.add expected i32, got i64"),
        (b"\x41\1\x42\1\x41\1\x1b\x1a", "select expected two values of one type"),
        (b"\x41\1", "end of the function expected [], got [i32]"),
        (b"\x0d\0\x45\x1a\x41\0", "end of the function expected [], got [i32]"),
        (b"\x0c\3", "unknown label 3"),
        # A block is reachable from its own start, whatever came before.
        (b"\x04\x7c\x05\x0b\x1a", "end of if expected f64, got nothing"),
        (b"\x41\1\xd1\x1a", "ref.is_null expected a reference, got i32"),
    ],
)
def test_unreachable_code_is_still_checked(code: bytes, words: str) -> None:
    assert words in message(function_module(UNREACHABLE + code))


def test_place_and_function_are_named() -> None:
    names = section(0, name("name") + b"\1" + u32(9) + vec([u32(1) + name("score!")]))
    data = (
        HEADER
        + section(1, vec([func_type()]))
        + section(2, vec([name("env") + name("f") + b"\0\0"]))
        + section(3, vec([u32(0)]))
        + section(10, vec([body(b"\x01\x41\0\x92")]))
        + names
    )
    at = data.index(b"\x92")
    with pytest.raises(Invalid) as caught:
        validate(decode(data, "app.wasm"))
    assert caught.value.offset == at
    assert str(caught.value) == (
        f"app.wasm:{at:#x}: function 1 (score!): type mismatch: f32.add expected f32, got i32"
    )


def test_malformed_bodies_win_over_invalid_ones() -> None:
    data = (
        HEADER
        + section(1, vec([func_type()]))
        + section(3, vec([u32(0)] * 2))
        + section(10, vec([body(b"\x1a"), body(b"\x06")]))
    )
    with pytest.raises(Exception, match="function 1: illegal opcode 06"):
        validate(decode(data))


@pytest.mark.parametrize("count", [1, 497, 498, 501, 49_997])
def test_types_of_many_locals(count: int) -> None:
    """Long lists of locals are looked up in their runs; the edges are where that can go wrong."""
    runs = [(count, F64), (1, I64), (2, EXTERNREF)]
    total = 2 + count + 3
    expected = [ValType.I32, ValType.FUNCREF] + [ValType.F64] * count + [ValType.I64]
    expected += [ValType.EXTERNREF] * 2
    module = decode(function_module(b"\0", I32 + FUNCREF, b"", runs))
    checker = function.FunctionValidator(module, 0, decode_body(module, 0))
    assert len(checker.locals) == total
    assert [checker.locals[i] for i in range(total)] == expected
    for type_ in set(expected):
        assert checker.locals.count(type_) == expected.count(type_)
    for index in (total, total + 1, 0xFFFF_FFFF):
        got = message(function_module(b"\x20" + u32(index) + b"\x1a", I32 + FUNCREF, b"", runs))
        assert got.startswith(f"unknown local {index}: local.get, {total} locals")


def test_a_body_is_validated_by_itself() -> None:
    module = decode(function_module(b"\x41\1", results=I32))
    validate_function(module, 0, decode_body(module, 0))


def signature_text(types: tuple[ValType, ...]) -> str:
    return " ".join(t.value for t in types)


@pytest.mark.parametrize(
    "row", [r for r in ROWS if r.is_typed and r.imm is Imm.NONE], ids=lambda r: r.name
)
def test_every_signature_is_what_the_format_says(row: Opcode) -> None:
    """wasmtime accepts each row with the table's types, and so do we; with others neither does."""
    assert row.params is not None
    assert row.results is not None
    operands = " ".join(f"local.get {i}" for i in range(len(row.params)))
    right = (
        f"(module (func (param {signature_text(row.params)}) "
        f"(result {signature_text(row.results)}) {operands} {row.name}))"
    )
    validate(decode(bytes(wasmtime.wat2wasm(right)), features=ALL_FEATURES))
    wasmtime.Module.validate(wasmtime.Engine(), wasmtime.wat2wasm(right))
    if row.params:
        wrong = right.replace(f"(param {row.params[0]}", "(param externref", 1)
        assert message(bytes(wasmtime.wat2wasm(wrong)), ALL_FEATURES).startswith(
            f"type mismatch: {row.name} expected {row.params[0]}, got externref"
        )


def test_a_row_without_rule_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = dict(function._BY_MEANING)
    del rules["br_table"]
    monkeypatch.setattr(function, "_BY_MEANING", rules)
    with pytest.raises(NotImplementedError, match="no validation rule for br_table"):
        function._families()
