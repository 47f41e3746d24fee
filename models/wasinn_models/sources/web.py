"""Downloads one file by URL: checked to its last byte, resumed where the server allows it.

What arrives is kept in a partial file with a note of what it belongs to (URL, validator, length),
so that the next try, also one of another process later, asks for the rest only. When the server has
another version by then, or does not honour ranges, the download starts again from the first byte.

Source: RFC 9110, sections 8.8 (validators), 13.1.5 (If-Range) and 14 (ranges).
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from email.message import Message
from pathlib import Path
from typing import IO

from wasinn_models.atomic import need_room, store_errors
from wasinn_models.errors import DownloadCut, SourceError, StoreFull
from wasinn_models.progress import Progress, silent
from wasinn_models.sources.spec import is_allowed_url, is_loopback

__all__ = ["download"]

CHUNK_BYTES = 1 << 18

# A server that says nothing for so long is taken for gone.
SILENCE_S = 60.0

# Pauses before the second, third and fourth try.
PAUSES_S = (0.5, 2.0, 5.0)

CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

# What may be better a moment later: request timeout, too many requests, and the server's own ills.
TRY_AGAIN = (408, 429, 500, 502, 503, 504)


@dataclasses.dataclass(frozen=True)
class _Note:
    """What a partial file belongs to."""

    url: str
    validator: str | None
    total: int


class _Interrupted(Exception):
    """A try ended early; the next one may go on."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to where a source may lead by itself."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        if not is_allowed_url(newurl):
            raise SourceError(
                f"{req.full_url}: the server redirects to {newurl!r}: expected an https address"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def download(
    url: str,
    partial: Path,
    *,
    expected_size: int | None = None,
    progress: Progress = silent,
    label: str | None = None,
    pauses_s: Sequence[float] = PAUSES_S,
) -> Path:
    """Downloads a file; the caller verifies its checksum and takes it away.

    Args:
        url: https, or http to this machine.
        partial: where the bytes are collected; a note with the suffix ``.json`` stands beside it.
        expected_size: bytes the file must have, where that is known.
        progress: called with every chunk.
        label: what to call the download in reports; the URL's last part by default.
        pauses_s: how long to wait before each further try; their number is the number of retries.

    Returns:
        ``partial``, which now holds the whole file.

    Raises:
        SourceError: the address is wrong, refused, or has a file of another size.
        DownloadCut: it ended early, also in the last try; what arrived is kept.
        StoreFull: no room is left; nothing stays behind.
    """
    if not is_allowed_url(url):
        raise SourceError(f"{url}: expected an https address (http: only to this machine itself)")
    label = label or urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1] or url
    task = _Download(url, partial, expected_size, progress, label)
    with store_errors(partial, expected_size):
        partial.parent.mkdir(parents=True, exist_ok=True)
    tries = len(pauses_s) + 1
    for number in range(tries):
        try:
            task.run()
        except _Interrupted as interruption:
            if number + 1 < tries:
                time.sleep(pauses_s[number])
                continue
            got, total = task.got(), task.total()
            if got and total is not None:
                raise DownloadCut(url, got, total, str(interruption)) from interruption
            raise SourceError(
                f"{url}: no answer in {tries} tries: {interruption}"
            ) from interruption.__cause__
        except StoreFull:
            task.forget()
            raise
        task.note_path.unlink(missing_ok=True)
        return partial
    raise AssertionError("every try returns or raises")


