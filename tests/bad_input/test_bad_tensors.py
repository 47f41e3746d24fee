"""Misuse of WASI-NN by a compiled guest with a real ONNX model: each has its error number.

After each the guest goes on: the same context answers the right request.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.onnx_models import doubling
from wasinn_host.host import Guest, Host

CALLS = Path(__file__).with_name("guests") / "calls.wasm"
BAD_ARGUMENT, BAD_ENCODING, UNSUPPORTED, TOO_LARGE, NOT_FOUND = 1, 2, 6, 7, 8
F16, F32, F64, U8, I32, I64 = range(6)
# Where things lie in the guest's memory.
RESULT, RECORD, DIMS, DATA, OUTPUT, BUILDERS, MODEL = 0, 64, 128, 512, 8192, 32, 16_384


class Caller:
    """Calls WASI-NN functions of a guest that has loaded a model which doubles a vector."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.graph = self.loaded(doubling())
        self.context = self.opened(self.graph)

    def call(self, name: str, *args: int) -> int:
        signed = [a - (1 << 32) if a >= 1 << 31 else a for a in args]
        errno = self.guest.call(name, *signed)
        assert isinstance(errno, int)
        return errno

    def load(self, model: bytes, encoding: int = 1, target: int = 0) -> int:
        self.guest.memory.write(MODEL, model)
        self.guest.memory.write(BUILDERS, struct.pack("<II", MODEL, len(model)))
        return self.call("load", BUILDERS, 1, encoding, target, RESULT)

    def loaded(self, model: bytes) -> int:
        assert self.load(model) == 0
        return self.guest.memory.read_u32(RESULT)

    def opened(self, graph: int) -> int:
        assert self.call("init_execution_context", graph, RESULT) == 0
        return self.guest.memory.read_u32(RESULT)

    def set_input(
        self, shape: tuple[int, ...], size: int, type_: int = F32, context: int = -1, index: int = 0
    ) -> int:
        memory = self.guest.memory
        memory.write(DIMS, struct.pack(f"<{len(shape)}I", *shape))
        memory.write(RECORD, struct.pack("<IIIII", DIMS, len(shape), type_, DATA, size))
        return self.call("set_input", self.context if context < 0 else context, index, RECORD)

    def get_output(self, size: int, context: int = -1, index: int = 0) -> int:
        chosen = self.context if context < 0 else context
        return self.call("get_output", chosen, index, OUTPUT, size, RESULT)

    def works(self) -> None:
        """The right request has the right answer."""
        self.guest.memory.write(DATA, struct.pack("<2f", 1.5, -2))
        self.guest.memory.write(OUTPUT, bytes(16))
        assert self.set_input((2,), 8) == 0
        assert self.call("compute", self.context) == 0
        assert self.get_output(8) == 0
        assert struct.unpack("<I", self.guest.memory.read(RESULT, 4)) == (8,)
        assert struct.unpack("<2f", self.guest.memory.read(OUTPUT, 8)) == (3, -4)


@pytest.fixture
def nn(host: Host) -> Iterator[Caller]:
    with host.open(CALLS) as guest:
        caller = Caller(guest)
        caller.works()
        yield caller
        caller.works()


@pytest.mark.parametrize(
    ("shape", "size", "type_"),
    [
        ((2,), 4, F16),
        ((2,), 16, F64),
        ((2,), 2, U8),
        ((2,), 8, I32),
        ((2,), 16, I64),
        ((2,), 8, 6),
        ((2,), 8, 255),
        ((), 4, F32),
        ((1, 2), 8, F32),
        ((2,), 0, F32),
        ((2,), 4, F32),
        ((2,), 9, F32),
        ((2,), 0xFFFF_FFFF, F32),
        ((3,), 8, F32),
        ((0xFFFF_FFFF,), 8, F32),
        ((0x4000_0002,), 8, F32),
        ((65536, 65536, 65536, 65536), 0, F32),
        ((1,) * 80, 4, F32),
    ],
)
def test_wrong_tensor(nn: Caller, shape: tuple[int, ...], size: int, type_: int) -> None:
    assert nn.set_input(shape, size, type_) == BAD_ARGUMENT


def test_garbage_beside_the_type_is_ignored(nn: Caller) -> None:
    assert nn.set_input((2,), 8, F32 | 0xAABBCC00) == 0


@pytest.mark.parametrize("index", [1, 2, 1 << 31, (1 << 32) - 1])
def test_wrong_index(nn: Caller, index: int) -> None:
    assert nn.set_input((2,), 8, index=index) == BAD_ARGUMENT
    assert nn.get_output(8, index=index) == BAD_ARGUMENT


