"""``wasinn compile``, and ``run`` and ``inspect`` of what it makes, as processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.aot.aot_images import image_of, module_of
from tests.cli.command_line import FIB, HELLO, ROOT, RUST, SOURCES, Wasinn
from wasinn_runtime.engines.aot_compile import STAGES


@pytest.fixture(scope="session")
def wasinn(tmp_path_factory: pytest.TempPathFactory) -> Wasinn:
    """The command as a process, with a cache of this session's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WASINN_")}
    return Wasinn(
        {
            **kept,
            "PYTHONPATH": os.pathsep.join(SOURCES),
            "PYTHONWARNINGS": "error",
            "NO_COLOR": "1",
            "WASINN_CACHE_DIR": str(tmp_path_factory.mktemp("aot-cache")),
        }
    )


def test_compile_then_run_without_the_module(wasinn: Wasinn, tmp_path: Path) -> None:
    source, image = tmp_path / "app.wasm", tmp_path / "app.aot"
    shutil.copy(ROOT / HELLO, source)
    made = wasinn("compile", source, "-o", image)
    assert (made.status, made.out) == (0, "")
    assert made.err.startswith(f"wasinn: {image}: {image.stat().st_size} bytes for ")
    source.unlink()
    ran = wasinn("run", image, "one", "--exit", "3")
    expected = wasinn("run", HELLO, "one", "--exit", "3")
    assert (ran.status, ran.out) == (expected.status, expected.out)
    assert wasinn(image, "one").out.startswith("Hello")
    assert os.listdir(tmp_path) == ["app.aot"]


def test_the_name_is_made_of_the_modules(wasinn: Wasinn, tmp_path: Path) -> None:
    shutil.copy(ROOT / FIB, tmp_path / "fib.wasm")
    assert wasinn("compile", "fib.wasm", cwd=tmp_path).status == 0
    assert wasinn("run", "--invoke", "run", "fib.aot", "20", cwd=tmp_path).out == "6765\n"


def test_a_big_guest_in_two_processes(wasinn: Wasinn, tmp_path: Path) -> None:
    image = tmp_path / "rust-files.aot"
    made = wasinn("compile", RUST, "--jobs", "2", "--opt", "1", "--timings", "-o", image)
    assert "4 parts" in made.out, made.err
    assert [line.split()[0] for line in made.out.splitlines()] == [*STAGES, "all", "ours"]
    ran = wasinn("run", image, "lines", input=b"one\ntwo\n")
    assert (ran.status, ran.out) == (0, wasinn("run", RUST, "lines", input=b"one\ntwo\n").out)


def test_nothing_but_the_message_goes_to_a_pipe(wasinn: Wasinn, tmp_path: Path) -> None:
    made = wasinn("compile", FIB, "-o", tmp_path / "fib.aot")
    assert made.err.count("\n") == 1
    assert "\x1b" not in made.err


