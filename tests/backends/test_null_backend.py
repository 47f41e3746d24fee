"""The null backend's own manners: settings, faults, delays, and that nobody gets it by accident."""

from __future__ import annotations

import time

import pytest

from tests.nn.fake_guest import Guest
from wasinn_backends.null import NullBackend
from wasinn_host.nn import BackendRegistry, GraphRegistry, NnContext, TensorType


def _guest(routed: bool = True, **options: str) -> Guest:
    backends = BackendRegistry(
        options={"null": options}, routes={"onnx": "null"} if routed else {}, discover=False
    )
    backends.add("null", NullBackend)
    return Guest(NnContext(GraphRegistry(backends)))


def test_it_is_never_chosen_by_itself() -> None:
    guest = _guest(routed=False)
    assert guest.load(b"model") == 2
    assert "no backend for encoding onnx" in guest.error()


@pytest.mark.parametrize(
    ("model", "errno", "reason"),
    [
        (b"{", 2, "the model is not JSON"),
        (b"{" * 100_000, 2, "the model is not JSON"),
        (b'{"speed": 3}', 1, "unknown setting 'speed'"),
        (b'{"fault": "sometimes"}', 1, "unknown fault 'sometimes'"),
        (b'{"delay_s": -1}', 1, "delay_s: expected 0 to 3600 seconds, got -1"),
        (b'{"delay_s": "NaN"}', 1, "delay_s: expected"),
        (b'{"delay_s": []}', 1, "delay_s: expected"),
        (b'{"fault": "load"}', 5, "fault on demand in load"),
    ],
)
def test_bad_settings_in_the_model(model: bytes, errno: int, reason: str) -> None:
    guest = _guest()
    assert guest.load(model) == errno
    assert reason in guest.error()


def test_options_are_the_default_for_all_models() -> None:
    guest = _guest(fault="compute")
    context = guest.open(b"plain")
    assert guest.set_input(context, 0, TensorType.U8, (1,), b"a") == 0
    assert guest.compute(context) == 5
    overridden = guest.open(b'{"fault": ""}')
    assert guest.set_input(overridden, 0, TensorType.U8, (1,), b"a") == 0
    assert guest.compute(overridden) == 0


def test_a_delay_takes_its_time() -> None:
    guest = _guest(delay_s="0.05")
    context = guest.open(b"plain")
    assert guest.set_input(context, 0, TensorType.U8, (1,), b"a") == 0
    start = time.perf_counter()
    assert guest.compute(context) == 0
    assert time.perf_counter() - start >= 0.05


def test_inputs_are_limited_in_number() -> None:
    guest = _guest()
    context = guest.open(b"plain")
    assert guest.set_input(context, 1023, TensorType.U8, (1,), b"a") == 0
    assert guest.set_input(context, 1024, TensorType.U8, (1,), b"a") == 1
