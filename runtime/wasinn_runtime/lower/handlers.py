"""Who lowers which family of instructions in the LLVM tiers: filled by ``lower/ssa*.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from wasinn_runtime.lower.registry import registrar
from wasinn_runtime.spec.opcodes import Opcode

if TYPE_CHECKING:
    from wasinn_runtime.lower.ssa import Lowering

__all__ = ["HANDLERS", "Handler", "handler"]

Handler = Callable[["Lowering", Opcode, object], None]
HANDLERS: dict[str, Handler] = {}


# Register what lowers a family of rows.
handler = registrar(HANDLERS)
