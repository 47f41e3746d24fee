"""The section decoder: what a module's parts become, and what its errors say and where."""

from __future__ import annotations

import pytest

from tests.binary.wasm_bytes import (
    END,
    F64,
    FUNCREF,
    HEADER,
    I32,
    I64,
    body,
    custom,
    func_type,
    function_module,
    name,
    section,
    u32,
    vec,
)
from wasinn_runtime.binary.code import decode_body
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.module import CodeRange, SegmentMode
from wasinn_runtime.errors import Malformed
from wasinn_runtime.spec import limits
from wasinn_runtime.spec.opcodes import FEATURES_2_0
from wasinn_runtime.spec.types import (
    ExternKind,
    FuncType,
    GlobalType,
    Limits,
    MemoryType,
    TableType,
    ValType,
)


def test_every_section() -> None:
    first_body, second_body = body(b"\x20\x00\x1a"), body(b"", [(2, I32), (1, F64)])
    data = (
        HEADER
        + custom("before", b"abc")
        + section(1, vec([func_type(I32 + F64, I64), func_type()]))
        + section(
            2,
            vec(
                [
                    name("env") + name("f") + b"\0" + u32(1),
                    name("env") + name("t") + b"\1" + FUNCREF + b"\1" + u32(1) + u32(300),
                    name("env") + name("m") + b"\2\0" + u32(2),
                    name("env") + name("g") + b"\3" + I64 + b"\1",
                ]
            ),
        )
        + section(3, vec([u32(0), u32(1)]))
        + section(4, vec([b"\x6f\0" + u32(5)]))
        + section(5, vec([b"\1" + u32(1) + u32(70000)]))
        + section(6, vec([I32 + b"\0\x41\x7f" + END]))
        + section(7, vec([name("run") + b"\0" + u32(2), name("mem") + b"\2" + u32(0)]))
        + section(8, u32(2))
        + section(
            9,
            vec(
                [
                    b"\0\x41\0" + END + vec([u32(1), u32(2)]),
                    b"\5\x6f" + vec([b"\xd0\x6f" + END]),
                    b"\3\0" + vec([u32(0)]),
                ]
            ),
        )
        + section(12, u32(2))
        + section(10, vec([first_body, second_body]))
        + section(11, vec([b"\0\x41\x08" + END + name(b"hello"), b"\1" + name(b"\xff\0")]))
    )
    module = decode(data, "app.wasm")
    assert module.types == [
        FuncType((ValType.I32, ValType.F64), (ValType.I64,)),
        FuncType(),
    ]
    assert [(i.module, i.name, i.kind, i.type, i.type_index) for i in module.imports] == [
        ("env", "f", ExternKind.FUNC, None, 1),
        ("env", "t", ExternKind.TABLE, TableType(ValType.FUNCREF, Limits(1, 300)), None),
        ("env", "m", ExternKind.MEMORY, MemoryType(Limits(2)), None),
        ("env", "g", ExternKind.GLOBAL, GlobalType(ValType.I64, True), None),
    ]
    assert module.type_indices == [1, 0, 1]
    assert module.func_type(1) == module.types[0]
    assert module.tables[1] == TableType(ValType.EXTERNREF, Limits(5))
    assert module.memories[1] == MemoryType(Limits(1, 70000))
    (definition,) = module.global_defs
    assert definition.type == module.globals_[1] == GlobalType(ValType.I32)
    assert [(row.name, imm) for row, imm, _ in definition.init] == [("i32.const", -1)]
    assert [(e.name, e.kind, e.index) for e in module.exports] == [
        ("run", ExternKind.FUNC, 2),
        ("mem", ExternKind.MEMORY, 0),
    ]
    assert (module.start, data[module.start_offset]) == (2, 2)
    active, passive, declarative = module.elements
    assert (active.mode, active.table, active.type) == (SegmentMode.ACTIVE, 0, ValType.FUNCREF)
    assert [e[0][1] for e in active.init] == [1, 2]
    assert (passive.mode, passive.type) == (SegmentMode.PASSIVE, ValType.EXTERNREF)
    assert passive.init[0][0][0].name == "ref.null"
    assert declarative.mode is SegmentMode.DECLARATIVE
    assert module.declared_functions == {0, 1, 2}
    assert module.data_count == 2
    assert [data[s.start : s.end] for s in module.data_segments] == [b"hello", b"\xff\0"]
    assert [s.mode for s in module.data_segments] == [SegmentMode.ACTIVE, SegmentMode.PASSIVE]
    assert [data[c.start : c.end] for c in module.code] == [first_body[1:], second_body[1:]]
    assert [(c.name, data[c.start : c.end]) for c in module.custom] == [("before", b"abc")]
    assert (
        module.imported_functions,
        module.imported_tables,
        module.imported_memories,
        module.imported_globals,
    ) == (1, 1, 1, 1)
    decoded = decode_body(module, 1)
    assert decoded.locals == [(2, ValType.I32), (1, ValType.F64)]
    assert (decoded.start, decoded.end) == (module.code[1].start, module.code[1].end)
    assert module.code[0] == CodeRange(decoded.start - 5 - 1, decoded.start - 1)


