"""The errors of the model store and of the model builder, as one tree. Not where they are raised.

WasinnError
└── ModelError               anything that keeps a model from being had
    ├── UnknownModel         no catalogue entry (or variant, or file) of that name
    ├── ManifestError        a manifest that breaks the documented form
    ├── SourceError          a source that can not be reached, or has not what was asked for
    │   └── DownloadCut      a download that ended before its last byte
    ├── ChecksumMismatch     bytes that are not the ones the manifest names
    ├── StoreError           the store's files can not be read or written
    │   └── StoreFull        no room left on the store's file system
    ├── BuildError           a configuration or weights no model can be built from
    └── MissingExtra         an optional package is needed and not installed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from wasinn_runtime.errors import WasinnError

__all__ = [
    "BuildError",
    "ChecksumMismatch",
    "DownloadCut",
    "ManifestError",
    "MissingExtra",
    "ModelError",
    "SourceError",
    "StoreError",
    "StoreFull",
    "UnknownModel",
    "near_matches",
]


class ModelError(WasinnError):
    """A model can not be had; every error of this package is one."""


class UnknownModel(ModelError):
    """No catalogue entry, variant or file has the name that was asked for."""


class ManifestError(ModelError):
    """A manifest breaks the documented form, or names something unsafe."""


class SourceError(ModelError):
    """A source can not be reached, or does not have what was asked for."""


class DownloadCut(SourceError):
    """A download ended before its last byte; what arrived is kept and the next try resumes.

    Args:
        url: where the bytes come from.
        got: bytes that are stored so far.
        expected: bytes the whole file has.
        reason: why the transfer ended, in the words of the layer that noticed.
    """

    def __init__(self, url: str, got: int, expected: int, reason: str) -> None:
        self.url = url
        self.got = got
        self.expected = expected
        super().__init__(
            f"{url}: the download was cut off: expected {expected:,} bytes, got {got:,} "
            f"({reason}); run the command again to resume it"
        )


class ChecksumMismatch(ModelError):
    """The bytes are not the ones the manifest names.

    Args:
        where: the file or URL they came from.
        expected: SHA-256 in hexadecimal that the manifest gives.
        got: SHA-256 of the bytes.
        remedy: what to do, a sentence without a full stop.
    """

    def __init__(self, where: str, expected: str, got: str, remedy: str) -> None:
        self.expected = expected
        self.got = got
        super().__init__(f"{where}: expected SHA-256 {expected}, got {got}; {remedy}")


class StoreError(ModelError):
    """The store's files can not be read or written."""


class StoreFull(StoreError):
    """No room is left on the file system that holds the store.

    Args:
        path: the file that was being written.
        needed: bytes the whole file needs, or None where that is not known.
        free: bytes the file system has left, or None where it can not be asked.
    """

    def __init__(self, path: Path, needed: int | None, free: int | None = None) -> None:
        self.path = path
        self.needed = needed
        self.free = free
        need = "more room than there is" if needed is None else f"{needed:,} bytes"
        left = "" if free is None else f", {free:,} bytes are free"
        super().__init__(
            f"{path}: no space left on the device: the file needs {need}{left}; make room in "
            f"{path.parent}, or choose another place with WASINN_CACHE_DIR"
        )


class BuildError(ModelError):
    """A configuration or weights that no model can be built from."""


class MissingExtra(ModelError):
    """An optional package is needed and not installed.

    Args:
        package: its name, as pip knows it.
        purpose: what it is needed for.
    """

    def __init__(self, package: str, purpose: str) -> None:
        self.package = package
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed: "
            f"run `python -m pip install {package}`"
        )


def near_matches(name: str, known: Iterable[str]) -> str:
    """The part of a message that helps with an unknown name.

    Args:
        name: what was asked for.
        known: every name there is.

    Returns:
        Such as ``did you mean minilm? There are: bert, minilm``; never empty.
    """
    names = sorted(known)
    if not names:
        return "there are none"
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}There are: {', '.join(names)}"
