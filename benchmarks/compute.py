"""The kernels table: our optimised code, compiled at load and ahead of time, against native code,
wasmtime and WAMR's ahead-of-time code. A view of a field; measures nothing itself.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.field import BASE, Field, Fields
from benchmarks.report import Bar, Json, Result, Table

__all__ = ["NAMES", "compute_table", "mean_rows", "ratio_cell", "unmeasured"]

_JIT, _AOT, _TUNED, _WASMTIME, _WAMR = "llvm-jit", "aot", "native tuned", "wasmtime", "WAMR AOT"
NAMES = (BASE, _TUNED, _WASMTIME, _WAMR, _JIT, _AOT)

_PAIRS = (
    (_JIT, BASE),
    (_JIT, _TUNED),
    (_JIT, _WASMTIME),
    (_JIT, _WAMR),
    (_AOT, BASE),
    (_AOT, _WASMTIME),
    (_AOT, _WAMR),
    (_WASMTIME, BASE),
)

_LIMITS = {BASE: 1.05, _WASMTIME: 0.70, _WAMR: 0.80}
_SINGLE_LIMIT = 1.30


def ratio_cell(ratio: float | None) -> str:
    """A ratio for a table."""
    return "-" if ratio is None else f"{ratio:.2f}"


def mean_rows(field: Field, pairs: Sequence[tuple[str, str]], lead: int) -> list[tuple[str, ...]]:
    """Geometric means over scalar kernels, over SIMD kernels and over all.

    Args:
        lead: how many cells stand before the ratios.
    """
    rows = []
    for what, simd in (("scalar", False), ("SIMD", True), ("all", None)):
        if simd is not None and not any(k.simd == simd for k in field.kernels):
            continue
        cells = [ratio_cell(field.mean(name, base, simd)) for name, base in pairs]
        rows.append((f"mean, {what}", *("" for _ in range(lead - 1)), *cells))
    return rows


def unmeasured(what: str, limit: float, field: Field, *names: str) -> str:
    """A note in place of a bar whose figure there is not."""
    missing = " and ".join(name for name in names if not field.has(name)) or "one of them"
    return f"{what}, bar {limit:.2f}: not measured, without {missing}"


def compute_table(fields: Fields) -> Result:
    """Ratios of processor time, and the bars on their geometric means."""
    field = fields.fast(NAMES)
    rows = []
    ratios: dict[str, Json] = {}
    for kernel in field.kernels:
        values = {f"{a} / {b}": field.ratio(kernel, a, b) for a, b in _PAIRS}
        ratios[kernel.name] = dict(values)
        base_s = statistics.median(field.samples[kernel.name][BASE].cpu_s)
        cells = (ratio_cell(value) for value in values.values())
        rows.append((kernel.name, kernel.group, f"{base_s * 1000:.0f} ms", *cells))
    rows += mean_rows(field, _PAIRS, 3)
    bars: list[Bar] = []
    notes: list[str] = []
    for ours in (_JIT, _AOT):
        for base, limit in _LIMITS.items():
            what = f"{ours} over {base}, geometric mean"
            mean = field.mean(ours, base)
            if mean is None:
                notes.append(unmeasured(what, limit, field, ours, base))
            else:
                bars.append(Bar(what, mean, limit))
        slow = [(field.ratio(k, ours, BASE) or 0.0, k.name) for k in field.kernels]
        over = [f"{name} {ratio:.2f}" for ratio, name in sorted(slow, reverse=True)]
        over = over[: sum(ratio > _SINGLE_LIMIT for ratio, _ in slow)]
        if over:
            notes.append(f"{ours} above {_SINGLE_LIMIT} times native: {', '.join(over)}")
    return Result(
        name="kernels",
        table=Table(
            title=f"Compute kernels, processor time, median of {field.rounds} rounds",
            headings=("kernel", "group", "native", *(f"{a} / {b}" for a, b in _PAIRS)),
            rows=tuple(rows),
            left=2,
        ),
        bars=tuple(bars),
        data={
            "field": field.to_json(NAMES),
            "ratios": ratios,
            "means": {f"{a} / {b}": field.mean(a, b) for a, b in _PAIRS},
        },
        notes=(*notes, *field.notes(NAMES)),
    )
