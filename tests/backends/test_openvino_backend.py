"""The OpenVINO backend against real models: its own XML and ONNX, on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper

from tests.backends.compiled_guest import ask
from tests.backends.onnx_models import DTYPES, ONNX_TYPES, doubling, matmul, model_of, value
from tests.backends.openvino_models import (
    WEIGHT,
    backend_graph,
    ops,
    ov,
    run,
    save_ir,
    tensor_of,
)
from wasinn_backends.onnx import OnnxBackend
from wasinn_backends.openvino import OpenVinoBackend
from wasinn_backends.openvino_preflight import MAX_DEPTH
from wasinn_host.nn import BackendRegistry, TensorType
from wasinn_host.nn.conformance import Outcome, check_backend
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.plugin import ModelSource, Target
from wasinn_host.nn.routing import DeviceRule

RANDOM = np.random.default_rng(7)


def test_the_conformance_kit() -> None:
    results = list(check_backend("wasinn_backends.openvino:OpenVinoBackend"))
    assert [(r.name, r.why) for r in results if r.outcome is Outcome.FAILED] == []
    assert sum(r.outcome is Outcome.PASSED for r in results) >= 16


@pytest.fixture
def ir(tmp_path: Path) -> tuple[bytes, bytes]:
    path = save_ir(tmp_path)
    return path.read_bytes(), path.with_suffix(".bin").read_bytes()


def test_ir_of_two_parts_with_several_batch_sizes(ir: tuple[bytes, bytes]) -> None:
    context = backend_graph("openvino", *ir).create_context()
    for batch in (1, 4, 2, 2):
        x = RANDOM.standard_normal((batch, 5)).astype(np.float32)
        np.testing.assert_allclose(run(context, x), x @ WEIGHT, rtol=1e-5, atol=1e-6)


def test_ir_from_the_hosts_file(tmp_path: Path) -> None:
    backend = OpenVinoBackend({})
    graph = backend.load(ModelSource("openvino", paths=(save_ir(tmp_path),)), backend.devices()[0])
    x = np.ones((2, 5), np.float32)
    np.testing.assert_allclose(run(graph.create_context(), x), x @ WEIGHT, rtol=1e-5, atol=1e-6)


def test_ir_without_weights_in_one_part(tmp_path: Path) -> None:
    x = ops.parameter([-1], np.float32, name="x")
    ov.serialize(ov.Model([ops.add(x, x)], [x], "double"), tmp_path / "m.xml", tmp_path / "m.bin")
    context = backend_graph("openvino", (tmp_path / "m.xml").read_bytes()).create_context()
    np.testing.assert_array_equal(run(context, np.array([1, 2], np.float32)), [2, 4])


def test_onnx_as_onnx_runtime_does() -> None:
    model = matmul(WEIGHT)
    x = RANDOM.standard_normal((4, 5)).astype(np.float32)
    want = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    graph = backend_graph("onnx", model)
    assert graph.inputs[0].shape == (None, 5)
    assert graph.inputs[0].name == "x"
    np.testing.assert_allclose(run(graph.create_context(), x), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("rules", "name"), [((), "onnx"), (("onnx:cpu=openvino",), "openvino")])
def test_onnx_models_go_to_onnx_runtime_unless_the_user_says_so(
    rules: tuple[str, ...], name: str
) -> None:
    backends = BackendRegistry(discover=False, rules=[DeviceRule.parse(rule) for rule in rules])
    backends.add("openvino", OpenVinoBackend)
    backends.add("onnx", OnnxBackend)
    try:
        assert backends.load(ModelSource("onnx", (doubling(),)), Target.CPU).backend == name
    finally:
        backends.close()


@pytest.mark.parametrize("tensor_type", ONNX_TYPES, ids=lambda t: t.value)
def test_every_type(tensor_type: TensorType) -> None:
    context = backend_graph("onnx", doubling(ONNX_TYPES[tensor_type])).create_context()
    x = RANDOM.integers(0, 100, 3).astype(DTYPES[tensor_type])
    y = run(context, x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, x + x)


def test_contexts_of_one_graph_keep_apart_in_threads() -> None:
    graph = backend_graph("onnx", doubling())
    found: dict[int, bool] = {}

    def work(number: int) -> None:
        context = graph.create_context()
        x = np.full(1000, number, np.float32)
        found[number] = all(bool((run(context, x) == 2 * number).all()) for _ in range(50))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == dict.fromkeys(range(4), True)


def refused(encoding: str, *parts: bytes) -> WasiNnError:
    with pytest.raises(WasiNnError) as caught:
        backend_graph(encoding, *parts)
    return caught.value


class TestModelsThatAreRefused:
    def test_document_type(self, ir: tuple[bytes, bytes]) -> None:
        body = ir[0].split(b"?>", 1)[1]
        error = refused("openvino", b'<!DOCTYPE net [<!ENTITY a "b">]>' + body, ir[1])
        assert "document type" in str(error)

    def test_constant_outside_of_the_weights(self, ir: tuple[bytes, bytes]) -> None:
        assert "lies outside of the 59 bytes" in str(refused("openvino", ir[0], ir[1][:-1]))

    def test_constant_without_a_place(self, ir: tuple[bytes, bytes]) -> None:
        xml = ir[0].replace(b" offset=", b" offzet=")
        assert "does not say its offset" in str(refused("openvino", xml, ir[1]))

    def test_xml_in_another_encoding_than_it_is_looked_at_in(self, ir: tuple[bytes, bytes]) -> None:
        for encoding in ("utf-16", "utf-16-le", "utf-32"):
            error = refused("openvino", ir[0].decode().encode(encoding), ir[1])
            assert "no OpenVINO XML" in str(error)

    def test_deep_nesting(self) -> None:
        deep = b"<net>" + b"<a>" * MAX_DEPTH + b"</a>" * MAX_DEPTH + b"</net>"
        assert refused("openvino", deep, b"").kind is ErrorKind.TOO_LARGE

    @pytest.mark.parametrize("xml", [b"", b"garbage", b"<net>", b"<html/>", b"<net/>"])
    def test_what_is_no_model(self, xml: bytes) -> None:
        assert refused("openvino", xml, b"").kind is ErrorKind.INVALID_ENCODING

    def test_number_of_parts(self, ir: tuple[bytes, bytes]) -> None:
        error = refused("openvino", *ir, b"")
        assert error.kind is ErrorKind.INVALID_ARGUMENT
        assert "two parts" in str(error)
        assert "outside of the 0 bytes of weights" in str(refused("openvino", ir[0]))
        assert "one part, got 2" in str(refused("onnx", b"", b""))

    def test_xml_that_says_it_is_onnx(self, ir: tuple[bytes, bytes]) -> None:
        refused("onnx", ir[0])


class TestMisuse:
    def test_order_and_indices(self) -> None:
        context = backend_graph("onnx", doubling()).create_context()
        x = tensor_of(np.ones(3, np.float32))
        with pytest.raises(WasiNnError, match="none before compute"):
            context.get_output(0)
        with pytest.raises(WasiNnError, match=r"not set: input 0 \(x\)"):
            context.compute()
        with pytest.raises(WasiNnError, match="the model has 1 inputs"):
            context.set_input(1, x)
        context.set_input(0, x)
        context.compute()
        with pytest.raises(WasiNnError, match="the model has 1 outputs"):
            context.get_output(1)

    @pytest.mark.parametrize("options", [{"threads": "many"}, {"hint": "fast"}], ids=str)
    def test_options(self, options: dict[str, str]) -> None:
        with pytest.raises(WasiNnError, match="expected"):
            OpenVinoBackend(options)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str], ir: tuple[bytes, bytes]) -> None:
    run(backend_graph("openvino", *ir).create_context(), np.ones((1, 5), np.float32))
    refused("openvino", b"<net/>", b"")
    assert capfd.readouterr() == ("", "")


def test_cancel_ends_a_computation_between_nodes() -> None:
    count, shape = 300, [1000, 1000]  # several seconds of one processor
    nodes = [helper.make_node("MatMul", [f"t{i}", "w"], [f"t{i + 1}"]) for i in range(count)]
    weights = {"w": np.eye(1000, dtype=np.float32)}
    model = model_of(nodes, [value("t0", shape)], [value(f"t{count}", shape)], weights)
    context = backend_graph("onnx", model).create_context()
    context.set_input(0, tensor_of(np.ones(shape, np.float32)))
    timer = threading.Timer(0.3, context.cancel)  # type: ignore[attr-defined]
    timer.start()
    start = time.monotonic()
    with pytest.raises(WasiNnError, match="canceled"):
        context.compute()
    assert time.monotonic() - start < 3
    timer.join()


IMPORTING = """
import socket, sys
sys.addaudithook(lambda event, _: event.startswith("socket.") and print(event))
import wasinn_backends.openvino as backend
backend.OpenVinoBackend({}).devices()
print([name for name in sys.modules if name.startswith("openvino_telemetry")])
"""


def test_no_telemetry(tmp_path: Path) -> None:
    """Nothing of OpenVINO's own goes to the network or into the home folder."""
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == "[]\n", done.stderr
    assert not (tmp_path / "intel").exists()


def test_a_compiled_guest_asks_a_model(ir: tuple[bytes, bytes]) -> None:
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    y = ask(OpenVinoBackend, "openvino", ir, x, (2, 3))
    np.testing.assert_allclose(y, x @ WEIGHT, rtol=1e-5, atol=1e-6)