def test_an_empty_module() -> None:
    module = decode(HEADER)
    assert (module.types, module.code, module.custom) == ([], [], [])


@pytest.mark.parametrize(
    ("data", "offset", "words"),
    [
        (b"", 0, "unexpected end"),
        (b"\0as", 3, "unexpected end"),
        (
            b"\x7fELF\2\1\1\0",
            0,
            r"magic header not detected: expected b'\\x00asm', got b'\\x7fELF'",
        ),
        (b"  (module)", 0, "looks like the text format"),
        (HEADER[:6], 6, "unexpected end: no binary version"),
        (b"\0asm\x0d\0\1\0", 4, "this is a component, not a core module"),
        (HEADER + b"\x0d\0", 8, "malformed section id 13"),
        (HEADER + section(1, vec([b"\x61"])), 11, "malformed function type 0x61"),
        (HEADER + section(1, vec([func_type(b"\x7a")])), 13, "malformed value type 0x7a"),
        (HEADER + section(1, vec([func_type(b"\x7b")])), 13, "v128 needs the feature simd"),
        (HEADER + section(4, vec([b"\x70\2\0"])), 12, "integer too large for u1"),
        (HEADER + section(9, vec([b"\x08"])), 11, "malformed elements segment kind 8"),
        (HEADER + section(9, vec([b"\1\1\0"])), 12, "malformed element kind"),
        (HEADER + section(11, vec([b"\3"])), 11, "malformed data segment kind 3"),
        (HEADER + section(7, vec([name("a") + b"\4\0"])), 13, "malformed export kind 0x04"),
        (HEADER + section(7, vec([name("a") + b"\xff\0"])), 13, "malformed export kind 0xff"),
        (HEADER + custom(b"\xc0\x80", b""), 11, "malformed UTF-8 encoding"),
        (HEADER + section(6, vec([I32 + b"\0\x41\1"])), 15, "unexpected end of section"),
        (HEADER + section(3, vec([u32(0)])), 12, "inconsistent lengths: 1 and 0"),
        (HEADER + section(1, b"\1"), 11, "unexpected end of section or function in type section"),
        (HEADER + section(1, b"\0") + section(1, b"\0"), 11, "type section comes twice"),
        (HEADER + b"\1\2\0" + custom("x", b""), 11, "section size mismatch: type section"),
        (HEADER + b"\1\2\1\x60" + custom("x", b"\0\0"), 14, "past the end of the type section"),
    ],
)
def test_malformed(data: bytes, offset: int, words: str) -> None:
    with pytest.raises(Malformed, match=words) as caught:
        decode(data, "app.wasm")
    assert caught.value.offset == offset
    assert str(caught.value).startswith(f"app.wasm:{offset:#x}: ")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"\x06", "illegal opcode 06"),
        (b"\xfc\x12", "illegal opcode fc 18"),
        (b"\xfc\x86\x80\x80\x01", "illegal opcode fc 2097158"),
        (b"\xfd\x0c", "illegal opcode fd 12: v128.const needs the feature simd"),
        (b"\x02\x50", "malformed value type 0x50"),
        (b"\x02\xff\x7f", "malformed block type"),
        (b"\x05", "END opcode expected: else without its if"),
        (b"\x02\x40\x05\x0b", "else without its if"),
        (b"\x04\x40\x05\x05\x0b", "else without its if"),
        (b"\xd0\x7f", "malformed reference type"),
        (b"\x41\xff\xff\xff\xff\x0f", "integer too large for s32"),
        (b"\x28\x20\x00", "malformed memop flags 0x20"),
        (b"\x3f\x01", "zero byte expected"),
        (b"\xfc\x08\x00\x00", "data count section required by memory.init"),
        (b"\x43\x00\x00", "unexpected end"),
        (b"\x0b", "section size mismatch"),
    ],
)
def test_malformed_bodies(code: bytes, words: str) -> None:
    module = decode(function_module(code), "app.wasm")
    with pytest.raises(Malformed, match=words) as caught:
        decode_body(module, 0)
    assert caught.value.function == "function 0"


