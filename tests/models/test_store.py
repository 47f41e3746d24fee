"""The store: whole files or none, verified, shared by processes, clear about a full disk."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest

from wasinn_models import Manifest, ModelStore
from wasinn_models.atomic import TEMPORARY_PREFIX, file_lock, write_whole
from wasinn_models.errors import (
    ChecksumMismatch,
    ManifestError,
    SourceError,
    StoreError,
    StoreFull,
    UnknownModel,
)
from wasinn_models.store import default_directory

SMALL_BERT = """
name = "small"
encoding = "onnx"
licence = "Apache-2.0"
source = "random"
description = "a small encoder"
default = "float32"

[build]
seed = 7
config = { vocab_size = 20, hidden_size = 12, num_hidden_layers = 1, intermediate_size = 8 }

[variants.float32]
head = "embedding"
precision = "float32"

[variants.int8]
head = "pooled"
precision = "int8"
"""


def two_files(folder: Path, store: ModelStore) -> Manifest:
    """Adds an entry of two local files and returns its manifest."""
    rows = []
    for name, content in (("model.onnx", b"\x08model" * 100), ("extra/words.txt", b"a\nb\n")):
        path = folder / "origin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        rows.append(
            f'[[files]]\nname = "{name}"\nsource = "file:{path}"\n'
            f'sha256 = "{hashlib.sha256(content).hexdigest()}"\nsize = {len(content)}\n'
        )
    manifest = Manifest.from_toml(
        'name = "pair"\nencoding = "onnx"\nlicence = "MIT"\nsource = "random"\n'
        'description = "two files"\ndefault = "default"\n'
        + "".join(rows)
        + '[variants.default]\nfiles = ["model.onnx"]\n',
        "test",
    )
    store.catalogue.add(manifest)
    return manifest


def leftovers(store: ModelStore) -> list[str]:
    """Temporary files that stand anywhere in the store."""
    return [str(path) for path in store.directory.rglob(f"{TEMPORARY_PREFIX}*")]


def flip(path: Path, offset: int = 10) -> None:
    """Changes one byte of a file and leaves its size and times."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_files_are_fetched_once_and_verified(tmp_path: Path, store: ModelStore) -> None:
    manifest = two_files(tmp_path, store)
    model = store.resolve("pair")
    assert model.path == store.directory / "pair" / "files" / "model.onnx"
    assert model.path.read_bytes() == (tmp_path / "origin" / "model.onnx").read_bytes()
    assert model.file("extra/words.txt").read_bytes() == b"a\nb\n"
    assert (model.name, model.variant, model.encoding) == ("pair", "default", "onnx")
    shutil.rmtree(tmp_path / "origin")
    assert store.resolve("pair:default") == model
    assert store.stored_bytes("pair") == sum(file.size for file in manifest.files)
    assert leftovers(store) == []


def test_a_wrong_file_is_not_stored(tmp_path: Path, store: ModelStore) -> None:
    manifest = two_files(tmp_path, store)
    flip(tmp_path / "origin" / "model.onnx")
    with pytest.raises(ChecksumMismatch, match=manifest.files[0].sha256) as caught:
        store.resolve("pair")
    assert "nothing was stored" in str(caught.value)
    assert not (store.directory / "pair" / "files" / "model.onnx").exists()
    assert leftovers(store) == []


def test_what_was_fetched_before_a_failure_is_kept(tmp_path: Path, store: ModelStore) -> None:
    two_files(tmp_path, store)
    words = tmp_path / "origin" / "extra" / "words.txt"
    words.unlink()
    with pytest.raises(SourceError, match=r"words\.txt: it can not be read: No such file"):
        store.resolve("pair")
    words.write_bytes(b"a\nb\n")
    (tmp_path / "origin" / "model.onnx").unlink()
    assert store.resolve("pair").path.stat().st_size == 600


def test_a_touched_file_is_hashed_again(tmp_path: Path, store: ModelStore) -> None:
    two_files(tmp_path, store)
    path = store.resolve("pair").path
    os.utime(path)
    assert store.resolve("pair").path == path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ChecksumMismatch, match="run `wasinn models check --repair pair`"):
        store.resolve("pair")


