"""The codec of ``wasi_nn``, which WAMR had before ``wasi_ephemeral_nn``. No state.

What is different from witx:

- ``load`` takes a pointer to ``{u32 array, u32 count}``, and the array is as there;
- a tensor is 12 bytes, its dimensions are one pointer further away, and it says no data length: its
  data are as long as shape and type say;
- element types are numbered as in old witx files, whatever `--nn-abi` says;
- guests give and get floats where a model is quantised, see `quantized`;
- ``get_output`` finds the buffer's size where it writes that of the output. Both count elements of
  four bytes, whatever the type is.

Misuse is answered as in `witx`. Source: wasi_nn.h and wasi_nn_types.h of WAMR.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import ClassVar, Final

from wasinn_host.nn.codec import Codec
from wasinn_host.nn.errors import OutputTooSmall, WasiNnError
from wasinn_host.nn.guest import GuestCaller, GuestMemory, require_memory
from wasinn_host.nn.numbering import OLD_TENSOR_TYPES, unknown_type
from wasinn_host.nn.plugin import Tensor
from wasinn_runtime.errors import MemoryAccessError

__all__ = ["LegacyWasiNn"]

_TENSOR: Final = struct.Struct("<IB3xI")
"""pointer to the dimensions, type (one byte; the padding is garbage), data pointer."""
_ARRAY: Final = struct.Struct("<II")
"""pointer, number of elements: of dimensions, and of a model's parts."""
_ELEMENT_BYTES: Final = 4


class LegacyWasiNn(Codec):
    """The functions of ``wasi_nn`` for one guest."""

    module = "wasi_nn"
    parameters: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "load": ("builder_array", "encoding", "target", "graph_out"),
        "load_by_name": ("name", "name_len", "graph_out"),
        "init_execution_context": ("graph", "context_out"),
        "set_input": ("context", "index", "tensor"),
        "compute": ("context",),
        "get_output": ("context", "index", "out", "elements_inout"),
    }
    float_io = True

    def load(
        self, caller: GuestCaller, array_ptr: int, encoding: int, target: int, graph_out: int
    ) -> int:
        """Loads a model from ``{u32 pointer, u32 count}`` of ``{u32 pointer, u32 length}``."""
        try:
            memory = require_memory(caller)
            builders_ptr, count = memory.unpack(_ARRAY, array_ptr)
            self._load(memory, builders_ptr, count, encoding, target, graph_out)
        except (WasiNnError, MemoryAccessError) as error:
            return self._fail(error)
        return 0

    def get_output(
        self, caller: GuestCaller, context: int, index: int, out_ptr: int, elements_inout: int
    ) -> int:
        """Copies an output into the guest's buffer and says how many elements it has."""
        try:
            memory = require_memory(caller)
            out = memory.view(out_ptr, _ELEMENT_BYTES * memory.read_u32(elements_inout))
            try:
                written = self.context.copy_output(context, index, out)
            except OutputTooSmall as error:
                memory.write_u32(elements_inout, _elements(error.needed))
                return self._fail(error)
            memory.write_u32(elements_inout, _elements(written))
        except (WasiNnError, MemoryAccessError) as error:
            return self._fail(error)
        return 0

    def read_tensor(self, memory: GuestMemory, ptr: int, context: int, index: int) -> Tensor:
        array_ptr, type_code, data_ptr = memory.unpack(_TENSOR, ptr)
        if type_code >= len(OLD_TENSOR_TYPES):
            raise unknown_type(type_code, OLD_TENSOR_TYPES)
        tensor_type = OLD_TENSOR_TYPES[type_code]
        shape = self._shape(memory, *memory.unpack(_ARRAY, array_ptr))
        size_bytes = tensor_type.size_bytes
        for size in shape:  # Python integers: no overflow, however large the guest's sizes are
            size_bytes *= size
        return Tensor(tensor_type, shape, memory.view(data_ptr, size_bytes))


def _elements(size_bytes: int) -> int:
    return min(-(-size_bytes // _ELEMENT_BYTES), 0xFFFF_FFFF)
