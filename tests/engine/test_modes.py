"""Which modes there are, and that none lacks a feature."""

from __future__ import annotations

import subprocess
import sys

from wasinn_runtime.engines.modes import FEATURES_OF_MODE, MODES, code_of_mode
from wasinn_runtime.lower.fast_code import FAMILIES
from wasinn_runtime.lower.fast_plans import OTHER, PLANS
from wasinn_runtime.lower.handlers import HANDLERS
from wasinn_runtime.spec.features import ALL_FEATURES
from wasinn_runtime.spec.opcodes import ROWS


def test_every_mode_has_every_feature() -> None:
    assert set(FEATURES_OF_MODE) == set(MODES)
    for features in FEATURES_OF_MODE.values():
        assert features == ALL_FEATURES
    for mode in MODES:
        assert callable(code_of_mode(mode))  # which loads what knows the rows
    for row in ROWS:
        assert row.feature in ALL_FEATURES, row
        assert row.meaning[0] in HANDLERS, row
        assert PLANS[row][0] != OTHER or row.meaning[0] in FAMILIES, row


def test_a_start_does_not_load_what_it_does_not_need() -> None:
    program = "import sys, wasinn_runtime; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    assert "wasinn_runtime.engines.module" in loaded
    for heavy in ("lower.ssa", "lower.fast_handlers", "lower.simd", "engines.llvm"):
        assert f"wasinn_runtime.{heavy}" not in loaded
