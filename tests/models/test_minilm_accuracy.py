"""The built MiniLM against embeddings that transformers and torch made once (see scripts/)."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from wasinn_models import ModelStore

DATA = Path(__file__).resolve().parent / "data"
REFERENCE = np.load(DATA / "minilm_reference.npz")
LENGTHS = REFERENCE["lengths"]
STARTS = np.cumsum(LENGTHS) - LENGTHS
SENTENCES = (DATA / "minilm_sentences.txt").read_text(encoding="utf-8").splitlines()


def session(path: Path, **entries: str) -> Any:
    """An inference session with two threads at most, and as many fusions as a file may hold."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    if "optimised" in entries:
        options.optimized_model_filepath = entries["optimised"]
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def batch(indices: list[int]) -> dict[str, NDArray[np.int64]]:
    """The inputs of some sentences, padded to the longest of them."""
    ids = np.zeros((len(indices), LENGTHS[indices].max()), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, index in enumerate(indices):
        start, length = STARTS[index], LENGTHS[index]
        ids[row, :length] = REFERENCE["input_ids"][start : start + length]
        mask[row, :length] = 1
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def embeddings(path: Path, batch_size: int) -> NDArray[np.float32]:
    """Mean over tokens of ``last_hidden_state``, scaled to length 1, of all sentences."""
    run = session(path)
    rows = []
    for first in range(0, len(LENGTHS), batch_size):
        inputs = batch(list(range(first, min(first + batch_size, len(LENGTHS)))))
        states = run.run(["last_hidden_state"], inputs)[0]
        total = (states * inputs["attention_mask"][:, :, None]).sum(axis=1)
        rows.append(total / np.linalg.norm(total, axis=1, keepdims=True))
    return np.concatenate(rows)


def test_the_reference_is_of_the_committed_sentences(model_store: ModelStore) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(
        str(model_store.resolve("minilm").file("tokenizer.json"))
    )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = [tokenizer.encode(sentence).ids for sentence in SENTENCES]
    assert [len(row) for row in ids] == LENGTHS.tolist()
    assert np.array_equal(np.concatenate(ids), REFERENCE["input_ids"])
    assert len(SENTENCES) == 50


@pytest.mark.parametrize("batch_size", [1, 7])
def test_float32_embeddings_are_those_of_transformers(
    model_store: ModelStore, batch_size: int
) -> None:
    found = embeddings(model_store.resolve("minilm").path, batch_size)
    assert np.abs(found - REFERENCE["embeddings"]).max() <= 1e-4


@pytest.mark.parametrize("batch_size", [1, 7])
def test_int8_embeddings_are_within_cosine_0_99(model_store: ModelStore, batch_size: int) -> None:
    found = embeddings(model_store.resolve("minilm:int8").path, batch_size)
    cosines = (found * REFERENCE["embeddings"]).sum(axis=1)
    worst = int(cosines.argmin())
    assert cosines[worst] >= 0.99, f"{SENTENCES[worst]}: {cosines[worst]:.4f}"


def test_int8_is_smaller_and_has_integer_products(model_store: ModelStore) -> None:
    small, large = model_store.resolve("minilm:int8").path, model_store.resolve("minilm").path
    assert small.stat().st_size < 0.55 * large.stat().st_size
    model = onnx.load(small)
    counts = collections.Counter(node.op_type for node in model.graph.node)
    # Query, key, value and output projections of six layers.
    assert counts["MatMulInteger"] == 24


@pytest.mark.parametrize(("variant", "bound"), [("float32-pooled", 1e-4), ("int8-pooled", 0.2)])
def test_pooled_variants_give_the_embeddings_themselves(
    model_store: ModelStore, variant: str, bound: float
) -> None:
    run = session(model_store.resolve(f"minilm:{variant}").path)
    found = run.run(["sentence_embedding"], batch(list(range(20))))[0]
    assert found.shape == (20, 384)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5
    assert np.linalg.norm(found - REFERENCE["embeddings"][:20], axis=1).max() <= bound


def test_onnx_runtime_fuses_every_block(model_store: ModelStore, tmp_path: Path) -> None:
    optimised = tmp_path / "optimised.onnx"
    session(model_store.resolve("minilm").path, optimised=str(optimised))
    nodes = onnx.load(optimised).graph.node
    counts = collections.Counter(node.op_type for node in nodes)
    assert counts["Attention"] == 6
    assert counts["SkipLayerNormalization"] == 12
    assert counts["BiasGelu"] == 6
    assert counts["Softmax"] == 0
    assert counts["Erf"] == 0


def test_a_sequence_that_is_too_long_fails_with_the_limit_in_the_message(
    model_store: ModelStore,
) -> None:
    run = session(model_store.resolve("minilm").path)
    assert run.get_modelmeta().custom_metadata_map["max_sequence_length"] == "512"
    ones = np.ones((1, 512), dtype=np.int64)
    longest = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), ones)
    assert run.run(None, longest)[0].shape == (1, 512, 384)
    longer = {name: np.ones((1, 513), dtype=np.int64) for name in longest}
    with pytest.raises(Exception, match="at_most_512"):
        run.run(None, longer)
