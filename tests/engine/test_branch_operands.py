"""Branches that take values with them past others: what waits below the block must be left alone.

Modes keep the topmost operands in registers, so each value is one instruction's: more would put
those below into memory, where a branch finds them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from wasinn_runtime import Func, Instance

Build = Callable[..., Instance]

_BRANCHES = {
    "br": "(br 0)",
    "br_if": "(br_if 0 (local.get 0)) unreachable",
    "br_table": "(br_table 0 0 0 (local.get 0))",
}


def _function(branch: str, waiting: int, dropped: int, carried: int, wide: bool) -> str:
    """Values wait, a block drops some and carries others; what is left is what comes back."""
    ty = "v128" if wide else "i32"
    count, left = waiting + dropped + carried, waiting + carried
    first = count + 1 if wide else 1  # the parameters themselves, or vectors of them
    vectors = " ".join(
        f"(local.set {first + n} (i32x4.splat (local.get {1 + n})))" for n in range(count * wide)
    )
    values = [f"(local.get {first + n})" for n in range(count)]
    kept = first + count
    keep = " ".join(f"(local.set {kept + n})" for n in reversed(range(left)))
    lane = "(i32x4.extract_lane 3 {})" if wide else "{}"
    results = " ".join(lane.format(f"(local.get {kept + n})") for n in range(left))
    return f"""
      (func (export "{waiting} {dropped} {carried}")
        (param i32 {"i32 " * count}) (result {"i32 " * left})
        (local {f"{ty} " * (count * wide + left)})
        {vectors}
        {" ".join(values[:waiting])}
        (block (result {f"{ty} " * carried}) {" ".join(values[waiting:])} {_BRANCHES[branch]})
        {keep} {results})"""


@pytest.mark.parametrize("wide", [False, True], ids=["cells", "vectors"])
@pytest.mark.parametrize("branch", _BRANCHES)
def test_what_waits_below_a_branch_stays(build: Build, branch: str, wide: bool) -> None:
    cases = list(product(range(4), repeat=3))
    functions = " ".join(
        _function(branch, waiting, dropped, carried, wide) for waiting, dropped, carried in cases
    )
    exports = build(f"(module {functions})").exports
    for number, (waiting, dropped, carried) in enumerate(cases):
        function = exports[f"{waiting} {dropped} {carried}"]
        assert isinstance(function, Func)
        # Others in each call: what an earlier one left in memory must not do.
        given = [100 * number + n for n in range(waiting + dropped + carried)]
        got = function(1, *given)
        results = list(got) if isinstance(got, tuple) else [] if got is None else [got]
        wanted = given[:waiting] + given[waiting + dropped :]
        assert results == wanted, f"{waiting} wait, {dropped} are dropped, {carried} carried"


# What an arm may do that puts operands into their places; each leaves the stack as it was.
_ARMS = {
    "br_table": "(br_table 0 1 0 (local.get 0))",
    "br_if that carries": "(drop (block (result i32) (br_if 0 (i32.const 9) (local.get 0))))",
    "br_if past others": "(drop (block (result i32) i64.const 8 (br_if 0 (i32.const 9)"
    " (local.get 0)) drop drop i32.const 1))",
    "br_if that returns": "(br_if 2 (i64.const 90) (i32.eq (local.get 0) (i32.const 2))) drop",
    "br_on_null": "(drop (block (result funcref) (br_on_null 1 (global.get 0))))",
    "loop": "(loop (br_if 0 (global.get 1)))",
    "loop that carries": "i32.const 5 (loop (param i32) (result i32)"
    " (br_if 0 (i32.const 3) (global.get 1)) drop) drop",
    "br": "(br 1)",
    "if that takes": "i32.const 5 (if (param i32) (result i32) (local.get 0) (then)) drop",
    "call": "(drop (call $id (i32.const 3)))",
}


@pytest.mark.parametrize("arm", _ARMS)
@pytest.mark.parametrize("other", [False, True], ids=["then", "else"])
def test_constants_below_a_block_stay_whichever_way_is_gone(
    build: Build, arm: str, other: bool
) -> None:
    """One arm needs them in memory, and nothing put them there on the other way."""
    arms = f"(then) (else {_ARMS[arm]})" if other else f"(then {_ARMS[arm]})"
    exports = build(
        f"""
        (module
          (global funcref (ref.null func)) (global i32 (i32.const 0))
          (func (export "other") (param {"i64 " * 20}))
          (func $id (param i32) (result i32) local.get 0)
          (func (export "f") (param i32) (result i64) (local $long i64)
            i64.const 70 i32.const 7 f32.const 0.5 f64.const 2
            (block (if (local.get 0) {arms}))
            i64.trunc_f64_s local.set $long
            i32.trunc_f32_s i32.add i64.extend_i32_s i64.add (i64.add (local.get $long))))
        """
    ).exports
    function, other_function = exports["f"], exports["other"]
    assert isinstance(function, Func)
    assert isinstance(other_function, Func)
    for given in (0, 1):
        other_function(*[-1] * 20)  # what an earlier call left in memory must not do
        assert function(given) == 79
