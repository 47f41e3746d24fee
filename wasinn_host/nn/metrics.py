"""Metrics: what guests ask of each graph, for Prometheus and as JSON. It wraps graphs and knows no
backend.

| metric | type | what |
|---|---|---|
| `wasinn_nn_loads` | counter | graphs loaded |
| `wasinn_nn_load_seconds` | histogram | how long loading took |
| `wasinn_nn_contexts` | gauge | execution contexts that are open |
| `wasinn_nn_computes` | counter | computations, by `result`: `ok` or the kind of error |
| `wasinn_nn_compute_seconds` | histogram | how long those took that succeeded |
| `wasinn_nn_input_bytes` | counter | bytes of input tensors |
| `wasinn_nn_output_bytes` | counter | bytes of output tensors that were asked for |

Each has the labels `graph` (its name, empty for a guest's own), `encoding`, `backend`, `device`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.plugin import (
    Cancellable,
    ExecutionContext,
    Graph,
    Streaming,
    Tensor,
    TensorSpec,
)
from wasinn_runtime.errors import UsageError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from wasinn_host.nn.discovery import LoadedGraph

__all__ = ["NnMetrics"]

_LABELS: Final = ("graph", "encoding", "backend", "device")
# From a small model on a fast device to a large one on a slow one.
_BUCKETS: Final = tuple(base * 10.0**power for power in range(-5, 2) for base in (1, 2.5, 5))
_SCHEMA: Final = "wasinn-nn-metrics-1"


class NnMetrics:
    """Counters and histograms of a host's graphs. Safe between threads.

    Args:
        registry: where they are registered; one of their own by default.

    Raises:
        UsageError: the package ``prometheus-client`` is not installed.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        except ImportError as error:
            raise UsageError(
                "metrics need the package prometheus-client: pip install 'wasinn-host[metrics]'"
            ) from error
        self.registry = registry = registry or CollectorRegistry()

        def metric(kind: Any, name: str, what: str, *labels: str, **options: Any) -> Any:
            return kind(
                f"wasinn_nn_{name}", what, (*_LABELS, *labels), registry=registry, **options
            )

        self.loads = metric(Counter, "loads", "Graphs loaded")
        self.load_seconds = metric(
            Histogram, "load_seconds", "Time to load a graph", buckets=_BUCKETS
        )
        self.contexts = metric(Gauge, "contexts", "Execution contexts that are open")
        self.computes = metric(Counter, "computes", "Computations", "result")
        self.compute_seconds = metric(
            Histogram, "compute_seconds", "Time of a computation that succeeded", buckets=_BUCKETS
        )
        self.input_bytes = metric(Counter, "input_bytes", "Bytes of input tensors")
        self.output_bytes = metric(Counter, "output_bytes", "Bytes of output tensors asked for")

    def measured(self, loaded: LoadedGraph, name: str, seconds: float) -> Graph:
        """The graph, with its computations counted.

        Args:
            loaded: the graph and where it went.
            name: what guests call it; empty for a guest's own.
            seconds: how long loading it took.
        """
        labels = (name, loaded.encoding, loaded.backend, loaded.device.id)
        self.loads.labels(*labels).inc()
        self.load_seconds.labels(*labels).observe(seconds)
        return _MeasuredGraph(loaded.graph, self, labels)

    def text(self) -> str:
        """All of it in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry).decode()

    def as_json(self) -> dict[str, Any]:
        """All of it as a document that JSON can hold: a row for each metric and its labels."""
        rows = [
            {"name": sample.name, "labels": dict(sample.labels), "value": sample.value}
            for metric in self.registry.collect()
            for sample in metric.samples
            if not sample.name.endswith("_created")
        ]
        return {"schema": _SCHEMA, "samples": rows}

    def write(self, path: str) -> None:
        """Writes all of it to a file: JSON if its name ends so, else Prometheus' text.

        Raises:
            OSError: the file can not be written.
        """
        if path.endswith(".json"):
            import json

            text = json.dumps(self.as_json(), indent=2) + "\n"
        else:
            text = self.text()
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


class _MeasuredGraph(Graph):
    def __init__(self, graph: Graph, metrics: NnMetrics, labels: tuple[str, ...]) -> None:
        self._graph = graph
        self._metrics = metrics
        self._labels = labels

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._graph.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._graph.outputs

    def create_context(self) -> ExecutionContext:
        context = self._graph.create_context()
        if isinstance(context, Streaming):
            return _MeasuredStream(context, context, self._metrics, self._labels)
        return _MeasuredContext(context, self._metrics, self._labels)

    def close(self) -> None:
        self._graph.close()


class _MeasuredContext(ExecutionContext):
    def __init__(
        self, context: ExecutionContext, metrics: NnMetrics, labels: tuple[str, ...]
    ) -> None:
        self._context = context
        self._computes = metrics.computes
        self._labels = labels
        self._ok = metrics.computes.labels(*labels, "ok")
        self._seconds = metrics.compute_seconds.labels(*labels)
        self._in = metrics.input_bytes.labels(*labels)
        self._out = metrics.output_bytes.labels(*labels)
        self._open = metrics.contexts.labels(*labels)
        self._open.inc()

    def set_input(self, index: int, tensor: Tensor) -> None:
        self._context.set_input(index, tensor)
        self._in.inc(tensor.data.nbytes)

    def compute(self) -> None:
        self._measure(self._context.compute)

    def _measure(self, compute: Callable[[], None]) -> None:
        began = time.perf_counter()
        try:
            compute()
        except Exception as error:
            kind = error.kind if isinstance(error, WasiNnError) else ErrorKind.RUNTIME_ERROR
            self._computes.labels(*self._labels, kind.value).inc()
            raise
        self._seconds.observe(time.perf_counter() - began)
        self._ok.inc()

    def get_output(self, index: int) -> Tensor:
        tensor = self._context.get_output(index)
        self._out.inc(tensor.data.nbytes)
        return tensor

    def cancel(self) -> None:
        if isinstance(self._context, Cancellable):
            self._context.cancel()

    def close(self) -> None:
        self._open.dec()
        self._context.close()


class _MeasuredStream(_MeasuredContext):
    """Each piece counts as a computation, and its end as one with that result."""

    def __init__(
        self,
        context: ExecutionContext,
        stream: Streaming,
        metrics: NnMetrics,
        labels: tuple[str, ...],
    ) -> None:
        super().__init__(context, metrics, labels)
        self._stream = stream

    def compute_single(self) -> None:
        self._measure(self._stream.compute_single)

    def get_output_single(self, index: int) -> Tensor:
        tensor = self._stream.get_output_single(index)
        self._out.inc(tensor.data.nbytes)
        return tensor

    def fini_single(self) -> None:
        self._stream.fini_single()
