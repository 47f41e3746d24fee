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
        often = "once for this machine" if engine.cache else "for this run only, without a cache"
        print(f"wasinn: making the interpreter, {often} ...", file=sys.stderr)
        return unit()

    is_new = not has_handlers(engine, kind)
    image = engine.image(kind, [], write_ir, HANDLER_LEVEL, exports)
    if is_new and engine.cache and not has_handlers(engine, kind):
        print(
            f"wasinn: the interpreter could not be kept in {engine.cache.directory}, so that the "
            "next run makes it again; `wasinn doctor` says more",
            file=sys.stderr,
        )
    # What handlers call beside what compiled code does.
    return load(image, runtime_imports() | {"wasinn_catch": core().addresses["wasinn_catch"]})
