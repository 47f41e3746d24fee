"""A guest without an engine: memory as a bytearray, calls by name. No test is in here.

``Guest`` puts arguments into its memory like compiled code would and hands pointers to the real
functions, so that every check on pointers is in play.
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wasinn_host.wasi import Errno, WasiConfig, WasiContext
from wasinn_host.wasi.abi import FILESTAT, Rights
from wasinn_host.wasi.paths import Resolver
from wasinn_host.wasi.trace import TraceSink
from wasinn_runtime.errors import MemoryAccessError

PAGE = 65536


class FakeMemory:
    """Linear memory over a bytearray, with the checks of the real one."""

    def __init__(self, pages: int = 2) -> None:
        self.data = bytearray(pages * PAGE)

    @property
    def byte_length(self) -> int:
        return len(self.data)

    def view(self, ptr: int = 0, length: int | None = None, /) -> memoryview:
        if length is None:
            length = len(self.data) - ptr
        if ptr < 0 or length < 0 or ptr + length > len(self.data):
            raise MemoryAccessError(f"{length} bytes at {ptr:#x}, the memory has {len(self.data)}")
        return memoryview(self.data)[ptr : ptr + length]

    def read(self, ptr: int, length: int, /) -> bytes:
        return bytes(self.view(ptr, length))

    def write(self, ptr: int, data: bytes | bytearray | memoryview, /) -> None:
        self.view(ptr, len(data))[:] = data

    def read_u32(self, ptr: int, /) -> int:
        return int.from_bytes(self.read(ptr, 4), "little")

    def write_u32(self, ptr: int, value: int, /) -> None:
        self.write(ptr, value.to_bytes(4, "little"))

    def read_u64(self, ptr: int, /) -> int:
        return int.from_bytes(self.read(ptr, 8), "little")

    def write_u64(self, ptr: int, value: int, /) -> None:
        self.write(ptr, value.to_bytes(8, "little"))


class FakeInterrupt:
    """An interrupt that a test sets, also from another thread."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def set(self) -> None:
        os.write(self._write, b"!")

    def is_set(self) -> bool:
        return self.wait(0)

    def wait(self, timeout_s: float | None, /) -> bool:
        poller = select.poll()
        poller.register(self._read, select.POLLIN)
        return bool(poller.poll(None if timeout_s is None else timeout_s * 1000))

    def fileno(self) -> int:
        return self._read

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class FakeCaller:
    """What the engine passes to a host function."""

    def __init__(self, pages: int = 2) -> None:
        self.memory: FakeMemory | None = FakeMemory(pages)
        self.interrupt = FakeInterrupt()


@dataclass(frozen=True)
class Stat:
    """``filestat`` taken apart."""

    dev: int
    ino: int
    filetype: int
    nlink: int
    size: int
    atim: int
    mtim: int
    ctim: int


@dataclass(frozen=True)
class Entry:
    """One entry of a directory."""

    cookie: int
    ino: int
    filetype: int
    name: bytes


