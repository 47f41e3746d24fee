"""The machine around the command: streams, directories, caches, disks, networks and plugins."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.command_line import FIB, HELLO, SOURCES, Wasinn, Wat
from tests.models.web_server import Behaviour, WebServer

CHATTY = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00")
  (data (i32.const 16) "line!\\n")
  (func (export "write") (result i32)
    (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
  (func (export "read") (result i32)
    (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
  (func (export "_start") (loop
    (br_if 0 (i32.eqz (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))))"""


# --- streams --------------------------------------------------------------------------------------


def test_a_reader_that_leaves(wasinn: Wasinn, wat: Wat) -> None:
    """As of any program: the first line is read, then SIGPIPE; nothing on standard error."""
    ran = wasinn.shell(f"wasinn {wat(CHATTY)} | head -n 1; exit ${{PIPESTATUS[0]}}")
    assert (ran.status, ran.out, ran.err) == (128 + signal.SIGPIPE, "line!\n", "")


@pytest.mark.parametrize(
    ("redirection", "function", "status", "out"),
    [
        ("0<&-", "read", 0, "8\n"),  # BADF
        ("0</dev/null", "read", 0, "0\n"),
        ("1>&-", "write", 125, ""),
        ("1>/dev/full", "write", 125, ""),
    ],
)
def test_streams_that_do_not_work(
    wasinn: Wasinn, wat: Wat, redirection: str, function: str, status: int, out: str
) -> None:
    ran = wasinn.shell(f"wasinn run --invoke {function} {wat(CHATTY)} {redirection}")
    assert (ran.status, ran.out) == (status, out), ran
    if status:
        assert ran.err.startswith("wasinn: ")
        assert "internal error" not in ran.err


@pytest.mark.parametrize("closed", ["0<&- 1>&- 2>&-", "2>&-", "2>/dev/full", "1>&- 2>/dev/full"])
@pytest.mark.parametrize("words", [HELLO, "no-such.wasm", "doctor", "inspect " + HELLO])
def test_the_status_needs_no_streams(wasinn: Wasinn, closed: str, words: str) -> None:
    ran = wasinn.shell(f"wasinn {words} {closed}")
    assert ran.status in (0, 1, 125), ran
    assert (ran.status == 125) >= (words == "no-such.wasm")
    assert ran.err == ""


# --- directories ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/nonexistent", "No such file"),
        (HELLO, "Not a directory"),
        (HELLO + "/below", "Not a directory"),
        ("/proc/self/mem", "Not a directory"),
        ("/dev/null", "Not a directory"),
        ("/proc/1/task/0", "No such file"),
        ("d" * 5000, "File name too long"),
        ("d/" * 3000, "File name too long"),
    ],
)
def test_directories_that_can_not_be_given(wasinn: Wasinn, path: str, why: str) -> None:
    ran = wasinn("run", "--dir", f"{path}::/data", HELLO)
    assert (ran.status, ran.out) == (125, "")
    assert ran.err.startswith("wasinn: ")
    assert why in ran.err


