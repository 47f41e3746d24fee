"""Mode ``fast-interp``: functions are rewritten for threaded handlers at their first call.

The handlers are made by LLVM once per machine and kept in the cache of compiled code; a module
needs none of its own.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import wasinn_runtime.lower.fast_tries  # noqa: F401  # the walk's knowledge of exceptions
from wasinn_runtime.engines.core import core, runtime_imports
from wasinn_runtime.engines.lazy import Lazy
from wasinn_runtime.engines.link import Code, load
from wasinn_runtime.lower.fast_body import FAST
from wasinn_runtime.lower.fast_code import FastCode, Sequences, fast_code
from wasinn_runtime.lower.fast_handlers import HANDLERS, HOT_SYMBOL, TABLE_SYMBOL, interpreter_unit
from wasinn_runtime.lower.fast_sequences import SEQUENCES

if TYPE_CHECKING:
    from wasinn_runtime.engines.engine import Engine
    from wasinn_runtime.engines.module import Module

__all__ = ["FastInterp", "FastInterpreter", "fast_interpreter"]

# What more would bring is not worth the seconds: handlers are a few instructions each.
_OPT_LEVEL = 1


@dataclass(frozen=True, slots=True)
class FastInterpreter:
    """The handlers in this process.

    Attributes:
        code: keeps them there.
        run: the array entry of everything interpreted.
        hot: the cell for the hook of code that counts, see ``fast_handlers._hot``.
        sequences: addresses, for writing code.
    """

    code: Code
    run: int
    hot: ctypes.c_uint64
    sequences: Sequences


_lock = threading.Lock()
_made: list[FastInterpreter] = []


def fast_interpreter(engine: Engine) -> FastInterpreter:
    """The process's interpreter: from the engine's cache, or made now, which takes some seconds."""
    with _lock:
        if not _made:
            _made.append(_make(engine))
        return _made[0]


def _make(engine: Engine) -> FastInterpreter:
    def write_ir() -> str:
        print("wasinn: making the interpreter, once for this machine ...", file=sys.stderr)
        return interpreter_unit(SEQUENCES)

    image = engine.image("fast-interp", [], write_ir, _OPT_LEVEL)
    imports = runtime_imports()
    imports["wasinn_catch"] = core().addresses["wasinn_catch"]
    code = load(image, (TABLE_SYMBOL, HOT_SYMBOL, FAST.run_symbol), imports)
    count = len(HANDLERS) + len(SEQUENCES)
    table = (ctypes.c_uint64 * count).from_address(code.addresses[TABLE_SYMBOL])
    hot = ctypes.c_uint64.from_address(code.addresses[HOT_SYMBOL])
    sequences = Sequences(table[:], SEQUENCES)
    return FastInterpreter(code, code.addresses[FAST.run_symbol], hot, sequences)


class FastInterp(Lazy):
    """A module's functions, each rewritten at its first call."""

    interpreted = True

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
        )
        self.codes[index] = code
        self.entries.interpret(index, code.address, self.interpreter.run)
