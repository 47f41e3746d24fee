"""The opcode table's rows of scalar code: control, memory, numbers, tables. See ``opcode.py``.

Longer than other files: it is a table.

Source: WebAssembly core specification 2.0, section 5.4 (binary) and 3.3 (signatures).
"""

from __future__ import annotations

from wasinn_runtime.spec.opcode import Imm, Table, prefixed
from wasinn_runtime.spec.traps import TrapCode

__all__ = ["ROWS"]

ROWS = Table()
_row = ROWS.row
_N = Imm.NONE
_ZERO = TrapCode.INTEGER_DIVIDE_BY_ZERO
_OVERFLOW = TrapCode.INTEGER_OVERFLOW
_INVALID = TrapCode.INVALID_CONVERSION_TO_INTEGER
_MEMORY = TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS
_TABLE = TrapCode.OUT_OF_BOUNDS_TABLE_ACCESS

# --- control ------------------------------------------------------------------------------------
_row(0x00, "unreachable", _N, None, "unreachable", TrapCode.UNREACHABLE)
_row(0x01, "nop", _N, "->", "nop")
_row(0x02, "block", Imm.BLOCK, None, "block")
_row(0x03, "loop", Imm.BLOCK, None, "loop")
_row(0x04, "if", Imm.BLOCK, None, "if")
_row(0x05, "else", _N, None, "else")
_row(0x0B, "end", _N, None, "end")
_row(0x0C, "br", Imm.LABEL, None, "br")
_row(0x0D, "br_if", Imm.LABEL, None, "br_if")
_row(0x0E, "br_table", Imm.LABELS, None, "br_table")
_row(0x0F, "return", _N, None, "return")
_row(0x10, "call", Imm.FUNC, None, "call")
_row(
    0x11,
    "call_indirect",
    Imm.TYPE_TABLE,
    None,
    "call_indirect",
    TrapCode.UNDEFINED_ELEMENT,
    TrapCode.UNINITIALIZED_ELEMENT,
    TrapCode.INDIRECT_CALL_TYPE_MISMATCH,
)

# --- parametric, variables, references ----------------------------------------------------------
_row(0x1A, "drop", _N, None, "drop")
_row(0x1B, "select", _N, None, "select")
_row(0x1C, "select t", Imm.TYPES, None, "select", feature="reference-types")
_row(0x20, "local.get", Imm.LOCAL, None, "local.get")
_row(0x21, "local.set", Imm.LOCAL, None, "local.set")
_row(0x22, "local.tee", Imm.LOCAL, None, "local.tee")
_row(0x23, "global.get", Imm.GLOBAL, None, "global.get")
_row(0x24, "global.set", Imm.GLOBAL, None, "global.set")
_row(0x25, "table.get", Imm.TABLE, None, "table.get", _TABLE, feature="reference-types")
_row(0x26, "table.set", Imm.TABLE, None, "table.set", _TABLE, feature="reference-types")
_row(0xD0, "ref.null", Imm.REF_TYPE, None, "ref.null", feature="reference-types")
_row(0xD1, "ref.is_null", _N, None, "ref.is_null", feature="reference-types")
_row(0xD2, "ref.func", Imm.FUNC, None, "ref.func", feature="reference-types")

