"""What interpreted functions were rewritten to is kept: it saves time and changes no result."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from array import array
from pathlib import Path

import pytest
import wasmtime

from wasinn_runtime import (
    Config,
    Engine,
    Func,
    FuncType,
    Instance,
    Malformed,
    Module,
    Store,
    ValType,
)
from wasinn_runtime.abi.layout import CodeEntry
from wasinn_runtime.engines.cache import CodeCache
from wasinn_runtime.engines.kept import KeptCode
from wasinn_runtime.engines.tiered import Tiered
from wasinn_runtime.lower.fast_placed import WrittenCode

MODES = ("fast-interp", "auto")
# Every kind of word that depends on the process or the module: handlers with and without vectors,
# calls of functions, imports, tables and tails, jump tables, constants that look like addresses.
WASM = bytes(
    wasmtime.wat2wasm(
        """(module
          (import "env" "twice" (func $twice (param i32) (result i32)))
          (type $unary (func (param i32) (result i32)))
          (table funcref (elem $fib $twice))
          (memory 1)
          (global $calls (mut i64) (i64.const 0))
          (func $fib (param i32) (result i32)
            (global.set $calls (i64.add (global.get $calls) (i64.const 1)))
            (if (result i32) (i32.lt_u (local.get 0) (i32.const 2))
              (then (local.get 0))
              (else (i32.add
                (call $fib (i32.sub (local.get 0) (i32.const 1)))
                (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
          (func $switch (param i32) (result i64)
            (block $c (block $b (block $a
              (br_table $a $b $c (local.get 0)))
              (return (i64.const 0x7f0000000040)))
              (return (i64.const -1)))
            (global.get $calls))
          (func $vector (param i32) (result i32)
            (i32x4.extract_lane 2 (i32x4.mul
              (i32x4.splat (local.get 0)) (v128.const i32x4 1 2 3 4))))
          (func $tail (param i32) (result i32) (return_call $twice (local.get 0)))
          (func (export "f") (param i32) (result i32 i32 i32 i64 i32)
            (call_indirect (type $unary) (local.get 0) (i32.const 0))
            (call_indirect (type $unary) (local.get 0) (i32.const 1))
            (call $vector (local.get 0))
            (call $switch (i32.and (local.get 0) (i32.const 3)))
            (call $tail (local.get 0))))"""
    )
)
_SOUND = wasmtime.wat2wasm('(module (func (export "f") (param i32) (i32.clz (local.get 0)) drop))')
BROKEN = bytes(_SOUND).replace(b"\x67\x1a", b"\xff\x1a")


@pytest.fixture(autouse=True)
def everything_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wasinn_runtime.engines.kept._WORTH_S", 0.0)


def load(directory: Path | None, mode: str, data: bytes = WASM) -> Module:
    return Module(Engine(Config(mode=mode, cache_dir=directory)), data)


def results(module: Module) -> list[object]:
    found: list[object] = []
    for n in range(8):
        store = Store(module.engine)
        twice = Func(store, FuncType((ValType.I32,), (ValType.I32,)), lambda x: 2 * x)
        found.append(Instance(store, module, [twice]).exports.f(n))
    return found


def entry(directory: Path) -> Path:
    (found,) = (directory / "code").glob("fast-code-*")
    return found


@pytest.mark.parametrize("mode", MODES)
def test_the_next_run_rewrites_nothing(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(tmp_path, mode)
    expected = results(first)
    first.keep()

    def rewritten(*_: object) -> object:
        raise AssertionError("rewritten although it was kept")

    monkeypatch.setattr("wasinn_runtime.lower.fast_write.fast_code", rewritten)
    second = load(tmp_path, mode)
    assert results(second) == expected
    before = entry(tmp_path).stat().st_ino
    second.keep()
    assert entry(tmp_path).stat().st_ino == before


def test_another_process_finds_it() -> None:
    # In the user's cache, where the interpreter is.
    module = load(None, "fast-interp")
    expected = results(module)
    module.keep()
    script = (
        "import sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from test_kept_code import load, results\n"
        "from wasinn_runtime.lower import fast_write\n"
        "del fast_write.fast_code\n"
        "print(results(load(None, 'fast-interp')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == str(expected), done.stderr


def test_runs_that_need_other_functions_add_theirs(tmp_path: Path) -> None:
    wasm = bytes(
        wasmtime.wat2wasm(
            '(module (func (export "a") (result i32) (i32.const 1))'
            '(func (export "b") (result i32) (i32.const 2)))'
        )
    )
    sizes = []
    for name, expected in (("a", 1), ("b", 2)):
        module = load(tmp_path, "auto", wasm)
        assert Instance(Store(module.engine), module, []).exports[name]() == expected  # type: ignore[operator]
        module.keep()
        sizes.append(entry(tmp_path).stat().st_size)
    assert sizes[0] < sizes[1]
    module = load(tmp_path, "auto", wasm)
    exports = Instance(Store(module.engine), module, []).exports
    assert (exports.a(), exports.b()) == (1, 2)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "garbage"])
def test_damage_is_noticed_and_mended(tmp_path: Path, damage: str) -> None:
    module = load(tmp_path, "auto")
    expected = results(module)
    module.keep()
    path = entry(tmp_path)
    good = path.read_bytes()
    damaged = {
        "truncate": good[: len(good) // 2],
        "flip": good[:200] + bytes([good[200] ^ 1]) + good[201:],
        "empty": b"",
        "garbage": os.urandom(5000),
    }
    path.write_bytes(damaged[damage])
    module = load(tmp_path, "auto")
    assert results(module) == expected
    module.keep()
    assert path.stat().st_size == len(good)
    assert results(load(tmp_path, "auto")) == expected


def test_a_cache_that_takes_nothing_costs_time_only(tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("no directory")
    expected = results(load(tmp_path, "auto"))
    module = load(occupied, "auto")
    assert results(module) == expected
    module.keep()
    assert occupied.read_text() == "no directory"


def test_the_other_mode_and_other_bytes_have_entries_of_their_own(tmp_path: Path) -> None:
    for mode, data in (("auto", WASM), ("fast-interp", WASM), ("auto", WASM + b"\0\x04\x03abc")):
        module = load(tmp_path, mode, data)
        results(module)
        module.keep()
    assert len([*(tmp_path / "code").glob("fast-code-*")]) == 3


def test_what_is_invalid_is_never_kept(tmp_path: Path) -> None:
    for _ in range(2):
        module = load(tmp_path, "auto", BROKEN)
        with pytest.raises(Malformed, match="illegal opcode"):
            Instance(Store(module.engine), module, []).exports.f(1)
        module.keep()


def test_a_module_can_become_too_large_to_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wasinn_runtime.engines.kept._MOST_BYTES", 1000)
    cache = CodeCache(tmp_path)
    kept = KeptCode(cache, "", b"digest")
    codes = {i: WrittenCode(array("q", [i] * 20), array("I", [i]), array("I")) for i in range(9)}
    for index, code in codes.items():
        kept.add(index, code, 1.0)
    kept.save()
    again = KeptCode(cache, "", b"digest")
    assert [again.get(i) for i in codes] == [*[codes[i] for i in range(5)], *[None] * 4]


def test_little_work_is_not_worth_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wasinn_runtime.engines.kept._WORTH_S", 1.0)
    kept = KeptCode(CodeCache(tmp_path), "", b"digest")
    kept.add(0, WrittenCode(array("q", [1]), array("I"), array("I")), 0.9)
    kept.save()
    assert not [*tmp_path.iterdir()]
    kept.add(1, WrittenCode(array("q", [1]), array("I"), array("I")), 0.2)
    kept.save()
    assert len([*tmp_path.iterdir()]) == 1


HOT = bytes(
    wasmtime.wat2wasm(
        """(module (func (export "sum") (param i64) (result i64) (local i64)
          (loop $again
            (local.set 1 (i64.add (local.get 1) (local.get 0)))
            (br_if $again (i32.eqz (i64.eqz
              (local.tee 0 (i64.sub (local.get 0) (i64.const 1)))))))
          (local.get 1)))"""
    )
)


def until_compiled(module: Module) -> None:
    """Call its function until compiled code runs it."""
    code = module.code
    assert isinstance(code, Tiered)
    exports = Instance(Store(module.engine), module, []).exports
    end = time.monotonic() + 60
    compiled = module.engine.trampolines(module.parsed.func_type(0)).enter
    while code.entries.get(0, CodeEntry.ARRAY) != compiled:
        assert exports.sum(20_000) == 200_010_000
        assert time.monotonic() < end
    assert exports.sum(20_000) == 200_010_000


def test_compiled_code_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    until_compiled(load(tmp_path, "auto", HOT))
    end = time.monotonic() + 60
    while not [*(tmp_path / "code").glob("hot-*")]:
        assert time.monotonic() < end
        time.sleep(0.01)

    def started(_: str) -> object:
        raise OSError("a compiling process although all was kept")

    monkeypatch.setattr("wasinn_runtime.engines.background.start", started)
    until_compiled(load(tmp_path, "auto", HOT))


def test_damaged_compiled_code_is_compiled_again(tmp_path: Path) -> None:
    until_compiled(load(tmp_path, "auto", HOT))
    end = time.monotonic() + 60
    while not (kept := [*(tmp_path / "code").glob("hot-*")]):
        assert time.monotonic() < end
        time.sleep(0.01)
    for path in kept:
        path.write_bytes(path.read_bytes()[:-1])
    until_compiled(load(tmp_path, "auto", HOT))
