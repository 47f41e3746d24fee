"""Forms that the builder writes beside ONNX: each as a guest's model, against ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tests.backends import tflite_models
from tests.backends.onnx_models import output_array, set_array
from tests.backends.torch_models import torch_guest
from tests.models.test_bert_builder import TINY, inputs, shaped, weights_of
from tests.models.test_minilm_accuracy import REFERENCE, batch
from tests.nn.fake_guest import Guest
from wasinn_backends.openvino import OpenVinoBackend
from wasinn_host.nn import BackendRegistry, GraphRegistry, NnContext
from wasinn_models import BertConfig, ModelStore, build_bert, operations
from wasinn_models.bert.weights import random_weights
from wasinn_models.errors import BuildError, ManifestError, MissingExtra
from wasinn_models.manifest import Manifest

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Form:
    """A form's files, and who computes it."""

    endings: tuple[str, ...]
    encoding: str
    number: int
    guest: Callable[..., Guest]
    too_long: str


def openvino_guest(pages: int = 64) -> Guest:
    backends = BackendRegistry(discover=False)
    backends.add("openvino", OpenVinoBackend)
    return Guest(NnContext(GraphRegistry(backends)), pages=pages)


FORMS = {
    "openvino": Form((".xml", ".bin"), "openvino", 0, openvino_guest, "21"),
    "tflite": Form(
        (".tflite",), "tensorflowlite", 4, lambda pages=64: tflite_models.guest(pages=pages), "out"
    ),
    "torchscript": Form((".pt",), "pytorch", 3, torch_guest, "21"),
}


def opened(form: Form, guest: Guest, path: Path) -> int:
    """A context of a guest that brings the model."""
    parts = [path.with_suffix(ending).read_bytes() for ending in form.endings]
    assert guest.load(*parts, encoding=form.number) == 0, guest.error()
    assert guest.init(guest.result) == 0, guest.error()
    return guest.result


def computed(
    guest: Guest, context: int, data: dict[str, Ints], outputs: int = 1
) -> list[NDArray[np.float32]]:
    """What the backend gives a guest: so many outputs."""
    for index, values in enumerate(data.values()):
        assert set_array(guest, context, index, values) == 0, guest.error()
    assert guest.compute(context) == 0, guest.error()
    return [output_array(guest, context, index) for index in range(outputs)]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    ("head", "config"),
    [
        ("embedding", TINY),
        ("pooled", TINY),
        ("classification", TINY),
        ("pooled-classification", TINY),
        ("token-classification", TINY),
        ("question-answering", TINY),
        ("embedding", shaped(hidden_act="gelu_new")),
        ("embedding", shaped(hidden_act="relu", num_attention_heads=1)),
    ],
    ids=[
        *("embedding", "pooled", "classification", "pooled-classification", "tokens", "answers"),
        *("gelu_new", "relu"),
    ],
)
def test_a_guest_gets_what_onnx_runtime_computes(
    tmp_path: Path, head: str, config: BertConfig, name: str
) -> None:
    weights, form = tmp_path / "m.safetensors", FORMS[name]
    save_file(weights_of(config, head), weights)
    onnx = build_bert(config, weights, tmp_path / "m.onnx", head=head)
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    path = build_bert(config, weights, tmp_path / f"m{form.endings[0]}", head=head, form=name)
    guest = form.guest()
    context = opened(form, guest, path)
    for lengths in ([6], [1], [20, 3, 11], [2, 2]):
        data = inputs(lengths)
        wanted = session.run(None, data)
        assert len(wanted) == (2 if head == "question-answering" else 1)
        for found, expected in zip(
            computed(guest, context, data, len(wanted)), wanted, strict=True
        ):
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() < 5e-5
            assert expected.size == 1 or np.ptp(expected) > 0.01
    guest.codec.context.close()


@pytest.mark.parametrize("name", FORMS)
def test_a_sequence_beyond_the_positions_fails(tmp_path: Path, name: str) -> None:
    form = FORMS[name]
    path = build_bert(TINY, None, tmp_path / f"m{form.endings[0]}", form=name)
    guest = form.guest()
    context = opened(form, guest, path)
    statuses = [set_array(guest, context, i, v) for i, v in enumerate(inputs([21]).values())]
    assert any(statuses) or guest.compute(context) != 0
    assert form.too_long in guest.error()
    guest.codec.context.close()


