"""Fields: turns, checksums, contestants that are absent, refuse, die. The engines are real."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import contestants
from benchmarks.catalogue import KERNELS, Kernel
from benchmarks.compute import compute_table, mean_rows
from benchmarks.contestants import WamrContestant, WorkerContestant, contestant
from benchmarks.errors import BenchmarkError, NotRun
from benchmarks.field import Field, Fields, agree, measure_field
from benchmarks.interp import interp_table
from benchmarks.measure import Sample, Samples
from benchmarks.modes import modes_table
from wasinn_runtime.engines.modes import DEFAULT_MODE

_CRC = replace(KERNELS[0], timed_n=20, slow_n=10)


def _samples(*cpu_s: float) -> Samples:
    return Samples(tuple(Sample(s, s) for s in cpu_s))


def _field() -> Field:
    scalar = Kernel("scalar", "integer", 1, 1, 1)
    simd = Kernel("vector", "simd", 1, 1, 1)
    field = Field([scalar, simd], 2)
    field.samples = {
        "scalar": {
            "native": _samples(1, 2),
            "wasmtime": _samples(2, 4),
            "llvm-jit": _samples(1, 2),
        },
        "vector": {"native": _samples(1, 1), "wasmtime": _samples(8, 8)},
    }
    field.checksums = {"scalar": 5, "vector": 6}
    field.refused = {"llvm-jit": {"vector": "vector.wasm:0x4: function 0: needs simd"}}
    field.absent = {"node": "there is no `node` on the path"}
    return field


def test_ratio_and_means() -> None:
    field = _field()
    assert field.ratio(field.kernels[0], "wasmtime", "native") == 2.0
    assert field.ratio(field.kernels[1], "llvm-jit", "native") is None
    assert field.mean("wasmtime", "native") == pytest.approx(4.0)
    assert field.mean("wasmtime", "native", simd=True) == pytest.approx(8.0)
    assert field.mean("llvm-jit", "native", simd=True) is None
    rows = mean_rows(field, [("wasmtime", "native"), ("llvm-jit", "native")], 2)
    assert rows == [
        ("mean, scalar", "", "2.00", "1.00"),
        ("mean, SIMD", "", "8.00", "-"),
        ("mean, all", "", "4.00", "1.00"),
    ]


def test_notes_say_who_did_not_run_what() -> None:
    notes = _field().notes(("native", "llvm-jit", "node"))
    assert notes[0] == "node was not run: there is no `node` on the path"
    assert notes[1] == "llvm-jit did not run vector: needs simd"


def test_checksums_must_agree() -> None:
    with pytest.raises(BenchmarkError, match="checksums differ"):
        agree(_CRC, {"a": 1, "b": 2})


def _close(all_of_them: Sequence[contestants.Contestant]) -> None:
    for one in all_of_them:
        one.close()


def test_contestants_run_in_their_own_processes() -> None:
    both = [contestant("wasmtime"), contestant(DEFAULT_MODE)]
    try:
        field = measure_field([_CRC], both, lambda kernel: kernel.timed_n, rounds=3)
    finally:
        _close(both)
    assert not field.refused
    taken = field.samples["crc32"]
    assert {name: len(s.runs) for name, s in taken.items()} == {"wasmtime": 3, DEFAULT_MODE: 3}
    assert all(0 < s.cpu_s < 10 for samples in taken.values() for s in samples.runs)


def test_a_contestant_that_dies_or_refuses_is_left_out(tmp_path: Path) -> None:
    def die(name: str, words: str) -> WorkerContestant:
        return WorkerContestant(name, [sys.executable, "-c", words])

    broken = Path(tmp_path / "broken.wasm")
    broken.write_bytes(b"\x00asm\x01\x00\x00\x00\xff")
    worker = [sys.executable, "-m", "benchmarks.worker", DEFAULT_MODE]
    all_of_them = [
        contestant("wasmtime"),
        die("aborts", "import os; os.abort()"),
        WorkerContestant("refuses", worker, lambda kernel: broken),
    ]
    try:
        field = measure_field([_CRC], all_of_them, lambda kernel: kernel.timed_n, rounds=1)
    finally:
        _close(all_of_them)
    assert set(field.samples["crc32"]) == {"wasmtime"}
    assert "ended with -6" in field.refused["aborts"]["crc32"]
    assert "broken.wasm" in field.refused["refuses"]["crc32"]


def test_a_worker_goes_on_after_an_error(tmp_path: Path) -> None:
    worker = WorkerContestant("wasmtime", [sys.executable, "-m", "benchmarks.worker", "wasmtime"])
    try:
        with pytest.raises(NotRun, match="nothing is loaded"):
            worker.run(1)
        assert worker.load(_CRC) > 0
        assert worker.run(3)[0] == worker.run(3)[0]
    finally:
        worker.close()


def test_a_wrong_checksum_ends_the_measurement() -> None:
    other = replace(KERNELS[1], tiny_n=_CRC.tiny_n)
    wrong = WorkerContestant(
        "wrong", [sys.executable, "-m", "benchmarks.worker", "wasmtime"], lambda kernel: other.wasm
    )
    both = [contestant("wasmtime"), wrong]
    try:
        with pytest.raises(BenchmarkError, match="checksums differ"):
            measure_field([_CRC], both, lambda kernel: kernel.timed_n, rounds=1)
    finally:
        _close(both)


def test_absent_contestants_say_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("WASINN_BENCH_IWASM", raising=False)
    with pytest.raises(NotRun, match="WASINN_BENCH_IWASM names no iwasm"):
        contestant("WAMR")
    monkeypatch.setenv("WASINN_BENCH_IWASM", str(tmp_path / "none"))
    with pytest.raises(NotRun, match="which is no program"):
        contestant("WAMR")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotRun, match="no `node`"):
        contestant("node")
    with pytest.raises(NotRun, match=f"modes are .*{DEFAULT_MODE}"):
        contestant("no-such-mode")


def test_iwasm_prints_are_read_as_signed_numbers(tmp_path: Path) -> None:
    # A program in iwasm's place: what it prints is WAMR's format for an i64.
    program = tmp_path / "iwasm"
    program.write_text("#!/bin/sh\necho 0xfffffffffffffffe:i64\n")
    program.chmod(0o755)
    wamr = WamrContestant("WAMR", str(program))
    assert wamr.load(_CRC) >= 0
    value, sample = wamr.run(1)
    assert value == -2
    assert sample.wall_s > 0


def test_tables_are_views_of_one_measurement() -> None:
    progress: list[str] = []
    fields = Fields([_CRC], 1, progress.append, everyone=True)
    kernels = compute_table(fields)
    assert progress == ["crc32"]
    modes = modes_table(fields)
    interp = interp_table(fields)
    assert progress == ["crc32", "crc32"]  # the second is the interpreters' own field
    assert [row[0] for row in kernels.table.rows] == ["crc32", "mean, scalar", "mean, all"]
    assert any(bar.what.startswith("llvm-jit over wasmtime") for bar in kernels.bars)
    assert DEFAULT_MODE in modes.table.headings
    for result in (kernels, modes, interp):
        assert {len(row) for row in result.table.rows} == {len(result.table.headings)}
