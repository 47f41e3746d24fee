"""The fast interpreter: its handlers, derived from the opcode table, and the unit they make.

A handler's name says what it is: the instruction, what is known of the module, the kinds of its
operands and where the result goes (``i32.add:ri>s``; kinds in ``fast_body.py``). Comparisons also
come with the branch that follows them (``i32.lt_s:ss?1``: branch if true). The order of words in
the stream: operands, immediates, the result's slot; of branches last the distance to the target, in
bytes from the handler's own word. A handler whose name ends in ``!`` is only jumped to by others.

Sequences of these (``fast_sequences.py``) become handlers of their own, which is what makes the
interpreter fast: between their parts nothing is stored or jumped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from wasinn_runtime.lower.fast_body import Body
from wasinn_runtime.lower.fast_calls import CALL_DECLARATIONS, add_calls
from wasinn_runtime.lower.fast_moves import add_moves
from wasinn_runtime.lower.fast_numeric import add_numeric
from wasinn_runtime.lower.fast_placed import FAST, HOT_SYMBOL, TABLE_SYMBOL
from wasinn_runtime.lower.fast_shapes import HANDLERS
from wasinn_runtime.lower.fast_state import add_state
from wasinn_runtime.lower.threaded import entry_unit, trap_unit
from wasinn_runtime.lower.units import preamble
from wasinn_runtime.spec.features import ALL_FEATURES

__all__ = [
    "HANDLERS",
    "SCALAR_HANDLERS",
    "interpreter_unit",
    "vector_unit",
]

_VECTORS = frozenset({"simd", "relaxed-simd"})

add_numeric(ALL_FEATURES - _VECTORS)
add_state()
add_moves()
add_calls()
SCALAR_HANDLERS = len(HANDLERS)
"""How many there are before those of vector instructions, which are compiled apart."""
add_numeric(_VECTORS)


def write_handler(symbol: str, parts: tuple[str, ...]) -> str:
    """The IR of one handler, or of several in sequence."""
    b = Body(symbol)
    for part in parts:
        shape = HANDLERS[part]
        # What one part does must have happened when the next one traps.
        b.keep_load = len(parts) > 1
        b.describe()
        shape.write(b)
    if not shape.ends:
        b.next()
    return b.finish()


def interpreter_unit(sequences: Iterable[tuple[str, ...]]) -> str:
    """The interpreter but for vector instructions.

    ``TABLE_SYMBOL`` lists the handlers in their order, then the sequences.
    """
    parts = [preamble(), entry_unit(FAST), CALL_DECLARATIONS, f"@{HOT_SYMBOL} = global ptr null"]
    names = islice(HANDLERS, SCALAR_HANDLERS)
    return "\n".join((*parts, *_handlers((*((name,) for name in names), *sequences))))


def vector_unit(sequences: Iterable[tuple[str, ...]]) -> str:
    """The handlers of vector instructions, then the sequences that contain some."""
    parts = [preamble(), trap_unit(FAST)]
    names = islice(HANDLERS, SCALAR_HANDLERS, None)
    return "\n".join((*parts, *_handlers((*((name,) for name in names), *sequences))))


def _handlers(sequences: Sequence[tuple[str, ...]]) -> Iterator[str]:
    symbols = []
    for sequence in sequences:
        symbol = "+".join(sequence)
        yield write_handler(symbol, sequence)
        symbols.append(f'ptr @"{symbol}"')
    listed = ", ".join(symbols)
    yield f"@{TABLE_SYMBOL} = constant [{len(symbols)} x ptr] [{listed}]"