class _Download:
    """One URL and its partial file, over all tries."""

    def __init__(
        self,
        url: str,
        partial: Path,
        expected_size: int | None,
        progress: Progress,
        label: str,
    ) -> None:
        self.url = url
        self.partial = partial
        self.note_path = partial.with_name(partial.name + ".json")
        self.expected_size = expected_size
        self.progress = progress
        self.label = label
        handlers: list[urllib.request.BaseHandler] = [_Redirects()]
        if is_loopback(urllib.parse.urlsplit(url).hostname or ""):
            # A proxy is another machine; its own loopback is not this one's.
            handlers.append(urllib.request.ProxyHandler({}))
        self.opener = urllib.request.build_opener(*handlers)

    def got(self) -> int:
        """Bytes that are there."""
        try:
            return self.partial.stat().st_size
        except OSError:
            return 0

    def total(self) -> int | None:
        """Bytes that the whole file has, where a server has said so."""
        note = self.note()
        return note.total if note else self.expected_size

    def note(self) -> _Note | None:
        """The note beside the partial file, if it is one that can be trusted."""
        try:
            content = json.loads(self.note_path.read_text(encoding="utf-8"))
            note = _Note(**content)
        except (OSError, ValueError, TypeError):
            return None
        # Without a validator the rest may be another version's.
        usable = (
            note.url == self.url and type(note.total) is int and isinstance(note.validator, str)
        )
        return note if usable and 0 < self.got() <= note.total else None

    def forget(self) -> None:
        """Starts again from the first byte."""
        self.partial.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)

    def run(self) -> None:
        """One try.

        Raises:
            _Interrupted: it ended early and another try may go on.
        """
        note = self.note()
        have = self.got() if note else 0
        if note and have == note.total:
            return
        # Compression would make lengths and ranges those of other bytes.
        headers = {"User-Agent": "wasinn", "Accept-Encoding": "identity"}
        if note and note.validator:
            headers["Range"] = f"bytes={have}-"
            headers["If-Range"] = note.validator
        try:
            with self.opener.open(
                urllib.request.Request(self.url, headers=headers), timeout=SILENCE_S
            ) as response:
                start, total = self.accept(response, note, have)
                self.receive(response, start, total)
        except urllib.error.HTTPError as error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                self.forget()
                raise _Interrupted("the server has another version by now") from error
            if error.code in TRY_AGAIN:
                raise _Interrupted(f"the server answered {error.code} {error.reason}") from error
            raise SourceError(
                f"{self.url}: the server answered {error.code} {error.reason}: is the address "
                f"right?"
            ) from error
        except urllib.error.URLError as error:
            raise _Interrupted(f"the server can not be reached: {error.reason}") from error
        except (http.client.HTTPException, OSError) as error:
            # The disk's errors are mapped where they happen; what is left is the connection's.
            raise _Interrupted(str(error) or type(error).__name__) from error

    def accept(
        self, response: http.client.HTTPResponse, note: _Note | None, have: int
    ) -> tuple[int, int]:
        """Decides what the answer's body is.

        Returns:
            The offset of its first byte, and the bytes of the whole file.

        Raises:
            SourceError: it is not the file that was asked for.
            _Interrupted: it is another part than the one that was asked for.
        """
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise SourceError(f"{self.url}: expected plain bytes, got them encoded as {encoding}")
        validator = _validator(response.headers)
        if response.status == http.client.PARTIAL_CONTENT:
            match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            first, last, total = map(int, match.groups()) if match else (-1, -1, -1)
            same = note is not None and validator in (None, note.validator)
            if not note or (first, last + 1, total) != (have, note.total, note.total) or not same:
                self.forget()
                raise _Interrupted("the server sent another part than was asked for")
            return have, total
        length = response.headers.get("Content-Length")
        if length is not None and not length.isdecimal():
            raise SourceError(f"{self.url}: expected a Content-Length in bytes, got {length!r}")
        total = int(length) if length is not None else self.expected_size or -1
        if total < 0:
            raise SourceError(
                f"{self.url}: the server does not say how long the file is, so that a cut could "
                f"not be noticed: download it yourself and use file:PATH"
            )
        if self.expected_size is not None and total != self.expected_size:
            raise SourceError(
                f"{self.url}: expected a file of {self.expected_size:,} bytes, the server's has "
                f"{total:,}"
            )
        self.forget()
        need_room(self.partial, total)
        with store_errors(self.note_path, total):
            self.note_path.write_text(
                json.dumps(dataclasses.asdict(_Note(self.url, validator, total))), encoding="utf-8"
            )
        return 0, total

    def receive(self, response: http.client.HTTPResponse, start: int, total: int) -> None:
        """Appends the body to the partial file.

        Raises:
            _Interrupted: fewer bytes came than were announced.
            SourceError: more came.
        """
        done = start
        self.progress(self.label, done, total)
        with store_errors(self.partial, total):
            handle = os.open(self.partial, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with open(handle, "wb", buffering=0) as file:
            with store_errors(self.partial, total):
                file.truncate(start)
                file.seek(start)
            while chunk := response.read(CHUNK_BYTES):
                done += len(chunk)
                if done > total:
                    file.close()
                    self.forget()
                    raise SourceError(
                        f"{self.url}: expected {total:,} bytes, the server sends more"
                    )
                with store_errors(self.partial, total):
                    # An unbuffered write may take a part only; the error comes with the next one.
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[file.write(rest) :]
                self.progress(self.label, done, total)
        if done < total:
            raise _Interrupted("the connection was closed early")


def _validator(headers: Message) -> str | None:
    """What tells this version of the file from others: a strong entity tag, else its date."""
    tag = headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return str(tag)
    date = headers.get("Last-Modified")
    return str(date) if date else None
