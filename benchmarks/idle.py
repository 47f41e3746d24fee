"""The idle table: what 1,000 instances of one module with 1 MiB of data take of memory."""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.processes import run_process, source_environment
from benchmarks.report import Bar, Json, Result, Table
from wasinn_runtime.engines.modes import DEFAULT_MODE, MODES

__all__ = ["COUNT", "idle_module", "idle_table"]

COUNT = 1_000
_DATA_BYTES = 1 << 20
_LIMIT_MIB = 200.0


def idle_module(data_bytes: int = _DATA_BYTES) -> bytes:
    """A module with one segment of random bytes, and ``run(i32) -> i64``, which reads from it."""
    pages = (data_bytes + 0xFFFF) // 0x10000 + 1
    data = random.Random(1000).randbytes(data_bytes)
    sections = (
        (1, b"\x01\x60\x01\x7f\x01\x7e"),  # one type: i32 -> i64
        (3, b"\x01\x00"),
        (5, b"\x01\x00" + _leb(pages)),
        (7, b"\x01" + _named("run") + b"\x00\x00"),
        (10, b"\x01\x07\x00\x20\x00\x29\x03\x00\x0b"),  # local.get 0, i64.load align=8
        (11, b"\x01\x00\x41\x00\x0b" + _leb(len(data)) + data),
    )
    body = b"".join(bytes([number]) + _leb(len(part)) + part for number, part in sections)
    return b"\x00asm\x01\x00\x00\x00" + body


def _named(name: str) -> bytes:
    return _leb(len(name)) + name.encode()


def _leb(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def idle_table(count: int = COUNT) -> Result:
    """Every mode and wasmtime, in a process each."""
    script = Path(__file__).parent / "scripts" / "idle_instances.py"
    rows = []
    notes = []
    data: dict[str, Json] = {}
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "idle.wasm"
        file.write_bytes(idle_module())
        for engine in (*MODES, "wasmtime"):
            command = [sys.executable, str(script), engine, str(file), str(count)]
            try:
                _, output = run_process(command, source_environment())
            except BenchmarkError as error:
                if engine == DEFAULT_MODE:
                    raise
                notes.append(f"{engine} was not measured: {str(error).splitlines()[-1]}")
                continue
            taken = json.loads(output)
            all_mib = (taken["after"] - taken["before"]) / (1 << 20)
            each_kib = all_mib * 1024 / count
            if engine != "wasmtime":
                worst = max(worst, all_mib)
            process_mib = taken["after"] / (1 << 20)
            rows.append(
                (engine, f"{all_mib:.1f} MiB", f"{each_kib:.1f} KiB", f"{process_mib:.0f} MiB")
            )
            data[engine] = {"bytes": taken["after"] - taken["before"], "process": taken["after"]}
    return Result(
        name="idle",
        table=Table(
            title=f"Memory (PSS) of {count} idle instances of a module with 1 MiB of data",
            headings=("engine", "module and instances", "each", "the whole process"),
            rows=tuple(rows),
        ),
        bars=(Bar("the largest of our modes", worst, _LIMIT_MIB, "MiB"),),
        data={"count": count, "engines": data},
        notes=tuple(notes),
    )
