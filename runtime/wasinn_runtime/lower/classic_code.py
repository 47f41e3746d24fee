"""A function's code as the classic interpreter runs it: its bytes, with opcodes of our own.

Handlers take the bytes as they are, and mostly these are what the module has. In a function's own
copy some opcodes are replaced, none of the immediates and nothing that would move a byte:

    sequences   the first opcode of instructions that often come together is that of a handler that
                does them all at once (``classic_sequences.py``). The others stay, so that branches
                may lead to them, and sequences may overlap.
    idle runs   of blocks and ends, which do nothing, the first tells how far to skip. No branch
                leads to the others, see ``valid/side_table.py``, so that the count may be where
                the opcode of the second was.
    final end   is a return.

Not here: what the handlers are (``classic_handlers.py``).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wasinn_runtime.binary.module import Instruction
from wasinn_runtime.errors import Internal
from wasinn_runtime.lower.classic_sequences import SEQUENCES
from wasinn_runtime.spec.opcodes import PREFIXES, ROWS, Imm, Opcode

__all__ = ["DONE", "PARTS", "SEQUENCE_CODES", "SKIP", "Part", "write_code"]

DONE = 0xFF
"""Where ``run`` goes on: it is in no function."""
# How many bytes a handler may read beyond the last instruction.
_LOOKAHEAD = 4
_MOST_SKIPPED = 0xFF


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """An instruction of a sequence: which, and how many bytes it has, its opcode included."""

    row: Opcode
    size: int


# Each number of one byte; so an access is of memory 0, and a block's type has no type of its own.
_SIZES = {
    Imm.NONE: 1,
    Imm.LOCAL: 2,
    Imm.LABEL: 2,
    Imm.I32: 2,
    Imm.I64: 2,
    Imm.BLOCK: 2,
    Imm.MEMARG: 3,
    Imm.F32: 5,
    Imm.F64: 9,
}
_BY_NAME = {row.name: row for row in ROWS}
PARTS = {
    row.name: Part(row, _SIZES[row.imm]) for row in ROWS if row.code < 256 and row.imm in _SIZES
}
"""By its name in ``SEQUENCES``."""
PARTS |= {f"{name}'": Part(PARTS[name].row, 3) for name in ("i32.const", "i64.const")}

_USED = {DONE, *PREFIXES, *(row.code for row in ROWS)}
SKIP, *_FREE = (code for code in range(256) if code not in _USED)
"""The code of what skips so many bytes more as its second byte says."""
SEQUENCE_CODES = dict(zip(SEQUENCES, _FREE, strict=False))
if len(SEQUENCE_CODES) < len(SEQUENCES):
    raise Internal(f"{len(SEQUENCES)} sequences for {len(_FREE)} opcodes that are not used")

_RETURN = _BY_NAME["return"].code
_IDLE = frozenset(PARTS[name] for name in ("block", "loop", "nop", "try", "end"))
_OTHER = Part(_BY_NAME["unreachable"], 0)  # what is of no sequence
_BY_SHAPE = {(part.row.code, part.size): part for part in PARTS.values()}
# By the next part, what may follow it. At None: the sequence's own code.
_Tree = dict[Any, Any]


def _tree() -> _Tree:
    root: _Tree = {}
    for sequence, code in SEQUENCE_CODES.items():
        place = root
        parts = [PARTS[name] for name in sequence.split()]
        for part in parts:
            place = place.setdefault(part, {})
        place[None] = code
        # Handlers that look behind their instruction must find it; nor is a count an instruction.
        assert parts[0].row.name not in ("br_if", "if"), sequence
        assert parts[-1].row.name not in ("end", "nop"), sequence
    return root


_TREE = _tree()


def write_code(data: bytes, instructions: Sequence[Instruction], wide: bool) -> array[int]:
    """The bytes of a valid body's instructions for the classic interpreter to run.

    Args:
        data: the module.
        instructions: all of the body's, the final ``end`` included.
        wide: whether the wide handlers run it, which know no sequences.
    """
    places = [at for _, _, at in instructions]
    first, final = places[0], places[-1]
    code = array("B", data[first : final + 1])
    code[-1] = _RETURN
    code.extend(bytes(_LOOKAHEAD))
    find = _BY_SHAPE.get
    parts = [
        find((row.code, end - at), _OTHER)
        for (row, _, at), end in zip(instructions, places[1:], strict=False)
    ]
    parts.append(_OTHER)  # the final end, which is a return now
    if not wide:
        for number, part in enumerate(parts):
            if part in _TREE and (found := _sequence(parts, number)):
                code[places[number] - first] = found
    idle = [number for number, part in enumerate(parts) if part in _IDLE]
    behind = final  # where the run ends that the one looked at belongs to
    for number in reversed(idle):
        at, end = places[number], places[number + 1]
        if parts[number + 1] not in _IDLE or behind - at - 2 > _MOST_SKIPPED:
            behind = end
        else:
            code[at - first] = SKIP
            code[at - first + 1] = behind - at - 2
    return code


def _sequence(parts: list[Part], number: int) -> int:
    """The code of the longest sequence that begins with an instruction; 0 if none does."""
    tree, found = _TREE, 0
    while (part := parts[number]) in tree:
        tree = tree[part]
        found = tree.get(None, found)
        number += 1
    return found
