"""Mode ``fast-interp``: functions are rewritten for threaded handlers at their first call.

The handlers are made by LLVM once per machine and kept in the cache of compiled code; a module
needs none of its own. What a module's functions were rewritten to is kept as well, see ``kept.py``;
what comes from there needs none of the modules that write it, so they are imported late.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from wasinn_runtime.engines.handlers import has_handlers, load_handlers
from wasinn_runtime.engines.kept import KeptCode
from wasinn_runtime.engines.lazy import Lazy
from wasinn_runtime.engines.place import Code
from wasinn_runtime.lower.fast_placed import (
    FAST,
    HOT_SYMBOL,
    TABLE_SYMBOL,
    FastCode,
    Handlers,
    WrittenCode,
    place,
)

if TYPE_CHECKING:
    from wasinn_runtime.engines.engine import Engine
    from wasinn_runtime.engines.module import Module

__all__ = ["FastInterp", "FastInterpreter", "fast_interpreter", "is_at_hand"]

_SCALAR = "fast-interp"


class FastInterpreter:
    """The handlers in this process: from the engine's cache, or made now, which takes seconds.

    Attributes:
        run: the array entry of everything interpreted.
        hot: the cell for the hook of code that counts, see ``fast_moves``.
        handlers: where they are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._codes: list[Code] = []
        scalar = self._table(_SCALAR, _scalar_unit, (HOT_SYMBOL, FAST.run_symbol))
        addresses = self._codes[0].addresses
        self.run = addresses[FAST.run_symbol]
        self.hot = ctypes.c_uint64.from_address(addresses[HOT_SYMBOL])
        self.handlers = Handlers(scalar, self._vectors)

    def _vectors(self) -> int:
        with _lock:
            return self._table("fast-interp-vectors", _vector_unit)

    def _table(self, kind: str, unit: Callable[[], str], symbols: tuple[str, ...] = ()) -> int:
        """The address of the table of one of the units."""
        code = load_handlers(self._engine, kind, unit, (TABLE_SYMBOL, *symbols))
        self._codes.append(code)
        return code.addresses[TABLE_SYMBOL]


def _scalar_unit() -> str:
    from wasinn_runtime.lower.fast_handlers import interpreter_unit
    from wasinn_runtime.lower.fast_names import SCALAR_SEQUENCES

    return interpreter_unit(SCALAR_SEQUENCES)


def _vector_unit() -> str:
    from wasinn_runtime.lower.fast_handlers import vector_unit
    from wasinn_runtime.lower.fast_names import VECTOR_SEQUENCES

    return vector_unit(VECTOR_SEQUENCES)


_lock = threading.RLock()
_made: list[FastInterpreter] = []


def fast_interpreter(engine: Engine) -> FastInterpreter:
    """The process's interpreter."""
    with _lock:
        if not _made:
            _made.append(FastInterpreter(engine))
        return _made[0]


def is_at_hand(engine: Engine) -> bool:
    """Whether nobody would have to wait for the interpreter to be made."""
    return bool(_made) or has_handlers(engine, _SCALAR)


class FastInterp(Lazy):
    """A module's functions, each rewritten at its first call."""

    interpreted = True
    # Whether code has safepoints that count, see ``fast_moves``.
    counts = False

    def __init__(self, module: Module) -> None:
        super().__init__(module)
        self.interpreter = fast_interpreter(self.engine)
        self.codes: dict[int, FastCode] = {}
        options = f"counts {self.counts} {sorted(self.parsed.features)}"
        self._kept = KeptCode(self.engine.cache, options, self.parsed.digest)

    def make_ready(self, index: int) -> None:
        """Have a function rewritten, now or in an earlier run, and publish it."""
        written = self._kept.get(index)
        if written is None:
            began = time.perf_counter()
            written = self._written(index)
            self._kept.add(index, written, time.perf_counter() - began)
        code = place(written, self.interpreter.handlers, self.entries.address)
        self.codes[index] = code
        self.entries.interpret(index, code.address, self.interpreter.run)

    def _written(self, index: int) -> WrittenCode:
        import wasinn_runtime.lower.fast_tries  # noqa: F401  # the walk's knowledge of exceptions
        from wasinn_runtime.lower.fast_write import fast_code

        body = self.body(index)
        return fast_code(self.parsed, self.layout, self.places, index, body, self.counts)

    def keep(self) -> None:
        """Keep for the next run what was rewritten."""
        with self._lock:
            self._kept.save()
