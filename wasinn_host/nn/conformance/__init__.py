"""The conformance kit: whether a backend plugin keeps the contract of ``wasinn_host.nn.plugin``.

Each check is a function that takes the plugin and says what it did wrong. All run in a process of
their own, since a wrong plugin may end or block the one it is in. ``wasinn backends check NAME``
prints what comes of them; `pytest_plugin` makes them tests. It shows that a plugin behaves, not
that its results are right beyond the samples it brings.
"""

from __future__ import annotations

from wasinn_host.nn.conformance.kit import (
    CheckResult,
    Model,
    Outcome,
    check_backend,
    checks_by_name,
)

__all__ = ["CheckResult", "Model", "Outcome", "check_backend", "checks_by_name"]
