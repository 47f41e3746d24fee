"""Standard streams that Python feeds or takes. Not the inherited ones: those are ``HostFile``.

One class for each source and target that a configuration may name, and the function that picks.
Exceptions of user code (a callback, a file object) reach whoever called the guest; an ``OSError``
of a file object becomes an errno, as for a real file.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from wasinn_host.wasi.abi import Errno, FileType, Rights
from wasinn_host.wasi.config import Capture, StdinSource, Stdio, StdoutTarget
from wasinn_host.wasi.descriptors import Descriptor, HostFile
from wasinn_host.wasi.errors import StreamFailure, WasiError
from wasinn_host.wasi.guest import Caller
from wasinn_runtime.errors import UsageError

__all__ = ["open_stdin", "open_stdout"]

_READER: Final = Rights.STREAM & ~(Rights.FD_WRITE | Rights.FD_DATASYNC | Rights.FD_SYNC)
_WRITER: Final = Rights.STREAM & ~Rights.FD_READ
#: Most bytes taken from a file object or callback at once, whatever the guest asks for.
_CHUNK: Final = 1 << 20


class _Input(Descriptor):
    """Base of inputs: a source hands over bytes, which are spread over the guest's buffers."""

    filetype = FileType.SOCKET_STREAM

    def __init__(self) -> None:
        super().__init__(_READER)
        self._rest = memoryview(b"")

    def next_bytes(self, size: int) -> bytes:
        """About ``size`` bytes, at least one; nothing at the end of the input."""
        return b""

    def readv(self, caller: Caller, buffers: list[memoryview]) -> int:
        wanted = sum(map(len, buffers))
        if not wanted:
            return 0
        if not self._rest:
            self._rest = memoryview(self.next_bytes(min(wanted, _CHUNK)))
        done = 0
        for buffer in buffers:
            if not self._rest:
                break
            count = min(len(buffer), len(self._rest))
            buffer[:count] = self._rest[:count]
            self._rest = self._rest[count:]
            done += count
        return done

    def readable_bytes(self) -> int:
        return len(self._rest)


class NullStream(Descriptor):
    """Nothing to read; takes and drops everything written."""

    filetype = FileType.CHARACTER_DEVICE

    def __init__(self) -> None:
        # With FD_SEEK in its rights, as /dev/null has it, wasi-libc does not take it for a
        # terminal.
        super().__init__(Rights.STREAM | Rights.FD_SEEK | Rights.FD_TELL)

    def readv(self, caller: Caller, buffers: list[memoryview]) -> int:
        return 0

    def writev(self, caller: Caller, buffers: list[memoryview]) -> int:
        return sum(map(len, buffers))

    def seek(self, offset: int, whence: int) -> int:
        return 0


class BytesInput(_Input):
    """Input that is all there from the start."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._rest = memoryview(data)


class CallbackInput(_Input):
    """Input from a function ``size -> bytes``."""

    def __init__(self, source: Callable[[int], bytes]) -> None:
        super().__init__()
        self._source = source

    def next_bytes(self, size: int) -> bytes:
        try:
            data = self._source(size)
        except OSError as error:
            raise StreamFailure(error) from error
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise UsageError(f"stdin callback: expected bytes, got {type(data).__name__}")
        return bytes(data)


class FileInput(_Input):
    """Input from a file object, text or binary; the object stays open."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        # read1 of a buffered file returns what is there; read would wait for all of it.
        self._read: Callable[[int], object] = getattr(file, "read1", file.read)

    def next_bytes(self, size: int) -> bytes:
        data = self._read(size)
        if data is None:
            raise WasiError(Errno.AGAIN, "the file object has nothing yet")
        if isinstance(data, str):
            return data.encode("utf-8", "surrogatepass")
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise UsageError(f"stdin: read() returned {type(data).__name__}, expected bytes or str")
        return bytes(data)


class _Output(Descriptor):
    """Base of outputs that are not files of the host."""

    filetype = FileType.SOCKET_STREAM

    def __init__(self) -> None:
        super().__init__(_WRITER)


class CaptureOutput(_Output):
    """Output kept in memory."""

    def __init__(self, capture: Capture) -> None:
        super().__init__()
        self._capture = capture

    def writev(self, caller: Caller, buffers: list[memoryview]) -> int:
        written = self._capture.append(buffers)
        if not written and buffers:
            raise WasiError(Errno.NOSPC, f"captured output reached {self._capture.max_bytes} bytes")
        return written


class CallbackOutput(_Output):
    """Output to a function that takes bytes."""

    def __init__(self, target: Callable[[bytes], object]) -> None:
        super().__init__()
        self._target = target

    def writev(self, caller: Caller, buffers: list[memoryview]) -> int:
        data = _take(buffers)
        if data:
            try:
                self._target(data)
            except OSError as error:
                raise StreamFailure(error) from error
        return len(data)