@pytest.mark.parametrize("kind", ["flipped", "shorter", "longer", "empty", "link", "folder"])
def test_check_finds_damage_and_repair_mends_it(
    tmp_path: Path, store: ModelStore, kind: str
) -> None:
    two_files(tmp_path, store)
    path = store.resolve("pair").path
    whole = path.read_bytes()
    match kind:
        case "flipped":
            flip(path)
        case "shorter":
            path.write_bytes(whole[:-1])
        case "longer":
            path.write_bytes(whole + b"x")
        case "empty":
            path.write_bytes(b"")
        case "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        case "folder":
            path.unlink()
            path.mkdir()
    rows = {row.file: row for row in store.check("pair")}
    assert rows["files/model.onnx"].status == "damaged"
    assert rows["files/model.onnx"].detail
    assert rows["files/extra/words.txt"].status == "ok"
    assert [row.status for row in store.check("pair", repair=True)] == ["damaged", "ok"]
    assert [row.status for row in store.check("pair")] == ["absent", "ok"]
    assert store.resolve("pair").path.read_bytes() == whole
    assert not path.is_symlink()


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b'{"form": 2}', b'{"form": 1, "files": 3}'])
def test_a_damaged_record_is_made_anew(tmp_path: Path, store: ModelStore, record: bytes) -> None:
    two_files(tmp_path, store)
    store.resolve("pair")
    shutil.rmtree(tmp_path / "origin")
    (store.directory / "pair" / "stored.json").write_bytes(record)
    assert store.resolve("pair").path.stat().st_size == 600
    assert {row.status for row in store.check("pair")} == {"ok"}


def test_an_entry_that_changed_is_fetched_again(tmp_path: Path, store: ModelStore) -> None:
    two_files(tmp_path, store)
    store.resolve("pair")
    (tmp_path / "origin" / "model.onnx").write_bytes(b"\x08another" * 100)
    (store.directory / ".catalogue" / "pair.toml").unlink()
    content = b"\x08another" * 100
    text = two_files(tmp_path / "second", store).to_toml()
    old = Manifest.from_toml(text, "test").files[0]
    text = text.replace(old.sha256, hashlib.sha256(content).hexdigest())
    text = text.replace(f"size = {old.size}", f"size = {len(content)}")
    (store.directory / ".catalogue" / "pair.toml").write_text(text)
    (tmp_path / "second" / "origin" / "model.onnx").write_bytes(content)
    assert store.resolve("pair").path.read_bytes() == content


def test_variants_are_built_once(store: ModelStore) -> None:
    store.catalogue.add(Manifest.from_toml(SMALL_BERT, "test"))
    notices: list[str] = []
    store.notice = notices.append
    model = store.resolve("small")
    first = model.path.stat()
    assert store.resolve("small").path.stat() == first
    assert notices == ["building small:float32"]
    onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    pooled = store.resolve("small:int8")
    session = onnxruntime.InferenceSession(pooled.path, providers=["CPUExecutionProvider"])
    assert session.get_outputs()[0].name == "sentence_embedding"
    content = model.path.read_bytes()
    assert store.build("small", force=True).path.read_bytes() == content
    assert model.path.stat().st_mtime_ns != first.st_mtime_ns
    assert leftovers(store) == []


def test_a_changed_recipe_builds_again(store: ModelStore) -> None:
    store.catalogue.add(Manifest.from_toml(SMALL_BERT, "test"))
    before = store.resolve("small").path.read_bytes()
    store.catalogue.add(
        Manifest.from_toml(SMALL_BERT.replace("seed = 7", "seed = 8"), "test"), replace=True
    )
    assert store.resolve("small").path.read_bytes() != before


def test_damage_to_a_built_file_is_found_and_mended(store: ModelStore) -> None:
    store.catalogue.add(Manifest.from_toml(SMALL_BERT, "test"))
    path = store.resolve("small").path
    content = path.read_bytes()
    path.write_bytes(content[:-3])
    with pytest.raises(ChecksumMismatch, match="check --repair small"):
        store.resolve("small")
    rows = {row.file: row.status for row in store.check("small", repair=True)}
    assert rows == {"built/float32.onnx": "damaged", "built/int8.onnx": "absent"}
    assert store.resolve("small").path.read_bytes() == content


def test_unknown_names_show_what_there_is(store: ModelStore) -> None:
    with pytest.raises(UnknownModel, match=r"did you mean minilm\? There are: bert-base-random, "):
        store.resolve("minlm")
    with pytest.raises(UnknownModel, match="no variant 'int4'; did you mean int8"):
        store.resolve("minilm:int4")
    with pytest.raises(UnknownModel, match=r"no model '\.\./x'"):
        store.resolve("../x")
    assert not store.directory.exists()


