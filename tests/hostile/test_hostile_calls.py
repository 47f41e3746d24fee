"""WASI-NN calls that lie: handles, tensors, buffers, builders, names. By a guest on the engine.

Each case is a process, in which the guest goes on after each lie: what is right has its answer.
"""

from __future__ import annotations

import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.backends.onnx_models import doubling
from tests.hostile.child import Canaries, run_case
from tests.nn.pass_through import EPHEMERAL, PassThrough, module_of
from wasinn_backends.null import NullBackend
from wasinn_backends.onnx import OnnxBackend
from wasinn_host.host import Host
from wasinn_host.nn import NnLimits, Target

F16, F32, F64, U8, I32, I64 = range(6)
BAD_ARGUMENT, TOO_LARGE, NOT_FOUND = 1, 7, 8
TOP = 0xFFFF_FFFF
ONE = struct.pack("<2f", 1.5, -2)
TWICE = struct.pack("<2f", 3, -4)
PAGE = 65536


@contextmanager
def guests(count: int = 1, pages: int = 64) -> Iterator[list[PassThrough]]:
    """Guests of one host with the ONNX backend."""
    with Host(backend_options={"onnx": {"threads": "1"}}) as host:
        host.backends.add("onnx", OnnxBackend)
        host.backends.add("null", NullBackend)
        host.graphs.register("echo", "null", Target.CPU, builders=[b""])
        module = host.load(module_of(EPHEMERAL, pages=pages))
        opened = [PassThrough(host.open(module)) for _ in range(count)]
        yield opened
        for each in opened:
            each.guest.close()


def works(nn: PassThrough, context: int) -> None:
    """The right request has the right answer."""
    nn.rewind()
    assert nn.set_input(context, F32, (2,), ONE) == 0, nn.error
    assert nn.call("compute", context) == 0, nn.error
    assert nn.get_output(context, 8) == (0, TWICE)


def of_context(nn: PassThrough, handle: int) -> list[int]:
    """The error numbers of all functions that take a context's handle."""
    return [
        nn.set_input(handle, F32, (2,), ONE),
        *(nn.call(name, handle) for name in ("compute", "compute_single", "fini_single")),
        *(nn.get_output(handle, 8, name=name)[0] for name in ("get_output", "get_output_single")),
        nn.call("finalize_execution_context", handle),
    ]


def handles() -> None:
    with guests(2) as (nn, other):
        graph = nn.load(doubling()) or nn.result
        contexts = [nn.init(graph) or nn.result for _ in range(2)]
        assert len({graph, *contexts}) == 3
        others = other.open(doubling())
        wrong = {0, 1, 2, 0x7FFF_FFFF, 1 << 31, TOP, contexts[0] ^ 1 << 28, graph}
        for handle in wrong - set(contexts):
            assert set(of_context(nn, handle)) == {BAD_ARGUMENT}, hex(handle)
        for handle in {0, TOP, *contexts, graph ^ 1 << 28}:
            assert nn.init(handle) == BAD_ARGUMENT, hex(handle)
            assert nn.call("unload", handle) == BAD_ARGUMENT, hex(handle)
        assert set(of_context(nn, others)) == {BAD_ARGUMENT}
        assert "of another guest" in nn.error
        for context in contexts:
            assert nn.call("compute", context) == BAD_ARGUMENT, "no input yet"
            assert nn.get_output(context, 8)[0] == BAD_ARGUMENT, "nothing computed yet"
        works(nn, contexts[0])
        assert nn.get_output(contexts[1], 8)[0] == BAD_ARGUMENT, "the other one has computed"
        assert nn.call("finalize_execution_context", contexts[1]) == 0
        assert set(of_context(nn, contexts[1])) == {BAD_ARGUMENT}
        assert "is stale" in nn.error
        assert nn.call("unload", graph) == 0
        assert nn.init(graph) == BAD_ARGUMENT
        works(nn, contexts[0])
        works(other, others)


