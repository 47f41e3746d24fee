"""The plugin under check, and what the checks do with it again and again."""

from __future__ import annotations

import contextlib
import math
import random
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from wasinn_host.nn.checks import check_backend_class, check_context, check_devices, check_graph
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.plugin import (
    ANY_ENCODING,
    Backend,
    Device,
    ExecutionContext,
    Graph,
    ModelSource,
    Sample,
    Tensor,
    TensorSpec,
    TensorType,
)
from wasinn_host.nn.tensors import STRUCT_FORMATS, difference

__all__ = ["CheckFailed", "CheckSkipped", "Subject", "refused", "rotated", "same"]

# What two runs of one computation may differ by: threads may add in another order.
_REPEATABLE: Final = 1e-4


class CheckFailed(Exception):
    """What the plugin did, and what it should have done."""


class CheckSkipped(Exception):
    """Why a check has nothing to look at in this plugin."""


@dataclass(frozen=True, slots=True)
class _Case:
    """A sample on a device, with inputs and outputs that are known by now."""

    sample: Sample
    device: Device


class Subject:
    """A backend, its devices, and models that it can run.

    Args:
        cls: what the plugin's entry point leads to.
        options: the user's.
        models: encoding and parts of more models; their results are compared with themselves only.

    Raises:
        WasinnError: the class or what it lists breaks the contract.
    """

    def __init__(
        self,
        cls: object,
        options: Mapping[str, str],
        models: Sequence[tuple[str, tuple[bytes, ...]]] = (),
    ) -> None:
        self.cls = check_backend_class(cls, "the plugin")
        self.backend: Backend = self.cls(options)
        self.devices = check_devices(self.backend.devices(), "the plugin")
        self.takes_all = ANY_ENCODING in self.cls.encodings
        self._models = models
        self._cases: list[_Case] | None = None

    def cases(self) -> Sequence[_Case]:
        """Every sample on every device.

        Raises:
            CheckFailed: there are none.
        """
        if self._cases is None:
            samples = [*self.backend.samples(), *map(self._sample_of, self._models)]
            self._cases = [_Case(s, d) for s in samples for d in self.devices]
        if not self._cases:
            raise CheckFailed(
                "there is nothing to run: define samples(), or name a model with --model"
            )
        return self._cases

    def load(self, case: _Case) -> Graph:
        source = ModelSource(case.sample.encoding, builders=case.sample.parts)
        return check_graph(self.backend.load(source, case.device), "the plugin")

    @contextlib.contextmanager
    def graph(self, case: _Case) -> Iterator[Graph]:
        graph = self.load(case)
        try:
            yield graph
        finally:
            graph.close()

    @contextlib.contextmanager
    def context(self, graph: Graph) -> Iterator[ExecutionContext]:
        context = check_context(graph.create_context(), "the plugin")
        try:
            yield context
        finally:
            context.close()

    @contextlib.contextmanager
    def fresh(self, case: _Case) -> Iterator[ExecutionContext]:
        """A context on a graph of its own."""
        with self.graph(case) as graph, self.context(graph) as context:
            yield context

    def _sample_of(self, model: tuple[str, tuple[bytes, ...]]) -> Sample:
        """A model without known results: inputs by what it says of them, outputs as they come."""
        encoding, parts = model
        case = _Case(Sample(encoding, parts, (), ()), self.devices[0])
        with self.graph(case) as graph, self.context(graph) as context:
            needed = [spec for spec in graph.inputs if not spec.is_optional]
            inputs = tuple(map(_made_up, range(len(needed)), needed))
            outputs = computed(context, inputs, len(graph.outputs))
        return Sample(encoding, parts, inputs, tuple(outputs), _REPEATABLE)


