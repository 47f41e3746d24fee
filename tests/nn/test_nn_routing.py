"""Which device a model goes to: the user's rules, and no silent step down to the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.nn.recording_backend import RecordingBackend
from wasinn_backends.null import NullBackend
from wasinn_host.nn import BackendRegistry, ErrorKind, Target, WasiNnError
from wasinn_host.nn.plugin import ModelSource
from wasinn_host.nn.routing import DeviceRule, rule_for
from wasinn_runtime.errors import UsageError


def gone_to(
    rules: Sequence[str],
    encoding: str,
    target: Target,
    fallback: Callable[[str], None] | None = None,
) -> tuple[str, str]:
    """The backend and the device that a model goes to."""
    backends = BackendRegistry(
        discover=False, rules=[DeviceRule.parse(text) for text in rules], fallback=fallback
    )
    backends.add("recording", RecordingBackend)
    backends.add("null", NullBackend)
    loaded = backends.load(ModelSource(encoding, (b"model",)), target)
    loaded.graph.close()
    backends.close()
    return loaded.backend, loaded.device.id


@pytest.mark.parametrize(
    ("rules", "encoding", "target", "expected"),
    [
        ([], "onnx", Target.GPU, ("recording", "gpu:0")),
        ([], "onnx", Target.AUTO, ("recording", "gpu:0")),
        (["gpu=recording:gpu:1"], "onnx", Target.GPU, ("recording", "gpu:1")),
        (["gpu=recording"], "onnx", Target.GPU, ("recording", "gpu:0")),
        (["gpu=recording:cpu"], "onnx", Target.GPU, ("recording", "cpu")),
        (["cpu=null"], "onnx", Target.CPU, ("null", "null")),
        (["cpu=null"], "onnx", Target.GPU, ("recording", "gpu:0")),
        (["auto=recording:cpu"], "onnx", Target.AUTO, ("recording", "cpu")),
        (["npu=recording:gpu:1"], "onnx", Target.TPU, ("recording", "gpu:1")),
        (["cpu=null", "openvino:cpu=recording"], "onnx", Target.CPU, ("null", "null")),
        (["cpu=null", "openvino:cpu=recording"], "openvino", Target.CPU, ("recording", "cpu")),
    ],
)
def test_where_models_go(
    rules: list[str], encoding: str, target: Target, expected: tuple[str, str]
) -> None:
    assert gone_to(rules, encoding, target) == expected


@pytest.mark.parametrize(
    ("rules", "target", "kind", "why"),
    [
        (
            ["gpu=recording:gpu:7"],
            Target.GPU,
            ErrorKind.UNSUPPORTED_OPERATION,
            "no device 'gpu:7' for target gpu with encoding onnx; there is: recording: gpu (gpu:0)",
        ),
        (
            ["gpu=null"],
            Target.GPU,
            ErrorKind.UNSUPPORTED_OPERATION,
            "no device for target gpu with encoding onnx; there is: null: cpu (null)",
        ),
        (
            ["gpu=recoding"],
            Target.GPU,
            ErrorKind.INVALID_ENCODING,
            "routed to the backend recoding, which is not installed; did you mean recording?",
        ),
        (
            [],
            Target.TPU,
            ErrorKind.UNSUPPORTED_OPERATION,
            "no device for target tpu with encoding onnx; there is: recording: gpu (gpu:0), "
            "gpu (gpu:1), cpu (cpu)",
        ),
    ],
)
def test_what_can_not_be_is_told(
    rules: list[str], target: Target, kind: ErrorKind, why: str
) -> None:
    with pytest.raises(WasiNnError) as error:
        gone_to(rules, "onnx", target)
    assert error.value.kind is kind
    assert why in error.value.message


def test_a_fallback_is_wanted_and_told() -> None:
    told: list[str] = []
    assert gone_to([], "onnx", Target.TPU, told.append) == ("recording", "cpu")
    assert told == [
        "no device for target tpu with encoding onnx: the model runs on cpu of recording instead"
    ]
    assert gone_to([], "onnx", Target.GPU, told.append) == ("recording", "gpu:0")
    with pytest.raises(WasiNnError, match="no device for target"):
        gone_to(["tpu=null"], "onnx", Target.TPU, told.append)
    assert len(told) == 1


@pytest.mark.parametrize(
    "text",
    ["", "gpu", "=null", "gpu=", "gpu=:cpu", "gpu=null:", "onnx=null", ":gpu=null", "xpu=null"],
)
def test_rules_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="device"):
        DeviceRule.parse(text)


def test_a_rule_for_an_encoding_goes_first() -> None:
    rules = [DeviceRule.parse("onnx:cpu=a"), DeviceRule.parse("cpu=b")]
    for order in (rules, rules[::-1]):
        rule = rule_for(order, "onnx", Target.CPU)
        assert rule is not None
        assert rule.backend == "a"
    assert rule_for(rules, "onnx", Target.GPU) is None
