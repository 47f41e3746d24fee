"""The interpreters' table: ours, wasm3 and WAMR's, over native code. A view of a field."""

from __future__ import annotations

import statistics

from benchmarks.compute import mean_rows, ratio_cell, unmeasured
from benchmarks.field import BASE, Fields
from benchmarks.report import Bar, Json, Result, Table

__all__ = ["interp_table"]

_FAST, _PLAIN, _WASM3, _WAMR = "fast-interp", "interp", "wasm3", "WAMR"
_NAMES = (BASE, _WASM3, _WAMR, _FAST, _PLAIN)
_PAIRS = (
    (_FAST, BASE),
    (_PLAIN, BASE),
    (_WASM3, BASE),
    (_WAMR, BASE),
    (_FAST, _WASM3),
    (_PLAIN, _WASM3),
    (_FAST, _WAMR),
)

_MEAN_LIMIT = 0.75
_COREMARK = "coremark"
_COREMARK_LIMITS = {_FAST: 8.0, _PLAIN: 20.0}


def interp_table(fields: Fields) -> Result:
    """Ratios of processor time. wasm3 has no SIMD: its mean is over the scalar kernels."""
    field = fields.slow(_NAMES)
    rows = []
    ratios: dict[str, Json] = {}
    for kernel in field.kernels:
        values = {f"{a} / {b}": field.ratio(kernel, a, b) for a, b in _PAIRS}
        ratios[kernel.name] = dict(values)
        base_s = statistics.median(field.samples[kernel.name][BASE].cpu_s)
        cells = (ratio_cell(value) for value in values.values())
        rows.append((kernel.name, f"{base_s * 1000:.1f} ms", *cells))
    rows += mean_rows(field, _PAIRS, 2)
    bars: list[Bar] = []
    notes: list[str] = []
    what = f"{_FAST} over {_WASM3}, geometric mean"
    mean = field.mean(_FAST, _WASM3)
    if mean is None:
        notes.append(unmeasured(what, _MEAN_LIMIT, field, _FAST, _WASM3))
    else:
        bars.append(Bar(what, mean, _MEAN_LIMIT))
    coremark = next((k for k in field.kernels if k.name == _COREMARK), None)
    for name, limit in _COREMARK_LIMITS.items():
        what = f"{name} over {BASE} on {_COREMARK}"
        ratio = field.ratio(coremark, name, BASE) if coremark is not None else None
        if ratio is None:
            notes.append(unmeasured(what, limit, field, name))
        else:
            bars.append(Bar(what, ratio, limit))
    return Result(
        name="interp",
        table=Table(
            title=f"Interpreters, processor time, median of {field.rounds} rounds",
            headings=("kernel", "native", *(f"{a} / {b}" for a, b in _PAIRS)),
            rows=tuple(rows),
        ),
        bars=tuple(bars),
        data={"field": field.to_json(_NAMES), "ratios": ratios},
        notes=(*notes, *field.notes(_NAMES)),
    )
