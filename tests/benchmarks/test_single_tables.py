"""The tables that measure something of their own, each once and small. Figures are not judged."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import wasmtime
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import aot, fast_jit, hostcall, idle, nn_batching, nn_calls, nn_rounds
from benchmarks.catalogue import KERNELS
from benchmarks.errors import BenchmarkError
from benchmarks.field import Fields
from benchmarks.generator import Program
from benchmarks.guests import middle_guest
from benchmarks.processes import ROOT, run_process
from benchmarks.report import Result, Table
from benchmarks.runners import WasinnRunner, WasmtimeRunner
from benchmarks.start import start_table
from benchmarks.tables import TABLES, Request, TableOf
from benchmarks.toolchain import zig_version
from wasinn_runtime.engines.modes import DEFAULT_MODE, MODES

_TAKES_ZIG = pytest.mark.skipif(zig_version() is None, reason="takes the ziglang package")


def _rows(result: Result) -> dict[str, tuple[str, ...]]:
    assert {len(row) for row in result.table.rows} == {len(result.table.headings)}
    return {row[0]: row[1:] for row in result.table.rows}


@_TAKES_ZIG
def test_hostcall() -> None:
    result = hostcall.hostcall_table(rounds=1, calls=1_000)
    rows = _rows(result)
    assert rows["ctypes callback"][-1] == "0.000 us"
    assert {f"wasinn, {mode}" for mode in MODES} < set(rows)
    assert len(result.bars) == 1


def test_nn_calls() -> None:
    result = nn_calls.nn_calls_table(rounds=1, small=10, large=1)
    assert [row[:2] for row in result.table.rows] == [
        (size, way)
        for size in ("1 KiB", "16384 KiB")
        for way in ("backend in this process", "backend in its own", "two copies")
    ]
    assert len(result.bars) == 4


def test_nn_batching() -> None:
    result = nn_batching.nn_batching_table(
        rounds=1, guests=4, times=2, minilm_guests=2, minilm_times=1
    )
    assert [row[:2] for row in result.table.rows] == [
        ("5 ms for each call", "4"),
        ("MiniLM, ONNX Runtime", "2"),
    ]
    assert len(result.bars) == 2


def test_nn_rounds() -> None:
    rows = _rows(nn_rounds.nn_rounds_table(rounds=5))
    assert {"null", "onnx"} <= set(rows)


def test_idle() -> None:
    result = idle.idle_table(count=5)
    assert {DEFAULT_MODE, "wasmtime"} <= set(_rows(result))


@pytest.mark.parametrize("data_bytes", [1, 1 << 16, 100_001])
def test_idle_module_is_a_module(data_bytes: int) -> None:
    data = idle.idle_module(data_bytes)
    store = wasmtime.Store()
    instance = wasmtime.Instance(store, wasmtime.Module(store.engine, data), [])
    run = instance.exports(store)["run"]
    memory = data[-data_bytes:] + bytes(8)
    assert isinstance(run, wasmtime.Func)
    for at in (0, data_bytes - 1):
        assert run(store, at) == int.from_bytes(memory[at : at + 8], "little", signed=True)


def test_start_with_a_small_guest() -> None:
    hello = ROOT / "examples" / "hello" / "hello.wasm"
    result = start_table(rounds=1, cold_rounds=1, guest=hello, mode=DEFAULT_MODE)
    rows = _rows(result)
    assert len(rows) == 5 if shutil.which("node") else 4
    assert len(result.bars) == 2


def test_start_without_the_mode() -> None:
    result = start_table(rounds=1, mode="no-such-mode")
    assert result.notes == (
        f"not measured: no-such-mode is not one of this version's modes, {', '.join(MODES)}",
    )


@pytest.mark.slow
@_TAKES_ZIG
def test_middle_guest_agrees() -> None:
    guest = middle_guest(units=1, functions=40)
    assert WasinnRunner().load(guest.file)(3) == WasmtimeRunner().load(guest.file)(3)


@pytest.mark.slow
@_TAKES_ZIG
def test_fast_jit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_jit, "middle_guest", lambda: middle_guest(units=1, functions=40))
    result = fast_jit.fast_jit_table(Fields(KERNELS[:1], 1, lambda text: None))
    rows = _rows(result)
    assert rows["crc32"][1].endswith(" ms")


@pytest.mark.slow
@_TAKES_ZIG
def test_aot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WASINN_BENCH_WAMRC", raising=False)
    monkeypatch.setattr(aot, "middle_guest", lambda: middle_guest(units=1, functions=20))
    result = aot.aot_table(rounds=1)
    assert list(_rows(result)) == ["wasinn compile, 1 job", "wasinn compile, 2 jobs"]
    share, jobs = result.bars
    assert 0 < share.value < 100
    assert jobs.value > 0
    assert result.notes == ("wamrc was not run: WASINN_BENCH_WAMRC names no wamrc",)


def test_generated_programs_are_always_the_same() -> None:
    first, second = Program(2, 20), Program(2, 20)
    assert first.unit(1) == second.unit(1)
    assert first.unit(0) != first.unit(1)
    assert first.caller(5, 10) == second.caller(5, 10)


def test_every_table_has_a_command() -> None:
    _, output = run_process([sys.executable, "-m", "benchmarks", "--help"])
    for table in TABLES:
        assert f"  {table.name} ".encode() in output


def test_a_table_that_fails_does_not_cost_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(request: Request) -> Result:
        raise BenchmarkError("no such luck")

    def give(request: Request) -> Result:
        return Result("good", Table("Good", ("a",), (("1",),)), (), {})

    tables = (TableOf("bad", "What is bad.", fail), TableOf("good", "What is good.", give))
    monkeypatch.setattr(command, "TABLES", tables)
    target = tmp_path / "results.json"
    result = CliRunner().invoke(command.cli, ["all", "--readme", "--json", str(target)])
    assert isinstance(result.exception, BenchmarkError)
    assert "left alone: bad" in str(result.exception)
    assert "- not measured: no such luck" in result.output
    assert set(json.loads(target.read_text())["tables"]) == {"bad", "good"}


def test_sources_name_no_place_of_this_machine() -> None:
    for path in (ROOT / "benchmarks").rglob("*.wasm"):
        if ".build" not in path.parts:
            assert str(Path.home()).encode() not in path.read_bytes()
