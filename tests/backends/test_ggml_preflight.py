"""What the look at a guest's GGUF refuses, and that it takes what it should."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import numpy as np
import pytest

from wasinn_backends.ggml_preflight import preflight
from wasinn_backends.ggml_sample import gguf, spelling_metadata, spelling_model
from wasinn_host.nn.errors import WasiNnError
from wasinn_host.nn.plugin import ErrorKind

PLAIN = spelling_metadata(128)
TOKENS: Any = PLAIN["tokenizer.ggml.tokens"]
EMBEDDING = np.zeros((len(TOKENS), 64), "<f4")


def model(without: str = "", **changes: object) -> bytes:
    """A whole one of one tensor, with keys changed: ``__`` stands for a point, ``_`` stays."""
    values: dict[str, Any] = {k: v for k, v in PLAIN.items() if k != without}
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    return gguf(values, {"token_embd.weight": EMBEDDING})


def text(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def headed(keys: int = 0, tensors: int = 0, body: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys) + body


BAD = {
    "nothing": (b"", "does not begin with GGUF"),
    "magic": (b"FUGG" + bytes(100), "does not begin with GGUF"),
    "version 1": (headed(version=1), "expected version 2 or 3, got 1"),
    "big endian": (headed(version=0x0300_0000), "got 50331648"),
    "many keys": (headed(keys=1 << 63), "at most 4096, 65536"),
    "many tensors": (headed(tensors=1 << 20), "at most 4096, 65536"),
    "ends in the middle": (spelling_model()[:500], "not a usable GGUF model"),
    "ends in the weights": (spelling_model()[:-4], "reaches past the end"),
    "long text": (
        headed(1, body=struct.pack("<Q", 1 << 62)),
        "a text of 46116860184273",
    ),
    "no UTF-8": (headed(1, body=text(b"\xff")), "no UTF-8"),
    "type of a value": (headed(1, body=text(b"k") + struct.pack("<I", 13)), "key k has type 13"),
    "array of arrays": (
        headed(1, body=text(b"k") + struct.pack("<IIQ", 9, 9, 1)),
        "is an array of type 9",
    ),
    "long array": (
        headed(1, body=text(b"k") + struct.pack("<IIQ", 9, 0, 1 << 40)),
        "more than 2000000",
    ),
    "array past the end": (
        headed(1, body=text(b"k") + struct.pack("<IIQ", 9, 4, 1000)),
        "reaches past the end",
    ),
    "key twice": (headed(2, body=2 * (text(b"k") + struct.pack("<II", 4, 1))), "is there twice"),
    "alignment": (model(general__alignment=3), "an alignment of 3"),
    "architecture": (
        model(general__architecture="gpt2"),
        "of llama, qwen2, qwen3, got 'gpt2'",
    ),
    "no architecture": (model("general.architecture"), "got None"),
    "several files": (model(split__count=2), "one of several files"),
    "no layers": (model(llama__block_count=0), "llama.block_count: expected 1 to 4096, got 0"),
    "many layers": (model(llama__block_count=1 << 30), "llama.block_count"),
    "no length": (model("llama.context_length"), "llama.context_length: expected"),
    "no heads": (model(llama__attention__head_count=0), "head_count: expected 1"),
    "heads in a list": (model(llama__attention__head_count=[2, 2]), "head_count: expected 1"),
    "heads that do not fit": (model(llama__attention__head_count=3), "do not fit together"),
    "keys that do not fit": (model(llama__attention__head_count_kv=4), "do not fit together"),
    "odd heads": (model(llama__attention__head_count=64), "heads of 1 elements"),
    "rope": (model(llama__rope__dimension_count=64), "of which 64 are turned"),
    "epsilon": (model(llama__attention__layer_norm_rms_epsilon=0.0), "rms_epsilon: got 0.0"),
    "no tokens": (model("tokenizer.ggml.tokens"), "no list of tokens"),
    "tokens that are numbers": (model(tokenizer__ggml__tokens=[1, 2]), "no list of tokens"),
    "scores": (model(tokenizer__ggml__scores=[0.0]), "scores is not as long as the list of 285"),
    "types": (model(tokenizer__ggml__token_type=[1, 2]), "token_type is not as long"),
    "token id": (model(tokenizer__ggml__eos_token_id=285), "there are 285 tokens, got 285"),
    "embedding": (
        gguf(PLAIN, {"token_embd.weight": EMBEDDING[1:]}),
        "a row for each of 285 tokens",
    ),
    "no embedding": (gguf(PLAIN, {}), "got None"),
}


@pytest.mark.parametrize("name", BAD)
def test_it_refuses(name: str) -> None:
    data, words = BAD[name]
    with pytest.raises(WasiNnError) as raised:
        preflight(data)
    assert words in raised.value.message
    assert len(raised.value.message) < 400
    assert raised.value.kind in (
        ErrorKind.INVALID_ENCODING,
        ErrorKind.UNSUPPORTED_OPERATION,
        ErrorKind.TOO_LARGE,
    )


def test_it_refuses_tensors_that_are_none() -> None:
    data = bytearray(model())
    at = data.index(text(b"token_embd.weight")) + 8 + 17
    assert struct.unpack_from("<IQQIQ", data, at) == (2, 64, 285, 0, 0)
    for described, words in (
        ((0, 64, 285, 0, 0), "has 0 dimensions"),
        ((5, 64, 285, 0, 0), "has 5 dimensions"),
        ((2, 0, 285, 0, 0), "has shape [0, 285]"),
        ((2, 1 << 63, 285, 0, 0), "is too large"),
        ((2, 64, 1 << 63, 0, 0), "is too large"),
        ((2, 64, 285, 4, 0), "has elements of type 4"),
        ((2, 64, 285, 99, 0), "has elements of type 99"),
        ((2, 65, 285, 8, 0), "of type 8 has shape [65, 285]"),
        ((2, 64, 285, 0, 1), "lies at 1, not at a multiple of 32"),
        ((2, 64, 285, 0, 32), "reaches past the end"),
        ((2, 64, 285, 0, (1 << 64) - 32), "reaches past the end"),
    ):
        changed = data.copy()
        struct.pack_into("<IQQIQ", changed, at, *described)
        with pytest.raises(WasiNnError) as raised:
            preflight(bytes(changed))
        assert words in raised.value.message


def test_it_takes_what_is_whole() -> None:
    preflight(spelling_model())
    preflight(model())
    preflight(model(general__architecture="llama", general__alignment=32, split__count=1))
    preflight(model("tokenizer.ggml.scores", tokenizer__ggml__eot_token_id=(1 << 32) - 1))


def test_every_cut_and_wrong_number_is_an_error_of_ours() -> None:
    whole = spelling_model()
    start = whole.index(b"tokenizer.ggml.bos_token_id")
    for end in (*range(400), *range(start, start + 1500, 7), len(whole) - 1):
        with pytest.raises(WasiNnError):
            preflight(whole[:end])
    for at in (*range(4, 400), *range(start, start + 1500, 5)):
        for wrong in (0, 1, 0x7F, 0x80, 0xFF):
            with contextlib.suppress(WasiNnError):  # and nothing else
                preflight(whole[:at] + bytes([wrong]) + whole[at + 1 :])
