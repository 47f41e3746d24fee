"""The suite in mode ``auto`` when every function is hot: most calls of most scripts are the first
ones, which nothing but the interpreter would see. Here the calls wait for the compiler.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from tests.spec.suite_runner import ScriptRunner
from tests.spec.suite_scripts import SUITE, SUITES, Command, commands, scripts
from wasinn_runtime import Module
from wasinn_runtime.abi.layout import CodeEntry
from wasinn_runtime.engines.tiered import Tiered

pytestmark = pytest.mark.skipif(
    not scripts(), reason=f"the WebAssembly suite is not at {SUITE.name} beside the project"
)

# Scripts about what tiers do differently, each with how many functions of it at least are compiled.
HOT = {
    "br_if": 20,
    "br_table": 20,
    "call": 10,
    "call_indirect": 30,
    "call_ref": 5,
    "i64": 30,
    "if": 40,
    "labels": 6,
    "local_tee": 4,
    "loop": 40,
    "return_call": 3,
    "return_call_indirect": 8,
    "throw_ref": 3,
    "try_table": 10,
}
# Compiling one function takes a small part of it.
WAIT_S = 60.0


class HotRunner(ScriptRunner):
    """After each call, what it asked for is compiled before the next one."""

    def __init__(self, features: frozenset[str]) -> None:
        super().__init__("auto", features)
        self.modules: list[Module] = []

    def compile(self, command: Command) -> Module:
        module = super().compile(command)
        assert isinstance(module.code, Tiered)
        self.modules.append(module)
        return module

    def _act(self, command: Command) -> list[object]:
        try:
            return super()._act(command)
        finally:
            end = time.monotonic() + WAIT_S
            while any(is_compiling(module) for module in self.modules):
                assert time.monotonic() < end, "a hot function does not get compiled"
                time.sleep(0.001)


def is_compiling(module: Module) -> bool:
    assert isinstance(module.code, Tiered)
    return bool(module.code._called)


def compiled_functions(module: Module) -> int:
    """How many of a module's functions have left the interpreter."""
    assert isinstance(module.code, Tiered)
    return sum(
        module.entries.get(index, CodeEntry.ARRAY) != module.code.interpreter.run
        for index in module.code.codes
    )


@pytest.mark.parametrize("name", HOT)
def test_script(
    name: str, conversions: Path, tally: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wasinn_runtime.engines.tiered._HOT", 1)
    suite = SUITES["3.0"]
    runner = HotRunner(suite.features)
    (script,) = (path for path in suite.scripts() if path.stem == name)
    counts: Counter[str] = Counter()
    failures = runner.run(commands(script, conversions), counts)
    assert not failures, "\n".join(f"{script.name}:{line}: {why}" for line, why in failures.items())
    compiled = sum(map(compiled_functions, runner.modules))
    assert compiled >= HOT[name]
    tally["run while hot functions are compiled"] += counts.total()
    tally["functions compiled meanwhile"] += compiled