def test_forged_handles(nn: Caller) -> None:
    others = {0, 1, 2, 3, 255, 1 << 16, 1 << 31, (1 << 32) - 1, nn.context ^ 1, nn.context + 1}
    for handle in {*others, nn.graph} - {nn.context}:
        assert nn.set_input((2,), 8, context=handle) == BAD_ARGUMENT
        assert nn.call("compute", handle) == BAD_ARGUMENT
        assert nn.get_output(8, context=handle) == BAD_ARGUMENT
    for handle in {*others, nn.context} - {nn.graph}:
        assert nn.call("init_execution_context", handle, RESULT) == BAD_ARGUMENT


def test_handles_of_another_guest_and_stale_ones(nn: Caller, host: Host) -> None:
    with host.open(CALLS) as guest:
        other = Caller(guest)
        extra = [other.opened(other.graph) for _ in range(3)]
        for handle in extra:
            if handle != nn.context:
                assert nn.call("compute", handle) == BAD_ARGUMENT
    # That guest is gone, and what it held with it.
    for handle in extra:
        if handle != nn.context:
            assert nn.set_input((2,), 8, context=handle) == BAD_ARGUMENT


def test_calls_in_the_wrong_order(nn: Caller) -> None:
    fresh = nn.opened(nn.graph)
    assert nn.get_output(8, context=fresh) == BAD_ARGUMENT
    assert nn.call("compute", fresh) == BAD_ARGUMENT
    assert nn.set_input((2,), 8, context=fresh) == 0
    assert nn.get_output(8, context=fresh) == BAD_ARGUMENT


@pytest.mark.parametrize("size", [0, 1, 7])
def test_output_buffer_too_small(nn: Caller, size: int) -> None:
    nn.guest.memory.write(OUTPUT, b"\xaa" * 16)
    assert nn.get_output(size) == TOO_LARGE
    assert nn.guest.memory.read_u32(RESULT) == 8, "the size that is needed"
    assert nn.guest.memory.read(OUTPUT, 16) == b"\xaa" * 16, "nothing else was written"


@pytest.mark.parametrize(
    ("encoding", "target", "errno"),
    [
        (7, 0, BAD_ENCODING),
        ((1 << 32) - 1, 0, BAD_ENCODING),
        (0, 0, BAD_ENCODING),
        (3, 0, BAD_ENCODING),
        (1, 3, BAD_ARGUMENT),
        (1, (1 << 32) - 1, BAD_ARGUMENT),
        (1, 2, UNSUPPORTED),
    ],
)
def test_unknown_encoding_and_target(nn: Caller, encoding: int, target: int, errno: int) -> None:
    assert nn.load(doubling(), encoding, target) == errno


@pytest.mark.parametrize("cut", [1, 8, 20, 50])
def test_a_model_cut_off(nn: Caller, cut: int) -> None:
    assert nn.load(doubling()[:-cut]) == BAD_ENCODING


@pytest.mark.parametrize("model", [b"", b"\0", b"no model", b"\x08" * 500, b"\xff" * 500])
def test_no_model_at_all(nn: Caller, model: bytes) -> None:
    assert nn.load(model) == BAD_ENCODING


@pytest.mark.parametrize(
    ("name", "errno"),
    [
        (b"nobody", NOT_FOUND),
        (b"../../etc/passwd", NOT_FOUND),
        (b"file:///etc/passwd", NOT_FOUND),
        (b"a\0b", NOT_FOUND),
        (b"\xff\xfe", BAD_ARGUMENT),
        (b"\xed\xa0\x80", BAD_ARGUMENT),
        (b"", BAD_ARGUMENT),
        (b"n" * 40_000, BAD_ARGUMENT),
    ],
)
def test_unknown_name(nn: Caller, name: bytes, errno: int) -> None:
    nn.guest.memory.write(MODEL, name)
    assert nn.call("load_by_name", MODEL, len(name), RESULT) == errno


def test_models_and_contexts_without_end(host: Host) -> None:
    """A guest that never gets enough is told at its limit, and goes on with what it has."""
    with host.open(CALLS) as guest:
        caller = Caller(guest)
        for function, first in (("init_execution_context", (caller.graph, RESULT)),):
            answers = {caller.call(function, *first) for _ in range(3000)}
            assert answers == {0, TOO_LARGE}
        for _ in range(3000):
            if (errno := caller.load(doubling())) != 0:
                break
        assert errno == TOO_LARGE
        caller.works()
