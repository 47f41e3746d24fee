"""The codec of ``wasi_ephemeral_nn``: witx numbers and layouts over the core model. No state.

The proposal's six functions, and the six that WasmEdge adds to the same module.

Every parameter is an i32, every result an errno. Pointers are checked before anything is done;
a bad one is ``invalid_argument``, never a trap. What each misuse is answered with:

| misuse | errno |
|---|---|
| any pointer and length that reach beyond memory (computed in 64 bits) | 1 invalid_argument |
| encoding number beyond 5; no plugin for it; bytes are no such model | 2 invalid_encoding |
| target number beyond 2 | 1 invalid_argument |
| target that no device offers for the encoding | 6 unsupported_operation |
| model with a wrong number of parts | 1 invalid_argument |
| model with what the backend refuses from guests (external data) | 6 unsupported_operation |
| handle that is forged, stale, of the other kind, another guest's | 1 invalid_argument |
| name that is not UTF-8, empty, or longer than the limit | 1 invalid_argument |
| name that is not registered | 8 not_found |
| named graph whose file is missing | 103 model_not_found |
| configuration longer than the limit | 7 too_large |
| configuration for a graph whose backend takes none | 1 invalid_argument |
| tensor type beyond 5, more dimensions than the limit | 1 invalid_argument |
| input index, type, shape or size that does not fit the model | 1 invalid_argument |
| input or output whose element type WASI-NN lacks | 6 unsupported_operation |
| compute before all inputs are set | 1 invalid_argument |
| compute that fails, or is cancelled | 5 runtime_error |
| get_output before compute, output index that is not there | 1 invalid_argument |
| get_output with a buffer that is too small: nothing is written but the needed size | 7 too_large |
| compute_single and its like where the backend can not stream | 1 invalid_argument |
| compute_single after the last piece, beyond the context, with too long a prompt | 100, 101, 102 |
| more graphs, contexts, parts, bytes of models or tensors than the limits | 7 too_large |
| guest without an exported memory | 3 missing_memory |
| plugin that breaks its contract or raises anything unplanned | 5 runtime_error |

Out-pointers are written on success only, but for ``get_output``'s needed size with ``too_large``.
Inputs are copied by ``set_input``: the guest may reuse its memory at once.

Source: wasi-nn.witx of the WASI-NN proposal; WasmEdge's module of the same name.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final

from wasinn_host.nn.context import NnContext
from wasinn_host.nn.errors import WITX_ERRNO, ErrorKind, OutputTooSmall, WasiNnError
from wasinn_host.nn.graphs import AUTODETECT
from wasinn_host.nn.guest import GuestCaller, GuestMemory, require_memory
from wasinn_host.nn.plugin import Target, Tensor, TensorType
from wasinn_runtime.errors import MemoryAccessError
from wasinn_runtime.spec.types import FuncType, ValType

__all__ = [
    "WITX_ENCODINGS",
    "WITX_TARGETS",
    "WITX_TENSOR_TYPES",
    "WasiEphemeralNn",
]

WITX_ENCODINGS: Final = (
    "openvino",
    "onnx",
    "tensorflow",
    "pytorch",
    "tensorflowlite",
    AUTODETECT,
)
WITX_TARGETS: Final = (Target.CPU, Target.GPU, Target.TPU)
WITX_TENSOR_TYPES: Final = (
    TensorType.F16,
    TensorType.F32,
    TensorType.F64,
    TensorType.U8,
    TensorType.I32,
    TensorType.I64,
)

_TENSOR: Final = struct.Struct("<IIB3xII")
"""dims pointer, number of dims, type (one byte; the padding is garbage), data pointer, bytes."""

_SIZES: Final = tuple(struct.Struct(f"<{rank}I") for rank in range(9))

_ARITY: Final = {
    "load": 5,
    "load_by_name": 3,
    "init_execution_context": 2,
    "set_input": 3,
    "compute": 1,
    "get_output": 5,
    "load_by_name_with_config": 5,
    "compute_single": 1,
    "get_output_single": 5,
    "fini_single": 1,
    "unload": 1,
    "finalize_execution_context": 1,
}


class WasiEphemeralNn:
    """The functions of ``wasi_ephemeral_nn`` for one guest.

    Args:
        context: the guest's graphs and contexts.
        trace: takes one line per call; None costs nothing.

    Attributes:
        last_error: what the latest failing call failed with, for host programs that want more
            than the guest's number; its ``__cause__`` is what the backend raised.
    """

    module: Final = "wasi_ephemeral_nn"

    def __init__(self, context: NnContext, trace: Callable[[str], None] | None = None) -> None:
        self.context = context
        self.last_error: WasiNnError | None = None
        self._trace = trace

    def functions(self) -> Iterator[tuple[str, FuncType, Callable[..., int]]]:
        """Name, type and implementation of each function; arguments come as unsigned numbers."""
        trace = self._trace
        for name, arity in _ARITY.items():
            function: Callable[..., int] = getattr(self, name)
            if trace is not None:
                from wasinn_host.nn.trace import traced

                function = traced(self, name, function, trace)
            yield name, FuncType((ValType.I32,) * arity, (ValType.I32,)), function

    def load(
        self,
        caller: GuestCaller,
        builders_ptr: int,
        builders_len: int,
        encoding: int,
        target: int,
        graph_out: int,
    ) -> int:
        """Loads a model from an array of ``{u32 pointer, u32 length}``."""
        try:
            memory = require_memory(caller)
            memory.read(graph_out, 4)  # before the work: a bad out-pointer must not cost it
            table = memory.view(builders_ptr, 8 * builders_len)
            if encoding >= len(WITX_ENCODINGS):
                raise WasiNnError(
                    ErrorKind.INVALID_ENCODING,
                    f"encoding {encoding}: expected 0 to {len(WITX_ENCODINGS) - 1} "
                    f"({', '.join(WITX_ENCODINGS)})",
                )
            if target >= len(WITX_TARGETS):
                raise WasiNnError(
                    ErrorKind.INVALID_ARGUMENT,
                    f"execution target {target}: expected 0 (cpu), 1 (gpu) or 2 (tpu)",
                )
            if builders_len > self.context.limits.builders:
                raise WasiNnError(
                    ErrorKind.TOO_LARGE,
                    f"the model has {builders_len} parts, "
                    f"the limit is {self.context.limits.builders}",
                )
            builders = [memory.view(ptr, size) for ptr, size in struct.iter_unpack("<II", table)]
            handle = self.context.load(builders, WITX_ENCODINGS[encoding], WITX_TARGETS[target])
            memory.write_u32(graph_out, handle)
        except (WasiNnError, MemoryAccessError) as error:
            return self._fail(error)
        return 0

    def load_by_name(
        self, caller: GuestCaller, name_ptr: int, name_len: int, graph_out: int
    ) -> int:
        """A handle for one of the graphs that the host has under a name."""
        return self.load_by_name_with_config(caller, name_ptr, name_len, 0, 0, graph_out)

    def load_by_name_with_config(
        self,
        caller: GuestCaller,
        name_ptr: int,
        name_len: int,
        config_ptr: int,
        config_len: int,
        graph_out: int,
    ) -> int:
        """A handle for one of the graphs that the host has under a name, as the guest wants it."""
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

    def init_execution_context(self, caller: GuestCaller, graph: int, context_out: int) -> int:
        """A new context for a graph."""
        try:
            memory = require_memory(caller)
            memory.read(context_out, 4)
            memory.write_u32(context_out, self.context.init_execution_context(graph))
        except (WasiNnError, MemoryAccessError) as error:
            return self._fail(error)
        return 0

    def set_input(self, caller: GuestCaller, context: int, index: int, tensor_ptr: int) -> int:
        """Copies a tensor into a context."""
        try:
            tensor = self.read_tensor(require_memory(caller), tensor_ptr)
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

    def compute_single(self, caller: GuestCaller, context: int) -> int:
        """Computes the next piece of a context's outputs."""
        try:
            self.context.compute_single(context, caller.interrupt)
        except WasiNnError as error:
            return self._fail(error)
        return 0

    def fini_single(self, _caller: GuestCaller, context: int) -> int:
        """Ends what `compute_single` began."""
        try:
            self.context.fini_single(context)
        except WasiNnError as error:
            return self._fail(error)
        return 0

    def unload(self, _caller: GuestCaller, graph: int) -> int:
        """Gives a graph's handle back; contexts keep the graph."""
        try:
            self.context.unload(graph)
        except WasiNnError as error:
            return self._fail(error)
        return 0

    def finalize_execution_context(self, _caller: GuestCaller, context: int) -> int:
        """Gives a context back."""
        try:
            self.context.finalize_execution_context(context)
        except WasiNnError as error:
            return self._fail(error)
        return 0

    def get_output(
        self,
        caller: GuestCaller,
        context: int,
        index: int,
        out_ptr: int,
        out_max_bytes: int,
        written_out: int,
    ) -> int:
        """Copies an output into the guest's buffer and says how many bytes it has."""
        copy = self.context.copy_output
        return self._get_output(caller, copy, context, index, out_ptr, out_max_bytes, written_out)

    def get_output_single(
        self,
        caller: GuestCaller,
        context: int,
        index: int,
        out_ptr: int,
        out_max_bytes: int,
        written_out: int,
    ) -> int:
        """Copies the last piece of an output, as `get_output`."""
        copy = self.context.copy_output_single
        return self._get_output(caller, copy, context, index, out_ptr, out_max_bytes, written_out)

    def _get_output(
        self,
        caller: GuestCaller,
        copy: Callable[[int, int, memoryview], int],
        context: int,
        index: int,
        out_ptr: int,
        out_max_bytes: int,
        written_out: int,
    ) -> int:
        try:
            memory = require_memory(caller)
            memory.read(written_out, 4)
            out = memory.view(out_ptr, out_max_bytes)
            try:
                written = copy(context, index, out)
            except OutputTooSmall as error:
                memory.write_u32(written_out, min(error.needed, 0xFFFF_FFFF))
                return self._fail(error)
            memory.write_u32(written_out, written)
        except (WasiNnError, MemoryAccessError) as error:
            return self._fail(error)
        return 0

    def read_tensor(self, memory: GuestMemory, ptr: int) -> Tensor:
        """Decodes a tensor record; its data stays in guest memory.

        Raises:
            WasiNnError: ``invalid_argument`` for an unknown type or too many dimensions.
            MemoryAccessError: a part lies outside memory.
        """
        dims_ptr, rank, type_code, data_ptr, data_len = _TENSOR.unpack(memory.read(ptr, 20))
        if type_code >= len(WITX_TENSOR_TYPES):
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"tensor type {type_code}: expected 0 to {len(WITX_TENSOR_TYPES) - 1} "
                f"({', '.join(t.value for t in WITX_TENSOR_TYPES)})",
            )
        if rank > self.context.limits.rank:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"the tensor has {rank} dimensions, the limit is {self.context.limits.rank}",
            )
        sizes = _SIZES[rank] if rank < len(_SIZES) else struct.Struct(f"<{rank}I")
        shape = sizes.unpack(memory.read(dims_ptr, 4 * rank))
        return Tensor(WITX_TENSOR_TYPES[type_code], shape, memory.view(data_ptr, data_len))

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

    def _fail(self, error: WasiNnError | MemoryAccessError) -> int:
        if not isinstance(error, WasiNnError):
            cause = error
            error = WasiNnError(ErrorKind.INVALID_ARGUMENT, f"bad pointer: {cause}")
            error.__cause__ = cause
        # Without its traceback: the frames would keep views of guest memory alive.
        self.last_error = error.with_traceback(None)
        return WITX_ERRNO[error.kind]
