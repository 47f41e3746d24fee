"""The weights of a BERT encoder by one set of names: read from safetensors, or drawn at random.

Every weight the graph takes is named once here, with its shape; prefixes and old spellings that
checkpoints use are resolved while reading. Not the graph (``graph.py``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wasinn_models.atomic import write_whole
from wasinn_models.bert.config import BertConfig
from wasinn_models.errors import BuildError, MissingExtra, near_matches

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Weights = Mapping[str, NDArray[np.float32]]

__all__ = ["random_weights", "read_classifier", "read_weights", "weight_shapes", "write_classifier"]

# Where checkpoints put the encoder: at the top, or as a member of a task's model.
ENCODER_PREFIXES = ("", "bert.")

# Checkpoints converted from TensorFlow call a layer normalisation's scale and shift so.
OLD_SPELLINGS = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

FLOAT_TYPES = ("F64", "F32", "F16", "BF16")


def weight_shapes(config: BertConfig, head: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every weight of the model, by the name it has in an encoder saved on its own.

    Args:
        config: the encoder's shape.
        head: ``embedding`` or ``pooled`` (no weights), ``classification`` (pooler and classifier),
            ``pooled-classification`` or ``token-classification`` (classifier) or
            ``question-answering`` (qa_outputs).

    Yields:
        Name and shape; dense weights are [out, in], as checkpoints have them.
    """
    hidden, inner = config.hidden_size, config.intermediate_size
    yield "embeddings.word_embeddings.weight", (config.vocab_size, hidden)
    yield "embeddings.position_embeddings.weight", (config.max_position_embeddings, hidden)
    yield "embeddings.token_type_embeddings.weight", (config.type_vocab_size, hidden)
    yield from _pair("embeddings.LayerNorm", (hidden,))
    for layer in range(config.num_hidden_layers):
        base = f"encoder.layer.{layer}."
        for projection in ("query", "key", "value"):
            yield from _pair(f"{base}attention.self.{projection}", (hidden, hidden))
        yield from _pair(f"{base}attention.output.dense", (hidden, hidden))
        yield from _pair(f"{base}attention.output.LayerNorm", (hidden,))
        yield from _pair(f"{base}intermediate.dense", (inner, hidden))
        yield from _pair(f"{base}output.dense", (hidden, inner))
        yield from _pair(f"{base}output.LayerNorm", (hidden,))
    if head == "classification":
        yield from _pair("pooler.dense", (hidden, hidden))
    if head.endswith("classification"):
        yield from _pair("classifier", (len(config.labels), hidden))
    if head == "question-answering":
        yield from _pair("qa_outputs", (2, hidden))


