"""Every error number that a guest can see, and for each what provokes it, by a guest on the host.

One table: a number without a row fails, and so does a function that nothing here provokes. After
each row the guest goes on: a computation that is right has its answer.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from tests.backends.onnx_models import doubling, model_of, value
from tests.nn.pass_through import EPHEMERAL, LEGACY, PassThrough, module_of
from tests.nn.streaming_backend import StreamingBackend
from tests.nn.wrong_backends import MODEL, Context, Doubling, Good
from wasinn_backends.null import NullBackend
from wasinn_backends.onnx import OnnxBackend
from wasinn_host.host import Guest, Host
from wasinn_host.nn import NnLimits, PreloadSpec, Target
from wasinn_host.nn.plugin import (
    Device,
    ErrorKind,
    ExecutionContext,
    Graph,
    ModelSource,
    WasiNnError,
)

ROOT = Path(__file__).resolve().parents[2]

NUMBERS = {
    ErrorKind.INVALID_ARGUMENT: 1,
    ErrorKind.INVALID_ENCODING: 2,
    ErrorKind.MISSING_MEMORY: 3,
    ErrorKind.BUSY: 4,
    ErrorKind.RUNTIME_ERROR: 5,
    ErrorKind.UNSUPPORTED_OPERATION: 6,
    ErrorKind.TOO_LARGE: 7,
    ErrorKind.NOT_FOUND: 8,
    ErrorKind.END_OF_SEQUENCE: 100,
    ErrorKind.CONTEXT_FULL: 101,
    ErrorKind.PROMPT_TOO_LONG: 102,
    ErrorKind.MODEL_NOT_FOUND: 103,
}
F32, U8, I32 = 1, 3, 4
FORGED = 0x1234_5678
BEYOND = 0xFFFF_FFF0


class _OneAtATime(Good):
    """An accelerator with room for one program: a second context has to wait for the first."""

    encodings = frozenset({"single"})

    def __init__(self, options: object) -> None:
        self.is_taken = False

    def load(self, source: ModelSource, device: Device) -> Graph:
        return _OneContext(self)


class _OneContext(Doubling):
    def __init__(self, backend: _OneAtATime) -> None:
        self.backend = backend

    def create_context(self) -> ExecutionContext:
        if self.backend.is_taken:
            raise WasiNnError(ErrorKind.BUSY, "the device is taken by another context")
        self.backend.is_taken = True
        return _TheContext(self)


class _TheContext(Context):
    def close(self) -> None:
        assert isinstance(self.graph, _OneContext)
        self.graph.backend.is_taken = False


FAULTS = ("load", "create_context", "set_input", "compute", "get_output")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    missing = tmp_path_factory.mktemp("models") / "missing.gguf"
    limits = NnLimits(graphs=4, contexts=4, model_bytes=1 << 16, tensor_bytes=1 << 16)
    with Host(
        nn_limits=limits,
        backend_options={"onnx": {"threads": "1"}},
        backend_routes={"openvino": "null"},
    ) as made:
        made.backends.add("onnx", OnnxBackend)
        made.backends.add("null", NullBackend)
        made.backends.add("ggml", StreamingBackend)
        made.backends.add("single", _OneAtATime)
        made.graphs.register("speller", "ggml", Target.CPU, builders=[b"GGUF"])
        made.graphs.register("single", "single", Target.CPU, builders=[MODEL])
        made.graphs.preload(PreloadSpec("missing", "ggml", Target.CPU, missing))
        for fault in FAULTS:
            settings = b'{"fault": "%s"}' % fault.encode()
            made.graphs.register(f"no {fault}", "null", Target.CPU, builders=[settings])
        yield made


def _speller(nn: PassThrough, prompt: bytes = b"hi") -> int:
    context = nn.named(b"speller")
    assert nn.set_input(context, U8, (1,), prompt) == 0
    return context


def _fault(nn: PassThrough, method: str) -> int:
    """A context of a model that fails there."""
    return nn.named(f"no {method}".encode())


def _ready(nn: PassThrough) -> int:
    """A context that has computed two floats."""
    context = nn.open(doubling())
    assert nn.set_input(context, F32, (2,), struct.pack("<2f", 1, 2)) == 0
    assert nn.call("compute", context) == 0
    return context


def _again(nn: PassThrough, call: Callable[[], int]) -> int:
    """What the call that exceeds a limit gives, after those that do not."""
    for _ in range(100):
        nn.rewind()
        if errno := call():
            return errno
    raise AssertionError("no limit")


# --- what provokes each ---------------------------------------------------------------------------


def _invalid_compute_single(nn: PassThrough) -> int:
    return nn.call("compute_single", nn.open(doubling()))


def _invalid_order(nn: PassThrough) -> int:
    return nn.get_output(nn.open(doubling()), 8)[0]


def _junk_config(nn: PassThrough) -> int:
    return nn.load_by_name(b"speller", b'{"letters": ')


def _busy(nn: PassThrough) -> int:
    nn.named(b"single")
    assert nn.load_by_name(b"single") == 0
    return nn.init(nn.result)


def _fails_to_unload(nn: PassThrough) -> int:
    # The host holds named graphs, so the guest brings this one itself.
    assert nn.load(b'{"fault": "close"}', encoding=0) == 0, nn.error
    return nn.call("unload", nn.result)


def _runtime_compute(nn: PassThrough) -> int:
    return nn.call("compute", _fault(nn, "compute"))


def _runtime_output(nn: PassThrough) -> int:
    context = _fault(nn, "get_output")
    assert nn.set_input(context, U8, (1,), b"a") == 0
    assert nn.call("compute", context) == 0
    return nn.get_output(context, 8)[0]


def _unsupported_input(nn: PassThrough) -> int:
    return nn.set_input(nn.open(doubling(TensorProto.UINT32)), I32, (1,), bytes(4))


def _external_data(nn: PassThrough) -> int:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    tensor.external_data.add(key="location", value="weights.bin")
    node = helper.make_node("Add", ["x", "w"], ["y"])
    return nn.load(model_of([node], [value("x", [2])], [value("y", [2])], tensors=[tensor]))


def _contexts_without_end(nn: PassThrough) -> int:
    assert nn.load(doubling()) == 0
    graph = nn.result
    return _again(nn, lambda: nn.init(graph))


def _small_buffer(nn: PassThrough) -> int:
    errno, _ = nn.get_output(_ready(nn), 7)
    assert nn.result == 8, "the size that is needed"
    return errno


def _small_piece_buffer(nn: PassThrough) -> int:
    context = _speller(nn)
    assert nn.call("compute_single", context) == 0
    errno, _ = nn.get_output(context, 0, name="get_output_single")
    assert nn.result == 1, "the size that is needed"
    return errno


def _end_of_sequence(nn: PassThrough) -> int:
    context = _speller(nn)
    assert [nn.call("compute_single", context) for _ in range(2)] == [0, 0]
    return nn.call("compute_single", context)


def _context_full(nn: PassThrough) -> int:
    assert nn.load_by_name(b"speller", b'{"letters": 1}') == 0
    assert nn.init(nn.result) == 0
    context = nn.result
    assert nn.set_input(context, U8, (1,), b"hi") == 0
    assert nn.call("compute_single", context) == 0
    return nn.call("compute_single", context)


@dataclass(frozen=True)
class Row:
    """A call that fails.

    Attributes:
        kind: how.
        function: which function gives the number.
        provoke: makes the call, and gives its number.
        why: is in the message that the host program gets.
    """

    kind: ErrorKind
    function: str
    provoke: Callable[[PassThrough], int]
    why: str


def _forged(function: str, *more: int) -> Row:
    return Row(
        ErrorKind.INVALID_ARGUMENT,
        function,
        lambda nn: nn.call(function, FORGED, *more),
        "0x12345678 is",
    )


ROWS = (
    _forged("init_execution_context", 0),
    _forged("compute"),
    _forged("compute_single"),
    _forged("fini_single"),
    _forged("unload"),
    _forged("finalize_execution_context"),
    _forged("get_output", 0, 0, 0, 0),
    _forged("get_output_single", 0, 0, 0, 0),
    Row(
        ErrorKind.INVALID_ARGUMENT,
        "set_input",
        lambda nn: nn.set_input(FORGED, F32, (1,), bytes(4)),
        "0x12345678 is",
    ),
    Row(
        ErrorKind.INVALID_ARGUMENT,
        "load",
        lambda nn: nn.call("load", BEYOND, 4, 1, 0, 0),
        "bad pointer",
    ),
    Row(
        ErrorKind.INVALID_ARGUMENT,
        "load_by_name",
        lambda nn: nn.call("load_by_name", BEYOND, 99, 0),
        "bad pointer",
    ),
    Row(
        ErrorKind.INVALID_ARGUMENT,
        "load_by_name_with_config",
        lambda nn: nn.load_by_name(b"no load", b"{}"),
        "takes no configuration",
    ),
    Row(
        ErrorKind.INVALID_ARGUMENT,
        "compute_single",
        _invalid_compute_single,
        "it can not stream",
    ),
    Row(ErrorKind.INVALID_ARGUMENT, "get_output", _invalid_order, ""),
    Row(ErrorKind.INVALID_ENCODING, "load", lambda nn: nn.load(b"no model"), ""),
    Row(
        ErrorKind.INVALID_ENCODING,
        "load",
        lambda nn: nn.load(doubling(), encoding=99),
        "encoding 99: expected 0 to",
    ),
    Row(ErrorKind.INVALID_ENCODING, "load_by_name_with_config", _junk_config, "no JSON"),
    Row(ErrorKind.BUSY, "init_execution_context", _busy, "taken by another context"),
    Row(
        ErrorKind.RUNTIME_ERROR,
        "load_by_name",
        lambda nn: nn.load_by_name(b"no load"),
        "load() failed: ZeroDivisionError",
    ),
    Row(
        ErrorKind.RUNTIME_ERROR,
        "init_execution_context",
        lambda nn: nn.load_by_name(b"no create_context") or nn.init(nn.result),
        "create_context() failed",
    ),
    Row(
        ErrorKind.RUNTIME_ERROR,
        "set_input",
        lambda nn: nn.set_input(_fault(nn, "set_input"), U8, (1,), b"a"),
        "set_input() failed",
    ),
    Row(ErrorKind.RUNTIME_ERROR, "compute", _runtime_compute, "compute() failed"),
    Row(ErrorKind.RUNTIME_ERROR, "get_output", _runtime_output, "get_output() failed"),
    Row(ErrorKind.RUNTIME_ERROR, "unload", _fails_to_unload, "close() failed"),
    Row(
        ErrorKind.UNSUPPORTED_OPERATION,
        "load",
        lambda nn: nn.load(doubling(), target=2),
        "no device for target tpu",
    ),
    Row(ErrorKind.UNSUPPORTED_OPERATION, "load", _external_data, "external data"),
    Row(
        ErrorKind.UNSUPPORTED_OPERATION,
        "set_input",
        _unsupported_input,
        "tensor(uint32)",
    ),
    Row(
        ErrorKind.TOO_LARGE,
        "load",
        lambda nn: nn.load(bytes((1 << 16) + 1)),
        "the guest's limit of 65536 bytes of models",
    ),
    Row(
        ErrorKind.TOO_LARGE,
        "load",
        lambda nn: nn.call("load", 0, 65, 1, 0, 0),
        "65 parts, the limit is 64",
    ),
    Row(
        ErrorKind.TOO_LARGE,
        "load_by_name",
        lambda nn: _again(nn, lambda: nn.load_by_name(b"speller")),
        "4 graph handles, its limit",
    ),
    Row(
        ErrorKind.TOO_LARGE,
        "load_by_name_with_config",
        lambda nn: nn.call("load_by_name_with_config", 0, 7, 0, (1 << 20) + 1, 0),
        "the limit is 1048576",
    ),
    Row(
        ErrorKind.TOO_LARGE,
        "init_execution_context",
        _contexts_without_end,
        "4 execution context handles, its limit",
    ),
    Row(
        ErrorKind.TOO_LARGE,
        "set_input",
        lambda nn: nn.set_input(nn.open(doubling()), F32, (1 << 15,), bytes(1 << 17)),
        "the guest's limit of 65536 bytes",
    ),
    Row(ErrorKind.TOO_LARGE, "get_output", _small_buffer, "output 0 has 8 bytes"),
    Row(ErrorKind.TOO_LARGE, "get_output_single", _small_piece_buffer, "output 0 has 1 bytes"),
    Row(
        ErrorKind.NOT_FOUND,
        "load_by_name",
        lambda nn: nn.load_by_name(b"spellar"),
        "no graph is named 'spellar'; did you mean speller?",
    ),
    Row(
        ErrorKind.NOT_FOUND,
        "load_by_name_with_config",
        lambda nn: nn.load_by_name(b"nobody", b"{}"),
        "no graph is named 'nobody'",
    ),
    Row(ErrorKind.END_OF_SEQUENCE, "compute_single", _end_of_sequence, "no more letters"),
    Row(ErrorKind.CONTEXT_FULL, "compute_single", _context_full, "1 letters are there"),
    Row(
        ErrorKind.PROMPT_TOO_LONG,
        "compute_single",
        lambda nn: nn.call("compute_single", _speller(nn, b"x" * 17)),
        "at most 16 letters",
    ),
    Row(
        ErrorKind.MODEL_NOT_FOUND,
        "load_by_name",
        lambda nn: nn.load_by_name(b"missing"),
        "there is no model file",
    ),
    Row(
        ErrorKind.MODEL_NOT_FOUND,
        "load_by_name_with_config",
        lambda nn: nn.load_by_name(b"missing", b"{}"),
        "there is no model file",
    ),
)

# The functions that touch memory, for a guest that exports none.
NEED_MEMORY = {
    "load",
    "load_by_name",
    "load_by_name_with_config",
    "init_execution_context",
    "set_input",
    "get_output",
    "get_output_single",
}


@pytest.fixture(scope="module")
def ephemeral() -> bytes:
    return module_of(EPHEMERAL)


@pytest.fixture
def nn(host: Host, ephemeral: bytes) -> Iterator[PassThrough]:
    with host.open(ephemeral) as guest:
        yield PassThrough(guest)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r.kind.value}-{r.function}")
def test_a_call_that_fails(host: Host, nn: PassThrough, row: Row, ephemeral: bytes) -> None:
    assert row.provoke(nn) == NUMBERS[row.kind], nn.error
    error = nn.guest.last_nn_error
    assert error is not None
    assert error.kind is row.kind
    assert row.why in error.message
    assert len(error.message) > 10
    # Success is number 0, for another guest always, and for this one unless it is at its limits.
    with host.open(ephemeral) as other:
        after = PassThrough(other)
        assert after.get_output(_ready(after), 8) == (0, struct.pack("<2f", 2, 4))


@pytest.mark.parametrize("name", sorted(NEED_MEMORY))
def test_a_guest_that_exports_no_memory(host: Host, name: str) -> None:
    with host.open(module_of(EPHEMERAL, memory='"another"')) as guest:
        errno = guest.call(name, *[0] * EPHEMERAL[1][name])
        assert errno == NUMBERS[ErrorKind.MISSING_MEMORY]
        assert 'no memory under the name "memory"' in str(guest.last_nn_error)


@pytest.mark.parametrize("name", sorted(NEED_MEMORY & set(LEGACY[1])))
def test_a_legacy_guest_that_exports_no_memory(host: Host, name: str) -> None:
    with host.open(module_of(LEGACY, memory='"another"')) as guest:
        errno = guest.call(name, *[0] * LEGACY[1][name])
        assert errno == NUMBERS[ErrorKind.MISSING_MEMORY]


def test_a_busy_device_in_the_legacy_module(host: Host) -> None:
    def taken(guest: Guest) -> object:
        guest.memory.write(64, b"single")
        assert guest.call("load_by_name", 64, 6, 0) == 0
        return guest.call("init_execution_context", guest.memory.read_u32(0), 0)

    with host.open(module_of(LEGACY)) as guest:
        assert taken(guest) == 0
        assert taken(guest) == NUMBERS[ErrorKind.BUSY]


def test_nothing_is_left_out() -> None:
    provoked = {row.kind for row in ROWS} | {ErrorKind.MISSING_MEMORY}
    assert provoked == set(NUMBERS) == set(ErrorKind)
    assert {row.function for row in ROWS} == set(EPHEMERAL[1])


def test_the_header_for_guests_has_these_numbers() -> None:
    header = (ROOT / "examples" / "include" / "wasi_nn.h").read_text()
    listed = re.search(r"typedef uint32_t wasi_nn_errno;\nenum \{(.*?)\};", header, re.DOTALL)
    assert listed is not None
    found = dict(re.findall(r"WASI_NN_(\w+) = (\d+)", listed[1]))
    assert found.pop("SUCCESS") == "0"
    assert {name.lower(): int(n) for name, n in found.items()} == {
        kind.value: number for kind, number in NUMBERS.items()
    }
