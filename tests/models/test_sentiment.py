"""Classifiers that are fitted on the user's machine, and the data they are fitted on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from safetensors.numpy import save_file
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from tests.models.test_bert_builder import TINY, inputs, weights_of
from wasinn_models import Manifest, ModelStore, build_bert
from wasinn_models.bert.fit import embed, fit
from wasinn_models.bert.weights import read_classifier, write_classifier
from wasinn_models.data.readers import rows_of
from wasinn_models.data.store import dataset_store, resolve_dataset
from wasinn_models.errors import BuildError, ManifestError

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "good", "fine", "bad", "poor", "film", "the", "a"]


def reviews() -> str:
    """Lines of rated sentences whose words say what they are rated."""
    source = np.random.default_rng(1)
    lines = []
    for number in range(120):
        good = bool(source.integers(2))
        words = [*source.choice(["film", "the", "a"], 3)]
        words.append(source.choice(["good", "fine"] if good else ["bad", "poor"]))
        lines.append(f"{number}\t{2.5 if good else -1.5}\t{' '.join(words)}\n")
    return "".join(lines)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """An entry of a small encoder and rated sentences."""
    folder = tmp_path / "raw"
    folder.mkdir()
    config = {
        "model_type": "bert",
        "vocab_size": 40,
        "hidden_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 20,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(config))
    from wasinn_models.bert.config import BertConfig

    shape = BertConfig.from_file(folder / "config.json")
    save_file(weights_of(shape, "embedding"), folder / "model.safetensors")
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "reviews.tsv").write_text(reviews(), encoding="utf-8")
    files = ""
    for path in sorted(folder.iterdir()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files += f'[[files]]\nname = "{path.name}"\nsource = "file:{path}"\n'
        files += f'sha256 = "{digest}"\nsize = {path.stat().st_size}\n'
    return Manifest.from_toml(
        'name = "judge"\nencoding = "onnx"\nlicence = "MIT"\nsource = "random"\n'
        'description = "x"\ndefault = "float32"\n'
        + files
        + '[build]\nconfig = "config.json"\nweights = "model.safetensors"\n'
        '[build.fit]\ndata = "reviews.tsv"\nreader = "rated-sentences"\n'
        'tokenizer = "tokenizer.json"\nlabels = ["negative", "positive"]\npenalty = 0.01\n'
        '[variants.float32]\nhead = "pooled-classification"\nprecision = "float32"\n'
        '[variants.int8]\nhead = "pooled-classification"\nprecision = "int8"\n',
        "test",
    )


def logits(path: Path, data: dict[str, Any]) -> Any:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], data)[0]


def test_a_classifier_is_fitted_and_built_in(
    manifest: Manifest, store: ModelStore, tmp_path: Path
) -> None:
    said: list[str] = []
    store.notice = said.append
    store.catalogue.add(manifest)
    model = store.resolve("judge")
    assert model.labels == ("negative", "positive")
    what, _, accuracy = said[-1].rpartition(": ")
    assert what == "judge: fitted on 90 sentences; accuracy on the 30 held out"
    assert float(accuracy) >= 0.8
    properties = {p.key: p.value for p in onnx.load(model.path).metadata_props}
    assert json.loads(properties["labels"]) == ["negative", "positive"]
    ids = np.array([[1, 8, 9, 10, WORDS.index(word), 2] for word in ("good", "bad", "poor")])
    data = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": 0 * ids}
    fitted = store.folder("judge") / "built" / "fitted.safetensors"
    head, _ = read_classifier(fitted)
    pooled = build_bert(
        model.file("config.json"), model.file("model.safetensors"), tmp_path / "p", head="pooled"
    )
    session = onnxruntime.InferenceSession(pooled, providers=["CPUExecutionProvider"])
    expected = session.run(None, data)[0] @ head["classifier.weight"].T + head["classifier.bias"]
    assert np.allclose(logits(model.path, data), expected, atol=1e-4)

    # The second variant takes the same classifier, and nothing is fitted twice.
    said.clear()
    assert logits(store.resolve("judge:int8").path, data).shape == (3, 2)
    assert said == ["building judge:int8"]
    assert {row.status for row in store.check("judge")} == {"ok"}
    fitted.write_bytes(fitted.read_bytes()[:-1] + b"!")
    assert [row.file for row in store.check("judge") if row.status == "damaged"] == [
        "built/fitted.safetensors"
    ]


def test_the_fit_is_that_of_scikit_learn() -> None:
    source = np.random.default_rng(2)
    vectors = source.normal(size=(400, 12))
    labels = (vectors @ source.normal(size=12) + source.normal(size=400) > 0.3).astype(float)
    found = fit(vectors, labels, 0.5)
    theirs = LogisticRegression(C=1 / 0.5, tol=1e-10, max_iter=10_000).fit(vectors, labels)
    assert np.allclose(found[:-1], theirs.coef_[0], atol=1e-5)
    assert found[-1] == pytest.approx(theirs.intercept_[0], abs=1e-5)


def test_logits_are_of_the_sentence_embedding(tmp_path: Path) -> None:
    weights = weights_of(TINY)
    save_file(weights, tmp_path / "w.safetensors")
    for head in ("pooled", "pooled-classification"):
        build_bert(TINY, tmp_path / "w.safetensors", tmp_path / f"{head}.onnx", head=head)
    data = inputs([5, 20, 1])
    session = onnxruntime.InferenceSession(
        tmp_path / "pooled.onnx", providers=["CPUExecutionProvider"]
    )
    (vectors,) = session.run(None, data)
    expected = vectors @ weights["classifier.weight"].T + weights["classifier.bias"]
    assert np.allclose(logits(tmp_path / "pooled-classification.onnx", data), expected, atol=1e-4)


def test_classifiers_that_are_none(tmp_path: Path, store: ModelStore) -> None:
    path = tmp_path / "c.safetensors"
    weights = {k: v for k, v in weights_of(TINY).items() if k.startswith("classifier")}
    write_classifier(path, weights, TINY.labels)
    found, labels = read_classifier(path)
    assert labels == TINY.labels
    assert all(np.array_equal(found[name], weights[name]) for name in weights)
    with pytest.raises(BuildError, match="expected none without weights, or for another head"):
        build_bert(TINY, None, tmp_path / "m.onnx", head="pooled-classification", classifier=path)
    path.write_bytes(b"nothing")
    with pytest.raises(BuildError, match="expected a classifier's weights"):
        read_classifier(path)
    with pytest.raises(BuildError, match="can not be read"):
        rows_of("rated-sentences", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\t2.0\tfine\n2\tgood\n", "line 2: expected an id, a rating from -4 to 4 and a text"),
        ("1\t5\tfine\n", "line 1: expected an id, a rating"),
        ("1\tnan\tfine\n", "line 1: expected an id, a rating"),
        ("1\t1\tfine\n1\t1\tbad\n", "expected different ids"),
    ],
)
def test_ratings_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.tsv"
    path.write_text(text)
    with pytest.raises(BuildError, match=message):
        rows_of("rated-sentences", path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('reader = "rated-sentences"', 'reader = "x"', "reader: expected one of rated-sentences"),
        ("penalty = 0.01", "penalty = 0", "penalty: expected above 0, got 0.0"),
        ("penalty = 0.01", 'penalty = "a"', "penalty: expected a number, got 'a'"),
        ('["negative", "positive"]', '["negative"]', "labels: expected two"),
        ('data = "reviews.tsv"', 'data = "other"', "other is used but not one of the files"),
        ("penalty = 0.01", "penalty = 0.01\nmore = 1", "build.fit: unknown key 'more'"),
    ],
)
def test_manifests_that_break_the_form(
    manifest: Manifest, old: str, new: str, message: str
) -> None:
    text = manifest.to_toml()
    assert Manifest.from_toml(text, "test") == manifest
    assert old in text
    with pytest.raises(ManifestError, match=message):
        Manifest.from_toml(text.replace(old, new), "test")


def test_a_file_that_another_model_has_is_not_fetched(
    manifest: Manifest, store: ModelStore, tmp_path: Path
) -> None:
    store.catalogue.add(manifest)
    store.resolve("judge")
    for path in (tmp_path / "raw").iterdir():
        path.unlink()
    store.catalogue.add(dataclasses.replace(manifest, name="other"))
    assert store.resolve("other").path.is_file()


@pytest.mark.slow
def test_the_reviews_are_what_they_shall_be() -> None:
    lines = resolve_dataset("movie-reviews").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == 10_605
    assert sum(row["split"] == "test" for row in rows) == 2651
    assert {row["label"] for row in rows} == {"negative", "positive"}
    by_id = {row["id"]: row for row in rows}
    assert by_id["233"]["text"].startswith("Jirí Hubac's script is a gem.")
    assert "cliché" in by_id["93"]["text"]
    assert dataset_store().check("movie-reviews")


@pytest.mark.slow
def test_the_built_classifier_is_right_often_enough(model_store: ModelStore) -> None:
    model = model_store.resolve("sentiment")
    rows = list(rows_of("rated-sentences", model.file("reviews.tsv")))
    held_out = [row for row in rows if row.split == "test"]
    found = embed(
        model.path.read_bytes(), model.file("tokenizer.json"), [row.text for row in held_out]
    )
    right = [model.labels[int(at)] for at in found.argmax(axis=1)]
    accuracy = np.mean([label == row.label for label, row in zip(right, held_out, strict=True)])
    assert accuracy >= 0.77
