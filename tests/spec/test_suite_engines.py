"""The official suite, every command, on every engine.

What is known to fail is listed in ``expected-failures-<mode>.txt``, one ``script.wast:line reason``
a line; a listed command that passes fails the test as well.
"""

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


def expected_failures(mode: str) -> set[str]:
    """The places of a mode's known failures, ``script.wast:line``."""
    text = Path(__file__).with_name(f"expected-failures-{mode}.txt").read_text()
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return {line.split()[0] for line in lines if line}


CASES = [
    pytest.param(mode, script, id=f"{mode}-{script.stem}") for mode in MODES for script in scripts()
]


@pytest.mark.parametrize(("mode", "script"), CASES)
def test_script(mode: str, script: Path, conversions: Path, tally: Counter[str]) -> None:
    failures = {
        f"{script.name}:{line}": why
        for line, why in ScriptRunner(mode).run(commands(script, conversions), tally).items()
    }
    expected = {place for place in expected_failures(mode) if place.startswith(f"{script.name}:")}
    problems = [f"{place}: {why}" for place, why in failures.items() if place not in expected]
    problems += [f"{place}: passes, but is listed as failing" for place in expected - set(failures)]
    more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
    assert not problems, "\n".join([*problems[:SHOWN], *more])


@pytest.mark.parametrize("mode", MODES)
def test_listed_failures_name_scripts(mode: str) -> None:
    names = {script.name for script in scripts()}
    assert {place.split(":")[0] for place in expected_failures(mode)} <= names
