"""The official suite, every command, on every engine; nothing is known to fail."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.spec.suite_runner import ScriptRunner
from tests.spec.suite_scripts import SUITE, SUITES, Suite, commands, scripts
from wasinn_runtime.engines.modes import FEATURES_OF_MODE, MODES

pytestmark = pytest.mark.skipif(
    not scripts(), reason=f"the WebAssembly suite is not at {SUITE.name} beside the project"
)

# A wrong instruction fails hundreds of commands in the same way.
SHOWN = 30


# Folders of scripts that need a feature beside those of their suite's other scripts.
FOLDERS = {"simd": "simd", "relaxed-simd": "relaxed-simd"}


def features_of(mode: str, suite: Suite) -> frozenset[str]:
    """What modules of a suite may use in a mode; empty if the mode lacks what all of it needs."""
    features = suite.features & FEATURES_OF_MODE[mode]
    return frozenset() if suite.features - features - {*FOLDERS} else features


CASES = [
    pytest.param(mode, suite, script, id=f"{mode}-{suite.name}-{script.stem}")
    for mode in MODES
    for suite in SUITES.values()
    for script in suite.scripts()
    if FOLDERS.get(script.parent.name, "mvp") in features_of(mode, suite)
]


@pytest.mark.parametrize(("mode", "suite", "script"), CASES)
def test_script(
    mode: str, suite: Suite, script: Path, conversions: Path, tally: Counter[str]
) -> None:
    failures = ScriptRunner(mode, features_of(mode, suite)).run(
        commands(script, conversions), tally
    )
    problems = [f"{script.name}:{line}: {why}" for line, why in failures.items()]
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    assert not problems, "\n".join([*problems[:SHOWN], *more])
