"""The codec of ``wasi_ephemeral_nn``: witx numbers and layouts over the core model. No state.

The proposal's six functions, and the six that WasmEdge adds to the same module.

Every parameter is an i32, every result an errno. Pointers are checked before anything is done;
a bad one is ``invalid_argument``, never a trap. What each misuse is answered with:

| misuse | errno |
|---|---|
| any pointer and length that reach beyond memory (computed in 64 bits) | 1 invalid_argument |
| encoding number beyond 6; no plugin for it; bytes are no such model | 2 invalid_encoding |
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
| tensor type that no order has, more dimensions than the limit | 1 invalid_argument |
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
from collections.abc import Callable, Mapping
from typing import ClassVar, Final

from wasinn_host.nn.codec import Codec
from wasinn_host.nn.context import NnContext
from wasinn_host.nn.errors import OutputTooSmall, WasiNnError
from wasinn_host.nn.guest import GuestCaller, GuestMemory, require_memory
from wasinn_host.nn.numbering import (
    WITX_TENSOR_TYPES,
    Numbering,
    meant_type,
    proven_type,
    unknown_type,
)
from wasinn_host.nn.plugin import Tensor, TensorType
from wasinn_runtime.errors import MemoryAccessError

__all__ = ["WasiEphemeralNn"]

_TENSOR: Final = struct.Struct("<IIB3xII")
"""dims pointer, number of dims, type (one byte; the padding is garbage), data pointer, bytes."""


class WasiEphemeralNn(Codec):
    """The functions of ``wasi_ephemeral_nn`` for one guest.

    Args:
        context: the guest's graphs and contexts.
        numbering: what its numbers mean.
        trace: takes one line per call; None costs nothing.
        module: another name that a guest imports them from.
    """

    NAME: Final = "wasi_ephemeral_nn"
    parameters: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "load": ("builders", "count", "encoding", "target", "graph_out"),
        "load_by_name": ("name", "name_len", "graph_out"),
        "init_execution_context": ("graph", "context_out"),
        "set_input": ("context", "index", "tensor"),
        "compute": ("context",),
        "get_output": ("context", "index", "out", "out_max_bytes", "written_out"),
        "load_by_name_with_config": ("name", "name_len", "config", "config_len", "graph_out"),
        "compute_single": ("context",),
        "get_output_single": ("context", "index", "out", "out_max_bytes", "written_out"),
        "fini_single": ("context",),
        "unload": ("graph",),
        "finalize_execution_context": ("context",),
    }

    def __init__(
        self,
        context: NnContext,
        numbering: Numbering | None = None,
        trace: Callable[[str], None] | None = None,
        module: str = NAME,
    ) -> None:
        super().__init__(context, numbering, trace)
        self.module = module
        self._types = self.numbering.types
        self._is_auto = self.numbering.is_auto

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
            self._load(memory, builders_ptr, builders_len, encoding, target, graph_out)
        except (WasiNnError, MemoryAccessError) as error:
            return self._fail(error)
        return 0

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
        return self._load_by_name(caller, name_ptr, name_len, config_ptr, config_len, graph_out)

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
            needed = memory.view(written_out, 4)  # before the work, as in `load`
            out = memory.view(out_ptr, out_max_bytes)
            try:
                written = copy(context, index, out)
            except OutputTooSmall as error:
                needed[:] = min(error.needed, 0xFFFF_FFFF).to_bytes(4, "little")
                return self._fail(error)
            needed[:] = written.to_bytes(4, "little")
        except (WasiNnError, MemoryAccessError) as error:
            return self._fail(error)
        return 0

    def read_tensor(self, memory: GuestMemory, ptr: int, context: int, index: int) -> Tensor:
        dims_ptr, rank, code, data_ptr, size = memory.unpack(_TENSOR, ptr)
        shape = self._shape(memory, dims_ptr, rank)
        data = memory.view(data_ptr, size)
        if code < len(self._types):
            return Tensor(self._types[code], shape, data)
        meant = proven_type(code, shape, size) if self._is_auto else None
        return Tensor(meant or self._meant_type(code, shape, size, context, index), shape, data)

    def _meant_type(
        self, code: int, shape: tuple[int, ...], size: int, context: int, index: int
    ) -> TensorType:
        if not self._is_auto:
            raise unknown_type(code, self._types)
        meant = meant_type(code, shape, size, self.context.input_type(context, index))
        if meant is None:
            raise unknown_type(code, WITX_TENSOR_TYPES)
        return meant
