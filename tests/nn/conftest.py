"""Hosts for the tests of WASI-NN: registries with the null backend, closed afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.nn.recording_backend import RecordingBackend
from wasinn_backends.null import NullBackend
from wasinn_host.nn import BackendRegistry, GraphRegistry


@pytest.fixture
def null_graphs() -> Iterator[GraphRegistry]:
    """The null backend, to which ONNX models are routed."""
    backends = BackendRegistry(routes={"onnx": "null"}, discover=False)
    backends.add("null", NullBackend)
    graphs = GraphRegistry(backends)
    yield graphs
    graphs.close()
    backends.close()


@pytest.fixture
def recording() -> Iterator[GraphRegistry]:
    """The recording backend alone; `RecordingBackend.made[-1]` once something was loaded."""
    RecordingBackend.made.clear()
    backends = BackendRegistry(discover=False)
    backends.add("recording", RecordingBackend)
    graphs = GraphRegistry(backends)
    yield graphs
    graphs.close()
    backends.close()
