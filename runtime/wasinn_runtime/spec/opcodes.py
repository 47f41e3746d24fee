"""The one opcode table: every fact about an instruction that is not code lives in its row.

Decoder, validator, compiler, documentation and generators iterate this table; no file outside
``rows_*.py`` holds an opcode number. A row names its *meaning*: a word, and arguments after it,
that ``lower/meanings.py`` turns into LLVM IR once for all widths and engines. Instructions
whose effect is control flow, or whose type depends on the module, have the meaning of their
family and an empty signature (``None``): validator and lowering know the family by that word.
"""

from __future__ import annotations

from wasinn_runtime.spec import rows_atomic, rows_control, rows_scalar, rows_simd
from wasinn_runtime.spec.features import FEATURES_2_0
from wasinn_runtime.spec.opcode import Imm, Opcode, prefixed

__all__ = [
    "BY_CODE",
    "BY_NAME",
    "FEATURES_2_0",
    "PREFIXES",
    "REFUSED",
    "ROWS",
    "Imm",
    "Opcode",
    "prefixed",
]

ROWS: list[Opcode] = [
    *rows_scalar.ROWS,
    *rows_control.ROWS,
    *rows_simd.ROWS,
    *rows_atomic.ROWS,
]

# By their first byte, instructions of versions that this table does not follow, so that a refusal
# can name what is missing.
REFUSED = {0xD3: "garbage collection", 0xFB: "garbage collection"}


def _index() -> tuple[dict[int, Opcode], dict[str, Opcode]]:
    by_code: dict[int, Opcode] = {}
    by_name: dict[str, Opcode] = {}
    for row in ROWS:
        for key, taken in ((row.code, by_code.get(row.code)), (row.name, by_name.get(row.name))):
            if taken is not None:
                raise ValueError(f"opcode table: {key!r} is both {taken.name} and {row.name}")
        by_code[row.code] = row
        by_name[row.name] = row
    return by_code, by_name


BY_CODE, BY_NAME = _index()
PREFIXES = frozenset(row.code >> 16 for row in ROWS if row.code > 0xFF)
