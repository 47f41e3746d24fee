"""Turns a float32 model of the builder into an int8 one, by ONNX Runtime's dynamic quantisation.

Weights become 8-bit integers with one scale per output channel; the inputs of each product are
quantised when it runs, with one scale for the whole tensor. That single scale is what costs
accuracy: a few large values leave few steps for all others. The feed-forward blocks have such
values, so ``keep_float`` can leave some of them as they are.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wasinn_models.bert.writer import onnx_package
from wasinn_models.errors import BuildError, MissingExtra

if TYPE_CHECKING:
    import onnx

__all__ = ["quantise"]

# The head's small products come last, where nothing evens an error out any more; the tables of
# positions and segments are small and are added to every token.
ALWAYS_FLOAT = (
    "classifier",
    "embeddings/positions",
    "embeddings/segments",
    "pooler.dense",
    "qa_outputs",
)

# Tells onnxruntime's quantiser that the model is ready for it. Without this it advises, on the
# program's log, to run a clean-up that finds nothing to do in the builder's graphs.
READY_PROPERTY = "onnx.quant.pre_process"


def quantise(
    model: onnx.ModelProto, scratch: Path, keep_float: Sequence[str] = ()
) -> onnx.ModelProto:
    """Quantises a model.

    Args:
        model: what ``bert_graph`` returns.
        scratch: an empty folder for the quantiser's files, with room for twice the model.
        keep_float: patterns (``*``, ``?``) of the names of dense layers that stay float32, such as
            ``encoder.layer.*.output.dense``.

    Returns:
        The int8 model, with the float one's properties.

    Raises:
        BuildError: a pattern fits no layer.
        MissingExtra: the package onnx is not installed.
        OSError: the folder can not be written; for the store to map.
    """
    onnx_package()
    import onnx

    try:
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise MissingExtra("onnxruntime", "an int8 model") from error

    properties = {entry.key: entry.value for entry in model.metadata_props}
    plain, quantised = scratch / "float32.onnx", scratch / "int8.onnx"
    onnx.helper.set_model_props(model, {**properties, READY_PROPERTY: "onnxruntime.quant"})
    onnx.save(model, plain)
    quantize_dynamic(
        plain,
        quantised,
        op_types_to_quantize=["MatMul", "Gather"],
        per_channel=True,
        # Unsigned, since processors without VNNI add pairs of unsigned times signed products with
        # saturation; unsigned times unsigned is exact on all of them, with all 8 bits.
        weight_type=QuantType.QUInt8,
        nodes_to_exclude=_kept(model, keep_float),
    )
    result = onnx.load(quantised)
    onnx.helper.set_model_props(result, properties)
    return result


def _kept(model: onnx.ModelProto, keep_float: Sequence[str]) -> list[str]:
    """The names of the nodes that are not quantised.

    Raises:
        BuildError: a pattern fits no layer.
    """
    layers = {node.name.removesuffix("/matmul"): node.name for node in model.graph.node}
    kept = {layers[name] for name in ALWAYS_FLOAT if name in layers}
    kept |= {name for name in layers if name.startswith("sequence_must_be_at_most_")}
    for pattern in keep_float:
        fitting = fnmatch.filter(layers, pattern)
        if not fitting:
            dense = [layer for layer, node in layers.items() if node.endswith("/matmul")]
            raise BuildError(
                f"keep_float: no dense layer fits {pattern!r}; expected names such as "
                f"{', '.join(dense[:6])}"
            )
        kept |= {layers[name] for name in fitting}
    return sorted(kept)