def test_a_loop_of_links(wasinn: Wasinn, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    ran = wasinn("run", "--dir", tmp_path / "a", HELLO)
    assert (ran.status, ran.out) == (125, "")
    assert os.strerror(errno.ELOOP) in ran.err


def test_odd_files_below_a_directory(wasinn: Wasinn, tmp_path: Path) -> None:
    """A guest that reads a pipe, a device's link or a directory as a file is told, not stuck."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "outside").symlink_to("/etc/hostname")
    (tmp_path / "dead").symlink_to("nowhere")
    for name in ("folder", "outside", "dead", "absent", "../" * 20 + "etc/hostname"):
        ran = wasinn(
            "run", "--timeout", "20", "--dir", f"{tmp_path}::/d", HELLO, "--read", f"/d/{name}"
        )
        assert ran.status == 1, (name, ran)
        assert ran.err.startswith("hello: ")
    ran = wasinn("run", "--timeout", "1", "--dir", f"{tmp_path}::/d", HELLO, "--read", "/d/pipe")
    assert ran.status in (1, 124), ran


# --- the cache of compiled code -------------------------------------------------------------------


def _entries(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "code").iterdir() if not path.name.startswith("."))


def test_damaged_code_is_made_anew(wasinn: Wasinn, tmp_path: Path) -> None:
    env = {"WASINN_CACHE_DIR": str(tmp_path)}
    words = ("run", "--invoke", "run", FIB, "10")
    good = wasinn(*words, env=env)
    assert (good.status, good.err) == (0, "")
    rng = random.Random(1)
    whole = {path: path.read_bytes() for path in _entries(tmp_path)}
    assert len(whole) >= 3  # the core, the trampolines, the module

    def flipped(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(changed)

    kinds: list[Callable[[bytes], bytes]] = [
        *[flipped] * 4,
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data + b"x",
        lambda data: rng.randbytes(len(data)),
        lambda data: next(iter(whole.values())),
    ]
    for damage in kinds:
        for path, data in whole.items():
            path.write_bytes(damage(data))
        ran = wasinn(*words, env=env)
        assert (ran.status, ran.out) == (0, good.out), ran
        assert {path: path.read_bytes() for path in whole} == whole


def test_code_cache_in_odd_places(wasinn: Wasinn, tmp_path: Path) -> None:
    words = ("run", "--invoke", "run", FIB, "10")
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "code").symlink_to(tmp_path / "nowhere")
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "code").write_text("in the way")
    for place in (
        tmp_path / "file",
        tmp_path / "file" / "below",
        tmp_path,
        tmp_path / "open",
        Path("/proc/nowhere"),
        Path("/dev/full"),
        tmp_path / ("n" * 300),
    ):
        ran = wasinn(*words, env={"WASINN_CACHE_DIR": str(place)})
        assert (ran.status, ran.out) == (0, "55\n"), (place, ran)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 192 KiB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _fill(path: Path) -> None:
    """Writes until nothing fits any more."""
    try:
        with open(path, "wb", buffering=0) as file:
            while file.write(bytes(4096)):
                continue
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


def test_full_and_read_only_disk_under_the_code_cache(wasinn: Wasinn, disk: Path) -> None:
    words = ("run", "--invoke", "run", FIB, "10")
    env = {"WASINN_CACHE_DIR": str(disk)}
    _fill(disk / "filler")
    ran = wasinn(*words, env=env)
    assert (ran.status, ran.out) == (0, "55\n"), ran
    assert list(disk.rglob(".new-*")) == []
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    ran = wasinn(*words, env=env)
    assert (ran.status, ran.out) == (0, "55\n"), ran


# --- models ---------------------------------------------------------------------------------------

SMALL_BERT = """
name = "small"
encoding = "onnx"
licence = "Apache-2.0"
source = "random"
description = "an encoder that is larger than the disk"
default = "float32"

[build]
seed = 7
config = { vocab_size = 9000, hidden_size = 12, num_hidden_layers = 1, intermediate_size = 8 }

[variants.float32]
head = "embedding"
precision = "float32"
"""


def _files(folder: Path) -> list[str]:
    """Files of a size in a store, but for locks and the catalogue."""
    return [str(p) for p in folder.rglob("*") if p.is_file() and p.suffix in (".onnx", ".part")]


def test_full_disk_while_a_model_is_built(wasinn: Wasinn, disk: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "small.toml"
    manifest.write_text(SMALL_BERT)
    env = {"WASINN_CACHE_DIR": str(disk)}
    assert wasinn("models", "add", manifest, env=env).status == 0
    for words in (("models", "build", "small"), ("run", "--nn-preload", "small", HELLO)):
        ran = wasinn(*words, env=env)
        assert (ran.status, ran.out) == (125, ""), ran
        assert "no space left on the device" in ran.err
        assert "WASINN_CACHE_DIR" in ran.err
        assert _files(disk) == []
    assert wasinn("models", "list", env=env).status == 0


def test_download_that_is_cut_off(wasinn: Wasinn, tmp_path: Path) -> None:
    """Every attempt ends half-way; then it works, and what was there is used."""
    content = random.Random(5).randbytes(300_000)
    digest = hashlib.sha256(content).hexdigest()
    env = {"WASINN_CACHE_DIR": str(tmp_path / "cache")}
    words = ("models", "add", "--name", "mine", "--encoding", "onnx", "--sha256", digest)
    with WebServer(Behaviour(content, cut_after=[50_000] * 20, etag=None, ranges=False)) as server:
        ran = wasinn(*words, server.url, env=env)
        assert (ran.status, ran.out) == (125, ""), ran
        assert server.url in ran.err
        assert "internal error" not in ran.err
        assert "mine" not in wasinn("models", "list", env=env).out
        asked = len(server.ranges)
        assert 1 < asked < 20
        server.behaviour.cut_after.clear()
        assert wasinn(*words, server.url, env=env).status == 0
        assert len(server.ranges) == asked + 1
    path = wasinn("models", "path", "mine", env=env).out.strip()
    assert Path(path).read_bytes() == content


def test_download_of_something_else(wasinn: Wasinn, tmp_path: Path) -> None:
    env = {"WASINN_CACHE_DIR": str(tmp_path / "cache")}
    with WebServer(Behaviour(b"not the model")) as server:
        ran = wasinn("models", "add", "--name", "m", "--sha256", "00" * 32, server.url, env=env)
        assert (ran.status, ran.out) == (125, "")
        assert f"expected SHA-256 {'00' * 32}, got" in ran.err
        server.behaviour.statuses.extend([404] * 10)
        ran = wasinn("models", "add", "--name", "m", server.url, env=env)
        assert (ran.status, ran.out) == (125, "")
        assert "404" in ran.err
    ran = wasinn("models", "add", "--name", "m", server.url, env=env)
    assert (ran.status, ran.out) == (125, "")
    assert _files(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08",
        b"\x08\x09" + b"\xff" * 100,
        b"not a model at all",
        b"\x00asm\x01\x00\x00\x00",
        b"GGUF\x03\x00\x00\x00",
        b"\x80\x04\x95" + bytes(50),
        b"PK\x03\x04" + bytes(50),
        b"\x3a\xff\xff\xff\xff\x0f",
    ],
)
def test_wrong_model_file(wasinn: Wasinn, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    ran = wasinn("run", "--nn-preload", f"m:onnx:cpu:{path}", HELLO)
    assert (ran.status, ran.out) == (125, ""), ran
    assert f"wasinn: --nn-preload 'm:onnx:cpu:{path}': " in ran.err
    assert "internal error" not in ran.err


# --- plugins --------------------------------------------------------------------------------------

PLUGINS = {
    "raises": "raise RuntimeError('no accelerator\\x1b[31m here')",
    "exits": "import sys; sys.exit(9)",
    "syntax": "def broken(:",
    "missing": "import a_library_that_nobody_has",
    "prints": "print('noise on standard output'); raise ImportError('and then this')",
    "nothing": "",
    "function": "def Plugin(*_): return 3",
}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed distributions, one for each broken plugin."""
    folder = tmp_path / "site"
    for name, source in PLUGINS.items():
        info = folder / f"acme_{name}-1.5.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: acme-{name}\nVersion: 1.5\n", "utf-8"
        )
        (info / "entry_points.txt").write_text(
            f"[wasinn.backends]\n{name} = acme_{name}:Plugin\n", "utf-8"
        )
        (folder / f"acme_{name}.py").write_text(source, "utf-8")
    return folder


