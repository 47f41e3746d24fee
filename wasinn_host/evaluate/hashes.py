"""SHA-256 of files, by which runs and results name what they are of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

__all__ = ["sha256_of", "sha256_of_all"]


def sha256_of(path: str | Path) -> str:
    """Of a file's bytes, in hexadecimal.

    Raises:
        OSError: it can not be read.
    """
    return _hash(path).hexdigest()


def sha256_of_all(paths: Sequence[str | Path]) -> str:
    """Of the hashes of some files, one behind the other.

    Raises:
        OSError: one can not be read.
    """
    return hashlib.sha256(b"".join(_hash(path).digest() for path in paths)).hexdigest()


def _hash(path: str | Path) -> hashlib._Hash:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256")
