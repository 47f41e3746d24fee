"""The fast interpreter's handlers by number, and what the writer of code must know of them.

A handler's number is its place in the interpreter's table, counted from 1; 0 is no handler but a
label.
"""

from __future__ import annotations

from functools import cache

from wasinn_runtime.lower.fast_handlers import HANDLERS, SCALAR_HANDLERS
from wasinn_runtime.lower.fast_sequences import SEQUENCES

__all__ = [
    "BRANCHES",
    "IF_FALSE",
    "IF_TRUE",
    "JUMP_TABLES",
    "LABEL",
    "NAME_ENTRIES",
    "NUMBERS",
    "SCALAR_SEQUENCES",
    "TO_SLOT",
    "VECTORS_FROM",
    "VECTOR_SEQUENCES",
    "by_kinds",
]

LABEL = 0
NUMBERS = {name: number for number, name in enumerate(HANDLERS, 1)}
_NAMES = ["", *HANDLERS]

# By number: the handler that also stores its result in a slot; the branches that a comparison's
# result decides.
TO_SLOT = [NUMBERS[name[:-1] + "s"] if name.endswith(">r") else 0 for name in _NAMES]
IF_FALSE = {
    NUMBERS[f"{name[:-2]}>r"]: number
    for name, number in NUMBERS.items()
    if name.endswith("?0") and not name.startswith("branch")
}
IF_TRUE = {
    NUMBERS[f"{name[:-2]}>r"]: number
    for name, number in NUMBERS.items()
    if name.endswith("?1") and not name.startswith("branch")
}
BRANCHES = frozenset(NUMBERS[name] for name, shape in HANDLERS.items() if shape.branches)
JUMP_TABLES = frozenset(n for name, n in NUMBERS.items() if name.startswith("jump_table:"))
# Those whose first word names a CodeEntry: of the function itself, or of one that it calls.
NAME_ENTRIES = frozenset(
    n for name, n in NUMBERS.items() if name.split(".")[0] in ("hot", "call", "return_call")
)


# The first handler of a vector instruction; they and their sequences are compiled apart.
VECTORS_FROM = SCALAR_HANDLERS + 1
VECTOR_SEQUENCES = tuple(
    parts for parts in SEQUENCES if any(NUMBERS[part] >= VECTORS_FROM for part in parts)
)
_apart = {*VECTOR_SEQUENCES}
SCALAR_SEQUENCES = tuple(parts for parts in SEQUENCES if parts not in _apart)


@cache
def _groups() -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for name, number in NUMBERS.items():
        whole, colon, rest = name.rpartition(":")
        if colon and rest[-2:] not in ("?0", "?1") and not name.endswith("!"):
            kinds, _, dest = rest.partition(">")
            if dest != "s" or f"{whole}:{kinds}>r" not in NUMBERS:
                found.setdefault(whole, {})[kinds] = number
    return found


def by_kinds(name: str) -> dict[str, int]:
    """Handlers of an instruction by their operands' kinds.

    Results go to the register; only those of rare ones, which ``TO_SLOT`` does not have, to a slot.
    """
    return _groups()[name]
