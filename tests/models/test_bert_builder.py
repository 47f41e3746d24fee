"""The BERT builder against a plain numpy encoder, and what it says about wrong input."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from wasinn_models import BertConfig, build_bert
from wasinn_models.bert import build, writer
from wasinn_models.bert.weights import random_weights, weight_shapes
from wasinn_models.errors import BuildError, MissingExtra

Floats = NDArray[np.float64]
Weights = Mapping[str, NDArray[np.float32]]

TINY = BertConfig(
    vocab_size=50,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=40,
    max_position_embeddings=20,
    type_vocab_size=2,
    layer_norm_eps=1e-5,
    labels=("no", "maybe", "yes"),
)


def shaped(**changes: Any) -> BertConfig:
    """The small encoder with some fields changed."""
    return BertConfig(**{**vars(TINY), **changes})


def weights_of(config: BertConfig, head: str = "classification") -> dict[str, Any]:
    """Random weights large enough that every part of the encoder shows in the output."""
    drawn = random_weights(config, head, seed=3)
    return {
        name: values if name.endswith("LayerNorm.weight") else values * 15
        for name, values in drawn.items()
    }


def inputs(lengths: list[int], config: BertConfig = TINY) -> dict[str, NDArray[np.int64]]:
    """Random ids and segments for rows of these lengths, padded."""
    source = np.random.default_rng(5)
    shape = (len(lengths), max(lengths))
    mask = (np.arange(shape[1])[None, :] < np.array(lengths)[:, None]).astype(np.int64)
    return {
        "input_ids": source.integers(0, config.vocab_size, shape),
        "attention_mask": mask,
        "token_type_ids": source.integers(0, config.type_vocab_size, shape),
    }


def numpy_bert(
    config: BertConfig, weights: Weights, data: Mapping[str, NDArray[np.int64]]
) -> Floats:
    """The encoder's last hidden state in float64, written for reading."""
    w = {name: values.astype(np.float64) for name, values in weights.items()}

    def dense(name: str, x: Floats) -> Floats:
        return np.asarray(x @ w[f"{name}.weight"].T + w[f"{name}.bias"])

    def norm(name: str, x: Floats) -> Floats:
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + config.layer_norm_eps)
        return np.asarray(centred / deviation * w[f"{name}.weight"] + w[f"{name}.bias"])

    def activation(x: Floats) -> Floats:
        if config.hidden_act == "relu":
            return np.maximum(x, 0)
        if config.hidden_act == "gelu":
            return np.asarray(x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))))
        return np.asarray(x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))

    ids, mask = data["input_ids"], data["attention_mask"]
    rows, length = ids.shape
    x = w["embeddings.word_embeddings.weight"][ids]
    x = x + w["embeddings.token_type_embeddings.weight"][data["token_type_ids"]]
    x = norm("embeddings.LayerNorm", x + w["embeddings.position_embeddings.weight"][:length])
    for layer in range(config.num_hidden_layers):
        base = f"encoder.layer.{layer}"
        split = (rows, length, config.num_attention_heads, config.head_size)
        q, k, v = (
            dense(f"{base}.attention.self.{part}", x).reshape(split)
            for part in ("query", "key", "value")
        )
        scores = np.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(config.head_size)
        scores = np.where(mask[:, None, None, :] == 1, scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = np.einsum("bhij,bjhd->bihd", shares, v).reshape(rows, length, -1)
        x = norm(
            f"{base}.attention.output.LayerNorm",
            dense(f"{base}.attention.output.dense", mixed) + x,
        )
        inner = activation(dense(f"{base}.intermediate.dense", x))
        x = norm(f"{base}.output.LayerNorm", dense(f"{base}.output.dense", inner) + x)
    return x


def run(
    path: Path, data: Mapping[str, NDArray[np.int64]], *, fused: bool = True, output: int = 0
) -> Any:
    """An output of a model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(data))[output]


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize(
    "config",
    [
        TINY,
        shaped(hidden_act="gelu_new"),
        shaped(hidden_act="relu", num_hidden_layers=1),
        shaped(num_attention_heads=1, intermediate_size=7, type_vocab_size=1),
        shaped(num_attention_heads=24, layer_norm_eps=1e-12, num_hidden_layers=3),
    ],
    ids=["gelu", "gelu_new", "relu", "one-head", "heads-of-one"],
)
def test_embedding_head_equals_numpy(tmp_path: Path, config: BertConfig, fused: bool) -> None:
    weights = weights_of(config, "embedding")
    save_file(weights, tmp_path / "w.safetensors")
    path = build_bert(config, tmp_path / "w.safetensors", tmp_path / "m.onnx")
    onnx.checker.check_model(onnx.load(path), full_check=True)
    for lengths in ([9], [1], [20, 4, 1, 13]):
        data = inputs(lengths, config)
        found, expected = run(path, data, fused=fused), numpy_bert(config, weights, data)
        kept = data["attention_mask"] == 1
        assert found.shape == expected.shape
        assert np.abs(found - expected)[kept].max() < 5e-5


def from_checkpoint(folder: Path, config: BertConfig, weights: Weights, head: str) -> Path:
    """A model of weights saved as a task's checkpoint has them: the encoder below ``bert.``."""
    own = ("classifier.", "qa_outputs.")
    saved = {k if k.startswith(own) else f"bert.{k}": v for k, v in weights.items()}
    save_file(saved, folder / "w.safetensors")
    return build_bert(config, folder / "w.safetensors", folder / "m.onnx", head=head)


def test_classification_head_equals_numpy_and_carries_its_labels(tmp_path: Path) -> None:
    weights = weights_of(TINY)
    path = from_checkpoint(tmp_path, TINY, weights, "classification")
    data = inputs([7, 20, 1])
    states = numpy_bert(TINY, weights, data)
    pooled = np.tanh(states[:, 0] @ weights["pooler.dense.weight"].T + weights["pooler.dense.bias"])
    expected = pooled @ weights["classifier.weight"].T + weights["classifier.bias"]
    found = run(path, data)
    assert found.shape == (3, 3)
    assert np.abs(found - expected).max() < 5e-5
    assert np.ptp(expected, axis=0).min() > 0.01
    properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(properties["labels"]) == ["no", "maybe", "yes"]
    assert properties["head"] == "classification"


def test_token_classification_head_equals_numpy(tmp_path: Path) -> None:
    weights = weights_of(TINY, "token-classification")
    path = from_checkpoint(tmp_path, TINY, weights, "token-classification")
    onnx.checker.check_model(onnx.load(path), full_check=True)
    data = inputs([7, 20, 1])
    states = numpy_bert(TINY, weights, data)
    expected = states @ weights["classifier.weight"].T + weights["classifier.bias"]
    found = run(path, data)
    kept = data["attention_mask"] == 1
    assert found.shape == (3, 20, 3)
    assert np.abs(found - expected)[kept].max() < 5e-5
    assert np.ptp(expected[kept], axis=0).min() > 0.01
    properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(properties["labels"]) == ["no", "maybe", "yes"]
    assert properties["head"] == "token-classification"


def test_question_answering_head_equals_numpy(tmp_path: Path) -> None:
    config = shaped(labels=())
    weights = weights_of(config, "question-answering")
    path = from_checkpoint(tmp_path, config, weights, "question-answering")
    onnx.checker.check_model(onnx.load(path), full_check=True)
    assert [output.name for output in onnx.load(path).graph.output] == [
        "start_logits",
        "end_logits",
    ]
    data = inputs([7, 20, 1])
    states = numpy_bert(config, weights, data)
    both = states @ weights["qa_outputs.weight"].T + weights["qa_outputs.bias"]
    kept = data["attention_mask"] == 1
    for index in (0, 1):
        found = run(path, data, output=index)
        assert found.shape == (3, 20)
        assert np.abs(found - both[:, :, index])[kept].max() < 5e-5
    assert np.abs(both[:, :, 0] - both[:, :, 1])[kept].max() > 0.01


def test_pooled_head_is_the_normalised_mean_of_the_tokens(tmp_path: Path) -> None:
    path = build_bert(TINY, None, tmp_path / "m.onnx", head="pooled", seed=3)
    data = inputs([6, 2, 11])
    states = numpy_bert(TINY, random_weights(TINY, "pooled", 3), data)
    mean = (states * data["attention_mask"][:, :, None]).sum(1)
    mean /= data["attention_mask"].sum(1, keepdims=True)
    assert np.abs(run(path, data) - mean / np.linalg.norm(mean, axis=1, keepdims=True)).max() < 1e-5


def test_padding_does_not_change_what_stands_before_it(tmp_path: Path) -> None:
    path = build_bert(TINY, None, tmp_path / "m.onnx", seed=1)
    short = inputs([5])
    padded = {name: np.pad(values, ((0, 0), (0, 9))) for name, values in short.items()}
    padded["input_ids"][:, 5:] = 17
    assert np.abs(run(path, short) - run(path, padded)[:, :5]).max() < 1e-5


def test_int8_follows_float32_and_keeps_what_it_is_told_to(tmp_path: Path) -> None:
    config = shaped(hidden_size=48, num_attention_heads=4, intermediate_size=96)
    data = inputs([12, 20, 3], config)
    logits = {}
    forms: dict[str, dict[str, Any]] = {
        "float32": {},
        "int8": {"precision": "int8"},
        "mixed": {"precision": "int8", "keep_float": ["encoder.layer.?.output.dense"]},
    }
    for name, options in forms.items():
        path = build_bert(
            config,
            None,
            tmp_path / f"{name}.onnx",
            head="classification",
            **options,
        )
        logits[name] = run(path, data)
        products = [n.op_type for n in onnx.load(path).graph.node].count("MatMulInteger")
        assert products == {"float32": 0, "int8": 12, "mixed": 10}[name]
        properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        assert sorted(properties) == ["head", "hidden_size", "labels", "max_sequence_length"]
    for name in ("int8", "mixed"):
        assert np.corrcoef(logits[name].ravel(), logits["float32"].ravel())[0, 1] > 0.98
    assert [path.name for path in tmp_path.glob(".tmp*")] == []


def test_quantising_says_nothing_on_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    build_bert(TINY, None, tmp_path / "m.onnx", precision="int8")
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


def test_the_same_inputs_make_the_same_bytes(tmp_path: Path) -> None:
    for precision in ("float32", "int8"):
        first = build_bert(TINY, None, tmp_path / "a.onnx", seed=4, precision=precision)
        second = build_bert(TINY, None, tmp_path / "b.onnx", seed=4, precision=precision)
        other = build_bert(TINY, None, tmp_path / "c.onnx", seed=5, precision=precision)
        assert first.read_bytes() == second.read_bytes()
        assert first.read_bytes() != other.read_bytes()


def test_random_weights_are_the_same_everywhere() -> None:
    weights = random_weights(TINY, "embedding", seed=0)
    words = weights["embeddings.word_embeddings.weight"]
    # numpy's frozen Mersenne stream, times 0.02.
    expected = np.array([-0.03662616, -0.00354709, 0.00076558], dtype=np.float32)
    assert np.allclose(words[0, :3], expected, atol=1e-7)
    assert {name: values.shape for name, values in weights.items()} == dict(
        weight_shapes(TINY, "embedding")
    )


def test_bert_base_has_its_110_million_weights() -> None:
    total = sum(math.prod(shape) for _, shape in weight_shapes(BertConfig(), "embedding"))
    assert total == 108_891_648


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_and_old_spellings_are_read(tmp_path: Path, dtype: type[Any]) -> None:
    weights = weights_of(TINY, "embedding")
    stored = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): values.astype(dtype)
        for name, values in weights.items()
    }
    stored["bert.embeddings.position_ids"] = np.arange(20)
    stored["cls.predictions.bias"] = np.zeros(50, dtype=dtype)
    save_file(stored, tmp_path / "w.safetensors")
    path = build_bert(TINY, tmp_path / "w.safetensors", tmp_path / "m.onnx")
    data = inputs([11])
    rounded = {name: values.astype(dtype).astype(np.float32) for name, values in weights.items()}
    assert np.abs(run(path, data) - numpy_bert(TINY, rounded, data)).max() < 5e-5


