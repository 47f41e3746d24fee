"""Modules made to hurt, with types, tags and instructions of later proposals: bounded, in words."""

from __future__ import annotations

import gc
import sys

import pytest

from tests.binary.bounds import bounded
from tests.binary.wasm_bytes import HEADER, body, func_type, function_module, section, u32, vec
from wasinn_runtime.binary.code import decode_body
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.errors import Invalid, Malformed
from wasinn_runtime.spec import limits
from wasinn_runtime.spec.features import ALL_FEATURES
from wasinn_runtime.spec.types import ref_type
from wasinn_runtime.valid.facts import examine
from wasinn_runtime.valid.validate import validate

MANY = 0xFFFF_FFFF
FUNC = func_type()


def read(data: bytes) -> ParsedModule:
    return decode(data, features=ALL_FEATURES)


def types(*groups: bytes) -> bytes:
    return HEADER + section(1, vec(groups))


def group(entries: list[bytes]) -> bytes:
    return b"\x4e" + vec(entries)


# --- types ----------------------------------------------------------------------------------------


def test_a_group_of_very_many_types() -> None:
    """Time and memory follow the size of the file, and the second such module shares it all."""
    data = types(group([FUNC] * 30_000))
    with bounded(6, 60):
        first = read(data)
        second = read(data)
    assert len(first.types) == 30_000
    assert first.types[27_777] is second.types[27_777]
    assert first.types[0] != first.types[1]


def test_a_group_that_claims_very_many_types() -> None:
    with bounded(0.1, 1), pytest.raises(Malformed, match="length out of bounds"):
        read(types(b"\x4e" + u32(MANY)))


