"""Compiled code on disk, shared by all processes of a user. Never the reason for an error.

An entry is a file named by the digest of everything that decides its content (the module, options,
LLVM, CPU, and the sources of our generators). It carries its own digest, is written under a
temporary name and renamed, and is ignored when anything about it is wrong: a read-only, full,
shared or damaged directory costs time only. Only files that belong to this user count.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from functools import cache
from pathlib import Path

__all__ = ["CodeCache", "default_cache_dir", "generator_digest"]

_MAGIC = b"wasinn-code-1\n"
_DIGEST_BYTES = 32
_OURS = re.compile(r"\w+-[0-9a-f]{64}|\.new-.*")


def _note(message: str, *args: object) -> None:
    """Tell whoever listens to the logger ``wasinn.cache``; imported only when there is news."""
    import logging

    logging.getLogger("wasinn.cache").info(message, *args)


def default_cache_dir() -> Path:
    """``$WASINN_CACHE_DIR``, else ``$XDG_CACHE_HOME/wasinn``, else ``~/.cache/wasinn``.

    A user without a home, as in many containers, has none: nothing can be kept below /dev/null.
    """
    chosen = os.environ.get("WASINN_CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "wasinn"
    try:
        return Path.home() / ".cache" / "wasinn"
    except RuntimeError:
        return Path(os.devnull) / "wasinn"


@cache
def generator_digest() -> str:
    """Digest of the sources that decide what code comes out of a module."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for folder in ("abi", "binary", "engines", "lower", "spec", "valid"):
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


class CodeCache:
    """A directory of compiled code.

    Args:
        directory: where; made with mode 0700 when first written to.
        max_bytes: above that the entries unused for longest are removed.
    """

    def __init__(self, directory: Path, max_bytes: int = 1 << 30) -> None:
        self.directory = directory
        self.max_bytes = max_bytes

    @staticmethod
    def key(kind: str, *parts: str | bytes) -> str:
        """The name of an entry: what it is, and a digest of all that decides its content."""
        digest = hashlib.sha256(generator_digest().encode())
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
        return f"{kind}-{digest.hexdigest()}"

    def get(self, key: str) -> bytes | None:
        """An entry's content, or None when there is none that can be trusted."""
        path = self.directory / key
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            info = os.fstat(fd)
            if (
                not stat.S_ISREG(info.st_mode)
                or info.st_uid != os.geteuid()
                or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            ):
                _note("ignoring %s: it is not a regular file of this user alone", path)
                return None
            with open(fd, "rb", closefd=False) as file:
                data = file.read()
            with contextlib.suppress(OSError):
                os.utime(fd)
        except OSError as error:
            _note("ignoring %s: %s", path, error)
            return None
        finally:
            os.close(fd)
        head = len(_MAGIC) + _DIGEST_BYTES
        content = data[head:]
        expected = _MAGIC + hashlib.sha256(key.encode() + content).digest()
        if data[:head] != expected:
            _note("ignoring %s: damaged", path)
            return None
        return content

    def __contains__(self, key: str) -> bool:
        """Whether there is such an entry, not whether it can be trusted."""
        return os.path.exists(self.directory / key)

    def put(self, key: str, content: bytes) -> None:
        """Keep an entry, if the disk lets us."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = self.directory / f".new-{os.getpid()}-{os.urandom(8).hex()}"
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            _note("not cached: %s", error)
            return
        try:
            with open(fd, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(key.encode() + content).digest())
                file.write(content)
            os.replace(temporary, self.directory / key)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            if not isinstance(error, OSError):
                raise
            _note("not cached: %s", error)
            return
        self._prune()

    def _prune(self) -> None:
        entries = []
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.directory):
                if not _OURS.fullmatch(entry.name):
                    continue  # somebody keeps other things here
                with contextlib.suppress(OSError):
                    info = entry.stat(follow_symlinks=False)
                    entries.append((info.st_mtime, info.st_size, entry.path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.max_bytes:
                return
            with contextlib.suppress(OSError):
                os.unlink(path)
                total -= size
