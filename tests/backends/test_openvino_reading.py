"""Models of other makers in the OpenVINO backend: of the host's files, and of guests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.backends.onnx_models import doubling
from tests.backends.openvino_models import backend_graph, run, save_ir
from tests.backends.tensorflow_models import FACTORS, frozen_graph, saved_model, tensorflow_lite
from wasinn_backends.openvino import OpenVinoBackend
from wasinn_host.nn import BackendRegistry, GraphRegistry, NnContext, TensorType
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.graphs import PreloadSpec
from wasinn_host.nn.plugin import Graph, ModelSource, Target
from wasinn_host.nn.routing import DeviceRule

X = np.array([[0.5, -1, 2], [3, 4, -5]], np.float32)


def of_file(encoding: str, path: Path) -> Graph:
    backend = OpenVinoBackend({})
    return backend.load(ModelSource(encoding, paths=(path,)), backend.devices()[0])


@pytest.fixture
def lite(tmp_path: Path) -> Path:
    pytest.importorskip("ai_edge_litert", reason="LiteRT's package has the schema")
    path = tmp_path / "of any name"
    path.write_bytes(tensorflow_lite())
    return path


class TestTensorFlow:
    @pytest.mark.parametrize("name", ["frozen.pb", "of any name"])
    def test_a_frozen_graph(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(frozen_graph())
        graph = of_file("tensorflow", tmp_path / name)
        (spec,) = graph.inputs
        assert (spec.name, spec.type, spec.shape) == ("x:0", TensorType.F32, (None, 3))
        np.testing.assert_array_equal(run(graph.create_context(), X), X * FACTORS)

    def test_a_saved_model_is_named_by_its_file(self, tmp_path: Path) -> None:
        (tmp_path / "saved_model.pb").write_bytes(saved_model())
        graph = of_file("tensorflow", tmp_path / "saved_model.pb")
        assert [spec.name for spec in (*graph.inputs, *graph.outputs)] == ["x", "y"]
        np.testing.assert_array_equal(run(graph.create_context(), X), X * FACTORS)

    def test_a_guest_asks_for_it_by_name_and_can_not_bring_it(self, tmp_path: Path) -> None:
        path = tmp_path / "m.pb"
        path.write_bytes(frozen_graph())
        backends = BackendRegistry(discover=False)
        backends.add("openvino", OpenVinoBackend)
        graphs = GraphRegistry(backends)
        graphs.preload(PreloadSpec.parse(f"m:tensorflow:cpu:{path}"))
        context = NnContext(graphs)
        try:
            assert context.load_by_name("m") > 0
            with pytest.raises(WasiNnError, match="TensorFlow models from files that the") as why:
                context.load([memoryview(path.read_bytes())], "tensorflow", Target.CPU)
            assert why.value.kind is ErrorKind.UNSUPPORTED_OPERATION
        finally:
            context.close()
            graphs.close()
            backends.close()

    def test_what_is_no_graph(self, tmp_path: Path) -> None:
        (tmp_path / "m.pb").write_bytes(doubling())
        with pytest.raises(WasiNnError, match="OpenVINO, while loading") as caught:
            of_file("tensorflow", tmp_path / "m.pb")
        assert caught.value.kind is ErrorKind.INVALID_ENCODING


class TestTensorFlowLite:
    def test_a_file(self, lite: Path) -> None:
        graph = of_file("tensorflowlite", lite)
        (spec,) = graph.inputs
        assert (spec.name, spec.type, spec.shape) == ("x", TensorType.F32, (2, 3))
        np.testing.assert_array_equal(run(graph.create_context(), X), X * FACTORS)

    def test_what_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "m.tflite").write_bytes(frozen_graph())
        with pytest.raises(WasiNnError, match="OpenVINO, while loading") as caught:
            of_file("tensorflowlite", tmp_path / "m.tflite")
        assert caught.value.kind is ErrorKind.INVALID_ENCODING

    def test_a_guest_can_not_bring_it(self, lite: Path) -> None:
        with pytest.raises(WasiNnError, match="Lite models from files that the host's") as caught:
            backend_graph("tensorflowlite", lite.read_bytes())
        assert caught.value.kind is ErrorKind.UNSUPPORTED_OPERATION

    @pytest.mark.parametrize(("rules", "name"), [((), "tflite"), (("cpu=openvino",), "openvino")])
    def test_the_backend_tflite_goes_first(
        self, lite: Path, rules: tuple[str, ...], name: str
    ) -> None:
        backends = BackendRegistry(discover=False, rules=[DeviceRule.parse(r) for r in rules])
        backends.add("openvino", OpenVinoBackend)
        backends.add("tflite", OpenVinoBackend)  # the order goes by names
        try:
            source = ModelSource("tensorflowlite", paths=(lite,))
            assert backends.load(source, Target.CPU).backend == name
        finally:
            backends.close()


class TestOneFrontendForEachEncoding:
    @pytest.mark.parametrize("before", [b"\xfa\x07\x01a", b"\x7a\x00"], ids=["field 127", "15"])
    def test_onnx_is_read_as_onnx(self, before: bytes) -> None:
        """OpenVINO's search by content takes these for a model of PaddlePaddle."""
        x = np.array([1, 2], np.float32)
        context = backend_graph("onnx", before + doubling()).create_context()
        np.testing.assert_array_equal(run(context, x), x + x)

    def test_xml_after_white_space(self, tmp_path: Path) -> None:
        path = save_ir(tmp_path)
        xml = b"\xef\xbb\xbf \r\n\t" + path.read_bytes()
        graph = backend_graph("openvino", xml, path.with_suffix(".bin").read_bytes())
        assert graph.inputs[0].shape == (None, 5)
