"""An addition of ours to WASI-NN: a graph's inputs and outputs by name, type and shape. No tensors.

The module ``wasinn_nn``. Guests that do not import it notice nothing. A description has the layout
of a tensor record of ``wasi_ephemeral_nn``, with the name where a tensor has its data:

    +0  u32 pointer to the dimensions   +8  u8 type   +12 u32 pointer to the name
    +4  u32 how many they are           +9  3 zeros   +16 u32 its bytes, UTF-8

Dimensions and name are written into a buffer of the guest, dimensions first. A size that is open is
``0xffffffff``, and so is the number of dimensions when even that is open. A type that WASI-NN
lacks, or that the model leaves open, is 255.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Final

from wasinn_host.nn.codec import GuestFunctions
from wasinn_host.nn.context import NnContext
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.guest import GuestCaller, require_memory
from wasinn_host.nn.numbering import WITX_TENSOR_TYPES, Numbering
from wasinn_host.nn.plugin import TensorSpec
from wasinn_runtime.errors import MemoryAccessError

if TYPE_CHECKING:
    from wasinn_host.nn.guest import GuestMemory

__all__ = ["Descriptions"]

_RECORD: Final = struct.Struct("<IIB3xII")
_OPEN: Final = 0xFFFF_FFFF
_NO_TYPE: Final = 255


class Descriptions(GuestFunctions):
    """The functions of ``wasinn_nn`` for one guest."""

    module = "wasinn_nn"
    parameters: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "input_count": ("graph", "count_out"),
        "output_count": ("graph", "count_out"),
        "describe_input": ("graph", "index", "record_out", "out", "out_max_bytes", "needed_out"),
        "describe_output": ("graph", "index", "record_out", "out", "out_max_bytes", "needed_out"),
    }

    def __init__(
        self,
        context: NnContext,
        numbering: Numbering | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(context, numbering, trace)
        types = WITX_TENSOR_TYPES if self.numbering.is_auto else self.numbering.types
        self._codes = {type_: code for code, type_ in enumerate(types)}

    def input_count(self, caller: GuestCaller, graph: int, count_out: int) -> int:
        """How many inputs a graph has."""
        return self._count(caller, self.context.inputs, graph, count_out)

    def output_count(self, caller: GuestCaller, graph: int, count_out: int) -> int:
        """How many outputs a graph has."""
        return self._count(caller, self.context.outputs, graph, count_out)

    def describe_input(self, caller: GuestCaller, graph: int, index: int, *place: int) -> int:
        """Writes what a graph says of an input, and how many bytes of the buffer that takes.

        Args:
            caller: the guest.
            graph: a handle.
            index: of the input.
            place: where to write that, in the order of `parameters`.
        """
        return self._describe(caller, self.context.inputs, "input", graph, index, *place)

    def describe_output(self, caller: GuestCaller, graph: int, index: int, *place: int) -> int:
        """Writes what a graph says of an output, as `describe_input`."""
        return self._describe(caller, self.context.outputs, "output", graph, index, *place)

    def _count(
        self,
        caller: GuestCaller,
        specs: Callable[[int], tuple[TensorSpec, ...]],
        graph: int,
        count_out: int,
    ) -> int:
        try:
            require_memory(caller).write_u32(count_out, len(specs(graph)))
        except (WasiNnError, MemoryAccessError) as error:
            return self._fail(error)
        return 0

    def _describe(
        self,
        caller: GuestCaller,
        specs: Callable[[int], tuple[TensorSpec, ...]],
        what: str,
        graph: int,
        index: int,
        record_out: int,
        out_ptr: int,
        out_max_bytes: int,
        needed_out: int,
    ) -> int:
        try:
            memory = require_memory(caller)
            all_specs = specs(graph)
            if index >= len(all_specs):
                raise WasiNnError(
                    ErrorKind.INVALID_ARGUMENT,
                    f"{what} {index}: the graph has {len(all_specs)}",
                )
            record = memory.view(record_out, _RECORD.size)
            out = memory.view(out_ptr, out_max_bytes)
            self._write(memory, all_specs[index], record, out, out_ptr, needed_out)
        except (WasiNnError, MemoryAccessError) as error:
            return self._fail(error)
        return 0

    def _write(
        self,
        memory: GuestMemory,
        spec: TensorSpec,
        record: memoryview,
        out: memoryview,
        out_ptr: int,
        needed_out: int,
    ) -> None:
        name = spec.name.encode("utf-8", "replace")
        sizes = [_OPEN if size is None else min(size, _OPEN) for size in spec.shape or ()]
        dims = struct.pack(f"<{len(sizes)}I", *sizes)
        needed = len(dims) + len(name)
        memory.write_u32(needed_out, needed)
        if needed > out.nbytes:
            raise WasiNnError(
                ErrorKind.TOO_LARGE,
                f"the description has {needed} bytes, the guest's buffer {out.nbytes}",
            )
        out[:needed] = dims + name
        rank = _OPEN if spec.shape is None else len(sizes)
        code = _NO_TYPE if spec.type is None else self._codes.get(spec.type, _NO_TYPE)
        record[:] = _RECORD.pack(out_ptr, rank, code, out_ptr + len(dims), len(name))
