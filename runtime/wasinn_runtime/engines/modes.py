"""The running modes: what gives each its code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from wasinn_runtime.engines.aot import AotCode
from wasinn_runtime.engines.entries import EntryTable
from wasinn_runtime.engines.fast_interp import FastInterp
from wasinn_runtime.engines.fast_jit import FastJit
from wasinn_runtime.engines.llvm_jit import LlvmJit
from wasinn_runtime.engines.tiered import auto
from wasinn_runtime.lower.fast_handlers import FAST_FEATURES
from wasinn_runtime.lower.ssa import SSA_FEATURES

if TYPE_CHECKING:
    from wasinn_runtime.engines.module import Module

__all__ = ["CODE_OF_MODE", "DEFAULT_MODE", "FEATURES_OF_MODE", "MODES", "ModuleCode"]


class ModuleCode(Protocol):
    """A module's code in one mode. Making it validates, at least all but the function bodies.

    Attributes:
        interpreted: whether stores must have stacks for an interpreter.

    Raises:
        Malformed, Invalid: why it is not a module.
    """

    interpreted: bool

    def publish(self, entries: EntryTable) -> None:
        """Fill the module's table; its adapters are there by now."""


CODE_OF_MODE: Mapping[str, Callable[[Module], ModuleCode]] = {
    "fast-interp": FastInterp,
    "fast-jit": FastJit,
    "llvm-jit": LlvmJit,
    "aot": AotCode,
    "auto": auto,
}
MODES = tuple(CODE_OF_MODE)
# What each mode's decoder lets in.
FEATURES_OF_MODE: Mapping[str, frozenset[str]] = {
    "fast-interp": FAST_FEATURES,
    "fast-jit": SSA_FEATURES,
    "llvm-jit": SSA_FEATURES,
    "aot": SSA_FEATURES,
    "auto": FAST_FEATURES,
}
DEFAULT_MODE = "llvm-jit"
