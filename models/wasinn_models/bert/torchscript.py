"""Writes the encoder that ``graph.py`` describes as a TorchScript archive, traced by PyTorch.

The same inputs, outputs and heads; batch and sequence are free as there. Importing it imports
PyTorch, so ``build.py`` does that only when such a model is asked for. Not the loading of archives.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from wasinn_models.bert.config import BertConfig
from wasinn_models.bert.graph import MASKED, SMALLEST_LENGTH

if TYPE_CHECKING:
    from wasinn_models.bert.weights import Weights

__all__ = ["bert_torchscript"]


class Encoder(torch.nn.Module):
    """The encoder with a head. Its parameters have the weights' names, with ``_`` for ``.``.

    Args:
        config: the encoder's shape.
        weights: by the names of ``weight_shapes``.
        head: see ``build_bert``.
    """

    def __init__(self, config: BertConfig, weights: Weights, head: str) -> None:
        super().__init__()
        self.config = config
        self.head = head
        for name, values in weights.items():
            # A copy: arrays that were read from a file may be read-only.
            self.register_buffer(name.replace(".", "_"), torch.from_numpy(np.array(values)))

    def weight(self, name: str) -> torch.Tensor:
        """A weight by the name that checkpoints have for it."""
        return self.get_buffer(name.replace(".", "_"))

    def dense(self, name: str, states: torch.Tensor) -> torch.Tensor:
        """``states`` times a weight, plus its bias."""
        return functional.linear(states, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"))

    def layer_norm(self, name: str, states: torch.Tensor) -> torch.Tensor:
        """Layer normalisation over the last dimension."""
        scale, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        shape = [self.config.hidden_size]
        return functional.layer_norm(states, shape, scale, shift, self.config.layer_norm_eps)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """All of it, from inputs to the head."""
        # A longer sequence than there are positions makes the sum fail, since slices end early.
        positions = self.weight("embeddings.position_embeddings.weight")[: input_ids.shape[1]]
        states = functional.embedding(input_ids, self.weight("embeddings.word_embeddings.weight"))
        states = states + functional.embedding(
            token_type_ids, self.weight("embeddings.token_type_embeddings.weight")
        )
        states = self.layer_norm("embeddings.LayerNorm", states + positions)
        bias = ((1.0 - attention_mask.to(torch.float32)) * MASKED)[:, None, None, :]
        for index in range(self.config.num_hidden_layers):
            states = self.layer(f"encoder.layer.{index}", states, bias)
        if self.head == "embedding":
            return states
        if self.head in ("pooled", "pooled-classification"):
            total = (states * attention_mask.to(torch.float32)[:, :, None]).sum(1)
            pooled = functional.normalize(total, dim=1, eps=SMALLEST_LENGTH)
            return pooled if self.head == "pooled" else self.dense("classifier", pooled)
        if self.head == "question-answering":
            both = self.dense("qa_outputs", states)
            return both[:, :, 0], both[:, :, 1]
        if self.head == "classification":
            states = torch.tanh(self.dense("pooler.dense", states[:, 0]))
        return self.dense("classifier", states)

    def layer(self, base: str, states: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """One encoder layer: attention and feed-forward, each added to its input, normalised."""
        attended = self.dense(
            f"{base}.attention.output.dense", self.attention(f"{base}.attention", states, bias)
        )
        states = self.layer_norm(f"{base}.attention.output.LayerNorm", attended + states)
        inner = self.activation(self.dense(f"{base}.intermediate.dense", states))
        return self.layer_norm(
            f"{base}.output.LayerNorm", self.dense(f"{base}.output.dense", inner) + states
        )

    def attention(self, base: str, states: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Softmax(Q K^T / sqrt(d) + bias) V of all heads, joined: [batch, sequence, hidden]."""
        query, key, value = (
            self.split(self.dense(f"{base}.self.{part}", states))
            for part in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return mixed.transpose(1, 2).flatten(2)

    def split(self, states: torch.Tensor) -> torch.Tensor:
        """The parts of all heads: [batch, heads, sequence, head size]."""
        shape = (*states.shape[:2], self.config.num_attention_heads, self.config.head_size)
        return states.view(shape).transpose(1, 2)

    def activation(self, states: torch.Tensor) -> torch.Tensor:
        """The feed-forward block's activation."""
        if self.config.activation == "relu":
            return functional.relu(states)
        approximate = "tanh" if self.config.activation == "gelu_tanh" else "none"
        return functional.gelu(states, approximate=approximate)


def bert_torchscript(config: BertConfig, weights: Weights, head: str) -> bytes:
    """The model as an archive.

    Args:
        config: the encoder's shape.
        weights: by the names of ``weight_shapes``.
        head: see ``build_bert``.

    Returns:
        What ``torch.jit.load`` reads.
    """
    example = torch.ones((2, 2), dtype=torch.int64)
    segments = torch.zeros_like(example)
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # PyTorch says that TorchScript is deprecated; it is what was asked for.
        warnings.simplefilter("ignore", DeprecationWarning)
        jit: Any = torch.jit
        traced = jit.trace(
            Encoder(config, weights, head).eval(),
            (example, example, segments),
            check_trace=False,
        )
        jit.save(traced, file)
    return _without_sources(file)


def _without_sources(file: io.BytesIO) -> bytes:
    """The archive without the records that say where on this machine the code was."""
    result = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(result, "w") as new:
        for entry in old.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                # A fixed time: a file does not say when it was made.
                new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry))
    return result.getvalue()
