"""The ONNX backend's devices, with the real ONNX Runtime. No GPU or NPU is needed or claimed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests.backends.onnx_models import doubling, onnx_graphs, output_array, set_array
from tests.nn.fake_guest import Guest
from wasinn_backends import onnx_devices
from wasinn_backends.onnx import LOAD_ERRORS, OnnxBackend, _mapped
from wasinn_host.nn import NnContext, Target
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.plugin import ModelSource

HAS_DEVICES = hasattr(ort, "get_ep_devices")
reported = pytest.mark.skipif(not HAS_DEVICES, reason="this ONNX Runtime reports no devices")


@pytest.fixture
def as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's own CPU device is treated as a device of any other provider."""
    monkeypatch.setattr(onnx_devices, "_CPU_PROVIDER", "")


def _refusal(**options: str) -> str:
    with pytest.raises(WasiNnError) as caught:
        OnnxBackend(options)
    assert caught.value.kind is ErrorKind.INVALID_ARGUMENT
    return caught.value.message


def test_ids_are_unique_and_the_cpu_is_first() -> None:
    devices = OnnxBackend({}).devices()
    assert (devices[0].id, devices[0].target) == ("cpu", Target.CPU)
    assert len({device.id for device in devices}) == len(devices)


def test_without_get_ep_devices_there_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ort, "get_ep_devices", raising=False)
    assert [device.id for device in OnnxBackend({}).devices()] == ["cpu"]


def test_without_plugin_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(ort, "register_execution_provider_library", raising=False)
    reason = _refusal(ep_library=f"x={tmp_path / 'x.so'}")
    assert f"ONNX Runtime {ort.__version__} takes no libraries" in reason


@reported
@pytest.mark.usefixtures("as_any_other")
class TestADeviceThatIsReported:
    def test_is_described(self) -> None:
        _, device = OnnxBackend({}).devices()
        assert (device.id, device.target) == ("cpu:cpu", Target.CPU)
        assert device.description.startswith(f"CPUExecutionProvider {ort.__version__}")

    def test_two_of_a_kind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = ort.get_ep_devices()
        monkeypatch.setattr(ort, "get_ep_devices", lambda: [*found, *found])
        ids = [device.id for device in OnnxBackend({}).devices()]
        assert ids == ["cpu", "cpu:cpu", "cpu:cpu:1"]

    def test_computes_with_its_options(self) -> None:
        backend = OnnxBackend({"cpu_nodes": "1", "ep_options": "CPUExecutionProvider.key=a=b"})
        options = ort.SessionOptions()
        device = backend.devices()[1]
        assert backend._devices.add_to(options, device) == "CPUExecutionProvider"
        assert options.has_providers()
        assert backend._devices._options == {"CPUExecutionProvider": {"key": "a=b"}}
        sample = backend.samples()[0]
        graph = backend.load(ModelSource("onnx", builders=sample.parts), device)
        context = graph.create_context()
        context.set_input(0, sample.inputs[0])
        context.compute()
        assert bytes(context.get_output(0).data) == bytes(sample.outputs[0].data)

    def test_nodes_on_the_cpu_are_refused_unless_allowed(self) -> None:
        """ONNX Runtime sees that its CPU provider is both wanted and forbidden."""
        backend = OnnxBackend({})
        with pytest.raises(WasiNnError, match="disabled fallback to the CPU EP"):
            backend.load(ModelSource("onnx", builders=(doubling(),)), backend.devices()[1])


def test_what_a_provider_lacks_is_an_unsupported_operation() -> None:
    """The words are ONNX Runtime's own, of a provider that takes none of the model's nodes."""
    if "AzureExecutionProvider" not in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has no second provider")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with pytest.raises(Exception, match="CPU EP") as caught:
        ort.InferenceSession(
            doubling(), options, providers=["AzureExecutionProvider"], enable_fallback=0
        )
    error = _mapped(caught.value, LOAD_ERRORS, "loading")
    assert isinstance(error, WasiNnError)
    assert error.kind is ErrorKind.UNSUPPORTED_OPERATION
    assert "cpu_nodes=1" in error.message


@reported
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("x", "expected PROVIDER.KEY=VALUE, got 'x'"),
        ("A.k", "expected PROVIDER.KEY=VALUE, got 'A.k'"),
        ("A=1", "expected PROVIDER.KEY=VALUE, got 'A=1'"),
        (".k=1", "expected PROVIDER.KEY=VALUE, got '.k=1'"),
        ("CPUExecutionProvider.k=1,", "expected PROVIDER.KEY=VALUE, got ''"),
        ("NoSuch.k=1", "no provider NoSuch; there is: CPUExecutionProvider"),
        ("CPUExecutionProvider.k=1,CPUExecutionProvider.k=2", "CPUExecutionProvider.k is given"),
    ],
)
@pytest.mark.usefixtures("as_any_other")
def test_provider_options_that_are_wrong(given: str, reason: str) -> None:
    assert f"option ep_options: {reason}" in _refusal(ep_options=given)


@reported
class TestLibraries:
    @pytest.mark.parametrize("given", ["x", "=path", "x="])
    def test_not_name_and_path(self, given: str) -> None:
        assert f"expected NAME=PATH, got {given!r}" in _refusal(ep_library=given)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        missing = tmp_path / "none.so"
        assert f"x: there is no file {missing}" in _refusal(ep_library=f"x={missing}")

    def test_a_file_that_is_no_library(self, tmp_path: Path) -> None:
        path = tmp_path / "text.so"
        path.write_text("text", encoding="utf-8")
        for _ in range(2):  # a name that failed is free again
            reason = _refusal(ep_library=f"x={path}")
            assert f"x: {path} is no library of an execution provider" in reason

    def test_a_library_of_something_else(self) -> None:
        path = next((Path(np.__file__).parent / "linalg").glob("_umath_linalg*"))
        assert "CreateEpFactories" in _refusal(ep_library=f"x={path}")


@pytest.mark.parametrize("word", [Target.GPU, Target.TPU])
def test_a_target_that_no_provider_offers(word: Target) -> None:
    graphs = onnx_graphs()
    (report,) = graphs.backends.report()
    if any(device.target is word for device in report.devices):
        pytest.skip("this machine has one")
    with pytest.raises(WasiNnError, match=r"there is: onnx: cpu \(cpu\)") as caught:
        graphs.backends.load(ModelSource("onnx", builders=(doubling(),)), word)
    assert caught.value.kind is ErrorKind.UNSUPPORTED_OPERATION


def test_the_cpu_computes_as_before() -> None:
    guest = Guest(NnContext(onnx_graphs(cpu_nodes="1")))
    context = guest.open(doubling())
    assert set_array(guest, context, 0, np.ones(2, np.float32)) == 0
    assert guest.compute(context) == 0
    assert output_array(guest, context).tolist() == [2.0, 2.0]


@pytest.mark.parametrize(
    ("metadata", "size"),
    [
        ({"DxgiVideoMemory": "8192 MB"}, 8192 << 20),
        ({"DxgiVideoMemory": "0 MB"}, None),
        ({"DxgiVideoMemory": "many"}, None),
        ({}, None),
    ],
)
def test_memory_as_windows_reports_it(metadata: dict[str, str], size: int | None) -> None:
    assert onnx_devices._memory_bytes(metadata) == size
