"""``wasinn run`` as a process: what reaches the guest, what comes back, every way to end."""

from __future__ import annotations

import os
import re
import shlex
import signal
import time
from pathlib import Path

import pytest

from tests.cli.command_line import FIB, HELLO, ROOT, RUST, Wasinn, Wat
from wasinn_runtime.engines.modes import MODES

EXIT = """(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (i32.const {}))))"""
LOOP = '(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))'
WRITER = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\06\\00\\00\\00")
  (data (i32.const 16) "line!\\n")
  (func $print (result i32)
    (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
  (func (export "_start") {}))"""
MATHS = """(module
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "wide") (param i64) (result i64) (local.get 0))
  (func (export "single") (param f32) (result f32) (local.get 0))
  (func (export "double") (param f64) (result f64) (local.get 0))
  (func (export "pair") (param i32 f64) (result f64 i32) (local.get 1) (local.get 0))
  (func (export "reference") (param externref) (result externref) (local.get 0))
  (func (export "nothing"))
  (func $score (export "divide") (param i32) (result i32)
    (i32.div_s (i32.const 1) (local.get 0)))
  (memory (export "memory") 1))"""


# --- what the guest gets --------------------------------------------------------------------------


@pytest.mark.parametrize("start", [["run"], []], ids=["with the word", "without"])
def test_arguments_are_the_guests(wasinn: Wasinn, start: list[str]) -> None:
    ran = wasinn(*start, HELLO, "one", "two words", "", "--help", "--exit")
    assert ran.out == "Hello from WebAssembly\nargument: one\nargument: two words\nargument: \n"
    assert ran.err == "hello: '--help' is no option, or something is missing behind it\n"
    assert ran.status == 2


def test_options_without_the_word_run(wasinn: Wasinn) -> None:
    ran = wasinn("--env", "A=b=c", "--timeout=60", HELLO, "--env", "A")
    assert (ran.status, ran.out, ran.err) == (0, "Hello from WebAssembly\nA=b=c\n", "")


def test_double_dash_ends_our_options(wasinn: Wasinn, tmp_path: Path) -> None:
    guest = tmp_path / "-dashed.wasm"
    guest.write_bytes((ROOT / HELLO).read_bytes())
    ran = wasinn("run", "--", "-dashed.wasm", "x", cwd=tmp_path)
    assert (ran.status, ran.out) == (0, "Hello from WebAssembly\nargument: x\n")


def test_environment_is_empty_but_for_what_is_named(wasinn: Wasinn) -> None:
    given = ["--env", "GIVEN=1", "--env", "PASSED_ON", "--env", "GIVEN=2"]
    ran = wasinn("run", *given, RUST, "env", env={"PASSED_ON": "ä"})
    assert (ran.status, ran.out, ran.err) == (0, "GIVEN=2\nPASSED_ON=ä\n", "")


def test_directories(wasinn: Wasinn, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text").write_text("read me\n")
    (tmp_path / "out").mkdir()
    dirs = ["--dir", f"{tmp_path}/in::/in::ro", "--dir", f"{tmp_path}/out::/out"]
    ran = wasinn("run", *dirs, HELLO, "--read", "/in/text", "--write", "/out/made", "done")
    assert (ran.status, ran.out, ran.err) == (0, "Hello from WebAssembly\nread me\n", "")
    assert (tmp_path / "out" / "made").read_text() == "done"
    ran = wasinn("run", *dirs, HELLO, "--write", "/in/text", "changed")
    assert ran.status == 1
    assert "hello: cannot make '/in/text'" in ran.err
    assert (tmp_path / "in" / "text").read_text() == "read me\n"


def test_directory_under_its_own_name(wasinn: Wasinn, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "text").write_text("here\n")
    ran = wasinn("run", "--dir", "data::ro", ROOT / HELLO, "--read", "data/text", cwd=tmp_path)
    assert (ran.status, ran.out) == (0, "Hello from WebAssembly\nhere\n")
    ran = wasinn("run", "--dir", "data::ro", ROOT / HELLO, "--write", "data/x", "y", cwd=tmp_path)
    assert ran.status == 1
    assert not (tmp_path / "data" / "x").exists()


def test_standard_input(wasinn: Wasinn) -> None:
    ran = wasinn("run", RUST, "lines", input="eins\nzwei äö\n".encode())
    assert (ran.status, ran.out) == (0, "1 4 eins\n2 7 zwei äö\n2 lines\n")


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "status"), [(0, 0), (3, 3), (255, 255), (256, 0), (-1, 255)])
def test_exit_status_is_the_guests(wasinn: Wasinn, wat: Wat, code: int, status: int) -> None:
    ran = wasinn(wat(EXIT.format(code)))
    assert (ran.status, ran.out, ran.err) == (status, "", "")


def test_trap_names_module_and_function(wasinn: Wasinn, wat: Wat) -> None:
    path = wat(MATHS)
    ran = wasinn("run", "--invoke", "divide", path, "0")
    expected = f"wasinn: {path}: wasm trap: integer divide by zero in function 7 (score)\n"
    assert (ran.status, ran.out, ran.err) == (134, "", expected)


def test_names_can_not_steer_the_terminal(wasinn: Wasinn, wat: Wat) -> None:
    module = wat('(module (func $a (export "\\1b[31m\\07\\0aevil") unreachable))')
    ran = wasinn("run", "--invoke", "\x1b[31m\x07\nevil", module)
    assert ran.status == 134
    assert "\x1b" not in ran.err
    ran = wasinn("run", "--invoke", "x", module)
    assert ran.status == 125
    assert "\x1b" not in ran.err
    assert "\x07" not in ran.err
    assert "\\x1b[31m" in ran.err
    ran = wasinn("inspect", module)
    assert ran.status == 0
    assert "\x1b" not in ran.out
    assert "\\x1b[31m" in ran.out


def test_panic_of_a_rust_guest(wasinn: Wasinn) -> None:
    ran = wasinn(RUST, "panic")
    assert ran.status == 134
    assert "asked to" in ran.err
    assert f"wasinn: {RUST}: wasm trap: unreachable" in ran.err


def test_call_stack_exhausted(wasinn: Wasinn, wat: Wat) -> None:
    path = wat('(module (func $f (export "_start") (call $f) (call $f)))')
    ran = wasinn(path)
    assert ran.status == 134
    assert ran.err.startswith(f"wasinn: {path}: wasm trap: call stack exhausted")


def test_timeout(wasinn: Wasinn, wat: Wat) -> None:
    path = wat(LOOP)
    began = time.monotonic()
    ran = wasinn("run", "--timeout", "0.3", path)
    assert ran.status == 124
    assert ran.err == f"wasinn: {path}: timeout: the guest was stopped after 0.3 s\n"
    assert time.monotonic() - began < 30


def test_keyboard_interrupt(wasinn: Wasinn, wat: Wat) -> None:
    marker = WRITER.format("(drop (call $print)) (loop (br 0))")
    process = wasinn.start(wat(marker))
    assert process.stdout is not None
    assert process.stdout.readline() == b"line!\n"
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, b"", b"wasinn: interrupted\n")


@pytest.mark.parametrize("after_s", [0.06, 0.12, 0.18, 0.24])
def test_keyboard_interrupt_while_starting(wasinn: Wasinn, wat: Wat, after_s: float) -> None:
    process = wasinn.start(wat(LOOP))
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    # Python itself takes some moments to begin, and so does importing what answers: only what
    # came after is ours. An import that ends in the middle may warn of the file it had open.
    if b", in guarded" in err or process.returncode == 130:
        assert (process.returncode, out) == (130, b"")
        assert err.endswith(b"wasinn: interrupted\n")
        assert b"KeyboardInterrupt" not in err


@pytest.mark.slow
@pytest.mark.parametrize("how", ["run --no-cache --mode llvm-jit", "compile -o {}"])
def test_keyboard_interrupt_while_compiling(wasinn: Wasinn, tmp_path: Path, how: str) -> None:
    """LLVM takes several seconds for this guest, and can not be asked to stop."""
    process = wasinn.start(*how.format(tmp_path / "guest.aot").split(), RUST)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, b"", b"wasinn: interrupted\n")
    assert time.monotonic() - began < 2.5
    assert list(tmp_path.iterdir()) == []


def test_memory_limit_stops_growth(wasinn: Wasinn, wat: Wat) -> None:
    module = wat(
        """(module (memory (export "memory") 1) (func (export "grow") (param i32) (result i32)
        (memory.grow (local.get 0))))"""
    )
    assert wasinn("run", "--max-memory", "1M", "--invoke", "grow", module, "15").out == "1\n"
    assert wasinn("run", "--max-memory", "1M", "--invoke", "grow", module, "16").out == "-1\n"
    assert wasinn("run", "--max-memory=1MiB", "--invoke", "grow", module, "15").out == "1\n"


def test_memory_limit_below_what_the_module_needs(wasinn: Wasinn, wat: Wat) -> None:
    path = wat('(module (memory (export "memory") 32) (func (export "_start")))')
    ran = wasinn("run", "--max-memory", "1M", path)
    assert (ran.status, ran.out) == (125, "")
    assert ran.err.startswith(f"wasinn: {path}: ")


# --- streams that are gone ------------------------------------------------------------------------


def test_guest_in_a_pipe_that_nobody_reads(wasinn: Wasinn, wat: Wat) -> None:
    endless = wat(WRITER.format("(loop (drop (call $print)) (br 0))"))
    process = wasinn.start(endless)
    assert process.stdout is not None
    assert process.stdout.readline() == b"line!\n"
    process.stdout.close()
    assert process.wait(60) == -signal.SIGPIPE
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_our_output_in_a_pipe_that_nobody_reads(wasinn: Wasinn) -> None:
    ran = wasinn.shell(f"wasinn inspect --dump-asm {HELLO} | true; exit ${{PIPESTATUS[0]}}")
    assert (ran.status, ran.err) == (141, "")


@pytest.mark.parametrize("words", ["inspect " + HELLO, "run --help", "models list", "backends"])
def test_full_disk_under_our_output(wasinn: Wasinn, words: str) -> None:
    ran = wasinn.shell(f"wasinn {words} > /dev/full")
    assert (ran.status, ran.err) == (125, "wasinn: No space left on device\n")


def test_closed_streams(wasinn: Wasinn) -> None:
    ran = wasinn.shell(f"wasinn inspect {HELLO} >&-")
    assert (ran.status, ran.err) == (125, "wasinn: standard output is closed\n")
    # The guest sees errors, never a file of ours under the number.
    ran = wasinn.shell(f"wasinn {HELLO} >&- 2>&-")
    assert (ran.status, ran.err) == (1, "")
    ran = wasinn.shell(f"wasinn {RUST} lines <&-")
    # Rust's library takes a closed standard input for an empty one.
    assert (ran.status, ran.out, ran.err) == (0, "0 lines\n", "")


def test_guest_on_a_full_disk(wasinn: Wasinn, wat: Wat) -> None:
    tells = wat(WRITER.format("(call $exit (call $print))"))
    ran = wasinn.shell(f"wasinn {tells} > /dev/full")
    assert (ran.status, ran.err) == (51, "")  # errno NOSPC, as the guest passed it on


# --- calling a function ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "out"),
    [
        ("add", ["2", "0x10"], "18\n"),
        ("add", ["4294967295", "-2147483648"], "2147483647\n"),
        ("wide", ["-9223372036854775808"], "-9223372036854775808\n"),
        ("wide", ["0xffffffffffffffff"], "-1\n"),
        ("single", ["0.1"], "0.1\n"),
        ("single", ["16777217"], "16777216.0\n"),
        ("single", ["3.4028235e38"], "3.4028235e+38\n"),
        ("single", ["inf"], "inf\n"),
        ("double", ["0.1"], "0.1\n"),
        ("double", ["0x1.8p1"], "3.0\n"),
        ("double", ["nan"], "nan\n"),
        ("pair", ["7", "-0.0"], "-0.0\n7\n"),
        ("reference", ["null"], "null\n"),
        ("nothing", [], ""),
    ],
)
def test_invoke(wasinn: Wasinn, wat: Wat, name: str, arguments: list[str], out: str) -> None:
    ran = wasinn("run", "--invoke", name, wat(MATHS), *arguments)
    assert (ran.status, ran.out, ran.err) == (0, out, "")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ad", ["1", "2"], "exports no function 'ad'; did you mean add? it exports: add, wide"),
        ("memory", [], "exports no function 'memory'; it exports: add"),
        ("add", ["1"], "add has the type [i32 i32] -> [i32]: expected 2 arguments, got 1"),
        ("add", ["1", "2", "3"], "expected 2 arguments, got 3"),
        ("add", ["1", "1.5"], "argument 2 of add: expected an integer for i32, got '1.5'"),
        ("add", ["4294967296", "1"], "argument 1 of add: 4294967296 does not fit i32 (32 bits)"),
        ("add", ["1", "-2147483649"], "argument 2 of add: -2147483649 does not fit i32"),
        ("double", ["zero"], "argument 1 of double: expected a number for f64, got 'zero'"),
        ("reference", ["7"], "argument 1 of reference: expected null, the only externref"),
    ],
)
def test_invoke_with_bad_words(
    wasinn: Wasinn, wat: Wat, name: str, arguments: list[str], message: str
) -> None:
    ran = wasinn("run", "--invoke", name, wat(MATHS), *arguments)
    assert (ran.status, ran.out) == (125, "")
    assert message in ran.err
    assert ran.err.count("\n") == 1


# --- traces ---------------------------------------------------------------------------------------


def test_traces_go_to_standard_error(wasinn: Wasinn) -> None:
    ran = wasinn(
        "run", "--mode=llvm-jit", "--trace=wasi,decode", "--trace", "validate,compile", HELLO, "x"
    )
    assert (ran.status, ran.out) == (0, "Hello from WebAssembly\nargument: x\n")
    lines = ran.err.splitlines()
    head = re.escape(HELLO)
    size = (ROOT / HELLO).stat().st_size
    assert re.fullmatch(rf"decode: {head}: {size} bytes, \d+ functions in [\d.]+ ms", lines[0])
    assert re.fullmatch(rf"validate: {head}: \d+ functions in [\d.]+ ms", lines[1])
    how = r"(compiled|from the cache), an object file of [1-9]\d+ bytes in [\d.]+ ms"
    assert re.fullmatch(rf"compile: {head}: {how}", lines[2])
    assert "wasi: fd_write(1, [1 buffer, 23 bytes]) = 0 SUCCESS, nwritten 23" in lines[3:]
    assert all(line.startswith("wasi: ") for line in lines[3:])


def test_trace_of_functions_that_become_ready_one_by_one(wasinn: Wasinn) -> None:
    ran = wasinn("run", "--mode", "fast-jit", "--trace=compile", "--invoke", "run", FIB, "3")
    assert (ran.status, ran.out) == (0, "2\n")
    assert re.search(rf"{FIB}: loaded in [\d.]+ ms; functions become ready when first", ran.err)


def test_an_exception_that_nothing_catches(wasinn: Wasinn, wat: Wat) -> None:
    path = wat("""(module (tag $problem (param i32 i64))
      (func (export "_start") (throw $problem (i32.const 7) (i64.const -1))))""")
    for mode in MODES:
        ran = wasinn("run", "--mode", mode, path)
        assert (ran.status, ran.out) == (134, ""), mode
        assert "uncaught exception of the guest: tag 0(7, -1)" in ran.err


def test_validation_is_lazy_or_eager(wasinn: Wasinn, wat: Wat) -> None:
    """A defect in a function that nobody calls is told of when it is asked for."""
    path = wat("""(module (func (export "good") (result i32) (i32.const 7))
      (func (export "bad") (result i32) (i64.const 0)))""")
    for mode in MODES:
        eager = wasinn("run", "--mode", mode, "--validate=eager", "--invoke", "good", path)
        assert (eager.status, eager.out) == (125, ""), mode
        assert "function 1: type mismatch" in eager.err
    command = ("run", "--mode=fast-jit", "--validate", "lazy", "--invoke")
    assert wasinn(*command, "good", path).out == "7\n"
    bad = wasinn(*command, "bad", path)
    assert (bad.status, bad.out) == (125, "")
    assert "function 1: type mismatch" in bad.err


def test_trace_tells_cache_from_compiler(wasinn: Wasinn, tmp_path: Path) -> None:
    env = {"WASINN_CACHE_DIR": str(tmp_path / "cache")}
    command = ("run", "--trace=compile", "--invoke", "run", FIB, "3")
    first, second = wasinn(*command, env=env), wasinn(*command, env=env)
    assert (first.out, second.out) == ("2\n", "2\n")
    assert f"{FIB}: compiled, an object file of" in first.err
    assert f"{FIB}: from the cache, an object file of" in second.err
    third = wasinn("run", "--no-cache", *command[1:], env=env)
    assert f"{FIB}: compiled, not kept, an object file of" in third.err


def test_no_cache_keeps_no_module(wasinn: Wasinn, tmp_path: Path) -> None:
    env = {"WASINN_CACHE_DIR": str(tmp_path)}
    for _ in range(2):
        ran = wasinn("run", "--no-cache", "--trace=compile", "--invoke", "run", FIB, "3", env=env)
        assert (ran.status, ran.out) == (0, "2\n")
    assert "not kept" in ran.err
    ran = wasinn("run", "--trace=compile", "--invoke", "run", FIB, "3", env=env)
    assert f"{FIB}: compiled, an object file" in ran.err


# --- a whole process is quick ---------------------------------------------------------------------


def test_nothing_heavy_is_imported(wasinn: Wasinn) -> None:
    heavy = ["argparse", "asyncio", "click", "llvmlite", "numpy", "onnxruntime", "rich"]
    assert wasinn(HELLO).status == 0  # now its code is in the cache
    check = (
        "import sys\n"
        "from wasinn_host.cli.main import execute\n"
        f"status = execute(['run', {HELLO!r}])\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(status)\n"
    )
    ran = wasinn.shell(f'"$WASINN_TEST_PYTHON" -c {shlex.quote(check)}')
    assert (ran.status, ran.err) == (0, "[]\n")


def test_runs_in_a_directory_that_can_not_be_written(wasinn: Wasinn, tmp_path: Path) -> None:
    """No cache is no reason to fail."""
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    env = {"WASINN_CACHE_DIR": os.fspath(blocked / "below")}
    ran = wasinn("run", "--invoke", "run", FIB, "5", env=env)
    assert (ran.status, ran.out) == (0, "5\n")


def test_a_guest_that_fails_for_want_of_a_model(wasinn: Wasinn, wat: Wat) -> None:
    """The guest sees a number; whoever ran it is told the reason."""
    guest = wat(
        """(module
          (import "wasi_ephemeral_nn" "load_by_name"
            (func $load (param i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "sentences")
          (func (export "_start")
            (call $exit (call $load (i32.const 0) (i32.const 9) (i32.const 16)))))"""
    )
    ran = wasinn(guest)
    assert ran.status == 8
    assert "its last failing WASI-NN call: not_found: no graph is named 'sentences'" in ran.err


def test_a_backend_in_a_process_of_its_own(wasinn: Wasinn, tmp_path: Path) -> None:
    guest = ROOT / "examples" / "npu-plugin" / "npu-plugin.wasm"
    model = tmp_path / "model"
    model.write_bytes(b"{}")
    words = ("run", "--nn-isolate", "--nn-preload", f"echo:null:cpu:{model}")
    ran = wasinn(*words, guest, "echo", "1", "2")
    assert (ran.status, ran.out, ran.err) == (0, "1 2\n", "")
    ran = wasinn(*words, "--nn-option", "null.fault=load", guest, "echo", "1")
    assert ran.status == 125
    assert "ZeroDivisionError: null backend: fault on demand in load" in ran.err


def test_metrics_and_batching(wasinn: Wasinn, tmp_path: Path) -> None:
    guest = ROOT / "examples" / "npu-plugin" / "npu-plugin.wasm"
    model, metrics = tmp_path / "model", tmp_path / "metrics"
    model.write_bytes(b"{}")
    words = ("--nn-preload", f"echo:null:cpu:{model}", "--nn-batch", "max=4,wait=1ms")
    ran = wasinn("run", *words, "--nn-metrics", metrics, guest, "echo", "1", "2")
    assert (ran.status, ran.out, ran.err) == (0, "1 2\n", "")
    labels = 'backend="null",device="null",encoding="null",graph="echo"'
    assert f'wasinn_nn_computes_total{{{labels},result="ok"}} 1.0\n' in metrics.read_text()
    ran = wasinn("run", *words, "--nn-metrics", tmp_path / "no" / "m", guest, "echo", "1")
    assert ran.status == 125
    assert "No such file or directory" in ran.err
    ran = wasinn("run", "--nn-batch", "max", guest)
    assert (ran.status, ran.out) == (125, "")
    assert "batching 'max': expected max=REQUESTS,wait=TIME" in ran.err


def test_numbers_and_limits(wasinn: Wasinn, tmp_path: Path) -> None:
    guest = ROOT / "examples" / "npu-plugin" / "npu-plugin.wasm"
    model = tmp_path / "model"
    model.write_bytes(b"{}")
    words = ("run", "--trace=nn", "--nn-preload", f"echo:null:cpu:{model}")
    for numbers, errno in (((), 8), (("--nn-abi", "wit"), 7), (("--nn-errno", "ancient"), 1)):
        ran = wasinn(*words, *numbers, guest, "nobody", "1")
        assert f"= {errno} not_found: no graph is named 'nobody'" in ran.err
    ran = wasinn(*words, "--nn-limit", "contexts=0", guest, "echo", "1")
    assert "= 7 too_large" in ran.err
    for option, word, told in (
        ("--nn-abi", "witz", "unknown ABI of WASI-NN 'witz'; did you mean wit or witx?"),
        ("--nn-errno", "new", "unknown error numbers of WASI-NN 'new'; "),
        ("--nn-limit", "graph=1", "limit 'graph=1': unknown limit 'graph'; did you mean graphs"),
    ):
        ran = wasinn("run", option, word, guest)
        assert (ran.status, ran.out) == (125, "")
        assert told in ran.err


def test_which_device(wasinn: Wasinn, tmp_path: Path) -> None:
    guest = ROOT / "examples" / "npu-plugin" / "npu-plugin.wasm"
    model = tmp_path / "model"
    model.write_bytes(b"{}")
    preload = ("run", "--nn-preload", f"echo:null:gpu:{model}")
    ran = wasinn(*preload, guest, "echo", "1")
    assert ran.status == 125
    assert "no device for target gpu with encoding null; there is: null: cpu (null)" in ran.err
    ran = wasinn(*preload, "--nn-device", "gpu=null:null", guest, "echo", "1")
    assert (ran.status, ran.out, ran.err) == (0, "1\n", "")
    ran = wasinn(*preload, "--nn-fallback", guest, "echo", "1")
    assert (ran.status, ran.out) == (0, "1\n")
    assert "the model runs on null of null instead" in ran.err
    ran = wasinn(*preload, "--nn-device", "gpu=nil", guest, "echo", "1")
    assert ran.status == 125
    assert "--nn-device: there is no backend plugin 'nil'" in ran.err
