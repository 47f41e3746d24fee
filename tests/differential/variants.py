"""What a module is run with: a mode, alone or with another option that changes its code.

Each keeps its compiled code apart: mode ``auto`` would else find the images that ``aot`` made, and
never begin in the interpreter. Judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import wasinn_runtime as wasinn
from wasinn_runtime.engines.aot_compile import AotOptions, compile_image
from wasinn_runtime.engines.modes import MODES

__all__ = ["USUAL", "VARIANTS", "Variant"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run a module.

    Attributes:
        name: what the command line calls it.
        mode: the engine's.
        opt_level: LLVM's.
        migratable: compile with safepoints; always ahead of time.
    """

    name: str
    mode: str
    opt_level: int = 2
    migratable: bool = False

    def engine(self, cache: Path | None) -> wasinn.Engine:
        """An engine for it, which keeps code in a folder of that one, if anywhere."""
        folder = None if cache is None else cache / self.name
        config = wasinn.Config(
            mode=self.mode, opt_level=self.opt_level, cache=cache is not None, cache_dir=folder
        )
        return wasinn.Engine(config)

    def module(self, engine: wasinn.Engine, data: bytes) -> wasinn.Module:
        """The module in that engine."""
        if not self.migratable:
            return wasinn.Module(engine, data)
        options = AotOptions(opt_level=self.opt_level, migratable=True)
        return wasinn.Module.from_aot(engine, compile_image(data, "module", options).image)


_MIGRATABLE = Variant("aot-migratable", "aot", migratable=True)
_LEVELS = [
    Variant(f"{mode}-O{level}", mode, level) for mode in ("llvm-jit", "aot") for level in (0, 1, 3)
]
VARIANTS = {
    variant.name: variant
    for variant in (*(Variant(mode, mode) for mode in MODES), _MIGRATABLE, *_LEVELS)
}
"""All there are, by their names."""
USUAL = (*MODES, _MIGRATABLE.name)
"""Those that modules run in if none are named."""
