"""The core's part in stopping at a safepoint: room for frames, and the way to ``wasinn_invoke``.

Compiled code writes the frame that stops, then asks for the others: the unwinder of exceptions
visits them, innermost first, and each landing pad writes its own. See ``lower/migratable.py``.
"""

from __future__ import annotations

from wasinn_runtime.abi.layout import FrameRecord, StoreContext
from wasinn_runtime.lower.core_exceptions import unwinder_ir

__all__ = ["CAPTURE_SYMBOLS", "captures_ir"]

# What compiled modules use.
CAPTURE_SYMBOLS = ("wasinn_frame", "wasinn_capture")


def captures_ir() -> str:
    """The functions of ``CAPTURE_SYMBOLS``; part of the core."""
    frame, store = FrameRecord, StoreContext
    begin = f"%cell = getelementptr i8, ptr %store, i64 {store.CAPTURE_UNWIND}"
    return f"""
; Begin the record of a frame; gives where its %count cells go. They are zero as they are.
define ptr @wasinn_frame(ptr %vm, i64 %function, i64 %offset, i64 %count) noinline uwtable {{
  %store = load ptr, ptr %vm
  %next_p = getelementptr i8, ptr %store, i64 {store.CAPTURE_NEXT}
  %record = load ptr, ptr %next_p
  %end_p = getelementptr i8, ptr %store, i64 {store.CAPTURE_END}
  %end = load i64, ptr %end_p
  %at = ptrtoint ptr %record to i64
  %room = sub i64 %end, %at
  %bytes = shl i64 %count, 3
  %size = add i64 %bytes, {frame.CELLS}
  %fits = icmp ule i64 %size, %room
  br i1 %fits, label %write, label %full
write:
  store ptr %vm, ptr %record
  %function_p = getelementptr i8, ptr %record, i64 {frame.FUNCTION}
  store i64 %function, ptr %function_p
  %offset_p = getelementptr i8, ptr %record, i64 {frame.OFFSET}
  store i64 %offset, ptr %offset_p
  %count_p = getelementptr i8, ptr %record, i64 {frame.COUNT}
  store i64 %count, ptr %count_p
  %after = getelementptr i8, ptr %record, i64 %size
  store ptr %after, ptr %next_p
  %cells = getelementptr i8, ptr %record, i64 {frame.CELLS}
  ret ptr %cells
full:
  call void @leave_with(ptr %store, ptr null, i32 5)
  unreachable
}}

; The innermost frame is written: have the others write theirs.
{unwinder_ir("wasinn_capture(ptr %store)", "on_captured_frame", "null", 4, begin)}
"""
