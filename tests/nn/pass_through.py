"""A guest on the real engine that exports what it imports: tests call WASI-NN through it.

`fake_guest` does the same without an engine. This one is a module, whose calls go through compiled
code, traps and the linker, and whose memory is a real one.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import wasmtime

from wasinn_host.host import Guest
from wasinn_host.nn.legacy import LegacyWasiNn
from wasinn_host.nn.witx import WasiEphemeralNn

__all__ = ["EPHEMERAL", "LEGACY", "PassThrough", "module_of"]


def _arities(parameters: Mapping[str, Sequence[str]]) -> Mapping[str, int]:
    return {name: len(names) for name, names in parameters.items()}


EPHEMERAL = ("wasi_ephemeral_nn", _arities(WasiEphemeralNn.parameters))
LEGACY = ("wasi_nn", _arities(LegacyWasiNn.parameters))


def module_of(
    abi: tuple[str, Mapping[str, int]], memory: str = '"memory"', pages: int = 64
) -> bytes:
    """A module that passes each call on.

    Args:
        abi: `EPHEMERAL` or `LEGACY`.
        memory: under which name it exports its memory.
        pages: of that memory.
    """
    module, arities = abi
    imports = "".join(
        f'(import "{module}" "{name}" (func ${name} (param {"i32 " * count}) (result i32)))'
        for name, count in arities.items()
    )
    exports = "".join(
        f'(func (export "{name}") (param {"i32 " * count}) (result i32) (call ${name} '
        f"{' '.join(f'(local.get {i})' for i in range(count))}))"
        for name, count in arities.items()
    )
    text = f"(module {imports} (memory (export {memory}) {pages}) {exports})"
    return bytes(wasmtime.wat2wasm(text))


class PassThrough:
    """Lays out arguments in the guest's memory, and calls.

    Args:
        guest: an instance of `module_of(EPHEMERAL)`.
    """

    RESULT = 0x10  # where out-pointers point

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._next = 0x100

    def put(self, data: bytes) -> int:
        """Copies data to where nothing was put since `rewind`; returns where."""
        ptr = self._next
        self.guest.memory.write(ptr, data)
        self._next = (ptr + len(data) + 15) & ~15
        return ptr

    def rewind(self) -> None:
        """What was put may be overwritten."""
        self._next = 0x100

    def call(self, name: str, *args: int) -> int:
        """The error number of a call; arguments are unsigned numbers."""
        errno = self.guest.call(name, *(a - (1 << 32) if a >= 1 << 31 else a for a in args))
        assert isinstance(errno, int)
        return errno

    @property
    def result(self) -> int:
        return self.guest.memory.read_u32(self.RESULT)

    @property
    def error(self) -> str:
        """Why the last failing call failed."""
        return str(self.guest.last_nn_error)

    def load(self, *parts: bytes, encoding: int = 1, target: int = 0) -> int:
        places = b"".join(struct.pack("<II", self.put(part), len(part)) for part in parts)
        return self.call("load", self.put(places), len(parts), encoding, target, self.RESULT)

    def load_by_name(self, name: bytes, config: bytes | None = None) -> int:
        at = self.put(name)
        if config is None:
            return self.call("load_by_name", at, len(name), self.RESULT)
        where = at, len(name), self.put(config), len(config)
        return self.call("load_by_name_with_config", *where, self.RESULT)

    def init(self, graph: int) -> int:
        return self.call("init_execution_context", graph, self.RESULT)

    def open(self, *parts: bytes, encoding: int = 1) -> int:
        """A context of a model that must load."""
        assert self.load(*parts, encoding=encoding) == 0, self.error
        assert self.init(self.result) == 0, self.error
        return self.result

    def named(self, name: bytes) -> int:
        """A context of a named graph that must be there."""
        assert self.load_by_name(name) == 0, self.error
        assert self.init(self.result) == 0, self.error
        return self.result

    def tensor(self, code: int, shape: Sequence[int], data: bytes) -> int:
        """A tensor record, with garbage in its padding."""
        dims = self.put(struct.pack(f"<{len(shape)}I", *shape))
        at = self.put(data)
        record = struct.pack("<IIB3sII", dims, len(shape), code, b"\xa5\x10\xff", at, len(data))
        return self.put(record)

    def set_input(
        self, context: int, code: int, shape: Sequence[int], data: bytes, index: int = 0
    ) -> int:
        return self.call("set_input", context, index, self.tensor(code, shape, data))

    def get_output(
        self, context: int, size: int, index: int = 0, name: str = "get_output"
    ) -> tuple[int, bytes]:
        """The error number, and what was written into a buffer of that size."""
        out = self.put(bytes(size))
        errno = self.call(name, context, index, out, size, self.RESULT)
        return errno, self.guest.memory.read(out, self.result) if errno == 0 else b""
