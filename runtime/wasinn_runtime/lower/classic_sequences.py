"""Which instructions the classic interpreter does at once, without a jump between them.

Not what that means: ``classic_handlers.py`` makes handlers of it. Measured over the programs of the
benchmarks. To look for what does not come costs about a third of a jump, and now and then a wrong
guess of the CPU, so that only what comes more often than not is worth looking for: with twice as
many sequences there are a quarter fewer jumps, and programs take a tenth longer.
"""

from __future__ import annotations

from wasinn_runtime.spec.opcodes import ROWS

__all__ = ["SEQUENCES", "TWO_BLOCKS"]

TWO_BLOCKS = "block*2"
"""Two blocks without parameters or results, which are found by one test."""

_COMPARED = (
    row.name for row in ROWS if row.meaning[0] in ("eqz", "icmp", "fcmp") and row.code < 256
)
SEQUENCES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_COMPARED, ("br_if", "if")),
    "block": (f"{TWO_BLOCKS} {TWO_BLOCKS}", "local.get"),
    "end": ("local.get i32.const i32.add",),
    "f64.mul": ("f64.add f64.store local.get i32.const i32.add",),
    "f64.store": ("local.get local.get",),
    "i32.add": ("local.tee", "local.get"),
    "i32.const": ("i32.add",),
    "i32.eqz": ("br_if local.get i32.load local.tee br_if", "if"),
    "i32.store": ("local.get br_if",),
    "i32.store8": ("local.get",),
    "i64.add": ("local.set local.get",),
    "local.set": (
        "local.get i32.const i32.add local.tee br_if",
        "local.get i32.const i32.add local.set local.get",
        f"{TWO_BLOCKS} {TWO_BLOCKS}",
        "block local.get i32.const",
    ),
}
"""By the first instruction, what may follow it, the likeliest first."""