class Guest:
    """Calls functions of one context as a guest would.

    Args:
        config: what the guest is given.
        resolver: how paths are walked.
        trace: takes trace lines.
        pages: size of the memory in pages of 64 KiB.
        caller: the instance that calls; by default a new one.
    """

    #: First directory given by a configuration.
    DIR = 3

    def __init__(
        self,
        config: WasiConfig,
        *,
        resolver: Resolver | None = None,
        trace: TraceSink | None = None,
        pages: int = 2,
        caller: FakeCaller | None = None,
    ) -> None:
        self.caller = caller or FakeCaller(pages)
        self.context = WasiContext(config, resolver=resolver, trace=trace)
        self.functions = {name: function for name, _, function in self.context.functions()}
        self._top = 0

    @property
    def memory(self) -> FakeMemory:
        assert self.caller.memory is not None
        return self.caller.memory

    def close(self) -> None:
        self.context.close()
        self.caller.interrupt.close()

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, name: str, *args: int) -> Errno:
        """Call with raw words, negative ones as their unsigned form."""
        result = self.functions[name](self.caller, *[arg & (2**64 - 1) for arg in args])
        assert result is not None
        return Errno(result)

    def alloc(self, size: int) -> int:
        """Room in memory, never freed; wraps round at the end."""
        start = (self._top + 7) & ~7
        if start + size > self.memory.byte_length:
            start = 0
        self._top = start + size
        return start

    def put(self, data: bytes) -> int:
        ptr = self.alloc(len(data))
        self.memory.write(ptr, data)
        return ptr

    def path(self, path: str | bytes) -> tuple[int, int]:
        data = path.encode() if isinstance(path, str) else path
        return self.put(data), len(data)

    def iovecs(self, sizes: Sequence[int]) -> tuple[int, list[int]]:
        """Buffers of these sizes; pointer to the iovecs, and to each buffer."""
        buffers = [self.alloc(size) for size in sizes]
        table = b"".join(
            struct.pack("<II", ptr, size) for ptr, size in zip(buffers, sizes, strict=True)
        )
        return self.put(table), buffers

    # Calls with friendly arguments.

    def open(
        self,
        path: str | bytes,
        *,
        fd: int = DIR,
        follow: bool = True,
        oflags: int = 0,
        base: int = Rights.ALL & ~Rights.IMPLIES_WRITE,
        inheriting: int = 0,
        fdflags: int = 0,
    ) -> tuple[Errno, int]:
        out = self.alloc(4)
        errno = self.call(
            "path_open",
            fd,
            int(follow),
            *self.path(path),
            oflags,
            base,
            inheriting,
            fdflags,
            out,
        )
        return errno, self.memory.read_u32(out)

    def opened(self, path: str | bytes, **options: int) -> int:
        errno, fd = self.open(path, **options)  # type: ignore[arg-type]
        assert errno is Errno.SUCCESS, errno
        return fd

    def write(self, fd: int, *parts: bytes) -> tuple[Errno, int]:
        iovs, buffers = self.iovecs([len(part) for part in parts])
        for ptr, part in zip(buffers, parts, strict=True):
            self.memory.write(ptr, part)
        out = self.alloc(4)
        errno = self.call("fd_write", fd, iovs, len(parts), out)
        return errno, self.memory.read_u32(out)

    def read(self, fd: int, *sizes: int) -> tuple[Errno, bytes]:
        iovs, buffers = self.iovecs(sizes)
        out = self.alloc(4)
        errno = self.call("fd_read", fd, iovs, len(sizes), out)
        if errno is not Errno.SUCCESS:
            return errno, b""
        left = self.memory.read_u32(out)
        data = b""
        for ptr, size in zip(buffers, sizes, strict=True):
            data += self.memory.read(ptr, min(size, left))
            left -= min(size, left)
        return errno, data

    def seek(self, fd: int, offset: int, whence: int = 0) -> tuple[Errno, int]:
        out = self.alloc(8)
        errno = self.call("fd_seek", fd, offset, whence, out)
        return errno, self.memory.read_u64(out)

    def stat(self, path: str | bytes, *, fd: int = DIR, follow: bool = True) -> tuple[Errno, Stat]:
        out = self.alloc(64)
        self.memory.write(out, bytes(64))
        errno = self.call("path_filestat_get", fd, int(follow), *self.path(path), out)
        return errno, Stat(*FILESTAT.unpack(self.memory.read(out, 64)))

    def fdstat(self, fd: int) -> tuple[Errno, tuple[int, int, int, int]]:
        """errno, (filetype, flags, base, inheriting)."""
        out = self.alloc(24)
        errno = self.call("fd_fdstat_get", fd, out)
        filetype, flags, base, inheriting = struct.unpack("<BxH4xQQ", self.memory.read(out, 24))
        return errno, (filetype, flags, base, inheriting)

    def readdir(self, fd: int, cookie: int = 0, size: int = 4096) -> tuple[Errno, list[Entry], int]:
        """errno, whole entries, bytes used."""
        buf, out = self.alloc(size), self.alloc(4)
        errno = self.call("fd_readdir", fd, buf, size, cookie, out)
        if errno is not Errno.SUCCESS:
            return errno, [], 0
        used = self.memory.read_u32(out)
        return errno, list(_entries(self.memory.read(buf, used))), used

    def link_text(self, path: str | bytes, size: int = 256) -> tuple[Errno, bytes]:
        buf, out = self.alloc(size), self.alloc(4)
        errno = self.call("path_readlink", self.DIR, *self.path(path), buf, size, out)
        if errno is not Errno.SUCCESS:
            return errno, b""
        return errno, self.memory.read(buf, self.memory.read_u32(out))

    def name_call(self, name: str, path: str | bytes, *, fd: int = DIR) -> Errno:
        """``path_create_directory``, ``path_remove_directory``, ``path_unlink_file``."""
        return self.call(name, fd, *self.path(path))

    def symlink(self, target: str | bytes, path: str | bytes, *, fd: int = DIR) -> Errno:
        return self.call("path_symlink", *self.path(target), fd, *self.path(path))

    def rename(self, old: str, new: str, *, fd: int = DIR, new_fd: int = DIR) -> Errno:
        return self.call("path_rename", fd, *self.path(old), new_fd, *self.path(new))

    def hard_link(
        self, old: str, new: str, *, fd: int = DIR, new_fd: int = DIR, follow: bool = False
    ) -> Errno:
        return self.call("path_link", fd, int(follow), *self.path(old), new_fd, *self.path(new))

    def set_times(
        self, path: str, atim: int = 1, mtim: int = 2, flags: int = 5, *, follow: bool = True
    ) -> Errno:
        return self.call(
            "path_filestat_set_times", self.DIR, int(follow), *self.path(path), atim, mtim, flags
        )


def _entries(data: bytes) -> Iterator[Entry]:
    position = 0
    while position + 24 <= len(data):
        cookie, ino, length, filetype = struct.unpack_from("<QQIB", data, position)
        name = data[position + 24 : position + 24 + length]
        if len(name) < length:
            return
        yield Entry(cookie, ino, filetype, name)
        position += 24 + length
