"""Which guest function a code address lies in, for the messages of traps."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from wasinn_runtime.engines.place import Code

if TYPE_CHECKING:
    from wasinn_runtime.engines.module import Module

__all__ = ["FunctionMap", "function_number"]


def function_number(symbol: str) -> int:
    """The index of the function that a symbol of compiled code stands for.

    It may have several, for its tail calls and the entries of its loops: ``f7.tail``, ``f7.loop0``.
    """
    return int(symbol.removeprefix("f").partition(".")[0])


class FunctionMap:
    """Code addresses of one module's functions.

    Args:
        module: the module; the map does not keep it alive.
        code: its linked code; nor that.
    """

    def __init__(self, module: Module, code: Code) -> None:
        self._module = weakref.ref(module)
        self._code = weakref.ref(code)

    @property
    def alive(self) -> bool:
        return self._module() is not None

    def label_at(self, pc: int) -> str | None:
        """``function 12 (score)`` when the address lies in this module's code, else None."""
        module = self._module()
        code = self._code()
        if module is None or code is None:
            return None
        symbol = code.symbol_at(pc)
        if symbol is None:
            return None
        return module.parsed.function_label(function_number(symbol))
