"""Operands and functions that try every vector instruction, and when two outcomes agree.

A function works through an array of cases in its memory, so that thousands cost one call: a case
is 64 bytes, three operands and a result of 16 bytes each, scalars in the first bytes of theirs.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from tests.numeric.numeric_cases import FLOAT_NUMBERS, NAN_EDGES
from wasinn_runtime.spec.numeric import CANONICAL_NAN, bits_to_float, float_to_bits, is_nan
from wasinn_runtime.spec.numeric_simd import (
    VECTOR_ROWS,
    evaluate_vector,
    join_lanes,
    split_lanes,
)
from wasinn_runtime.spec.opcodes import ROWS, Imm, Opcode
from wasinn_runtime.spec.types import ValType

CASE_BYTES, SLOT = 64, 16
MEMORY_ROWS = [
    row for row in ROWS if row.feature == "simd" and row.imm in (Imm.MEMARG, Imm.MEMARG_LANE)
]
# These compute with floats: a NaN that they give is quiet, and no more is said. Others move bits.
ARITHMETIC = {"float", "float1", "minmax", "fma", "demote", "promote"}
_SHAPE = re.compile(r"([if])(8|16|32|64)x\d+")

Operands = tuple[int, ...]


@dataclass(frozen=True)
class Trial:
    """A row with an immediate, and the function that is made of them.

    Attributes:
        name: the function's.
        row: the instruction.
        immediate: what the twin gets.
        text: the instruction as the text format writes it.
    """

    name: str
    row: Opcode
    immediate: object
    text: str


# --- functions ------------------------------------------------------------------------------------


def constant_text(vector: int) -> str:
    low, high = split_lanes(vector, 64)
    return f"v128.const i64x2 {low:#x} {high:#x}"


def immediates(row: Opcode) -> list[tuple[object, str]]:
    """Every lane, some masks, some constants."""
    if row.imm is Imm.LANE:
        return [(lane, f"{row.name} {lane}") for lane in range(row.lanes)]
    if row.imm is Imm.LANES:
        rng = random.Random(row.name)
        masks = [tuple(range(16)), tuple(range(31, 15, -1)), (3,) * 16, (0, 16) * 8]
        masks += [tuple(rng.randrange(32) for _ in range(16)) for _ in range(12)]
        return [(mask, f"{row.name} {' '.join(map(str, mask))}") for mask in masks]
    if row.imm is Imm.V128:
        rng = random.Random(row.name)
        constants = [0, (1 << 128) - 1, join_lanes([0x7FA0_0000] * 4, 32), rng.getrandbits(128)]
        return [(constant, constant_text(constant)) for constant in constants]
    return [(None, row.name)]


TRIALS = [
    Trial(f"{row.name} {number}", row, immediate, text)
    for row in VECTOR_ROWS
    for number, (immediate, text) in enumerate(immediates(row))
]


def loop_text(trial: Trial) -> str:
    """The exported function of a trial: computes the cases from an address to another."""
    row = trial.row
    assert row.params is not None
    assert row.results is not None
    loads = " ".join(
        f"({t}.load offset={SLOT * number} (local.get $at))" for number, t in enumerate(row.params)
    )
    (result,) = row.results
    return f"""(func (export "{trial.name}") (param $at i32) (param $end i32) (local $r {result})
      (loop $next
        {loads} {trial.text} (local.set $r)
        ({result}.store offset={3 * SLOT} (local.get $at) (local.get $r))
        (local.set $at (i32.add (local.get $at) (i32.const {CASE_BYTES})))
        (br_if $next (i32.lt_u (local.get $at) (local.get $end)))))"""


def module_text(functions: Iterator[str]) -> str:
    return "\n".join(('(module (memory (export "memory") 8)', *functions, ")"))


def packed(cases: list[Operands]) -> bytes:
    """The cases as the functions read them."""
    return b"".join(
        b"".join(v.to_bytes(SLOT, "little") for v in case).ljust(CASE_BYTES, b"\0")
        for case in cases
    )


def results(memory: bytes, count: int, result: ValType) -> list[int]:
    """What the functions left."""
    size = {ValType.V128: 16, ValType.I64: 8, ValType.F64: 8}.get(result, 4)
    starts = range(3 * SLOT, count * CASE_BYTES, CASE_BYTES)
    return [int.from_bytes(memory[at : at + size], "little") for at in starts]


# --- operands -------------------------------------------------------------------------------------

_INTEGERS = {
    8: [0, 1, 2, 15, 16, 17, 31, 0x55, 0x7E, 0x7F, 0x80, 0x81, 0xFE, 0xFF],
    16: [0, 1, 2, 0xFF, 0x100, 0x5555, 0x4000, 0x7FFE, 0x7FFF, 0x8000, 0x8001, 0xFF7F, 0xFFFF],
    32: [0, 1, 2, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0x8000_0001, 0xFFFF_FFFF],
    64: [0, 1, 2, 1 << 31, 1 << 32, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1],
}
_INTEGERS[16] += [0x0080, 0xFF80]  # where bytes saturate
_INTEGERS[32] += [0xFFFF_8000, 0xFFFF_7FFF, 16_777_217, 0xFFFF_FF80]


def operand_shape(row: Opcode) -> tuple[str, int]:
    """What its operands are lanes of: the last shape in its name."""
    found = _SHAPE.findall(row.name) or [("i", "8")]
    letter, bits = found[-1]
    return letter, int(bits)


@cache
def edges(letter: str, bits: int) -> list[int]:
    """Telling values of a lane, as bits."""
    if letter == "i":
        return _INTEGERS[bits]
    numbers = [float_to_bits(value, bits) for value in FLOAT_NUMBERS]
    return list(dict.fromkeys(numbers + NAN_EDGES[bits]))


def _vectors(lanes: list[int], bits: int) -> list[int]:
    """Lanes in vectors; the last one is filled with the first lanes."""
    count = 128 // bits
    lanes = lanes + lanes[: -len(lanes) % count]
    return [join_lanes(lanes[at : at + count], bits) for at in range(0, len(lanes), count)]


_AMOUNTS = [0, 1, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 0xFFFF_FFFF]


@cache
def cases(row: Opcode) -> list[Operands]:
    """Operands of a row: every two telling lanes beside each other, and any."""
    assert row.params is not None
    letter, bits = operand_shape(row)
    known = edges(letter, bits)
    rng = random.Random(row.name)
    vectors = row.params.count(ValType.V128)
    found: list[Operands] = []
    if vectors == len(row.params) == 2:
        pairs = list(itertools.product(known, repeat=2))
        first, second = zip(*pairs, strict=True)
        found += zip(_vectors([*first], bits), _vectors([*second], bits), strict=True)
    elif vectors == len(row.params):
        lanes = [[rng.choice(known) for _ in range(600)] for _ in range(vectors)]
        if vectors == 1:
            lanes[0][: len(known)] = known
        found += zip(*(_vectors(each, bits) for each in lanes), strict=True)
    if not row.params:
        return [()]
    for _ in range(40):
        found.append(tuple(_any(rng, type_) for type_ in row.params))
    if row.params[-1] is ValType.I32 and vectors:  # a shift, or a lane to be replaced
        found += [(rng.getrandbits(128), amount) for amount in _AMOUNTS]
    elif not vectors:
        found += [(value,) for value in edges(letter, bits)]
    return found


def _any(rng: random.Random, type_: ValType) -> int:
    return rng.getrandbits({ValType.V128: 128, ValType.I64: 64, ValType.F64: 64}.get(type_, 32))


@cache
def expected(trial: Trial) -> list[int]:
    """What the twin computes of a trial's cases."""
    return [evaluate_vector(trial.row, trial.immediate, *case) for case in cases(trial.row)]


