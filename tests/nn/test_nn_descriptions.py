"""The addition ``wasinn_nn``: what a graph says of its inputs and outputs, to a compiled guest."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from onnx import TensorProto

from tests.backends.onnx_models import doubling
from tests.nn.recording_backend import RecordingBackend, RecordingGraph
from wasinn_host.host import Guest, Host
from wasinn_host.nn.plugin import Device, Graph, ModelSource, Target, TensorSpec, TensorType
from wasinn_runtime.engines.engine import Config
from wasinn_runtime.engines.modes import MODES

DESCRIBE = Path(__file__).with_name("guests") / "describe.wasm"
OPEN = 0xFFFF_FFFF


class TellingGraph(RecordingGraph):
    SPECS: ClassVar[tuple[TensorSpec, ...]] = (
        TensorSpec("größe", TensorType.I32, (None, 4, 2**40)),
        TensorSpec("", None, None, "string"),
        TensorSpec("scalar", TensorType.BF16, ()),
    )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.SPECS


class TellingBackend(RecordingBackend):
    encodings = frozenset({"telling"})

    def load(self, source: ModelSource, device: Device) -> Graph:
        if source.read()[0] == b"broken":
            return BrokenGraph(self.events)
        return TellingGraph(self.events)


class BrokenGraph(RecordingGraph):
    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        raise ValueError("no outputs today")


@pytest.fixture(params=MODES)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with Host(Config(mode=request.param)) as made:
        made.backends.add("telling", TellingBackend)
        for name, parts in (("telling", b"x"), ("broken", b"broken")):
            made.graphs.register(name, "telling", Target.CPU, builders=[parts])
        model = doubling(TensorProto.INT64, ("batch", 3))
        made.graphs.register("doubling", "onnx", Target.CPU, builders=[model])
        yield made


def opened(guest: Guest, name: str) -> Guest:
    where = guest.call("name")
    assert isinstance(where, int)
    guest.memory.write(where, name.encode())
    assert guest.call("open", len(name)) == 0, guest.last_nn_error
    return guest


def described(guest: Guest) -> tuple[str, int, list[int] | None]:
    """Name, type and dimensions of what the guest was told last."""
    at = guest.call("told")
    assert isinstance(at, int)
    dims, rank, code, pad, name, size = struct.unpack("<IIB3sII", guest.memory.read(at, 20))
    assert pad == b"\0\0\0"
    sizes = None if rank == OPEN else struct.unpack(f"<{rank}I", guest.memory.read(dims, 4 * rank))
    return guest.memory.read(name, size).decode(), code, None if sizes is None else list(sizes)


def test_a_guest_computes_with_a_model_that_it_never_saw(host: Host) -> None:
    with host.open(DESCRIBE) as guest:
        opened(guest, "doubling")
        assert (guest.call("count", 0), guest.call("count", 1)) == (1, 1)
        assert guest.call("describe", 1, 0, 256) == 0
        assert described(guest) == ("y", 5, [OPEN, 3])
        assert guest.call("run") == 0, guest.last_nn_error


def test_everything_that_a_graph_can_say(host: Host) -> None:
    with host.open(DESCRIBE) as guest:
        opened(guest, "telling")
        assert guest.call("count", 0) == 3
        told = []
        for index in range(3):
            assert guest.call("describe", 0, index, 256) == 0
            told.append(described(guest))
        # A size beyond 32 bits is told as open, and bf16 has a number in wit only.
        assert told == [("größe", 4, [OPEN, 4, OPEN]), ("", 255, None), ("scalar", 255, [])]
    with host.open(DESCRIBE, nn_abi="wit") as guest:
        assert opened(guest, "telling").call("describe", 0, 2, 256) == 0
        assert described(guest) == ("scalar", 3, [])


def test_a_small_buffer_gets_the_needed_size_and_nothing_else(host: Host) -> None:
    with host.open(DESCRIBE) as guest:
        opened(guest, "telling")
        needed = 3 * 4 + len("größe".encode())
        assert guest.call("describe", 0, 0, needed - 1) == 7
        assert guest.call("needed") == needed
        assert described(guest) == ("", 0, [])
        assert guest.call("describe", 0, 0, needed) == 0


def test_misuse_is_answered(host: Host) -> None:
    with host.open(DESCRIBE) as guest:
        assert guest.call("count", 0) == -1  # no graph yet
        opened(guest, "telling")
        assert guest.call("describe", 0, 3, 256) == 1
        assert "input 3: the graph has 3" in str(guest.last_nn_error)
        assert guest.call("describe", 0, 0, OPEN) == 1
        assert "bad pointer" in str(guest.last_nn_error)


def test_a_backend_that_fails_to_tell_is_an_error_of_the_call(host: Host) -> None:
    with host.open(DESCRIBE) as guest:
        opened(guest, "broken")
        assert guest.call("count", 1) == -5
        assert "no outputs today" in str(guest.last_nn_error)


@pytest.mark.slow
def test_the_rebuilt_guest_does_the_same(tmp_path: Path) -> None:
    rebuilt = tmp_path / "describe.wasm"
    flags = "-target wasm32-freestanding -O2 -nostdlib -Wl,--no-entry -Wl,--strip-all -mcpu=generic"
    source = str(DESCRIBE.with_suffix(".c"))
    command = [sys.executable, "-m", "ziglang", "cc", *flags.split(), source, "-o", str(rebuilt)]
    subprocess.run(command, check=True, timeout=300)
    told = []
    for wasm in (DESCRIBE, rebuilt):
        with Host() as host:
            model = doubling(TensorProto.FLOAT, (2, 3))
            host.graphs.register("doubling", "onnx", Target.CPU, builders=[model])
            with host.open(wasm) as guest:
                opened(guest, "doubling")
                assert guest.call("describe", 0, 0, 256) == 0
                told.append((described(guest), guest.call("run")))
    assert told[0] == told[1] == (("x", 1, [2, 3]), 0)
