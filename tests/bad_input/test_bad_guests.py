"""Valid modules that mean harm, through the real command: loops, depth, growth, names, imports."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.binary.wasm_bytes import HEADER, I32, body, custom, func_type, name, section, u32, vec
from tests.cli.command_line import Wasinn, Wat

EVIL = "\\1b]0;owned\\07\\1b[2J\\0a\\0dnext"
LOOPS = {
    "command": '(func (export "_start") (loop (br 0)))',
    "start function": '(func $s (loop (br 0))) (start $s) (func (export "_start"))',
    "reactor": '(func (export "_initialize") (loop (br 0))) (func (export "run"))',
    "with calls": '(func $f) (func (export "_start") (loop (call $f) (br 0)))',
    "mutual": """(func $a (result i32) (loop (br_if 0 (i32.eqz (i32.const 0)))) (i32.const 1))
      (func (export "_start") (drop (call $a)))""",
    "indirect": """(type $t (func)) (table 1 funcref) (elem (i32.const 0) $f) (func $f)
      (func (export "_start") (loop (call_indirect (type $t) (i32.const 0)) (br 0)))""",
    "fill": """(memory 4096)
      (func (export "_start") (loop
        (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x0fffffff)) (br 0)))""",
    "data and elements": f"""(memory 1) (table 10 funcref) (func $f)
      {"(elem (i32.const 0) $f $f $f $f $f $f $f $f $f $f)" * 500}
      {'(data (i32.const 0) "0123456789abcdef")' * 500}
      (func $s (loop (br 0))) (start $s) (func (export "_start"))""",
}


@pytest.mark.parametrize("kind", LOOPS)
def test_endless_loop_ends_in_time(wasinn: Wasinn, wat: Wat, kind: str) -> None:
    path = wat(f"(module {LOOPS[kind]})")
    words = ["--invoke", "run"] if kind == "reactor" else []
    began = time.monotonic()
    ran = wasinn("run", "--timeout", "0.3", *words, path)
    assert (ran.status, ran.out) == (124, "")
    assert ran.err == f"wasinn: {path}: timeout: the guest was stopped after 0.3 s\n"
    assert time.monotonic() - began < 20


def test_a_sleeping_guest_ends_in_time(wasinn: Wasinn, wat: Wat) -> None:
    """poll_oneoff for 2**63 nanoseconds, and a read from a pipe that nobody writes to."""
    sleeps = wat(
        """(module (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 16) "\\01\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\7f")
          (func (export "_start")
            (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"""
    )
    reads = wat(
        """(module (import "wasi_snapshot_preview1" "fd_read"
            (func $read (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 4) "\\10\\00\\00\\00")
          (func (export "_start")
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))""",
        "reads.wasm",
    )
    for path in (sleeps, reads):
        began = time.monotonic()
        silence = "< <(exec sleep 30 2>/dev/null)"
        ran = wasinn.shell(f"wasinn run --timeout 0.5 {path} {silence}")
        assert (ran.status, ran.out) == (124, ""), ran
        assert "timeout" in ran.err
        assert time.monotonic() - began < 20


DEEP = {
    "command": '(func $f (export "_start") (call $f) (call $f))',
    "start function": '(func $f (call $f) (call $f)) (start $f) (func (export "_start"))',
    "mutual": """(func $a (param i64) (result i64) (call $b (local.get 0)))
      (func $b (param i64) (result i64) (i64.add (call $a (local.get 0)) (i64.const 1)))
      (func (export "_start") (drop (call $a (i64.const 0))))""",
    "indirect": """(type $t (func)) (table 1 funcref) (elem (i32.const 0) $f)
      (func $f (export "_start") (call_indirect (type $t) (i32.const 0)) (call $f))""",
    "many parameters": f"""(func $f (param {"i64 " * 900}) (result i64)
        (call $f {"(local.get 3)" * 900}) (drop) (local.get 5))
      (func (export "_start") (drop (call $f {"(i64.const 1)" * 900})))""",
    "many locals": f"""(func $f (param i32) (result i32) (local {"i32 " * 5000})
        (local.set 5000 (local.get 0)) (i32.add (call $f (local.get 5000)) (local.get 4999)))
      (func (export "_start") (drop (call $f (i32.const 1))))""",
}


@pytest.mark.parametrize("kind", DEEP)
def test_endless_recursion_is_a_trap(wasinn: Wasinn, wat: Wat, kind: str) -> None:
    path = wat(f"(module {DEEP[kind]})")
    ran = wasinn("run", "--timeout", "30", path)
    assert (ran.status, ran.out) == (134, "")
    assert ran.err.startswith(f"wasinn: {path}: wasm trap: call stack exhausted"), ran.err
    assert ran.err.count("\n") == 1


GROWS = """(module (memory (export "memory") 1)
  (func (export "_start") (loop
    (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (drop (i32.load (i32.mul (memory.size) (i32.const 65536))))))"""


def test_growth_stops_at_the_limit_and_no_byte_later(wasinn: Wasinn, wat: Wat) -> None:
    """The guest grows until that fails, then touches the first byte that it did not get."""
    path = wat(GROWS)
    ran = wasinn("run", "--max-memory", "1M", "--timeout", "60", path)
    assert ran.status == 134
    assert "out of bounds memory access" in ran.err


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("(memory 65536)", "4,294,967,296"),
        ("(table 0xffffffff funcref)", "4,294,967,295 elements, the limit is 10,000,000"),
    ],
)
def test_more_than_the_limit_from_the_start(wasinn: Wasinn, wat: Wat, text: str, part: str) -> None:
    path = wat(f'(module {text} (func (export "_start")))')
    ran = wasinn("run", "--max-memory", "16M", path)
    assert (ran.status, ran.out) == (125, "")
    assert ran.err.startswith(f"wasinn: {path}: ")
    assert "limit" in ran.err
    assert part in ran.err


def test_table_growth_is_limited(wasinn: Wasinn, wat: Wat) -> None:
    path = wat(
        """(module (table 0 funcref) (func (export "grow") (param i32) (result i32)
          (table.grow (ref.null func) (local.get 0))))"""
    )
    for count, expected in (("10000000", "0\n"), ("10000001", "-1\n"), ("-1", "-1\n")):
        ran = wasinn("run", "--invoke", "grow", path, count)
        assert (ran.status, ran.out, ran.err) == (0, expected, "")


# --- names ----------------------------------------------------------------------------------------


def _clean(text: str) -> bool:
    return text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "text",
    [
        f'(module (import "{EVIL}" "{EVIL}" (func)) (func (export "_start")))',
        f'(module (import "wasi_snapshot_preview1" "{EVIL}" (func)) (func (export "_start")))',
        f'(module (func (export "{EVIL}")))',
        '(module (import "\\e2\\80\\ae" "\\c2\\9b31m" (func)) (func (export "_start")))',
    ],
)
def test_names_in_messages_are_escaped(wasinn: Wasinn, wat: Wat, text: str) -> None:
    path = wat(text)
    for words in (["run"], ["run", "--invoke", "x"], ["inspect"], ["inspect", "--json"]):
        ran = wasinn(*words, path)
        assert _clean(ran.err), ran.err
        assert _clean(ran.out), ran.out
        assert ran.status == (0 if words[0] == "inspect" else 125)
        assert "internal error" not in ran.err


def test_names_of_the_name_section_are_escaped(wasinn: Wasinn, tmp_path: Path) -> None:
    """A function name of control characters, and one of a megabyte."""
    evil = b"\x1b]0;owned\x07\x1b[2J\r\n\xe2\x80\xae"
    for given in (evil, b"n" * (1 << 20), b"\xff\xfe"):
        functions = section(1, u32(1) + u32(0) + u32(len(given)) + given)
        path = tmp_path / "named.wasm"
        path.write_bytes(
            HEADER
            + section(1, vec([func_type()]))
            + section(3, vec([u32(0)]))
            + section(7, vec([name("_start") + b"\0\0"]))
            + section(10, vec([body(b"\0")]))
            + custom("name", functions)
        )
        ran = wasinn("run", path)
        assert ran.status == 134
        assert ran.err.startswith(f"wasinn: {path}: wasm trap: unreachable")
        assert _clean(ran.err)
        assert len(ran.err) < 2000


def test_file_names_are_escaped(wasinn: Wasinn, tmp_path: Path) -> None:
    evil = tmp_path / "\x1b]0;x\x07\nnext.wasm"
    for content, status in ((b"junk", 125), (HEADER, 125)):
        evil.write_bytes(content)
        for words in (["run"], ["inspect"]):
            ran = wasinn(*words, evil)
            assert ran.status in (0, status)
            assert "\x1b" not in ran.err + ran.out
            assert "\x07" not in ran.err + ran.out
    for option in ("--dir", "--nn-preload", "--mode", "--env", "--trace"):
        ran = wasinn("run", option, "\x1b[31m\x07", evil)
        assert (ran.status, "\x1b" in ran.err) == (125, False), option


def test_what_a_guest_traces_is_escaped(wasinn: Wasinn, wat: Wat, tmp_path: Path) -> None:
    path = wat(
        f"""(module (import "wasi_snapshot_preview1" "path_create_directory"
            (func $make (param i32 i32 i32) (result i32)))
          (memory (export "memory") 1) (data (i32.const 0) "{EVIL}")
          (func (export "_start")
            (drop (call $make (i32.const 3) (i32.const 0) (i32.const 20)))))"""
    )
    (tmp_path / "in").mkdir()
    ran = wasinn("run", "--trace=wasi", "--dir", f"{tmp_path}/in::/", path)
    assert ran.status == 0
    assert "path_create_directory" in ran.err
    assert _clean(ran.err)


# --- imports --------------------------------------------------------------------------------------


def test_thousands_of_missing_imports(wasinn: Wasinn, wat: Wat) -> None:
    rows = "".join(f'(import "env" "f{i}" (func))' for i in range(3000))
    began = time.monotonic()
    ran = wasinn("run", wat(f'(module {rows} (func (export "_start")))'))
    assert (ran.status, ran.out) == (125, "")
    assert "3000 definitions" in ran.err
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("kind", ["(memory 1)", "(table 1 funcref)", "(global i32)"])
def test_import_of_another_kind(wasinn: Wasinn, wat: Wat, kind: str) -> None:
    path = wat(
        f"""(module (import "wasi_snapshot_preview1" "fd_write" {kind})
          (func (export "_start")))"""
    )
    ran = wasinn("run", path)
    assert (ran.status, ran.out) == (125, "")
    assert "incompatible import type" in ran.err


def test_a_guest_without_memory_gets_an_error_number(wasinn: Wasinn, wat: Wat) -> None:
    path = wat(
        """(module (import "wasi_snapshot_preview1" "random_get"
            (func $get (param i32 i32) (result i32)))
          (import "wasi_ephemeral_nn" "load_by_name"
            (func $load (param i32 i32 i32) (result i32)))
          (func (export "random") (result i32) (call $get (i32.const 0) (i32.const 8)))
          (func (export "load") (result i32)
            (call $load (i32.const 0) (i32.const 8) (i32.const 16))))"""
    )
    ran = wasinn("run", "--invoke", "random", path)
    assert (ran.status, ran.out, ran.err) == (0, "21\n", "")
    ran = wasinn("run", "--invoke", "load", path)
    assert (ran.status, ran.out) == (0, "3\n")


def test_a_type_with_the_most_parameters(wasinn: Wasinn, tmp_path: Path) -> None:
    for count, status in ((1000, 0), (1001, 125)):
        path = tmp_path / f"{count}.wasm"
        path.write_bytes(
            HEADER
            + section(1, vec([func_type(I32 * count)]))
            + section(3, vec([u32(0)]))
            + section(7, vec([name("f") + b"\0\0"]))
            + section(10, vec([body(b"")]))
        )
        ran = wasinn("run", "--invoke", "f", path, *["7"] * count)
        assert (ran.status, ran.out) == (status, ""), ran
        assert "internal error" not in ran.err
