"""The tinygrad backend on real OpenCL, which PoCL gives on a CPU. Not a test of GPU hardware."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from tests.backends.onnx_models import (
    DTYPES,
    ONNX_TYPES,
    doubling,
    endless_loop,
    matmul,
    model_of,
    output_array,
    set_array,
    value,
)
from tests.nn.fake_guest import Guest
from wasinn_backends.tinygrad import TinygradBackend
from wasinn_host.nn import BackendRegistry, GraphRegistry, NnContext, TensorType
from wasinn_host.nn.conformance import Outcome, check_backend
from wasinn_host.nn.errors import WasiNnError
from wasinn_host.nn.plugin import Device, ModelSource, Target, Tensor
from wasinn_models import ModelStore

RANDOM = np.random.default_rng(11)
GPU = 1


def opencl() -> tuple[Device | None, str]:
    """The first device that OpenCL has, or why there is none."""
    try:
        return TinygradBackend({"devices": "CL"}).devices()[0], ""
    except WasiNnError as error:
        return None, str(error)


DEVICE, WHY = opencl()
needs_opencl = pytest.mark.skipif(DEVICE is None, reason=f"no OpenCL here: {WHY}")


class GpuGuest(Guest):
    """A guest that wants the GPU."""

    def load(self, *builders: bytes, encoding: int = 1, target: int = GPU) -> int:
        return super().load(*builders, encoding=encoding, target=target)


def gpu_guest(**options: str) -> Guest:
    backends = BackendRegistry(options={"tinygrad": {"devices": "CL", **options}}, discover=False)
    backends.add("tinygrad", TinygradBackend)
    return GpuGuest(NnContext(GraphRegistry(backends)))


def test_options() -> None:
    for options, words in (
        ({"devices": "CPU"}, "expected some of METAL,CUDA,CL,NV,AMD,QCOM, got 'CPU'"),
        ({"shapes": "0"}, "expected a number from 1 to 1024, got '0'"),
    ):
        with pytest.raises(WasiNnError, match=words):
            TinygradBackend(options)


def test_a_device_that_is_not_there_says_why() -> None:
    if sys.platform == "darwin":
        pytest.skip("Metal is there")
    with pytest.raises(WasiNnError, match=r"tinygrad finds no GPU \(METAL: "):
        TinygradBackend({"devices": "METAL"}).devices()


class TestWithoutOpenCl:
    """As on a machine that has no OpenCL: its loader looks for drivers where there are none."""

    @staticmethod
    def python(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k != "DEV"}
        environment |= {
            "OCL_ICD_VENDORS": "/nonexistent",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        return subprocess.run(
            [sys.executable, *words],
            env=environment,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def test_the_report_says_why(self) -> None:
        code = (
            "from wasinn_backends.tinygrad import TinygradBackend\n"
            "from wasinn_host.nn import BackendRegistry\n"
            "all = BackendRegistry(options={'tinygrad': {'devices': 'CL'}}, discover=False)\n"
            "all.add('tinygrad', TinygradBackend)\n"
            "print(all.report()[0].error)\n"
        )
        done = self.python("-c", code)
        assert "): tinygrad finds no GPU (CL: " in done.stdout, done.stderr

    def test_these_tests_skip(self) -> None:
        words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "TestOnOpenCl")
        done = self.python(*words, os.path.relpath(__file__))
        assert done.returncode == 0, done.stdout
        assert "no OpenCL here: unsupported_operation: tinygrad finds no GPU (CL: " in done.stdout
        assert "passed" not in done.stdout


@needs_opencl
class TestOnOpenCl:
    @pytest.mark.slow
    def test_the_conformance_kit(self) -> None:
        results = list(check_backend("wasinn_backends.tinygrad:TinygradBackend"))
        assert [(r.name, r.why) for r in results if r.outcome is Outcome.FAILED] == []
        assert sum(r.outcome is Outcome.PASSED for r in results) >= 16

    def test_the_device_has_a_name_and_is_no_cpu(self) -> None:
        assert DEVICE is not None
        assert DEVICE.target is Target.GPU
        assert DEVICE.id == "cl"
        assert DEVICE.description.startswith("OpenCL, ")
        guest = gpu_guest()
        assert guest.load(doubling(), target=0) == 6
        assert "cl" in guest.error()

    def test_agrees_with_onnx_runtime_for_every_shape(self) -> None:
        model = matmul(RANDOM.standard_normal((5, 3)).astype(np.float32))
        session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        guest = gpu_guest(shapes="2")
        context = guest.open(model)
        # More shapes than are kept, some of them again, three calls of the same one, and nothing.
        for batch in (1, 4, 4, 4, 2, 1, 0, 4):
            x = RANDOM.standard_normal((batch, 5)).astype(np.float32)
            assert set_array(guest, context, 0, x) == 0, guest.error()
            assert guest.compute(context) == 0, guest.error()
            (expected,) = session.run(None, {"x": x})
            np.testing.assert_allclose(output_array(guest, context), expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("tensor_type", DTYPES, ids=lambda t: t.value)
    def test_every_type(self, tensor_type: TensorType) -> None:
        guest = gpu_guest()
        context = guest.open(doubling(ONNX_TYPES[tensor_type]))
        x = RANDOM.integers(0, 100, (3,)).astype(DTYPES[tensor_type])
        assert set_array(guest, context, 0, x) == 0, guest.error()
        assert guest.compute(context) == 0, guest.error()
        y = output_array(guest, context)
        assert y.dtype == x.dtype
        np.testing.assert_array_equal(y, x + x)

    def test_outputs_that_are_inputs_or_constants(self) -> None:
        model = model_of(
            [
                helper.make_node("Identity", ["x"], ["same"]),
                helper.make_node("Transpose", ["x"], ["turned"]),
                helper.make_node("Neg", ["x"], ["negative"]),
            ],
            [value("x", (2, 2))],
            [value("same", (2, 2)), value("turned", (2, 2)), value("c", ()), value("negative")],
            {"c": np.array(7, np.float32)},
        )
        guest = gpu_guest()
        context = guest.open(model)
        for _ in range(4):
            x = RANDOM.standard_normal((2, 2)).astype(np.float32)
            assert set_array(guest, context, 0, x) == 0, guest.error()
            assert guest.compute(context) == 0, guest.error()
            for index, expected in enumerate((x, x.T, np.array(7, np.float32), -x)):
                np.testing.assert_array_equal(output_array(guest, context, index), expected)

    def test_what_hangs_on_shapes_follows_them(self) -> None:
        model = model_of(
            [
                helper.make_node("Shape", ["x"], ["sizes"]),
                helper.make_node("Gather", ["sizes", "one"], ["width"]),
                helper.make_node("Range", ["zero", "width", "one"], ["y"]),
            ],
            [value("x", ("n", "m"))],
            [value("y", ("m",), TensorProto.INT64)],
            {"zero": np.array(0, np.int64), "one": np.array(1, np.int64)},
        )
        guest = gpu_guest()
        context = guest.open(model)
        for width in (3, 5, 3):
            assert set_array(guest, context, 0, np.zeros((2, width), np.float32)) == 0
            assert guest.compute(context) == 0, guest.error()
            assert output_array(guest, context).tolist() == list(range(width))

    def test_what_hangs_on_numbers_is_refused(self) -> None:
        model = model_of(
            [
                helper.make_node("Abs", ["shape"], ["wanted"]),
                helper.make_node("Reshape", ["x", "wanted"], ["y"]),
            ],
            [value("x", (6,)), value("shape", (2,), TensorProto.INT64)],
            [value("y", ("a", "b"))],
        )
        guest = gpu_guest()
        assert guest.load(model) == 6
        assert "operator Reshape takes input 1 (wanted) from the numbers" in guest.error()

    def test_operators_that_are_not_there_are_refused(self) -> None:
        guest = gpu_guest()
        assert guest.load(endless_loop()) == 6
        assert "tinygrad has no operator Loop" in guest.error()

    def test_a_file_beside_it_is_not_read_for_a_guest(self) -> None:
        tensor = TensorProto(name="w", dims=[1], data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/hostname")
        model = model_of(
            [helper.make_node("Add", ["x", "w"], ["y"])],
            [value("x")],
            [value("y")],
            tensors=[tensor],
        )
        guest = gpu_guest()
        assert guest.load(model) == 6
        assert "external data" in guest.error()

    def test_memory_that_is_not_there(self) -> None:
        model = model_of(
            [helper.make_node("Expand", ["x", "sizes"], ["y"])],
            [value("x", (1,))],
            [value("y", ("n",))],
            {"sizes": np.array([(1 << 31) - 1], np.int64)},
        )
        guest = gpu_guest()
        context = guest.open(model)
        assert set_array(guest, context, 0, np.ones(1, np.float32)) == 0
        assert guest.compute(context) == 7, guest.error()

    def test_home_environment_and_stdout_stay_as_they_are(self, tmp_path: Path) -> None:
        code = (
            "import os; before = dict(os.environ)\n"
            "from wasinn_backends.tinygrad import TinygradBackend as B\n"
            "from wasinn_host.nn.conformance import check_backend\n"
            "from wasinn_host.nn.plugin import ModelSource\n"
            "b = B({'devices': 'CL'}); s = b.samples()[0]\n"
            "g = b.load(ModelSource('onnx', s.parts), b.devices()[0]); c = g.create_context()\n"
            "c.set_input(0, s.inputs[0]); c.compute()\n"
            "assert dict(os.environ) == before\n"
        )
        home = tmp_path / "home"
        home.mkdir()
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("XDG", "POCL", "DEV"))
        }
        environment |= {
            "HOME": str(home),
            "WASINN_CACHE_DIR": str(tmp_path / "cache"),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert list(home.iterdir()) == []


@needs_opencl
@pytest.mark.slow
def test_minilm_is_within_a_thousandth_of_onnx_runtime() -> None:
    """Compiling takes most of the time, so one shape, and other numbers the second time."""
    path = ModelStore().resolve("minilm").path
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    backend = TinygradBackend({"devices": "CL"})
    graph = backend.load(ModelSource("onnx", paths=(path,)), backend.devices()[0])
    context = graph.create_context()
    mask = np.array([[1] * 16, [1] * 11 + [0] * 5], np.int64)
    for _ in range(2):
        feeds = {
            "input_ids": RANDOM.integers(1000, 30000, mask.shape),
            "attention_mask": mask,
            "token_type_ids": np.zeros_like(mask),
        }
        for index, spec in enumerate(graph.inputs):
            data = feeds[spec.name].reshape(-1).view(np.uint8).data
            context.set_input(index, Tensor(TensorType.I64, mask.shape, data))
        context.compute()
        given = context.get_output(0)
        found = np.frombuffer(given.data, np.float32).reshape(given.shape)
        (expected,) = session.run(None, feeds)
        assert np.abs(found - expected).max() <= 1e-3
