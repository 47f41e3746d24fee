"""The opcode table's rows of vector instructions, prefix 0xFD. See ``opcode.py``.

Longer than other files: it is a table.

Source: WebAssembly core specification 3.0, section 5.4 (binary) and 3.3 (signatures).
"""

from __future__ import annotations

from wasinn_runtime.spec.opcode import Imm, Table, prefixed
from wasinn_runtime.spec.traps import TrapCode

__all__ = ["ROWS"]

ROWS = Table()
_row = ROWS.row
_FD = prefixed(0xFD, 0)
_SIMD = "simd"
_MEMORY = TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS

_row(_FD + 0, "v128.load", Imm.MEMARG, "i32 -> v128", "load 128", _MEMORY, feature=_SIMD)
_row(_FD + 11, "v128.store", Imm.MEMARG, "i32 v128 ->", "store 128", _MEMORY, feature=_SIMD)
_row(_FD + 12, "v128.const", Imm.V128, "-> v128", "v128.const", feature=_SIMD)
_row(_FD + 13, "i8x16.shuffle", Imm.LANES, "v128 v128 -> v128", "shuffle", feature=_SIMD)
_row(_FD + 21, "i8x16.extract_lane_s", Imm.LANE, "v128 -> i32", "extract 8 sext", feature=_SIMD)
_row(
    _FD + 84,
    "v128.load8_lane",
    Imm.MEMARG_LANE,
    "i32 v128 -> v128",
    "load_lane 8",
    _MEMORY,
    feature=_SIMD,
)
_row(_FD + 110, "i8x16.add", Imm.NONE, "v128 v128 -> v128", "lanes add 8", feature=_SIMD)
