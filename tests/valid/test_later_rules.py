"""Validation after 2.0, proposal by proposal: what is refused, in which words, and what is not."""

from __future__ import annotations

import pytest
import wasmtime

from tests.binary.wasm_bytes import HEADER, body, func_type, section, u32, vec
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.errors import Invalid, Malformed, WasinnError
from wasinn_runtime.spec.features import ALL_FEATURES
from wasinn_runtime.valid.validate import validate


def assembled(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(f"(module {text})"))


def refusal(data: bytes, features: frozenset[str] = ALL_FEATURES) -> str:
    with pytest.raises(WasinnError) as caught:
        validate(decode(data, "app.wasm", features))
    assert isinstance(caught.value, Invalid)
    return caught.value.message


ACCEPTED = {
    "a tail call": "(func $f (param i32) (result i64) (return_call $f (local.get 0)))",
    "a tail call and dead code": "(func $f (return_call $f) drop i32.add drop)",
    "a tail call to less": """(type $t (func (result (ref $t))))
        (func $f (type $t) unreachable) (func (result funcref) (return_call $f))""",
    "an indirect tail call": """(table 1 funcref) (type $t (func (param i32)))
        (func (return_call_indirect (type $t) (i32.const 1) (i32.const 0)))""",
    "constant arithmetic": """(global $a i32 (i32.const 3))
        (global i32 (i32.mul (i32.add (global.get $a) (i32.const 1)) (i32.const 2)))
        (global i64 (i64.sub (i64.const 1) (i64.const 2)))""",
    "many memories": """(memory $a 1) (memory $b i64 1)
        (func (memory.copy $a $b (i32.const 0) (i64.const 0) (i32.const 1))
          (i64.store $b offset=4294967296 (i64.const 0) (i64.load $a (i32.const 0))))""",
    "memory64": """(memory i64 1 281474976710656)
        (data (i64.const 8) "x")
        (func (result i64) (memory.fill (i64.const 0) (i32.const 1) (i64.const 2))
          (drop (memory.grow (i64.const 1))) (memory.size))""",
    "table64": """(table $a i64 1 funcref) (table $b 1 funcref)
        (elem (i64.const 0) 0) (type $t (func))
        (func (table.copy $a $b (i64.const 0) (i32.const 0) (i32.const 1))
          (table.set $a (i64.const 0) (table.get $b (i32.const 0)))
          (drop (table.grow $a (ref.null func) (table.size $a)))
          (call_indirect $a (type $t) (i64.const 0)))""",
    "a call by reference": """(type $t (func (param i32) (result i32)))
        (func $f (type $t) local.get 0) (elem declare func $f)
        (func (result i32) (call_ref $t (i32.const 1) (ref.func $f)))""",
    "a tail call by reference": """(type $t (func))
        (func (param (ref null $t)) (return_call_ref $t (local.get 0)))""",
    "a local set before": """(type $t (func))
        (func (param (ref $t)) (local $x (ref $t)) (local.set $x (local.get 0))
          (block (drop (local.get $x))) (drop (local.get $x)))""",
    "null taken off": """(type $t (func))
        (func (param (ref null $t)) (result (ref $t)) (ref.as_non_null (local.get 0)))""",
    "a branch on null": """(type $t (func)) (func (param (ref null $t)) (result (ref $t))
        (block $l (br_on_null $l (local.get 0)) return) unreachable)""",
    "a branch on non-null": """(type $t (func)) (func (param (ref null $t)) (result (ref $t))
        (br_on_non_null 0 (local.get 0)) unreachable)""",
    "an unknown reference": "(func (unreachable) (ref.as_non_null) (drop))",
    "a table that starts": """(type $t (func)) (func $f) (table 3 (ref $t) (ref.func $f))""",
    "a type of itself": "(type $t (func (param (ref null $t))))",
    "declared supertypes": """(type $a (sub (func (param (ref null func)))))
        (type $b (sub $a (func (param funcref)))) (type $c (sub final $b (func (param funcref))))
        (func (param (ref $c)) (result (ref $a)) local.get 0)""",
    "a group": """(rec (type $a (func (result (ref $b)))) (type $b (func (param (ref $a)))))
        (func (type $b) unreachable)""",
    "equal groups": """(rec (type $a (func (result (ref null $b)))) (type $b (func)))
        (rec (type $c (func (result (ref null $d)))) (type $d (func)))
        (func (param (ref $a)) (result (ref $c)) local.get 0)""",
    "exceptions": """(tag $e (param i32)) (func (result i32)
        (block $h (result i32) (try_table (catch $e $h) (throw $e (i32.const 1))) unreachable))""",
    "an exception thrown again": """(func (block $h (result exnref)
        (try_table (catch_all_ref $h)) return) throw_ref)""",
    "an exception that is there": """(tag $e) (func (result (ref exn))
        (try_table (catch_ref $e 0)) unreachable)""",
    "atomics": """(memory 1 1 shared) (memory $m i64 1 1 shared) (func (result i32)
        (i64.atomic.store (i32.const 0) (i64.const 1)) atomic.fence
        (drop (i32.atomic.rmw8.cmpxchg_u $m (i64.const 0) (i32.const 1) (i32.const 2)))
        (drop (memory.atomic.wait64 (i32.const 0) (i64.const 1) (i64.const 2)))
        (memory.atomic.notify (i32.const 0) (i32.const 1)))""",
    "bottoms": """(func (result funcref externref exnref)
        (ref.null nofunc) (ref.null noextern) (ref.null noexn))""",
}

