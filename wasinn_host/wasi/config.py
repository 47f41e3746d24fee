"""What a guest is given, as data. Nothing is opened here: ``WasiContext`` does that.

Everything is off by default except the three standard streams: no directory, no environment.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wasinn_runtime.errors import UsageError

__all__ = ["Capture", "Preopen", "StdinSource", "Stdio", "StdoutTarget", "WasiConfig"]


class Stdio(enum.Enum):
    """A standard stream that is not data."""

    #: the stream of this process
    INHERIT = "inherit"
    #: nothing to read, everything written is dropped
    NULL = "null"


class Readable(Protocol):
    """A file object opened for reading, text (taken as UTF-8) or binary."""

    def read(self, size: int, /) -> str | bytes | None: ...


class Writable(Protocol):
    """A file object opened for writing, text (UTF-8) or binary."""

    def write(self, data: bytes, /) -> object: ...


class WritableText(Protocol):
    """As ``Writable``, for text."""

    def write(self, data: str, /) -> object: ...


class Capture:
    """Keeps what a guest writes, in memory and within a limit.

    Once full, further writes fail with NOSPC as on a full disk, and ``truncated`` is set.

    Args:
        max_bytes: the limit in bytes.
    """

    def __init__(self, max_bytes: int = 64 << 20) -> None:
        if max_bytes < 0:
            raise UsageError(f"max_bytes: expected 0 or more, got {max_bytes}")
        self.max_bytes = max_bytes
        self.truncated = False
        self._data = bytearray()

    @property
    def data(self) -> bytes:
        """What was written so far."""
        return bytes(self._data)

    @property
    def text(self) -> str:
        """``data`` as UTF-8; what is not becomes U+FFFD."""
        return self._data.decode("utf-8", "replace")

    def append(self, buffers: Sequence[memoryview]) -> int:
        """Take as much as fits; returns the number of bytes taken."""
        before = len(self._data)
        for buffer in buffers:
            room = self.max_bytes - len(self._data)
            if len(buffer) > room:
                self._data += buffer[:room]
                self.truncated = True
                break
            self._data += buffer
        return len(self._data) - before


#: bytes or text: the whole input. PathLike: a file. int: an open host descriptor, left open.
#: File object. Callable: asked for up to n bytes, answers b"" at the end.
StdinSource = Stdio | bytes | str | os.PathLike[str] | int | Readable | Callable[[int], bytes]
#: PathLike: a file, created or emptied. int: an open host descriptor, left open. File object.
#: Callable: given each piece as bytes. Capture: kept in memory.
StdoutTarget = (
    Stdio | os.PathLike[str] | int | Writable | WritableText | Callable[[bytes], object] | Capture
)


@dataclass(frozen=True, slots=True)
class Preopen:
    """A directory of the host that the guest may use.

    Args:
        host: path on the host.
        guest: what the guest sees it as, such as ``/data``; empty means the same as ``host``.
        read_only: nothing below it can be changed by this guest.
    """

    host: str | os.PathLike[str]
    guest: str = ""
    read_only: bool = False

    @property
    def guest_name(self) -> str:
        """The guest's name for it."""
        return self.guest or os.fspath(self.host)


@dataclass(frozen=True, slots=True)
class WasiConfig:
    """Everything a guest of WASI preview 1 is given.

    Args:
        args: the command line, program name first.
        env: environment variables; a mapping, or pairs where order matters.
        preopens: directories, numbered from descriptor 3 on in this order.
        stdin: see ``StdinSource``.
        stdout: see ``StdoutTarget``.
        stderr: see ``StdoutTarget``.
        max_open_files: most descriptors open at once, streams and preopens included; further
            ones are refused with MFILE, so that a guest can not use up the host's.
    """

    args: Sequence[str | bytes] = ()
    env: Mapping[str, str] | Sequence[tuple[str, str]] = field(default_factory=dict)
    preopens: Sequence[Preopen] = ()
    stdin: StdinSource = Stdio.INHERIT
    stdout: StdoutTarget = Stdio.INHERIT
    stderr: StdoutTarget = Stdio.INHERIT
    max_open_files: int = 1024

    def encoded_args(self) -> list[bytes]:
        """The arguments as the guest gets them, without their final NUL.

        Raises:
            UsageError: a NUL inside, or text that has no UTF-8 form.
        """
        return [_encode(arg, f"args[{index}]") for index, arg in enumerate(self.args)]

    def encoded_env(self) -> list[bytes]:
        """``NAME=value`` of each variable.

        Raises:
            UsageError: an empty name, ``=`` in a name, a NUL, text without a UTF-8 form.
        """
        pairs = self.env.items() if isinstance(self.env, Mapping) else self.env
        lines = []
        for name, value in pairs:
            if not name or "=" in name:
                raise UsageError(
                    f"env: a variable's name is not empty and has no '=', got {name!r}"
                )
            lines.append(_encode(f"{name}={value}", f"env[{name!r}]"))
        return lines


def _encode(text: str | bytes, where: str) -> bytes:
    if isinstance(text, str):
        try:
            # surrogateescape: how Python keeps command line bytes that are not UTF-8.
            data = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise UsageError(f"{where}: not encodable as UTF-8 ({error.reason})") from error
    elif isinstance(text, bytes):
        data = text
    else:
        raise UsageError(f"{where}: expected str or bytes, got {type(text).__name__}: {text!r}")
    if b"\0" in data:
        raise UsageError(f"{where}: contains a NUL character, which ends a string for the guest")
    return data
