"""Fixtures of the suite's tests, and the count of commands at the end of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

_COUNTED = "suite command: "


@pytest.fixture(scope="session")
def conversions(pytestconfig: pytest.Config) -> Path:
    """Where converted scripts are kept between runs."""
    assert pytestconfig.cache is not None
    return pytestconfig.cache.mkdir("spec-suite")


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
    """What a test counts here is summed over the run and shown at its end."""
    counts: Counter[str] = Counter()
    node: pytest.Item = request.node
    yield counts
    # Properties travel with the report, also from the processes of a parallel run.
    node.user_properties.extend((_COUNTED + kind, n) for kind, n in counts.items())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    total: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "teardown":
                continue
            for name, value in getattr(report, "user_properties", []):
                if name.startswith(_COUNTED):
                    total[name.removeprefix(_COUNTED)] += int(value)
    if total:
        terminalreporter.section("WebAssembly suite: commands run, by kind")
        for kind, count in sorted(total.items()):
            terminalreporter.line(f"{count:7} {kind}")