def test_broken_plugins_are_listed_with_the_reason(wasinn: Wasinn, site: Path) -> None:
    env = {"PYTHONPATH": os.pathsep.join([*SOURCES, str(site)])}
    ran = wasinn("backends", "--json", env=env)
    assert ran.status == 0
    reports = {row["name"]: row for row in json.loads(ran.out)["backends"]}
    for name in PLUGINS:
        assert reports[name]["error"], name
        assert (reports[name]["distribution"], reports[name]["version"]) == (f"acme-{name}", "1.5")
    assert "no accelerator" in reports["raises"]["error"]
    assert "a_library_that_nobody_has" in reports["missing"]["error"]
    listed = wasinn("backends", env=env)
    assert listed.status == 0
    assert "\x1b" not in listed.out + listed.err
    assert listed.out.count(": broken, from acme-") == len(PLUGINS)


def test_broken_plugins_harm_nothing_else(wasinn: Wasinn, site: Path, tmp_path: Path) -> None:
    env = {"PYTHONPATH": os.pathsep.join([*SOURCES, str(site)])}
    ran = wasinn("run", HELLO, "x", env=env)
    assert (ran.status, ran.out, ran.err) == (0, "Hello from WebAssembly\nargument: x\n", "")
    ran = wasinn("run", "--nn-backend", "onnx=raises", HELLO, env=env)
    assert (ran.status, ran.out) == (125, "")
    assert "no accelerator" in ran.err
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    ran = wasinn("run", "--nn-preload", f"m:unheard:cpu:{path}", HELLO, env=env)
    assert (ran.status, ran.out) == (125, "")
    assert "unheard" in ran.err
    assert "internal error" not in ran.err
