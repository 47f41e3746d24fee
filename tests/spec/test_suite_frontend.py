"""Decoder and validator against the official suites: every module's verdict, in the suite's words.

Nothing runs here; ``test_suite_engines.py`` runs all commands on every engine.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.spec.suite_scripts import SUITE, SUITES, Command, Suite, commands
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.errors import Invalid, Malformed
from wasinn_runtime.valid.validate import validate

pytestmark = pytest.mark.skipif(
    not SUITE.is_dir(), reason=f"the WebAssembly suite is not at {SUITE.name} beside the project"
)
VALID = {"module", "module_definition", "assert_unlinkable", "assert_uninstantiable"}
# What this project does not have; its decoder says so of every module that needs it.
ABSENT = "needs garbage collection"
CASES = [
    pytest.param(suite, script, id=f"decode-{suite.name}-{script.stem}")
    for suite in SUITES.values()
    for script in suite.scripts()
]


def verdict(data: bytes, suite: Suite) -> tuple[str, str]:
    """What decoding and validation say: the kind of command that expects it, and the words."""
    try:
        validate(decode(data, features=suite.features))
    except Malformed as error:
        return "assert_malformed", error.message
    except Invalid as error:
        return "assert_invalid", error.message
    return "valid", ""


def expected_verdict(command: Command) -> tuple[str, str]:
    if command.kind in VALID:
        return "valid", ""
    # After this, some of the words are those of the specification's interpreter alone.
    return command.kind, re.split(": (?:instruction|block) requires", command.fields["text"])[0]


@pytest.mark.parametrize(("suite", "script"), CASES)
def test_verdicts(suite: Suite, script: Path, conversions: Path, tally: Counter[str]) -> None:
    wrong = []
    for command in commands(script, conversions):
        if command.is_text or "filename" not in command.fields:
            continue
        kind, words = expected_verdict(command)
        got_kind, got_words = verdict(command.module_bytes(), suite)
        counted = f"{suite.name}: decoded and validated, {command.kind}"
        if ABSENT in got_words:
            counted += f" ({ABSENT})"
        elif got_kind != kind or words not in got_words:
            wrong.append(f"{script.name}:{command.line}: {kind} {words!r}, got {got_words!r}")
        tally[counted] += 1
    assert not wrong, "\n".join(wrong)


# The suite's own numbers: the conversion loses nothing.
COMMANDS = {
    "2.0": {
        "action": 155,
        "assert_exhaustion": 15,
        "assert_invalid": 2146,
        "assert_malformed": 719,
        "assert_malformed (text, out of scope)": 1091,
        "assert_return": 45734,
        "assert_trap": 2408,
        "assert_uninstantiable": 34,
        "assert_unlinkable": 83,
        "module": 1599,
        "register": 22,
    },
    "3.0": {
        "action": 325,
        "assert_exception": 18,
        "assert_exhaustion": 15,
        "assert_invalid": 2645,
        "assert_malformed": 710,
        "assert_malformed (text, out of scope)": 1228,
        "assert_return": 52266,
        "assert_trap": 4794,
        "assert_uninstantiable": 54,
        "assert_unlinkable": 192,
        "module": 2132,
        "module_definition": 6,
        "module_instance": 3,
        "register": 68,
    },
    "3.0-legacy": {
        "assert_exception": 23,
        "assert_invalid": 12,
        "assert_malformed (text, out of scope)": 7,
        "assert_return": 45,
        "assert_trap": 2,
        "module": 6,
        "register": 1,
    },
    "threads": {
        "action": 59,
        "assert_invalid": 96,
        "assert_malformed (text, out of scope)": 22,
        "assert_return": 214,
        "assert_trap": 53,
        "assert_unlinkable": 59,
        "module": 114,
        "register": 2,
    },
}


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_the_suite_is_complete(suite: Suite, conversions: Path) -> None:
    counts: Counter[str] = Counter()
    for script in suite.scripts():
        counts.update(command.counted_as for command in commands(script, conversions))
    assert counts == COMMANDS[suite.name]
