"""What running a module showed, and whether two such records agree. Runs nothing.

Integers and references are compared exactly, floats by their bits; but an f32 comes to Python as
a double, which makes NaNs quiet, so that one bit of a signalling f32 is not compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["EXHAUSTED", "UNFINISHED", "Record", "Step", "common_steps", "difference"]

EXHAUSTED = "trap: call stack exhausted"
UNFINISHED = "unfinished"

# Wasmtime tells these apart by other lines than the specification's interpreter, whose words ours
# are; modes of our own engine must agree on them exactly.
_SAME_TO_OTHERS = {
    "trap: undefined element": "trap: out of bounds table access",
    "trap: unaligned atomic": "trap: out of bounds memory access",
    "trap: null exception reference": "trap: null function reference",
    "trap: null reference": "trap: null function reference",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One thing done to a module.

    Attributes:
        what: ``instantiate``, or the call as text.
        outcome: ``returned ...``, ``trap: ...`` or another word.
        state: of each memory, global and table its content after the step, as text.
    """

    what: str
    outcome: str
    state: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """All steps of one engine."""

    engine: str
    steps: Sequence[Step]

    def first(self, count: int) -> Record:
        """So many of the steps."""
        return Record(self.engine, self.steps[:count])


def difference(reference: Record, other: Record, exactly: bool = False) -> str | None:
    """The first thing that differs, in words; None if nothing does.

    What follows an exhausted stack or a call that took too long is not compared: how deep or how
    far an engine comes is its own affair.

    Args:
        exactly: the two are modes of one engine, whose traps have the same names.
    """
    for ours, theirs in zip(other.steps, reference.steps, strict=False):
        if {ours.outcome, theirs.outcome} & {EXHAUSTED, UNFINISHED}:
            return None
        if ours.what != theirs.what:
            return f"{ours.what} in {other.engine}, {theirs.what} in {reference.engine}"
        if _name(ours.outcome, exactly) != _name(theirs.outcome, exactly):
            return (
                f"{ours.what}: {ours.outcome} in {other.engine}, "
                f"{theirs.outcome} in {reference.engine}"
            )
        for name in sorted({*ours.state, *theirs.state}):
            mine, expected = ours.state.get(name, "missing"), theirs.state.get(name, "missing")
            if mine != expected:
                return (
                    f"{ours.what} ({ours.outcome}) left {name} = {mine} in {other.engine}, "
                    f"{expected} in {reference.engine}"
                )
    if len(reference.steps) != len(other.steps):
        return f"{len(other.steps)} steps in {other.engine}, {len(reference.steps)} elsewhere"
    return None


def common_steps(one: Record, other: Record) -> int:
    """How many steps two records have before the first that differs; all if none does."""
    for number, (mine, theirs) in enumerate(zip(one.steps, other.steps, strict=False)):
        alone = Record(one.engine, [mine]), Record(other.engine, [theirs])
        if difference(*alone, exactly=True) is not None:
            return number
    return len(one.steps)


def _name(outcome: str, exactly: bool) -> str:
    return outcome if exactly else _SAME_TO_OTHERS.get(outcome, outcome)
