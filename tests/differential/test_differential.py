"""Random modules in every mode, with safepoints and in wasmtime: the same 220 in every run.

Any other number, from any seed: ``python -m tests.differential --count 20000 --seed 1``.
"""

from __future__ import annotations

import pytest

from tests.differential.cases import Case
from tests.differential.check import Verdict, VerdictKind, common_features
from tests.differential.pool import run_cases
from tests.differential.variants import USUAL

# How many of each, and how many at least that something can be compared of: what a mutation
# brings in is at times more than the engine has, and such seeds are passed over.
COUNTS = {"smith": (100, 95), "mutate": (20, 15), "table": (80, 80), "legacy": (20, 20)}
CHUNK = 20
FEATURES = common_features(USUAL)


@pytest.mark.parametrize(
    ("source", "first"),
    [(source, first) for source, (count, _) in COUNTS.items() for first in range(0, count, CHUNK)],
)
def test_modules(source: str, first: int) -> None:
    verdicts: list[tuple[Case, Verdict]] = []
    cases = [Case(source, first + number, FEATURES) for number in range(CHUNK)]
    run_cases(cases, USUAL, 1, lambda case, verdict: verdicts.append((case, verdict)))
    findings = [f"{case.label}: {verdict.why}" for case, verdict in verdicts if verdict.is_finding]
    assert not findings, "\n".join(findings)
    count, least = COUNTS[source]
    same = sum(verdict.kind is VerdictKind.SAME for _, verdict in verdicts)
    assert same >= CHUNK * least // count - CHUNK // 10
