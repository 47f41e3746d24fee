"""A guest without an engine: linear memory in a bytearray, and calls through the codec.

Not a mock of anything under test: the codec, the core and the backends are the real ones, only the
WebAssembly instance is missing.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Any

from wasinn_host.nn.context import NnContext
from wasinn_host.nn.numbering import WITX_TENSOR_TYPES
from wasinn_host.nn.plugin import TensorType
from wasinn_host.nn.witx import WasiEphemeralNn
from wasinn_runtime.errors import MemoryAccessError

PAGE = 65536


class FakeMemory:
    """Linear memory with exactly the methods that the engine promises."""

    def __init__(self, pages: int = 16) -> None:
        self.data = bytearray(pages * PAGE)

    @property
    def byte_length(self) -> int:
        return len(self.data)

    def _check(self, ptr: int, length: int) -> None:
        assert ptr >= 0
        assert length >= 0
        if ptr + length > len(self.data):
            raise MemoryAccessError(
                f"out of bounds: [{ptr:#x}, {ptr + length:#x}) of {len(self.data):#x} bytes"
            )

    def read(self, ptr: int, length: int) -> bytes:
        self._check(ptr, length)
        return bytes(self.data[ptr : ptr + length])

    def write(self, ptr: int, data: bytes | bytearray | memoryview) -> None:
        view = memoryview(data)
        self._check(ptr, view.nbytes)
        self.data[ptr : ptr + view.nbytes] = view

    def view(self, ptr: int = 0, length: int | None = None) -> memoryview:
        length = len(self.data) - ptr if length is None else length
        self._check(ptr, length)
        return memoryview(self.data)[ptr : ptr + length]

    def unpack(self, codec: struct.Struct, ptr: int) -> tuple[Any, ...]:
        self._check(ptr, codec.size)
        return codec.unpack_from(self.data, ptr)

    def read_u32(self, ptr: int) -> int:
        self._check(ptr, 4)
        return int.from_bytes(self.data[ptr : ptr + 4], "little")

    def write_u32(self, ptr: int, value: int) -> None:
        self._check(ptr, 4)
        assert 0 <= value < 1 << 32
        self.data[ptr : ptr + 4] = value.to_bytes(4, "little")


class FakeInterrupt:
    """The engine's interrupt on a pipe, as its contract says."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._set = threading.Event()

    def set(self) -> None:
        self._set.set()
        os.write(self._write, b"\0")

    def clear(self) -> None:
        os.read(self._read, 1)
        self._set.clear()

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)

    def is_set(self) -> bool:
        return self._set.is_set()

    def wait(self, timeout_s: float | None) -> bool:
        return self._set.wait(timeout_s)

    def fileno(self) -> int:
        return self._read


class FakeCaller:
    """The calling instance."""

    def __init__(self, memory: FakeMemory | None, interrupt: FakeInterrupt | None = None) -> None:
        self.memory = memory
        self.interrupt = interrupt


class Guest:
    """Lays out arguments in memory the way compiled guests do, and calls the codec's functions.

    Args:
        context: of the core model.
        pages: size of the memory.
        trace: passed on to the codec.
    """

    RESULT = 0x10  # where out-pointers point

    def __init__(
        self,
        context: NnContext,
        pages: int = 64,
        trace: Callable[[str], None] | None = None,
        interrupt: FakeInterrupt | None = None,
    ) -> None:
        self.memory = FakeMemory(pages)
        self.caller = FakeCaller(self.memory, interrupt)
        self.codec = WasiEphemeralNn(context, trace=trace)
        self.calls = {name: function for name, _type, function in self.codec.functions()}
        self._next = 0x100

    def put(self, data: bytes | bytearray | memoryview) -> int:
        """Copies data to fresh memory; returns where."""
        ptr = self._next
        self.memory.write(ptr, data)
        self._next = (ptr + len(data) + 15) & ~15
        return ptr

    def rewind(self, ptr: int = 0x100) -> None:
        """Everything from `ptr` on may be overwritten."""
        self._next = ptr

    def call(self, name: str, *args: int) -> int:
        """The errno of a call."""
        errno = self.calls[name](self.caller, *args)
        assert type(errno) is int
        return errno

    @property
    def result(self) -> int:
        return self.memory.read_u32(self.RESULT)

    def error(self) -> str:
        """Why the last failing call failed."""
        return str(self.codec.last_error)

    def load(self, *builders: bytes, encoding: int = 1, target: int = 0) -> int:
        places = [(self.put(builder), len(builder)) for builder in builders]
        table = self.put(b"".join(struct.pack("<II", *place) for place in places))
        return self.call("load", table, len(builders), encoding, target, self.RESULT)

    def load_by_name(self, name: bytes) -> int:
        return self.call("load_by_name", self.put(name), len(name), self.RESULT)

    def init(self, graph: int) -> int:
        return self.call("init_execution_context", graph, self.RESULT)

    def tensor(
        self,
        tensor_type: TensorType,
        shape: Sequence[int],
        data: bytes,
        pad: bytes = b"\xa5\x10\xff",
    ) -> int:
        """A tensor record, with garbage in the padding as Rust guests have it."""
        dims = self.put(struct.pack(f"<{len(shape)}I", *shape))
        code = WITX_TENSOR_TYPES.index(tensor_type)
        record = struct.pack("<IIB3sII", dims, len(shape), code, pad, self.put(data), len(data))
        return self.put(record)

    def set_input(
        self, context: int, index: int, tensor_type: TensorType, shape: Sequence[int], data: bytes
    ) -> int:
        return self.call("set_input", context, index, self.tensor(tensor_type, shape, data))

    def compute(self, context: int) -> int:
        return self.call("compute", context)

    def get_output(self, context: int, index: int, size: int) -> tuple[int, bytes]:
        """Errno, and the bytes that were written into a buffer of that size."""
        out = self.put(bytes(size))
        errno = self.call("get_output", context, index, out, size, self.RESULT)
        return errno, self.memory.read(out, self.result) if errno == 0 else b""

    def open(self, *builders: bytes) -> int:
        """A context of a fresh graph; the calls must succeed."""
        assert self.load(*builders) == 0, self.error()
        assert self.init(self.result) == 0, self.error()
        return self.result
