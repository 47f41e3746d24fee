"""WAMR's legacy wasi_nn with a compiled guest: how it is recognised, and how it differs."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.backends.onnx_models import doubling, matmul
from tests.backends.tflite_models import INT8, NATIVE, quantised_doubling
from tests.nn.test_nn_quantized import QuantisedBackend
from wasinn_backends.null import NullBackend
from wasinn_backends.onnx import OnnxBackend
from wasinn_backends.tflite import TfliteBackend
from wasinn_host.host import Guest, Host
from wasinn_host.nn import NnLimits, Target, TensorType
from wasinn_host.nn.numbering import OLD_TENSOR_TYPES
from wasinn_runtime import LinkError

LEGACY = Path(__file__).with_name("guests") / "legacy.wasm"
PROBE = LEGACY.with_name("probe.wasm")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(
        nn_limits=NnLimits(graphs=8, contexts=8), backend_options={"onnx": {"threads": "1"}}
    ) as made:
        made.backends.add("onnx", OnnxBackend)
        made.backends.add("null", NullBackend)
        made.backends.add("quantised", QuantisedBackend)
        made.graphs.register("levels", "quantised", Target.CPU, builders=[b"m"])
        made.backends.add("tflite", TfliteBackend)
        for name, element in (("int8", INT8), ("uint8", NATIVE[TensorType.U8])):
            model = quantised_doubling(element, 0.5, -3 if name == "int8" else 125)
            made.graphs.register(name, "tensorflowlite", Target.CPU, builders=[model])
        made.graphs.register("echo", "null", Target.CPU, builders=[b""])
        made.graphs.register("broken", "null", Target.CPU, builders=[b'{"fault": "compute"}'])
        yield made


@pytest.fixture
def guest(host: Host) -> Iterator[Guest]:
    with host.open(LEGACY) as opened:
        yield opened


def _number(guest: Guest, name: str, *args: int) -> int:
    value = guest.call(name, *(a - (1 << 32) if a >= 1 << 31 else a for a in args))
    assert isinstance(value, int)
    return value & 0xFFFF_FFFF


def _named(guest: Guest, name: bytes) -> int:
    """A context of a named graph."""
    arena = _number(guest, "arena")
    guest.memory.write(arena, name)
    assert _number(guest, "load_by_name", arena, len(name), arena + 64) == 0
    graph = guest.memory.read_u32(arena + 64)
    assert _number(guest, "init_execution_context", graph, arena + 64) == 0
    return guest.memory.read_u32(arena + 64)


def _set_input(guest: Guest, context: int, type_code: int, sizes: list[int], data: bytes) -> int:
    at = _number(guest, "arena") + 128
    guest.memory.write(at, struct.pack(f"<{len(sizes)}I", *sizes))
    guest.memory.write(at + 256, struct.pack("<II", at, len(sizes)))
    guest.memory.write(at + 512, data)
    guest.memory.write(at + 264, struct.pack("<IB3sI", at + 256, type_code, b"\xee" * 3, at + 512))
    return _number(guest, "set_input", context, 0, at + 264)


def _get_output(guest: Guest, context: int, room: int, index: int = 0) -> tuple[int, int, bytes]:
    """Errno, elements, and the bytes of those, of a buffer that was full of 0x55."""
    at = _number(guest, "arena") + 4096
    guest.memory.write(at, struct.pack("<I", room) + b"\x55" * 64)
    errno = _number(guest, "get_output", context, index, at + 4, at)
    elements = guest.memory.read_u32(at)
    return errno, elements, guest.memory.read(at + 4, 16)


def test_an_inference(guest: Guest) -> None:
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    model = matmul(weight)
    guest.memory.write(_number(guest, "arena"), model)
    assert _number(guest, "open_model", len(model)) == 0
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    guest.memory.write(_number(guest, "input"), x.tobytes())
    assert _number(guest, "infer", 2, 4, 4096) == 0
    assert _number(guest, "elements") == 6
    got = np.frombuffer(guest.memory.read(_number(guest, "output"), 24), np.float32)
    np.testing.assert_allclose(got.reshape(2, 3), x @ weight)
    # The size is elements, not bytes: room for six is enough, and for five is not.
    assert _number(guest, "infer", 2, 4, 6) == 0
    assert _number(guest, "infer", 2, 4, 5) == 7
    assert _number(guest, "elements") == 6
    assert _number(guest, "infer", 2, 3, 6) == 1


@pytest.mark.parametrize("code", range(4))
def test_types_are_the_old_ones_and_sizes_count_four_bytes(guest: Guest, code: int) -> None:
    context = _named(guest, b"echo")
    tensor_type = OLD_TENSOR_TYPES[code]
    size = 5 * tensor_type.size_bytes
    data = bytes(range(1, size + 1))
    assert _set_input(guest, context, code, [5], data) == 0
    assert _number(guest, "compute", context) == 0
    assert guest.nn is not None
    output = guest.nn.get_output(context, 0)
    assert (output.type, output.shape, bytes(output.data)) == (tensor_type, (5,), data)
    elements = (size + 3) // 4
    errno, told, seen = _get_output(guest, context, elements)
    assert (errno, told) == (0, elements)
    assert seen == (data + b"\x55" * 16)[:16]
    assert _get_output(guest, context, elements - 1) == (7, elements, b"\x55" * 16)


def test_a_quantised_model_takes_and_gives_floats(guest: Guest) -> None:
    context = _named(guest, b"levels")
    # Its integers are halves, from -64 to 63.5: what is between or beyond goes to the nearest one.
    given = struct.pack("<4f", 1.5, -2.0, 0.6, 1e9)
    assert _set_input(guest, context, 1, [2, 2], given) == 0
    assert _number(guest, "compute", context) == 0
    assert _get_output(guest, context, 3)[:2] == (7, 4)
    errno, elements, seen = _get_output(guest, context, 4)
    assert (errno, elements) == (0, 4)
    assert struct.unpack("<4f", seen) == (1.5, -2.0, 0.5, 63.5)


@pytest.mark.parametrize("name", [b"int8", b"uint8"])
def test_a_quantised_tflite_model_takes_and_gives_floats(guest: Guest, name: bytes) -> None:
    context = _named(guest, name)
    # Halves from -62.5 to 65 go in, whole numbers from -125 to 130 come out.
    given = struct.pack("<4f", 1.5, -2.0, 10.2, 1e9)
    assert _set_input(guest, context, 1, [4], given) == 0
    assert _number(guest, "compute", context) == 0
    errno, elements, seen = _get_output(guest, context, 4)
    assert (errno, elements) == (0, 4)
    assert struct.unpack("<4f", seen) == (3.0, -4.0, 20.0, 130.0)


def test_every_error_number(guest: Guest) -> None:
    arena = _number(guest, "arena")
    context = _named(guest, b"echo")
    assert _set_input(guest, context, 4, [1], b"\0") == 1
    assert _set_input(guest, context + 1, 1, [1], bytes(4)) == 1
    guest.memory.write(arena, struct.pack("<IIII", arena + 8, 1, arena + 100, 4))
    assert _number(guest, "load", arena, 1, 0, arena) == 2
    assert _number(guest, "load", arena, 7, 0, arena) == 2
    assert _number(guest, "load", arena, 1, 3, arena) == 1
    broken = _named(guest, b"broken")
    assert _set_input(guest, broken, 2, [1], b"a") == 0
    assert _number(guest, "compute", broken) == 5
    guest.memory.write(arena, doubling())
    size = len(doubling())
    guest.memory.write(arena + 2048, struct.pack("<IIII", arena + 2056, 1, arena, size))
    assert _number(guest, "load", arena + 2048, 1, 2, arena + 2048) == 6
    guest.memory.write(arena + 2048, struct.pack("<II", arena, 65))
    assert _number(guest, "load", arena + 2048, 1, 0, arena + 2048) == 7
    assert _number(guest, "load_by_name", arena, 0, arena + 64) == 1
    guest.memory.write(arena, b"nobody")
    assert _number(guest, "load_by_name", arena, 6, arena + 64) == 8


@pytest.mark.parametrize("encoding", [5, 6])
def test_encodings_that_differ_between_hosts_look_at_the_bytes(guest: Guest, encoding: int) -> None:
    arena = _number(guest, "arena")
    guest.memory.write(arena + 16, doubling())
    guest.memory.write(arena, struct.pack("<IIII", arena + 8, 1, arena + 16, len(doubling())))
    assert _number(guest, "load", arena, encoding, 0, arena) == 0
    guest.memory.write(arena, struct.pack("<IIII", arena + 8, 1, arena + 16, 4) + b"GGUF")
    assert _number(guest, "load", arena, encoding, 0, arena) == 2
    assert "not a usable GGUF model" in str(guest.last_nn_error)


def test_sizes_that_reach_beyond_memory(guest: Guest) -> None:
    context = _named(guest, b"echo")
    end = guest.memory.byte_length
    for sizes in ([0xFFFF_FFFF] * 8, [1 << 31, 2], [end]):
        assert _set_input(guest, context, 1, sizes, b"") == 1
    # The dimensions are where they are said to be, all of them.
    at = _number(guest, "arena")
    guest.memory.write(at, struct.pack("<IIIBxxxI", end - 4, 2, at, 1, at))
    assert _number(guest, "set_input", context, 0, at + 8) == 1
    guest.memory.write(at, struct.pack("<IIIBxxxI", end - 4, 33, at, 1, at))
    assert _number(guest, "set_input", context, 0, at + 8) == 1
    assert _set_input(guest, context, 1, [0], b"") == 0
    for pointer in (end - 3, 0xFFFF_FFFF):
        assert _number(guest, "get_output", context, 0, at, pointer) == 1
        assert _number(guest, "load", pointer, 1, 0, at) == 1
        assert _number(guest, "set_input", context, 0, pointer) == 1
    assert _get_output(guest, context, 0xFFFF_FFFF)[0] == 1


def test_the_trace_names_the_module(host: Host) -> None:
    lines: list[str] = []
    with host.open(LEGACY, trace_nn=lines.append) as guest:
        context = _named(guest, b"echo")
        assert _set_input(guest, context, 2, [1, 2], b"ab") == 0
        assert _number(guest, "compute", context) == 0
        assert _get_output(guest, context, 9)[0] == 0
    assert lines[0].startswith("wasi_nn.load_by_name(name='echo', name_len=4")
    assert "tensor=u8[1,2] 2 bytes) = 0" in lines[2]
    assert lines[4].startswith("wasi_nn.get_output(")
    assert "written=1" in lines[4]


def test_the_same_name_with_the_other_abis_types(host: Host) -> None:
    renamed = PROBE.read_bytes().replace(b"\x11wasi_ephemeral_nn", b"\x07wasi_nn")
    assert renamed.count(b"\x07wasi_nn") == 6
    with host.open(_with_import_size(renamed, 6 * 10)) as guest:
        arena = _number(guest, "arena")
        guest.memory.write(arena, b"echo")
        assert _number(guest, "load_by_name", arena, 4, arena) == 0
        assert _number(guest, "get_output", 1, 0, 0, 0, 0) == 1


def _with_import_size(module: bytes, less: int) -> bytes:
    """The module, with an import section that says it is so many bytes shorter."""
    at = 8
    while True:
        section, size, width, shift = module[at], 0, 0, 0
        while True:
            byte = module[at + 1 + width]
            size |= (byte & 0x7F) << shift
            width, shift = width + 1, shift + 7
            if not byte & 0x80:
                break
        if section == 2:
            size -= less
            told = bytes([size & 0x7F | 0x80, size >> 7]) if size > 127 else bytes([size])
            return module[: at + 1] + told + module[at + 1 + width :]
        at += 1 + width + size


def test_a_mixture_of_both_does_not_link(host: Host) -> None:
    wat = b"""(module
      (import "wasi_nn" "load" (func (param i32 i32 i32 i32 i32) (result i32)))
      (import "wasi_nn" "get_output" (func (param i32 i32 i32 i32) (result i32))))"""
    with pytest.raises(LinkError, match="get_output"):
        host.open(bytes(wasmtime.wat2wasm(wat)))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_number_makes_a_call_trap(guest: Guest, data: st.DataObject) -> None:
    arities = {"load": 4, "load_by_name": 3, "set_input": 3, "compute": 1, "get_output": 4}
    size = guest.memory.byte_length
    arena = _number(guest, "arena")
    guest.memory.write(arena, struct.pack("<IIII", arena, 4, arena, 4) + b"echo")
    arguments = st.one_of(
        st.integers(0, 0xFFFF_FFFF),
        st.integers(0, 6),
        st.integers(arena, arena + 64),
        st.integers(size - 24, size + 4),
    )
    name = data.draw(st.sampled_from(sorted(arities)))
    errno = _number(guest, name, *[data.draw(arguments) for _ in range(arities[name])])
    assert 0 <= errno <= 8
