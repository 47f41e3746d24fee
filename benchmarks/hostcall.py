"""The host call table: from a guest into a Python function and back, over what ctypes itself takes
for a native loop that calls the same Python function.
"""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Callable
from pathlib import Path

import wasmtime

import wasinn_runtime as wasinn
from benchmarks.errors import BenchmarkError
from benchmarks.measure import Sample, interleave, timed
from benchmarks.report import Bar, Result, Table
from benchmarks.toolchain import build_native_file, compile_c, wasm_flags
from wasinn_runtime.engines.modes import MODES

__all__ = ["CALLS", "SOURCE", "build_hostcall", "hostcall_table"]

CALLS = 100_000
SOURCE = Path(__file__).parent / "callouts" / "hostcall.c"
_LIMIT_US = 1.0
_CTYPES = "ctypes callback"


def build_hostcall() -> Path:
    """Rebuild the committed module.

    Raises:
        BenchmarkError: zig is missing.
    """
    target = SOURCE.with_suffix(".wasm")
    compile_c(wasm_flags(), SOURCE, target)
    return target


def _next(value: int) -> int:
    return (value + 1) & 0xFFFF


Run = Callable[[int], object]


def _in_ctypes() -> Run:
    library = ctypes.CDLL(str(build_native_file(SOURCE)))
    callback = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int32)(_next)
    return lambda n: library.run(n, callback)


def _in_wasinn(mode: str) -> Run:
    engine = wasinn.Engine(wasinn.Config(mode))
    i32 = wasinn.ValType.I32
    module = wasinn.Module(engine, SOURCE.with_suffix(".wasm").read_bytes())
    host = wasinn.HostFunc(wasinn.FuncType((i32,), (i32,)), _next)
    run = wasinn.Instance(wasinn.Store(engine), module, [host]).exports["run"]
    assert isinstance(run, wasinn.Func)
    return run


def _in_wasmtime() -> Run:
    store = wasmtime.Store(wasmtime.Engine())
    i32 = wasmtime.ValType.i32()
    module = wasmtime.Module(store.engine, SOURCE.with_suffix(".wasm").read_bytes())
    host = wasmtime.Func(store, wasmtime.FuncType([i32], [i32]), _next)
    run = wasmtime.Instance(store, module, [host]).exports(store)["run"]
    assert isinstance(run, wasmtime.Func)
    callee = run
    return lambda n: callee(store, n)


def hostcall_table(rounds: int, calls: int = CALLS) -> Result:
    """Time for one call, processor time, in this process.

    Raises:
        BenchmarkError: a loop gives a wrong result.
    """
    runs: dict[str, Run] = {_CTYPES: _in_ctypes()}
    runs |= {f"wasinn, {mode}": _in_wasinn(mode) for mode in MODES}
    runs["wasmtime"] = _in_wasmtime()
    expected = calls & 0xFFFF

    def contestant(name: str, run: Run) -> Callable[[], Sample]:
        def work() -> None:
            if run(calls) != expected:
                raise BenchmarkError(f"{name}: {calls} host calls do not give {expected}")

        return lambda: timed(work)

    contestants = {name: contestant(name, run) for name, run in runs.items()}
    for warm_up in contestants.values():
        warm_up()
    samples = interleave(contestants, rounds)
    rows = []
    worst = 0.0
    over_us: dict[str, float] = {}
    for name, taken in samples.items():
        each_us = [s * 1e6 / calls for s in taken.cpu_s]
        bare_us = [s * 1e6 / calls for s in samples[_CTYPES].cpu_s]
        over = statistics.median(a - b for a, b in zip(each_us, bare_us, strict=True))
        over_us[name] = over
        if name.startswith("wasinn"):
            worst = max(worst, over)
        figures = (statistics.median(each_us), min(each_us), max(each_us), over)
        rows.append((name, *(f"{figure:.3f} us" for figure in figures)))
    return Result(
        name="hostcall",
        table=Table(
            title=f"A host call from guest to Python and back, {calls} calls, {rounds} rounds",
            headings=("way", "median", "fastest", "slowest", "over ctypes"),
            rows=tuple(rows),
        ),
        bars=(Bar("the slowest of our modes over ctypes", worst, _LIMIT_US, "us"),),
        data={
            "rounds": rounds,
            "calls": calls,
            "times": {name: taken.to_json() for name, taken in samples.items()},
            "over_ctypes_us": dict(over_us),
        },
    )
