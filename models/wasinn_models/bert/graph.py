"""The ONNX graph of a BERT encoder with a head. Not the reading of weights, not quantisation.

Only operators of the ONNX standard are written, in the order and grouping that ONNX Runtime's
fusions look for, so that it runs each attention block as one kernel and other runtimes can still
read the file. Inputs are ``input_ids``, ``attention_mask`` and ``token_type_ids``, int64
[batch, sequence], both dimensions free; the mask is 1 for a token and 0 for padding.

Source: J. Devlin et al., BERT, 2018, section 3; A. Vaswani et al., Attention is all you need, 2017.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import numpy as np

from wasinn_models.bert.config import BertConfig
from wasinn_models.bert.writer import GraphWriter

if TYPE_CHECKING:
    import onnx

    from wasinn_models.bert.weights import Weights

__all__ = ["bert_graph"]

# Added to the scores of padding, before the softmax; far below any score, and far enough from the
# smallest float32 that adding a score to it stays finite.
MASKED = -10000.0

# A vector of zeros stays zeros when it is normalised.
SMALLEST_LENGTH = 1e-12

PRODUCER = "wasinn_models"


def bert_graph(config: BertConfig, weights: Weights, head: str) -> onnx.ModelProto:
    """Writes the model.

    Args:
        config: the encoder's shape.
        weights: float32 arrays by the names of ``weight_shapes(config, head)``.
        head: see ``build_bert``.

    Returns:
        A float32 model. Its properties say ``head``, ``hidden_size``, ``max_sequence_length`` and,
        for a classifier, ``labels`` (a JSON list in the order of the logits).

    Raises:
        BuildError: the weights do not fit into one ONNX file (2 GiB).
        MissingExtra: the package onnx is not installed.
    """
    return _Bert(config, weights, head).write()


class _Bert:
    """One model while it is written."""

    def __init__(self, config: BertConfig, weights: Weights, head: str) -> None:
        self.config = config
        self.weights = weights
        self.head = head
        self.graph = GraphWriter(f"bert_{head}")

    def write(self) -> onnx.ModelProto:
        """All of it, from inputs to the head."""
        graph, config = self.graph, self.config
        ids = graph.input("input_ids", np.int64, ["batch", "sequence"])
        mask = graph.input("attention_mask", np.int64, ["batch", "sequence"])
        types = graph.input("token_type_ids", np.int64, ["batch", "sequence"])
        self.split_shape = graph.constant(
            "shape.heads",
            np.array([0, 0, config.num_attention_heads, config.head_size], dtype=np.int64),
        )
        self.join_shape = graph.constant(
            "shape.hidden", np.array([0, 0, config.hidden_size], dtype=np.int64)
        )
        # The scores' scale, sqrt(head size), is what the softmax's input is divided by.
        self.score_scale = graph.constant(
            "attention.scale", np.array(math.sqrt(config.head_size), dtype=np.float32)
        )
        graph.constant("layer_norm.two", np.array(2.0, dtype=np.float32))
        graph.constant("layer_norm.epsilon", np.array(config.layer_norm_eps, dtype=np.float32))
        self.activation_constants()

        states = self.embeddings(ids, types)
        bias = self.mask_bias(mask)
        for layer in range(config.num_hidden_layers):
            last = self.head == "embedding" and layer == config.num_hidden_layers - 1
            states = self.layer(layer, states, bias, "last_hidden_state" if last else None)
        if self.head == "embedding":
            graph.output(states, np.float32, ["batch", "sequence", config.hidden_size])
        elif self.head == "pooled":
            graph.output(self.pooled(states, mask), np.float32, ["batch", config.hidden_size])
        elif self.head == "question-answering":
            self.answer(states)
        elif self.head == "pooled-classification":
            self.classification(self.pooled(states, mask))
        else:
            self.classification(states)
        return graph.model(PRODUCER, self.metadata())

    def metadata(self) -> dict[str, str]:
        """The properties that the file carries."""
        properties = {
            "head": self.head,
            "hidden_size": str(self.config.hidden_size),
            "max_sequence_length": str(self.config.max_position_embeddings),
        }
        if self.head.endswith("classification"):
            properties["labels"] = json.dumps(self.config.labels)
        return properties

    def weight(self, name: str, *, transposed: bool = False) -> str:
        """A weight as a constant; dense layers want theirs as [in, out]."""
        values = self.weights[name]
        return self.graph.constant(name, np.ascontiguousarray(values.T) if transposed else values)

    def dense(self, name: str, states: str) -> str:
        """``states`` times a weight, plus its bias."""
        product = self.graph.node(
            "MatMul", [states, self.weight(f"{name}.weight", transposed=True)], f"{name}/matmul"
        )
        return self.graph.node("Add", [product, self.weight(f"{name}.bias")], f"{name}/add")

    def layer_norm(self, name: str, states: str, output: str | None = None) -> str:
        """Layer normalisation over the last dimension: (x - mean) / sqrt(variance + eps) * w + b.

        Source: J. L. Ba et al., Layer normalization, 2016.
        """
        graph = self.graph
        mean = graph.node("ReduceMean", [states], f"{name}/mean", axes=[-1], keepdims=1)
        centred = graph.node("Sub", [states, mean], f"{name}/centred")
        squares = graph.node("Pow", [centred, "layer_norm.two"], f"{name}/squares")
        variance = graph.node("ReduceMean", [squares], f"{name}/variance", axes=[-1], keepdims=1)
        raised = graph.node("Add", [variance, "layer_norm.epsilon"], f"{name}/raised")
        deviation = graph.node("Sqrt", [raised], f"{name}/deviation")
        scaled = graph.node("Div", [centred, deviation], f"{name}/scaled")
        weighted = graph.node("Mul", [scaled, self.weight(f"{name}.weight")], f"{name}/weighted")
        shifted = [weighted, self.weight(f"{name}.bias")]
        return graph.node("Add", shifted, output or f"{name}/norm")

    def embeddings(self, ids: str, types: str) -> str:
        """The sum of word, segment and position vectors, normalised: [batch, sequence, hidden]."""
        graph, config = self.graph, self.config
        words = graph.node(
            "Gather", [self.weight("embeddings.word_embeddings.weight"), ids], "embeddings/words"
        )
        segments = graph.node(
            "Gather",
            [self.weight("embeddings.token_type_embeddings.weight"), types],
            "embeddings/segments",
        )
        zero = graph.constant("zero", np.array(0, dtype=np.int64))
        one = graph.constant("one", np.array(1, dtype=np.int64))
        shape = graph.node("Shape", [ids], "embeddings/shape")
        length = graph.node("Gather", [shape, one], "embeddings/length")
        numbers = graph.node("Range", [zero, length, one], "embeddings/position_numbers")
        # A longer sequence fails in this node or, where a runtime makes a slice of it, in the sum
        # below; the runtime's message gives the node's name.
        positions = graph.node(
            "Gather",
            [self.weight("embeddings.position_embeddings.weight"), numbers],
            f"sequence_must_be_at_most_{config.max_position_embeddings}_tokens",
        )
        total = graph.node("Add", [words, segments], "embeddings/words_and_segments")
        total = graph.node(
            "Add",
            [total, positions],
            f"embeddings/sum_of_at_most_{config.max_position_embeddings}_positions",
        )
        graph.known(total, np.float32, ["batch", "sequence", config.hidden_size])
        return self.layer_norm("embeddings.LayerNorm", total)

    def mask_bias(self, mask: str) -> str:
        """What is added to the scores: 0 for a token, very low for padding: [batch, 1, 1, seq]."""
        graph = self.graph
        per_head = graph.node("Unsqueeze", [mask], "mask/per_head", axes=[1])
        per_query = graph.node("Unsqueeze", [per_head], "mask/per_query", axes=[2])
        floats = graph.node("Cast", [per_query], "mask/float", to=_float32())
        padding = graph.node(
            "Sub",
            [graph.constant("mask.one", np.array(1.0, dtype=np.float32)), floats],
            "mask/padding",
        )
        return graph.node(
            "Mul",
            [padding, graph.constant("mask.masked", np.array(MASKED, dtype=np.float32))],
            "mask/bias",
        )

    def layer(self, index: int, states: str, bias: str, output: str | None) -> str:
        """One encoder layer: attention and feed-forward, each added to its input, normalised."""
        graph = self.graph
        base = f"encoder.layer.{index}"
        attended = self.attention(f"{base}.attention", states, bias)
        projected = self.dense(f"{base}.attention.output.dense", attended)
        total = graph.node("Add", [projected, states], f"{base}.attention/residual")
        states = self.layer_norm(f"{base}.attention.output.LayerNorm", total)
        inner = self.activation(base, self.dense(f"{base}.intermediate.dense", states))
        projected = self.dense(f"{base}.output.dense", inner)
        total = graph.node("Add", [projected, states], f"{base}/residual")
        return self.layer_norm(f"{base}.output.LayerNorm", total, output)

    def attention(self, base: str, states: str, bias: str) -> str:
        """Softmax(Q K^T / sqrt(d) + bias) V of all heads, joined: [batch, sequence, hidden]."""
        graph = self.graph
        # Keys are laid out transposed at once, [batch, heads, head size, sequence].
        orders = {"query": [0, 2, 1, 3], "key": [0, 2, 3, 1], "value": [0, 2, 1, 3]}
        heads: dict[str, str] = {}
        for part, order in orders.items():
            flat = self.dense(f"{base}.self.{part}", states)
            split = graph.node("Reshape", [flat, self.split_shape], f"{base}/{part}/split")
            heads[part] = graph.node("Transpose", [split], f"{base}/{part}/heads", perm=order)
        scores = graph.node("MatMul", [heads["query"], heads["key"]], f"{base}/products")
        scores = graph.node("Div", [scores, self.score_scale], f"{base}/scores")
        scores = graph.node("Add", [scores, bias], f"{base}/masked")
        shares = graph.node("Softmax", [scores], f"{base}/shares", axis=3)
        mixed = graph.node("MatMul", [shares, heads["value"]], f"{base}/mixed")
        order = [0, 2, 1, 3]
        together = graph.node("Transpose", [mixed], f"{base}/together", perm=order)
        return graph.node("Reshape", [together, self.join_shape], f"{base}/joined")

    def activation_constants(self) -> None:
        """The constants of the activation, shared by all layers."""
        table = {
            "gelu": {"sqrt2": math.sqrt(2.0), "half": 0.5, "one": 1.0},
            "gelu_tanh": {
                "sqrt2pi": math.sqrt(2.0 / math.pi),
                "cubic": 0.044715,
                "three": 3.0,
                "half": 0.5,
                "one": 1.0,
            },
            "relu": {},
        }[self.config.activation]
        for name, value in table.items():
            self.graph.constant(f"activation.{name}", np.array(value, dtype=np.float32))

    def activation(self, base: str, states: str) -> str:
        """The feed-forward block's activation.

        Source: D. Hendrycks and K. Gimpel, Gaussian error linear units, 2016.
        """
        graph = self.graph
        if self.config.activation == "relu":
            return graph.node("Relu", [states], f"{base}/relu")
        if self.config.activation == "gelu":
            # x * (1 + erf(x / sqrt 2)) * 0.5
            inner = graph.node("Div", [states, "activation.sqrt2"], f"{base}/gelu/scaled")
            curve = graph.node("Erf", [inner], f"{base}/gelu/erf")
            raised = graph.node("Add", [curve, "activation.one"], f"{base}/gelu/raised")
            product = graph.node("Mul", [states, raised], f"{base}/gelu/product")
            return graph.node("Mul", [product, "activation.half"], f"{base}/gelu/gelu")
        # x * 0.5 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))
        cube = graph.node("Pow", [states, "activation.three"], f"{base}/gelu/cube")
        cubic = graph.node("Mul", [cube, "activation.cubic"], f"{base}/gelu/cubic")
        total = graph.node("Add", [states, cubic], f"{base}/gelu/polynomial")
        inner = graph.node("Mul", [total, "activation.sqrt2pi"], f"{base}/gelu/scaled")
        curve = graph.node("Tanh", [inner], f"{base}/gelu/tanh")
        raised = graph.node("Add", [curve, "activation.one"], f"{base}/gelu/raised")
        half = graph.node("Mul", [states, "activation.half"], f"{base}/gelu/half")
        return graph.node("Mul", [half, raised], f"{base}/gelu/gelu")

    def pooled(self, states: str, mask: str) -> str:
        """The mean of the tokens that are no padding, scaled to length 1: [batch, hidden]."""
        graph = self.graph
        floats = graph.node("Cast", [mask], "pooling/mask", to=_float32())
        column = graph.node("Unsqueeze", [floats], "pooling/column", axes=[2])
        kept = graph.node("Mul", [states, column], "pooling/kept")
        total = graph.node("ReduceSum", [kept], "pooling/sum", axes=[1], keepdims=0)
        # The mean and the sum differ by a positive factor, which the normalisation removes.
        length = graph.node("ReduceL2", [total], "pooling/length", axes=[1], keepdims=1)
        floor = graph.constant("pooling.floor", np.array(SMALLEST_LENGTH, dtype=np.float32))
        divisor = graph.node("Max", [length, floor], "pooling/divisor")
        return graph.node("Div", [total, divisor], "sentence_embedding")

    def classification(self, states: str) -> None:
        """Logits of vectors that are a row's or each token's; or, of BERT's own head, of the first
        token's vector through the pooler."""
        graph = self.graph
        shape: list[int | str] = ["batch", "sequence", len(self.config.labels)]
        if self.head == "classification":
            first = graph.node("Gather", [states, "zero"], "pooler/first", axis=1)
            states = graph.node("Tanh", [self.dense("pooler.dense", first)], "pooler/tanh")
        if self.head != "token-classification":
            del shape[1]
        product = graph.node(
            "MatMul",
            [states, self.weight("classifier.weight", transposed=True)],
            "classifier/matmul",
        )
        graph.node("Add", [product, self.weight("classifier.bias")], "logits")
        graph.output("logits", np.float32, shape)

    def answer(self, states: str) -> None:
        """How well an answer starts and ends at each token: twice [batch, sequence]."""
        both = self.dense("qa_outputs", states)
        for name, place in (("start_logits", "zero"), ("end_logits", "one")):
            self.graph.node("Gather", [both, place], name, axis=2)
            self.graph.output(name, np.float32, ["batch", "sequence"])


def _float32() -> int:
    """ONNX's number for float32."""
    from onnx import TensorProto

    return int(TensorProto.FLOAT)