def _made_up(index: int, spec: TensorSpec) -> Tensor:
    if spec.type is None or spec.shape is None:
        raise CheckFailed(
            f"input {index} ({spec.name}) of the named model has no type or no rank that WASI-NN "
            "knows, so no value for it can be made up"
        )
    shape = tuple(1 if size is None else size for size in spec.shape)
    count = math.prod(shape)
    rng = random.Random(index)
    # Zeros and ones are good indices, masks and pixels alike.
    values = [rng.choice((0, 1)) for _ in range(count)]
    if spec.type is TensorType.BF16:
        data = b"".join(b"\x80\x3f" if value else b"\0\0" for value in values)
    else:
        data = struct.pack(f"<{count}{STRUCT_FORMATS[spec.type]}", *values)
    return Tensor(spec.type, shape, memoryview(data))


def computed(context: ExecutionContext, inputs: Sequence[Tensor], count: int) -> list[Tensor]:
    """Copies of the outputs for these inputs."""
    set_inputs(context, inputs)
    context.compute()
    return outputs_of(context, count)


def set_inputs(context: ExecutionContext, inputs: Sequence[Tensor]) -> None:
    for index, tensor in enumerate(inputs):
        context.set_input(index, tensor)


def outputs_of(context: ExecutionContext, count: int) -> list[Tensor]:
    """Copies of the outputs.

    Raises:
        CheckFailed: one is not a tensor, or its data are not what its type and shape say.
    """
    return [_copied(context.get_output(index), index) for index in range(count)]


def _copied(tensor: object, index: int) -> Tensor:
    what = f"get_output({index})"
    if not isinstance(tensor, Tensor):
        raise CheckFailed(f"{what}: expected a Tensor, got {type(tensor).__name__}")
    if not isinstance(tensor.type, TensorType):
        raise CheckFailed(f"{what}: expected a TensorType as its type, got {tensor.type!r}")
    shape = tensor.shape
    if not isinstance(shape, tuple) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise CheckFailed(f"{what}: expected a tuple of numbers as its shape, got {shape!r}")
    data = tensor.data
    if not isinstance(data, memoryview) or data.format != "B" or not data.c_contiguous:
        got = data.format if isinstance(data, memoryview) else type(data).__name__
        raise CheckFailed(f"{what}: expected a contiguous memoryview of format B, got {got}")
    size = tensor.type.size_bytes * math.prod(shape)
    if data.nbytes != size:
        raise CheckFailed(
            f"{what}: shape {list(shape)} of {tensor.type.value} takes {size} bytes, "
            f"its data have {data.nbytes}"
        )
    return replace(tensor, data=memoryview(bytes(data)))


def same(got: Sequence[Tensor], want: Sequence[Tensor], tolerance: float, doing: str) -> None:
    """Whether tensors are equal, as far as floats can be.

    Raises:
        CheckFailed: says which element of which output differs.
    """
    for index, (one, other) in enumerate(zip(got, want, strict=True)):
        if why := difference(one, other, tolerance):
            raise CheckFailed(f"{doing}: output {index}: {why}")


def rotated(tensor: Tensor, by: int) -> Tensor:
    """Other data of the same elements, so that whatever they stand for is still valid."""
    data = bytes(tensor.data)
    cut = by * tensor.type.size_bytes % max(1, len(data))
    return replace(tensor, data=memoryview(data[cut:] + data[:cut]))


def refused(doing: str, call: Callable[[], object], *kinds: ErrorKind) -> None:
    """Expects an error of the contract.

    Raises:
        CheckFailed: none came, or another one.
    """
    expected = " or ".join(kind.name for kind in kinds) or "any kind"
    try:
        call()
    except WasiNnError as error:
        if kinds and error.kind not in kinds:
            raise CheckFailed(
                f"{doing}: expected a WasiNnError of {expected}, got {error}"
            ) from error
    except Exception as error:
        raise CheckFailed(
            f"{doing}: expected a WasiNnError of {expected}, got {type(error).__name__}: {error}"
        ) from error
    else:
        raise CheckFailed(f"{doing}: expected a WasiNnError of {expected}, got no error")
