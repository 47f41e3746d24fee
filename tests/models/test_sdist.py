"""Files of source distributions, from a package index on this machine."""

from __future__ import annotations

import functools
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from wasinn_models.errors import ManifestError, SourceError
from wasinn_models.manifest import ManifestFile
from wasinn_models.sources.fetch import Fetcher, file_name_of
from wasinn_models.sources.sdist import extract_from_tar, sdist_url

CONTENT = "words\nmôre words\n".encode()


def tar_of(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as tar:  # type: ignore[call-overload]  # of fixed modes only
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


SDIST = tar_of(
    {
        "some-data-1.0/setup.py": b"raise SystemExit('it was run')",
        "some-data-1.0/inner.tar.gz": tar_of({"inner/words.txt": CONTENT}),
    }
)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an index that pip is configured for."""
    folder = tmp_path / "web"
    (folder / "some-data").mkdir(parents=True)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_address[1]}")
        yield folder
        server.shutdown()
        thread.join()


def fetch(tmp_path: Path, source: str, member: str | None = None) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir(exist_ok=True)
    fetcher = Fetcher(folder, tmp_path / "p", tmp_path / "l", lambda *_: None)
    return fetcher.fetch(source, member=member)


def page(*files: str) -> str:
    return "".join(f'<a href="../files/{file}#sha256=0">{file}</a>\n' for file in files)


@pytest.mark.parametrize("name", ["some-data-1.0.tar.gz", "some_data-1.0.tar.gz"])
def test_a_file_in_an_archive_in_an_archive(index: Path, tmp_path: Path, name: str) -> None:
    (index / "files").mkdir()
    (index / "files" / name).write_bytes(SDIST)
    html = page("some_data-0.9.tar.gz", "some_data-1.0-py3-none-any.whl", name)
    (index / "some-data" / "index.html").write_text(html)
    member = "some-data-1.0/inner.tar.gz!inner/words.txt"
    assert fetch(tmp_path, "sdist:Some.Data==1.0", member).read_bytes() == CONTENT
    assert fetch(tmp_path, f"sdist:some-data==1.0#{member}").read_bytes() == CONTENT
    assert file_name_of(f"sdist:some-data==1.0#{member}") == "words.txt"


def test_an_index_that_answers_in_json(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        http.server.SimpleHTTPRequestHandler.extensions_map,
        ".html",
        "application/vnd.pypi.simple.v1+json",
    )
    listed = index / "some-data" / "index.html"
    listed.write_text(json.dumps({"files": [{"url": "https://x.example/a/some_data-2.0.tar.gz"}]}))
    assert sdist_url("some-data==2.0") == "https://x.example/a/some_data-2.0.tar.gz"
    listed.write_text('{"files": 3}')
    with pytest.raises(SourceError, match="expected the list of a package's files"):
        sdist_url("some-data==2.0")


def test_what_the_index_does_not_have(index: Path) -> None:
    (index / "some-data" / "index.html").write_text(page("some_data-0.9.tar.gz"))
    with pytest.raises(SourceError, match=r"of that version; did you mean some_data-0.9.tar.gz"):
        sdist_url("some-data==1.0")
    with pytest.raises(SourceError, match="can not be read: HTTP Error 404"):
        sdist_url("other==1.0")
    (index / "some-data" / "index.html").write_text(
        '<a href="http://elsewhere.example/some_data-1.0.tar.gz">x</a>'
    )
    with pytest.raises(SourceError, match="expected an https address, got http://elsewhere"):
        sdist_url("some-data==1.0")


def test_an_index_without_encryption_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://index.example/simple")
    with pytest.raises(SourceError, match="expected an https package index, got http://index"):
        sdist_url("some-data==1.0")


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("some-data-1.0/nothing", "no file 'some-data-1.0/nothing' in it"),
        ("some-data-1.0/inner.tar.gz!nothing", "no file 'nothing' in it"),
        ("nothing.tar.gz!words", "no file 'nothing.tar.gz' in it"),
        ("some-data-1.0/setup.py!words", "the archive is damaged"),
    ],
)
def test_files_that_are_not_in_it(tmp_path: Path, member: str, message: str) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(SDIST)
    with pytest.raises(SourceError, match=message):
        extract_from_tar(archive, member, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_that_is_cut_or_another_file(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    for content in (SDIST[:60], SDIST[: len(SDIST) // 2], b"", b"hello"):
        archive.write_bytes(content)
        with pytest.raises(SourceError, match=r"damaged|no file"):
            extract_from_tar(archive, "some-data-1.0/inner.tar.gz!inner/words.txt", tmp_path / "o")


def test_a_link_is_not_followed_and_a_size_is_held(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(packed.getvalue())
    with pytest.raises(SourceError, match="no file 'link' in it"):
        extract_from_tar(archive, "link", tmp_path / "out")
    archive.write_bytes(tar_of({"words": CONTENT}))
    with pytest.raises(SourceError, match=r"words: expected 3 bytes, got 18"):
        extract_from_tar(archive, "words", tmp_path / "out", 3)


def test_members_that_lead_elsewhere_are_refused() -> None:
    for member in ("../x", "/etc/passwd", "a.tar.gz!../x"):
        with pytest.raises(ManifestError, match="expected a path inside the archive"):
            ManifestFile("x", "sdist:a==1", "0" * 64, 1, member)


def test_a_source_without_a_member(index: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="which file of it"):
        fetch(tmp_path, "sdist:some-data==1.0")