def _pair(name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A weight and the bias of its first dimension."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def read_weights(path: Path, config: BertConfig, head: str) -> Weights:
    """Reads the model's weights from a safetensors file.

    Args:
        path: the file.
        config: the encoder's shape; every tensor must have the shape that follows from it.
        head: as in ``weight_shapes``.

    Returns:
        float32 arrays by the names of ``weight_shapes``; 16-bit and 64-bit floats are converted.

    Raises:
        BuildError: not a safetensors file, or a tensor is missing or has another shape or type.
        MissingExtra: the package safetensors is not installed.
    """
    import numpy as np

    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingExtra("safetensors", "reading weights") from error

    weights: dict[str, NDArray[np.float32]] = {}
    try:
        with safe_open(path, framework="numpy") as file:
            present = set(file.keys())
            prefix = _encoder_prefix(present, path)
            for name, shape in weight_shapes(config, head):
                stored = _stored_name(name, prefix, present, path)
                entry = file.get_slice(stored)
                found = tuple(entry.get_shape())
                if found != shape or entry.get_dtype() not in FLOAT_TYPES:
                    raise BuildError(
                        f"{path}: tensor {stored}: expected floats of shape {list(shape)}, got "
                        f"{entry.get_dtype()} of shape {list(found)}; does the config.json belong "
                        f"to these weights?"
                    )
                weights[name] = np.ascontiguousarray(file.get_tensor(stored), dtype=np.float32)
    except SafetensorError as error:
        raise BuildError(f"{path}: expected a safetensors file, got: {error}") from error
    except OSError as error:
        raise BuildError(f"{path}: the weights can not be read: {error}") from error
    return weights


def write_classifier(path: Path, weights: Weights, labels: Sequence[str]) -> None:
    """Writes ``classifier.weight`` and ``classifier.bias``, and what their labels are called.

    Raises:
        MissingExtra: the package safetensors is not installed.
        StoreError: it can not be written.
    """
    try:
        from safetensors.numpy import save
    except ImportError as error:
        raise MissingExtra("safetensors", "writing weights") from error
    content = save(dict(weights), {"labels": json.dumps(list(labels))})
    with write_whole(path, len(content)) as file:
        file.write(content)


def read_classifier(path: Path) -> tuple[Weights, tuple[str, ...]]:
    """What `write_classifier` wrote: float32 [labels, hidden] and [labels], and the labels' names.

    Raises:
        BuildError: it is no such file.
        MissingExtra: the package safetensors is not installed.
    """
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingExtra("safetensors", "reading weights") from error
    try:
        with safe_open(path, framework="numpy") as file:
            labels = tuple(json.loads((file.metadata() or {})["labels"]))
            found = {name: file.get_tensor(name) for name, _ in _pair("classifier", ())}
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise BuildError(f"{path}: expected a classifier's weights, got: {error!r}") from error
    return found, labels


def _encoder_prefix(present: set[str], path: Path) -> str:
    """The prefix under which a file has its encoder.

    Raises:
        BuildError: under none that is known.
    """
    anchor = "embeddings.word_embeddings.weight"
    for prefix in ENCODER_PREFIXES:
        if prefix + anchor in present:
            return prefix
    raise BuildError(
        f"{path}: expected a tensor {anchor} (or bert.{anchor}), got none of them; "
        f"{near_matches(anchor, list(present)[:40])}"
    )


def _stored_name(name: str, prefix: str, present: set[str], path: Path) -> str:
    """The name a tensor has in the file.

    Raises:
        BuildError: the file has none of the names it may have.
    """
    # The last layer stands beside the encoder, not in it.
    is_last = name.startswith(("classifier.", "qa_outputs."))
    full = name if is_last else prefix + name
    if full in present:
        return full
    for new, old in OLD_SPELLINGS.items():
        if full.endswith(new) and full.removesuffix(new) + old in present:
            return full.removesuffix(new) + old
    close = near_matches(full, present) if len(present) < 40 else f"{len(present)} others are there"
    remedy = "; a bare encoder has no head for a task" if is_last else ""
    raise BuildError(f"{path}: expected a tensor {full}, got none of that name ({close}){remedy}")


def random_weights(config: BertConfig, head: str, seed: int) -> Weights:
    """Weights drawn at random, of the sizes BERT is initialised with; for benchmarks and tests.

    Layer normalisations get scales near 1; biases are not zero, so that none can be forgotten
    without a difference in the output.

    Args:
        config: the encoder's shape.
        head: as in ``weight_shapes``.
        seed: 0 or more; the same seed gives the same weights with every numpy.

    Returns:
        float32 arrays by the names of ``weight_shapes``.
    """
    import numpy as np

    # RandomState's stream is frozen by numpy's policy, Generator's methods may change.
    source = np.random.RandomState(np.random.MT19937(seed))
    weights: dict[str, NDArray[np.float32]] = {}
    for name, shape in weight_shapes(config, head):
        values = source.standard_normal(shape).astype(np.float32)
        values *= np.float32(0.02)
        if name.endswith("LayerNorm.weight"):
            values += np.float32(1.0)
        weights[name] = values
    return weights
