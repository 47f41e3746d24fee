"""Metrics: each call is counted, with the labels of its graph, and can be read by Prometheus."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.nn.fake_guest import Guest
from wasinn_backends.null import NullBackend
from wasinn_host.nn import BackendRegistry, GraphRegistry, NnContext, Target, TensorType
from wasinn_host.nn.metrics import NnMetrics

ECHO = {"graph": "echo", "encoding": "null", "backend": "null", "device": "null"}


@pytest.fixture
def metrics() -> NnMetrics:
    """Of one guest: three inferences on a named graph, one that fails on a graph of its own."""
    made = NnMetrics()
    backends = BackendRegistry(routes={"onnx": "null"}, discover=False)
    backends.add("null", NullBackend)
    graphs = GraphRegistry(backends, metrics=made)
    graphs.register("echo", "null", Target.CPU, builders=[b"{}"])
    guest = Guest(NnContext(graphs))
    assert guest.load_by_name(b"echo") == 0
    assert guest.init(guest.result) == 0
    context = guest.result
    for _ in range(3):
        assert guest.set_input(context, 0, TensorType.U8, (4,), b"abcd") == 0
        assert guest.compute(context) == 0
        assert guest.get_output(context, 0, 4) == (0, b"abcd")
    assert guest.compute(guest.open(b'{"fault": "compute"}')) == 5
    guest.codec.context.finalize_execution_context(context)
    return made


def test_each_call_is_counted(metrics: NnMetrics) -> None:
    found = {
        (sample.name, sample.labels["graph"], sample.labels.get("result", "")): sample.value
        for family in text_string_to_metric_families(metrics.text())
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }
    seconds = found.pop(("wasinn_nn_compute_seconds_sum", "echo", ""))
    assert 0 < seconds < 1
    assert found.pop(("wasinn_nn_load_seconds_sum", "echo", "")) > 0
    assert found.pop(("wasinn_nn_load_seconds_sum", "", "")) > 0
    assert found == {
        ("wasinn_nn_loads_total", "echo", ""): 1,
        ("wasinn_nn_loads_total", "", ""): 1,
        ("wasinn_nn_load_seconds_count", "echo", ""): 1,
        ("wasinn_nn_load_seconds_count", "", ""): 1,
        ("wasinn_nn_contexts", "echo", ""): 0,
        ("wasinn_nn_contexts", "", ""): 1,
        ("wasinn_nn_computes_total", "echo", "ok"): 3,
        ("wasinn_nn_computes_total", "", "ok"): 0,
        ("wasinn_nn_computes_total", "", "runtime_error"): 1,
        ("wasinn_nn_compute_seconds_count", "echo", ""): 3,
        ("wasinn_nn_compute_seconds_count", "", ""): 0,
        ("wasinn_nn_compute_seconds_sum", "", ""): 0,
        ("wasinn_nn_input_bytes_total", "echo", ""): 12,
        ("wasinn_nn_input_bytes_total", "", ""): 0,
        ("wasinn_nn_output_bytes_total", "echo", ""): 12,
        ("wasinn_nn_output_bytes_total", "", ""): 0,
    }


def test_as_json(metrics: NnMetrics, tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    metrics.write(str(file))
    document = json.loads(file.read_text())
    assert document["schema"] == "wasinn-nn-metrics-1"
    assert {"name": "wasinn_nn_loads_total", "labels": ECHO, "value": 1.0} in document["samples"]


def test_as_text(metrics: NnMetrics, tmp_path: Path) -> None:
    file = tmp_path / "metrics.prom"
    metrics.write(str(file))
    assert file.read_text() == metrics.text()
    assert "# TYPE wasinn_nn_compute_seconds histogram" in metrics.text()