# --- memory: family, bits in memory, extension --------------------------------------------------
_row(0x28, "i32.load", Imm.MEMARG, "i32 -> i32", "load 32", _MEMORY)
_row(0x29, "i64.load", Imm.MEMARG, "i32 -> i64", "load 64", _MEMORY)
_row(0x2A, "f32.load", Imm.MEMARG, "i32 -> f32", "load 32", _MEMORY)
_row(0x2B, "f64.load", Imm.MEMARG, "i32 -> f64", "load 64", _MEMORY)
_row(0x2C, "i32.load8_s", Imm.MEMARG, "i32 -> i32", "load 8 sext", _MEMORY)
_row(0x2D, "i32.load8_u", Imm.MEMARG, "i32 -> i32", "load 8 zext", _MEMORY)
_row(0x2E, "i32.load16_s", Imm.MEMARG, "i32 -> i32", "load 16 sext", _MEMORY)
_row(0x2F, "i32.load16_u", Imm.MEMARG, "i32 -> i32", "load 16 zext", _MEMORY)
_row(0x30, "i64.load8_s", Imm.MEMARG, "i32 -> i64", "load 8 sext", _MEMORY)
_row(0x31, "i64.load8_u", Imm.MEMARG, "i32 -> i64", "load 8 zext", _MEMORY)
_row(0x32, "i64.load16_s", Imm.MEMARG, "i32 -> i64", "load 16 sext", _MEMORY)
_row(0x33, "i64.load16_u", Imm.MEMARG, "i32 -> i64", "load 16 zext", _MEMORY)
_row(0x34, "i64.load32_s", Imm.MEMARG, "i32 -> i64", "load 32 sext", _MEMORY)
_row(0x35, "i64.load32_u", Imm.MEMARG, "i32 -> i64", "load 32 zext", _MEMORY)
_row(0x36, "i32.store", Imm.MEMARG, "i32 i32 ->", "store 32", _MEMORY)
_row(0x37, "i64.store", Imm.MEMARG, "i32 i64 ->", "store 64", _MEMORY)
_row(0x38, "f32.store", Imm.MEMARG, "i32 f32 ->", "store 32", _MEMORY)
_row(0x39, "f64.store", Imm.MEMARG, "i32 f64 ->", "store 64", _MEMORY)
_row(0x3A, "i32.store8", Imm.MEMARG, "i32 i32 ->", "store 8", _MEMORY)
_row(0x3B, "i32.store16", Imm.MEMARG, "i32 i32 ->", "store 16", _MEMORY)
_row(0x3C, "i64.store8", Imm.MEMARG, "i32 i64 ->", "store 8", _MEMORY)
_row(0x3D, "i64.store16", Imm.MEMARG, "i32 i64 ->", "store 16", _MEMORY)
_row(0x3E, "i64.store32", Imm.MEMARG, "i32 i64 ->", "store 32", _MEMORY)
_row(0x3F, "memory.size", Imm.MEMORY, "-> i32", "memory.size")
_row(0x40, "memory.grow", Imm.MEMORY, "i32 -> i32", "memory.grow")

# --- constants ----------------------------------------------------------------------------------
_row(0x41, "i32.const", Imm.I32, "-> i32", "const")
_row(0x42, "i64.const", Imm.I64, "-> i64", "const")
_row(0x43, "f32.const", Imm.F32, "-> f32", "const")
_row(0x44, "f64.const", Imm.F64, "-> f64", "const")

# --- comparisons --------------------------------------------------------------------------------
_row(0x45, "i32.eqz", _N, "i32 -> i32", "eqz")
_row(0x46, "i32.eq", _N, "i32 i32 -> i32", "icmp eq")
_row(0x47, "i32.ne", _N, "i32 i32 -> i32", "icmp ne")
_row(0x48, "i32.lt_s", _N, "i32 i32 -> i32", "icmp slt")
_row(0x49, "i32.lt_u", _N, "i32 i32 -> i32", "icmp ult")
_row(0x4A, "i32.gt_s", _N, "i32 i32 -> i32", "icmp sgt")
_row(0x4B, "i32.gt_u", _N, "i32 i32 -> i32", "icmp ugt")
_row(0x4C, "i32.le_s", _N, "i32 i32 -> i32", "icmp sle")
_row(0x4D, "i32.le_u", _N, "i32 i32 -> i32", "icmp ule")
_row(0x4E, "i32.ge_s", _N, "i32 i32 -> i32", "icmp sge")
_row(0x4F, "i32.ge_u", _N, "i32 i32 -> i32", "icmp uge")
_row(0x50, "i64.eqz", _N, "i64 -> i32", "eqz")
_row(0x51, "i64.eq", _N, "i64 i64 -> i32", "icmp eq")
_row(0x52, "i64.ne", _N, "i64 i64 -> i32", "icmp ne")
_row(0x53, "i64.lt_s", _N, "i64 i64 -> i32", "icmp slt")
_row(0x54, "i64.lt_u", _N, "i64 i64 -> i32", "icmp ult")
_row(0x55, "i64.gt_s", _N, "i64 i64 -> i32", "icmp sgt")
_row(0x56, "i64.gt_u", _N, "i64 i64 -> i32", "icmp ugt")
_row(0x57, "i64.le_s", _N, "i64 i64 -> i32", "icmp sle")
_row(0x58, "i64.le_u", _N, "i64 i64 -> i32", "icmp ule")
_row(0x59, "i64.ge_s", _N, "i64 i64 -> i32", "icmp sge")
_row(0x5A, "i64.ge_u", _N, "i64 i64 -> i32", "icmp uge")
_row(0x5B, "f32.eq", _N, "f32 f32 -> i32", "fcmp oeq")
_row(0x5C, "f32.ne", _N, "f32 f32 -> i32", "fcmp une")
_row(0x5D, "f32.lt", _N, "f32 f32 -> i32", "fcmp olt")
_row(0x5E, "f32.gt", _N, "f32 f32 -> i32", "fcmp ogt")
_row(0x5F, "f32.le", _N, "f32 f32 -> i32", "fcmp ole")
_row(0x60, "f32.ge", _N, "f32 f32 -> i32", "fcmp oge")
_row(0x61, "f64.eq", _N, "f64 f64 -> i32", "fcmp oeq")
_row(0x62, "f64.ne", _N, "f64 f64 -> i32", "fcmp une")
_row(0x63, "f64.lt", _N, "f64 f64 -> i32", "fcmp olt")
_row(0x64, "f64.gt", _N, "f64 f64 -> i32", "fcmp ogt")
_row(0x65, "f64.le", _N, "f64 f64 -> i32", "fcmp ole")
_row(0x66, "f64.ge", _N, "f64 f64 -> i32", "fcmp oge")

