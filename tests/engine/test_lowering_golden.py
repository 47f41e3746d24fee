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
        "define internal fastcc i32 @f0(ptr nonnull swiftself align 16 dereferenceable(48) %vm, "
        "i32 %p0, i32 %p1) #0 {",
        "entry:",
        "%1 = add i32 %p0, %p1",
        "ret i32 %1",
        "}",
    ]


def test_a_loop_with_a_branch() -> None:
    wat = """(module (func (param i32)
      (loop $l (br_if $l (i32.lt_s (local.get 0) (i32.const 10))))))"""
    assert lowered(wat)[2:] == [
        "br label %loop1",
        "loop1:",
        "%1 = icmp slt i32 %p0, 10",
        "br i1 %1, label %loop1, label %next2",
        "next2:",
        "ret void",
        "}",
    ]


def test_locals_that_meet() -> None:
    wat = """(module (func (param i32) (result i32) (local i32 i32)
      (loop $l
        (local.set 2 (local.get 0))
        (if (i32.eqz (i32.gt_u (local.get 2) (i32.const 9))) (then (local.set 1 (i32.const 7))))
        (br_if $l (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
      local.get 1))"""
    # The last local is set before it is read, in every iteration: it has no node.
    assert lowered(wat)[2:] == [
        "br label %loop1",
        "loop1:",
        "%1 = phi i32 [ %p0, %entry ], [ %7, %end3 ]",
        "%2 = phi i32 [ 0, %entry ], [ %6, %end3 ]",
        "%3 = icmp ule i32 %1, 9",
        "br i1 %3, label %then2, label %else4",
        "then2:",
        "br label %end3",
        "else4:",
        "br label %end3",
        "end3:",
        "%6 = phi i32 [ 7, %then2 ], [ %2, %else4 ]",
        "%7 = sub i32 %1, 1",
        "%8 = icmp ne i32 %7, 0",
        "br i1 %8, label %loop1, label %next5",
        "next5:",
        "ret i32 %6",
        "}",
    ]


def test_memory_and_trap() -> None:
    wat = """(module (memory 1) (func (param i32) (result i32)
      (i32.div_u (i32.load offset=4 (local.get 0)) (local.get 0))))"""
    assert lowered(wat)[2:] == [
        "%1 = getelementptr inbounds i8, ptr %vm, i64 48",
        "%2 = load ptr, ptr %1, !invariant.load !21",
        "%3 = zext i32 %p0 to i64",
        "%4 = getelementptr inbounds nuw [1 x i8], ptr %2, i64 %3, i64 4",
        "%5 = load volatile i32, ptr %4, align 1, !tbaa !11",
        "%6 = icmp eq i32 %p0, 0",
        "br i1 %6, label %trap.integer_divide_by_zero, label %ok1, !prof !20",
        "ok1:",
        "%7 = udiv i32 %5, %p0",
        "ret i32 %7",
        "trap.integer_divide_by_zero:",
        "call void @wasinn_trap(i32 2) noreturn cold",
        "unreachable",
        "}",
    ]
