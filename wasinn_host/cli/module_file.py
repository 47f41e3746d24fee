"""Reading the file that a command was given as a WebAssembly module. Does not look inside."""

from __future__ import annotations

import os

from wasinn_runtime.errors import Malformed
from wasinn_runtime.spec.limits import MAX_MODULE_BYTES

__all__ = ["read_module"]


def read_module(path: str) -> bytes:
    """The file's bytes; pipes are read too, but nothing without an end.

    Raises:
        OSError: it can not be read.
        Malformed: it is larger than a module may be.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_MODULE_BYTES:
                raise _too_large(path)
            parts: list[bytes] = []
            total = 0
            # One byte more than it should have, to see the end in the same call.
            while piece := file.read(max(size + 1 - total, 1 << 16)):
                parts.append(piece)
                total += len(piece)
                if total > MAX_MODULE_BYTES:
                    raise _too_large(path)
    except ValueError as error:
        raise OSError(None, str(error), path) from error
    except OSError as error:
        if error.filename is None:  # reading a directory does not say which
            error.filename = path
        raise
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(path: str) -> Malformed:
    return Malformed(f"module too large: at most {MAX_MODULE_BYTES} bytes", None, path)