def tensors() -> None:
    end = 64 * PAGE
    with guests() as (nn,):
        context = nn.open(doubling())
        works(nn, context)
        for code, shape, size in (
            (F32, (PAGE,) * 4, 0),  # the product is 2**64
            (F32, (PAGE,) * 4, 8),
            (F32, (1 << 31, 1 << 31, 4), 0),
            (F32, (TOP,) * 8, 8),
            (F32, (0x4000_0002,), 8),  # times four it is 8 in 32 bits
            (F32, (), 4),
            (F32, (2,), 0),
            (F32, (2,), 7),
            (F32, (2,), 9),
            (F32, (0, TOP), 8),
            (F32, (1, 2), 8),
            (F16, (2,), 4),
            (F64, (2,), 16),
            (U8, (2,), 2),
            (I32, (2,), 8),
            (I64, (2,), 16),
            *((code, (2,), 8) for code in (7, 16, 127, 128, 255)),
        ):
            assert nn.set_input(context, code, shape, bytes(size)) == BAD_ARGUMENT, (code, shape)
            works(nn, context)
        dims, data = nn.put(struct.pack("<I", 2)), nn.put(ONE)
        for record in (
            (dims, 1 << 30, F32, data, 8),
            (dims, TOP, F32, data, 8),
            (end - 3, 1, F32, data, 8),
            (TOP, 1, F32, data, 8),
            (dims, 1, F32, end - 7, 8),
            (dims, 1, F32, TOP, 8),
            (dims, 1, F32, data, TOP),
            (dims, 1, F32, data, end),
            (dims, 0, F32, end + 1, 0),
        ):
            at = nn.put(struct.pack("<IIIII", *record))
            assert nn.call("set_input", context, 0, at) == BAD_ARGUMENT, record
        for pointer in (end - 19, end, TOP - 3, TOP):
            assert nn.call("set_input", context, 0, pointer) == BAD_ARGUMENT
        # Unaligned is as good as aligned.
        at = nn.put(b"?" + struct.pack("<I", 2) + ONE) + 1
        unaligned = nn.put(b"???" + struct.pack("<IIIII", at, 1, F32, at + 4, 8)) + 3
        assert nn.call("set_input", context, 0, unaligned) == 0
        assert nn.call("compute", context) == 0
        assert nn.get_output(context, 8) == (0, TWICE)
        # A vector of no elements is one: the model doubles it.
        assert nn.set_input(context, F32, (0,), b"") == 0
        assert nn.call("compute", context) == 0
        assert nn.get_output(context, 0) == (0, b"")
        works(nn, context)


def output_buffers() -> None:
    end = 64 * PAGE
    with guests() as (nn,):
        context = nn.open(doubling())
        works(nn, context)
        memory = nn.guest.memory
        out, written = nn.put(b"\x55" * 64), nn.put(b"\x66" * 16)
        for size in (0, 1, 7):
            assert nn.call("get_output", context, 0, out, size, written) == TOO_LARGE
            assert memory.read_u32(written) == 8
            assert memory.read(out, 64) == b"\x55" * 64
        for size in (8, 9, 40):
            assert nn.call("get_output", context, 0, out + 8, size, written) == 0
            assert memory.read(out, 64) == b"\x55" * 8 + TWICE + b"\x55" * 48
        assert memory.read(written + 4, 12) == b"\x66" * 12
        untouched = memory.read(end - 64, 64)
        for where, size, result in (
            (out, TOP, written),
            (out, end, written),
            (end - 7, 8, written),
            (end, 8, written),
            (TOP, 8, written),
            (end - 8, 9, written),
            (out, 8, end - 3),
            (out, 8, TOP),
            (end + 1, 0, written),
        ):
            assert nn.call("get_output", context, 0, where, size, result) == BAD_ARGUMENT
            assert memory.read(end - 64, 64) == untouched
        assert memory.read(out, 64) == b"\x55" * 8 + TWICE + b"\x55" * 48
        assert nn.call("get_output", context, 0, end - 8, 8, written) == 0
        assert memory.read(end - 8, 8) == TWICE
        # The size is written last: where both overlap, that is what is there.
        assert nn.call("get_output", context, 0, out, 8, out + 4) == 0
        assert memory.read(out, 9) == TWICE[:4] + struct.pack("<I", 8) + TWICE[:1]
        for index in (1, 2, 1 << 31, TOP):
            assert nn.call("get_output", context, index, out, 64, written) == BAD_ARGUMENT
        works(nn, context)


def builders() -> None:
    end = 64 * PAGE
    model = doubling()
    with guests() as (nn,):
        context = nn.open(model)
        nn.rewind()
        at = nn.put(model)

        def load(parts: bytes, count: int) -> int:
            return nn.call("load", nn.put(parts), count, 1, 0, nn.RESULT)

        right = struct.pack("<II", at, len(model))
        assert load(right, 1) == 0
        for count in (1 << 29, (1 << 29) + 1, 1 << 31, TOP):  # eight times that wraps in 32 bits
            assert load(right, count) == BAD_ARGUMENT, count
        assert load(right * 65, 65) == TOO_LARGE
        for pointer, size in (
            (end + 1, 0),  # of no bytes, but nowhere
            (TOP, 0),
            (at, TOP),
            (0, TOP),
            (end - 1, 2),
            (TOP, 1),
        ):
            assert load(struct.pack("<II", pointer, size), 1) == BAD_ARGUMENT, (pointer, size)
        for count in (0, 2, 64):
            assert load(right * count, count) == BAD_ARGUMENT, count
        for pointer in (end - 7, end, TOP):
            assert nn.call("load", pointer, 1, 1, 0, nn.RESULT) == BAD_ARGUMENT
        assert nn.call("load", nn.put(right), 1, 1, 0, end - 3) == BAD_ARGUMENT
        works(nn, context)


