"""Messages between host and backend process, over a Unix socket.

A message is some numbers, some text as JSON, and some descriptors. What comes with each computation
has numbers only: JSON would take as long as all the rest.
"""

from __future__ import annotations

import enum
import json
import os
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from wasinn_host.nn.plugin import Tensor, TensorType

__all__ = ["PIECE", "Call", "Connection", "Disconnected", "Message", "TensorFields"]

_HEADER: Final = struct.Struct("<IHI")
"""How many numbers, how many descriptors, how many bytes of text."""
_LEAST_BYTES: Final = 128
"""Shorter messages are filled up to this: what comes with a computation is read at once."""
PIECE: Final = 1 << 32
"""Added to an output's index: its last piece is meant, see `plugin.Streaming`."""
_MOST_NUMBERS: Final = 1 << 20
_MOST_TEXT_BYTES: Final = 64 << 20
_MOST_DESCRIPTORS: Final = 128
_TYPES: Final = tuple(TensorType)
_CODES: Final = {tensor_type: code for code, tensor_type in enumerate(_TYPES)}


class Call(enum.IntEnum):
    """The first number of what the host sends."""

    CONNECT = 1
    CANCEL = 2
    LOAD = 3
    CREATE_CONTEXT = 4
    SET_INPUT = 5
    COMPUTE = 6
    GET_OUTPUT = 7
    CLOSE = 8
    COMPUTE_SINGLE = 9
    FINI_SINGLE = 10


class Disconnected(Exception):
    """The other side is gone, or says what it must not."""


class Message(NamedTuple):
    """What goes from one side to the other.

    Attributes:
        numbers: of 64 bits, signed.
        text: what JSON can hold.
        descriptors: the sender's stay its own; the receiver's are its own.
    """

    numbers: Sequence[int] = ()
    text: Mapping[str, Any] = MappingProxyType({})
    descriptors: Sequence[int] = ()


class TensorFields(NamedTuple):
    """A tensor as numbers; its data are in memory that both sides see.

    Attributes:
        which: the index of the input or output.
        type: element type.
        size_bytes: of its data.
        is_new: whether a descriptor for its memory comes along.
        shape: sizes, outermost first.
    """

    which: int
    type: TensorType
    size_bytes: int
    is_new: bool
    shape: tuple[int, ...]

    @classmethod
    def of(cls, index: int, tensor: Tensor, is_new: bool) -> TensorFields:
        return cls(index, tensor.type, tensor.data.nbytes, is_new, tensor.shape)

    def numbers(self) -> tuple[int, ...]:
        shape = self.shape
        return (
            self.which,
            _CODES[self.type],
            self.size_bytes,
            self.is_new,
            len(shape),
            *shape,
        )

    @classmethod
    def read(cls, numbers: Iterator[int]) -> TensorFields:
        """The next one of a message's numbers.

        Raises:
            Disconnected: they are none.
        """
        try:
            index, code, size, is_new, rank = islice(numbers, 5)
            if not 0 <= code < len(_TYPES) or size < 0 or index < 0:
                raise Disconnected
            shape = tuple(islice(numbers, rank))
            if len(shape) != rank:
                raise Disconnected
        except ValueError as error:  # too few, or a rank below 0
            raise Disconnected from error
        return cls(index, _TYPES[code], size, bool(is_new), shape)


class Connection:
    """One end of a socket pair. Not for two threads at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    @classmethod
    def pair(cls) -> tuple[Connection, socket.socket]:
        """A connection, and the other end of it, to give away."""
        ours, theirs = socket.socketpair()
        return cls(ours), theirs

    def send(self, message: Message) -> None:
        """Sends a message.

        Raises:
            Disconnected: nobody reads it.
        """
        try:
            self._sock.sendall(_packed(message))
            if message.descriptors:
                socket.send_fds(self._sock, [b"\0"], list(message.descriptors))
        except OSError as error:
            raise Disconnected from error

    def try_send(self, message: Message) -> None:
        """Sends a small message without descriptors if that is possible at once, to somebody."""
        try:
            self._sock.send(_packed(message), socket.MSG_DONTWAIT)
        except OSError:
            return

    def receive(self) -> Message:
        """The next message.

        Raises:
            Disconnected: there is none any more, or it is none of ours.
        """
        try:
            data = self._exactly(_LEAST_BYTES)
            count, passed, size = _HEADER.unpack_from(data)
            if count > _MOST_NUMBERS or size > _MOST_TEXT_BYTES or passed > _MOST_DESCRIPTORS:
                raise Disconnected
            text_at = _HEADER.size + 8 * count
            if text_at + size > _LEAST_BYTES:
                data += self._exactly(text_at + size - _LEAST_BYTES)
            numbers = struct.unpack_from(f"<{count}q", data, _HEADER.size)
            text = json.loads(data[text_at : text_at + size]) if size else {}
            if not isinstance(text, dict):
                raise Disconnected
            return Message(numbers, text, self._descriptors(passed) if passed else ())
        except (OSError, ValueError) as error:
            raise Disconnected from error

    def shut(self) -> None:
        """Ends a `receive` that waits in another thread, on both sides."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def close(self) -> None:
        self._sock.close()

    def _exactly(self, count: int) -> bytes:
        data = self._sock.recv(count)
        if len(data) == count:
            return data
        parts = [data]
        count -= len(data)
        while count and parts[-1]:
            parts.append(self._sock.recv(count))
            count -= len(parts[-1])
        if count:
            raise Disconnected
        return b"".join(parts)

    def _descriptors(self, count: int) -> Sequence[int]:
        _, found, _, _ = socket.recv_fds(self._sock, 1, count)
        if len(found) != count:
            for descriptor in found:
                os.close(descriptor)
            raise Disconnected
        return found


def _packed(message: Message) -> bytes:
    numbers = message.numbers
    text = json.dumps(message.text).encode() if message.text else b""
    header = _HEADER.pack(len(numbers), len(message.descriptors), len(text))
    packed = header + struct.pack(f"<{len(numbers)}q", *numbers) + text
    return packed.ljust(_LEAST_BYTES, b"\0")
