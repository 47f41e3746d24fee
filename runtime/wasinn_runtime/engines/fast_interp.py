"""Mode ``fast-interp``: functions are rewritten for threaded handlers at their first call.

The handlers are made by LLVM once per machine and kept in the cache of compiled code; a module
needs none of its own.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import wasinn_runtime.lower.fast_tries  # noqa: F401  # the walk's knowledge of exceptions
from wasinn_runtime.engines.core import interpreter_imports
from wasinn_runtime.engines.lazy import Lazy
from wasinn_runtime.engines.link import Code, load
from wasinn_runtime.lower.fast_body import FAST
from wasinn_runtime.lower.fast_handlers import (
    HANDLERS,
    HOT_SYMBOL,
    SCALAR_HANDLERS,
    TABLE_SYMBOL,
    interpreter_unit,
    vector_unit,
)
from wasinn_runtime.lower.fast_names import SCALAR_SEQUENCES, VECTOR_SEQUENCES
from wasinn_runtime.lower.fast_write import FastCode, Sequences, fast_code

if TYPE_CHECKING:
    from wasinn_runtime.engines.engine import Engine
    from wasinn_runtime.engines.module import Module

__all__ = ["FastInterp", "FastInterpreter", "fast_interpreter"]

# What more would bring is not worth the seconds: handlers are a few instructions each.
_OPT_LEVEL = 1


class FastInterpreter:
    """The handlers in this process: from the engine's cache, or made now, which takes seconds.

    Attributes:
        run: the array entry of everything interpreted.
        hot: the cell for the hook of code that counts, see ``fast_moves.HOT_SYMBOL``.
        sequences: addresses, for writing code.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._codes: list[Code] = []
        symbols = (HOT_SYMBOL, FAST.run_symbol)
        count = SCALAR_HANDLERS + len(SCALAR_SEQUENCES)
        scalar = self._table(
            "fast-interp", count, lambda: interpreter_unit(SCALAR_SEQUENCES), symbols
        )
        addresses = self._codes[0].addresses
        self.run = addresses[FAST.run_symbol]
        self.hot = ctypes.c_uint64.from_address(addresses[HOT_SYMBOL])
        self.sequences = Sequences(scalar, self._vectors)

    def _vectors(self) -> Sequence[int]:
        count = len(HANDLERS) - SCALAR_HANDLERS + len(VECTOR_SEQUENCES)
        with _lock:
            return self._table("fast-interp-vectors", count, lambda: vector_unit(VECTOR_SEQUENCES))

    def _table(
        self, kind: str, count: int, unit: Callable[[], str], symbols: tuple[str, ...] = ()
    ) -> Sequence[int]:
        """The addresses that one of the units lists."""

        def write_ir() -> str:
            print("wasinn: making the interpreter, once for this machine ...", file=sys.stderr)
            return unit()

        image = self._engine.image(kind, [], write_ir, _OPT_LEVEL)
        code = load(image, (TABLE_SYMBOL, *symbols), interpreter_imports())
        self._codes.append(code)
        return (ctypes.c_uint64 * count).from_address(code.addresses[TABLE_SYMBOL])[:]


_lock = threading.RLock()
_made: list[FastInterpreter] = []


def fast_interpreter(engine: Engine) -> FastInterpreter:
    """The process's interpreter."""
    with _lock:
        if not _made:
            _made.append(FastInterpreter(engine))
        return _made[0]


class FastInterp(Lazy):
    """A module's functions, each rewritten at its first call."""

    interpreted = True
    # Whether code has safepoints that count, see ``fast_moves.HOT_SYMBOL``.
    counts = False

    def __init__(self, module: Module) -> None:
        super().__init__(module)
        self.interpreter = fast_interpreter(self.engine)
        self.codes: dict[int, FastCode] = {}

    def make_ready(self, index: int) -> None:
        """Rewrite a function and publish it."""
        code = fast_code(
            self.parsed,
            self.layout,
            self.places,
            self.entries.address,
            index,
            self.body(index),
            self.interpreter.sequences,
            self.counts,
        )
        self.codes[index] = code
        self.entries.interpret(index, code.address, self.interpreter.run)
