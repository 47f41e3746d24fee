"""Processes of our own, for what must not happen in this one, and the messages to them."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

from wasinn_runtime.errors import UsageError

__all__ = ["close", "receive", "send", "serving", "start"]

_FRAME = struct.Struct("<IQ")
_SET_DEATH_SIGNAL = 1  # prctl


def start(
    program: str,
    *,
    quiet: bool = False,
    stdin: int = subprocess.PIPE,
    stdout: int = subprocess.PIPE,
) -> subprocess.Popen[bytes]:
    """Run a program of ours in a Python of its own.

    It is killed when the thread that called this ends.

    Args:
        program: Python source.
        stdin: what it reads, a pipe unless told otherwise.
        stdout: what it writes to, likewise.
        quiet: whether what it writes to standard error goes nowhere: nobody asked for it, and how
            it fails is nobody's concern, unless ``WASINN_DEBUG=1`` says so.

    Raises:
        UsageError: this process does not know its Python.
    """
    if not sys.executable:
        raise UsageError("this process does not know its Python, so it can not start another one")
    # Where this process found its modules, and nowhere else: not the working directory.
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-P", "-c", program],
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL if quiet and os.environ.get("WASINN_DEBUG") != "1" else None,
        env={**os.environ, "PYTHONPATH": path},
    )


def close(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that ends, and close its pipes."""
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            # What was not written any more is not missed.
            with contextlib.suppress(OSError):
                pipe.close()


def serving() -> tuple[BinaryIO, BinaryIO]:
    """In such a process: the pipes to ``receive`` from and to ``send`` to.

    It ends with the process that started it, and not by Ctrl-C, which goes to all processes of a
    terminal: whoever started this one ends it.
    """
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing but messages may come that way
    return source, sink


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