# --- comparing ------------------------------------------------------------------------------------


def _float_width(row: Opcode) -> int:
    """Bits of a result's lanes if they are computed as floats; else 0."""
    family = row.meaning[0].removeprefix("lanes.")
    if family not in ARITHMETIC or "fabs" in row.meaning:
        return 0
    return {"demote": 32, "promote": 64}.get(family) or operand_shape(row)[1]


def agrees(row: Opcode, operands: Operands, native: int, twin: int) -> bool:
    """Whether an engine's outcome is right, given the twin's: lane by lane as of scalars."""
    width = _float_width(row)
    if native == twin or not width:
        return native == twin
    source = operand_shape(row)[1]
    lanes = zip(split_lanes(native, width), split_lanes(twin, width), strict=True)
    for number, (got, wanted) in enumerate(lanes):
        if got == wanted:
            continue
        if wanted != CANONICAL_NAN[width] or not is_nan(got, width):
            return False
        inputs = [split_lanes(operand, source)[number] for operand in operands]
        only_canonical = all(
            value & ~(1 << (source - 1)) == CANONICAL_NAN[source]
            for value in inputs
            if is_nan(value, source)
        )
        quiet, magnitude = CANONICAL_NAN[width], got & ~(1 << (width - 1))
        if magnitude & quiet != quiet or (only_canonical and magnitude != quiet):
            return False
    return True


