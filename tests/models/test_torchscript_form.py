"""The builder's TorchScript form: a guest's model in the PyTorch backend, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tests.backends.onnx_models import output_array, set_array
from tests.backends.torch_models import torch_guest
from tests.models.test_bert_builder import TINY, inputs, shaped, weights_of
from tests.models.test_minilm_accuracy import REFERENCE, batch
from tests.nn.fake_guest import Guest
from wasinn_models import BertConfig, ModelStore, build_bert
from wasinn_models.errors import BuildError, ManifestError
from wasinn_models.manifest import Manifest

Ints = NDArray[np.int64]


def computed(guest: Guest, context: int, data: dict[str, Ints]) -> NDArray[np.float32]:
    """What the backend gives a guest."""
    for index, values in enumerate(data.values()):
        assert set_array(guest, context, index, values) == 0, guest.error()
    assert guest.compute(context) == 0, guest.error()
    return output_array(guest, context)


@pytest.mark.parametrize(
    ("head", "config"),
    [
        ("embedding", TINY),
        ("pooled", TINY),
        ("classification", TINY),
        ("embedding", shaped(hidden_act="gelu_new")),
        ("embedding", shaped(hidden_act="relu", num_attention_heads=1)),
    ],
    ids=["embedding", "pooled", "classification", "gelu_new", "relu"],
)
def test_a_guest_gets_what_onnx_runtime_computes(
    tmp_path: Path, head: str, config: BertConfig
) -> None:
    weights = tmp_path / "m.safetensors"
    save_file(weights_of(config), weights)
    onnx = build_bert(config, weights, tmp_path / "m.onnx", head=head)
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    script = build_bert(config, weights, tmp_path / "m.pt", head=head, form="torchscript")
    guest = torch_guest()
    context = guest.open(script.read_bytes())
    for lengths in ([6], [1], [20, 3, 11], [2, 2]):
        data = inputs(lengths)
        (expected,) = session.run(None, data)
        found = computed(guest, context, data)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 5e-5
        assert np.ptp(expected) > 0.01


def test_a_sequence_beyond_the_positions_fails(tmp_path: Path) -> None:
    script = build_bert(TINY, None, tmp_path / "m.pt", form="torchscript")
    guest = torch_guest()
    context = guest.open(script.read_bytes())
    for index, values in enumerate(inputs([21]).values()):
        assert set_array(guest, context, index, values) == 0, guest.error()
    assert guest.compute(context) != 0
    assert "21" in guest.error()
    assert "20" in guest.error()


def test_the_archive_says_nothing_of_where_it_was_made(tmp_path: Path) -> None:
    script = build_bert(TINY, None, tmp_path / "m.pt", form="torchscript").read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in script
    assert b"debug_pkl" not in script


def test_int8_and_unknown_forms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="form torchscript: expected precision float32"):
        build_bert(TINY, None, tmp_path / "m.pt", form="torchscript", precision="int8")
    with pytest.raises(BuildError, match="form: expected one of onnx, torchscript, got 'caffe'"):
        build_bert(TINY, None, tmp_path / "m", form="caffe")
    assert list(tmp_path.iterdir()) == []


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


def test_minilm_in_pytorch_gives_the_embeddings_of_transformers(model_store: ModelStore) -> None:
    model = model_store.resolve("minilm:torchscript-pooled")
    assert (model.encoding, model.path.name) == ("pytorch", "torchscript-pooled.pt")
    assert model_store.resolve("minilm").encoding == "onnx"
    guest = torch_guest(pages=1600)
    context = guest.open(model.path.read_bytes())
    found = computed(guest, context, batch(list(range(20))))
    assert np.abs(found - REFERENCE["embeddings"][:20]).max() <= 1e-4
