"""A model small enough to know every answer by heart: the sum of its words' weights."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

GUEST = (
    Path(__file__).resolve().parents[2]
    / "examples"
    / "text-classification"
    / "text-classification.wasm"
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
POSITIVE, NEGATIVE = ("good", "great"), ("bad", "awful")
OTHERS = ("film", "a", "the", "is", "very", ".")
WORDS = (*SPECIAL, *POSITIVE, *NEGATIVE, *OTHERS)


def build_model(folder: Path) -> Path:
    """Writes ``bag.onnx`` and ``vocab.txt``; the model's path."""
    weights = np.zeros((len(WORDS), 2), np.float32)
    for word in POSITIVE:
        weights[WORDS.index(word)] = (-1, 1)
    for word in NEGATIVE:
        weights[WORDS.index(word)] = (1, -1)
    names = ("input_ids", "attention_mask", "token_type_ids")
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["weights", "input_ids"], ["each"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
            helper.make_node("Mul", ["each", "column"], ["real"]),
            helper.make_node("ReduceSum", ["real", "middle"], ["logits"], keepdims=0),
        ],
        "bag-of-words",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in names],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 2])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    path = folder / "bag.onnx"
    onnx.save(model, path)
    return path


def logits(text: str) -> list[float]:
    """What the model says of a text of whole words."""
    words = text.split()
    score = sum(w in POSITIVE for w in words) - sum(w in NEGATIVE for w in words)
    return [float(-score), float(score)]


def make_rows(count: int, seed: int = 1) -> list[dict[str, object]]:
    """Texts of all lengths with labels that the model gets right most of the time."""
    chance = random.Random(seed)
    rows: list[dict[str, object]] = []
    for number in range(count):
        label = chance.randrange(2)
        words = chance.choices(WORDS[len(SPECIAL) :], k=chance.randint(1, 20))
        words += chance.choices(POSITIVE if label else NEGATIVE, k=2)
        rows.append({"id": f"r{number}", "text": " ".join(words), "label": label})
    return rows


def write_rows(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    """As JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
