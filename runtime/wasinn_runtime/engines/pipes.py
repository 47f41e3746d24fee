"""Processes of our own that compile, and the messages to and from them."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

from wasinn_runtime.errors import UsageError

__all__ = ["receive", "send", "start"]

_FRAME = struct.Struct("<IQ")


def start(program: str) -> subprocess.Popen[bytes]:
    """Run a program of ours in a Python of its own; its input and output are pipes.

    Raises:
        UsageError: this process does not know its Python.
    """
    if not sys.executable:
        raise UsageError("this process does not know its Python, so it compiles with one job only")
    # Where this process found its modules, and nowhere else: not the working directory.
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-P", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )


def send(pipe: BinaryIO | Any, message: Mapping[str, Any], content: bytes) -> None:
    text = json.dumps(message).encode()
    pipe.write(_FRAME.pack(len(text), len(content)))
    pipe.write(text)
    pipe.write(content)
    pipe.flush()


def receive(pipe: BinaryIO | Any) -> tuple[dict[str, Any], bytes]:
    text_bytes, content_bytes = _FRAME.unpack(_exactly(pipe, _FRAME.size))
    message = json.loads(_exactly(pipe, text_bytes))
    return message, _exactly(pipe, content_bytes)


def _exactly(pipe: BinaryIO | Any, count: int) -> bytes:
    data: bytes = pipe.read(count)
    if len(data) != count:
        raise EOFError
    return data
