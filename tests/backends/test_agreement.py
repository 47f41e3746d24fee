"""Every backend computes the same of one model, within what docs/wasi-nn.md promises."""

from __future__ import annotations

import pytest

from scripts.backend_agreement import PAGE, TOLERANCES, measure, rows_in
from wasinn_host.nn import BackendRegistry

PROMISED = rows_in(PAGE.read_text(encoding="utf-8"))
# Compiles for each model, which takes long.
SLOW = frozenset({"tinygrad"})


def check(backends: frozenset[str]) -> int:
    rows = list(measure(backends))
    for row in rows:
        assert row.difference <= TOLERANCES[row.backend], row
        # Devices that the page's machine did not have are no less bound to the tolerance.
        if row.way in PROMISED:
            assert PROMISED[row.way][1] == TOLERANCES[row.backend]
    on_cpu = {way for way in PROMISED if way[0] in backends and way[2] == "cpu"}
    assert on_cpu <= {row.way for row in rows}
    return len(rows)


def test_backends_that_load_at_once() -> None:
    assert check(frozenset(TOLERANCES) - SLOW) >= 4


@pytest.mark.slow
def test_backends_that_compile() -> None:
    if not check(SLOW):
        pytest.skip("no GPU that tinygrad can open")


def test_every_backend_of_these_forms_is_on_the_page() -> None:
    forms = {form for _, form, _ in PROMISED}
    with_forms = {
        report.name for report in BackendRegistry().report() if forms & set(report.encodings)
    }
    assert with_forms == set(TOLERANCES) == {name for name, _, _ in PROMISED}
    assert all(difference <= tolerance for difference, tolerance in PROMISED.values())
