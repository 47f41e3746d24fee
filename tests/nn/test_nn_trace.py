"""Trace lines: what people see with ``--trace=nn``."""

from __future__ import annotations

import re

from tests.nn.fake_guest import Guest
from wasinn_host.nn import GraphRegistry, NnContext, Target, TensorType, WasiEphemeralNn


def _without_times(lines: list[str]) -> list[str]:
    return [
        re.sub(r"0x[0-9a-f]{5,}", "HANDLE", re.sub(r" \(\d+ us\)$", "", line)) for line in lines
    ]


def test_lines_tell_arguments_results_and_reasons(null_graphs: GraphRegistry) -> None:
    null_graphs.register("écho", "null", Target.CPU, builders=[b""])
    lines: list[str] = []
    guest = Guest(NnContext(null_graphs), trace=lines.append)
    context = guest.open(b"model", b"second")
    guest.load_by_name("écho".encode())
    guest.compute(context)
    guest.set_input(context, 0, TensorType.I64, (1, 2), bytes(16))
    guest.compute(context)
    guest.get_output(context, 0, 8)
    guest.get_output(context, 0, 16)
    guest.call("set_input", context, 0, 0xFFFF_FFFF)
    assert _without_times(lines) == [
        "wasi_ephemeral_nn.load(builders=[5 bytes, 6 bytes], count=2, encoding=onnx, target=cpu, "
        "graph_out=0x10) = 0 graph=HANDLE",
        "wasi_ephemeral_nn.init_execution_context(graph=HANDLE, context_out=0x10) "
        "= 0 context=HANDLE",
        "wasi_ephemeral_nn.load_by_name(name='écho', name_len=5, graph_out=0x10) = 0 graph=HANDLE",
        "wasi_ephemeral_nn.compute(context=HANDLE) = 1 invalid_argument: null: no input is set",
        "wasi_ephemeral_nn.set_input(context=HANDLE, index=0, tensor=i64[1,2] 16 bytes) = 0",
        "wasi_ephemeral_nn.compute(context=HANDLE) = 0",
        "wasi_ephemeral_nn.get_output(context=HANDLE, index=0, out=0x180, out_max_bytes=8, "
        "written_out=0x10) = 7 too_large: output 0 has 16 bytes, the guest's buffer 8; "
        "call again with a buffer of at least 16 bytes",
        "wasi_ephemeral_nn.get_output(context=HANDLE, index=0, out=0x190, out_max_bytes=16, "
        "written_out=0x10) = 0 written=16",
        "wasi_ephemeral_nn.set_input(context=HANDLE, index=0, tensor=HANDLE) = 1 "
        "invalid_argument: bad pointer: out of bounds: [HANDLE, HANDLE) of HANDLE bytes",
    ]


def test_without_a_sink_the_functions_are_the_codecs_own(null_graphs: GraphRegistry) -> None:
    codec = WasiEphemeralNn(NnContext(null_graphs))
    for name, _type, function in codec.functions():
        assert function == getattr(codec, name)


def test_numbers_without_a_meaning_are_shown_as_they_are(null_graphs: GraphRegistry) -> None:
    lines: list[str] = []
    guest = Guest(NnContext(null_graphs), trace=lines.append)
    guest.load(b"m", encoding=77, target=9)
    assert "encoding=77, target=9" in lines[0]
    assert "= 2 invalid_encoding: encoding 77: expected 0 to 6" in lines[0]
