"""The cache of compiled code: it saves time and never changes a result."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import wasmtime

from wasinn_runtime import Config, Engine, Instance, Malformed, Module, Store
from wasinn_runtime.engines.cache import CodeCache, default_cache_dir
from wasinn_runtime.engines.modes import MODES
from wasinn_runtime.spec.features import parse_features

WASM = bytes(
    wasmtime.wat2wasm(
        '(module (func (export "f") (param i32) (result i32)'
        " (i32.mul (local.get 0) (i32.const 3))))"
    )
)


def run(directory: Path, data: bytes = WASM, mode: str = "llvm-jit", **options: object) -> object:
    engine = Engine(Config(mode, cache_dir=directory, **options))  # type: ignore[arg-type]
    return Instance(Store(engine), Module(engine, data)).exports.f(14)


def entries(directory: Path) -> list[Path]:
    return sorted((directory / "code").glob("module-*"))


def test_second_time_comes_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(tmp_path) == 42
    (entry,) = entries(tmp_path)
    assert entry.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "code").stat().st_mode & 0o777 == 0o700

    def compiled(*_: object) -> bytes:
        raise AssertionError("compiled although it was cached")

    monkeypatch.setattr("wasinn_runtime.engines.llvm.to_object", compiled)
    assert run(tmp_path) == 42
    with pytest.raises(AssertionError, match="compiled although"):
        run(tmp_path, opt_level=1)


def test_different_bytes_and_options_are_different_entries(tmp_path: Path) -> None:
    run(tmp_path)
    run(tmp_path, opt_level=1)
    other = WASM + b"\0\x04\x03abc"  # a custom section
    run(tmp_path, other)
    assert len(entries(tmp_path)) == 3


def test_what_is_kept_was_validated_for_the_same_proposals(tmp_path: Path) -> None:
    tail_call = bytes(
        wasmtime.wat2wasm(
            """(module (func $f (param i32) (result i32) (local.get 0))
              (func (export "f") (param i32) (result i32) (return_call $f (local.get 0))))"""
        )
    )
    for mode in MODES:
        assert run(tmp_path, tail_call, mode=mode) == 14
        with pytest.raises(Malformed, match="feature tail-call"):
            run(tmp_path, tail_call, mode=mode, features=parse_features("2.0"))


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "swap", "garbage"])
def test_damage_is_noticed_and_mended(tmp_path: Path, damage: str) -> None:
    run(tmp_path)
    (entry,) = entries(tmp_path)
    good = entry.read_bytes()
    if damage == "truncate":
        entry.write_bytes(good[: len(good) // 2])
    elif damage == "flip":
        entry.write_bytes(good[:-100] + bytes([good[-100] ^ 1]) + good[-99:])
    elif damage == "empty":
        entry.write_bytes(b"")
    elif damage == "swap":  # a sound entry under another name
        run(tmp_path, opt_level=0)
        (other,) = [e for e in entries(tmp_path) if e != entry]
        other.replace(entry)
    else:
        entry.write_bytes(os.urandom(5000))
    assert run(tmp_path) == 42
    assert entry.read_bytes() == good


def test_links_and_open_permissions_are_not_trusted(tmp_path: Path) -> None:
    run(tmp_path)
    (entry,) = entries(tmp_path)
    cache = CodeCache(tmp_path / "code")
    assert cache.get(entry.name) is not None
    entry.chmod(0o666)
    assert cache.get(entry.name) is None
    entry.chmod(0o600)
    elsewhere = tmp_path / "elsewhere"
    entry.rename(elsewhere)
    entry.symlink_to(elsewhere)
    assert cache.get(entry.name) is None
    assert run(tmp_path) == 42


def test_a_cache_that_can_not_be_written_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert run(blocked) == 42
    assert run(Path("/proc/nothing/here")) == 42


def test_old_entries_go_first(tmp_path: Path) -> None:
    cache = CodeCache(tmp_path, max_bytes=1000)
    for i in range(5):
        key = "module-" + f"{i}" * 64
        cache.put(key, bytes(300))
        os.utime(tmp_path / key, (i, i))
    cache.put("module-" + "f" * 64, bytes(300))
    left = sorted(p.name[-1] for p in tmp_path.iterdir())
    assert "f" in left
    assert "0" not in left
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 1000


def test_no_cache(tmp_path: Path) -> None:
    engine = Engine(Config(cache=False, cache_dir=tmp_path))
    assert Instance(Store(engine), Module(engine, WASM)).exports.f(2) == 6
    assert not (tmp_path / "code").exists()


def test_directory_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WASINN_CACHE_DIR", "/somewhere")
    assert default_cache_dir() == Path("/somewhere")
    monkeypatch.delenv("WASINN_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert default_cache_dir() == Path("/cache/wasinn")


def test_many_processes_at_once(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from wasinn_runtime import Config, Engine, Instance, Module, Store
        engine = Engine(Config(cache_dir=Path(sys.argv[1])))
        data = bytes.fromhex("{WASM.hex()}")
        print(Instance(Store(engine), Module(engine, data)).exports.f(14))
        """
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "WASINN_CACHE_DIR": str(tmp_path)},
        )
        for _ in range(8)
    ]
    assert [p.communicate(timeout=120)[0].strip() for p in running] == ["42"] * 8
    assert not [p for p in (tmp_path / "code").iterdir() if p.name.startswith(".new-")]


def test_only_our_own_files_are_removed(tmp_path: Path) -> None:
    cache = CodeCache(tmp_path, max_bytes=10)
    (tmp_path / "thesis.tex").write_bytes(b"x" * 100)
    cache.put(CodeCache.key("module", b"1"), b"1" * 100)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "WASINN_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 7)
    directory = default_cache_dir()
    cache = CodeCache(directory)
    key = CodeCache.key("module", b"1")
    cache.put(key, b"1")
    assert cache.get(key) is None
    assert not directory.exists()
