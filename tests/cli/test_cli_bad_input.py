"""Whatever is typed or given: one clear message on standard error, status 125, no traceback."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.cli.command_line import FIB, HELLO, ROOT, Inside, Ran, Wasinn, Wat
from wasinn_runtime.engines.modes import MODES


def refused(ran: Ran, *parts: str) -> None:
    """Asserts that a command failed with a message of this shape and nothing else."""
    assert (ran.status, ran.out) == (125, ""), ran
    assert ran.err.startswith("wasinn: "), ran.err
    assert ran.err.endswith("\n")
    assert ran.err.count("wasinn: ") == 1, ran.err
    assert "internal error" not in ran.err
    for part in parts:
        assert part in ran.err, ran.err


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["run"], ["no WebAssembly file", "wasinn run --help"]),
        (["run", "--dir", "x"], ["no WebAssembly file"]),
        (["run", ""], ["name is empty"]),
        (["inspekt"], ["'inspekt' is neither a command nor a file", "did you mean inspect?"]),
        (["inspekt"], ["commands: run, compile, inspect, backends, eval, models, datasets, "]),
        (["run", "--evn", "A=1", HELLO], ["unknown option '--evn'", "did you mean --env?"]),
        (["run", "--evn", "A=1", HELLO], ["there is: --mode, --validate, --dir"]),
        (["run", "--validate=egaer", HELLO], ["unknown value of --validate", "mean eager?"]),
        (["--jit", HELLO], ["unknown option '--jit'"]),
        (["run", "-x", HELLO], ["unknown option '-x'"]),
        (["run", "--timeout"], ["--timeout needs a value: --timeout SECONDS"]),
        (["run", "--no-cache=yes", HELLO], ["--no-cache takes no value, got 'yes'"]),
        (
            ["run", "--mode", "fast", HELLO],
            ["unknown mode 'fast'", f"there is: {', '.join(MODES)}"],
        ),
        (["run", "--mode=llvm-jti", HELLO], ["did you mean llvm-jit?"]),
        (["run", "--trace=nn,wsai", HELLO], ["unknown trace 'wsai'", "did you mean wasi?"]),
        (["run", "--trace=", HELLO], ["there is: wasi, nn, decode, validate, compile"]),
        (["run", "--dir", "", HELLO], ["--dir ''", "HOST[::GUEST][::ro]"]),
        (["run", "--dir", "a::b::c", HELLO], ["--dir 'a::b::c'", "HOST[::GUEST][::ro]"]),
        (["run", "--dir", "::/x", HELLO], ["--dir '::/x'"]),
        (["run", "--dir", "a::", HELLO], ["--dir 'a::'"]),
        (["run", "--dir", "a::/a:ro", HELLO], ["--dir 'a::/a:ro'", "HOST[::GUEST][::ro]"]),
        (["run", "--dir", f"{ROOT}:/a", HELLO], ["no such directory", f"{ROOT}::/a"]),
        (["run", "--nn-preload", "m.onnx", HELLO], ["no model 'm.onnx'", "m:onnx:cpu:m.onnx"]),
        (["run", "--dir", "no-such", HELLO], ["can not open directory 'no-such'", "No such file"]),
        (["run", "--dir", HELLO, HELLO], ["can not open directory", "Not a directory"]),
        (["run", "--env", "=x", HELLO], ["--env '=x'", "NAME=VALUE"]),
        (["run", "--env", "NOT_SET_ANYWHERE", HELLO], ["NOT_SET_ANYWHERE", "no such variable"]),
        (["run", "--timeout", "soon", HELLO], ["--timeout 'soon'", "seconds above 0"]),
        (["run", "--timeout", "0", HELLO], ["--timeout '0'"]),
        (["run", "--timeout", "-1", HELLO], ["--timeout '-1'"]),
        (["run", "--timeout", "nan", HELLO], ["--timeout 'nan'"]),
        (["run", "--timeout", "inf", HELLO], ["--timeout 'inf'"]),
        (["run", "--max-memory", "much", HELLO], ["--max-memory 'much'", "64M"]),
        (["run", "--max-memory", "1T", HELLO], ["--max-memory '1T'"]),
        (["run", "--max-memory", "0", HELLO], ["more than 0"]),
        (["run", "--max-memory", "-1M", HELLO], ["--max-memory '-1M'"]),
        (["run", "--max-memory", "9" * 5000, HELLO], ["--max-memory"]),
        (["run", "--nn-backend", "onnx", HELLO], ["ENCODING=PLUGIN"]),
        (["run", "--nn-backend", "onnx=tensorrt", HELLO], ["no backend plugin 'tensorrt'", "onnx"]),
        (["run", "--nn-option", "threads=2", HELLO], ["PLUGIN.KEY=VALUE"]),
        (["run", "--nn-option", "onyx.threads=2", HELLO], ["no backend plugin 'onyx'", "onnx"]),
        (["run", "--nn-option", "onnx.thread=2", HELLO], ["unknown option thread", "threads"]),
        (["run", "--nn-option", "onnx.threads=two", HELLO], ["threads", "two"]),
        (["inspect"], ["Missing argument 'APP.wasm|APP.aot'", "wasinn inspect --help"]),
        (["inspect", HELLO, "--jsn"], ["No such option", "--json"]),
        (["inspect", HELLO, "--json", "--dump-ir"], ["give only one of"]),
        (["models", "lsit"], ["No such command 'lsit'. Did you mean 'list'? `wasinn models"]),
        (["models", "add"], ["Missing argument 'SOURCE...'"]),
        (["doctor", "extra"], ["unexpected extra argument"]),
    ],
)
def test_words(inside: Inside, words: list[str], parts: list[str]) -> None:
    refused(inside(*words), *parts)


def test_arguments_that_are_no_text(wasinn: Wasinn) -> None:
    command = f"wasinn $'no\\xffsuch.wasm'; wasinn $'\\xff\\x1b'; wasinn --$'\\xff' {HELLO}"
    ran = wasinn.shell(command)
    assert ran.status == 125
    assert ran.err.count("wasinn: ") == 3
    assert "\x1b" not in ran.err


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["run"], [], ["inspect"]], ids=["run", "short", "inspect"])
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no-such.wasm", "no-such.wasm: No such file or directory"),
        ("examples/hello", "examples/hello: Is a directory"),
        (HELLO + "/x.wasm", f"{HELLO}/x.wasm: Not a directory"),
        ("./" + "n" * 300 + ".wasm", "File name too long"),
        ("examples/hello/hello.c", "magic header not detected"),
    ],
)
def test_file_that_is_no_module(wasinn: Wasinn, command: list[str], path: str, reason: str) -> None:
    refused(wasinn(*command, path), reason)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable_file(wasinn: Wasinn, tmp_path: Path) -> None:
    path = tmp_path / "secret.wasm"
    path.write_bytes(b"\0asm\1\0\0\0")
    path.chmod(0)
    refused(wasinn(path), "secret.wasm: Permission denied")


def test_device_without_an_end(wasinn: Wasinn) -> None:
    """Not read into memory for ever."""
    ran = wasinn.shell("wasinn inspect /dev/zero")
    refused(ran, "/dev/zero", "at most 1073741824 bytes")


def test_module_from_a_pipe(wasinn: Wasinn) -> None:
    ran = wasinn.shell(f"wasinn run <(cat {HELLO}) x")
    assert (ran.status, ran.out) == (0, "Hello from WebAssembly\nargument: x\n")
    refused(wasinn.shell("wasinn run <(true)"), "unexpected end")


def test_text_format_gets_a_hint(wasinn: Wasinn, tmp_path: Path) -> None:
    path = tmp_path / "app.wat"
    path.write_text('(module (func (export "_start")))')
    refused(wasinn(path), f"{path}:0x0: magic header not detected", "wat2wasm")


@pytest.mark.parametrize("size", [0, 3, 4, 7, 20, 4000, 9000])
def test_truncated(wasinn: Wasinn, tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.wasm"
    path.write_bytes((ROOT / HELLO).read_bytes()[:size])
    refused(wasinn(path), f"{path}:0x")


def test_random_bytes(wasinn: Wasinn, tmp_path: Path) -> None:
    path = tmp_path / "random.wasm"
    path.write_bytes(b"\0asm\1\0\0\0" + random.Random(7).randbytes(5000))
    refused(wasinn("run", path), f"{path}:0x")
    refused(wasinn("inspect", path), f"{path}:0x")


def test_invalid_module(wasinn: Wasinn, wat: Wat) -> None:
    path = wat('(module (func $f (export "_start") (result i32) (i64.const 0)))')
    for command in ("run", "inspect"):
        refused(wasinn(command, path), f"{path}:0x", "function 0 (f): type mismatch")
    refused(wasinn("run", "--trace=validate", path), "type mismatch")


def test_missing_imports_are_all_named(wasinn: Wasinn, wat: Wat) -> None:
    path = wat(
        """(module (import "wasi_snapshot_preview1" "fd_wriet" (func))
        (import "env" "\\1b]0;evil" (func)) (func (export "_start")))"""
    )
    ran = wasinn(path)
    refused(ran, "2 definitions", "'fd_wriet' (did you mean fd_write,", "'env'")
    assert "\x1b" not in ran.err


def test_import_of_a_wrong_type(wasinn: Wasinn, wat: Wat) -> None:
    path = wat(
        """(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i64)))
        (memory (export "memory") 1) (func (export "_start")))"""
    )
    refused(wasinn(path), "incompatible import type", "expected func [i64] -> []")


def test_module_without_a_start(wasinn: Wasinn) -> None:
    refused(wasinn(FIB), f"{FIB} is not a command: it exports no _start", "(run)")


# --- models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("", ["NAME:ENCODING:TARGET:PATH"]),
        ("a:onnx:cpu", ["preload 'a:onnx:cpu'", "NAME:ENCODING:TARGET:PATH"]),
        ("a:onnx:cpu:no-such.onnx", ["no-such.onnx: No such file or directory"]),
        ("a:onnx:cpu:examples", ["examples: Is a directory"]),
        ("a:onxx:cpu:" + HELLO, ["unknown encoding 'onxx'", "onnx"]),
        ("a:onnx:cpuu:" + HELLO, ["unknown target 'cpuu'", "cpu"]),
        ("a:onnx:tpu:" + HELLO, ["no device for target tpu", "cpu"]),
        ("a:onnx:cpu:" + HELLO, ["--nn-preload", "ONNX Runtime"]),
        ("a:ggml:cpu:" + HELLO, ["--nn-preload", "llama.cpp, while loading"]),
        ("a:tensorflow:cpu:" + HELLO, ["--nn-preload", "OpenVINO, while loading"]),
        ("a:autodetect:cpu:" + HELLO, ["autodetect"]),
        ("minilmm", ["no model 'minilmm'", "did you mean minilm?"]),
        ("minilm:int4", ["int4", "int8"]),
    ],
)
def test_bad_preload(inside: Inside, spec: str, parts: list[str]) -> None:
    refused(inside("run", "--nn-preload", spec, HELLO), *parts)


def test_preload_twice(wasinn: Wasinn, model_file: Path) -> None:
    spec = f"a:onnx:cpu:{model_file}"
    ran = wasinn("run", "--nn-preload", spec, "--nn-preload", spec, HELLO)
    refused(ran, "the name 'a' is given twice")


def test_bad_module_is_told_of_before_models(wasinn: Wasinn) -> None:
    refused(wasinn("run", "--nn-preload", "minilmm", "no-such.wasm"), "no-such.wasm: No such file")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["path", "minilmm"], ["no model 'minilmm'", "did you mean minilm?"]),
        (["path", "minilm", "--file", "vocab.tx"], ["vocab.tx", "vocab.txt"]),
        (["path", "minilm", "--file", "vocab.txt", "--directory"], ["give only one"]),
        (["build", "nothing"], ["no model 'nothing'", "minilm"]),
        (["check", "nothing"], ["no model 'nothing'"]),
        (["add", "no-such.onnx"], ["no-such.onnx"]),
        (["add", "ftp://example.org/x.onnx"], ["ftp"]),
        (["add", HELLO, "--encoding", "ggml", "--sha256", "00"], ["expected SHA-256 00, got"]),
        (["add", "no-such.toml"], ["no-such.toml"]),
        (["add", "pyproject.toml"], ["pyproject.toml"]),
        (["add", "pyproject.toml", "--name", "x"], ["a manifest says everything itself"]),
        (["add", HELLO], ["encoding"]),
        (["add", HELLO, "--name", "../x"], ["../x"]),
        (["add", HELLO, "--name", "minilm"], ["minilm", "choose another"]),
    ],
)
def test_bad_model_words(inside: Inside, words: list[str], parts: list[str]) -> None:
    refused(inside("models", *words), *parts)


def test_store_that_can_not_be_written(wasinn: Wasinn, tmp_path: Path, model_file: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    env = {"WASINN_CACHE_DIR": str(blocked)}
    refused(wasinn("models", "add", model_file, "--name", "x", env=env), str(blocked))


def test_damaged_model_is_found(wasinn: Wasinn, tmp_path: Path, model_file: Path) -> None:
    env = {"WASINN_CACHE_DIR": str(tmp_path)}
    assert wasinn("models", "add", model_file, "--name", "x", env=env).status == 0
    stored = tmp_path / "models" / "x" / "files" / "model.onnx"
    stored.chmod(0o600)
    stored.write_bytes(b"damaged")
    ran = wasinn("models", "check", env=env)
    assert ran.status == 125
    assert ran.out.startswith("damaged x/files/model.onnx: expected SHA-256 ")
    assert "wasinn models check --repair" in ran.err
    ran = wasinn("run", "--nn-preload", "x", HELLO, env=env)
    assert (ran.status, ran.out) == (125, "")
    assert "run `wasinn models check --repair x`" in ran.err
    ran = wasinn("models", "check", "--repair", "x", env=env)
    assert ran.status == 0
    assert "1 damaged files removed" in ran.err
    assert not stored.exists()


# --- our own defects ------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", ["0", "1"])
def test_a_defect_asks_to_be_reported(
    debug: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from wasinn_host.cli.boundary import guarded
    from wasinn_runtime.errors import Internal

    def broken() -> int:
        raise Internal("LLVM rejects the IR\x1b")

    monkeypatch.setenv("WASINN_DEBUG", debug)
    assert guarded(broken) == 125
    err = capsys.readouterr().err
    assert "wasinn: internal error: Internal: LLVM rejects the IR\\x1b\n" in err
    assert "Please report it" in err
    assert ("Traceback" in err) is (debug == "1")
    assert guarded(lambda: [][0]) == 125
    assert "internal error: IndexError: list index out of range" in capsys.readouterr().err


def test_every_kind_of_error_has_a_status() -> None:
    """The tree of errors against the table of statuses: none falls through to a traceback."""
    from wasinn_host.cli.boundary import explain
    from wasinn_runtime import errors

    expected = {"Trap": 134, "Exhaustion": 134, "Interrupted": 124}
    made = {name: getattr(errors, name) for name in errors.__all__}
    for name, kind in made.items():
        given = {"GuestExit": (7,), "UnusableImage": ("damaged", "app.aot")}
        error = kind(*given.get(name, ("timeout",)))
        if name == "GuestExit":
            continue  # the one that is no failure; ``run`` turns it into its code
        assert explain(error) == expected.get(name, 125), name
    assert explain(KeyboardInterrupt()) == 130
    assert explain(BrokenPipeError()) == 141
    assert explain(OSError(28, "No space left on device", "x")) == 125
    assert explain(MemoryError()) == 125
    assert explain(ImportError("no llvmlite")) == 125
