"""The name section: what it gives, and that no damage in it makes a module unusable."""

from __future__ import annotations

import pytest

from tests.binary.wasm_bytes import (
    HEADER,
    body,
    custom,
    func_type,
    name,
    section,
    u32,
    vec,
)
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.module import Names
from wasinn_runtime.binary.names import printable
from wasinn_runtime.errors import Invalid, Malformed
from wasinn_runtime.valid.validate import validate

Entry = tuple[int, str | bytes]


def subsection(number: int, content: bytes) -> bytes:
    return bytes([number]) + u32(len(content)) + content


def name_map(*entries: Entry) -> bytes:
    return vec(u32(index) + name(text) for index, text in entries)


def module_with(content: bytes, code: bytes = b"") -> bytes:
    """Two functions, and a name section of the given content."""
    return (
        HEADER
        + section(1, vec([func_type()]))
        + section(3, vec([u32(0)] * 2))
        + section(10, vec([body(b""), body(code)]))
        + custom("name", content)
    )


def names_of(content: bytes) -> Names:
    module = decode(module_with(content))
    validate(module)
    return module.names


def test_all_subsections() -> None:
    content = (
        subsection(0, name("app"))
        + subsection(1, name_map((0, "main"), (1, "score")))
        + subsection(2, vec([u32(1) + name_map((0, "x"), (2, "y"))]))
        + subsection(7, b"\xff")
    )
    names = names_of(content)
    assert names == Names("app", {0: "main", 1: "score"}, {1: {0: "x", 2: "y"}})


FUNCTIONS = subsection(1, name_map((0, "main"), (1, "score")))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", {}),
        (b"\1", {}),
        (b"\1\x50\2", {}),
        (FUNCTIONS[:-1], {}),
        (subsection(1, b"\2" + u32(0) + name("main")), {0: "main"}),
        (subsection(1, u32(0xFFFF_FFFF) + u32(0) + name("main")), {}),
        (subsection(1, b"\xff\xff\xff\xff\xff\xff"), {}),
        (subsection(1, name_map((0, "main"), (1, b"\xff\xfe"))), {0: "main"}),
        (subsection(1, name_map((0xFFFF_FFFF, "far"), (1, "score"))), {1: "score"}),
        (subsection(1, name_map((2, "none"), (1, "score"))), {1: "score"}),
        (subsection(1, name_map((0, "first"), (0, "second"))), {0: "first"}),
        (FUNCTIONS + subsection(1, name_map((0, "again"))), {0: "main", 1: "score"}),
        (subsection(2, b"\xff") + FUNCTIONS, {}),
        (subsection(0, b"\x7f") + FUNCTIONS, {0: "main", 1: "score"}),
        (FUNCTIONS + b"\2\xff\xff\xff\xff\x0f", {0: "main", 1: "score"}),
        (FUNCTIONS + subsection(2, vec([u32(9) + name_map((0, "x"))])), {0: "main", 1: "score"}),
    ],
    ids=[
        "empty",
        "no size",
        "size too great",
        "cut off",
        "count too great",
        "count 2**32-1",
        "overlong count",
        "invalid UTF-8",
        "index 2**32-1",
        "no such function",
        "same index twice",
        "same subsection twice",
        "wrong order",
        "damaged module name",
        "damaged next subsection",
        "locals of no function",
    ],
)
def test_damage_is_dropped(content: bytes, expected: dict[int, str]) -> None:
    names = names_of(content)
    assert names.functions == expected
    assert names.locals == {}


def test_only_the_first_name_section_counts() -> None:
    data = module_with(FUNCTIONS) + custom("name", subsection(1, name_map((0, "other"))))
    assert decode(data).names.functions[0] == "main"


def test_locals_keep_what_came_before_the_damage() -> None:
    content = subsection(2, b"\2" + u32(0) + name_map((0, "x")) + u32(1) + b"\2" + u32(5))
    assert names_of(content).locals == {0: {0: "x"}}


def test_a_bad_custom_section_name_is_malformed() -> None:
    with pytest.raises(Malformed, match="malformed UTF-8 encoding"):
        decode(HEADER + custom(b"\xff", b""))


EVIL = "\x1b]0;owned\x07\n\u202e"


def message_with(function_name: str) -> str:
    """What validation says about a function of that name that drops nothing."""
    content = subsection(1, name_map((1, function_name)))
    with pytest.raises(Invalid) as caught:
        validate(decode(module_with(content, code=b"\x1a")))
    return str(caught.value)


def test_names_are_escaped_in_messages() -> None:
    shown = message_with(EVIL + "z" * 50_000)
    assert shown.isprintable()
    assert len(shown) < 400
    assert r"function 1 (\x1b]0;owned\x07\n\u202ezzz" in shown
    assert f"({len(EVIL) + 50_000} characters)" in shown


def test_a_name_of_a_megabyte_is_dropped() -> None:
    assert ": function 1: type mismatch" in message_with(EVIL + "z" * 1_000_000)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("größe 検索", "größe 検索"),
        ("a\tb", r"a\tb"),
        ("\x9b31m", r"\x9b31m"),
        ("\U000e0001", r"\U000e0001"),
        ("x" * 121, "x" * 120 + "... (121 characters)"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown
