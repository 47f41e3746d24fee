"""The opcode table's rows of control flow after 2.0: tail calls, references, exceptions.

Source: WebAssembly core specification 3.0, section 5.4; of the legacy exceptions, the exception
handling proposal's ``legacy/exceptions``.
"""

from __future__ import annotations

from wasinn_runtime.spec.opcode import Imm, Table
from wasinn_runtime.spec.traps import TrapCode

__all__ = ["ROWS"]

ROWS = Table()
_row = ROWS.row
_N = Imm.NONE
_TAIL = "tail-call"
_REFS = "function-references"
_EXN = "exceptions"
_LEGACY = "legacy-exceptions"
_NULL = TrapCode.NULL_REFERENCE
_NULL_FUNCTION = TrapCode.NULL_FUNCTION_REFERENCE

# --- tail calls ---------------------------------------------------------------------------------
_row(0x12, "return_call", Imm.FUNC, None, "return_call", feature=_TAIL)
_row(
    0x13,
    "return_call_indirect",
    Imm.TYPE_TABLE,
    None,
    "return_call_indirect",
    TrapCode.UNDEFINED_ELEMENT,
    TrapCode.UNINITIALIZED_ELEMENT,
    TrapCode.INDIRECT_CALL_TYPE_MISMATCH,
    feature=_TAIL,
)

# --- typed function references ------------------------------------------------------------------
_row(0x14, "call_ref", Imm.TYPE, None, "call_ref", _NULL_FUNCTION, feature=_REFS)
_row(0x15, "return_call_ref", Imm.TYPE, None, "return_call_ref", _NULL_FUNCTION, feature=_REFS)
_row(0xD4, "ref.as_non_null", _N, None, "ref.as_non_null", _NULL, feature=_REFS)
_row(0xD5, "br_on_null", Imm.LABEL, None, "br_on_null", feature=_REFS)
_row(0xD6, "br_on_non_null", Imm.LABEL, None, "br_on_non_null", feature=_REFS)

# --- exceptions ---------------------------------------------------------------------------------
_row(0x08, "throw", Imm.TAG, None, "throw", feature=_EXN)
_row(0x0A, "throw_ref", _N, None, "throw_ref", TrapCode.NULL_EXCEPTION_REFERENCE, feature=_EXN)
_row(0x1F, "try_table", Imm.TRY_TABLE, None, "try_table", feature=_EXN)

# --- exceptions as toolchains emitted them before 3.0 -------------------------------------------
_row(0x06, "try", Imm.BLOCK, None, "try", feature=_LEGACY)
_row(0x07, "catch", Imm.TAG, None, "catch", feature=_LEGACY)
_row(0x09, "rethrow", Imm.LABEL, None, "rethrow", feature=_LEGACY)
_row(0x18, "delegate", Imm.LABEL, None, "delegate", feature=_LEGACY)
_row(0x19, "catch_all", _N, None, "catch_all", feature=_LEGACY)