def loads_without_end() -> None:
    model = doubling()
    with guests() as (nn,):
        at = nn.put(struct.pack("<II", nn.put(model), len(model)))
        answers = [nn.call("load", at, 1, 1, 0, nn.RESULT) for _ in range(1000)]
        assert answers == [0] * 64 + [TOO_LARGE] * 936
        assert nn.guest.nn is not None
        assert nn.guest.nn.model_bytes == 64 * len(model)
    with guests() as (nn,):
        at = nn.put(struct.pack("<II", nn.put(model), len(model)))
        peaks = []
        for number in range(3000):
            assert nn.call("load", at, 1, 1, 0, nn.RESULT) == 0
            assert nn.call("unload", nn.result) == 0
            if number in (1000, 2999):
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        assert peaks[1] - peaks[0] < 16 << 10, f"kilobytes at the peak: {peaks}"


def large_models_are_within_limits() -> None:
    """Sixty-four times the same bytes in one model, which the guest has only once."""
    limits = NnLimits(model_bytes=64 << 20)
    with Host(nn_limits=limits) as host:
        host.backends.add("onnx", OnnxBackend)
        nn = PassThrough(host.open(module_of(EPHEMERAL, pages=256)))
        parts = struct.pack("<II", 0, 8 << 20) * 64
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert nn.call("load", nn.put(parts), 64, 1, 0, nn.RESULT) == TOO_LARGE
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10
        nn.guest.close()


def names() -> None:
    with guests(pages=64) as (nn,):
        context = nn.open(doubling())
        for name in (
            b"secret",
            b"./secret",
            b"../canaries/secret",
            b"model.onnx",
            b"/etc/passwd",
            b"file:///etc/passwd",
            b"below/../secret",
            b"link",
            b"echo\0",
            b"echo\0.onnx",
            b"echo ",
            b"ECHO",
            b"e\xcc\x81cho",
            b"$(touch pwned)",
            b"; touch pwned #",
            b"|touch pwned",
            b"%s%n",
            b"\x1b]0;owned\x07",
            b"x" * 1024,
        ):
            nn.rewind()
            assert nn.load_by_name(name) == NOT_FOUND, name
            assert nn.load_by_name(name, b'{"model": "secret"}') == NOT_FOUND, name
        for name in (b"", b"\xff", b"\xed\xa0\x80", b"x" * 1025, b"x" * (1 << 20)):
            nn.rewind()
            assert nn.load_by_name(name) == BAD_ARGUMENT, name[:20]
        nn.rewind()
        assert nn.load_by_name(b"x" * (3 << 20)) == BAD_ARGUMENT
        assert len(nn.error) < 500
        assert nn.call("load_by_name", 0, TOP, 0) == BAD_ARGUMENT
        assert nn.call("load_by_name", TOP, 0, 0) == BAD_ARGUMENT
        nn.rewind()
        assert nn.load_by_name(b"echo") == 0
        works(nn, context)


def configurations() -> None:
    """What a guest gives along with a name is for the backend to read; it is never a path here."""
    with guests() as (nn,):
        for config in (
            b'{"mmproj": "secret", "image": "/etc/passwd"}',
            b'{"model": "$(touch pwned)"}',
            b"secret",
            b"[" * 100_000,
            b"\xff" * 1000,
        ):
            nn.rewind()
            assert nn.load_by_name(b"echo", config) == BAD_ARGUMENT
            assert "takes no configuration" in nn.error
        assert nn.load_by_name(b"echo", b" " * ((1 << 20) + 1)) == TOO_LARGE


CASES: list[Callable[[], None]] = [
    handles,
    tensors,
    output_buffers,
    builders,
    large_models_are_within_limits,
    names,
    configurations,
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.__name__)
def test_a_guest_that_lies(canaries: Canaries, case: Callable[[], None]) -> None:
    run_case(case, canaries)


@pytest.mark.slow
def test_loads_without_end(canaries: Canaries) -> None:
    run_case(loads_without_end, canaries)