# --- integer arithmetic -------------------------------------------------------------------------
_row(0x67, "i32.clz", _N, "i32 -> i32", "count ctlz")
_row(0x68, "i32.ctz", _N, "i32 -> i32", "count cttz")
_row(0x69, "i32.popcnt", _N, "i32 -> i32", "popcnt")
_row(0x6A, "i32.add", _N, "i32 i32 -> i32", "int add")
_row(0x6B, "i32.sub", _N, "i32 i32 -> i32", "int sub")
_row(0x6C, "i32.mul", _N, "i32 i32 -> i32", "int mul")
_row(0x6D, "i32.div_s", _N, "i32 i32 -> i32", "div sdiv", _ZERO, _OVERFLOW)
_row(0x6E, "i32.div_u", _N, "i32 i32 -> i32", "div udiv", _ZERO)
_row(0x6F, "i32.rem_s", _N, "i32 i32 -> i32", "div srem", _ZERO)
_row(0x70, "i32.rem_u", _N, "i32 i32 -> i32", "div urem", _ZERO)
_row(0x71, "i32.and", _N, "i32 i32 -> i32", "int and")
_row(0x72, "i32.or", _N, "i32 i32 -> i32", "int or")
_row(0x73, "i32.xor", _N, "i32 i32 -> i32", "int xor")
_row(0x74, "i32.shl", _N, "i32 i32 -> i32", "shift shl")
_row(0x75, "i32.shr_s", _N, "i32 i32 -> i32", "shift ashr")
_row(0x76, "i32.shr_u", _N, "i32 i32 -> i32", "shift lshr")
_row(0x77, "i32.rotl", _N, "i32 i32 -> i32", "rotate fshl")
_row(0x78, "i32.rotr", _N, "i32 i32 -> i32", "rotate fshr")
_row(0x79, "i64.clz", _N, "i64 -> i64", "count ctlz")
_row(0x7A, "i64.ctz", _N, "i64 -> i64", "count cttz")
_row(0x7B, "i64.popcnt", _N, "i64 -> i64", "popcnt")
_row(0x7C, "i64.add", _N, "i64 i64 -> i64", "int add")
_row(0x7D, "i64.sub", _N, "i64 i64 -> i64", "int sub")
_row(0x7E, "i64.mul", _N, "i64 i64 -> i64", "int mul")
_row(0x7F, "i64.div_s", _N, "i64 i64 -> i64", "div sdiv", _ZERO, _OVERFLOW)
_row(0x80, "i64.div_u", _N, "i64 i64 -> i64", "div udiv", _ZERO)
_row(0x81, "i64.rem_s", _N, "i64 i64 -> i64", "div srem", _ZERO)
_row(0x82, "i64.rem_u", _N, "i64 i64 -> i64", "div urem", _ZERO)
_row(0x83, "i64.and", _N, "i64 i64 -> i64", "int and")
_row(0x84, "i64.or", _N, "i64 i64 -> i64", "int or")
_row(0x85, "i64.xor", _N, "i64 i64 -> i64", "int xor")
_row(0x86, "i64.shl", _N, "i64 i64 -> i64", "shift shl")
_row(0x87, "i64.shr_s", _N, "i64 i64 -> i64", "shift ashr")
_row(0x88, "i64.shr_u", _N, "i64 i64 -> i64", "shift lshr")
_row(0x89, "i64.rotl", _N, "i64 i64 -> i64", "rotate fshl")
_row(0x8A, "i64.rotr", _N, "i64 i64 -> i64", "rotate fshr")

