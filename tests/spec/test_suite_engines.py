"""The official suite, every command, on every engine; nothing is known to fail."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.spec.suite_runner import ScriptRunner
from tests.spec.suite_scripts import SUITE, commands, scripts
from wasinn_runtime.engines.modes import MODES

pytestmark = pytest.mark.skipif(
    not scripts(), reason=f"the WebAssembly suite is not at {SUITE.name} beside the project"
)

# A wrong instruction fails hundreds of commands in the same way.
SHOWN = 30


CASES = [
    pytest.param(mode, script, id=f"{mode}-{script.stem}") for mode in MODES for script in scripts()
]


@pytest.mark.parametrize(("mode", "script"), CASES)
def test_script(mode: str, script: Path, conversions: Path, tally: Counter[str]) -> None:
    failures = ScriptRunner(mode).run(commands(script, conversions), tally)
    problems = [f"{script.name}:{line}: {why}" for line, why in failures.items()]
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    assert not problems, "\n".join([*problems[:SHOWN], *more])
