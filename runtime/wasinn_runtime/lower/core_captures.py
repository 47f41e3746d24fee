"""The core's part in stopping at a safepoint: room for frames, and the way to ``wasinn_invoke``.

Compiled code writes the frame that stops, then asks for the others: the unwinder of exceptions
visits them, innermost first, and each landing pad writes its own. See ``lower/migratable.py``.
"""

from __future__ import annotations

from wasinn_runtime.abi.layout import Activation, FrameRecord, StoreContext
from wasinn_runtime.lower.core_exceptions import UNWINDING

__all__ = ["CAPTURE_SYMBOLS", "captures_ir"]

# What compiled modules use.
CAPTURE_SYMBOLS = ("wasinn_frame", "wasinn_capture")


def captures_ir() -> str:
    """The functions of ``CAPTURE_SYMBOLS``; part of the core."""
    frame, store = FrameRecord, StoreContext
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

; Called for every frame on the way, as with exceptions.
define internal i32 @on_captured_frame(
  i32 %version, i32 %actions, i64 %class, ptr %what, ptr %context, ptr %store
) uwtable {{
  %start = call i64 @_Unwind_GetRegionStart(ptr %context)
  %end = icmp eq i64 %start, ptrtoint (ptr @wasinn_invoke to i64)
  br i1 %end, label %leave, label %on
leave:
  call void @leave_with(ptr %store, ptr null, i32 4)
  unreachable
on:
  ret i32 0
}}

; The innermost frame is written: have the others write theirs.
define void @wasinn_capture(ptr %store) noreturn noinline uwtable {{
  %active_p = getelementptr i8, ptr %store, i64 {store.ACTIVATION}
  %act = load ptr, ptr %active_p
  %in_host_p = getelementptr i8, ptr %act, i64 {Activation.IN_HOST}
  store volatile i64 {UNWINDING}, ptr %in_host_p
  %what = getelementptr i8, ptr %store, i64 {store.CAPTURE_UNWIND}
  call void @llvm.memset.p0.i64(ptr %what, i8 0, i64 32, i1 false)
  %failed = call i32 @_Unwind_ForcedUnwind(ptr %what, ptr @on_captured_frame, ptr %store)
  call void @leave_with(ptr %store, ptr null, i32 3)
  unreachable
}}
"""
