"""Backends in a process of their own: they answer as they would here, and take nothing down."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nn import isolated_backends
from tests.nn.fake_guest import FakeInterrupt, Guest
from tests.nn.wrong_backends import MODEL
from wasinn_host.nn import (
    BackendRegistry,
    GraphRegistry,
    NnContext,
    Target,
    TensorType,
    WasiNnError,
)
from wasinn_host.nn.conformance import Outcome, check_backend
from wasinn_host.nn.isolation.shared_memory import SharedMemory
from wasinn_host.nn.plugin import Backend, ModelSource, Tensor


@pytest.fixture
def graphs(request: pytest.FixtureRequest) -> Iterator[GraphRegistry]:
    """The isolated backend of the test's parameter, `Faulty` without one, under ``double``."""
    cls: type[Backend] = getattr(isolated_backends, getattr(request, "param", "Faulty"))
    backends = BackendRegistry(discover=False, isolate=True)
    backends.add("double", cls)
    made = GraphRegistry(backends)
    made.register("double", "double", Target.CPU, builders=[MODEL])
    yield made
    made.close()
    backends.close()


def opened(guest: Guest) -> int:
    assert guest.load_by_name(b"double") == 0, guest.error()
    assert guest.init(guest.result) == 0, guest.error()
    return guest.result


