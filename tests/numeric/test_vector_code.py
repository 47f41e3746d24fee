"""What vector instructions become on CPUs that have them: as few instructions as there are.

The numbers leave out loads of constants. Those of docs/decisions/0010-relaxed-simd.md are among
them.
"""

from __future__ import annotations

import re

import pytest

from wasinn_runtime.engines.llvm import target_for, to_assembly
from wasinn_runtime.engines.targets import ARCHITECTURES
from wasinn_runtime.lower.meanings import MEANINGS
from wasinn_runtime.lower.simd import LANE_MEANINGS
from wasinn_runtime.lower.writer import LLVM_TYPE, FunctionWriter
from wasinn_runtime.spec.opcodes import BY_NAME

CPUS = {"x86_64": "x86-64-v3", "aarch64": "generic"}
# Instructions on x86-64 with AVX2, and on aarch64.
COUNTS = {
    "v128.bitselect": (3, 1),
    "v128.andnot": (1, 1),
    "i8x16.swizzle": (2, 1),
    "i8x16.add": (1, 1),
    "i8x16.add_sat_s": (1, 1),
    "i8x16.avgr_u": (1, 1),
    "i8x16.min_u": (1, 1),
    "i8x16.abs": (1, 1),
    "i8x16.bitmask": (1, 6),
    "i8x16.narrow_i16x8_s": (1, 2),
    "i8x16.narrow_i16x8_u": (1, 2),
    "i16x8.mul": (1, 1),
    "i16x8.sub_sat_u": (1, 1),
    "i16x8.avgr_u": (1, 1),
    "i16x8.narrow_i32x4_u": (1, 2),
    "i16x8.extend_low_i8x16_u": (1, 1),
    "i16x8.extmul_low_i8x16_s": (3, 1),
    "i16x8.extadd_pairwise_i8x16_s": (1, 1),
    "i16x8.extadd_pairwise_i8x16_u": (1, 1),
    "i16x8.q15mulr_sat_s": (3, 1),
    "i32x4.dot_i16x8_s": (1, 3),
    "i32x4.extadd_pairwise_i16x8_s": (1, 1),
    "i32x4.max_s": (1, 1),
    "i32x4.gt_s": (1, 1),
    "i32x4.bitmask": (1, 5),
    "i64x2.extmul_high_i32x4_u": (3, 1),
    "i32x4.trunc_sat_f32x4_s": (5, 1),
    "i32x4.trunc_sat_f32x4_u": (8, 1),
    "i32x4.trunc_sat_f64x2_s_zero": (4, 2),
    "i32x4.trunc_sat_f64x2_u_zero": (5, 2),
    "f32x4.convert_i32x4_s": (1, 1),
    "f32x4.demote_f64x2_zero": (1, 1),
    "f64x2.promote_low_f32x4": (1, 1),
    "f64x2.convert_low_i32x4_s": (1, 2),
    "f32x4.add": (1, 1),
    "f32x4.min": (6, 1),
    "f32x4.pmin": (1, 2),
    "f32x4.nearest": (1, 1),
    "f32x4.sqrt": (1, 1),
    "f64x2.le": (1, 1),
    "i8x16.relaxed_swizzle": (2, 1),
    "i32x4.relaxed_trunc_f32x4_s": (5, 1),
    "f32x4.relaxed_madd": (1, 1),
    "f64x2.relaxed_nmadd": (1, 1),
    "i8x16.relaxed_laneselect": (3, 1),
    "f64x2.relaxed_max": (1, 2),
    "i16x8.relaxed_q15mulr_s": (3, 1),
    "i16x8.relaxed_dot_i8x16_i7x16_s": (1, 9),
    "i32x4.relaxed_dot_i8x16_i7x16_add_s": (3, 10),
}
SHUFFLES = {
    "i8x16 unpack": ([n // 2 + 16 * (n % 2) for n in range(16)], (1, 1)),
    "i32x4 reverse": ([12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3], (1, 2)),
    "align": ([*range(5, 21)], (1, 1)),
    "i64x2 second": ([*range(8, 16), *range(24, 32)], (1, 1)),
    "bytes of one": ([15, 0, 14, 1, 13, 2, 12, 3, 11, 4, 10, 5, 9, 6, 8, 7], (1, 1)),
}
# Constants, zero among them, copies to where a result must be, and the way back.
_FREE = re.compile(
    r"ret|vzeroupper|adrp|movi|mov\t(v\d+)\.16b, v\d+\.16b|ldr\t[qd]\d+, \[x\d+|mvni|"
    r"v(?:px|x)or(?:p[sd])?\t(%xmm\d+), \2, \2|"
    r"v(?:mov(?:dq|ap|up)\w*|p?broadcast\w*)\t[^,]*\(%rip\)|vmovaps\t%xmm\d+, %xmm\d+$"
)


def count(machine: str, text: str) -> tuple[int, str]:
    """How many instructions a function named f becomes, and which."""
    assembly = to_assembly(text, target_for(ARCHITECTURES[machine], CPUS[machine]), 2)
    body = assembly.partition("\nf:")[2].partition(".Lfunc_end")[0]
    lines = [line.partition("#")[0].strip() for line in body.splitlines() if line.startswith("\t")]
    kept = [line for line in lines if line[:1] not in ("", ".") and not _FREE.match(line)]
    return len(kept), "\n".join(kept)


def written(name: str, immediate: object = None) -> str:
    """A function that is one instruction."""
    row = BY_NAME[name]
    assert row.params is not None
    assert row.results is not None
    listed = ", ".join(f"{LLVM_TYPE[t]} %a{i}" for i, t in enumerate(row.params))
    w = FunctionWriter(f"define {LLVM_TYPE[row.results[0]]} @f({listed}) nounwind")
    operands = [f"%a{i}" for i in range(len(row.params))]
    if immediate is None:
        value = MEANINGS[row.meaning[0]](w, row, operands)
    else:
        value = LANE_MEANINGS[row.meaning[0]](w, row, immediate, operands)
    w.do(f"ret {LLVM_TYPE[row.results[0]]} {value}")
    return w.finish()


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("machine", CPUS)
def test_instructions(machine: str, name: str) -> None:
    found, listing = count(machine, written(name))
    assert found == COUNTS[name][[*CPUS].index(machine)], listing


@pytest.mark.parametrize("name", SHUFFLES)
@pytest.mark.parametrize("machine", CPUS)
def test_shuffles(machine: str, name: str) -> None:
    lanes, counts = SHUFFLES[name]
    found, listing = count(machine, written("i8x16.shuffle", tuple(lanes)))
    assert found == counts[[*CPUS].index(machine)], listing