def differences(trial: Trial, native: list[int]) -> list[str]:
    """The cases of which an engine computed something else than the twin."""
    return [
        f"{trial.text} {tuple(map(hex, case))}: {got:#x}, expected {wanted:#x}"
        for case, got, wanted in zip(cases(trial.row), native, expected(trial), strict=True)
        if not agrees(trial.row, case, got, wanted)
    ]


def _floats(operands: Operands, width: int) -> Iterator[list[float]]:
    lanes = zip(*(split_lanes(operand, width) for operand in operands), strict=True)
    for values in lanes:
        yield [bits_to_float(value, width) for value in values]


def _plain_numbers(operands: Operands, width: int) -> bool:
    """No lanes of which the lesser or greater is a matter of taste."""
    return all(a == a and b == b and (a, b) != (0, 0) for a, b in _floats(operands, width))


def _fits(operands: Operands, width: int, least: float, most: float) -> bool:
    return all(least <= value <= most for (value,) in _floats(operands, width))


def _whole_lanes(operands: Operands, width: int) -> bool:
    return all(lane in (0, (1 << width) - 1) for lane in split_lanes(operands[2], width))


# Of relaxed instructions, the operands that leave an engine no choice.
DECIDED: dict[str, Callable[[Operands], bool]] = {
    "i8x16.relaxed_swizzle": lambda o: all(
        lane < 16 or lane > 127 for lane in split_lanes(o[1], 8)
    ),
    "i32x4.relaxed_trunc_f32x4_s": lambda o: _fits(o, 32, -(2.0**31), 2147483520.0),
    "i32x4.relaxed_trunc_f32x4_u": lambda o: _fits(o, 32, 0, 4294967040.0),
    "i32x4.relaxed_trunc_f64x2_s_zero": lambda o: _fits(o, 64, -(2.0**31), 2.0**31 - 1),
    "i32x4.relaxed_trunc_f64x2_u_zero": lambda o: _fits(o, 64, 0, 2.0**32 - 1),
    "i8x16.relaxed_laneselect": lambda o: _whole_lanes(o, 8),
    "i16x8.relaxed_laneselect": lambda o: _whole_lanes(o, 16),
    "i32x4.relaxed_laneselect": lambda o: _whole_lanes(o, 32),
    "i64x2.relaxed_laneselect": lambda o: _whole_lanes(o, 64),
    "f32x4.relaxed_min": lambda o: _plain_numbers(o, 32),
    "f32x4.relaxed_max": lambda o: _plain_numbers(o, 32),
    "f64x2.relaxed_min": lambda o: _plain_numbers(o, 64),
    "f64x2.relaxed_max": lambda o: _plain_numbers(o, 64),
    "i16x8.relaxed_q15mulr_s": lambda o: (
        not any(
            a == b == 0x8000
            for a, b in zip(split_lanes(o[0], 16), split_lanes(o[1], 16), strict=True)
        )
    ),
    "i16x8.relaxed_dot_i8x16_i7x16_s": lambda o: max(split_lanes(o[1], 8)) < 128,
    "i32x4.relaxed_dot_i8x16_i7x16_add_s": lambda o: max(split_lanes(o[1], 8)) < 128,
}


def decided_cases(row: Opcode) -> list[Operands]:
    """The cases whose result the specification decides alone, with more where those are rare."""
    decide = DECIDED.get(row.name)
    if decide is None:
        return cases(row)
    found = [case for case in cases(row) if decide(case)]
    rng = random.Random(f"decided {row.name}")
    letter, bits = operand_shape(row)
    if "dot" in row.name or "swizzle" in row.name:
        mask = join_lanes([0x7F if "dot" in row.name else 0x8F] * 16, 8)
        found += [(a, b & mask, *rest) for a, b, *rest in cases(row)]
    elif "laneselect" in row.name:
        for a, b, mask in cases(row):
            whole = [-(lane & 1) for lane in split_lanes(mask, bits)]
            found.append((a, b, join_lanes(whole, bits)))
    elif letter == "f":
        numbers = [float_to_bits(rng.uniform(1, 1e9), bits) for _ in range(400)]
        vectors = _vectors(numbers, bits)
        count = len(row.params or ())
        found += [tuple(rng.choices(vectors, k=count)) for _ in range(100)]
    found = [case for case in found if decide(case)]
    assert len(found) > 40, row.name
    return found
