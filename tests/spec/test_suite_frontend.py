"""Decoder and validator against the official suite: every module's verdict, in its exact words.

Nothing runs here; ``test_suite_engines.py`` runs all commands on every engine.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.spec.suite_scripts import SUITE, Command, commands, scripts
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.errors import Invalid, Malformed
from wasinn_runtime.valid.validate import validate

pytestmark = pytest.mark.skipif(
    not scripts(), reason=f"the WebAssembly suite is not at {SUITE.name} beside the project"
)
VALID = {"module", "assert_unlinkable", "assert_uninstantiable"}


def verdict(data: bytes) -> tuple[str, str]:
    """What decoding and validation say: the kind of command that expects it, and the words."""
    try:
        validate(decode(data))
    except Malformed as error:
        return "assert_malformed", error.message
    except Invalid as error:
        return "assert_invalid", error.message
    return "valid", ""


def expected_verdict(command: Command) -> tuple[str, str]:
    if command.kind in VALID:
        return "valid", ""
    return command.kind, command.fields["text"]


@pytest.mark.parametrize("script", scripts(), ids=lambda path: f"decode-{path.stem}")
def test_verdicts(script: Path, conversions: Path, tally: Counter[str]) -> None:
    wrong = []
    for command in commands(script, conversions):
        if command.is_text or "filename" not in command.fields:
            continue
        tally[f"decoded and validated, {command.kind}"] += 1
        kind, words = expected_verdict(command)
        got_kind, got_words = verdict(command.module_bytes())
        if got_kind != kind or not got_words.startswith(words):
            wrong.append(f"{script.name}:{command.line}: {kind} {words!r}, got {got_words!r}")
    assert not wrong, "\n".join(wrong)


def test_the_suite_is_complete(conversions: Path) -> None:
    """The conversion loses nothing: these are the suite's own numbers, SIMD left out."""
    counts: Counter[str] = Counter()
    for script in scripts():
        counts.update(command.counted_as for command in commands(script, conversions))
    assert counts == {
        "action": 155,
        "assert_exhaustion": 15,
        "assert_invalid": 1477,
        "assert_malformed": 719,
        "assert_malformed (text, out of scope)": 581,
        "assert_return": 21453,
        "assert_trap": 2354,
        "assert_uninstantiable": 34,
        "assert_unlinkable": 83,
        "module": 1126,
        "register": 21,
    }
