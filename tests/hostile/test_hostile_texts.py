"""Weights and texts that mean harm: safetensors files, and what a tokenizer is given.

Weights are read by the host when it builds a model; tokenizers run in guests, in bounded time.
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
from pathlib import Path

import pytest

from tests.hostile.child import Canaries, limited, run_case
from wasinn_models.bert.config import BertConfig
from wasinn_models.bert.weights import read_weights, weight_shapes
from wasinn_models.errors import BuildError

SEARCH = Path(__file__).resolve().parents[2] / "examples/semantic-search/semantic-search.wasm"
SMALL = BertConfig(vocab_size=4, hidden_size=4, num_hidden_layers=1, num_attention_heads=1)


def _file(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def _entries() -> tuple[dict[str, object], int]:
    """A header that fits the configuration, and the size of its data."""
    entries: dict[str, object] = {}
    at = 0
    for name, shape in weight_shapes(SMALL, "embedding"):
        size = 4
        for each in shape:
            size *= each
        spans = {"dtype": "F32", "shape": list(shape), "data_offsets": [at, at + size]}
        entries[name], at = spans, at + size
    return entries, at


def safetensors() -> None:
    entries, size = _entries()
    right = _file(json.dumps(entries).encode(), bytes(size))
    anchor = "embeddings.word_embeddings.weight"
    first = entries[anchor]
    assert isinstance(first, dict)
    begin, end = first["data_offsets"]

    def changed(**changes: object) -> bytes:
        header = json.dumps({**entries, anchor: {**first, **changes}}).encode()
        return _file(header, bytes(size))

    twice = json.dumps(entries)[:-1] + f', "{anchor}": {json.dumps(first)}}}'
    wrong = [
        b"",
        b"\0" * 7,
        right[:-1],
        right[: len(right) // 2],
        right + b"\0",
        _file(b"{}", b"", (1 << 64) - 1),
        _file(b"{}", b"", 1 << 62),
        _file(b"{}" + b" " * 100, b"", 100 << 20),
        _file(b"[" * 100_000),
        _file(b'{"a":' * 100_000),
        _file(b"\xff" * 100),
        _file(b'{"__metadata__": {"a": 1}}'),
        _file(b"{}"),
        changed(data_offsets=[end, begin]),
        changed(data_offsets=[begin, (1 << 64) - 1]),
        changed(data_offsets=[1 << 63, (1 << 63) + 64]),
        changed(data_offsets=[-1, 3]),
        changed(data_offsets=[begin, end - 4]),
        changed(data_offsets=[begin + 4, end + 4]),
        changed(shape=[1 << 32, 1 << 32]),
        changed(shape=[1 << 62, 4]),
        changed(shape=[]),
        changed(dtype="F64"),
        changed(dtype="I32"),
        changed(dtype="EVIL"),
        _file(twice.encode(), bytes(size + end - begin)),
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        path.write_bytes(right)
        assert read_weights(path, SMALL, "embedding").keys() == entries.keys()
        for number, content in enumerate(wrong):
            path.write_bytes(content)
            with pytest.raises(BuildError) as caught:
                read_weights(path, SMALL, "embedding")
            assert str(path) in str(caught.value), number
            assert len(str(caught.value)) < 2000, number


def test_weights(canaries: Canaries) -> None:
    run_case(safetensors, canaries)


SPECIAL = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n"
VOCABULARY = SPECIAL + b"a\n##a\n##aa\nb\nhello\n"
LINES = (
    b"a" * 1_000_000,
    b"a " * 1_000_000,
    "a\u0301\u0323".encode() * 200_000,
    b"\xed\xa0\x80\xf4\x90\x80\x80\xc3\xf0\x9f" * 50_000,
    "\u202e\u200b\u200d\ufeff\u2066a".encode() * 50_000,
    b"\n" * 100_000,
)
# Vocabularies and lines of text.
TEXTS = {
    "long, and of odd letters": (VOCABULARY, b"\n".join(LINES)),
    "pieces that nearly fit": (
        SPECIAL + b"".join(b"##" + b"a" * n + b"\n" for n in range(1, 200)) + b"a\n",
        (b"a" * 199 + b"b ") * 5_000,
    ),
    "NULs": (VOCABULARY + b"\0\n##\0\n", b"\0a\0" * 100_000),
    "a million lines of vocabulary": (
        SPECIAL + b"".join(b"w%d\n" % n for n in range(1_000_000)),
        b"w1 w999999 hello\n",
    ),
    "a vocabulary of one line": (SPECIAL + b"x" * 5_000_000, b"hello\n"),
    "a vocabulary of the same lines": (SPECIAL + b"a\n" * 500_000, b"a\n"),
    "a vocabulary of any bytes": (SPECIAL + bytes(range(256)) * 10_000, b"hello\n"),
    "no vocabulary": (b"", b"hello\n"),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_a_tokenizer_in_a_guest(canaries: Canaries, tmp_path: Path, kind: str) -> None:
    vocabulary, lines = TEXTS[kind]
    models = tmp_path / "models"
    models.mkdir()
    (models / "vocab.txt").write_bytes(vocabulary)
    ended = limited(
        [
            *(sys.executable, "-m", "wasinn_host.cli", "run", "--timeout", "30"),
            *("--max-memory", "512M", "--dir", f"{models}::models", str(SEARCH)),
            *("--vocab", "models/vocab.txt", "--tokenize"),
        ],
        canaries.folder,
        lines,
    )
    # Done, or the guest's own complaint: no trap, no timeout, nothing that the host says.
    assert ended.status in ((1, 2) if kind == "no vocabulary" else (0,)), ended.err[-500:]
    assert "wasinn:" not in ended.err
    if ended.status == 0:
        assert len(ended.out.splitlines()) == len(lines.decode("utf-8", "replace").splitlines())
    canaries.check(ended.out, ended.err)
