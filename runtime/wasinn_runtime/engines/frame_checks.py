"""Stack checks for aarch64, written by the linker: no frame begins below the thread's limit.

LLVM has no split-stack prologue for aarch64. It leaves room at the beginning of each function
(``patchable-function-entry``), after all inlining; how large the frame is stands in the tables for
unwinding. So the check is as exact as LLVM's own on x86-64. See docs/decisions/0011.

Sources: DWARF 5, section 6.4 (call frame information); Arm Architecture Reference Manual, C6.2.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from wasinn_runtime.errors import Internal, LimitExceeded

__all__ = ["CHECK_INSTRUCTIONS", "FRAME_CHECK_SECTION", "write_frame_checks"]

FRAME_CHECK_SECTION = "__patchable_function_entries"
CHECK_INSTRUCTIONS = 6
_NOP = 0xD503201F
_SP = 31
_BIGGEST = 0xFFF << 12
# Where LLVM may round the stack pointer down: no vector that we use is aligned to more.
_REALIGNMENT = 64


def write_frame_checks(
    memory: bytearray, entries: Sequence[int], unwind: tuple[int, int], exhausted: int
) -> None:
    """Write the check of each function into the room at its beginning.

    Args:
        memory: the linked image.
        entries: places of the functions' first instructions.
        unwind: (offset, bytes) of the tables for unwinding.
        exhausted: place of the code to call when a frame does not fit.

    Raises:
        Internal: the tables do not say how large a frame is, or there is no room for the check.
        LimitExceeded: a frame is larger than any stack.
    """
    frames = dict(_frames(memory, *unwind))
    for entry in entries:
        room = struct.unpack_from(f"<{CHECK_INSTRUCTIONS}I", memory, entry)
        if any(word != _NOP for word in room) or entry not in frames:
            raise Internal("a compiled function has no place for its stack check")
        length, frame = frames[entry]
        if frame is None:
            frame = _lowered(memory, entry, length)
        if frame == 0:  # skip the room
            struct.pack_into("<I", memory, entry, 0x14000000 | CHECK_INSTRUCTIONS)
            continue
        if frame > _BIGGEST:
            raise LimitExceeded(f"a compiled function has a frame of {frame:,} bytes")
        # Rounded up where the immediate counts in units of 4 KiB.
        immediate = frame << 10 if frame <= 0xFFF else 1 << 22 | -(-frame >> 12) << 10
        call = entry + 4 * (CHECK_INSTRUCTIONS - 1)
        struct.pack_into(
            "<6I",
            memory,
            entry,
            0xD53BD050,  # mrs x16, tpidr_el0
            0xF9400610,  # ldr x16, [x16, #8]
            0xD10003F1 | immediate,  # sub x17, sp, #frame
            0xEB10023F,  # cmp x17, x16
            0x54000042,  # b.hs, past the call
            0x94000000 | (exhausted - call) >> 2 & 0x3FFFFFF,  # bl exhausted
        )


def _lowered(memory: bytearray, entry: int, length: int) -> int:
    """By how much a function lowers the stack pointer at most: all that any instruction takes.

    For the rare frames that are addressed through another register, of which the tables do not
    tell the size: some of these instructions may exclude each other, so this is a bound.
    """
    total = 0
    for (word,) in struct.iter_unpack("<I", memoryview(memory)[entry : entry + length]):
        if word & 0xFF8003E0 == 0xD10003E0:  # sub xN, sp, #immediate
            total += (word >> 10 & 0xFFF) << (12 if word >> 22 & 1 else 0)
        elif word & 0xFFC003E0 in (0xA98003E0, 0x6D8003E0, 0xAD8003E0):  # stp .., [sp, #-n]!
            scale = 16 if word >> 24 == 0xAD else 8
            total += max(-_signed(word >> 15 & 0x7F, 7), 0) * scale
        elif word & 0xFFE00FE0 in (0xF8000FE0, 0xFC000FE0, 0x3C800FE0):  # str .., [sp, #-n]!
            total += max(-_signed(word >> 12 & 0x1FF, 9), 0)
        elif word & 0xFF2003FF == 0xCB2003FF:  # sub sp, sp, xN
            raise Internal("a compiled function has a frame of variable size")
    return total + _REALIGNMENT


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


# --- call frame information ----------------------------------------------------------------------

# Operands of each instruction: u for an unsigned LEB128 number, a digit for bytes, b for a block.
_OPERANDS = {
    0x00: "",
    0x02: "1",
    0x03: "2",
    0x04: "4",
    0x05: "uu",
    0x06: "u",
    0x07: "u",
    0x08: "u",
    0x09: "uu",
    0x0A: "",
    0x0B: "",
    0x0C: "uu",
    0x0D: "u",
    0x0E: "u",
    0x0F: "b",
    0x10: "ub",
    0x11: "uu",
    0x12: "uu",
    0x13: "u",
    0x2D: "",
    0x2E: "u",
}
_DEF_CFA, _DEF_CFA_REGISTER, _DEF_CFA_OFFSET, _DEF_CFA_EXPRESSION = 0x0C, 0x0D, 0x0E, 0x0F
_SIGNED_FORMS = (0x12, 0x13)


_Frame = tuple[int, int | None]


def _frames(memory: bytearray, start: int, size: int) -> Iterator[tuple[int, _Frame]]:
    """Each function's place, with its length and the size of its frame if the table says it."""
    at, end = start, start + size
    while at < end:
        (length,) = struct.unpack_from("<I", memory, at)
        body, after = at + 4, at + 4 + length
        (pointer,) = struct.unpack_from("<I", memory, body)
        if pointer:  # not a CIE, whose own instructions only say that frames start empty
            offset, span = struct.unpack_from("<iI", memory, body + 4)
            augmentation, instructions = _uleb(memory, body + 12)
            frame = _largest(memory, instructions + augmentation, after)
            yield body + 4 + offset, (span, frame)
        at = after


def _largest(memory: bytearray, at: int, end: int) -> int | None:
    """The most bytes between the frame's base and the stack pointer; None if not in the table."""
    most = 0
    while at < end:
        code = memory[at]
        at += 1
        if code >> 6:
            if code >> 6 == 2:  # offset of a register
                _, at = _uleb(memory, at)
            continue
        operands = _OPERANDS.get(code)
        if operands is None or code in _SIGNED_FORMS:
            raise Internal(f"call frame instruction {code:#x} in compiled code is not known")
        values = []
        for operand in operands:
            if operand.isdigit():
                at += int(operand)
            else:
                value, at = _uleb(memory, at)
                values.append(value)
                at += value if operand == "b" else 0
        if code == _DEF_CFA_EXPRESSION:
            return None
        if code in (_DEF_CFA, _DEF_CFA_REGISTER) and values[0] != _SP:
            return None
        if code in (_DEF_CFA, _DEF_CFA_OFFSET):
            most = max(most, values[-1])
    return most


def _uleb(memory: bytearray, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = memory[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
