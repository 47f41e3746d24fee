"""Which modes there are, and that none lacks a feature."""

from __future__ import annotations

import subprocess
import sys

from wasinn_runtime.engines.modes import FEATURES_OF_MODE, MODES
from wasinn_runtime.lower.fast_handlers import FAST_FEATURES
from wasinn_runtime.lower.ssa import SSA_FEATURES
from wasinn_runtime.spec.features import ALL_FEATURES


def test_every_mode_has_every_feature() -> None:
    assert set(FEATURES_OF_MODE) == set(MODES)
    for features in (*FEATURES_OF_MODE.values(), SSA_FEATURES, FAST_FEATURES):
        assert features == ALL_FEATURES


def test_a_start_does_not_load_what_it_does_not_need() -> None:
    program = "import sys, wasinn_runtime; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert "wasinn_runtime.engines.module" in loaded
    for heavy in ("lower.ssa", "lower.fast_handlers", "lower.simd", "engines.llvm"):
        assert f"wasinn_runtime.{heavy}" not in loaded
