"""Makes a module that shows a difference smaller, with ``wasm-tools shrink``.

What must stay is that there is a finding and of which kind: ``DIFFERENT`` keeps the outcomes' words
(such as which trap one engine gives), a crash stays a crash.
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.differential.cases import Case, Unusable, wasm_tools
from tests.differential.check import Verdict
from tests.differential.pool import run_cases

__all__ = ["kind_of", "shrunken", "verdict_of_file"]

_WORDS = re.compile(r"trap: [a-z ]+? in|returned|refused|left|crash|ended with -?\d+|\w+: ")


def kind_of(verdict: Verdict) -> str:
    """What a smaller module has to show as well."""
    return f"{verdict.kind.value} {' '.join(_WORDS.findall(verdict.why)[:2])}"


def verdict_of_file(
    file: Path, seed: int, modes: Sequence[str], cache: Path | None = None
) -> Verdict:
    """Run a module in a process of its own; compiled code may be kept."""
    verdicts: list[Verdict] = []
    case = Case(str(file.resolve()), seed, frozenset())
    run_cases([case], modes, 1, lambda _, verdict: verdicts.append(verdict), cache)
    return verdicts[0]


def shrunken(
    data: bytes, verdict: Verdict, seed: int, modes: Sequence[str], tries: int, cache: Path
) -> bytes:
    """The smallest module found that still shows a finding of the same kind.

    Args:
        data: the module.
        verdict: what it shows.
        seed: for the arguments of its calls.
        modes: of our engine.
        tries: how many changes to try; each starts a process.
        cache: where compiled code is kept, so that none of them builds interpreters.
    """
    with tempfile.TemporaryDirectory(prefix="wasinn-shrink-") as folder:
        whole, script = Path(folder, "whole.wasm"), Path(folder, "still.sh")
        whole.write_bytes(data)
        command = [sys.executable, "-m", "tests.differential", "still", "--seed", str(seed)]
        for mode in modes:
            command += ["--mode", mode]
        command += ["--kind", kind_of(verdict), "--cache", str(cache.resolve())]
        root = Path(__file__).resolve().parents[2]
        script.write_text(
            f'#!/bin/sh\nfile=$(realpath "$1")\ncd {shlex.quote(str(root))}\n'
            f'exec {shlex.join(command)} "$file"\n',
            encoding="utf-8",
        )
        script.chmod(0o755)
        try:
            small = Path(folder, "small.wasm")
            wasm_tools(
                "shrink", f"--attempts={tries}", f"--output={small}", str(script), str(whole)
            )
            return small.read_bytes()
        except Unusable:
            return data  # nothing smaller shows it
