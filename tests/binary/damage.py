"""Damages modules, and asks for verdicts: ours, and a reference's."""

from __future__ import annotations

from collections.abc import Mapping

import wasmtime
from hypothesis import strategies as st

from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.names import read_names
from wasinn_runtime.errors import Invalid, Malformed
from wasinn_runtime.spec.features import FEATURES_2_0
from wasinn_runtime.valid.validate import validate

# Bytes that mean something nearly everywhere: small numbers, types, blocks, ends, LEB128 edges.
TELLING = bytes.fromhex("00 01 02 03 04 05 0b 0c 0e 0f 10 11 1a 1b 20 21 28 3f 40 41 60 6f 70 7b")
TELLING += bytes.fromhex("7c 7d 7e 7f 80 81 d0 d2 f0 fc fd ff")


@st.composite
def damaged(draw: st.DrawFn, modules: Mapping[str, bytes], names: tuple[str, ...]) -> bytes:
    """One of the modules, with one to four changes of its bytes."""
    chosen = draw(st.sampled_from(names))
    data = bytearray(modules[chosen])
    some_byte = st.sampled_from(TELLING) | st.integers(0, 255)
    for _ in range(draw(st.integers(1, 4))):
        # Half of the changes near the front, where the sections are that all else hangs on.
        last = len(data)
        at = draw(st.integers(8, max(8, min(last, 400))) | st.integers(0, last))
        kind = draw(st.sampled_from(["set", "set", "set", "flip", "insert", "delete", "cut"]))
        if kind == "set" and at < last:
            data[at] = draw(some_byte)
        elif kind == "flip" and at < last:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "insert":
            data[at:at] = bytes(draw(st.lists(some_byte, min_size=1, max_size=4)))
        elif kind == "delete":
            del data[at : at + draw(st.integers(1, 8))]
        elif kind == "cut":
            del data[at:]
    return bytes(data)


def verdict(data: bytes, features: frozenset[str] = FEATURES_2_0) -> str:
    """The words of the refusal, or nothing."""
    refused: Malformed | Invalid | None = None
    try:
        module = decode(data, features=features)
        read_names(module)
        validate(module)
    except (Malformed, Invalid) as error:
        refused = error
    assert str(refused).isprintable()
    return refused.message if refused else ""


def reference_verdict(engine: wasmtime.Engine, data: bytes) -> str:
    try:
        wasmtime.Module.validate(engine, data)
    except wasmtime.WasmtimeError as error:
        return str(error)
    return ""