class FileOutput(_Output):
    """Output to a file object, text or binary; flushed when the guest ends, left open."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        # A text file over bytes (sys.stdout, open(path, "w")) gets the bytes, untouched.
        binary = getattr(file, "buffer", None)
        if binary is not None and hasattr(binary, "write"):
            file.flush()
            file = binary
        self._file = file
        self._text = _wants_text(file)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        isatty = getattr(file, "isatty", None)
        self._flush_each = bool(isatty()) if callable(isatty) else False

    def writev(self, caller: Caller, buffers: list[memoryview]) -> int:
        data = _take(buffers)
        if not data:
            return 0
        if self._text:
            self._file.write(self._decoder.decode(data))
            written = len(data)
        else:
            answer = self._file.write(data)
            # A raw file may take less; None is "would block" for it and "all" for the rest.
            written = answer if isinstance(answer, int) and answer < len(data) else len(data)
        if self._flush_each:
            self._flush()
        return written

    def sync(self, *, data_only: bool) -> None:
        self._flush()

    def close(self) -> None:
        if self._text:
            rest = self._decoder.decode(b"", True)
            if rest:
                self._file.write(rest)
        self._flush()

    def _flush(self) -> None:
        flush = getattr(self._file, "flush", None)
        if callable(flush):
            flush()


def _take(buffers: list[memoryview]) -> bytes:
    """One bytes object of at most a chunk: a short write is legal, a 4 GiB copy is not wise."""
    parts = []
    room = _CHUNK
    for buffer in buffers:
        part = buffer[:room]
        parts.append(part)
        room -= len(part)
        if not room:
            break
    return b"".join(parts)


def _wants_text(file: Any) -> bool:
    """Whether ``write`` takes str: text files have an ``encoding`` or ``newlines`` attribute."""
    return hasattr(file, "encoding") or hasattr(file, "newlines")


def _inherit(fd: int, rights: int, flush: str | None) -> Descriptor | None:
    """The process's own stream, or None when it is closed there."""
    if flush is not None:
        stream = getattr(sys, flush, None)
        if stream is not None:
            # Closed or broken on Python's side says nothing about the descriptor.
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return None
    return HostFile(fd, mode, rights, owned=False)


def _host_file(path: str, flags: int, rights: int, what: str) -> Descriptor:
    try:
        fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{what}: can not open {path!r}: {reason}") from error
    return HostFile(fd, os.fstat(fd).st_mode, rights)


def _descriptor_number(fd: int, rights: int, what: str) -> Descriptor:
    try:
        mode = os.fstat(fd).st_mode
    except (OSError, OverflowError) as error:
        raise UsageError(f"{what}: {fd} is not an open descriptor of this process") from error
    return HostFile(fd, mode, rights, owned=False)


def open_stdin(source: StdinSource) -> Descriptor | None:
    """The descriptor for standard input; None when it is to be inherited and is closed.

    Raises:
        UsageError: not a source this knows, or a file that can not be opened.
    """
    if source is Stdio.INHERIT:
        return _inherit(0, Rights.FILE & ~Rights.IMPLIES_WRITE, None)
    if source is Stdio.NULL:
        return NullStream()
    if isinstance(source, str):
        return BytesInput(source.encode("utf-8", "surrogateescape"))
    if isinstance(source, (bytes, bytearray, memoryview)):
        return BytesInput(bytes(source))
    if isinstance(source, os.PathLike):
        return _host_file(
            os.fspath(source), os.O_RDONLY, Rights.FILE & ~Rights.IMPLIES_WRITE, "stdin"
        )
    if isinstance(source, int) and not isinstance(source, bool):
        return _descriptor_number(source, Rights.FILE & ~Rights.IMPLIES_WRITE, "stdin")
    if hasattr(source, "read"):
        return FileInput(source)
    if callable(source):
        return CallbackInput(source)
    raise UsageError(
        f"stdin: expected Stdio.INHERIT, Stdio.NULL, bytes, str, a path, a descriptor number, "
        f"a file object or a function, got {type(source).__name__}"
    )


def open_stdout(target: StdoutTarget, fd: int, name: str) -> Descriptor | None:
    """The descriptor for an output stream; None when it is to be inherited and is closed.

    Args:
        target: what the configuration says.
        fd: 1 or 2, the host's descriptor to inherit.
        name: ``stdout`` or ``stderr``.

    Raises:
        UsageError: not a target this knows, or a file that can not be opened.
    """
    rights = Rights.FILE & ~Rights.FD_READ
    if target is Stdio.INHERIT:
        return _inherit(fd, rights, name)
    if target is Stdio.NULL:
        return NullStream()
    if isinstance(target, Capture):
        return CaptureOutput(target)
    if isinstance(target, os.PathLike):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        return _host_file(os.fspath(target), flags, rights, name)
    if isinstance(target, int) and not isinstance(target, bool):
        return _descriptor_number(target, rights, name)
    if hasattr(target, "write"):
        return FileOutput(target)
    if callable(target):
        return CallbackOutput(target)
    raise UsageError(
        f"{name}: expected Stdio.INHERIT, Stdio.NULL, a Capture, a path object (pathlib.Path), a "
        f"descriptor number, a file object or a function, got {type(target).__name__}"
    )
