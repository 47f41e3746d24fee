"""Builds a model file from a configuration and weights: the steps in their order, nothing more."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from wasinn_models.atomic import TEMPORARY_PREFIX, store_errors, write_whole
from wasinn_models.bert.config import BertConfig
from wasinn_models.errors import BuildError, MissingExtra
from wasinn_models.manifest import FORMS, HEADS, PRECISIONS

if TYPE_CHECKING:
    from wasinn_models.bert.weights import Weights

__all__ = ["build_bert", "builder_digest", "tool_versions"]

_PACKAGES: Final = (
    *("numpy", "onnx", "onnxruntime", "safetensors"),
    *("ai-edge-litert", "flatbuffers", "openvino", "torch"),
)


def build_bert(
    config: BertConfig | Path,
    weights: Path | None,
    output: Path,
    *,
    head: str = "embedding",
    precision: str = "float32",
    keep_float: Sequence[str] = (),
    seed: int = 0,
    form: str = "onnx",
    classifier: Path | None = None,
) -> Path:
    """Builds a model of a BERT-style encoder, in ONNX, OpenVINO, TFLite or TorchScript.

    Inputs ``input_ids``, ``attention_mask``, ``token_type_ids``: int64 [batch, sequence], both
    free; a sequence longer than the configuration's ``max_position_embeddings`` makes the run fail,
    and the ONNX model's property ``max_sequence_length`` says how long it may be. Output by head:

    - ``embedding``: ``last_hidden_state`` float32 [batch, sequence, hidden]
    - ``pooled``: ``sentence_embedding`` float32 [batch, hidden], mean over tokens, length 1
    - ``classification``: ``logits`` float32 [batch, labels], of the first token through a pooler;
      the property ``labels`` names them
    - ``pooled-classification``: the same, of the sentence embedding
    - ``token-classification``: ``logits`` float32 [batch, sequence, labels], with the same property
    - ``question-answering``: ``start_logits`` and ``end_logits`` float32 [batch, sequence]

    The other forms have the same inputs and output, TorchScript without their names. A model is one
    file, which ONNX and TFLite limit to 2 GiB, and of OpenVINO two; there is no external data.

    Args:
        config: the encoder's shape, or the path of its ``config.json``.
        weights: a safetensors file; None draws random weights.
        output: where the model is written, whole or not at all; its ending is free but for
            OpenVINO, of which this is the ``.xml``, and the weights go beside it as ``.bin``.
        head: one of those above.
        precision: ``float32``, or ``int8`` (dynamic quantisation of ONNX Runtime).
        keep_float: patterns of dense layers that int8 leaves in float32.
        seed: of random weights.
        form: ``onnx``, or (float32 only) ``openvino``, ``tflite`` or ``torchscript``.
        classifier: for ``pooled-classification``, the file of `write_classifier` with its weights
            and labels; by default they are with the other weights and in the configuration.

    Returns:
        ``output``.

    Raises:
        BuildError: configuration and weights do not fit, or the model is too large.
        MissingExtra: onnx, safetensors, for int8 onnxruntime, or what writes the form is not
            installed.
        StoreFull: there is no room for the model; nothing stays behind.
        StoreError: it can not be written.
    """
    if head not in HEADS:
        raise BuildError(f"head: expected one of {', '.join(HEADS)}, got {head!r}")
    if precision not in PRECISIONS:
        raise BuildError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
    if keep_float and precision != "int8":
        raise BuildError(f"keep_float: expected none for {precision}, it is for int8 only")
    if form not in FORMS:
        raise BuildError(f"form: expected one of {', '.join(FORMS)}, got {form!r}")
    if form != "onnx" and precision != "float32":
        raise BuildError(f"form {form}: expected precision float32, got {precision!r}")
    if form == "openvino" and output.suffix != ".xml":
        raise BuildError(f"form openvino: expected an output that ends in .xml, got {output.name}")
    shape = config if isinstance(config, BertConfig) else BertConfig.from_file(config)
    if classifier is not None and (head != "pooled-classification" or weights is None):
        raise BuildError("classifier: expected none without weights, or for another head")

    from wasinn_models.bert.weights import random_weights, read_classifier, read_weights

    head_weights: Weights = {}
    if classifier is not None:
        head_weights, labels = read_classifier(classifier)
        shape = dataclasses.replace(shape, labels=labels)
    if head.endswith("classification") and not shape.labels:
        raise BuildError(f"head {head}: expected labels (id2label) in the configuration")
    if weights is None:
        tensors = random_weights(shape, head, seed)
    else:
        tensors = read_weights(weights, shape, "pooled" if head_weights else head)
    tensors = {**tensors, **head_weights}
    if form == "torchscript":
        contents = [_torchscript(shape, tensors, head)]
    elif form == "tflite":
        contents = [_tflite(shape, tensors, head)]
    else:
        contents = [_onnx(shape, tensors, head, precision, keep_float, output)]
    if form == "openvino":
        contents = _openvino(contents[0], shape.max_position_embeddings, output)
    # The file that is asked for comes last: it is there when the others are.
    paths = [output, *(output.with_suffix(ending) for ending in FORMS[form].endings[1:])]
    for path, content in reversed(list(zip(paths, contents, strict=True))):
        with write_whole(path, len(content)) as file:
            file.write(content)
    return output


def _onnx(
    shape: BertConfig,
    tensors: Weights,
    head: str,
    precision: str,
    keep_float: Sequence[str],
    output: Path,
) -> bytes:
    """The bytes of the ONNX model; ``output`` says where there is room for what int8 needs."""
    from wasinn_models.bert.graph import bert_graph

    model = bert_graph(shape, tensors, head)
    if precision == "int8":
        from wasinn_models.bert.quantise import quantise

        with store_errors(output, model.ByteSize()):
            output.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=output.parent) as scratch:
                model = quantise(model, Path(scratch), keep_float)
    return bytes(model.SerializeToString(deterministic=True))


def _torchscript(shape: BertConfig, tensors: Weights, head: str) -> bytes:
    """The bytes of the TorchScript archive."""
    _require("torch", "torch", "torchscript")
    from wasinn_models.bert.torchscript import bert_torchscript

    return bert_torchscript(shape, tensors, head)


def _tflite(shape: BertConfig, tensors: Weights, head: str) -> bytes:
    """The bytes of the TFLite model."""
    _require("ai_edge_litert", "ai-edge-litert", "tflite")
    from wasinn_models.bert.tflite import bert_tflite

    return bert_tflite(shape, tensors, head)


def _openvino(onnx: bytes, most_tokens: int, output: Path) -> list[bytes]:
    """The bytes of OpenVINO's two files; ``output`` says where there is room for them."""
    _require("openvino", "openvino", "openvino")
    from wasinn_models.bert.openvino import of_onnx

    with store_errors(output, len(onnx)):
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=output.parent) as scratch:
            return of_onnx(onnx, most_tokens, Path(scratch))


def _require(module: str, package: str, form: str) -> None:
    """Looks whether a form's package is there, without importing it.

    Raises:
        MissingExtra: it is not.
    """
    if find_spec(module) is None:
        raise MissingExtra(package, FORMS[form].words)


def builder_digest() -> str:
    """SHA-256 of the builder's own sources: a changed builder makes other files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def tool_versions() -> str:
    """The packages that a build uses with their versions, for people to read."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
