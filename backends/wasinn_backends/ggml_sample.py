"""A language model of one layer that knows the alphabet, for ``wasinn backends check``.

Its layer adds nothing, so that the next token follows from the last one alone: after a letter comes
the next letter, after ``z`` the end, and after all else ``a``. Also the writer of such files: GGUF
version 3.

Source: the description of GGUF in ggml's documents.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from wasinn_backends.llama_library import BUILD
from wasinn_host.nn.plugin import Sample, Tensor, TensorType

__all__ = ["gguf", "spelling_metadata", "spelling_model", "spelling_sample"]

_ALIGNMENT: Final = 32
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_TOKENS: Final = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *_LETTERS]
_WIDTH: Final = 64
"""Elements of an embedding. That of one token times that of another is at most half of this."""

Value = bool | int | float | str | Sequence[str] | Sequence[float] | Sequence[int]


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    """A value, with its type before it."""
    if isinstance(value, bool):
        return struct.pack("<I?", _BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", _U32, value)
    if isinstance(value, float):
        return struct.pack("<If", _F32, value)
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value)
    head = struct.pack("<I", _ARRAY)
    count = struct.pack("<Q", len(value))
    if isinstance(value[0], str):
        texts = b"".join(_string(str(text)) for text in value)
        return head + struct.pack("<I", _STRING) + count + texts
    is_float = isinstance(value[0], float)
    numbers = np.array(value, "<f4" if is_float else "<i4").tobytes()
    return head + struct.pack("<I", _F32 if is_float else _I32) + count + numbers


def gguf(metadata: Mapping[str, Value], tensors: Mapping[str, NDArray[Any]]) -> bytes:
    """A file of these values and tensors.

    Args:
        metadata: by key; arrays have elements of one type.
        tensors: float32, by name; outermost dimension first.
    """
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        head += _string(key) + _value(value)
    data = b""
    for name, array in tensors.items():
        sizes = array.shape[::-1]  # ggml has the innermost first
        head += _string(name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes)
        head += struct.pack("<IQ", 0, len(data))
        data += array.astype("<f4").tobytes()
        data += bytes(-len(data) % _ALIGNMENT)
    return head + bytes(-len(head) % _ALIGNMENT) + data


def _signs(number: int) -> list[int]:
    draw = random.Random(number)
    return [1 if draw.random() < 0.5 else -1 for _ in range(_WIDTH)]


def spelling_metadata(context: int) -> dict[str, Value]:
    """What the model says of itself: a llama trained for so many tokens, and its vocabulary."""
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, *[_BYTE] * 256, *[_NORMAL] * len(_LETTERS)]
    return {
        "general.architecture": "llama",
        "llama.context_length": context,
        "llama.embedding_length": _WIDTH,
        "llama.block_count": 1,
        "llama.feed_forward_length": _WIDTH,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": _WIDTH // 2,
        "llama.vocab_size": len(_TOKENS),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": _TOKENS,
        "tokenizer.ggml.scores": [0.0] * len(_TOKENS),
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_space_prefix": False,
    }


def spelling_model(context: int = 128) -> bytes:
    """The model, in GGUF."""
    first = _TOKENS.index("a")
    embedding = np.array([_signs(max(token, first - 1)) for token in range(len(_TOKENS))], "<f4")
    output = np.zeros_like(embedding)
    output[first] = embedding[0]
    output[first + 1 :] = embedding[first:-1]
    output[2] = embedding[-1]
    square, one = np.zeros((_WIDTH, _WIDTH), "<f4"), np.ones(_WIDTH, "<f4")
    weights = {"token_embd.weight": embedding, "output_norm.weight": one, "output.weight": output}
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        weights[f"blk.0.{name}.weight"] = square
    for name in ("attn_norm", "ffn_norm"):
        weights[f"blk.0.{name}.weight"] = one
    return gguf(spelling_metadata(context), weights)


def spelling_sample() -> Sample:
    """The model, a beginning of the alphabet, its rest, and what is told of both."""
    given, rest = _LETTERS[:3], _LETTERS[3:]
    told = (
        f'{{"input_tokens": {len(given)}, "output_tokens": {len(rest)}, '
        f'"llama_build_number": {BUILD}, "llama_commit": "unknown"}}'
    )
    prompt, text, metadata = (
        Tensor(TensorType.U8, (len(data),), memoryview(data))
        for data in (given.encode(), rest.encode(), told.encode())
    )
    return Sample("ggml", (spelling_model(),), (prompt,), (text, metadata))