@pytest.mark.parametrize("name", FORMS)
def test_files_say_nothing_of_where_they_were_made_and_come_out_equal(
    tmp_path: Path, name: str
) -> None:
    endings = FORMS[name].endings
    path = build_bert(TINY, None, tmp_path / f"m{endings[0]}", form=name)
    first = [path.with_suffix(ending).read_bytes() for ending in endings]
    for content in first:
        for words in (Path(__file__).parents[2], tmp_path, Path.home()):
            assert str(words).encode() not in content
        assert b"debug_pkl" not in content
    if name != "torchscript":  # traced twice in one process it names its classes anew
        build_bert(TINY, None, path, form=name)
        assert [path.with_suffix(ending).read_bytes() for ending in endings] == first
    assert sorted(tmp_path.iterdir()) == sorted(path.with_suffix(e) for e in endings)


@pytest.mark.parametrize("name", FORMS)
def test_int8_is_onnx_only(tmp_path: Path, name: str) -> None:
    with pytest.raises(BuildError, match=f"form {name}: expected precision float32"):
        build_bert(TINY, None, tmp_path / "m.xml", form=name, precision="int8")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="form: expected one of onnx, openvino, tflite, torchscr"):
        build_bert(TINY, None, tmp_path / "m", form="caffe")
    with pytest.raises(BuildError, match=r"expected an output that ends in \.xml, got m\.bin"):
        build_bert(TINY, None, tmp_path / "m.bin", form="openvino")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("openvino", "openvino", "openvino"),
        ("tflite", "ai_edge_litert", "ai-edge-litert"),
        ("torchscript", "torch", "torch"),
    ],
)
def test_a_form_whose_package_is_missing_says_which(
    tmp_path: Path, name: str, module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "wasinn_models.bert.build.find_spec",
        lambda asked: None if asked == module else find_spec(asked),
    )
    with pytest.raises(MissingExtra, match=f"needs the package {package}, which is not installed"):
        build_bert(TINY, None, tmp_path / "m.xml", form=name)


def test_both_files_of_openvino_are_known_checked_and_made_again(
    tmp_path: Path, model_store: ModelStore
) -> None:
    config = {"vocab_size": 30, "num_hidden_layers": 1, "hidden_size": 12, "model_type": "bert"}
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 8}))
    shape = BertConfig.from_mapping(json.loads((tmp_path / "config.json").read_text()))
    save_file(dict(random_weights(shape, "embedding", 1)), tmp_path / "model.safetensors")
    store = ModelStore(tmp_path / "store")
    sources = [f"file:{tmp_path / name}" for name in ("config.json", "model.safetensors")]
    operations.add_model(store, sources, head="embedding", name="small")
    model = store.resolve("small:openvino")
    assert [path.name for path in model.paths] == ["openvino.xml", "openvino.bin"]
    before = [path.read_bytes() for path in model.paths]
    weights = model.paths[1]
    weights.write_bytes(b"damaged")
    rows = {row.file: row.status for row in store.check("small", repair=True)}
    assert (rows["built/openvino.xml"], rows["built/openvino.bin"]) == ("ok", "damaged")
    assert not weights.exists()
    assert [path.read_bytes() for path in store.resolve("small:openvino").paths] == before


def test_a_manifest_says_the_form(model_store: ModelStore) -> None:
    manifest = model_store.catalogue.manifest("minilm")
    assert manifest.variant("torchscript").form == "torchscript"
    assert manifest.variant(None).form == "onnx"
    text = manifest.to_toml()
    assert Manifest.from_toml(text, "minilm.toml") == manifest
    for wrong, why in (("caffe", "got 'caffe'"), ("", "expected a text")):
        with pytest.raises(ManifestError, match=why):
            Manifest.from_toml(text.replace('form = "torchscript"', f'form = "{wrong}"'), "m")
    swapped = text.replace('form = "torchscript"', "").replace(
        'precision = "int8"', 'precision = "int8"\nform = "torchscript"'
    )
    with pytest.raises(ManifestError, match="form torchscript: expected precision float32"):
        Manifest.from_toml(swapped, "m")


@pytest.mark.parametrize("name", FORMS)
def test_minilm_gives_the_embeddings_of_transformers(model_store: ModelStore, name: str) -> None:
    form = FORMS[name]
    model = model_store.resolve(f"minilm:{name}-pooled")
    assert model.encoding == form.encoding
    assert [path.name for path in model.paths] == [f"{name}-pooled{end}" for end in form.endings]
    assert model_store.resolve("minilm").encoding == "onnx"
    guest = form.guest(pages=1600)
    context = opened(form, guest, model.paths[0])
    (found,) = computed(guest, context, batch(list(range(20))))
    assert np.abs(found - REFERENCE["embeddings"][:20]).max() <= 1e-4
    guest.codec.context.close()
