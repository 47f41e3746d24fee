"""Messages between host and backend process: JSON over a Unix socket, descriptors along with it."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["Connection", "Disconnected"]

_LENGTH: Final = struct.Struct("<I")
_MOST_BYTES: Final = 64 << 20
_MOST_DESCRIPTORS: Final = 64
_CHUNK: Final = 1 << 16


class Disconnected(Exception):
    """The other side is gone."""


class Connection:
    """One end of a socket pair. Not for two threads at a time, but `try_send` is."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""

    @classmethod
    def pair(cls) -> tuple[Connection, socket.socket]:
        """A connection, and the other end of it, to give away."""
        ours, theirs = socket.socketpair()
        return cls(ours), theirs

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Sends a message; the descriptors stay the caller's.

        Raises:
            Disconnected: nobody reads it.
        """
        data = _packed(message)
        try:
            if descriptors:
                sent = socket.send_fds(self._sock, [data], list(descriptors))
                data = data[sent:]
            self._sock.sendall(data)
        except OSError as error:
            raise Disconnected from error

    def try_send(self, message: Mapping[str, Any]) -> None:
        """Sends a small message if that is possible at once, and to somebody."""
        try:
            self._sock.send(_packed(message), socket.MSG_DONTWAIT)
        except OSError:
            return

    def receive(self) -> tuple[dict[str, Any], list[int]]:
        """A message, and its descriptors, which are the caller's now.

        Raises:
            Disconnected: there is none any more, or it is none of ours.
        """
        descriptors: list[int] = []
        data = self._rest
        try:
            while len(data) < _LENGTH.size or len(data) < _LENGTH.size + _length(data):
                more, passed, _, _ = socket.recv_fds(self._sock, _CHUNK, _MOST_DESCRIPTORS)
                descriptors += passed
                if not more:
                    raise Disconnected
                data += more
            end = _LENGTH.size + _length(data)
            message = json.loads(data[_LENGTH.size : end])
            if not isinstance(message, dict):
                raise Disconnected
        except BaseException as error:
            for descriptor in descriptors:
                os.close(descriptor)
            if isinstance(error, OSError | ValueError):
                raise Disconnected from error
            raise
        self._rest = data[end:]
        return message, descriptors

    def shut(self) -> None:
        """Ends a `receive` that waits in another thread, on both sides."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        self._sock.close()


def _packed(message: Mapping[str, Any]) -> bytes:
    text = json.dumps(message).encode()
    return _LENGTH.pack(len(text)) + text


def _length(data: bytes) -> int:
    (length,) = _LENGTH.unpack_from(data)
    if length > _MOST_BYTES:
        raise ValueError("a message that is too long")
    return int(length)
