"""Where exceptions go in a valid body: a table of the ranges of code that tries protect.

The table is numbers of 32 bits: how many ranges there are, then the ranges, inner ones first, then
their clauses. Offsets of code count from the body's first instruction.

    a range    where it begins, where it ends, how many clauses, the number of the first one's word
    a clause   the tag or -1 for any; 1 if the exception itself is wanted; where it goes on; the
               offset of its entry in the side table; cells of operands that stay; the offset from
               the frame's start where the exception is kept, or -1

A range has the clauses of its own try, then those of the tries around it, as far as they matter. So
the innermost range that has an instruction says all of what happens to an exception from there.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.valid.facts import UNREACHABLE, Branch, Facts

__all__ = ["CLAUSE_WORDS", "RANGE_WORDS", "Tries", "find_tries"]

RANGE_WORDS = 4
CLAUSE_WORDS = 6

_TRIES = frozenset({"try", "try_table"})
_OPENS = _TRIES | {"block", "loop", "if"}


@dataclass(slots=True)
class _Clause:
    tag: int
    with_ref: bool
    branch: Branch


@dataclass(slots=True)
class _Try:
    """A try.

    Attributes:
        around: who gets what it does not catch.
        start: offset of its first instruction.
        end: offset of where its body ends.
        kept: the offset in the frame where it keeps what it caught, or -1.
    """

    around: _Try | None
    start: int
    end: int = -1
    clauses: list[_Clause] = field(default_factory=list)
    kept: int = -1


@dataclass(slots=True)
class _Block:
    """An open block: the try that its code is in, and the one that it is itself."""

    inside: _Try | None
    own: _Try | None = None
    branches: tuple[Branch, ...] = ()
    parts: int = 0


@dataclass(slots=True)
class Tries:
    """Of one body.

    Attributes:
        entries: what instructions of the side table get an entry, or another than their branches.
        without_entry: those whose branches are in the table here instead.
        kept: how many cells of the frame hold exceptions that may be thrown again.
    """

    entries: dict[int, tuple[Branch, ...]] = field(default_factory=dict)
    without_entry: list[int] = field(default_factory=list)
    kept: int = 0
    origin: int = 0
    _done: list[_Try] = field(default_factory=list)

    def close(self, what: _Try, end: int) -> None:
        """Note where a try's body ends; inner ones come first."""
        if what.end < 0:
            what.end = end
            self._done.append(what)

    def table(self, arrive: Callable[[int], tuple[int, int]]) -> array[int]:
        """The table; empty without tries.

        Args:
            arrive: of a position, its offset and that of its entry in the side table.
        """
        if not self._done:
            return array("i")
        ranges = array("i", [len(self._done)])
        clauses = array("i")
        before = 1 + RANGE_WORDS * len(self._done)
        for what in self._done:
            first = before + len(clauses)
            around: _Try | None = what
            while around is not None:
                for clause in around.clauses:
                    target, entry = arrive(clause.branch.target)
                    height = clause.branch.height
                    clauses.extend(
                        (clause.tag, clause.with_ref, target, entry, height, around.kept)
                    )
                    if clause.tag < 0:
                        break
                else:
                    around = around.around
                    continue
                break
            count = (before + len(clauses) - first) // CLAUSE_WORDS
            ranges.extend((what.start - self.origin, what.end - self.origin, count, first))
        return ranges + clauses


def find_tries(module: ParsedModule, body: Body, facts: Facts, local_bytes: int) -> Tries:
    """The tries of a body.

    Args:
        module: it belongs to.
        body: after validation.
        facts: of the body.
        local_bytes: where in the frame its locals end.
    """
    found = Tries()
    instructions = body.instructions
    if not any(instructions[place][0].meaning[0] in _TRIES for place in facts.branches):
        return found
    found.origin = instructions[0][2]
    blocks = [_Block(None)]
    for position, (row, immediate, at) in enumerate(instructions):
        family = row.meaning[0]
        block = blocks[-1]
        if family in _OPENS:
            opened = _Block(block.inside)
            if family in _TRIES and position in facts.branches:
                opened.own = opened.inside = _Try(block.inside, at)
                opened.branches = facts.branches[position]
                if family == "try_table":
                    assert isinstance(immediate, tuple)
                    opened.own.clauses = [
                        _Clause(-1 if clause.tag is None else clause.tag, clause.with_ref, branch)
                        for clause, branch in zip(immediate[1], opened.branches, strict=True)
                    ]
                    found.entries[position] = (Branch(position + 1, 0, 0),)
                else:
                    found.without_entry.append(position)
            blocks.append(opened)
        elif family in ("catch", "catch_all"):
            if block.own is not None:
                found.close(block.own, at)
                block.inside = blocks[-2].inside
                tag = immediate if isinstance(immediate, int) else -1
                block.own.clauses.append(_Clause(tag, False, block.branches[block.parts]))
                block.parts += 1
        elif family in ("end", "delegate"):
            blocks.pop()
            if block.own is not None:
                found.close(block.own, at)
                if family == "delegate":
                    assert isinstance(immediate, int)
                    block.own.around = blocks[-1 - immediate].inside
        elif family == "rethrow" and facts.heights[position] != UNREACHABLE:
            assert isinstance(immediate, int)
            what = blocks[-1 - immediate].own
            assert what is not None
            if what.kept < 0:
                what.kept = local_bytes + 8 * found.kept
                found.kept += 1
            found.entries[position] = (Branch(0, 0, what.kept),)
    return found
