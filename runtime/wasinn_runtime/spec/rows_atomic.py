"""The opcode table's rows of the threads proposal, prefix 0xFE. See ``opcode.py``.

Every access is sequentially consistent, and its alignment must be its size. Narrow ones extend
with zeros. ``atomic.rmw`` and ``atomic.cmpxchg`` leave what was in memory before.

Source: WebAssembly threads proposal, section 5.4 (binary) and 3.3 (signatures) of its draft.
"""

from __future__ import annotations

from wasinn_runtime.spec.opcode import Imm, Table, prefixed
from wasinn_runtime.spec.traps import TrapCode

__all__ = ["ROWS"]

ROWS = Table()
_M = Imm.MEMARG
_FE = prefixed(0xFE, 0)
_TRAPS = (TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS, TrapCode.UNALIGNED_ATOMIC)
_WAIT = (*_TRAPS, TrapCode.EXPECTED_SHARED_MEMORY)


def _row(number: int, name: str, signature: str, meaning: str) -> None:
    ROWS.row(_FE + number, name, _M, signature, meaning, *_TRAPS, feature="threads")


_row(0x00, "memory.atomic.notify", "i32 i32 -> i32", "atomic.notify 32")
ROWS.row(
    _FE + 0x01,
    "memory.atomic.wait32",
    _M,
    "i32 i32 i64 -> i32",
    "atomic.wait 32",
    *_WAIT,
    feature="threads",
)
ROWS.row(
    _FE + 0x02,
    "memory.atomic.wait64",
    _M,
    "i32 i64 i64 -> i32",
    "atomic.wait 64",
    *_WAIT,
    feature="threads",
)
ROWS.row(_FE + 0x03, "atomic.fence", Imm.ZERO, "->", "atomic.fence", feature="threads")

# --- loads and stores ----------------------------------------------------------------------------
_row(0x10, "i32.atomic.load", "i32 -> i32", "atomic.load 32")
_row(0x11, "i64.atomic.load", "i32 -> i64", "atomic.load 64")
_row(0x12, "i32.atomic.load8_u", "i32 -> i32", "atomic.load 8")
_row(0x13, "i32.atomic.load16_u", "i32 -> i32", "atomic.load 16")
_row(0x14, "i64.atomic.load8_u", "i32 -> i64", "atomic.load 8")
_row(0x15, "i64.atomic.load16_u", "i32 -> i64", "atomic.load 16")
_row(0x16, "i64.atomic.load32_u", "i32 -> i64", "atomic.load 32")
_row(0x17, "i32.atomic.store", "i32 i32 ->", "atomic.store 32")
_row(0x18, "i64.atomic.store", "i32 i64 ->", "atomic.store 64")
_row(0x19, "i32.atomic.store8", "i32 i32 ->", "atomic.store 8")
_row(0x1A, "i32.atomic.store16", "i32 i32 ->", "atomic.store 16")
_row(0x1B, "i64.atomic.store8", "i32 i64 ->", "atomic.store 8")
_row(0x1C, "i64.atomic.store16", "i32 i64 ->", "atomic.store 16")
_row(0x1D, "i64.atomic.store32", "i32 i64 ->", "atomic.store 32")

