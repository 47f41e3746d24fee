"""What the codecs of all ABIs share: one guest's functions and errors. No layouts.

A codec is thin: it reads pointers and numbers, and everything else is `NnContext`'s. Pointers are
checked before anything is done; a bad one is ``invalid_argument``, never a trap.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, Final

from wasinn_host.nn.context import NnContext
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.graphs import AUTODETECT
from wasinn_host.nn.guest import GuestCaller, GuestMemory, require_memory
from wasinn_host.nn.numbering import Numbering
from wasinn_host.nn.plugin import Target, Tensor
from wasinn_runtime.errors import MemoryAccessError
from wasinn_runtime.spec.types import FuncType, ValType

__all__ = ["ENCODINGS_BY_NUMBER", "TARGETS_BY_NUMBER", "Codec", "GuestFunctions"]

ENCODINGS_BY_NUMBER: Final = (
    "openvino",
    "onnx",
    "tensorflow",
    "pytorch",
    "tensorflowlite",
    AUTODETECT,
    AUTODETECT,
)
"""5 and 6 are autodetect and ggml, in this order or the other one: the bytes tell which."""
TARGETS_BY_NUMBER: Final = (Target.CPU, Target.GPU, Target.TPU)

_SIZES: Final = tuple(struct.Struct(f"<{rank}I") for rank in range(9))


class GuestFunctions(ABC):
    """The functions of one module for one guest.

    Args:
        context: the guest's graphs and contexts.
        numbering: what its numbers mean.
        trace: takes one line per call; None costs nothing.

    Attributes:
        module: what guests import them from.
        parameters: of each function, the names.
    """

    module: str
    parameters: ClassVar[Mapping[str, tuple[str, ...]]]

    def __init__(
        self,
        context: NnContext,
        numbering: Numbering | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.context = context
        self.numbering = numbering or Numbering()
        self._errnos = self.numbering.errnos
        self._trace = trace

    @property
    def last_error(self) -> WasiNnError | None:
        """What the guest's latest failing call failed with, for host programs that want more than
        its number; its ``__cause__`` is what the backend raised."""
        return self.context.last_error

    def functions(self) -> Iterator[tuple[str, FuncType, Callable[..., int]]]:
        """Name, type and implementation of each function; arguments come as unsigned numbers."""
        trace = self._trace
        for name, parameters in self.parameters.items():
            function: Callable[..., int] = getattr(self, name)
            if trace is not None:
                from wasinn_host.nn.trace import traced

                function = traced(self, name, function, trace)
            yield name, FuncType((ValType.I32,) * len(parameters), (ValType.I32,)), function

    def _fail(self, error: WasiNnError | MemoryAccessError) -> int:
        if not isinstance(error, WasiNnError):
            cause = error
            error = WasiNnError(ErrorKind.INVALID_ARGUMENT, f"bad pointer: {cause}")
            error.__cause__ = cause
        # Without its traceback: the frames would keep views of guest memory alive.
        self.context.last_error = error.with_traceback(None)
        return self._errnos[error.kind]


class Codec(GuestFunctions):
    """What one ABI has to load, compute, and carry tensors.

    Attributes:
        float_io: whether guests give and get floats where a model is quantised, unasked.
    """

    float_io: ClassVar[bool] = False

    @abstractmethod
    def read_tensor(self, memory: GuestMemory, ptr: int, context: int, index: int) -> Tensor:
        """Decodes a tensor record; its data stays in guest memory.

        Args:
            memory: the guest's.
            ptr: where the record is.
            context: the execution context that it is meant for,
            index: and which of its inputs.

        Raises:
            WasiNnError: ``invalid_argument`` for an unknown type or too many dimensions.
            MemoryAccessError: a part lies outside memory.
        """

    def load_by_name(
        self, caller: GuestCaller, name_ptr: int, name_len: int, graph_out: int
    ) -> int:
        """A handle for one of the graphs that the host has under a name."""
        return self._load_by_name(caller, name_ptr, name_len, 0, 0, graph_out)

    def init_execution_context(self, caller: GuestCaller, graph: int, context_out: int) -> int:
        """A new context for a graph."""
        try:
            memory = require_memory(caller)
            memory.read(context_out, 4)
            handle = self.context.init_execution_context(graph, float_io=self.float_io)
            memory.write_u32(context_out, handle)
        except (WasiNnError, MemoryAccessError) as error:
            return self._fail(error)
        return 0

    def set_input(self, caller: GuestCaller, context: int, index: int, tensor_ptr: int) -> int:
        """Copies a tensor into a context."""
        try:
            tensor = self.read_tensor(require_memory(caller), tensor_ptr, context, index)
            self.context.set_input(context, index, tensor)
        except (WasiNnError, MemoryAccessError) as error:
            return self._fail(error)
        return 0

    def compute(self, caller: GuestCaller, context: int) -> int:
        """Runs a context's graph."""
        try:
            self.context.compute(context, caller.interrupt)
        except WasiNnError as error:
            return self._fail(error)
        return 0

    def _load(
        self,
        memory: GuestMemory,
        builders_ptr: int,
        builders_len: int,
        encoding: int,
        target: int,
        graph_out: int,
    ) -> None:
        """Loads a model from an array of ``{u32 pointer, u32 length}``."""
        memory.read(graph_out, 4)  # before the work: a bad out-pointer must not cost it
        table = memory.view(builders_ptr, 8 * builders_len)
        if encoding >= len(ENCODINGS_BY_NUMBER):
            raise WasiNnError(
                ErrorKind.INVALID_ENCODING,
                f"encoding {encoding}: expected 0 to {len(ENCODINGS_BY_NUMBER) - 1} "
                f"({', '.join(ENCODINGS_BY_NUMBER)})",
            )
        if target >= len(TARGETS_BY_NUMBER):
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"execution target {target}: expected 0 (cpu), 1 (gpu) or 2 (tpu)",
            )
        if builders_len > self.context.limits.builders:
            raise WasiNnError(
                ErrorKind.TOO_LARGE,
                f"the model has {builders_len} parts, the limit is {self.context.limits.builders}",
            )
        builders = [memory.view(ptr, size) for ptr, size in struct.iter_unpack("<II", table)]
        handle = self.context.load(
            builders, ENCODINGS_BY_NUMBER[encoding], TARGETS_BY_NUMBER[target]
        )
        memory.write_u32(graph_out, handle)

    def _load_by_name(
        self,
        caller: GuestCaller,
        name_ptr: int,
        name_len: int,
        config_ptr: int,
        config_len: int,
        graph_out: int,
    ) -> int:
        try:
            memory = require_memory(caller)
            memory.read(graph_out, 4)  # before the work: a bad out-pointer must not cost it
            raw = memory.view(name_ptr, name_len)
            config = memory.view(config_ptr, config_len)
            if config_len > self.context.limits.config_bytes:
                raise WasiNnError(
                    ErrorKind.TOO_LARGE,
                    f"the graph's configuration has {config_len} bytes, "
                    f"the limit is {self.context.limits.config_bytes}",
                )
            name = self._name(raw)
            memory.write_u32(graph_out, self.context.load_by_name(name, bytes(config)))
        except (WasiNnError, MemoryAccessError) as error:
            return self._fail(error)
        return 0

    def _shape(self, memory: GuestMemory, dims_ptr: int, rank: int) -> tuple[int, ...]:
        if rank > self.context.limits.rank:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"the tensor has {rank} dimensions, the limit is {self.context.limits.rank}",
            )
        sizes = _SIZES[rank] if rank < len(_SIZES) else struct.Struct(f"<{rank}I")
        return memory.unpack(sizes, dims_ptr)

    def _name(self, raw: memoryview) -> str:
        if not 0 < raw.nbytes <= self.context.limits.name_bytes:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"the graph's name has {raw.nbytes} bytes: "
                f"expected 1 to {self.context.limits.name_bytes}",
            )
        try:
            return bytes(raw).decode("utf-8")
        except UnicodeDecodeError as error:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT, f"the graph's name is not UTF-8: {error}"
            ) from error