def test_immediates() -> None:
    code = (
        b"\x41\x80\x01\x41\x40\x42\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f"  # 128, -64, -2**63
        b"\x43\x01\x00\xa0\x7f\x44\x02\x00\x00\x00\x00\x00\xf0\xff"  # signaling NaNs
        b"\x29\x03\x80\x80\x04\x11\x02\x81\x00\x0e\x02\x00\x81\x00\x01"
        b"\x1c\x01\x7c\xd0\x6f\x02\x7f\x03\x40\x04\x80\x01\x05\x0b\x0b\x0b"
        b"\xfc\x0c\x03\x04\xfc\x0e\x05\x06\x20\xff\xff\xff\xff\x0f"
    )
    module = decode(function_module(code))
    found = decode_body(module, 0).instructions
    assert [(row.name, imm) for row, imm, _ in found] == [
        ("i32.const", 128),
        ("i32.const", -64),
        ("i64.const", -(1 << 63)),
        ("f32.const", 0x7FA0_0001),
        ("f64.const", 0xFFF0_0000_0000_0002),
        ("i64.load", (3, 65536, 0)),
        ("call_indirect", (2, 1)),
        ("br_table", ((0, 1), 1)),
        ("select t", (ValType.F64,)),
        ("ref.null", ValType.EXTERNREF),
        ("block", ValType.I32),
        ("loop", None),
        ("if", 128),
        ("else", None),
        ("end", None),
        ("end", None),
        ("end", None),
        ("table.init", (3, 4)),
        ("table.copy", (5, 6)),
        ("local.get", 0xFFFF_FFFF),
        ("end", None),
    ]
    for row, _, offset in found:
        assert module.data[offset] == row.code & 0xFF or module.data[offset] == row.code >> 16


def test_instructions_of_other_features_do_not_exist() -> None:
    data = function_module(b"\x41\x00\xc0\x1a")
    assert len(decode_body(decode(data), 0).instructions) == 4
    old = decode(data, features=FEATURES_2_0 - {"sign-extension"})
    with pytest.raises(Malformed, match="illegal opcode c0"):
        decode_body(old, 0)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            HEADER + section(1, vec([func_type(I32 * (limits.MAX_PARAMS + 1))])),
            "too many parameters: 1001, at most 1000",
        ),
        (
            HEADER + section(1, vec([func_type(b"", I32 * (limits.MAX_RESULTS + 1))])),
            "too many results: 1001, at most 1000",
        ),
        (
            HEADER + section(4, vec([b"\x70\0\0"] * (limits.MAX_TABLES + 1))),
            "too many tables: 101, at most 100",
        ),
        (
            HEADER + section(5, vec([b"\0\0"] * (limits.MAX_MEMORIES + 1))),
            "too many memories: 101, at most 100",
        ),
        (
            HEADER + section(9, vec([b"\1\0\0"] * (limits.MAX_ELEMENT_SEGMENTS + 1))),
            "too many element segments: 100001",
        ),
        (
            HEADER + section(11, vec([b"\1\0"] * (limits.MAX_DATA_SEGMENTS + 1))),
            "too many data segments: 100001",
        ),
        (
            HEADER + section(7, vec([name("x" * (limits.MAX_NAME_BYTES + 1)) + b"\0\0"])),
            "name too long: 100001 bytes, at most 100000",
        ),
        (
            HEADER + section(3, u32(limits.MAX_FUNCTIONS + 1) + bytes(limits.MAX_FUNCTIONS + 1)),
            "too many functions: 1000001, at most 1000000",
        ),
        (function_module(b"\1" * limits.MAX_BODY_BYTES), "function body too large: 7654323 bytes"),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
def test_limits(data: bytes, words: str) -> None:
    with pytest.raises(Malformed, match=words):
        decode(data)


def test_the_largest_allowed_sizes_are_read() -> None:
    params, results = I32 * limits.MAX_PARAMS, I64 * limits.MAX_RESULTS
    data = function_module(b"\0", params, results, [(limits.MAX_LOCALS, F64)])
    module = decode(data)
    assert len(module.types[0].params) == limits.MAX_PARAMS
    assert decode_body(module, 0).locals == [(limits.MAX_LOCALS, ValType.F64)]
