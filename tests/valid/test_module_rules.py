"""Validation of sections: indices, limits, constant expressions, start and exports."""

from __future__ import annotations

import pytest
import wasmtime

from tests.binary.wasm_bytes import (
    END,
    FUNCREF,
    HEADER,
    I32,
    I64,
    body,
    func_type,
    name,
    section,
    u32,
    vec,
)
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.errors import Invalid
from wasinn_runtime.valid.validate import validate, validate_sections

TYPES = section(1, vec([func_type(), func_type(I32, I64)]))
FUNCTION = section(3, vec([u32(0)]))
CODE = section(10, vec([body(b"")]))
TABLE = section(4, vec([b"\x70\0\2"]))
MEMORY = section(5, vec([b"\0\1"]))


def imported(kind_and_type: bytes) -> bytes:
    return name("env") + name("it") + kind_and_type


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        (section(2, vec([imported(b"\0\5")])), "unknown type 5: type of function 0, there is none"),
        (TYPES + section(3, vec([u32(2)])) + CODE, "unknown type 2: type of function 0, there are"),
        (
            section(4, vec([b"\x70\1\5\4"])),
            "size minimum must not be greater than maximum: table 0 has 5 and 4",
        ),
        (
            section(5, vec([b"\1\5\4"])),
            "size minimum must not be greater than maximum: memory 0 has 5 and 4",
        ),
        (
            section(5, vec([b"\0" + u32(65537)])),
            "memory size must be at most 65536 pages (4GiB): memory 0 has 65537",
        ),
        (
            section(5, vec([b"\1\0" + u32(65537)])),
            "memory size must be at most 65536 pages (4GiB): memory 0 has 65537",
        ),
        (section(5, vec([b"\0\1", b"\0\1"])), "multiple memories: 2"),
        (
            section(2, vec([imported(b"\2\0\1")])) + section(5, vec([b"\0\1"])),
            "multiple memories: 2",
        ),
        (
            section(6, vec([I32 + b"\0\x42\0" + END])),
            "type mismatch: global 0 expected i32, got i64",
        ),
        (section(6, vec([I32 + b"\0" + END])), "type mismatch: global 0 expected i32, got nothing"),
        (
            section(6, vec([I32 + b"\0\x41\0\x41\0" + END])),
            "type mismatch: global 0 expected i32, got i32 i32",
        ),
        (
            section(6, vec([I32 + b"\0\x41\0\x01" + END])),
            "constant expression required: global 0 has nop",
        ),
        (
            section(6, vec([I32 + b"\0\x41\0" + END, I32 + b"\0\x23\0" + END])),
            "unknown global 0: global 1, there are 0 before it",
        ),
        (
            section(2, vec([imported(b"\3" + I32 + b"\1")]))
            + section(6, vec([I32 + b"\0\x23\0" + END])),
            "constant expression required: global 1 reads mutable global 0",
        ),
        (
            section(6, vec([FUNCREF + b"\0\xd2\0" + END])),
            "unknown function 0: global 0, there is none",
        ),
        (section(9, vec([b"\0\x41\0" + END + b"\0"])), "unknown table 0: elem segment 0"),
        (
            section(4, vec([b"\x6f\0\2"])) + section(9, vec([b"\0\x41\0" + END + b"\0"])),
            "type mismatch: table 0 of elem segment 0 expected externref, got funcref",
        ),
        (
            TABLE + section(9, vec([b"\0\x41\0" + END + vec([u32(3)])])),
            "unknown function 3: element 0 of elem segment 0",
        ),
        (
            TABLE + section(9, vec([b"\0\x42\0" + END + b"\0"])),
            "type mismatch: offset of elem segment 0 expected i32, got i64",
        ),
        (
            section(9, vec([b"\5\x70" + vec([b"\xd0\x70" + END, b"\xd0\x6f" + END])])),
            "type mismatch: element 1 of elem segment 0 expected funcref, got externref",
        ),
        (section(11, vec([b"\0\x41\0" + END + b"\0"])), "unknown memory 0: data segment 0"),
        (
            MEMORY + section(11, vec([b"\0\x44" + bytes(8) + END + b"\0"])),
            "type mismatch: offset of data segment 0 expected i32, got f64",
        ),
        (section(8, u32(0)), "unknown function 0: start, there is none"),
        (
            TYPES + section(3, vec([u32(1)])) + section(8, u32(0)) + CODE,
            "start function: function 0 must have type [] -> [], got [i32] -> [i64]",
        ),
        (section(7, vec([name("a") + b"\0\0"])), 'unknown function 0: export "a", there is none'),
        (section(7, vec([name("a") + b"\1\0"])), 'unknown table 0: export "a"'),
        (section(7, vec([name("a") + b"\2\0"])), 'unknown memory 0: export "a"'),
        (section(7, vec([name("a") + b"\3\0"])), 'unknown global 0: export "a"'),
        (
            MEMORY + section(7, vec([name("a\n") + b"\2\0"] * 2)),
            r'duplicate export name "a\n"',
        ),
    ],
)
def test_refused(sections: bytes, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        validate_sections(decode(HEADER + sections))
    assert caught.value.message.startswith(words)


def test_several_exports_of_one_thing() -> None:
    exports = section(7, vec([name("a") + b"\2\0", name("b") + b"\2\0", name("") + b"\2\0"]))
    validate(decode(HEADER + MEMORY + exports))


def test_references_are_declared_outside_bodies() -> None:
    text = """
      (module
        (import "env" "f" (func $imported))
        (func $exported (export "e"))
        (func $global) (global funcref (ref.func $global))
        (func $active) (table 1 funcref) (elem (i32.const 0) $active)
        (func $passive) (elem funcref (ref.func $passive))
        (func $declared) (elem declare func $declared)
        (func $started) (start $started)
        (func $called (call $called)))
    """
    module = decode(bytes(wasmtime.wat2wasm(text)))
    validate(module)
    # 0 is only imported, 6 only the start function and 7 only called.
    assert module.declared_functions == {1, 2, 3, 4, 5}


def test_sections_are_validated_before_bodies() -> None:
    data = HEADER + TYPES + FUNCTION + section(8, u32(9)) + section(10, vec([body(b"\x1a")]))
    with pytest.raises(Invalid, match="unknown function 9: start"):
        validate(decode(data))
