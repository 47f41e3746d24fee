"""Modules made to hurt the decoder: refused or read within a bound of time and memory."""

from __future__ import annotations

import time

import pytest

from tests.binary.bounds import bounded
from tests.binary.wasm_bytes import (
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
from wasinn_runtime.errors import Invalid, Malformed
from wasinn_runtime.valid.validate import validate

MANY = 0xFFFF_FFFF


@pytest.mark.parametrize(
    "runs",
    [
        [(MANY, I32)],
        [(1 << 31, I32), (1 << 31, I64)],
        [(1 << 30, I32)] * 4 + [(7, I64)],
        [(50_001, I32)],
        [(25_000, I32), (25_001, I64)],
    ],
)
def test_locals_bomb(runs: list[tuple[int, bytes]]) -> None:
    module = decode(function_module(b"", runs=runs))
    with bounded(0.1, 1), pytest.raises(Malformed, match="too many locals"):
        decode_body(module, 0)


def test_many_functions_with_the_most_locals() -> None:
    """3,000 functions of 50,000 locals each, in 36 KB: no list of all of them is ever made."""
    one = body(b"\x20\xcf\x86\x03\x1a", [(50_000, I32)])
    data = (
        HEADER
        + section(1, vec([func_type()]))
        + section(3, vec([u32(0)] * 3000))
        + section(10, vec([one] * 3000))
    )
    assert len(data) < 50_000
    with bounded(3, 20):
        validate(decode(data))


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7, 9, 10, 11])
@pytest.mark.parametrize("count", [MANY, 1 << 31, 1 << 20, 1000])
def test_count_bomb(number: int, count: int) -> None:
    with bounded(0.1, 1), pytest.raises(Malformed, match=r"length out of bounds: \d+, but"):
        decode(HEADER + section(number, u32(count)))


@pytest.mark.parametrize(
    "data",
    [
        HEADER + section(1, vec([b"\x60" + u32(MANY)])),
        HEADER + section(2, vec([u32(MANY)])),
        HEADER + section(9, vec([b"\1\0" + u32(MANY)])),
        HEADER + section(10, vec([u32(MANY)])),
        HEADER + section(11, vec([b"\1" + u32(MANY)])),
        HEADER + section(0, u32(MANY)),
        HEADER + b"\1" + u32(MANY),
    ],
)
def test_inner_count_bomb(data: bytes) -> None:
    with bounded(0.1, 1), pytest.raises(Malformed, match="length out of bounds"):
        decode(data)


@pytest.mark.parametrize("count", [MANY, MANY - 3, 1 << 28])
def test_br_table_bomb(count: int) -> None:
    module = decode(function_module(b"\x41\0\x0e" + u32(count) + b"\0\0"))
    with bounded(0.1, 1), pytest.raises(Malformed, match="length out of bounds"):
        decode_body(module, 0)


def test_a_vector_of_types_bomb() -> None:
    module = decode(function_module(b"\x1c" + u32(MANY)))
    with bounded(0.1, 1), pytest.raises(Malformed, match="length out of bounds"):
        decode_body(module, 0)


def test_a_long_chain_of_br_tables_with_many_labels() -> None:
    """256 nested blocks, each left by a table of all labels: not quadratic in the labels."""
    depth = 256
    code = b"\x02\x40" * depth
    for level in range(depth):
        labels = [u32(i % (depth - level)) for i in range(256)]
        code += b"\x41\0\x0e" + vec(labels) + u32(0) + b"\x0b"
    with bounded(2, 40):
        validate(decode(function_module(code)))


@pytest.mark.parametrize("opener", [b"\x02\x40", b"\x03\x40", b"\x41\0\x04\x40"])
def test_deep_nesting(opener: bytes) -> None:
    depth = 100_000
    with bounded(6, 120):
        validate(decode(function_module(opener * depth + b"\x0b" * depth)))


def test_deep_nesting_that_never_closes() -> None:
    module = decode(function_module(b"\x02\x40" * 100_000))
    with bounded(6, 120), pytest.raises(Malformed, match="unexpected end"):
        decode_body(module, 0)


def test_branches_out_of_deep_nesting() -> None:
    depth = 20_000
    code = b"\x02\x40" * depth + (b"\x41\0\x0d" + u32(depth)) * depth + b"\x0b" * depth
    with bounded(6, 120):
        validate(decode(function_module(code)))


def test_a_table_of_millions_of_elements() -> None:
    """Equal elements share one expression: 8 bytes for each, not hundreds."""
    count = 2_000_000
    data = (
        HEADER
        + section(1, vec([func_type()]))
        + section(3, vec([u32(0)]))
        + section(9, vec([b"\1\0" + u32(count) + bytes(count)]))
        + section(10, vec([body(b"")]))
    )
    started = time.process_time()
    module = decode(data)
    validate(module)
    assert time.process_time() - started < 10
    assert len(module.elements[0].init) == count
    assert len({id(expression) for expression in module.elements[0].init}) == 1


def test_an_imported_and_an_own_memory_with_data_for_the_second() -> None:
    data = (
        HEADER
        + section(2, vec([name("env") + name("m") + b"\2\0" + u32(1)]))
        + section(5, vec([b"\0" + u32(1)]))
        + section(11, vec([b"\2\1\x41\0\x0b" + name(b"x")]))
    )
    with pytest.raises(Invalid, match="multiple memories: 2"):
        validate(decode(data))


def test_data_for_a_memory_that_is_not_there() -> None:
    data = (
        HEADER
        + section(5, vec([b"\0" + u32(1)]))
        + section(11, vec([b"\2\1\x41\0\x0b" + name(b"x")]))
    )
    with pytest.raises(Invalid, match="unknown memory 1: data segment 0, there are 1"):
        validate(decode(data))


@pytest.mark.parametrize(
    ("leb", "words"),
    [
        (b"\x81\x80\x80\x80\x80\x00", "integer representation too long for u32"),
        (b"\x81\x80\x80\x80\x10", "integer too large for u32"),
        (b"\x81\x80\x80\x80\x70", "integer too large for u32"),
    ],
)
def test_overlong_numbers(leb: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        decode(HEADER + section(3, leb))


def test_padded_numbers_are_fine() -> None:
    padded = b"\x80\x80\x80\x80\x00"
    module = decode(function_module(b"\x20" + padded + b"\x1a", params=I32))
    validate(module)
    assert decode_body(module, 0).instructions[0][1] == 0
