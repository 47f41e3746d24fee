"""What IR comes out of a small function, word for word: an unplanned change shows here."""

from __future__ import annotations

import wasmtime

from wasinn_runtime.binary.code import decode_body
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.lower.outline import escaping_functions, layout_of
from wasinn_runtime.lower.ssa import lower_function
from wasinn_runtime.valid.validate import validate_function, validate_sections


def lowered(wat: str, index: int = 0) -> list[str]:
    module = decode(bytes(wasmtime.wat2wasm(wat)))
    validate_sections(module)
    body = decode_body(module, index)
    validate_function(module, index, body)
    places = {f: i for i, f in enumerate(escaping_functions(module))}
    text = lower_function(
        module, layout_of(module), places, module.imported_functions + index, body
    )
    return [line.strip() for line in text.splitlines()]


def test_arithmetic() -> None:
    assert lowered(
        "(module (func (param i32 i32) (result i32) local.get 0 local.get 1 i32.add))"
    ) == [
        "define internal fastcc i32 @f0(ptr nonnull swiftself align 16 dereferenceable(32) %vm, "
        "i32 %p0, i32 %p1) #0 {",
        "entry:",
        "%l0 = alloca i32",
        "%l1 = alloca i32",
        "store i32 %p0, ptr %l0",
        "store i32 %p1, ptr %l1",
        "%v1 = load i32, ptr %l0",
        "%v2 = load i32, ptr %l1",
        "%v3 = add i32 %v1, %v2",
        "ret i32 %v3",
        "}",
    ]


def test_a_loop_with_a_branch() -> None:
    wat = """(module (func (param i32)
      (loop $l (br_if $l (i32.lt_s (local.get 0) (i32.const 10))))))"""
    assert lowered(wat)[4:] == [
        "br label %loop1",
        "loop1:",
        "%v1 = load i32, ptr %l0",
        "%v2 = icmp slt i32 %v1, 10",
        "%v3 = zext i1 %v2 to i32",
        "br i1 %v2, label %loop1, label %next2",
        "next2:",
        "ret void",
        "}",
    ]


def test_memory_and_trap() -> None:
    wat = """(module (memory 1) (func (param i32) (result i32)
      (i32.div_u (i32.load offset=4 (local.get 0)) (local.get 0))))"""
    assert lowered(wat)[4:] == [
        "%v1 = getelementptr inbounds i8, ptr %vm, i64 32",
        "%v2 = load ptr, ptr %v1, !invariant.load !21",
        "%v3 = load i32, ptr %l0",
        "%v4 = zext i32 %v3 to i64",
        "%v5 = getelementptr inbounds nuw i8, ptr %v2, i64 %v4",
        "%v6 = getelementptr inbounds nuw i8, ptr %v5, i64 4",
        "%v7 = load volatile i32, ptr %v6, align 1, !tbaa !11",
        "%v8 = load i32, ptr %l0",
        "%v9 = icmp eq i32 %v8, 0",
        "br i1 %v9, label %trap.integer_divide_by_zero, label %ok1, !prof !20",
        "ok1:",
        "%v10 = udiv i32 %v7, %v8",
        "ret i32 %v10",
        "trap.integer_divide_by_zero:",
        "call void @wasinn_trap(i32 2) noreturn cold",
        "unreachable",
        "}",
    ]
