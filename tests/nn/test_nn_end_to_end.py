"""WASI-NN with a real guest on the real engine: compiled C, ONNX Runtime, no stand-ins."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.backends.onnx_models import doubling, endless_loop, matmul
from wasinn_backends.null import NullBackend
from wasinn_backends.onnx import OnnxBackend
from wasinn_host.host import Guest, Host
from wasinn_host.nn import NnLimits, Target
from wasinn_runtime import Interrupted, Module

PROBE = Path(__file__).with_name("guests") / "probe.wasm"

ARITIES = {
    "load": 5,
    "load_by_name": 3,
    "init_execution_context": 2,
    "set_input": 3,
    "compute": 1,
    "get_output": 5,
}


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    made = Host(
        nn_limits=NnLimits(graphs=8, contexts=8),
        backend_options={"onnx": {"threads": "1"}},
    )
    made.graphs.backends.add("onnx", OnnxBackend)
    made.graphs.backends.add("null", NullBackend)
    made.graphs.register("echo", "null", Target.CPU, builders=[b""])
    yield made
    made.graphs.close()
    made.graphs.backends.close()


@pytest.fixture(scope="module")
def probe(host: Host) -> Module:
    return host.load(PROBE)


@pytest.fixture
def guest(host: Host, probe: Module) -> Iterator[Guest]:
    with host.open(probe) as opened:
        yield opened


def _address(guest: Guest, what: str) -> int:
    address = guest.call(what)
    assert isinstance(address, int)
    return address


def _open(guest: Guest, model: bytes) -> object:
    guest.memory.write(_address(guest, "arena"), model)
    return guest.call("open_model", len(model))


def _infer(guest: Guest, x: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> object:
    guest.memory.write(_address(guest, "input"), x.tobytes())
    return guest.call("infer", x.shape[0], x.shape[1], 1)


def _output(guest: Guest) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    written = _address(guest, "written")
    return np.frombuffer(guest.memory.read(_address(guest, "output"), written), np.float32)


def test_a_compiled_guest_asks_a_model(guest: Guest) -> None:
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    assert _open(guest, matmul(weight)) == 0
    for rows in (1, 3):
        x = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
        assert _infer(guest, x) == 0
        np.testing.assert_allclose(_output(guest).reshape(rows, 3), x @ weight)


def test_errors_reach_the_guest_as_numbers(guest: Guest) -> None:
    assert _open(guest, b"no model at all") == 2
    assert _infer(guest, np.zeros((1, 4), np.float32)) == 1
    assert _open(guest, matmul(np.ones((4, 3), np.float32))) == 0
    assert _infer(guest, np.zeros((1, 5), np.float32)) == 1


def test_output_larger_than_the_guests_buffer(guest: Guest) -> None:
    assert _open(guest, matmul(np.ones((1, 5000), np.float32))) == 0
    assert _infer(guest, np.zeros((1, 1), np.float32)) == 7
    assert guest.call("written") == 20_000


def test_a_deadline_ends_a_compute_that_never_would(guest: Guest) -> None:
    assert _open(guest, endless_loop((1, 1))) == 0
    with pytest.raises(Interrupted), guest.store.deadline(0.3):
        _infer(guest, np.ones((1, 1), np.float32))


def test_guests_share_a_named_graph_and_not_their_handles(host: Host, probe: Module) -> None:
    with host.open(probe) as first, host.open(probe) as second:
        handles = []
        for guest in (first, second):
            arena = _address(guest, "arena")
            guest.memory.write(arena, b"echo")
            assert guest.call("load_by_name", arena, 4, arena + 8) == 0
            handles.append(guest.memory.read_u32(arena + 8))
        arena = _address(second, "arena")
        assert second.call("init_execution_context", handles[0], arena) == 1
        assert second.call("init_execution_context", handles[1], arena) == 0


def test_guests_in_threads(host: Host, probe: Module) -> None:
    failures: list[object] = []

    def work(seed: int) -> None:
        weight = np.full((4, 3), seed, np.float32)
        with host.open(probe) as guest:
            if _open(guest, matmul(weight)) != 0:
                failures.append("open")
                return
            for step in range(20):
                x = np.full((2, 4), step, np.float32)
                if _infer(guest, x) != 0 or not np.array_equal(
                    _output(guest).reshape(2, 3), x @ weight
                ):
                    failures.append((seed, step))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_tracing_through_the_host(host: Host, probe: Module) -> None:
    lines: list[str] = []
    with host.open(probe, trace_nn=lines.append) as guest:
        assert _open(guest, doubling()) == 0
    assert [line.split("(")[0] for line in lines] == [
        "wasi_ephemeral_nn.load",
        "wasi_ephemeral_nn.init_execution_context",
    ]


def test_closing_the_guest_gives_everything_back(host: Host, probe: Module) -> None:
    guest = host.open(probe)
    assert _open(guest, doubling()) == 0
    assert guest.nn is not None
    assert guest.nn.model_bytes == len(doubling())
    guest.close()
    assert guest.nn.model_bytes == 0


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_number_makes_a_call_trap(guest: Guest, data: st.DataObject) -> None:
    size = guest.memory.byte_length
    arena = _address(guest, "arena")
    guest.memory.write(arena, struct.pack("<IIII", arena, 4, arena, 4) + b"echo")
    arguments = st.one_of(
        st.integers(0, 0xFFFF_FFFF),
        st.integers(0, 6),
        st.integers(arena, arena + 64),
        st.integers(size - 24, size + 4),
        st.sampled_from([0xFFFF_FFFF, 0x8000_0000, 0xFFFF_FFEC]),
    )
    name = data.draw(st.sampled_from(sorted(ARITIES)))
    args = [data.draw(arguments) for _ in range(ARITIES[name])]
    errno = guest.call(name, *[a - (1 << 32) if a >= 1 << 31 else a for a in args])
    assert isinstance(errno, int)
    assert 0 <= errno <= 8
