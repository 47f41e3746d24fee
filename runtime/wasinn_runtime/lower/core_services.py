"""The core's calls of Python for what is rare: waiting, notifying, growing shared memories."""

from __future__ import annotations

from wasinn_runtime.abi.layout import StoreContext

__all__ = [
    "SERVICE_GROW",
    "SERVICE_NOTIFY",
    "SERVICE_SYMBOLS",
    "SERVICE_WAIT",
    "services_ir",
]

SERVICE_SYMBOLS = ("wasinn_shared_grow", "wasinn_wait", "wasinn_notify")
# The first cell of a request; operands follow, and the answer takes its place.
SERVICE_GROW, SERVICE_WAIT, SERVICE_NOTIFY = 1, 2, 3


def services_ir() -> str:
    """The functions of ``SERVICE_SYMBOLS``, and ``wasinn_service`` for others in the core."""
    return f"""
define internal void @wasinn_service(ptr %store, ptr %request) uwtable {{
  %token_p = getelementptr i8, ptr %store, i64 {StoreContext.SERVICES}
  %token = load i64, ptr %token_p
  %dispatch_p = getelementptr ptr, ptr @wasinn_dispatch, i64 2
  %dispatch = load ptr, ptr %dispatch_p
  call void @into_python(ptr %store, ptr %dispatch, i64 %token, ptr %request)
  ret void
}}

define internal i64 @request(ptr %store, i64 %what, i64 %a, i64 %b, i64 %c, i64 %d) {{
  %cells = alloca [5 x i64]
  store i64 %what, ptr %cells
  %a_p = getelementptr i64, ptr %cells, i64 1
  store i64 %a, ptr %a_p
  %b_p = getelementptr i64, ptr %cells, i64 2
  store i64 %b, ptr %b_p
  %c_p = getelementptr i64, ptr %cells, i64 3
  store i64 %c, ptr %c_p
  %d_p = getelementptr i64, ptr %cells, i64 4
  store i64 %d, ptr %d_p
  call void @wasinn_service(ptr %store, ptr %cells)
  %answer = load i64, ptr %cells
  ret i64 %answer
}}

; Pages before, or -1. One thread at a time: Python has a lock.
define i64 @wasinn_shared_grow(ptr %store, ptr %memory, i64 %delta) {{
  %a = ptrtoint ptr %memory to i64
  %before = call i64 @request(ptr %store, i64 {SERVICE_GROW}, i64 %a, i64 %delta, i64 0, i64 0)
  ret i64 %before
}}

; 0 notified, 1 the value is another, 2 the time is over. A negative timeout in ns is none.
define i32 @wasinn_wait(ptr %store, ptr %address, i64 %expected, i64 %timeout, i64 %bits) {{
  %a = ptrtoint ptr %address to i64
  %why = call i64 @request(
    ptr %store, i64 {SERVICE_WAIT}, i64 %a, i64 %expected, i64 %timeout, i64 %bits)
  %narrow = trunc i64 %why to i32
  ret i32 %narrow
}}

; How many were waiting at the address and go on now.
define i32 @wasinn_notify(ptr %store, ptr %address, i32 %count) {{
  %a = ptrtoint ptr %address to i64
  %most = zext i32 %count to i64
  %woken = call i64 @request(ptr %store, i64 {SERVICE_NOTIFY}, i64 %a, i64 %most, i64 0, i64 0)
  %narrow = trunc i64 %woken to i32
  ret i32 %narrow
}}
"""
