"""Gets a source distribution from the user's package index, and single files out of it.

pip has no way to fetch one without running its setup. So pip is only asked which index the user
has; that is read as every index is, and the archive's files are copied out. Nothing of it is run.

Sources: PEP 503 and PEP 691 (the simple repository API), PEP 625 (names of source distributions).
"""

from __future__ import annotations

import html.parser
import io
import json
import re
import subprocess
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zlib
from pathlib import Path
from typing import IO

from wasinn_models.atomic import write_whole
from wasinn_models.errors import SourceError, near_matches
from wasinn_models.sources.spec import is_allowed_url

__all__ = ["INSIDE", "extract_from_tar", "sdist_url"]

INSIDE = "!"
"""Between the name of an archive in an archive, and that of a file in it."""

_LARGEST_PAGE_BYTES = 64 << 20
_LARGEST_INNER_BYTES = 256 << 20
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60.0
_ACCEPTED = "application/vnd.pypi.simple.v1+json, text/html;q=0.2"


def sdist_url(requirement: str) -> str:
    """Where the ``.tar.gz`` of a release is.

    Args:
        requirement: ``NAME==VERSION``, as ``parse_source`` has checked it.

    Raises:
        SourceError: this Python has no pip, the index can not be read, or has no such release.
    """
    name, _, version = requirement.partition("==")
    page = f"{_index_url(requirement).rstrip('/')}/{re.sub(r'[-_.]+', '-', name).lower()}/"
    if not is_allowed_url(page):
        raise SourceError(f"sdist:{requirement}: expected an https package index, got {page}")
    request = urllib.request.Request(page, headers={"Accept": _ACCEPTED})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            kind = answer.headers.get_content_type()
            body = answer.read(_LARGEST_PAGE_BYTES)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise SourceError(f"sdist:{requirement}: {page} can not be read: {error}") from error
    links = _json_links(body, page) if kind.endswith("json") else _html_links(body)
    wanted = _comparable(f"{name}-{version}.tar.gz")
    for link in links:
        url = urllib.parse.urljoin(page, link)
        if _comparable(_file_of(url)) == wanted:
            if not is_allowed_url(url):
                raise SourceError(f"sdist:{requirement}: expected an https address, got {url}")
            return url
    known = [_file_of(link) for link in links if link.partition("#")[0].endswith(".tar.gz")]
    raise SourceError(
        f"sdist:{requirement}: {page} has no source distribution of that version; "
        f"{near_matches(f'{name}-{version}.tar.gz', known)}"
    )


def _index_url(requirement: str) -> str:
    """The index that the user's pip is configured for: the default that its help shows."""
    asked = subprocess.run(
        [sys.executable, "-P", "-m", "pip", "download", "--help"],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    said = " ".join(asked.stdout.split())
    found = re.search(r"--index-url <url>.*?\(default (\S+?)\)", said)
    if found is None:
        raise SourceError(
            f"sdist:{requirement}: {sys.executable} -m pip does not say which index it uses: "
            f"{' '.join(asked.stderr.split())[-300:] or 'no word of it in its help'}"
        )
    return found[1]


def _json_links(body: bytes, page: str) -> list[str]:
    try:
        return [str(file["url"]) for file in json.loads(body)["files"]]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise SourceError(f"{page}: expected the list of a package's files: {error!r}") from error


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def _html_links(body: bytes) -> list[str]:
    links = _Links()
    links.feed(body.decode("utf-8", "replace"))
    return links.found


def _file_of(url: str) -> str:
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path).rpartition("/")[2]


def _comparable(file: str) -> str:
    """A file's name without what PEP 625 and older tools spell differently."""
    return re.sub(r"[-_.]+", "-", file).lower()


def extract_from_tar(archive: Path, member: str, target: Path, size: int | None = None) -> None:
    """Copies one file out of a source distribution; no name in it ever becomes a path here.

    Args:
        archive: the ``.tar.gz``.
        member: the file's name in it; ``A.tar.gz!B`` is B in the archive A that is in it.
        target: where it is written.
        size: bytes it must have, where that is known.

    Raises:
        SourceError: it is no archive, it is damaged, or it has no such file.
        StoreFull: no room is left.
    """
    *archives, name = member.split(INSIDE)
    try:
        with open(archive, "rb") as file:
            opened: IO[bytes] = file
            for inner in archives:
                opened = io.BytesIO(_read(opened, inner, archive.name, _LARGEST_INNER_BYTES))
            with tarfile.open(fileobj=opened) as tar:
                found = _member(tar, name, archive.name)
                if size is not None and found.size != size:
                    raise SourceError(
                        f"{archive.name}: {member}: expected {size:,} bytes, got {found.size:,}"
                    )
                source = tar.extractfile(found)
                assert source is not None
                with write_whole(target, found.size) as written:
                    while chunk := source.read(_CHUNK_BYTES):
                        written.write(chunk)
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise SourceError(f"{archive.name}: the archive is damaged: {error}") from error


def _read(opened: IO[bytes], name: str, where: str, most: int) -> bytes:
    with tarfile.open(fileobj=opened) as tar:
        found = _member(tar, name, where)
        if found.size > most:
            raise SourceError(f"{where}: {name}: {found.size:,} bytes; the most is {most:,}")
        source = tar.extractfile(found)
        assert source is not None
        return source.read()


def _member(tar: tarfile.TarFile, name: str, where: str) -> tarfile.TarInfo:
    names = []
    for info in tar:
        if info.name == name and info.isreg():
            return info
        names.append(info.name)
    raise SourceError(f"{where}: no file {name!r} in it; {near_matches(name, names[:60])}")
