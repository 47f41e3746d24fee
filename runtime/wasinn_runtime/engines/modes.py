"""The running modes: what gives each its code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from wasinn_runtime.spec.features import ALL_FEATURES

if TYPE_CHECKING:
    from wasinn_runtime.engines.entries import EntryTable
    from wasinn_runtime.engines.module import Module

__all__ = ["DEFAULT_MODE", "FEATURES_OF_MODE", "MODES", "ModuleCode", "code_of_mode"]


class ModuleCode(Protocol):
    """A module's code in one mode. Making it validates, at least all but the function bodies.

    Attributes:
        interpreted: whether stores must have stacks for an interpreter.
        migratable: whether its calls can stop at safepoints.
        has_bodies: whether the functions' WebAssembly code is there.

    Raises:
        Malformed, Invalid: why it is not a module.
    """

    interpreted: bool
    migratable: bool
    has_bodies: bool

    def publish(self, entries: EntryTable) -> None:
        """Fill the module's table; its adapters are there by now."""

    def keep(self) -> None:
        """Put into the cache what the guest's runs so far made ready, if that saves time later."""


# Where each mode's code is: imported when the mode is used, since a start should not wait for what
# it does not need.
_WHERE = {
    "interp": ("interp", "Interp"),
    "fast-interp": ("fast_interp", "FastInterp"),
    "fast-jit": ("fast_jit", "FastJit"),
    "llvm-jit": ("llvm_jit", "LlvmJit"),
    "aot": ("aot", "AotCode"),
    "auto": ("tiered", "auto"),
}
MODES = tuple(_WHERE)
# What each mode's decoder lets in.
FEATURES_OF_MODE: Mapping[str, frozenset[str]] = dict.fromkeys(MODES, ALL_FEATURES)
DEFAULT_MODE = "auto"


def code_of_mode(mode: str) -> Callable[[Module], ModuleCode]:
    """What makes a module's code in a mode."""
    file, name = _WHERE[mode]
    make: Callable[[Module], ModuleCode] = getattr(
        import_module(f"wasinn_runtime.engines.{file}"), name
    )
    return make
