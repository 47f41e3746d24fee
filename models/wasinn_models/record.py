"""What the store remembers of the files it has put in place, so that using them needs no hashing.

One ``stored.json`` per model. A file counts as untouched while its size and time of change are
those that were noted when its bytes were last hashed; otherwise it is hashed again before it is
trusted.
"""

from __future__ import annotations

import dataclasses
import json
import os
import stat
from pathlib import Path

from wasinn_models.atomic import write_whole

__all__ = ["Record", "StoredFile", "stored_file"]

FORM = 1


@dataclasses.dataclass(frozen=True)
class StoredFile:
    """One file as it was put in place.

    Attributes:
        sha256: of its bytes.
        size: in bytes.
        changed_ns: its modification time then, in nanoseconds since 1970.
        key: what a built file was made from; empty for a fetched one.
        tools: the versions of the packages that built it, for people to read.
    """

    sha256: str
    size: int
    changed_ns: int
    key: str = ""
    tools: str = ""

    def is_untouched(self, path: Path) -> bool:
        """Whether the file is a regular one with the size and time that were noted."""
        try:
            status = os.lstat(path)
        except OSError:
            return False
        same = (status.st_size, status.st_mtime_ns) == (self.size, self.changed_ns)
        return same and stat.S_ISREG(status.st_mode)


def stored_file(path: Path, sha256: str, key: str = "", tools: str = "") -> StoredFile:
    """The note for a file that is in place and whose bytes have that checksum."""
    status = os.lstat(path)
    return StoredFile(sha256, status.st_size, status.st_mtime_ns, key, tools)


class Record:
    """The notes of one model, by path below its folder.

    Args:
        path: of ``stored.json``. One that is missing, or that is none, has no notes: every file is
            then hashed again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, StoredFile] = {}
        try:
            content = json.loads(path.read_bytes())
            if content["form"] == FORM:
                self.files = {name: StoredFile(**row) for name, row in content["files"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.files = {}

    def save(self) -> None:
        """Writes the notes.

        Raises:
            StoreError: they can not be written.
        """
        rows = {name: dataclasses.asdict(self.files[name]) for name in sorted(self.files)}
        text = json.dumps({"form": FORM, "files": rows}, indent=1)
        with write_whole(self.path) as file:
            file.write(text.encode())