# --- floating-point arithmetic ------------------------------------------------------------------
_row(0x8B, "f32.abs", _N, "f32 -> f32", "float1 fabs")
_row(0x8C, "f32.neg", _N, "f32 -> f32", "fneg")
_row(0x8D, "f32.ceil", _N, "f32 -> f32", "round ceil")
_row(0x8E, "f32.floor", _N, "f32 -> f32", "round floor")
_row(0x8F, "f32.trunc", _N, "f32 -> f32", "round trunc")
_row(0x90, "f32.nearest", _N, "f32 -> f32", "round roundeven")
_row(0x91, "f32.sqrt", _N, "f32 -> f32", "float1 sqrt")
_row(0x92, "f32.add", _N, "f32 f32 -> f32", "float fadd")
_row(0x93, "f32.sub", _N, "f32 f32 -> f32", "float fsub")
_row(0x94, "f32.mul", _N, "f32 f32 -> f32", "float fmul")
_row(0x95, "f32.div", _N, "f32 f32 -> f32", "float fdiv")
_row(0x96, "f32.min", _N, "f32 f32 -> f32", "minmax minimum")
_row(0x97, "f32.max", _N, "f32 f32 -> f32", "minmax maximum")
_row(0x98, "f32.copysign", _N, "f32 f32 -> f32", "float2 copysign")
_row(0x99, "f64.abs", _N, "f64 -> f64", "float1 fabs")
_row(0x9A, "f64.neg", _N, "f64 -> f64", "fneg")
_row(0x9B, "f64.ceil", _N, "f64 -> f64", "round ceil")
_row(0x9C, "f64.floor", _N, "f64 -> f64", "round floor")
_row(0x9D, "f64.trunc", _N, "f64 -> f64", "round trunc")
_row(0x9E, "f64.nearest", _N, "f64 -> f64", "round roundeven")
_row(0x9F, "f64.sqrt", _N, "f64 -> f64", "float1 sqrt")
_row(0xA0, "f64.add", _N, "f64 f64 -> f64", "float fadd")
_row(0xA1, "f64.sub", _N, "f64 f64 -> f64", "float fsub")
_row(0xA2, "f64.mul", _N, "f64 f64 -> f64", "float fmul")
_row(0xA3, "f64.div", _N, "f64 f64 -> f64", "float fdiv")
_row(0xA4, "f64.min", _N, "f64 f64 -> f64", "minmax minimum")
_row(0xA5, "f64.max", _N, "f64 f64 -> f64", "minmax maximum")
_row(0xA6, "f64.copysign", _N, "f64 f64 -> f64", "float2 copysign")

