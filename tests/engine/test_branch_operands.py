"""Branches that take values with them past others: what waits below the block must be left alone.

Modes keep the topmost operands in registers, how many depends on what came before.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from wasinn_runtime import Func, Instance

Build = Callable[..., Instance]

_WAIT, _DROP, _CARRY = 100, 200, 300
_BRANCHES = {
    "br": "(br 0)",
    "br_if": "(br_if 0 (local.get 0)) unreachable",
    "br_table": "(br_table 0 0 0 (local.get 0))",
}


def _values(first: int, count: int, wide: bool) -> str:
    values = (f"(i32.add (local.get 0) (i32.const {first + n}))" for n in range(count))
    return " ".join(f"(i32x4.splat {v})" if wide else v for v in values)


def _function(branch: str, waiting: int, dropped: int, carried: int, wide: bool) -> str:
    """Values wait, a block drops some and carries others; all that are left are results."""
    ty = "v128" if wide else "i32"
    inner = f"{_values(_DROP, dropped, wide)} {_values(_CARRY, carried, wide)} {_BRANCHES[branch]}"
    left = waiting + carried
    keep = " ".join(f"(local.set {n + 1})" for n in reversed(range(left)))
    lane = "(i32x4.extract_lane 3 {})" if wide else "{}"
    results = " ".join(lane.format(f"(local.get {n + 1})") for n in range(left))
    return f"""
      (func (export "{waiting} {dropped} {carried}") (param i32) (result {"i32 " * left})
        (local {f"{ty} " * left})
        {_values(_WAIT, waiting, wide)}
        (block (result {f"{ty} " * carried}) {inner})
        {keep} {results})"""


@pytest.mark.parametrize("wide", [False, True], ids=["cells", "vectors"])
@pytest.mark.parametrize("branch", _BRANCHES)
def test_what_waits_below_a_branch_stays(build: Build, branch: str, wide: bool) -> None:
    cases = list(product(range(4), repeat=3))
    exports = build(f"(module {' '.join(_function(branch, *case, wide) for case in cases)})").exports
    for waiting, dropped, carried in cases:
        function = exports[f"{waiting} {dropped} {carried}"]
        assert isinstance(function, Func)
        wanted = [_WAIT + 1 + n for n in range(waiting)] + [_CARRY + 1 + n for n in range(carried)]
        got = function(1)
        given = list(got) if isinstance(got, tuple) else [] if got is None else [got]
        assert given == wanted, f"{waiting} wait, {dropped} are dropped, {carried} carried"
