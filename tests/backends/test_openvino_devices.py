"""What the OpenVINO backend runs on: its devices, and what it keeps between runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.backends.onnx_models import doubling
from tests.backends.openvino_models import WEIGHT, run, save_ir
from wasinn_backends.openvino import OpenVinoBackend, own_memory
from wasinn_host.nn import BackendRegistry
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.plugin import ModelSource, Target
from wasinn_host.nn.routing import DeviceRule

ONE = np.ones((1, 5), np.float32)


class TestAuto:
    @pytest.mark.parametrize(
        ("target", "rules", "device"),
        [
            (Target.CPU, (), "cpu"),
            (Target.AUTO, (), "cpu"),
            (Target.CPU, ("cpu=openvino",), "cpu"),
            (Target.CPU, ("cpu=openvino:auto",), "auto"),
            (Target.GPU, ("gpu=openvino:auto",), "auto"),
        ],
    )
    def test_only_who_names_it_gets_it(
        self, target: Target, rules: tuple[str, ...], device: str
    ) -> None:
        backends = BackendRegistry(discover=False, rules=[DeviceRule.parse(r) for r in rules])
        backends.add("openvino", OpenVinoBackend)
        x = np.array([1, 2], np.float32)
        try:
            loaded = backends.load(ModelSource("onnx", (doubling(),)), target)
            assert loaded.device.id == device
            context = loaded.graph.create_context()
            for _ in range(2):
                np.testing.assert_array_equal(run(context, x), x + x)
        finally:
            backends.close()

    def test_the_cpu_computes_as_without_it(self) -> None:
        backend = OpenVinoBackend({"threads": "1"})
        compiled = [
            backend.load(ModelSource("onnx", (doubling(),)), device)._compiled  # type: ignore[attr-defined]
            for device in backend.devices()
            if device.id in ("cpu", "auto")
        ]
        alone, chosen = compiled
        (of_cpu,) = (chosen.get_property("DEVICE_PROPERTIES")[name] for name in ("CPU",))
        for name in ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS"):
            assert str(of_cpu[name]) == str(alone.get_property(name))
        assert of_cpu["INFERENCE_NUM_THREADS"] == 1


class Properties:
    """Answers as OpenVINO's ``Core`` does of a device that this machine does not have."""

    def __init__(self, **values: Any) -> None:
        self._values = values

    def get_property(self, _: str, name: str) -> Any:
        return dict.fromkeys(self._values, "RO") if name[:9] == "SUPPORTED" else self._values[name]


@pytest.mark.parametrize(
    ("values", "memory"),
    [
        ({"GPU_DEVICE_TOTAL_MEM_SIZE": 1 << 34, "DEVICE_TYPE": "Type.DISCRETE"}, 1 << 34),
        ({"GPU_DEVICE_TOTAL_MEM_SIZE": 1 << 34, "DEVICE_TYPE": "Type.INTEGRATED"}, None),
        ({"GPU_DEVICE_TOTAL_MEM_SIZE": 0, "DEVICE_TYPE": "Type.DISCRETE"}, None),
        ({"DEVICE_TYPE": "Type.DISCRETE"}, None),
    ],
)
def test_memory_of_a_devices_own(values: dict[str, Any], memory: int | None) -> None:
    assert own_memory(Properties(**values), "GPU") == memory


def test_this_cpu_has_no_memory_of_its_own() -> None:
    assert {device.memory_bytes for device in OpenVinoBackend({}).devices()} == {None}


LOADING = """
import sys
from pathlib import Path
from wasinn_backends.openvino import OpenVinoBackend
from wasinn_host.nn.plugin import ModelSource
backend = OpenVinoBackend({"cache_dir": sys.argv[1]})
source = ModelSource("openvino", paths=(Path(sys.argv[2]),))
graph = backend.load(source, backend.devices()[0])
print(graph._compiled.get_property("LOADED_FROM_CACHE"))
"""


class TestCache:
    def test_a_file_of_the_host_is_compiled_once(self, tmp_path: Path) -> None:
        cache, model = tmp_path / "cache" / "inner", save_ir(tmp_path)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        for expected in ("False\n", "True\n"):
            done = subprocess.run(
                [sys.executable, "-c", LOADING, cache, model],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert done.stdout == expected, done.stderr
        assert len(list(cache.iterdir())) == 1

    def test_other_weights_of_the_same_size_are_another_model(self, tmp_path: Path) -> None:
        model = save_ir(tmp_path)
        backend = OpenVinoBackend({"cache_dir": str(tmp_path / "cache")})
        source = ModelSource("openvino", paths=(model,))
        for factor in (1, 2, 1):
            model.with_suffix(".bin").write_bytes((WEIGHT * np.float32(factor)).tobytes())
            graph = backend.load(source, backend.devices()[0])
            y = run(graph.create_context(), ONE)
            np.testing.assert_allclose(y, ONE @ (WEIGHT * factor), rtol=1e-5, atol=1e-6)
        assert len(list((tmp_path / "cache").iterdir())) == 2

    def test_nothing_of_a_guests_model_goes_there_or_comes_from_there(self, tmp_path: Path) -> None:
        model, cache = save_ir(tmp_path), tmp_path / "cache"
        parts = model.read_bytes(), model.with_suffix(".bin").read_bytes()
        backend = OpenVinoBackend({"cache_dir": str(cache)})
        backend.load(ModelSource("openvino", parts), backend.devices()[0])
        assert list(cache.iterdir()) == []
        backend.load(ModelSource("openvino", paths=(model,)), backend.devices()[0])
        assert len(list(cache.iterdir())) == 1
        graph: Any = backend.load(ModelSource("openvino", parts), backend.devices()[0])
        assert not graph._compiled.get_property("LOADED_FROM_CACHE")

    def test_a_folder_that_can_not_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(WasiNnError, match=r"option cache_dir: expected a folder.*file") as why:
            OpenVinoBackend({"cache_dir": str(tmp_path / "file")})
        assert why.value.kind is ErrorKind.INVALID_ARGUMENT
