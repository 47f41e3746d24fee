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
    functions = " ".join(_function(branch, *case, wide) for case in cases)
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