# --- conversions --------------------------------------------------------------------------------
_row(0xA7, "i32.wrap_i64", _N, "i64 -> i32", "cast trunc")
_row(0xA8, "i32.trunc_f32_s", _N, "f32 -> i32", "trunc s", _INVALID, _OVERFLOW)
_row(0xA9, "i32.trunc_f32_u", _N, "f32 -> i32", "trunc u", _INVALID, _OVERFLOW)
_row(0xAA, "i32.trunc_f64_s", _N, "f64 -> i32", "trunc s", _INVALID, _OVERFLOW)
_row(0xAB, "i32.trunc_f64_u", _N, "f64 -> i32", "trunc u", _INVALID, _OVERFLOW)
_row(0xAC, "i64.extend_i32_s", _N, "i32 -> i64", "cast sext")
_row(0xAD, "i64.extend_i32_u", _N, "i32 -> i64", "cast zext")
_row(0xAE, "i64.trunc_f32_s", _N, "f32 -> i64", "trunc s", _INVALID, _OVERFLOW)
_row(0xAF, "i64.trunc_f32_u", _N, "f32 -> i64", "trunc u", _INVALID, _OVERFLOW)
_row(0xB0, "i64.trunc_f64_s", _N, "f64 -> i64", "trunc s", _INVALID, _OVERFLOW)
_row(0xB1, "i64.trunc_f64_u", _N, "f64 -> i64", "trunc u", _INVALID, _OVERFLOW)
_row(0xB2, "f32.convert_i32_s", _N, "i32 -> f32", "cast sitofp")
_row(0xB3, "f32.convert_i32_u", _N, "i32 -> f32", "cast uitofp")
_row(0xB4, "f32.convert_i64_s", _N, "i64 -> f32", "cast sitofp")
_row(0xB5, "f32.convert_i64_u", _N, "i64 -> f32", "cast uitofp")
_row(0xB6, "f32.demote_f64", _N, "f64 -> f32", "resize fptrunc")
_row(0xB7, "f64.convert_i32_s", _N, "i32 -> f64", "cast sitofp")
_row(0xB8, "f64.convert_i32_u", _N, "i32 -> f64", "cast uitofp")
_row(0xB9, "f64.convert_i64_s", _N, "i64 -> f64", "cast sitofp")
_row(0xBA, "f64.convert_i64_u", _N, "i64 -> f64", "cast uitofp")
_row(0xBB, "f64.promote_f32", _N, "f32 -> f64", "resize fpext")
_row(0xBC, "i32.reinterpret_f32", _N, "f32 -> i32", "cast bitcast")
_row(0xBD, "i64.reinterpret_f64", _N, "f64 -> i64", "cast bitcast")
_row(0xBE, "f32.reinterpret_i32", _N, "i32 -> f32", "cast bitcast")
_row(0xBF, "f64.reinterpret_i64", _N, "i64 -> f64", "cast bitcast")
_row(0xC0, "i32.extend8_s", _N, "i32 -> i32", "extend 8", feature="sign-extension")
_row(0xC1, "i32.extend16_s", _N, "i32 -> i32", "extend 16", feature="sign-extension")
_row(0xC2, "i64.extend8_s", _N, "i64 -> i64", "extend 8", feature="sign-extension")
_row(0xC3, "i64.extend16_s", _N, "i64 -> i64", "extend 16", feature="sign-extension")
_row(0xC4, "i64.extend32_s", _N, "i64 -> i64", "extend 32", feature="sign-extension")

# --- prefix 0xFC: saturating conversions, bulk memory, tables -----------------------------------
_SAT = "saturating-float-to-int"
_BULK = "bulk-memory"
_REFS = "reference-types"
_FC = prefixed(0xFC, 0)
_row(_FC + 0, "i32.trunc_sat_f32_s", _N, "f32 -> i32", "trunc_sat s", feature=_SAT)
_row(_FC + 1, "i32.trunc_sat_f32_u", _N, "f32 -> i32", "trunc_sat u", feature=_SAT)
_row(_FC + 2, "i32.trunc_sat_f64_s", _N, "f64 -> i32", "trunc_sat s", feature=_SAT)
_row(_FC + 3, "i32.trunc_sat_f64_u", _N, "f64 -> i32", "trunc_sat u", feature=_SAT)
_row(_FC + 4, "i64.trunc_sat_f32_s", _N, "f32 -> i64", "trunc_sat s", feature=_SAT)
_row(_FC + 5, "i64.trunc_sat_f32_u", _N, "f32 -> i64", "trunc_sat u", feature=_SAT)
_row(_FC + 6, "i64.trunc_sat_f64_s", _N, "f64 -> i64", "trunc_sat s", feature=_SAT)
_row(_FC + 7, "i64.trunc_sat_f64_u", _N, "f64 -> i64", "trunc_sat u", feature=_SAT)
_III = "i32 i32 i32 ->"
_row(_FC + 8, "memory.init", Imm.DATA_MEMORY, _III, "memory.init", _MEMORY, feature=_BULK)
_row(_FC + 9, "data.drop", Imm.DATA, "->", "data.drop", feature=_BULK)
_row(_FC + 10, "memory.copy", Imm.MEMORY_MEMORY, _III, "memory.copy", _MEMORY, feature=_BULK)
_row(_FC + 11, "memory.fill", Imm.MEMORY, _III, "memory.fill", _MEMORY, feature=_BULK)
_row(_FC + 12, "table.init", Imm.ELEM_TABLE, _III, "table.init", _TABLE, feature=_BULK)
_row(_FC + 13, "elem.drop", Imm.ELEM, "->", "elem.drop", feature=_BULK)
_row(_FC + 14, "table.copy", Imm.TABLE_TABLE, _III, "table.copy", _TABLE, feature=_BULK)
_row(_FC + 15, "table.grow", Imm.TABLE, None, "table.grow", feature=_REFS)
_row(_FC + 16, "table.size", Imm.TABLE, "-> i32", "table.size", feature=_REFS)
_row(_FC + 17, "table.fill", Imm.TABLE, None, "table.fill", _TABLE, feature=_REFS)
