"""The modes table: every mode of ours and every peer over native code. A view of two fields.

Compiled code makes long runs and interpreters short ones, each against native code on the same.
"""

from __future__ import annotations

from benchmarks.compute import mean_rows, ratio_cell
from benchmarks.contestants import COMPILED_MODES, INTERPRETED_MODES
from benchmarks.field import BASE, Fields
from benchmarks.report import Json, Result, Table

__all__ = ["modes_table"]

_COMPILED = (*COMPILED_MODES, "native tuned", "wasmtime", "node", "WAMR AOT")
_INTERPRETED = (*INTERPRETED_MODES, "wasm3", "WAMR")


def modes_table(fields: Fields) -> Result:
    """Times native; no bars, which are the other tables' affair."""
    fast = fields.fast((BASE, *_COMPILED))
    slow = fields.slow((BASE, *_INTERPRETED))
    compiled = [name for name in _COMPILED if fast.has(name)]
    interpreted = [name for name in _INTERPRETED if slow.has(name)]
    rows = []
    ratios: dict[str, Json] = {}
    for kernel in fast.kernels:
        values = {name: fast.ratio(kernel, name, BASE) for name in compiled}
        values |= {name: slow.ratio(kernel, name, BASE) for name in interpreted}
        ratios[kernel.name] = dict(values)
        rows.append((kernel.name, *(ratio_cell(value) for value in values.values())))
    means_fast = mean_rows(fast, [(name, BASE) for name in compiled], 1)
    means_slow = mean_rows(slow, [(name, BASE) for name in interpreted], 1)
    rows += [(*a, *b[1:]) for a, b in zip(means_fast, means_slow, strict=True)]
    return Result(
        name="modes",
        table=Table(
            title="All modes and peers: processor time over native code's",
            headings=("kernel", *compiled, *interpreted),
            rows=tuple(rows),
        ),
        bars=(),
        data={"ratios": ratios},
        notes=(*fast.notes(_COMPILED), *slow.notes(_INTERPRETED)),
    )
