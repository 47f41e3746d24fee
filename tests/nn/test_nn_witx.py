"""Every function of ``wasi_ephemeral_nn``, and the error number of every misuse."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from tests.nn.fake_guest import FakeCaller, FakeMemory, Guest
from tests.nn.recording_backend import RecordingBackend
from wasinn_host.nn import GraphRegistry, NnContext, NnLimits, Target, TensorType
from wasinn_host.nn.errors import ErrorKind
from wasinn_host.nn.numbering import WITX_ERRNO, WITX_TENSOR_TYPES
from wasinn_host.nn.plugin import Tensor
from wasinn_host.nn.witx import WasiEphemeralNn

OK = 0
INVALID_ARGUMENT = 1
INVALID_ENCODING = 2
MISSING_MEMORY = 3
RUNTIME_ERROR = 5
UNSUPPORTED_OPERATION = 6
TOO_LARGE = 7
NOT_FOUND = 8

EVIL_POINTERS = (0xFFFF_FFFF, 0xFFFF_FFFC, 0x8000_0000, 64 * 65536, 64 * 65536 - 3)


@pytest.fixture
def guest(null_graphs: GraphRegistry) -> Guest:
    return Guest(NnContext(null_graphs))


@pytest.fixture
def context(guest: Guest) -> int:
    return guest.open(b"model")


def test_numbers_are_those_of_the_witx_file() -> None:
    assert {kind.value: number for kind, number in WITX_ERRNO.items()} == {
        "invalid_argument": 1,
        "invalid_encoding": 2,
        "missing_memory": 3,
        "busy": 4,
        "runtime_error": 5,
        "unsupported_operation": 6,
        "too_large": 7,
        "not_found": 8,
        "end_of_sequence": 100,
        "context_full": 101,
        "prompt_too_long": 102,
        "model_not_found": 103,
    }
    assert set(WITX_ERRNO) == set(ErrorKind)
    assert [t.value for t in WITX_TENSOR_TYPES] == ["f16", "f32", "f64", "u8", "i32", "i64"]


def test_signatures(guest: Guest) -> None:
    types = {name: str(ty) for name, ty, _function in guest.codec.functions()}
    assert types == {
        "load": "[i32 i32 i32 i32 i32] -> [i32]",
        "load_by_name": "[i32 i32 i32] -> [i32]",
        "init_execution_context": "[i32 i32] -> [i32]",
        "set_input": "[i32 i32 i32] -> [i32]",
        "compute": "[i32] -> [i32]",
        "get_output": "[i32 i32 i32 i32 i32] -> [i32]",
        "load_by_name_with_config": "[i32 i32 i32 i32 i32] -> [i32]",
        "compute_single": "[i32] -> [i32]",
        "get_output_single": "[i32 i32 i32 i32 i32] -> [i32]",
        "fini_single": "[i32] -> [i32]",
        "unload": "[i32] -> [i32]",
        "finalize_execution_context": "[i32] -> [i32]",
    }


@pytest.mark.parametrize("tensor_type", WITX_TENSOR_TYPES, ids=lambda t: t.value)
def test_round_trip_of_every_type(guest: Guest, context: int, tensor_type: TensorType) -> None:
    data = bytes(range(6 * tensor_type.size_bytes))
    assert guest.set_input(context, 0, tensor_type, (2, 3), data) == OK
    assert guest.compute(context) == OK
    assert guest.get_output(context, 0, 100) == (OK, data)
    tensor = guest.codec.context.get_output(context, 0)
    assert (tensor.type, tensor.shape) == (tensor_type, (2, 3))


def test_the_type_is_one_byte_whatever_the_padding_holds(guest: Guest, context: int) -> None:
    for pad in (b"\0\0\0", b"\xff\xff\xff", b"\x10\x10\x00"):
        record = guest.tensor(TensorType.I32, (1,), b"abcd", pad)
        assert guest.call("set_input", context, 0, record) == OK
        assert guest.compute(context) == OK
        assert guest.codec.context.get_output(context, 0).type is TensorType.I32


def test_inputs_are_copied_at_set_input(guest: Guest, context: int) -> None:
    record = guest.tensor(TensorType.U8, (4,), b"abcd")
    data_ptr = guest.memory.read_u32(record + 12)
    assert guest.call("set_input", context, 0, record) == OK
    guest.memory.write(data_ptr, b"XXXX")
    assert guest.compute(context) == OK
    assert guest.get_output(context, 0, 4) == (OK, b"abcd")


def test_an_input_stays_for_the_next_compute(guest: Guest, context: int) -> None:
    assert guest.set_input(context, 0, TensorType.U8, (2,), b"ab") == OK
    assert guest.set_input(context, 3, TensorType.U8, (2,), b"cd") == OK
    assert guest.compute(context) == OK
    assert guest.set_input(context, 3, TensorType.U8, (1,), b"e") == OK
    assert guest.get_output(context, 3, 4) == (OK, b"cd")
    assert guest.compute(context) == OK
    assert guest.get_output(context, 0, 4) == (OK, b"ab")
    assert guest.get_output(context, 3, 4) == (OK, b"e")


def test_scalars_and_empty_tensors(guest: Guest, context: int) -> None:
    assert guest.set_input(context, 0, TensorType.F64, (), b"12345678") == OK
    assert guest.set_input(context, 1, TensorType.F32, (0, 7), b"") == OK
    assert guest.compute(context) == OK
    assert guest.get_output(context, 0, 8) == (OK, b"12345678")
    assert guest.get_output(context, 1, 0) == (OK, b"")


def test_several_builders_reach_the_backend(recording: GraphRegistry) -> None:
    guest = Guest(NnContext(recording))
    assert guest.load(b"one", b"", b"three", encoding=0, target=1) == OK
    (source,) = RecordingBackend.made[-1].sources
    assert (source.encoding, source.builders, source.paths) == (
        "openvino",
        (b"one", b"", b"three"),
        (),
    )
    assert not source.is_trusted


def test_autodetect_looks_at_the_bytes(recording: GraphRegistry) -> None:
    guest = Guest(NnContext(recording))
    assert guest.load(b"<?xml version='1.0'?><net/>", b"weights", encoding=5) == OK
    assert guest.load(b"\x08\x08\x12\x04test", encoding=5) == OK
    assert [s.encoding for s in RecordingBackend.made[-1].sources] == ["openvino", "onnx"]
    assert guest.load(b"nothing known", encoding=5) == INVALID_ENCODING
    assert "autodetect" in guest.error()
    assert guest.load(b"GGUF....", encoding=5) == INVALID_ENCODING
    assert "no backend for encoding ggml" in guest.error()


class TestLoad:
    @pytest.mark.parametrize("encoding", [6, 7, 255, 0xFFFF_FFFF])
    def test_unknown_encoding_number(self, guest: Guest, encoding: int) -> None:
        assert guest.load(b"m", encoding=encoding) == INVALID_ENCODING

    @pytest.mark.parametrize("encoding", [0, 2, 3, 4])
    def test_encoding_without_backend(self, guest: Guest, encoding: int) -> None:
        assert guest.load(b"m", encoding=encoding) == INVALID_ENCODING
        assert "no backend for encoding" in guest.error()

    @pytest.mark.parametrize("target", [3, 4, 0xFFFF_FFFF])
    def test_unknown_target_number(self, guest: Guest, target: int) -> None:
        assert guest.load(b"m", target=target) == INVALID_ARGUMENT

    def test_target_that_nobody_offers_lists_what_there_is(self, recording: GraphRegistry) -> None:
        guest = Guest(NnContext(recording))
        assert guest.load(b"m", target=2) == UNSUPPORTED_OPERATION
        assert guest.error().endswith(
            "no device for target tpu with encoding onnx; "
            "there is: recording: gpu (gpu:0), gpu (gpu:1), cpu (cpu)"
        )

    def test_targets_lead_to_devices(self, recording: GraphRegistry) -> None:
        guest = Guest(NnContext(recording))
        assert guest.load(b"m", target=0) == OK
        assert guest.load(b"m", target=1) == OK
        assert RecordingBackend.made[-1].events == ["load onnx on cpu", "load onnx on gpu:0"]

    def test_what_the_backend_refuses(self, recording: GraphRegistry) -> None:
        guest = Guest(NnContext(recording))
        assert guest.load(b"bad model") == INVALID_ENCODING
        assert guest.error() == "invalid_encoding: the model starts with bad"
        assert guest.codec.context.model_bytes == 0

    @pytest.mark.parametrize("pointer", EVIL_POINTERS)
    def test_bad_pointers(self, guest: Guest, pointer: int) -> None:
        model = guest.put(b"model")
        table = guest.put(struct.pack("<II", model, 5))
        assert guest.call("load", pointer, 1, 1, 0, guest.RESULT) == INVALID_ARGUMENT
        assert guest.call("load", table, 1, 1, 0, pointer) == INVALID_ARGUMENT
        evil = guest.put(struct.pack("<II", pointer, 5))
        assert guest.call("load", evil, 1, 1, 0, guest.RESULT) == INVALID_ARGUMENT
        assert guest.codec.context.model_bytes == 0

    def test_builder_arrays_that_do_not_fit(self, guest: Guest) -> None:
        for count in (1 << 29, 0xFFFF_FFFF, 0x2000_0001):
            assert guest.call("load", 0, count, 1, 0, guest.RESULT) == INVALID_ARGUMENT
        evil = guest.put(struct.pack("<II", 16, 0xFFFF_FFFF))
        assert guest.call("load", evil, 1, 1, 0, guest.RESULT) == INVALID_ARGUMENT

    def test_empty_builder_beyond_memory(self, guest: Guest) -> None:
        evil = guest.put(struct.pack("<II", guest.memory.byte_length + 1, 0))
        assert guest.call("load", evil, 1, 1, 0, guest.RESULT) == INVALID_ARGUMENT
        at_end = guest.put(struct.pack("<II", guest.memory.byte_length, 0))
        assert guest.call("load", at_end, 1, 1, 0, guest.RESULT) == OK

    def test_too_many_parts(self, guest: Guest) -> None:
        assert guest.load(*[b""] * 64) == OK
        assert guest.load(*[b""] * 65) == TOO_LARGE

    def test_nothing_is_written_on_failure(self, guest: Guest) -> None:
        guest.memory.write_u32(guest.RESULT, 0xDEADBEEF)
        assert guest.load(b"m", encoding=9) == INVALID_ENCODING
        assert guest.result == 0xDEADBEEF

    def test_quota_of_graphs(self, null_graphs: GraphRegistry) -> None:
        guest = Guest(NnContext(null_graphs, NnLimits(graphs=3)))
        assert [guest.load(b"m") for _ in range(5)] == [OK, OK, OK, TOO_LARGE, TOO_LARGE]
        assert guest.codec.context.model_bytes == 3

    def test_quota_of_bytes_comes_before_the_copy(self, recording: GraphRegistry) -> None:
        guest = Guest(NnContext(recording, NnLimits(model_bytes=10)))
        assert guest.load(b"123456") == OK
        assert guest.load(b"12345") == TOO_LARGE
        assert guest.load(b"1234") == OK
        assert len(RecordingBackend.made[-1].sources) == 2


class TestLoadByName:
    def test_named_graphs_work_like_loaded_ones(self, null_graphs: GraphRegistry) -> None:
        null_graphs.register("écho", "null", Target.AUTO, builders=[b""])
        guest = Guest(NnContext(null_graphs))
        assert guest.load_by_name("écho".encode()) == OK
        assert guest.init(guest.result) == OK
        context = guest.result
        assert guest.set_input(context, 0, TensorType.U8, (1,), b"!") == OK
        assert guest.compute(context) == OK
        assert guest.get_output(context, 0, 1) == (OK, b"!")

    @pytest.mark.parametrize(
        "name", [b"ech", b"echo\0", b"../echo", b"/etc/passwd", b"echo; ls", b"x" * 1024]
    )
    def test_only_registered_names(self, null_graphs: GraphRegistry, name: bytes) -> None:
        null_graphs.register("echo", "null", Target.CPU, builders=[b""])
        guest = Guest(NnContext(null_graphs))
        assert guest.load_by_name(name) == NOT_FOUND
        assert "there is: echo" in guest.error()

    @pytest.mark.parametrize("name", [b"", b"\xff\xfe", b"\xed\xa0\x80", b"x" * 1025])
    def test_names_that_are_none(self, guest: Guest, name: bytes) -> None:
        assert guest.load_by_name(name) == INVALID_ARGUMENT

    @pytest.mark.parametrize("pointer", EVIL_POINTERS)
    def test_bad_pointers(self, guest: Guest, pointer: int) -> None:
        name = guest.put(b"echo")
        assert guest.call("load_by_name", pointer, 4, guest.RESULT) == INVALID_ARGUMENT
        assert guest.call("load_by_name", name, pointer, guest.RESULT) == INVALID_ARGUMENT
        assert guest.call("load_by_name", name, 4, pointer) == INVALID_ARGUMENT


class TestHandles:
    def test_zero_and_forged_handles(self, guest: Guest, context: int) -> None:
        for forged in (0, 1, 0xFFFF_FFFF, context + 1, context ^ 0x8000_0000):
            assert guest.init(forged) == INVALID_ARGUMENT
            assert guest.compute(forged) == INVALID_ARGUMENT
            assert guest.set_input(forged, 0, TensorType.U8, (1,), b"a") == INVALID_ARGUMENT
            assert guest.get_output(forged, 0, 4)[0] == INVALID_ARGUMENT

    def test_kinds_do_not_mix(self, guest: Guest) -> None:
        assert guest.load(b"m") == OK
        graph = guest.result
        assert guest.init(graph) == OK
        context = guest.result
        assert guest.compute(graph) == INVALID_ARGUMENT
        assert "the handle of a graph; expected that of an execution context" in guest.error()
        assert guest.init(context) == INVALID_ARGUMENT
        assert "the handle of an execution context; expected that of a graph" in guest.error()

    def test_stale_handles(self, guest: Guest, context: int) -> None:
        guest.codec.context.finalize_execution_context(context)
        assert guest.compute(context) == INVALID_ARGUMENT
        assert "stale" in guest.error()

    def test_another_guests_handles(self, null_graphs: GraphRegistry, context: int) -> None:
        other = Guest(NnContext(null_graphs))
        assert other.load(b"m") == OK
        assert other.compute(context) == INVALID_ARGUMENT
        assert "of another guest" in other.error()

    def test_quota_of_contexts(self, null_graphs: GraphRegistry) -> None:
        guest = Guest(NnContext(null_graphs, NnLimits(contexts=2)))
        assert guest.load(b"m") == OK
        graph = guest.result
        assert [guest.init(graph) for _ in range(3)] == [OK, OK, TOO_LARGE]

    @pytest.mark.parametrize("pointer", EVIL_POINTERS)
    def test_bad_out_pointer(self, guest: Guest, pointer: int) -> None:
        assert guest.load(b"m") == OK
        assert guest.call("init_execution_context", guest.result, pointer) == INVALID_ARGUMENT


class TestSetInput:
    @pytest.mark.parametrize("code", [7, 8, 16, 255])
    def test_unknown_type(self, guest: Guest, context: int, code: int) -> None:
        record = guest.put(struct.pack("<IIB3xII", 0, 0, code, 0, 0))
        assert guest.call("set_input", context, 0, record) == INVALID_ARGUMENT
        assert f"tensor type {code}" in guest.error()

    @pytest.mark.parametrize("rank", [33, 1 << 29, 1 << 30, 0xFFFF_FFFF])
    def test_rank_beyond_the_limit(self, guest: Guest, context: int, rank: int) -> None:
        record = guest.put(struct.pack("<IIB3xII", 0, rank, 3, 0, 0))
        assert guest.call("set_input", context, 0, record) == INVALID_ARGUMENT
        assert "dimensions" in guest.error()

    def test_rank_at_the_limit(self, guest: Guest, context: int) -> None:
        assert guest.set_input(context, 0, TensorType.U8, (1,) * 32, b"a") == OK

    @pytest.mark.parametrize("pointer", EVIL_POINTERS)
    def test_bad_pointers(self, guest: Guest, context: int, pointer: int) -> None:
        assert guest.call("set_input", context, 0, pointer) == INVALID_ARGUMENT
        dims = guest.put(struct.pack("<I", 4))
        records = (
            struct.pack("<IIB3xII", pointer, 1, 3, dims, 4),
            struct.pack("<IIB3xII", dims, 1, 3, pointer, 4),
            struct.pack("<IIB3xII", dims, 1, 3, dims, pointer),
            struct.pack("<IIB3xII", dims, 1, 3, dims, 0xFFFF_FFFF),
        )
        for record in records:
            assert guest.call("set_input", context, 0, guest.put(record)) == INVALID_ARGUMENT
        assert guest.codec.context.tensor_bytes == 0

    def test_disagreeing_dims_are_the_backends_affair(self, guest: Guest, context: int) -> None:
        """A prompt of a language model is long text with dimensions [1]."""
        assert guest.set_input(context, 0, TensorType.U8, (1,), b"a long prompt") == OK
        assert guest.set_input(context, 1, TensorType.U8, (65536,) * 4, b"") == OK

    def test_unaligned_records_are_fine(self, guest: Guest, context: int) -> None:
        record = guest.memory.read(guest.tensor(TensorType.U8, (2,), b"ab"), 20)
        guest.memory.write(0x8001, record)
        assert guest.call("set_input", context, 0, 0x8001) == OK

    def test_quota_of_tensor_bytes(self, null_graphs: GraphRegistry) -> None:
        guest = Guest(NnContext(null_graphs, NnLimits(tensor_bytes=10)))
        first, second = guest.open(b"m"), guest.open(b"m")
        assert guest.set_input(first, 0, TensorType.U8, (6,), b"123456") == OK
        assert guest.set_input(second, 0, TensorType.U8, (5,), b"12345") == TOO_LARGE
        assert guest.set_input(first, 0, TensorType.U8, (5,), b"12345") == OK
        assert guest.set_input(second, 0, TensorType.U8, (5,), b"12345") == OK
        assert guest.codec.context.tensor_bytes == 10
        guest.codec.context.finalize_execution_context(first)
        assert guest.codec.context.tensor_bytes == 5

    def test_a_refused_input_does_not_count(self, null_graphs: GraphRegistry) -> None:
        guest = Guest(NnContext(null_graphs, NnLimits(tensor_bytes=10)))
        context = guest.open(b"m")
        for _ in range(3):
            assert guest.set_input(context, 5000, TensorType.U8, (6,), b"123456") == 1
        assert guest.codec.context.tensor_bytes == 0


class TestComputeAndOutput:
    def test_compute_before_inputs(self, guest: Guest, context: int) -> None:
        assert guest.compute(context) == INVALID_ARGUMENT

    def test_output_before_compute(self, guest: Guest, context: int) -> None:
        assert guest.set_input(context, 0, TensorType.U8, (1,), b"a") == OK
        assert guest.get_output(context, 0, 8)[0] == INVALID_ARGUMENT

    def test_unknown_output(self, guest: Guest, context: int) -> None:
        assert guest.set_input(context, 0, TensorType.U8, (1,), b"a") == OK
        assert guest.compute(context) == OK
        assert guest.get_output(context, 1, 8)[0] == INVALID_ARGUMENT
        assert guest.get_output(context, 0xFFFF_FFFF, 8)[0] == INVALID_ARGUMENT

    @pytest.mark.parametrize("size", [0, 1, 7])
    def test_too_small_buffers_get_the_needed_size(
        self, guest: Guest, context: int, size: int
    ) -> None:
        assert guest.set_input(context, 0, TensorType.F64, (1,), b"12345678") == OK
        assert guest.compute(context) == OK
        out = guest.put(b"\xcc" * 16)
        assert guest.call("get_output", context, 0, out, size, guest.RESULT) == TOO_LARGE
        assert guest.result == 8
        assert guest.memory.read(out, 16) == b"\xcc" * 16

    @pytest.mark.parametrize("size", [8, 12])
    def test_nothing_beyond_the_output_is_written(
        self, guest: Guest, context: int, size: int
    ) -> None:
        assert guest.set_input(context, 0, TensorType.F64, (1,), b"12345678") == OK
        assert guest.compute(context) == OK
        out = guest.put(b"\xcc" * 16)
        assert guest.call("get_output", context, 0, out, size, guest.RESULT) == OK
        assert guest.result == 8
        assert guest.memory.read(out, 16) == b"12345678" + b"\xcc" * 8

    @pytest.mark.parametrize("pointer", EVIL_POINTERS)
    def test_bad_pointers(self, guest: Guest, context: int, pointer: int) -> None:
        assert guest.set_input(context, 0, TensorType.F64, (1,), b"12345678") == OK
        assert guest.compute(context) == OK
        out = guest.put(b"\xcc" * 16)
        call: Callable[..., int] = guest.call
        assert call("get_output", context, 0, pointer, 8, guest.RESULT) == INVALID_ARGUMENT
        assert call("get_output", context, 0, out, 8, pointer) == INVALID_ARGUMENT
        assert call("get_output", context, 0, out, 0xFFFF_FFFF, guest.RESULT) == INVALID_ARGUMENT
        assert guest.memory.read(out, 16) == b"\xcc" * 16

    def test_size_pointer_inside_the_output(self, guest: Guest, context: int) -> None:
        assert guest.set_input(context, 0, TensorType.F64, (1,), b"12345678") == OK
        assert guest.compute(context) == OK
        out = guest.put(bytes(16))
        assert guest.call("get_output", context, 0, out, 16, out + 4) == OK
        assert guest.memory.read(out, 8) == b"1234" + struct.pack("<I", 8)


@pytest.mark.parametrize("method", ["create_context", "set_input", "compute", "get_output"])
def test_an_exception_in_a_backend_is_a_runtime_error(
    null_graphs: GraphRegistry, method: str
) -> None:
    guest = Guest(NnContext(null_graphs))
    assert guest.load(b'{"fault": "%s"}' % method.encode()) == OK
    errno = guest.init(guest.result)
    if errno == OK:
        context = guest.result
        errno = guest.set_input(context, 0, TensorType.U8, (1,), b"a")
        errno = errno or guest.compute(context)
        errno = errno or guest.get_output(context, 0, 1)[0]
    assert errno == RUNTIME_ERROR
    assert f"{method}() failed: ZeroDivisionError: null backend: fault on demand" in guest.error()
    assert guest.codec.last_error is not None
    assert isinstance(guest.codec.last_error.__cause__, ZeroDivisionError)


def test_an_exception_in_load_is_a_runtime_error(null_graphs: GraphRegistry) -> None:
    guest = Guest(NnContext(null_graphs))
    assert guest.load(b'{"fault": "load"}') == RUNTIME_ERROR
    assert guest.codec.context.model_bytes == 0


def test_keyboard_interrupt_is_not_an_errno(
    guest: Guest, context: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: object, index: int, tensor: Tensor) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wasinn_backends.null._NullContext.set_input", interrupted)
    with pytest.raises(KeyboardInterrupt):
        guest.set_input(context, 0, TensorType.U8, (1,), b"a")
    assert guest.codec.context.tensor_bytes == 0


@pytest.mark.parametrize(
    ("name", "arity"),
    [
        ("load", 5),
        ("load_by_name", 3),
        ("init_execution_context", 2),
        ("set_input", 3),
        ("get_output", 5),
        ("load_by_name_with_config", 5),
        ("get_output_single", 5),
    ],
)
def test_a_guest_without_memory(null_graphs: GraphRegistry, name: str, arity: int) -> None:
    codec = WasiEphemeralNn(NnContext(null_graphs))
    function = getattr(codec, name)
    assert function(FakeCaller(None), *[0] * arity) == MISSING_MEMORY


def test_a_memory_of_no_pages(null_graphs: GraphRegistry) -> None:
    codec = WasiEphemeralNn(NnContext(null_graphs))
    caller = FakeCaller(FakeMemory(0))
    assert codec.load(caller, 0, 0, 1, 0, 0) == INVALID_ARGUMENT
    assert codec.load_by_name(caller, 0, 0, 0) == INVALID_ARGUMENT