def test_a_weight_file_of_another_shape_is_named(tmp_path: Path) -> None:
    save_file(weights_of(TINY, "embedding"), tmp_path / "w.safetensors")
    with pytest.raises(
        BuildError, match=r"intermediate\.dense\.weight: expected .*\[41, 24\].*\[40, 24\]"
    ):
        build_bert(shaped(intermediate_size=41), tmp_path / "w.safetensors", tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(
    ("gone", "head", "words"),
    [
        ("encoder.layer.1.output.dense.bias", "embedding", "encoder.layer.1.output.dense.bias"),
        ("embeddings.word_embeddings.weight", "embedding", "bert.embeddings.word_embeddings"),
        ("classifier.weight", "classification", "a bare encoder has no head for a task"),
        ("classifier.bias", "token-classification", "a bare encoder has no head for a task"),
        ("classifier.weight", "question-answering", "qa_outputs.*no head for a task"),
    ],
)
def test_a_missing_weight_is_named(tmp_path: Path, gone: str, head: str, words: str) -> None:
    weights = weights_of(TINY)
    del weights[gone]
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(BuildError, match=words):
        build_bert(TINY, tmp_path / "w.safetensors", tmp_path / "m.onnx", head=head)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not safetensors at all, but long enough",
        b"\xff" * 8 + b"{}",
        (2).to_bytes(8, "little") + b"{}",
        (1 << 40).to_bytes(8, "little") + b"{",
        (64).to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,4096]}}'.ljust(64),
    ],
    ids=["empty", "text", "huge-header", "no-tensors", "1-TiB-header", "beyond-the-end"],
)
def test_a_wrong_weight_file_is_a_build_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(BuildError, match=r"w\.safetensors"):
        build_bert(TINY, tmp_path / "w.safetensors", tmp_path / "m.onnx")


