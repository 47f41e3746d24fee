"""Makes the conformance kit's checks tests of a plugin's own test suite.

In ``conftest.py``::

    pytest_plugins = ["wasinn_host.pytest_plugin"]

and in a test file a test for each backend, which becomes one for each check::

    @pytest.mark.wasinn_backend("npu")
    def test_npu(wasinn_check):
        wasinn_check()

The mark takes an installed plugin's name or ``module:class``, and the keywords of
`wasinn_host.nn.conformance.check_backend`. All checks of a backend run when the
first of its tests does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from wasinn_host.nn.conformance import CheckResult

__all__ = ["pytest_configure", "pytest_generate_tests", "wasinn_check"]

_MARK = "wasinn_backend"
_results: dict[str, dict[str, CheckResult]] = {}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{_MARK}(backend, **options): the backend that wasinn_check checks"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "wasinn_check" in metafunc.fixturenames:
        from wasinn_host.nn.conformance import checks_by_name

        metafunc.parametrize("wasinn_check", list(checks_by_name()), indirect=True)


@pytest.fixture
def wasinn_check(request: pytest.FixtureRequest) -> Callable[[], None]:
    """Fails, or skips, the test as the check of the marked backend did."""
    mark = request.node.get_closest_marker(_MARK)
    if mark is None or len(mark.args) != 1:
        raise pytest.UsageError(f"a test with wasinn_check needs @pytest.mark.{_MARK}(BACKEND)")
    result = _checked(mark.args[0], mark.kwargs)[request.param]

    def check() -> None:
        if result.outcome.value == "failed":
            pytest.fail(f"{result.why}\nmust hold: {result.means}", pytrace=False)
        if result.outcome.value == "skipped":
            pytest.skip(result.why)

    return check


def _checked(backend: object, keywords: dict[str, Any]) -> dict[str, CheckResult]:
    key = f"{backend!r} {keywords!r}"
    if key not in _results:
        from wasinn_host.nn.conformance import check_backend

        _results[key] = {r.name: r for r in check_backend(_location(backend), **keywords)}
    return _results[key]


def _location(backend: object) -> str:
    if not isinstance(backend, str):
        raise pytest.UsageError(f"{_MARK}: expected a name or module:class, got {backend!r}")
    if ":" in backend:
        return backend
    from wasinn_host.nn.discovery import located

    return located(backend)