REFUSED = {
    "a tail call's results": (
        "(func $f (result i32) i32.const 1) (func (return_call $f))",
        "type mismatch: tail call of function 0 expected [], got [i32]",
    ),
    "a tail call's arguments": (
        "(func $f (param i32)) (func (return_call $f))",
        "type mismatch: tail call of function 0 expected i32, got nothing",
    ),
    "a global of later": (
        "(global i32 (global.get 1)) (global i32 (i32.const 1))",
        "unknown global 1: global 0, there are 0 before it",
    ),
    "a global of its own": ("(global i32 (global.get 0))", "unknown global 0"),
    "constant arithmetic of types": (
        "(global i32 (i32.add (i32.const 1) (i64.const 1)))",
        "type mismatch: i32.add of global 0 expected i32 i32, got i32 i64",
    ),
    "division in constants": (
        "(global i32 (i32.div_s (i32.const 1) (i32.const 1)))",
        "constant expression required: global 0 has i32.div_s",
    ),
    "a memory that is not there": (
        "(memory 1) (func (drop (i32.load 1 (i32.const 0))))",
        "unknown memory 1: i32.load, there are 1",
    ),
    "an address of 64 bits": (
        "(memory 1) (func (drop (i32.load (i64.const 0))))",
        "type mismatch: i32.load expected i32, got i64",
    ),
    "an address of 32 bits": (
        "(memory i64 1) (func (drop (i32.load (i32.const 0))))",
        "type mismatch: i32.load expected i64, got i32",
    ),
    "addresses by memory": (
        "(memory 1) (memory i64 1) (func (i32.store 1 (i32.const 0) (i32.const 0)))",
        "type mismatch: i32.store expected i64, got i32",
    ),
    "an offset beyond": (
        "(memory i64 1) (memory 1) (func (drop (i32.load 1 offset=4294967296 (i32.const 0))))",
        "offset out of range: 4294967296, but memory 1 has 32-bit addresses",
    ),
    "a copy's size": (
        "(memory 1) (memory i64 1) (func (memory.copy 1 0 (i64.const 0) (i32.const 0) "
        "(i64.const 0)))",
        "type mismatch: memory.copy expected i32, got i64",
    ),
    "too much memory": ("(memory i64 0 281474976710657)", "memory size must be at most 2814749"),
    "a segment's offset": (
        '(memory i64 1) (data (i32.const 0) "x")',
        "type mismatch: offset of data segment 0 expected i64, got i32",
    ),
    "a local never set": (
        "(type $t (func)) (func (local (ref $t)) (drop (local.get 0)))",
        "uninitialized local 0: (ref (func [] -> [])) has no default",
    ),
    "a local set in a block": (
        "(type $t (func)) (func (param (ref $t)) (local (ref $t)) "
        "(block (local.set 1 (local.get 0))) (drop (local.get 1)))",
        "uninitialized local 1",
    ),
    "a local set in the other part": (
        "(type $t (func)) (func (param (ref $t)) (local (ref $t)) "
        "(if (i32.const 1) (then (local.set 1 (local.get 0))) (else (drop (local.get 1)))))",
        "uninitialized local 1",
    ),
    "null where none may be": (
        "(type $t (func)) (func (param (ref null $t)) (result (ref $t)) local.get 0)",
        "expected (ref (func [] -> [])), got (ref null (func [] -> []))",
    ),
    "a call by any reference": (
        "(type $t (func)) (func (param funcref) (call_ref $t (local.get 0)))",
        "type mismatch: call_ref expected (ref null (func [] -> [])), got funcref",
    ),
    "a branch without a reference": (
        "(func (param funcref) (br_on_non_null 0 (local.get 0)))",
        "type mismatch: br_on_non_null expected a label that takes a reference",
    ),
    "null of a number": (
        "(func (drop (ref.as_non_null (i32.const 1))))",
        "type mismatch: ref.as_non_null expected a reference, got i32",
    ),
    "an unknown reference as a number": (
        "(func (unreachable) (ref.as_non_null) (drop (i32.eqz)))",
        "type mismatch: i32.eqz expected i32, got (ref bottom)",
    ),
    "a table without a start": (
        "(table 1 (ref func))",
        "type mismatch: table 0 of (ref func) must say what its elements are",
    ),
    "a final supertype": (
        "(type $a (func)) (type $b (sub $a (func)))",
        "sub type 1 does not match super type: that is final",
    ),
    "a supertype that does not fit": (
        "(type $a (sub (func (param funcref)))) (type $b (sub $a (func (param (ref func)))))",
        "sub type 1 does not match super type: [(ref func)] -> [] is not below [funcref] -> []",
    ),
    "groups that differ": (
        "(rec (type $a (func)) (type $b (func))) (type $c (func)) "
        "(func (param (ref $a)) (result (ref $c)) local.get 0)",
        "type mismatch: end of the function expected (ref (func [] -> [])), got",
    ),
    "a tag with results": ("(type $t (func (result i32))) (tag (type $t))", "non-empty tag result"),
    "what a tag carries": (
        "(tag $e (param i32)) (func (throw $e))",
        "type mismatch: throw expected i32, got nothing",
    ),
    "a tag that is not there": ("(func (throw 2))", "unknown tag 2: throw, there is none"),
    "a clause's label": (
        "(tag $e (param i32)) (func (try_table (catch $e 0)))",
        "type mismatch: label 0 of a catch clause expected [], got [i32]",
    ),
    "a clause's label is outside": (
        "(func (try_table (result exnref) (catch_all_ref 0) unreachable) drop)",
        "type mismatch: label 0 of a catch clause expected [], got [(ref exn)]",
    ),
    "an alignment below": (
        "(memory 1 1 shared) (func (drop (i32.atomic.load align=2 (i32.const 0))))",
        "alignment must be natural: i32.atomic.load of 4 bytes, alignment 2**1",
    ),
    "shared without an end": ("(memory 1 shared)", "shared memory must have maximum: memory 0"),
    "atomics without memory": (
        "(func (drop (i32.atomic.load (i32.const 0))))",
        "unknown memory 0: i32.atomic.load, there is none",
    ),
    "a lane beyond": (
        "(func (param v128) (drop (i8x16.extract_lane_s 16 (local.get 0))))",
        "invalid lane index 16: i8x16.extract_lane_s has 16 lanes",
    ),
    "a shuffle beyond": (
        "(func (param v128) (result v128) (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 32 "
        "(local.get 0) (local.get 0)))",
        "invalid lane index 32: i8x16.shuffle has 32 lanes",
    ),
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(text: str) -> None:
    validate(decode(assembled(text), features=ALL_FEATURES))


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(text: str, words: str) -> None:
    assert words in refusal(assembled(text))


# Without the feature, the same modules are refused with its name.
NEEDS = {
    "tail-call": "a tail call",
    "multi-memory": "many memories",
    "memory64": "memory64",
    "function-references": "a call by reference",
    "exceptions": "exceptions",
    "threads": "atomics",
    "extended-const": "constant arithmetic",
}


@pytest.mark.parametrize(("feature", "case"), NEEDS.items())
def test_a_missing_feature_is_named(feature: str, case: str) -> None:
    with pytest.raises(WasinnError, match=rf"(needs the feature {feature}|multiple memories)"):
        validate(decode(assembled(ACCEPTED[case]), features=ALL_FEATURES - {feature}))


# --- the legacy exceptions, which no text converter at hand reads ---------------------------------

TAGS = section(13, vec([b"\0" + u32(1)]))


def legacy(code: bytes, results: bytes = b"") -> bytes:
    """A function beside one tag that carries an i32."""
    types = vec([func_type(b"", results), func_type(b"\x7f")])
    return (
        HEADER
        + section(1, types)
        + section(3, vec([u32(0)]))
        + TAGS
        + section(10, vec([body(code)]))
    )


@pytest.mark.parametrize(
    ("code", "results"),
    [
        (b"\x06\x40\x0b", b""),
        (b"\x06\x7f\x41\1\x07\0\x0b", b"\x7f"),
        (b"\x06\x7f\x41\1\x07\0\x19\x41\2\x0b", b"\x7f"),
        (b"\x06\x40\x07\0\x1a\x09\0\x0b", b""),
        (b"\x06\x40\x19\x06\x40\x09\1\x0b\x0b", b""),
        (b"\x06\x40\x06\x40\x41\1\x08\0\x18\0\x07\0\x1a\x0b", b""),
        # Delegating to the function's caller.
        (b"\x06\x40\x18\0", b""),
    ],
)
def test_legacy_exceptions(code: bytes, results: bytes) -> None:
    validate(decode(legacy(code, results), features=ALL_FEATURES))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"\x06\x40\x07\0\x0b", "type mismatch: end of catch expected [], got [i32]"),
        (b"\x06\x40\x07\1\x0b", "unknown tag 1: catch, there are 1"),
        (b"\x06\x40\x09\0\x0b", "invalid rethrow label 0: it is no catch"),
        (b"\x06\x40\x18\1", "unknown label 1: delegate, there are 1"),
        (b"\x06\x40\x41\1\x19\x0b", "type mismatch: end of try expected [], got [i32]"),
    ],
)
def test_refused_legacy_exceptions(code: bytes, words: str) -> None:
    assert words in refusal(legacy(code))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (b"\x07\0", "catch without its try"),
        (b"\x02\x40\x19\x0b", "catch_all without its try"),
        (b"\x06\x40\x19\x19\x0b", "catch_all without its try"),
        (b"\x06\x40\x19\x18\0", "delegate without its try"),
        (b"\x06\x40\x05\x0b", "else without its if"),
    ],
)
def test_malformed_legacy_exceptions(code: bytes, words: str) -> None:
    with pytest.raises(WasinnError, match=f"END opcode expected: {words}"):
        validate(decode(legacy(code), features=ALL_FEATURES))


def test_malformed_bodies_win_over_types_that_are_not_there() -> None:
    unknown = body(b"\xd0\5\x1a")
    types = section(1, vec([func_type()])) + section(3, vec([u32(0)] * 2))
    data = HEADER + types + section(10, vec([unknown, body(b"\xff")]))
    with pytest.raises(Malformed, match="function 1: illegal opcode ff"):
        validate(decode(data, features=ALL_FEATURES))
    data = HEADER + types + section(10, vec([unknown, body(b"")]))
    assert refusal(data).startswith("unknown type 5: there are 1")