def test_a_full_disk_while_a_model_is_written(
    tmp_path: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on file sizes makes the kernel refuse a write in the middle, in a real process."""
    two_files(tmp_path, store)
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from wasinn_models import ModelStore\n"
        "from wasinn_models.errors import StoreFull\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (256, 256))\n"
        "try:\n"
        "    ModelStore(sys.argv[1]).resolve('pair')\n"
        "except StoreFull as error:\n"
        "    sys.exit(str(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(store.directory)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "no space left on the device: the file needs 600 bytes" in done.stderr
    assert str(store.directory / "pair") in done.stderr
    assert "WASINN_CACHE_DIR" in done.stderr
    assert leftovers(store) == []
    assert store.resolve("pair").path.stat().st_size == 600


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full(tmp_path: Path, tiny_disk: Path) -> None:
    store = ModelStore(tiny_disk / "store")
    manifest = two_files(tmp_path, store)
    (tiny_disk / "filler").write_bytes(b"x" * 100_000)
    big = tmp_path / "origin" / "model.onnx"
    big.write_bytes(b"\x08" * 300_000)
    text = manifest.to_toml().replace("size = 600", "size = 300000")
    text = text.replace(manifest.files[0].sha256, hashlib.sha256(big.read_bytes()).hexdigest())
    store.catalogue.add(Manifest.from_toml(text, "test"), replace=True)
    with pytest.raises(StoreFull, match=r"needs 300,000 bytes, [\d,]+ bytes are free") as caught:
        store.resolve("pair")
    assert caught.value.needed == 300_000
    assert leftovers(store) == []


def test_a_disk_that_fills_up_meanwhile(tiny_disk: Path) -> None:
    target = tiny_disk / "model.onnx"

    def write() -> None:
        with write_whole(target) as file:
            for _ in range(100):
                file.write(b"x" * 10_000)

    with pytest.raises(StoreFull, match=r"no space left on the device"):
        write()
    assert list(tiny_disk.iterdir()) == []


def test_a_full_disk_while_int8_is_built(tmp_path: Path, tiny_disk: Path) -> None:
    store = ModelStore(tiny_disk / "store")
    wide = SMALL_BERT.replace("vocab_size = 20", "vocab_size = 3000")
    store.catalogue.add(Manifest.from_toml(wide, "test"))
    (tiny_disk / "filler").write_bytes(b"x" * 100_000)
    for name in ("small", "small:int8"):
        with pytest.raises(StoreFull, match=r"no space left"):
            store.resolve(name)
    assert leftovers(store) == []
    (tiny_disk / "filler").unlink()
    assert store.resolve("small").path.stat().st_size > 144_000


def test_a_store_that_can_not_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = ModelStore(tmp_path / "file")
    with pytest.raises(StoreError, match=r"choose another one with WASINN_CACHE_DIR"):
        store.resolve("minilm")


def test_a_killed_writer_leaves_nothing_that_counts(tmp_path: Path, store: ModelStore) -> None:
    two_files(tmp_path, store)
    target = store.directory / "pair" / "files" / "model.onnx"
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from wasinn_models.atomic import write_whole\n"
        "with write_whole(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(target)]
    assert subprocess.run(command, env=environment, timeout=60).returncode == -9
    assert not target.exists()
    assert len(leftovers(store)) == 1
    store.resolve("pair")
    assert leftovers(store) == []


def resolve_slowly(directory: str, queue: multiprocessing.Queue[tuple[str, list[str]]]) -> None:
    """What each of several processes does at the same time."""
    notices: list[str] = []
    store = ModelStore(directory, notice=notices.append)
    model = store.resolve("small:int8")
    queue.put((hashlib.sha256(model.path.read_bytes()).hexdigest(), notices))


def test_processes_at_once_build_once(store: ModelStore) -> None:
    store.catalogue.add(Manifest.from_toml(SMALL_BERT, "test"))
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[tuple[str, list[str]]] = context.Queue()
    with store.locked("small"):
        children = [
            context.Process(target=resolve_slowly, args=(str(store.directory), queue))
            for _ in range(3)
        ]
        for child in children:
            child.start()
        # Until all of them wait for the lock, or have had time to.
        time.sleep(2)
    results = [queue.get(timeout=120) for _ in children]
    for child in children:
        child.join(timeout=60)
        assert child.exitcode == 0
    assert len({digest for digest, _ in results}) == 1
    notices = [text for _, texts in results for text in texts]
    assert notices.count("building small:int8") == 1
    assert {row.status for row in store.check("small")} == {"ok", "absent"}
    assert leftovers(store) == []


def test_a_lock_waits_and_says_so(tmp_path: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from wasinn_models.atomic import file_lock\n"
        "with file_lock(Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(1)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    path = tmp_path / "locks" / "a"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], env=environment, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        waits: list[float] = []
        with file_lock(path, lambda: waits.append(time.monotonic())):
            assert len(waits) == 1
            assert time.monotonic() - waits[0] > 0.2


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WASINN_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/b"}, "/a/models"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/wasinn/models"),
        ({"XDG_CACHE_HOME": "relative"}, "~/.cache/wasinn/models"),
        ({"WASINN_CACHE_DIR": "", "XDG_CACHE_HOME": ""}, "~/.cache/wasinn/models"),
    ],
)
def test_where_the_store_is(environment: dict[str, str], expected: str) -> None:
    assert default_directory(environment) == Path(expected).expanduser()


def test_a_shipped_name_can_not_be_taken(store: ModelStore) -> None:
    text = SMALL_BERT.replace('"small"', '"minilm"')
    with pytest.raises(ManifestError, match="an entry of that name comes with the package"):
        store.catalogue.add(Manifest.from_toml(text, "test"))
