"""What a guest's numbers mean: element types in all orders, and error numbers in all tables."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import pytest

from tests.nn.fake_guest import Guest
from wasinn_backends.null import NullBackend
from wasinn_host.nn import BackendRegistry, GraphRegistry, NnContext
from wasinn_host.nn.errors import ErrorKind
from wasinn_host.nn.numbering import ERRNOS, Numbering, meant_type, proven_type
from wasinn_host.nn.plugin import TensorType
from wasinn_host.nn.witx import WasiEphemeralNn
from wasinn_runtime.errors import UsageError

F16, F32, F64, BF16 = TensorType.F16, TensorType.F32, TensorType.F64, TensorType.BF16
U8, I32, I64 = TensorType.U8, TensorType.I32, TensorType.I64


@pytest.mark.parametrize(
    ("code", "shape", "size", "declared", "meant"),
    [
        # The data prove it: witx, old, wit.
        (2, (2, 3), 48, None, F64),
        (2, (2, 3), 6, None, U8),
        (3, (2, 3), 6, None, U8),
        (3, (2, 3), 24, None, I32),
        (3, (2, 3), 12, None, BF16),
        (4, (2, 3), 24, None, I32),
        (4, (2, 3), 6, None, U8),
        (5, (2, 3), 48, None, I64),
        (5, (2, 3), 24, None, I32),
        (6, (2, 3), 48, None, I64),
        # What the data prove counts for more than what the model says.
        (3, (2, 3), 24, U8, I32),
        # A text of four bytes under the shape [1] proves nothing: the model tells.
        (3, (1,), 4, U8, U8),
        (2, (1,), 8, U8, U8),
        (3, (1,), 4, None, I32),
        (3, (1,), 4, F32, I32),
        # Data of no such length, and none at all: the model, then witx.
        (3, (1,), 100, I32, I32),
        (3, (1,), 100, U8, U8),
        (3, (1,), 100, None, U8),
        (2, (0,), 0, None, F64),
        (2, (0,), 0, U8, U8),
        (5, (4,), 5, None, I64),
        (6, (4,), 5, F32, I64),
        (7, (4,), 4, U8, None),
        (255, (4,), 4, U8, None),
    ],
)
def test_each_tensor_tells_its_order(
    code: int,
    shape: tuple[int, ...],
    size: int,
    declared: TensorType | None,
    meant: TensorType | None,
) -> None:
    proven = proven_type(code, shape, size)
    assert (proven or meant_type(code, shape, size, declared)) is meant


def test_sizes_that_overflow_prove_nothing() -> None:
    assert proven_type(3, (2**32 - 1,) * 8, 4) is None
    assert meant_type(3, (2**32 - 1,) * 8, 4, None) is U8


@pytest.fixture
def context() -> Iterator[NnContext]:
    backends = BackendRegistry(routes={"onnx": "null"}, discover=False)
    backends.add("null", NullBackend)
    graphs = GraphRegistry(backends)
    made = NnContext(graphs)
    yield made
    made.close()
    graphs.close()
    backends.close()


def _set_input(guest: Guest, code: int, shape: Sequence[int], data: bytes) -> int:
    dims = guest.put(struct.pack(f"<{len(shape)}I", *shape))
    place = guest.put(data)
    record = struct.pack("<IIB3sII", dims, len(shape), code, b"\x01\x02\x03", place, len(data))
    return guest.call("set_input", guest.open(b""), 0, guest.put(record))


def _guest(context: NnContext, numbering: Numbering) -> Guest:
    guest = Guest(context)
    guest.codec = WasiEphemeralNn(context, numbering)
    guest.calls = {name: function for name, _type, function in guest.codec.functions()}
    return guest


@pytest.mark.parametrize(
    ("abi", "types"),
    [
        ("witx", [F16, F32, F64, U8, I32, I64]),
        ("old", [F16, F32, U8, I32]),
        ("wit", [F16, F32, F64, BF16, U8, I32, I64]),
    ],
)
def test_a_named_abi_has_one_order(context: NnContext, abi: str, types: list[TensorType]) -> None:
    guest = _guest(context, Numbering(abi))
    for code, wanted in enumerate(types):
        dims = guest.put(struct.pack("<I", 3))
        record = guest.put(struct.pack("<IIB3xII", dims, 1, code, 0, 3))
        # Whatever the data's length would prove.
        assert guest.codec.read_tensor(guest.memory, record, 0, 0).type is wanted
    numbers = ERRNOS["wit" if abi == "wit" else "witx"]
    assert _set_input(guest, len(types), (3,), b"abc") == numbers[ErrorKind.INVALID_ARGUMENT]
    assert f"tensor type {len(types)}: expected 0 to {len(types) - 1}" in guest.error()


def test_auto_takes_what_each_order_means(context: NnContext) -> None:
    guest = _guest(context, Numbering())
    for code, data in ((2, b"abc"), (2, b"a" * 24), (3, b"abc"), (3, b"a" * 12), (6, b"a" * 24)):
        assert _set_input(guest, code, (3,), data) == 0, guest.error()
    assert _set_input(guest, 7, (3,), b"abc") == 1
    assert "tensor type 7: expected 0 to 5" in guest.error()


def test_auto_with_a_forged_context_is_an_error_of_the_handle(context: NnContext) -> None:
    guest = _guest(context, Numbering())
    dims, data = guest.put(struct.pack("<I", 1)), guest.put(b"text")
    record = guest.put(struct.pack("<IIB3xII", dims, 1, 3, data, 4))
    assert guest.call("set_input", 0x1234, 0, record) == 1
    assert "0x1234" in guest.error()


WIT = {1: "invalid_argument", 2: "invalid_encoding", 4: "runtime_error"} | {
    5: "unsupported_operation",
    6: "too_large",
    7: "not_found",
}


def test_every_table_has_every_kind() -> None:
    for table in ERRNOS.values():
        assert set(table) == set(ErrorKind)
        assert all(number > 0 for number in table.values())
        assert [table[kind] for kind in list(ErrorKind)[-4:]] == [100, 101, 102, 103]
    assert set(ERRNOS["ancient"].values()) == {1, 2, 3, 100, 101, 102, 103}
    by_word = {kind.value: number for kind, number in ERRNOS["wit"].items()}
    assert {by_word[word]: word for word in WIT.values()} == WIT


@pytest.mark.parametrize(
    ("numbering", "unknown_name", "bad_encoding"),
    [
        (Numbering(), 8, 2),
        (Numbering("old"), 8, 2),
        (Numbering("wit"), 7, 2),
        (Numbering("wit", "witx"), 8, 2),
        (Numbering(errno="wit"), 7, 2),
        (Numbering(errno="ancient"), 1, 1),
    ],
    ids=lambda value: f"{value.abi}-{value.errno}" if isinstance(value, Numbering) else "",
)
def test_errors_are_numbered_as_the_guest_knows_them(
    context: NnContext, numbering: Numbering, unknown_name: int, bad_encoding: int
) -> None:
    guest = _guest(context, numbering)
    assert guest.load_by_name(b"nobody") == unknown_name
    assert guest.load(b"", encoding=99) == bad_encoding


def test_words_that_name_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match=r"ABI of WASI-NN 'witz'; did you mean wit or witx\?"):
        Numbering("witz")
    with pytest.raises(UsageError, match=r"error numbers of WASI-NN 'new'; .*witx, ancient, wit"):
        Numbering(errno="new")
