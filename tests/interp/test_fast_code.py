"""What the fast interpreter executes for a function, handler for handler."""

from __future__ import annotations

import wasmtime

import wasinn_runtime.lower.fast_tries  # noqa: F401  # the walk's knowledge of exceptions
from wasinn_runtime.binary.code import decode_body
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.lower.fast_code import Walk
from wasinn_runtime.lower.fast_handlers import (
    HANDLERS,
    SCALAR_HANDLERS,
    write_handler,
)
from wasinn_runtime.lower.fast_names import LABEL, SCALAR_SEQUENCES, VECTOR_SEQUENCES
from wasinn_runtime.lower.fast_sequences import SEQUENCES
from wasinn_runtime.lower.outline import escaping_functions, layout_of
from wasinn_runtime.spec.features import ALL_FEATURES
from wasinn_runtime.valid.validate import validate_function, validate_sections

_NAMES = ["label", *HANDLERS]


def walked(text: str) -> list[str]:
    """The handlers of a module's first function, each with its words."""
    binary = bytes(wasmtime.wat2wasm(f"(module (memory 1) {text})"))
    module = decode(binary, "<module>", ALL_FEATURES)
    validate_sections(module)
    body = decode_body(module, 0)
    validate_function(module, 0, body)
    places = {f: i for i, f in enumerate(escaping_functions(module))}
    walk = Walk(module, layout_of(module), places, 0, body)
    walk.run(False)
    return [
        " ".join([_NAMES[number], *map(str, words)])
        for number, words in zip(walk.numbers, walk.words, strict=True)
    ]


def test_reads_of_locals_and_constants_cost_nothing() -> None:
    text = "(func (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))"
    assert walked(text) == ["i32.add:ss>r 0 8", "return.i32:r"]
    text = "(func (param i64) (result i64) (i64.sub (local.get 0) (i64.const -7)))"
    assert walked(text) == ["i64.sub:si>r 0 -7", "return.i64:r"]


def test_a_chain_stays_in_the_register() -> None:
    text = """(func (param i32) (result i32)
      (i32.load offset=4 (i32.shl (i32.and (local.get 0) (i32.const 15)) (i32.const 2))))"""
    assert walked(text) == [
        "i32.and:si>r 0 15",
        "i32.shl:ri>r 2",
        "i32.load:r>r 4",
        "return.i32:r",
    ]


def test_a_result_goes_straight_into_its_local() -> None:
    text = "(func (param i32) (local.set 0 (i32.add (local.get 0) (i32.const 1))))"
    assert walked(text) == ["i32.add:si>s 0 1 0", "return"]


def test_the_first_of_two_results_gets_a_slot() -> None:
    text = """(func (param i32) (result i32)
      (i32.mul (i32.add (local.get 0) (i32.const 1)) (i32.sub (local.get 0) (i32.const 2))))"""
    assert walked(text) == [
        "i32.add:si>s 0 1 8",
        "i32.sub:si>r 0 2",
        "i32.mul:sr>r 8",
        "return.i32:r",
    ]


def test_results_of_other_classes_stay() -> None:
    text = """(func (param i32 f64)
      (f64.store (i32.add (local.get 0) (i32.const 8)) (f64.neg (local.get 1))))"""
    assert walked(text) == ["i32.add:si>r 0 8", "f64.neg:s>r 8", "f64.store:rr 0", "return"]


def test_rare_instructions_use_the_register_as_well() -> None:
    text = """(func (param i32 i32) (result i32)
      (i32.add (i32.load (local.get 0)) (memory.grow (local.get 1))))"""
    assert walked(text) == [
        "i32.load:s>s 0 0 16",
        "memory.grow:s>s 8 48 24",
        "i32.add:sr>r 16",
        "return.i32:r",
    ]


def test_a_local_that_is_set_before_its_value_is_used() -> None:
    text = """(func (param i32) (result i32)
      (local.get 0) (local.set 0 (i32.const 5)) (local.get 0) (i32.sub))"""
    assert walked(text) == ["copy.r:s 0 8", "copy.r:i 5 0", "i32.sub:ss>r 8 0", "return.i32:r"]


