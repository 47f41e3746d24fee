"""Writes the encoder that ``graph.py`` describes as a TFLite model.

The same inputs, outputs and heads; batch and sequence are free as there. Every operator's shape
follows from the inputs' shapes alone, so that TFLite can plan its memory before it computes: no
operator reads a shape as data. Not a converter.

Importing it imports the flatbuffers schema of LiteRT's package, so ``build.py`` does that only when
such a model is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from wasinn_models.bert.config import BertConfig
from wasinn_models.bert.graph import MASKED, SMALLEST_LENGTH
from wasinn_models.errors import BuildError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from wasinn_models.bert.weights import Weights

__all__ = ["bert_tflite"]

_OPS: Final = schema.BuiltinOperator
_TYPES: Final[Mapping[str, int]] = {
    "float32": schema.TensorType.FLOAT32,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
}
_MOST_BYTES: Final = (1 << 31) - (1 << 20)
"""What flatbuffers can point to, less what is no weight."""

_Shape = tuple[int | None, ...]


def bert_tflite(config: BertConfig, weights: Weights, head: str) -> bytes:
    """The model as a flatbuffer.

    Args:
        config: the encoder's shape.
        weights: float32 arrays by the names of ``weight_shapes``.
        head: see ``build_bert``.

    Raises:
        BuildError: the weights do not fit into one file (2 GiB).
    """
    total = sum(values.nbytes for values in weights.values())
    if total > _MOST_BYTES:
        raise BuildError(
            f"form tflite: expected at most {_MOST_BYTES} bytes of weights, got {total}"
        )
    return _Bert(config, weights, head).write(total)


class _Graph:
    """A graph while it is written. Tensors are numbers; their shapes are remembered."""

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.operatorCodes = []
        self._model.buffers = [schema.BufferT()]
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._graph.inputs, self._graph.outputs = [], []
        self._model.subgraphs = [self._graph]
        self._codes: dict[int, int] = {}
        self._constants: dict[str, int] = {}
        self.shapes: list[_Shape] = []

    def tensor(self, name: str, shape: _Shape, dtype: str = "float32", buffer: int = 0) -> int:
        made = schema.TensorT()
        made.name, made.type, made.buffer = name, _TYPES[dtype], buffer
        made.shape = [1 if size is None else size for size in shape]
        if None in shape:
            made.shapeSignature = [-1 if size is None else size for size in shape]
        self._graph.tensors.append(made)
        self.shapes.append(shape)
        return len(self.shapes) - 1

    def input(self, name: str, shape: _Shape, dtype: str) -> int:
        number = self.tensor(name, shape, dtype)
        self._graph.inputs.append(number)
        return number

    def output(self, number: int, name: str) -> None:
        self._graph.tensors[number].name = name
        self._graph.outputs.append(number)

    def constant(self, name: str, values: NDArray[Any]) -> int:
        """A constant; the one there is, if the name is known."""
        if name not in self._constants:
            buffer = schema.BufferT()
            buffer.data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            self._model.buffers.append(buffer)
            place = len(self._model.buffers) - 1
            self._constants[name] = self.tensor(name, values.shape, values.dtype.name, place)
        return self._constants[name]

    def node(
        self,
        code: int,
        inputs: Sequence[int],
        name: str,
        shape: _Shape,
        options: Any = None,
        dtype: str = "float32",
    ) -> int:
        """An operator of one output."""
        return self.nodes(code, inputs, [name], shape, options, dtype)[0]

    def nodes(
        self,
        code: int,
        inputs: Sequence[int],
        names: Sequence[str],
        shape: _Shape,
        options: Any = None,
        dtype: str = "float32",
    ) -> list[int]:
        """An operator of several outputs of one shape."""
        made = schema.OperatorT()
        made.opcodeIndex = self._code(code)
        made.inputs = list(inputs)
        made.outputs = [self.tensor(name, shape, dtype) for name in names]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            made.builtinOptions = options
        self._graph.operators.append(made)
        return [int(number) for number in made.outputs]

    def packed(self, description: str, room: int) -> bytes:
        self._model.description = description
        builder = flatbuffers.Builder(room + (1 << 20))
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _code(self, code: int) -> int:
        if code not in self._codes:
            made = schema.OperatorCodeT()
            made.builtinCode, made.version = code, 1
            made.deprecatedBuiltinCode = min(code, 127)  # as far as older readers can count
            self._codes[code] = len(self._model.operatorCodes)
            self._model.operatorCodes.append(made)
        return self._codes[code]


def _with(options: Any, **values: Any) -> Any:
    for name, value in values.items():
        setattr(options, name, value)
    return options


class _Bert:
    """One model while it is written."""

    def __init__(self, config: BertConfig, weights: Weights, head: str) -> None:
        self.config = config
        self.weights = weights
        self.head = head
        self.graph = _Graph()

    def write(self, room: int) -> bytes:
        """All of it, from inputs to the head."""
        graph, config = self.graph, self.config
        ids = graph.input("input_ids", (None, None), "int64")
        mask = graph.input("attention_mask", (None, None), "int64")
        types = graph.input("token_type_ids", (None, None), "int64")
        kept = graph.node(_OPS.CAST, [mask], "mask/float", (None, None), schema.CastOptionsT())
        states = self.embeddings(ids, types)
        bias = self.mask_bias(kept)
        for layer in range(config.num_hidden_layers):
            states = self.layer(f"encoder.layer.{layer}", states, bias)
        if self.head == "embedding":
            graph.output(states, "last_hidden_state")
        elif self.head == "pooled":
            graph.output(self.pooled(states, kept), "sentence_embedding")
        elif self.head == "pooled-classification":
            graph.output(self.dense("classifier", self.pooled(states, kept)), "logits")
        elif self.head == "question-answering":
            both = self.dense("qa_outputs", states)
            for place, name in enumerate(("start_logits", "end_logits")):
                graph.output(self.picked(both, place, 2, name), name)
        else:
            first = self.head == "classification"
            graph.output(
                self.dense("classifier", self.first(states) if first else states), "logits"
            )
        return graph.packed(f"bert_{self.head}", room)

    def weight(self, name: str) -> int:
        return self.graph.constant(name, self.weights[name])

    def number(self, name: str, value: float) -> int:
        return self.graph.constant(name, np.array(value, np.float32))

    def axes(self, *axes: int) -> int:
        return self.graph.constant(f"axes{list(axes)}", np.array(axes, np.int32))

    def binary(self, code: int, left: int, right: int, name: str) -> int:
        """Arithmetic of two tensors; the shape is that of the first, the larger one."""
        options = {
            _OPS.ADD: schema.AddOptionsT,
            _OPS.SUB: schema.SubOptionsT,
            _OPS.MUL: schema.MulOptionsT,
        }[code]()
        return self.graph.node(code, [left, right], name, self.graph.shapes[left], options)

    def mean(self, code: int, states: int, axis: int, name: str, *, keep: bool) -> int:
        """A reduction along one axis."""
        shape = list(self.graph.shapes[states])
        shape[axis : axis + 1] = [1] if keep else []
        options = _with(schema.ReducerOptionsT(), keepDims=keep)
        return self.graph.node(code, [states, self.axes(axis)], name, tuple(shape), options)

    def dense(self, name: str, states: int) -> int:
        """``states`` times a weight, plus its bias."""
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        shape = (*self.graph.shapes[states][:-1], self.graph.shapes[weight][0])
        options = _with(schema.FullyConnectedOptionsT(), keepNumDims=True)
        return self.graph.node(_OPS.FULLY_CONNECTED, [states, weight, bias], name, shape, options)

    def layer_norm(self, name: str, states: int) -> int:
        """Layer normalisation over the last dimension."""
        axis = len(self.graph.shapes[states]) - 1
        mean = self.mean(_OPS.MEAN, states, axis, f"{name}/mean", keep=True)
        centred = self.binary(_OPS.SUB, states, mean, f"{name}/centred")
        squares = self.binary(_OPS.MUL, centred, centred, f"{name}/squares")
        variance = self.mean(_OPS.MEAN, squares, axis, f"{name}/variance", keep=True)
        epsilon = self.number("layer_norm.epsilon", self.config.layer_norm_eps)
        raised = self.binary(_OPS.ADD, variance, epsilon, f"{name}/raised")
        inverse = self.graph.node(
            _OPS.RSQRT, [raised], f"{name}/inverse", self.graph.shapes[raised]
        )
        scaled = self.binary(_OPS.MUL, centred, inverse, f"{name}/scaled")
        weighted = self.binary(_OPS.MUL, scaled, self.weight(f"{name}.weight"), f"{name}/weighted")
        return self.binary(_OPS.ADD, weighted, self.weight(f"{name}.bias"), f"{name}/norm")

    def embeddings(self, ids: int, types: int) -> int:
        """The sum of word, segment and position vectors, normalised: [batch, sequence, hidden]."""
        graph = self.graph
        # Positions are counted along the sequence, as the sum of the ones before: a range of so
        # many would be a tensor whose size is known only when the model runs.
        zeros = graph.node(
            _OPS.SUB, [ids, ids], "positions/zeros", (None, None), schema.SubOptionsT(), "int64"
        )
        one = graph.constant("positions.one", np.array(1, np.int64))
        ones = graph.node(
            _OPS.ADD, [zeros, one], "positions/ones", (None, None), schema.AddOptionsT(), "int64"
        )
        axis = graph.constant("positions.axis", np.array(1, np.int32))
        counted = _with(schema.CumsumOptionsT(), exclusive=True)
        positions = graph.node(
            _OPS.CUMSUM, [ones, axis], "positions", (None, None), counted, "int64"
        )
        tables = {"word": ids, "token_type": types, "position": positions}
        words, segments, places = (
            self.looked_up(f"embeddings.{table}_embeddings.weight", numbers, 0)
            for table, numbers in tables.items()
        )
        total = self.binary(_OPS.ADD, words, segments, "embeddings/words_and_segments")
        total = self.binary(_OPS.ADD, total, places, "embeddings/sum")
        return self.layer_norm("embeddings.LayerNorm", total)

    def looked_up(self, table: str, numbers: int, axis: int) -> int:
        """Rows of a table of weights."""
        shape = (*self.graph.shapes[numbers], self.config.hidden_size)
        options = _with(schema.GatherOptionsT(), axis=axis)
        name = f"{table}/rows"
        return self.graph.node(_OPS.GATHER, [self.weight(table), numbers], name, shape, options)

    def mask_bias(self, kept: int) -> int:
        """What is added to the scores: 0 for a token, very low for padding: [batch, 1, 1, seq]."""
        graph = self.graph
        # (1 - kept) * MASKED, with the first operand the larger one.
        scaled = self.binary(_OPS.MUL, kept, self.number("mask.scale", -MASKED), "mask/scaled")
        bias = self.binary(_OPS.ADD, scaled, self.number("mask.shift", MASKED), "mask/bias")
        for name, shape in (
            ("mask/per_head", (None, 1, None)),
            ("mask/per_query", (None, 1, 1, None)),
        ):
            bias = graph.node(
                _OPS.EXPAND_DIMS, [bias, self.axes(1)], name, shape, schema.ExpandDimsOptionsT()
            )
        return bias

    def layer(self, base: str, states: int, bias: int) -> int:
        """One encoder layer: attention and feed-forward, each added to its input, normalised."""
        attended = self.dense(
            f"{base}.attention.output.dense", self.attention(f"{base}.attention", states, bias)
        )
        total = self.binary(_OPS.ADD, attended, states, f"{base}.attention/residual")
        states = self.layer_norm(f"{base}.attention.output.LayerNorm", total)
        inner = self.activation(base, self.dense(f"{base}.intermediate.dense", states))
        total = self.binary(
            _OPS.ADD, self.dense(f"{base}.output.dense", inner), states, f"{base}/residual"
        )
        return self.layer_norm(f"{base}.output.LayerNorm", total)

    def attention(self, base: str, states: int, bias: int) -> int:
        """Softmax(Q K^T / sqrt(d) + bias) V of all heads, joined: [batch, sequence, hidden]."""
        graph, config = self.graph, self.config
        query, key, value = (
            self.split(f"{base}.self.{part}", states) for part in ("query", "key", "value")
        )
        scale = self.number("attention.scale", 1 / math.sqrt(config.head_size))
        query = self.binary(_OPS.MUL, query, scale, f"{base}/scaled")
        square = (None, config.num_attention_heads, None, None)
        transposed = _with(schema.BatchMatMulOptionsT(), adjY=True)
        scores = graph.node(_OPS.BATCH_MATMUL, [query, key], f"{base}/scores", square, transposed)
        scores = self.binary(_OPS.ADD, scores, bias, f"{base}/masked")
        options = _with(schema.SoftmaxOptionsT(), beta=1.0)
        shares = graph.node(_OPS.SOFTMAX, [scores], f"{base}/shares", square, options)
        mixed = graph.node(
            _OPS.BATCH_MATMUL,
            [shares, value],
            f"{base}/mixed",
            graph.shapes[value],
            schema.BatchMatMulOptionsT(),
        )
        return self.joined(base, mixed)

    def joined(self, base: str, mixed: int) -> int:
        """The heads' parts side by side: [batch, sequence, hidden]."""
        graph, config = self.graph, self.config
        # Joined with the heads' dimension still there, and that left out of the whole: OpenVINO
        # fails to read the other order.
        parts = self.parts(mixed, 1, f"{base}/mixed", (None, 1, None, config.head_size))
        whole = graph.node(
            _OPS.CONCATENATION,
            parts,
            f"{base}/side_by_side",
            (None, 1, None, config.hidden_size),
            _with(schema.ConcatenationOptionsT(), axis=3),
        )
        squeezed = _with(schema.SqueezeOptionsT(), squeezeDims=[1])
        shape = (None, None, config.hidden_size)
        return graph.node(_OPS.SQUEEZE, [whole], f"{base}/joined", shape, squeezed)

    def parts(self, states: int, axis: int, name: str, shape: _Shape) -> list[int]:
        """A tensor cut into as many parts as there are heads."""
        heads = range(self.config.num_attention_heads)
        along = self.graph.constant(f"split.axis{axis}", np.array(axis, np.int32))
        names = [f"{name}.{head}" for head in heads]
        options = _with(schema.SplitOptionsT(), numSplits=len(heads))
        return self.graph.nodes(_OPS.SPLIT, [along, states], names, shape, options)

    def split(self, name: str, states: int) -> int:
        """A dense layer's parts of all heads: [batch, heads, sequence, head size]."""
        config = self.config
        shape = (None, None, config.head_size)
        parts = self.parts(self.dense(name, states), 2, f"{name}/head", shape)
        options = _with(schema.PackOptionsT(), valuesCount=len(parts), axis=1)
        heads = (None, len(parts), None, config.head_size)
        return self.graph.node(_OPS.PACK, parts, f"{name}/heads", heads, options)

    def activation(self, base: str, states: int) -> int:
        """The feed-forward block's activation."""
        shape = self.graph.shapes[states]
        if self.config.activation == "relu":
            return self.graph.node(_OPS.RELU, [states], f"{base}/relu", shape)
        options = _with(schema.GeluOptionsT(), approximate=self.config.activation == "gelu_tanh")
        return self.graph.node(_OPS.GELU, [states], f"{base}/gelu", shape, options)

    def pooled(self, states: int, kept: int) -> int:
        """The mean of the tokens that are no padding, scaled to length 1: [batch, hidden]."""
        graph, hidden = self.graph, self.config.hidden_size
        column = graph.node(
            _OPS.EXPAND_DIMS,
            [kept, self.axes(2)],
            "pooling/column",
            (None, None, 1),
            schema.ExpandDimsOptionsT(),
        )
        total = self.mean(
            _OPS.SUM,
            self.binary(_OPS.MUL, states, column, "pooling/kept"),
            1,
            "pooling/sum",
            keep=False,
        )
        squares = self.binary(_OPS.MUL, total, total, "pooling/squares")
        length = self.mean(_OPS.SUM, squares, 1, "pooling/length", keep=True)
        floor = self.number("pooling.floor", SMALLEST_LENGTH**2)
        options = schema.MaximumMinimumOptionsT()
        divisor = graph.node(_OPS.MAXIMUM, [length, floor], "pooling/divisor", (None, 1), options)
        inverse = graph.node(_OPS.RSQRT, [divisor], "pooling/inverse", (None, 1))
        return graph.node(
            _OPS.MUL, [total, inverse], "sentence_embedding", (None, hidden), schema.MulOptionsT()
        )

    def first(self, states: int) -> int:
        """The first token's vector, through the pooler: [batch, hidden]."""
        first = self.dense("pooler.dense", self.picked(states, 0, 1, "pooler/first"))
        return self.graph.node(_OPS.TANH, [first], "pooler/tanh", self.graph.shapes[first])

    def picked(self, states: int, place: int, axis: int, name: str) -> int:
        """What stands at one place of an axis, without the axis."""
        shape = list(self.graph.shapes[states])
        del shape[axis]
        index = self.graph.constant(f"place.{place}", np.array(place, np.int32))
        options = _with(schema.GatherOptionsT(), axis=axis)
        return self.graph.node(_OPS.GATHER, [states, index], name, tuple(shape), options)
