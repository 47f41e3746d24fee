"""The shape of a BERT encoder: read from ``config.json``, checked, with a clear error for what the
builder does not build. Not the weights (``weights.py``) and not the graph (``graph.py``).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from wasinn_models.errors import BuildError

__all__ = ["BertConfig"]

# Spellings that transformers accepts, to the three functions there are: the exact Gelu, its tanh
# approximation, and ReLU.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}

# A layer of more than this is a typing error or an attack, not an encoder.
LARGEST_DIMENSION = 1 << 24


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """What the graph builder must know of an encoder. The defaults are BERT-base's.

    Attributes:
        vocab_size: rows of the word table.
        hidden_size: width of a token's vector.
        num_hidden_layers: number of encoder layers.
        num_attention_heads: heads of a layer; divides ``hidden_size``.
        intermediate_size: width between the two dense layers of a feed-forward block.
        hidden_act: ``gelu``, ``gelu_new`` (``gelu_fast``, ``gelu_pytorch_tanh``) or ``relu``.
        max_position_embeddings: longest sequence, in tokens.
        type_vocab_size: number of segments.
        layer_norm_eps: added to the variance in every layer normalisation.
        labels: names of the classes in the order of the logits; empty for a bare encoder.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        ):
            value = getattr(self, field)
            if type(value) is not int or not 1 <= value <= LARGEST_DIMENSION:
                raise BuildError(
                    f"BERT configuration: {field}: expected a whole number from 1 to "
                    f"{LARGEST_DIMENSION}, got {value!r}"
                )
        if self.max_position_embeddings < 2:
            # One position would be spread over a longer sequence instead of failing there.
            raise BuildError(
                "BERT configuration: max_position_embeddings: expected 2 or more, got 1"
            )
        if self.hidden_size % self.num_attention_heads:
            raise BuildError(
                f"BERT configuration: expected num_attention_heads to divide hidden_size, got "
                f"{self.num_attention_heads} heads for a hidden size of {self.hidden_size}"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise BuildError(
                f"BERT configuration: hidden_act: expected one of {', '.join(ACTIVATIONS)}, got "
                f"{self.hidden_act!r}"
            )
        if type(self.layer_norm_eps) is not float or not 0.0 < self.layer_norm_eps < 1.0:
            raise BuildError(
                f"BERT configuration: layer_norm_eps: expected a number between 0 and 1, got "
                f"{self.layer_norm_eps!r}"
            )

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def activation(self) -> str:
        """``gelu``, ``gelu_tanh`` or ``relu``."""
        return ACTIVATIONS[self.hidden_act]

    @classmethod
    def from_file(cls, path: Path) -> BertConfig:
        """Reads a ``config.json`` as transformers writes it.

        Raises:
            BuildError: the file can not be read, is not JSON, or describes another architecture.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BuildError(f"{path}: the configuration can not be read: {error}") from error
        try:
            content = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise BuildError(f"{path}: expected JSON, got something else: {error}") from error
        if not isinstance(content, dict):
            raise BuildError(f"{path}: expected a JSON object, got {type(content).__name__}")
        try:
            return cls.from_mapping(content)
        except BuildError as error:
            raise BuildError(f"{path}: {error}") from error

    @classmethod
    def from_mapping(cls, content: Mapping[str, object]) -> BertConfig:
        """Takes the fields of a ``config.json``; those that only training uses are ignored.

        Raises:
            BuildError: a field is missing or of the wrong type, or the architecture is not BERT's.
        """
        model_type = content.get("model_type", "bert")
        if model_type != "bert":
            raise BuildError(
                f"BERT configuration: model_type: expected 'bert', got {model_type!r}; other "
                f"architectures name and wire their weights in other ways"
            )
        positions = content.get("position_embedding_type") or "absolute"
        if positions != "absolute":
            raise BuildError(
                f"BERT configuration: position_embedding_type: expected 'absolute', got "
                f"{positions!r}"
            )
        for flag in ("is_decoder", "add_cross_attention"):
            if content.get(flag):
                raise BuildError(f"BERT configuration: {flag} is set: expected an encoder")
        values: dict[str, object] = {}
        for field in dataclasses.fields(cls):
            if field.name == "labels":
                values["labels"] = labels_of(content)
            elif field.name in content:
                values[field.name] = content[field.name]
            elif field.name in ("hidden_size", "num_hidden_layers", "vocab_size"):
                raise BuildError(f"BERT configuration: expected the field {field.name}, got none")
        if type(values.get("layer_norm_eps")) is int:
            values["layer_norm_eps"] = float(str(values["layer_norm_eps"]))
        return cls(**values)  # type: ignore[arg-type]  # __post_init__ checks each type


def labels_of(content: Mapping[str, object]) -> tuple[str, ...]:
    """The class names of a configuration: ``id2label``, else ``num_labels`` numbered names.

    Raises:
        BuildError: the ids are not 0, 1, 2, ... or a name is not a text.
    """
    table = content.get("id2label")
    if table is None:
        count = content.get("num_labels", 0)
        if type(count) is not int or not 0 <= count <= LARGEST_DIMENSION:
            raise BuildError(
                f"BERT configuration: num_labels: expected a whole number, got {count!r}"
            )
        return tuple(f"LABEL_{index}" for index in range(count))
    if not isinstance(table, dict):
        raise BuildError(
            f"BERT configuration: id2label: expected an object, got {type(table).__name__}"
        )
    names = [table.get(str(index)) for index in range(len(table))]
    if not all(isinstance(name, str) for name in names):
        raise BuildError(
            f"BERT configuration: id2label: expected names for the ids 0 to {len(table) - 1}, got "
            f"the ids {', '.join(sorted(map(str, table)))}"
        )
    return tuple(str(name) for name in names)