def test_more_types_than_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Types count, not groups."""
    monkeypatch.setattr(limits, "MAX_TYPES", 1000)
    data = types(*[group([FUNC] * 99)] * 11)
    with pytest.raises(Malformed, match="too many types: 1089, at most 1000"):
        read(data)
    with pytest.raises(Malformed, match="too many types: at most 1000"):
        read(types(group([FUNC] * 500), group([FUNC] * 500), FUNC))


def test_a_tower_of_supertypes() -> None:
    def sub(above: int) -> bytes:
        return b"\x50" + vec([u32(above)]) + FUNC

    tower = [b"\x50\0" + FUNC, *(sub(i) for i in range(20_000))]
    with bounded(3, 100), pytest.raises(Invalid, match="sub type 64 is 64 deep, at most 63"):
        read(types(group(tower)))
    with bounded(3, 100), pytest.raises(Invalid, match="sub type 64 is 64 deep, at most 63"):
        read(types(*tower))


def test_two_supertypes() -> None:
    with pytest.raises(Invalid, match="sub type with 2 supertypes"):
        read(types(b"\x50\0" + FUNC, b"\x50\0" + FUNC, b"\x50\2\0\1" + FUNC))


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([b"\x60\1\x63\1\0"], "unknown type 1: there is none before it"),
        ([FUNC, b"\x60\1\x64\5\0"], "unknown type 5: there are 1 before it"),
        ([b"\x50\1\0" + FUNC], "unknown type 0: a supertype must come before"),
        ([b"\x60\1\x63" + u32(MANY) + b"\0"], "unknown type 4294967295"),
    ],
)
def test_types_that_are_not_there(entries: list[bytes], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        read(types(*entries))


@pytest.mark.parametrize(
    ("type_", "words"),
    [
        (b"\x60\1\x63\x7f\0", "malformed heap type 0x7f: i32 is no reference"),
        (b"\x60\1\x64\x60\0", "malformed heap type 0x60"),
        (b"\x60\1\x6e\0", "malformed value type 0x6e: any needs garbage collection"),
        (b"\x60\1\x63\x6b\0", "malformed heap type 0x6b: struct needs garbage collection"),
        (b"\x5f\0", "malformed function type 0x5f: a structure type needs garbage collection"),
        (b"\x5e\x7f\0", "malformed function type 0x5e: an array type needs garbage collection"),
        (b"\x4e\1\x4e\0", "malformed function type 0x4e"),
    ],
)
def test_malformed_types(type_: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        read(types(type_))


def test_types_of_types_have_short_names() -> None:
    """Each type takes the one before twice: written out, the last would have 2**200 words."""
    entries = [FUNC]
    for i in range(200):
        # Of a signed number, the first byte holds six bits.
        index = u32(i) if i < 64 else bytes([i & 0x7F | 0x80, i >> 7])
        entries.append(b"\x60\2" + (b"\x63" + index) * 2 + b"\0")
    with bounded(1, 10):
        module = read(types(*entries))
        shown = str(module.types[-1])
    assert len(shown) < 300, shown


def test_types_are_forgotten_with_their_modules() -> None:
    """What makes types the same everywhere must not keep those that nobody has."""
    recursive = group([b"\x60\1\x63\0\1\x64\1", b"\x60\1\x7b\0"])
    first = read(types(recursive)).types[0]
    assert read(types(recursive)).types[0] is first
    assert first.params[0] is ref_type(True, first)
    count = sys.getrefcount(first)
    for _ in range(10):
        read(types(recursive))
    gc.collect()
    assert sys.getrefcount(first) == count


# --- sections -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [MANY, 1 << 20, 1000])
def test_tag_count_bomb(count: int) -> None:
    with bounded(0.1, 1), pytest.raises(Malformed, match=r"length out of bounds: \d+, but"):
        read(HEADER + section(13, u32(count)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (section(13, vec([b"\1\0"])), "malformed tag attribute: zero byte expected"),
        (section(4, vec([b"\x40\1\x70\0\0\xd0\x70\x0b"])), "malformed table: zero byte expected"),
        (section(4, vec([b"\x70\2\0"])), "malformed limits flags 0x02: a shared table"),
        (section(5, vec([b"\x08\0"])), "malformed limits flags 0x08"),
        (section(6, b"\0") + section(13, b"\0"), "tag section comes twice or too late"),
        (section(5, vec([b"\4" + b"\xff" * 9 + b"\2"])), "integer too large for u64"),
    ],
)
def test_malformed_sections(data: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        read(HEADER + data)


def test_tags_of_types_that_are_not_there() -> None:
    with pytest.raises(Invalid, match="unknown type 3: type of tag 0, there is none"):
        validate(read(HEADER + section(13, vec([b"\0\3"]))))


# --- code -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [MANY, 1 << 28])
def test_catch_clause_bomb(count: int) -> None:
    module = read(function_module(b"\x1f\x40" + u32(count) + b"\2\0"))
    with bounded(0.1, 1), pytest.raises(Malformed, match="length out of bounds"):
        decode_body(module, 0)


def test_very_many_catch_clauses() -> None:
    code = b"\x1f\x40" + vec([b"\2\0"] * 100_000) + b"\x0b"
    with bounded(4, 100):
        validate(read(function_module(code)))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"\x1f\x40\1\4\0\x0b", "malformed catch clause 0x04"),
        (b"\xfe\3\1", "zero byte expected after atomic.fence"),
        (b"\xfe\x4f", "illegal opcode fe 79: no such instruction"),
        (b"\xfb\0\0", "illegal opcode fb: needs garbage collection, which is not supported"),
        (b"\xd3", "illegal opcode d3: needs garbage collection"),
        (b"\x41\0\x28\x80\1\0", "malformed memop flags 0x80"),
    ],
)
def test_malformed_code(code: bytes, words: str) -> None:
    module = read(function_module(code, extra=section(5, vec([b"\0\1"]))))
    with pytest.raises(Malformed, match=words):
        decode_body(module, 0)


@pytest.mark.parametrize("code", [b"\x02\x63\5\x0b", b"\xd0\5", b"\x1c\1\x64\5"])
def test_types_in_code_that_are_not_there(code: bytes) -> None:
    with pytest.raises(Invalid, match=r"function 0: unknown type 5: there are 1"):
        decode_body(read(function_module(code)), 0)


@pytest.mark.parametrize("opener", [b"\x06\x40", b"\x1f\x40\0", b"\x06\x40\x19"])
def test_deep_nesting(opener: bytes) -> None:
    depth = 10_000
    module = read(function_module(opener * depth + b"\x0b" * depth))
    with bounded(8, 120):
        validate(module)
        examine(module, 0, decode_body(module, 0))


def test_many_functions_with_the_most_locals_without_a_default() -> None:
    """3,000 functions of 50,000 locals that must be set: nothing is made for each of them."""
    one = body(b"\x20\0\x21\xcf\x86\x03\x20\xcf\x86\x03\x1a", [(50_000, b"\x64\x70")])
    data = (
        HEADER
        + section(1, vec([FUNC, b"\x60\1\x64\x70\0"]))
        + section(3, vec([u32(1)] * 3000))
        + section(10, vec([one] * 3000))
    )
    assert len(data) < 70_000
    module = read(data)
    with bounded(4, 20):
        validate(module)
        for index in range(3000):
            examine(module, index, decode_body(module, index))


def test_locals_set_in_deep_nesting() -> None:
    """Each block forgets what was set in it: at its end, not by looking at all that is set."""
    count = 20_000
    code = b"".join(b"\x02\x40\x20\0\x21" + u32(1 + i) for i in range(count)) + b"\x0b" * count
    data = (
        HEADER
        + section(1, vec([b"\x60\1\x64\x70\0"]))
        + section(3, vec([u32(0)]))
        + section(10, vec([body(code, [(count, b"\x64\x70")])]))
    )
    with bounded(3, 60):
        validate(read(data))