def asked(guest: Guest, context: int, data: bytes) -> int:
    status = guest.set_input(context, 0, TensorType.U8, (2, len(data) // 2), data)
    return status or guest.compute(context)


@pytest.mark.parametrize("name", ["IsolatedNull", "IsolatedOnnx"])
def test_it_keeps_the_contract(name: str) -> None:
    results = list(check_backend(f"tests.nn.isolated_backends:{name}"))
    assert [(r.name, r.why) for r in results if r.outcome is Outcome.FAILED] == []


def test_sizes_grow_and_shrink(graphs: GraphRegistry) -> None:
    guest = Guest(NnContext(graphs))
    context = opened(guest)
    for size in (2, 40_000, 2, 0, 100_000, 60):
        data = bytes(9 for _ in range(size))
        assert asked(guest, context, data) == 0, guest.error()
        assert guest.get_output(context, 0, size) == (0, bytes(18 for _ in data))
    guest.codec.context.close()


def test_a_crash_is_an_error_and_the_next_call_gets_a_new_process(graphs: GraphRegistry) -> None:
    guest, other = Guest(NnContext(graphs)), Guest(NnContext(graphs))
    context, others = opened(guest), opened(other)
    assert asked(other, others, b"ab") == 0
    assert asked(guest, context, b"\1b") == 5
    assert "its process was ended by SIGSEGV; it is started again" in guest.error()
    # The other guest's context went along, and what it had computed.
    assert other.compute(others) == 5
    assert "its process" in other.error()
    assert other.get_output(others, 0, 2)[0] == 5
    for each, handle in ((guest, context), (other, others)):
        assert each.compute(handle) == 5
        assert "set its inputs again" in each.error()
        assert asked(each, handle, b"ab") == 0, each.error()
        assert each.get_output(handle, 0, 2) == (0, bytes([2 * ord("a"), 2 * ord("b")]))
        each.codec.context.close()


@pytest.mark.parametrize("hang", [b"\2b", b"\3b"])
def test_a_deadline_ends_what_can_not_be_cancelled(graphs: GraphRegistry, hang: bytes) -> None:
    interrupt = FakeInterrupt()
    guest = Guest(NnContext(graphs), interrupt=interrupt)
    context = opened(guest)
    began = time.monotonic()
    timer = threading.Timer(0.2, interrupt.set)
    timer.start()
    assert asked(guest, context, hang) == 5
    assert time.monotonic() - began < 10
    assert "its process was ended by SIGKILL" in guest.error()
    interrupt.clear()
    assert asked(guest, context, b"ab") == 0, guest.error()
    guest.codec.context.close()
    interrupt.close()


def test_contexts_compute_at_the_same_time(graphs: GraphRegistry) -> None:
    guest = Guest(NnContext(graphs))
    contexts = [opened(guest) for _ in range(4)]
    for context in contexts:
        assert guest.set_input(context, 0, TensorType.U8, (2, 1), b"\4b") == 0
    core = guest.codec.context
    threads = [threading.Thread(target=core.compute, args=(context,)) for context in contexts]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 0.9  # 1.2 s one after the other
    for context in contexts:
        assert guest.get_output(context, 0, 2) == (0, bytes([8, 2 * ord("b")]))
    core.close()


@pytest.mark.parametrize(
    ("graphs", "status", "why"),
    [
        ("EndsOnLoad", 5, "its process was ended by SIGABRT"),
        ("EndsOnImport", 2, "its process ended with status 3 while it was opened"),
        ("EndsOnClose", 0, ""),
    ],
    indirect=["graphs"],
)
def test_faults_elsewhere(graphs: GraphRegistry, status: int, why: str) -> None:
    guest = Guest(NnContext(graphs))
    assert guest.load_by_name(b"double") == status, guest.error()
    if why:
        assert why in guest.error()
    guest.codec.context.close()


def test_nothing_is_left_behind(graphs: GraphRegistry) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    guest = Guest(NnContext(graphs))
    counts = []
    for _ in range(3):
        for number in range(10):
            context = opened(guest)
            assert asked(guest, context, b"ab" * (number + 1)) == 0
            guest.rewind()
            guest.codec.context.finalize_execution_context(context)
        counts.append(descriptors())
    assert counts[1] <= counts[0]
    assert counts[2] <= counts[0]
    process = graphs.backends._all()[0].backend.process()  # type: ignore[union-attr]
    guest.codec.context.close()
    graphs.close()
    graphs.backends.close()
    deadline = time.monotonic() + 10
    while not process.has_ended and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.has_ended


def test_memory_that_could_shrink_is_refused() -> None:
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4096)
    with pytest.raises(ValueError, match="may shrink"):
        SharedMemory.attach(fd)
    shared = SharedMemory.create(4096)
    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(shared.fd, 0)
    shared.close()


def test_a_real_guest_through_the_host(tmp_path: Path) -> None:
    import numpy as np

    from tests.backends.onnx_models import matmul
    from tests.nn.test_nn_end_to_end import PROBE, _infer, _open, _output
    from wasinn_host.host import Host

    weights = np.array([[1, 2], [3, 4]], np.float32)
    with Host(isolate_backends=True) as host, host.open(host.load(PROBE)) as guest:
        assert _open(guest, matmul(weights)) == 0
        x = np.array([[1, 0], [0, 1]], np.float32)
        assert _infer(guest, x) == 0
        assert _output(guest).tolist() == (x @ weights).reshape(-1).tolist()


def _where(backends: BackendRegistry, source: ModelSource) -> int:
    """The process that computes with a model of `Careful`."""
    graph = backends.load(source, Target.CPU).graph
    context = graph.create_context()
    context.set_input(0, Tensor(TensorType.U8, (2, 1), memoryview(b"ab")))
    context.compute()
    computed_in = int(bytes(context.get_output(0).data))
    context.close()
    graph.close()
    return computed_in


def test_a_backend_that_isolates_guests(tmp_path: Path) -> None:
    backends = BackendRegistry(discover=False)
    backends.add("double", isolated_backends.Careful)
    of_guest = ModelSource("double", builders=(MODEL,))
    first = _where(backends, of_guest)
    assert first != os.getpid()
    assert _where(backends, of_guest) == first
    assert _where(backends, ModelSource("double", paths=(tmp_path / "model",))) == os.getpid()
    with pytest.raises(WasiNnError, match="its process was ended by SIGABRT"):
        backends.load(ModelSource("double", builders=(b"END",)), Target.CPU)
    again = _where(backends, of_guest)
    assert again not in (first, os.getpid())
    backends.close()
    with pytest.raises(ProcessLookupError):
        os.kill(again, 0)


def test_isolated_backends_isolate_guests_once(tmp_path: Path) -> None:
    backends = BackendRegistry(discover=False, isolate=True)
    backends.add("double", isolated_backends.Careful)
    of_guest = _where(backends, ModelSource("double", builders=(MODEL,)))
    assert of_guest != os.getpid()
    assert _where(backends, ModelSource("double", paths=(tmp_path / "model",))) == of_guest
    backends.close()