def test_integer_weights_are_refused(tmp_path: Path) -> None:
    weights = weights_of(TINY, "embedding")
    weights["encoder.layer.0.output.dense.bias"] = np.zeros(24, dtype=np.int32)
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(BuildError, match=r"expected floats of shape .* got I32"):
        build_bert(TINY, tmp_path / "w.safetensors", tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("[]", "expected a JSON object, got list"),
        ('{"vocab_size": 9, "num_hidden_layers": 1}', "expected the field hidden_size"),
        ('{"model_type": "roberta"}', "expected 'bert', got 'roberta'"),
        ('{"position_embedding_type": "relative_key"}', "expected 'absolute'"),
        ('{"is_decoder": true}', "expected an encoder"),
        (
            '{"vocab_size": 9, "num_hidden_layers": 1, "hidden_size": "9"}',
            "hidden_size: expected a",
        ),
        ('{"vocab_size": 9, "num_hidden_layers": 1, "hidden_size": 10}', "12 heads for a hidden"),
        ('{"vocab_size": 9, "num_hidden_layers": 0, "hidden_size": 12}', "got 0"),
        ('{"vocab_size": 9, "num_hidden_layers": true, "hidden_size": 12}', "got True"),
        (
            '{"vocab_size": 9, "num_hidden_layers": 1, "hidden_size": 12, "hidden_act": "silu"}',
            "hidden_act: expected one of .* got 'silu'",
        ),
        (
            '{"vocab_size": 9, "num_hidden_layers": 1, "hidden_size": 12, "layer_norm_eps": "x"}',
            "layer_norm_eps",
        ),
        (
            '{"vocab_size":9,"num_hidden_layers":1,"hidden_size":12,"max_position_embeddings":1}',
            "expected 2 or more",
        ),
        (
            '{"vocab_size":9,"num_hidden_layers":1,"hidden_size":12,"id2label":{"0":"a","2":"b"}}',
            "id2label: expected names for the ids 0 to 1",
        ),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(BuildError, match=words) as caught:
        BertConfig.from_file(tmp_path / "config.json")
    assert "config.json" in str(caught.value)


def test_labels_come_from_the_configuration() -> None:
    base = {"vocab_size": 9, "num_hidden_layers": 1, "hidden_size": 12}
    named = BertConfig.from_mapping({**base, "id2label": {"1": "good", "0": "bad"}})
    assert named.labels == ("bad", "good")
    assert BertConfig.from_mapping({**base, "num_labels": 2}).labels == ("LABEL_0", "LABEL_1")
    assert BertConfig.from_mapping(base).labels == ()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"head": "translation"}, "head: expected one of"),
        ({"precision": "int4"}, "precision: expected one of"),
        ({"keep_float": ["a"]}, "it is for int8 only"),
        ({"precision": "int8", "keep_float": ["nowhere.*"]}, "no dense layer fits 'nowhere"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BuildError, match=words):
        build_bert(TINY, None, tmp_path / "m.onnx", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("head", ["classification", "token-classification"])
def test_a_classifier_needs_labels(tmp_path: Path, head: str) -> None:
    with pytest.raises(BuildError, match=f"head {head}: .*id2label"):
        build_bert(shaped(labels=()), None, tmp_path / "m.onnx", head=head)


def test_more_weights_than_a_file_holds_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "LARGEST_WEIGHTS_BYTES", 20_000)
    with pytest.raises(BuildError, match=r"expected at most 20,000 bytes, got .* smaller encoder"):
        build_bert(TINY, None, tmp_path / "m.onnx")


def test_a_missing_package_names_its_pip_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtra, match="run `python -m pip install onnx`"):
        build_bert(TINY, None, tmp_path / "m.onnx")


def test_the_builder_knows_its_own_sources() -> None:
    assert build.builder_digest() == build.builder_digest()
    assert "onnx " in build.tool_versions()
