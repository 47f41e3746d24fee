"""Heights and branches of valid bodies: against validation's own stack, and by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

from tests.binary.wasm_bytes import HEADER, I32, body, func_type, section, u32, vec
from wasinn_runtime.binary.code import Body, decode_body
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.spec.features import ALL_FEATURES
from wasinn_runtime.spec.types import ValType
from wasinn_runtime.valid.facts import UNREACHABLE, Branch, Facts, examine
from wasinn_runtime.valid.function import FunctionValidator
from wasinn_runtime.valid.validate import validate

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def facts_of(module: ParsedModule, index: int) -> tuple[Body, Facts]:
    """The body, after validation, and its facts."""
    body = decode_body(module, index)
    function = module.imported_functions + index
    FunctionValidator(module, function, body).run()
    return body, examine(module, function, body)


def heights_by_validation(module: ParsedModule, index: int) -> list[int]:
    """Before each instruction, what lies on the validator's stack; it is run step by step."""
    body = decode_body(module, index)
    checker = FunctionValidator(module, module.imported_functions + index, body)
    found = []
    for instruction in body.instructions:
        types = [cell for cell in checker.stack if isinstance(cell, ValType)]
        height = len(types) + types.count(ValType.V128)
        dead = any(frame.unreachable for frame in checker.frames)
        found.append(UNREACHABLE if dead else height)
        checker.body = Body(body.locals, [instruction], body.start, body.end)
        checker.run()
    return found


def agree(module: ParsedModule) -> int:
    """Compares all functions; returns how many branches there were."""
    branches = 0
    for index in range(len(module.code)):
        body, facts = facts_of(module, index)
        expected = heights_by_validation(module, index)
        for position, (row, _, _) in enumerate(body.instructions):
            # What closes a part that nothing reached is itself reached from elsewhere.
            if row.meaning[0] not in ("else", "end", "catch", "catch_all", "delegate"):
                assert facts.heights[position] == expected[position], (index, position, row)
        assert facts.deepest == max([0, *facts.heights])
        for targets in facts.branches.values():
            for branch in targets:
                branches += 1
                assert 0 < branch.target < len(body.instructions)
                if body.instructions[branch.target][0].meaning[0] != "end":
                    arrived = branch.height + branch.carried
                    assert facts.heights[branch.target] in (arrived, UNREACHABLE)
    return branches


@pytest.mark.parametrize("name", ["hello", "rust-files", "semantic-search"])
def test_heights_are_those_of_validation(name: str) -> None:
    module = decode((EXAMPLES / name / f"{name}.wasm").read_bytes())
    validate(module)
    assert agree(module) > 100


def one(text: str) -> tuple[Body, Facts]:
    module = decode(bytes(wasmtime.wat2wasm(f"(module {text})")), features=ALL_FEATURES)
    validate(module)
    agree(module)
    return facts_of(module, 0)


def test_branches_of_blocks() -> None:
    _, facts = one(
        """(func (param i32) (result i32 i64)
          i32.const 1
          block (result i32 i64)
            i32.const 2
            i32.const 3
            i64.const 4
            local.get 0
            br_table 0 1 0
          end
          drop drop
          i64.const 5)"""
    )
    # 0 const, 1 block, 2 const, 3 const, 4 const, 5 get, 6 br_table, 7 end, 8 drop, 9 drop, ...
    assert facts.branches == {6: (Branch(8, 1, 2), Branch(11, 0, 2), Branch(8, 1, 2))}
    assert list(facts.heights) == [0, 1, 1, 2, 3, 4, 5, 3, 3, 2, 1, 2]
    assert facts.deepest == 5


def test_branches_of_loops_and_ifs() -> None:
    _, facts = one(
        """(func (param i32)
          i32.const 7
          loop (param i32)
            drop
            i32.const 8
            local.get 0
            br_if 0
            drop
          end
          local.get 0
          if (result i32) i32.const 1 else unreachable end
          drop
          local.get 0
          if nop end)"""
    )
    assert facts.branches == {
        5: (Branch(2, 0, 1),),
        9: (Branch(12, 0, 0),),
        11: (Branch(14, 0, 1),),
        16: (Branch(19, 0, 0),),
    }
    assert facts.heights[13] == 1


def test_vectors_take_two_cells() -> None:
    body, facts = one(
        """(func (param v128 v128 i32) (result v128)
          local.get 0 local.get 1 local.get 2 select
          local.get 0 drop)"""
    )
    assert list(facts.heights) == [0, 2, 4, 5, 2, 4, 2]
    assert body.wide_drops == {body.instructions[5][2]}


def test_branches_of_try_table() -> None:
    _, facts = one(
        """(tag $e (param i64))
        (func (result i64)
          i32.const 1
          block $all (result exnref)
            block $one (result i64)
              try_table (catch $e $one) (catch_all_ref $all)
                i64.const 3 throw $e
              end
              unreachable
            end
            return
          end
          unreachable)"""
    )
    assert facts.branches == {3: (Branch(9, 1, 1), Branch(11, 1, 1))}


def test_branches_of_references() -> None:
    _, facts = one(
        """(func (param funcref) (result funcref)
          local.get 0
          br_on_non_null 0
          i32.const 1
          block
            local.get 0
            br_on_null 0
            drop
          end
          drop
          ref.null func)"""
    )
    assert facts.branches == {1: (Branch(10, 0, 1),), 5: (Branch(8, 1, 0),)}


def test_branches_of_legacy_exceptions() -> None:
    """A try with a catch of an i32 and a catch for all, in it a try that delegates."""
    code = b"\x41\1\x06\x7f\x06\x40\x41\1\x08\0\x18\0\x41\2\x07\0\x41\3\x6a\x19\x41\4\x0b\x6a\x1a"
    data = (
        HEADER
        + section(1, vec([func_type(), func_type(I32)]))
        + section(3, vec([u32(0)]))
        + section(13, vec([b"\0" + u32(1)]))
        + section(10, vec([body(code)]))
    )
    module = decode(data, features=ALL_FEATURES)
    validate(module)
    agree(module)
    _, facts = facts_of(module, 0)
    # 0 const, 1 try, 2 try, 3 const, 4 throw, 5 delegate, 6 const, 7 catch, 8 const, 9 add,
    # 10 catch_all, 11 const, 12 end, 13 add, 14 drop, 15 end
    assert facts.branches == {
        1: (Branch(8, 1, 1), Branch(11, 1, 0)),
        2: (),
        7: (Branch(13, 1, 1),),
        10: (Branch(13, 1, 1),),
    }
    assert list(facts.heights) == [0, 1, 1, 1, 2, 1, 1, 2, 2, 3, 2, 1, 2, 2, 1, 0]