def test_the_copy_comes_before_the_result_that_replaces_the_local() -> None:
    text = """(func (param i32) (result i32)
      (local.get 0)
      (local.set 0 (i32.mul (local.get 0) (i32.const 3)))
      (local.get 0)
      (i32.sub))"""
    assert walked(text) == [
        "copy.r:s 0 8",
        "i32.mul:si>s 0 3 0",
        "i32.sub:sr>r 8",
        "return.i32:r",
    ]


def test_a_comparison_takes_its_branch_along() -> None:
    text = """(func (param i32)
      (loop $l
        (br_if $l (i32.ne (local.tee 0 (i32.add (local.get 0) (i32.const -1))) (i32.const 0)))))"""
    assert walked(text) == ["label 0", "i32.add:si>s 0 -1 0", "i32.ne:ri?1 0 0", "return"]


def test_calls_find_their_arguments_in_place() -> None:
    text = """(func $f (param i32 i32) (result i32)
      (i32.add (i32.const 1) (call $f (local.get 1) (i32.eqz (local.get 0)))))"""
    assert walked(text) == [
        # The constant has the slot at 16, but nobody ever looks there.
        "i32.eqz:s>s 0 32",
        "copy.r:s 8 24",
        "call.i32 0 24 40",
        "copy.r:i 1 16",
        "i32.add:sr>r 16",
        "return.i32:r",
    ]


def test_what_a_branch_carries_is_moved_down() -> None:
    text = """(func (param i32) (result i32)
      (block (result i32) (local.get 0) (i32.const 7) (br 0)))"""
    assert walked(text) == ["copy.r:i 7 8", "jump 0", "label 0", "return.i32:s 8"]


def test_several_results_may_be_locals() -> None:
    text = "(func (param i32 i32) (result i32 i32) (local.get 1) (local.get 0))"
    assert walked(text) == ["copy.r:s 8 16", "copy.r:s 0 24", "move_down 16 16", "return"]


def test_declared_locals_begin_as_zero() -> None:
    assert walked("(func (param i32) (local i32 f64))") == ["zero.2 8", "return"]
    assert walked("(func (local v128 i64))") == ["zero.3 0", "return"]
    assert walked(f"(func (local {'i32 ' * 9}))") == ["zero.n 0 72", "return"]


def test_a_handler_word_for_word() -> None:
    registers = "ptr %pc, ptr %fp, ptr %vm, ptr %mem, ptr %cs, "
    assert write_handler("h", ("i32.add:ri>s",)).splitlines() == [
        f'define internal preserve_nonecc void @"h"({registers}'
        "i64 %r, double %d, float %f, <16 x i8> %v) #8 {",
        "entry:",
        "  %1 = trunc nuw i64 %r to i32",
        "  %2 = getelementptr i8, ptr %pc, i64 8",
        "  %3 = load i32, ptr %2",
        "  %4 = add i32 %1, %3",
        "  %5 = zext i32 %4 to i64",
        "  %6 = getelementptr i8, ptr %pc, i64 16",
        "  %7 = load i64, ptr %6",
        "  %8 = getelementptr i8, ptr %fp, i64 %7",
        "  store i64 %5, ptr %8, align 8",
        "  %9 = getelementptr i8, ptr %pc, i64 24",
        "  %10 = load ptr, ptr %9",
        "  musttail call preserve_nonecc void %10(ptr %9, ptr %fp, ptr %vm, ptr %mem, ptr %cs, "
        "i64 %5, double %d, float %f, <16 x i8> %v)",
        "  ret void",
        "}",
    ]


def test_sequences_are_made_of_handlers_that_there_are() -> None:
    assert len(SEQUENCES) == len(SCALAR_SEQUENCES) + len(VECTOR_SEQUENCES) == len({*SEQUENCES})
    for parts in SEQUENCES:
        assert len(parts) > 1
        assert {*parts} <= {*HANDLERS}, parts
        # Only the last may go elsewhere, and what unwinding looks for stands alone.
        assert not any(HANDLERS[part].ends for part in parts[:-1]), parts
        assert "in_try" not in parts
    assert LABEL == 0
    assert 0 < SCALAR_HANDLERS < len(HANDLERS)
