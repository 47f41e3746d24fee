"""Which instructions the classic interpreter does at once, without a jump between them.

Not what that means: ``classic_code.py`` finds them and gives each an opcode that WebAssembly does
not use, ``classic_handlers.py`` makes handlers of them. So there are no more than such opcodes.
Chosen by what saves most jumps in the scalar programs of the benchmarks, one after another,
coremark weighing as much as six others. Programs whose like is not among them gain less: with a
list chosen without coremark, coremark takes 1.6 times as long.
"""

from __future__ import annotations

__all__ = ["SEQUENCES"]

SEQUENCES = (
    "local.get local.set local.get local.tee i32.load local.set",
    "local.get local.get",
    "local.get i32.xor i32.eqz br_if local.get i32.load",
    "local.tee local.get",
    "local.get local.get i32.store local.get br_if",
    "i32.add i32.load8_u i32.add local.get",
    "local.get i32.const",
    "i32.add local.get",
    "local.set local.get",
    "i32.load8_u local.set block local.get i32.const i32.ne",
    "i64.const i64.shl local.get i64.xor local.tee i64.const",
    "i32.add f64.convert_i32_s f64.div f64.mul f64.add local.set",
    "local.get i32.const' i32.and local.tee i32.const i32.eq",
    "i32.add i32.load8_u local.get",
    "local.get i32.const i32.add",
    "local.tee br_if",
    "i32.add i32.load",
    "local.get i32.const i32.shl",
    "local.get i32.const i32.shr_u i32.xor",
    "i32.const i32.shl",
    "local.set local.get i32.const i32.add",
    "local.get i32.load8_u",
    "f64.mul local.tee f64.add f64.const f64.gt",
    "f64.add f64.store local.get",
    "i32.load16_u local.get i32.sub i32.store16 local.get",
    "i64.shr_u local.get i64.xor local.tee",
    "i32.add local.tee",
    "local.get local.get f64.add local.get f64.mul f64.add",
    "i32.add i32.load8_u i32.eqz i64.extend_i32_u i64.add local.set",
    "i32.const' i32.and i32.const' i32.lt_u select local.set",
    "local.tee i32.const",
    "local.get local.get local.get",
    "i32.const i32.add",
    "i32.add f64.load",
    "i32.lt_s local.tee select local.tee local.get local.get",
    "local.get i32.const i32.add local.set local.get",
    "i32.const' i32.and",
    "i32.lt_u local.tee select i32.sub local.tee",
    "local.get local.set local.get local.set local.get i32.const'",
    "i32.const i32.add local.tee local.get f64.load local.get",
    "i32.add local.tee local.get",
    "i32.add i32.const",
    "f64.mul f64.add f64.store local.get",
    "local.get i32.const i32.add local.tee",
    "i32.add f64.load f64.const f64.mul",
    "i32.xor i32.const' i32.and i32.const",
    "local.get local.get i32.add",
    "i32.const i32.add local.tee",
    "i64.const i64.shr_u local.get i64.xor local.tee",
    "i32.const local.get",
    "local.get local.get i32.const i32.add",
    "local.get local.get i32.const",
)
"""Instructions by name, with numbers of one byte each; an apostrophe is a constant of two. None
begins with what a handler looks for behind its own instruction: br_if and if."""
