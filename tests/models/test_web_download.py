"""Downloads from a server on the loopback that cuts, changes and lies."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.models.web_server import Behaviour, WebServer
from wasinn_models import atomic
from wasinn_models.errors import DownloadCut, SourceError, StoreFull
from wasinn_models.sources.web import download

BODY = bytes(range(256)) * 4096
AT_ONCE = (0.0, 0.0)


@pytest.fixture
def server() -> Iterator[WebServer]:
    """A server that behaves, until a test changes it."""
    with WebServer(Behaviour(BODY)) as running:
        yield running


def test_a_file_arrives_with_its_progress(server: WebServer, tmp_path: Path) -> None:
    reports: list[tuple[str, int, int | None]] = []
    path = download(server.url, tmp_path / "p", progress=lambda *report: reports.append(report))
    assert path.read_bytes() == BODY
    assert reports[0] == ("model.onnx", 0, len(BODY))
    assert reports[-1] == ("model.onnx", len(BODY), len(BODY))
    assert [done for _, done, _ in reports] == sorted(done for _, done, _ in reports)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["p"]


def test_a_cut_download_is_resumed_within_the_call(server: WebServer, tmp_path: Path) -> None:
    server.behaviour.cut_after = [300_000, 400_000]
    path = download(server.url, tmp_path / "p", pauses_s=AT_ONCE)
    assert path.read_bytes() == BODY
    assert server.ranges == [None, "bytes=300000-", "bytes=700000-"]


def test_a_cut_download_is_resumed_by_the_next_call(server: WebServer, tmp_path: Path) -> None:
    server.behaviour.cut_after = [300_000]
    with pytest.raises(
        DownloadCut, match=r"expected 1,048,576 bytes, got 300,000 .* resume"
    ) as cut:
        download(server.url, tmp_path / "p", pauses_s=())
    assert (cut.value.got, cut.value.expected) == (300_000, len(BODY))
    assert download(server.url, tmp_path / "p", pauses_s=()).read_bytes() == BODY
    assert server.ranges == [None, "bytes=300000-"]


def test_a_changed_file_starts_again(server: WebServer, tmp_path: Path) -> None:
    server.behaviour.cut_after = [300_000]
    with pytest.raises(DownloadCut):
        download(server.url, tmp_path / "p", pauses_s=())
    server.behaviour.body, server.behaviour.etag = BODY[::-1], '"two"'
    assert download(server.url, tmp_path / "p", pauses_s=()).read_bytes() == BODY[::-1]
    assert server.ranges == [None, "bytes=300000-"]


def test_a_server_without_ranges_starts_again(server: WebServer, tmp_path: Path) -> None:
    server.behaviour.cut_after = [300_000]
    server.behaviour.ranges = False
    assert download(server.url, tmp_path / "p", pauses_s=AT_ONCE).read_bytes() == BODY
    assert server.ranges == [None, "bytes=300000-"]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_tag_nothing_is_resumed(
    server: WebServer, tmp_path: Path, etag: str | None
) -> None:
    server.behaviour.cut_after = [300_000]
    server.behaviour.etag = etag
    assert download(server.url, tmp_path / "p", pauses_s=AT_ONCE).read_bytes() == BODY
    assert server.ranges == [None, None]


def test_a_partial_file_that_is_as_long_as_the_file_is_the_file(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.behaviour.cut_after = [len(BODY) - 1]
    with pytest.raises(DownloadCut):
        download(server.url, tmp_path / "p", pauses_s=())
    with open(tmp_path / "p", "ab") as file:
        file.write(BODY[-1:])
    assert download(server.url, tmp_path / "p").read_bytes() == BODY
    assert server.ranges == [None]


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"url": 1, "validator": 2, "total": "x"}'])
def test_a_damaged_note_starts_again(server: WebServer, tmp_path: Path, note: str) -> None:
    (tmp_path / "p").write_bytes(b"rubbish")
    (tmp_path / "p.json").write_text(note)
    assert download(server.url, tmp_path / "p", pauses_s=()).read_bytes() == BODY
    assert server.ranges == [None]


def test_a_cut_in_chunks_is_noticed(server: WebServer, tmp_path: Path) -> None:
    server.behaviour.chunked, server.behaviour.cut_after = True, [300_000]
    with pytest.raises(DownloadCut):
        download(server.url, tmp_path / "p", expected_size=len(BODY), pauses_s=())
    assert (
        download(server.url, tmp_path / "p", expected_size=len(BODY), pauses_s=()).read_bytes()
        == BODY
    )


def test_without_a_length_a_cut_could_not_be_noticed(server: WebServer, tmp_path: Path) -> None:
    server.behaviour.length = False
    with pytest.raises(SourceError, match="does not say how long the file is"):
        download(server.url, tmp_path / "p", pauses_s=())
    server.behaviour.cut_after = [300_000]
    with pytest.raises(DownloadCut):
        download(server.url, tmp_path / "p", expected_size=len(BODY), pauses_s=())


def test_a_file_of_another_size_is_refused_before_it_is_fetched(
    server: WebServer, tmp_path: Path
) -> None:
    with pytest.raises(
        SourceError, match=r"expected a file of 5 bytes, the server's has 1,048,576"
    ):
        download(server.url, tmp_path / "p", expected_size=5, pauses_s=())
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_sends_more_than_it_announced_is_refused(
    server: WebServer, tmp_path: Path
) -> None:
    server.behaviour.chunked = True
    with pytest.raises(SourceError, match="expected 1,000 bytes, the server sends more"):
        download(server.url, tmp_path / "p", expected_size=1000, pauses_s=())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_refusal_is_final(server: WebServer, tmp_path: Path, status: int) -> None:
    server.behaviour.statuses = [status]
    with pytest.raises(SourceError, match=f"answered {status}"):
        download(server.url, tmp_path / "p", pauses_s=AT_ONCE)
    assert len(server.ranges) == 1


def test_a_busy_server_is_asked_again(server: WebServer, tmp_path: Path) -> None:
    server.behaviour.statuses = [503, 429]
    assert download(server.url, tmp_path / "p", pauses_s=AT_ONCE).read_bytes() == BODY
    server.behaviour.statuses = [503, 503, 503]
    with pytest.raises(SourceError, match="no answer in 3 tries: the server answered 503"):
        download(server.url, tmp_path / "q", pauses_s=AT_ONCE)


def test_nobody_there_is_a_source_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(SourceError, match="can not be reached"):
        download(f"http://127.0.0.1:{port}/x", tmp_path / "p", pauses_s=AT_ONCE)


def test_encoded_bytes_are_refused(server: WebServer, tmp_path: Path) -> None:
    server.behaviour.encoding = "gzip"
    with pytest.raises(SourceError, match="encoded as gzip"):
        download(server.url, tmp_path / "p", pauses_s=())


@pytest.mark.parametrize(
    "target", ["file:///etc/hostname", "http://192.0.2.1/x", "ftp://127.0.0.1/x"]
)
def test_a_redirect_to_elsewhere_is_refused(server: WebServer, tmp_path: Path, target: str) -> None:
    server.behaviour.redirect = target
    with pytest.raises(
        SourceError, match=r"(?i)redirect.*(expected an https address|is not allowed)"
    ):
        download(server.url, tmp_path / "p", pauses_s=())


@pytest.mark.parametrize(
    "url", ["http://192.0.2.1/x", "ftp://127.0.0.1/x", "file:///etc/hostname", "https:///x", "x"]
)
def test_other_addresses_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceError, match="expected an https address"):
        download(url, tmp_path / "p")


def test_a_full_disk_leaves_nothing_behind(server: WebServer, tmp_path: Path) -> None:
    """A limit on file sizes makes the kernel refuse a write in the middle."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from wasinn_models.errors import StoreFull\n"
        "from wasinn_models.sources.web import download\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))\n"
        "try:\n"
        "    download(sys.argv[1], Path(sys.argv[2]))\n"
        "except StoreFull as error:\n"
        "    sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, server.url, str(tmp_path / "p")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert "no space left on the device: the file needs 1,048,576 bytes" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_room_is_said_before_the_first_byte(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "free_bytes", lambda folder: 1000)
    with pytest.raises(StoreFull, match=r"1,048,576 bytes, 1,000 bytes are free"):
        download(server.url, tmp_path / "p", pauses_s=())
    assert list(tmp_path.iterdir()) == []


def test_a_killed_download_goes_on(server: WebServer, tmp_path: Path) -> None:
    """Another process dies by SIGKILL in the middle of it; this one fetches the rest only."""
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from wasinn_models.sources.web import download\n"
        "def report(label, done, total):\n"
        "    if done > 500_000: os.kill(os.getpid(), signal.SIGKILL)\n"
        "download(sys.argv[1], Path(sys.argv[2]), progress=report)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script, server.url, str(tmp_path / "p")],
        env=environment,
        timeout=60,
    )
    assert done.returncode == -9
    have = (tmp_path / "p").stat().st_size
    assert 500_000 < have < len(BODY)
    assert download(server.url, tmp_path / "p", pauses_s=()).read_bytes() == BODY
    assert server.ranges == [None, f"bytes={have}-"]


def test_errno_numbers_of_a_full_disk() -> None:
    assert set(atomic.FULL) == {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
