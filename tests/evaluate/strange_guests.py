"""Guests that keep the contract but for what a test changes."""

from __future__ import annotations

import wasmtime

# Answers each row with the numbers 1 and 2; {rows} is done first and can spoil it.
REACTOR = """
(module
  (memory (export "memory") 32)
  (data (i32.const 8) "\\00\\00\\80\\3f\\00\\00\\00\\40")
  (func (export "wasinn_eval_open") (param i32) (result i32) {open})
  (func (export "wasinn_eval_request") (param i32) (result i32) {request})
  (func (export "wasinn_eval_rows") (param $at i32) (param $size i32) (result i32)
    (local $rows i32) (local $i i32)
    (local.set $rows (i32.load (local.get $at)))
    {rows}
    (loop $each
      (if (i32.lt_u (local.get $i) (local.get $rows))
        (then
          (i32.store (i32.add (i32.const 4096) (i32.shl (local.get $i) (i32.const 2)))
            (i32.const 2))
          (i64.store (i32.add (i32.const 8192) (i32.shl (local.get $i) (i32.const 3)))
            (i64.load (i32.const 8)))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br $each))))
    (i32.store (i32.const 1024) (local.get $rows))
    (i32.store (i32.const 1028) (i32.const 2048))
    (i32.store (i32.const 1032) (i32.const 2048))
    (i32.store (i32.const 1036) (i32.const 4096))
    (i32.store (i32.const 1040) (i32.const 8192))
    (i32.store (i32.const 1044) (i32.const 2048))
    (i32.store (i32.const 1048) (i32.const 0))
    {answer}
    (i32.const 1024)))
"""


def reactor(open: str = "(i32.const 0)", request: str = "(i32.const 65536)", **parts: str) -> bytes:
    text = REACTOR.format(**{"rows": "", "answer": "", "open": open, "request": request, **parts})
    return bytes(wasmtime.wat2wasm(text))


def program(*printed: str, status: int = 0) -> bytes:
    """Prints some lines, whatever it is asked."""
    text = "".join(f"{line}\n" for line in printed).encode()
    data = "".join(f"\\{byte:02x}" for byte in text)
    return bytes(
        wasmtime.wat2wasm(f"""
        (module
          (import "wasi_snapshot_preview1" "fd_write"
            (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 4)
          (data (i32.const 1024) "{data}")
          (func (export "_start")
            (i32.store (i32.const 0) (i32.const 1024))
            (i32.store (i32.const 4) (i32.const {len(text)}))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (call $exit (i32.const {status}))))""")
    )
