"""The interpreters' handlers, brought into this process: made once per machine, then cached."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wasinn_runtime.engines.compile import HANDLER_LEVEL, is_compiled
from wasinn_runtime.engines.core import core, runtime_imports
from wasinn_runtime.engines.linked import load
from wasinn_runtime.engines.place import Code

if TYPE_CHECKING:
    from wasinn_runtime.engines.engine import Engine

__all__ = ["has_handlers", "load_handlers"]


def has_handlers(engine: Engine, kind: str) -> bool:
    """Whether a unit of handlers is in the engine's cache."""
    return is_compiled(engine.cache, kind, [], HANDLER_LEVEL)


def load_handlers(
    engine: Engine, kind: str, unit: Callable[[], str], exports: Sequence[str]
) -> Code:
    """A unit of handlers, from the engine's cache, or made now, which takes seconds.

    Args:
        engine: whose cache it is.
        kind: what the unit is, for the cache's file names.
        unit: gives its IR.
        exports: symbols whose addresses are wanted.
    """

    def write_ir() -> str:
        print("wasinn: making the interpreter, once for this machine ...", file=sys.stderr)
        return unit()

    image = engine.image(kind, [], write_ir, HANDLER_LEVEL, exports)
    # What handlers call beside what compiled code does.
    return load(image, runtime_imports() | {"wasinn_catch": core().addresses["wasinn_catch"]})
