"""The prebuilt guests: what they may use and weigh, and that their sources give the same."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from examples import build
from tests.guests.building import built
from tests.guests.runners import EXAMPLES, Outcome, run_wasinn
from tests.guests.text_lines import HAND_WRITTEN, escaped
from wasinn_models.store import ResolvedModel

GUESTS = sorted(build.GUESTS)

# Sections of a module that hold no code or data; "name" is for messages.
CUSTOM_SECTIONS = {"name", "producers", "target_features"}


def wasm_tools(*args: str) -> str:
    return build.run([build.wasm_tools(), *args], EXAMPLES)


@pytest.fixture(scope="module")
def fresh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guest built from its source just now; the parameter is its name."""
    guest = build.GUESTS[request.param]
    return built(guest, tmp_path_factory.mktemp("fresh") / guest.prebuilt.name)


@pytest.mark.parametrize("name", GUESTS)
def test_prebuilt_is_small_and_within_the_features(name: str) -> None:
    guest = build.GUESTS[name]
    assert guest.prebuilt.stat().st_size <= guest.max_bytes
    wasm_tools("validate", f"--features={build.FEATURES}", str(guest.prebuilt))
    sections = set(re.findall(r'custom "([^"]*)"', wasm_tools("objdump", str(guest.prebuilt))))
    assert {"name"} <= sections <= CUSTOM_SECTIONS


@pytest.mark.parametrize("name", GUESTS)
def test_prebuilt_tells_nothing_about_the_machine_it_was_built_on(name: str) -> None:
    content = build.GUESTS[name].prebuilt.read_bytes()
    for folder in (b"/home/", b"/root/", b"/tmp/", b"/work/", b"examples/"):
        assert folder not in content


@pytest.mark.parametrize("name", GUESTS)
def test_prebuilt_imports(name: str) -> None:
    text = wasm_tools("print", str(build.GUESTS[name].prebuilt))
    modules = set(re.findall(r'\(import "([^"]*)"', text))
    neural = {"wasi_ephemeral_nn"} if name not in ("hello", "rust-files") else set()
    assert modules == {"wasi_snapshot_preview1"} | neural


def test_unicode_tables_are_up_to_date() -> None:
    script = EXAMPLES / "bert-c" / "gen_unicode.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@dataclass(frozen=True)
class Sample:
    """One way to run a guest; folders are ``models`` and ``work``."""

    args: Sequence[str]
    stdin: bytes = b""
    env: Mapping[str, str] = field(default_factory=dict)


TOKENIZE = ("--vocab", "models/vocab.txt", "--tokenize", "--escapes")
HARD_LINES = b"".join(escaped(line) + b"\n" for line in HAND_WRITTEN)

# What shows most of what a guest does without a model.
SAMPLES = {
    "hello": (
        Sample(["a", "--env", "X", "--read", "models/vocab.txt"], env={"X": "y"}),
        Sample(["--write", "work/file", "text", "--read", "work/file", "--exit", "7"]),
        Sample(["--read", "nowhere"]),
    ),
    "npu-plugin": (Sample(["--help"]), Sample(["none", "1"]), Sample(["none", "256"]), Sample([])),
    "rust-files": (
        Sample(["files", "work"]),
        Sample(["args", "one", "two words"]),
        Sample(["lines"], stdin="äöü\n\nlast".encode()),
        Sample(["env"], env={"B": "2", "A": "1"}),
        Sample(["exit", "9"]),
        Sample([]),
    ),
    "semantic-search": (
        Sample(TOKENIZE, stdin=HARD_LINES),
        Sample([*TOKENIZE, "--literal", "--max-tokens=9"], stdin=HARD_LINES),
        Sample(["--help"]),
        Sample(["--vocab", "models/vocab.txt", "--model", "none", "--embed"]),
    ),
}


def test_each_program_has_samples() -> None:
    """Reactors are compared where they are asked: in evaluations."""
    assert set(SAMPLES) == {name for name in GUESTS if not build.GUESTS[name].is_reactor}


@pytest.mark.slow
@pytest.mark.parametrize(("fresh", "name"), [(name, name) for name in SAMPLES], indirect=["fresh"])
def test_rebuilt_guest_does_the_same(
    fresh: Path, name: str, minilm: ResolvedModel, tmp_path: Path
) -> None:
    def outcomes(wasm: Path, work: Path) -> list[Outcome]:
        work.mkdir()
        dirs = {"models": minilm.directory, "work": work}
        return [
            run_wasinn(wasm, sample.args, stdin=sample.stdin, env=sample.env, dirs=dirs)
            for sample in SAMPLES[name]
        ]

    prebuilt = outcomes(build.GUESTS[name].prebuilt, tmp_path / "prebuilt")
    rebuilt = outcomes(fresh, tmp_path / "rebuilt")
    assert prebuilt == rebuilt
    assert any(outcome.status == 0 and outcome.stdout for outcome in prebuilt)


HEADER_USE = """
#include "wasi_nn.h"

int main(void) {
  wasi_nn_graph graph;
  wasi_nn_context context;
  uint32_t shape[] = {1, 2}, written = 0;
  float data[2] = {0, 0};
  wasi_nn_tensor tensor = {shape, 2, WASI_NN_F32, {0}, data, sizeof data};
  wasi_nn_part part = {(const uint8_t *)"model", 5};
  if (wasi_nn_load(&part, 1, WASI_NN_ONNX, WASI_NN_CPU, &graph)) return 1;
  if (wasi_nn_load_by_name("name", 4, &graph)) return 2;
  if (wasi_nn_init_execution_context(graph, &context)) return 3;
  if (wasi_nn_set_input(context, 0, &tensor)) return 4;
  if (wasi_nn_compute(context)) return 5;
  return wasi_nn_errno_name(wasi_nn_get_output(context, 0, data, sizeof data, &written))[0];
}
"""


@pytest.mark.parametrize(("compiler", "suffix"), [("cc", "c"), ("c++", "cc")])
def test_header_serves_c_and_cpp(tmp_path: Path, compiler: str, suffix: str) -> None:
    """Each import is there under its witx name and with its witx signature."""
    source, output = tmp_path / f"use.{suffix}", tmp_path / "use.wasm"
    source.write_text(HEADER_USE)
    # An object file is enough, and needs no C library.
    target = ("-target", "wasm32-freestanding", "-ffreestanding", "-c", "-O1", "-g0")
    checks = ("-Wall", "-Wextra", "-Werror", "-I", str(EXAMPLES / "include"))
    zig = (sys.executable, "-m", "ziglang", compiler)
    build.run([*zig, *target, *checks, str(source), "-o", str(output)], tmp_path)
    text = wasm_tools("print", str(output))
    types = dict(re.findall(r"\(type \(;(\d+);\) \(func(.*?)\)\)", text))
    found = {
        name: types[number].replace("(", "").replace(")", "").split()
        for name, number in re.findall(
            r'\(import "wasi_ephemeral_nn" "(\w+)" \(func .*?\(type (\d+)\)', text
        )
    }
    counts = {
        "load": 5,
        "load_by_name": 3,
        "init_execution_context": 2,
        "set_input": 3,
        "compute": 1,
        "get_output": 5,
    }
    assert found == {
        name: ["param", *["i32"] * count, "result", "i32"] for name, count in counts.items()
    }