def test_inspect(wasinn: Wasinn, tmp_path: Path) -> None:
    image = tmp_path / "fib.aot"
    wasinn("compile", FIB, "--opt", "3", "-o", image)
    text = wasinn("inspect", image).out
    assert f"{image}: {image.stat().st_size} bytes, compiled ahead of time" in text
    assert "runs here: yes" in text
    assert "func   run: [i32] -> [i64]" in text or "func   run:" in text
    report = json.loads(wasinn("inspect", "--json", image).out)
    assert report["schema"] == "wasinn-inspect-aot-1"
    assert report["name"] == "fib.wasm"
    assert report["source_bytes"] == (ROOT / FIB).stat().st_size
    assert report["opt_level"] == 3
    assert report["migratable"] is False
    assert report["refused_because"] is None
    assert {row["name"] for row in report["sections"]} == {"module", "words", "functions", "code"}
    assert [e["name"] for e in report["module"]["exports"]] == ["memory", "run"] or report["module"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_migratable(wasinn: Wasinn, tmp_path: Path, jobs: int) -> None:
    image = tmp_path / "hello.aot"
    words = ("compile", "--migratable", "--jobs", str(jobs), HELLO, "-o", image)
    assert wasinn(*words).status == 0
    ran = wasinn("run", image, "one")
    assert ran.status == wasinn("run", HELLO, "one").status
    assert ran.out == wasinn("run", HELLO, "one").out
    report = json.loads(wasinn("inspect", "--json", image).out)
    assert report["migratable"] is True
    assert report["refused_because"] is None


def test_another_cpu(wasinn: Wasinn, tmp_path: Path) -> None:
    here = os.uname().machine
    other = "aarch64" if here == "x86_64" else "x86_64"
    image = tmp_path / "fib.aot"
    assert wasinn("compile", FIB, "--target", f"{other}-linux-gnu", "-o", image).status == 0
    ran = wasinn("run", image)
    assert ran.status == 125
    assert f"compiled for {other}-unknown-linux-gnu; this machine is {here}" in ran.err
    assert "runs here: no: compiled for" in wasinn("inspect", image).out


def test_damage(wasinn: Wasinn, tmp_path: Path) -> None:
    image = image_of('(module (func (export "f")))')
    cut, flipped = tmp_path / "cut.aot", tmp_path / "flipped.aot"
    cut.write_bytes(image[:-1])
    flipped.write_bytes(image[:5000] + bytes([image[5000] ^ 1]) + image[5001:])
    for path, words in ((cut, "truncated"), (flipped, "damaged")):
        for command in ("run", "inspect"):
            ran = wasinn(command, path)
            assert (ran.status, ran.out) == (125, "")
            assert ran.err.startswith(f"wasinn: {path}: {words}"), ran.err


def test_native_code_under_a_modules_name_does_not_run(wasinn: Wasinn, tmp_path: Path) -> None:
    path = tmp_path / "app.wasm"
    path.write_bytes(image_of('(module (func (export "_start")))'))
    ran = wasinn("run", path)
    assert ran.status == 125
    assert "is an AOT file, not a module" in ran.err
    assert "ends in .aot" in ran.err
    module = tmp_path / "module.aot"
    module.write_bytes(module_of('(module (func (export "_start")))'))
    assert "not an AOT file; make one with `wasinn compile`" in wasinn("run", module).err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Missing argument 'APP.wasm'"),
        (["nowhere.wasm"], "nowhere.wasm: No such file or directory"),
        ([FIB, "-o", "fib.so"], "must end in .aot"),
        ([FIB, "-o", "/no/such/folder/fib.aot"], "No such file or directory"),
        ([FIB, "-o", "{place}/fib.aot", "--target", "vax"], "no code can be compiled for 'vax'"),
        ([FIB, "-o", "{place}/fib.aot", "--cpu", "z80"], "no CPU 'z80' is known for"),
        ([FIB, "-o", "{place}/fib.aot", "--opt", "7"], "7 is not in the range 0<=x<=3"),
        ([FIB, "-o", "{place}/fib.aot", "--jobs", "0"], "0 is not in the range 1<=x<=256"),
        (["README.md", "-o", "{place}/x.aot"], "README.md:0x0: magic header not detected"),
    ],
)
def test_what_is_refused(wasinn: Wasinn, tmp_path: Path, words: list[str], said: str) -> None:
    ran = wasinn("compile", *[word.format(place=tmp_path) for word in words])
    assert (ran.status, ran.out) == (125, "")
    assert said in ran.err
    assert os.listdir(tmp_path) == []


def test_ctrl_c_leaves_nothing_behind(wasinn: Wasinn, tmp_path: Path) -> None:
    image = tmp_path / "rust-files.aot"
    process = wasinn.start("compile", RUST, "--jobs", "2", "--opt", "3", "-o", image)
    try:
        deadline = time.monotonic() + 60
        while len(_children(process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = _children(process.pid)
        assert len(workers) == 2
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert err == b"wasinn: interrupted\n"
    # They are killed with the process that started them; the system takes a moment to clear them.
    deadline = time.monotonic() + 10
    while left := [worker for worker in workers if Path(f"/proc/{worker}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)
    assert os.listdir(tmp_path) == []


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found
