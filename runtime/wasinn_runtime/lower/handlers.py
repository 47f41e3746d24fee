"""Who lowers which family of instructions in the LLVM tiers: filled by ``lower/ssa*.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from wasinn_runtime.spec.opcodes import Opcode

if TYPE_CHECKING:
    from wasinn_runtime.lower.ssa import Lowering

__all__ = ["HANDLERS", "Handler", "handler"]

Handler = Callable[["Lowering", Opcode, object], None]
HANDLERS: dict[str, Handler] = {}


def handler(family: str) -> Callable[[Handler], Handler]:
    """Register what lowers a family of rows."""

    def register(function: Handler) -> Handler:
        if family in HANDLERS:
            raise ValueError(f"two handlers for {family!r}")
        HANDLERS[family] = function
        return function

    return register