# --- read, modify, write -------------------------------------------------------------------------
_row(0x1E, "i32.atomic.rmw.add", "i32 i32 -> i32", "atomic.rmw add 32")
_row(0x1F, "i64.atomic.rmw.add", "i32 i64 -> i64", "atomic.rmw add 64")
_row(0x20, "i32.atomic.rmw8.add_u", "i32 i32 -> i32", "atomic.rmw add 8")
_row(0x21, "i32.atomic.rmw16.add_u", "i32 i32 -> i32", "atomic.rmw add 16")
_row(0x22, "i64.atomic.rmw8.add_u", "i32 i64 -> i64", "atomic.rmw add 8")
_row(0x23, "i64.atomic.rmw16.add_u", "i32 i64 -> i64", "atomic.rmw add 16")
_row(0x24, "i64.atomic.rmw32.add_u", "i32 i64 -> i64", "atomic.rmw add 32")
_row(0x25, "i32.atomic.rmw.sub", "i32 i32 -> i32", "atomic.rmw sub 32")
_row(0x26, "i64.atomic.rmw.sub", "i32 i64 -> i64", "atomic.rmw sub 64")
_row(0x27, "i32.atomic.rmw8.sub_u", "i32 i32 -> i32", "atomic.rmw sub 8")
_row(0x28, "i32.atomic.rmw16.sub_u", "i32 i32 -> i32", "atomic.rmw sub 16")
_row(0x29, "i64.atomic.rmw8.sub_u", "i32 i64 -> i64", "atomic.rmw sub 8")
_row(0x2A, "i64.atomic.rmw16.sub_u", "i32 i64 -> i64", "atomic.rmw sub 16")
_row(0x2B, "i64.atomic.rmw32.sub_u", "i32 i64 -> i64", "atomic.rmw sub 32")
_row(0x2C, "i32.atomic.rmw.and", "i32 i32 -> i32", "atomic.rmw and 32")
_row(0x2D, "i64.atomic.rmw.and", "i32 i64 -> i64", "atomic.rmw and 64")
_row(0x2E, "i32.atomic.rmw8.and_u", "i32 i32 -> i32", "atomic.rmw and 8")
_row(0x2F, "i32.atomic.rmw16.and_u", "i32 i32 -> i32", "atomic.rmw and 16")
_row(0x30, "i64.atomic.rmw8.and_u", "i32 i64 -> i64", "atomic.rmw and 8")
_row(0x31, "i64.atomic.rmw16.and_u", "i32 i64 -> i64", "atomic.rmw and 16")
_row(0x32, "i64.atomic.rmw32.and_u", "i32 i64 -> i64", "atomic.rmw and 32")
_row(0x33, "i32.atomic.rmw.or", "i32 i32 -> i32", "atomic.rmw or 32")
_row(0x34, "i64.atomic.rmw.or", "i32 i64 -> i64", "atomic.rmw or 64")
_row(0x35, "i32.atomic.rmw8.or_u", "i32 i32 -> i32", "atomic.rmw or 8")
_row(0x36, "i32.atomic.rmw16.or_u", "i32 i32 -> i32", "atomic.rmw or 16")
_row(0x37, "i64.atomic.rmw8.or_u", "i32 i64 -> i64", "atomic.rmw or 8")
_row(0x38, "i64.atomic.rmw16.or_u", "i32 i64 -> i64", "atomic.rmw or 16")
_row(0x39, "i64.atomic.rmw32.or_u", "i32 i64 -> i64", "atomic.rmw or 32")
_row(0x3A, "i32.atomic.rmw.xor", "i32 i32 -> i32", "atomic.rmw xor 32")
_row(0x3B, "i64.atomic.rmw.xor", "i32 i64 -> i64", "atomic.rmw xor 64")
_row(0x3C, "i32.atomic.rmw8.xor_u", "i32 i32 -> i32", "atomic.rmw xor 8")
_row(0x3D, "i32.atomic.rmw16.xor_u", "i32 i32 -> i32", "atomic.rmw xor 16")
_row(0x3E, "i64.atomic.rmw8.xor_u", "i32 i64 -> i64", "atomic.rmw xor 8")
_row(0x3F, "i64.atomic.rmw16.xor_u", "i32 i64 -> i64", "atomic.rmw xor 16")
_row(0x40, "i64.atomic.rmw32.xor_u", "i32 i64 -> i64", "atomic.rmw xor 32")
_row(0x41, "i32.atomic.rmw.xchg", "i32 i32 -> i32", "atomic.rmw xchg 32")
_row(0x42, "i64.atomic.rmw.xchg", "i32 i64 -> i64", "atomic.rmw xchg 64")
_row(0x43, "i32.atomic.rmw8.xchg_u", "i32 i32 -> i32", "atomic.rmw xchg 8")
_row(0x44, "i32.atomic.rmw16.xchg_u", "i32 i32 -> i32", "atomic.rmw xchg 16")
_row(0x45, "i64.atomic.rmw8.xchg_u", "i32 i64 -> i64", "atomic.rmw xchg 8")
_row(0x46, "i64.atomic.rmw16.xchg_u", "i32 i64 -> i64", "atomic.rmw xchg 16")
_row(0x47, "i64.atomic.rmw32.xchg_u", "i32 i64 -> i64", "atomic.rmw xchg 32")
_row(0x48, "i32.atomic.rmw.cmpxchg", "i32 i32 i32 -> i32", "atomic.cmpxchg 32")
_row(0x49, "i64.atomic.rmw.cmpxchg", "i32 i64 i64 -> i64", "atomic.cmpxchg 64")
_row(0x4A, "i32.atomic.rmw8.cmpxchg_u", "i32 i32 i32 -> i32", "atomic.cmpxchg 8")
_row(0x4B, "i32.atomic.rmw16.cmpxchg_u", "i32 i32 i32 -> i32", "atomic.cmpxchg 16")
_row(0x4C, "i64.atomic.rmw8.cmpxchg_u", "i32 i64 i64 -> i64", "atomic.cmpxchg 8")
_row(0x4D, "i64.atomic.rmw16.cmpxchg_u", "i32 i64 i64 -> i64", "atomic.cmpxchg 16")
_row(0x4E, "i64.atomic.rmw32.cmpxchg_u", "i32 i64 i64 -> i64", "atomic.cmpxchg 32")
