"""Small BERT models, Hugging Face's tokenizer of their vocabulary, and guests that are asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from tokenizers import Encoding
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

from examples import build
from wasinn_host.evaluate.evaluation import Evaluation
from wasinn_host.evaluate.guests.answers import Answers
from wasinn_host.evaluate.host_side import HostSide, find_graph
from wasinn_models import BertConfig, build_bert
from wasinn_models.bert.weights import random_weights

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    *("the", "film", "is", "good", "bad", "a", "an", "and", "of", "to", "in", "it", "was", "not"),
    *("un", "break", "able", "play", "er", "token", "embed", "naive", "cafe", "Zoë", "Paris"),
)
PIECES = ("##s", "##ing", "##ed", "##able", "##er", "##break", "##token", "##ize", "##fe", "##ë")
SINGLE = (
    *(chr(c) for c in range(0x21, 0x7F)),
    *"éÉüßøæαβωσςДд中文日本語한국어가각हिन्दीاب。、！？😀👍©™∑",
    # What Hangul becomes.
    *(chr(c) for c in (*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3))),
)
MAX_TOKENS = 512


def write_vocabulary(folder: Path) -> Path:
    """Writes ``vocab.txt``: words, pieces, and single characters but for some letters."""
    single = [c for c in dict.fromkeys(SINGLE) if c not in "qQ"]
    tokens = [*SPECIAL, *WORDS, *PIECES, *single, *(f"##{c}" for c in single if c not in "xX")]
    lines = "".join(f"{token}\n" for token in dict.fromkeys(tokens))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text(lines, encoding="utf-8", newline="\n")
    return folder


def tokenizer_of(folder: Path, *, cased: bool = False) -> Any:
    """Hugging Face's tokenizer of a vocabulary, without cutting and padding."""
    return BertWordPieceTokenizer.from_file(str(folder / "vocab.txt"), lowercase=not cased)


def byte_span(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """Offsets in bytes of UTF-8, of those in characters."""
    start = len(text[: span[0]].encode())
    return start, start + len(text[span[0] : span[1]].encode())


def build_encoder(folder: Path, head: str, labels: int = 0, seed: int = 1) -> Path:
    """A random encoder whose outputs differ clearly from row to row, beside its ``vocab.txt``."""
    config = BertConfig(
        vocab_size=len((folder / "vocab.txt").read_text(encoding="utf-8").splitlines()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=MAX_TOKENS,
        layer_norm_eps=1e-5,
        labels=tuple(f"L{i}" for i in range(labels)),
    )
    weights = {
        name: values if name.endswith("LayerNorm.weight") else values * 15
        for name, values in random_weights(config, head, seed).items()
    }
    save_file(weights, folder / f"{head}.safetensors")
    return build_bert(config, folder / f"{head}.safetensors", folder / f"{head}.onnx", head=head)


def build_echo(folder: Path) -> Path:
    """A model that gives its inputs back: float32 [rows, width] of ids * 4 + mask * 2 + types."""
    nodes = [
        helper.make_node("Mul", ["input_ids", "four"], ["a"]),
        helper.make_node("Mul", ["attention_mask", "two"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["c"]),
        helper.make_node("Add", ["c", "token_type_ids"], ["d"]),
        helper.make_node("Cast", ["d"], ["logits"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "echo",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in INPUTS],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "s"])],
        [
            numpy_helper.from_array(np.array(4), "four"),
            numpy_helper.from_array(np.array(2), "two"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "echo.onnx")
    return folder / "echo.onnx"


def computed(path: Path, encodings: Sequence[Encoding]) -> list[NDArray[np.float32]]:
    """What ONNX Runtime computes of rows, padded to the longest."""
    width = max(len(encoding.ids) for encoding in encodings)
    feeds = {name: np.zeros((len(encodings), width), np.int64) for name in INPUTS}
    for row, encoding in enumerate(encodings):
        given = (encoding.ids, encoding.attention_mask, encoding.type_ids)
        for name, values in zip(INPUTS, given, strict=True):
            feeds[name][row, : len(values)] = values
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found: list[NDArray[np.float32]] = session.run(None, feeds)
    return found


class Asked:
    """A guest that has started."""

    def __init__(self, guest: Any) -> None:
        self._guest = guest

    def __call__(self, *rows: Sequence[str]) -> Answers:
        """The answers to a batch."""
        answers: Answers = self._guest.ask(rows, 60.0)
        return answers

    def numbers(self, *rows: Sequence[str]) -> list[NDArray[np.float32]]:
        """The numbers of each row of a batch."""
        answers = self(*rows)
        return np.split(answers.numbers, np.cumsum(answers.counts)[:-1])


@contextlib.contextmanager
def asked(guest: str | Path, model: Path, *args: str) -> Iterator[Asked]:
    """Starts an example, by its name, or any guest; the vocabulary is beside the model."""
    path = build.GUESTS[guest].prebuilt if isinstance(guest, str) else guest
    evaluation = Evaluation(
        guest=str(path), graph=f"onnx:cpu:{model}", data="-", task="", output="", args=args
    )
    with HostSide(evaluation, find_graph(evaluation.graph), ("text", "text_pair")) as side:
        started = side.start()
        try:
            yield Asked(started)
        finally:
            started.close()
