"""A small typed writer of ONNX graphs: nodes, constants, inputs and outputs, then one model.

It knows ONNX and nothing of BERT. ``onnx`` is imported when the first graph is written, not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wasinn_models.errors import BuildError, MissingExtra

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

__all__ = ["OPSET", "GraphWriter", "onnx_package"]

# The newest opset whose attention masks ONNX Runtime's attention fusion knows: it looks for
# Unsqueeze with its axes as an attribute, and for Add, Sub, Mul and Cast as before opset 13.
OPSET = 12
# The file format that came with that opset.
IR_VERSION = 7

# A protobuf message, and so an ONNX file that keeps its weights inside, ends at 2 GiB. The rest is
# room for the nodes.
LARGEST_WEIGHTS_BYTES = (1 << 31) - (1 << 20)


def onnx_package() -> None:
    """Looks whether ``onnx`` can be imported.

    Raises:
        MissingExtra: it can not.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise MissingExtra("onnx", "building a model") from error


class GraphWriter:
    """Collects a graph node by node; every method that adds one returns its output's name.

    Args:
        name: the graph's name.
    """

    def __init__(self, name: str) -> None:
        onnx_package()
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._known: list[onnx.ValueInfoProto] = []
        self._names: set[str] = set()
        self._weight_bytes = 0

    def input(self, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> str:
        """Declares an input; a text in ``shape`` names a dimension that may vary."""
        self._inputs.append(self._value(name, dtype, shape))
        return self._claim(name)

    def output(self, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> None:
        """Declares an output, which a node of that name must write."""
        self._outputs.append(self._value(name, dtype, shape))

    def known(self, name: str, dtype: type[np.generic], shape: Sequence[int | str]) -> str:
        """States the shape of a value inside the graph, where inference would not find it.

        A runtime that does not know that two shapes are equal can not fuse what is added.
        """
        self._known.append(self._value(name, dtype, shape))
        return name

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        """Adds a constant tensor (weights too).

        Raises:
            BuildError: the constants together are more than an ONNX file can hold.
        """
        from onnx import helper

        self._weight_bytes += values.nbytes
        if self._weight_bytes > LARGEST_WEIGHTS_BYTES:
            raise BuildError(
                f"{self.name}: the weights are more than an ONNX file can hold: expected at most "
                f"{LARGEST_WEIGHTS_BYTES:,} bytes, got {self._weight_bytes:,} up to {name}; build "
                f"a smaller encoder"
            )
        self._initializers.append(
            helper.make_tensor(
                self._claim(name),
                helper.np_dtype_to_tensor_dtype(values.dtype),
                values.shape,
                values.tobytes(),
                raw=True,
            )
        )
        return name

    def node(
        self,
        op_type: str,
        inputs: Sequence[str],
        output: str,
        **attributes: int | Sequence[int],
    ) -> str:
        """Adds a node with one output, which also names the node."""
        from onnx import helper

        node = helper.make_node(op_type, list(inputs), [self._claim(output)], name=output)
        node.attribute.extend(
            helper.make_attribute(key, value) for key, value in sorted(attributes.items())
        )
        self._nodes.append(node)
        return output

    def model(self, producer: str, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The finished model.

        Args:
            producer: who made it, for the reader of the file.
            metadata: the model's own properties, which runtimes hand out.
        """
        from onnx import helper

        graph = helper.make_graph(
            self._nodes,
            self.name,
            self._inputs,
            self._outputs,
            self._initializers,
            value_info=self._known,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name=producer,
            ir_version=IR_VERSION,
        )
        helper.set_model_props(model, dict(metadata))
        return model

    def _claim(self, name: str) -> str:
        """Every name is written once."""
        assert name not in self._names, f"{self.name}: the name {name} is used twice"
        self._names.add(name)
        return name

    def _value(
        self, name: str, dtype: type[np.generic], shape: Sequence[int | str]
    ) -> onnx.ValueInfoProto:
        import numpy as np
        from onnx import helper

        return helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape)
        )
