"""Instructions from bytes: function bodies and constant expressions. Checks grammar, not types.

One loop dispatches on the opcode byte through tables derived from the opcode table. It is the
hottest Python of a cold start, so the common short encodings are read in place, and the end of
the data is noticed by IndexError rather than asked for at every byte.

Source: WebAssembly core specification 2.0, section 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from wasinn_runtime.binary.immediates import EMPTY_BLOCK, READERS, block_type, memarg
from wasinn_runtime.binary.module import Instruction, ParsedModule
from wasinn_runtime.binary.reader import UNEXPECTED_END, signed, unsigned
from wasinn_runtime.binary.types import TypeReader, needs
from wasinn_runtime.errors import Invalid, Malformed
from wasinn_runtime.spec.limits import MAX_LOCALS
from wasinn_runtime.spec.opcodes import (
    BY_CODE,
    PREFIXES,
    REFUSED,
    ROWS,
    Imm,
    Opcode,
    prefixed,
)
from wasinn_runtime.spec.types import ValType

__all__ = ["Body", "decode_body", "decode_instructions"]


@dataclass(slots=True)
class Body:
    """A decoded function body.

    Attributes:
        locals: declared locals as runs ``(count, type)``, without the parameters; counts are
            above zero and sum to at most ``limits.MAX_LOCALS``.
        instructions: all instructions, the function's final ``end`` included.
        start, end: byte offsets in the module.
        select_types: by offset, the operand type of each reachable ``select`` that names none;
            validation fills it in.
        wide_drops: the offsets of each reachable ``drop`` of a v128; validation fills it in.
    """

    locals: list[tuple[int, ValType]]
    instructions: list[Instruction]
    start: int
    end: int
    select_types: dict[int, ValType] = field(default_factory=dict)
    wide_drops: set[int] = field(default_factory=set)


# What the loop does for an opcode byte. The numbers follow how often code needs them.
_PLAIN, _U32, _MEMARG, _I32, _BLOCK, _END, _OTHER = range(7)
_U32_IMMEDIATES = {
    *(Imm.LABEL, Imm.FUNC, Imm.LOCAL, Imm.GLOBAL, Imm.TABLE, Imm.DATA, Imm.ELEM),
    *(Imm.TYPE, Imm.TAG),
}
# What blocks take beside their end: of an if an else, of a legacy try catches or a delegate.
_NOTHING, _ELSE, _CATCHES = range(3)
_TAKES = {"if": _ELSE, "try": _CATCHES}
_NEED_DATA_COUNT = {row for row in ROWS if row.imm in (Imm.DATA, Imm.DATA_MEMORY)}
_IN_TRY = {"catch", "catch_all", "delegate"}


@dataclass(frozen=True, slots=True)
class _Dispatch:
    """By opcode byte: the row (None for illegal ones and prefixes) and the kind of reading."""

    rows: tuple[Opcode | None, ...]
    kinds: tuple[int, ...]
    prefixed: dict[int, dict[int, Opcode]]


def _kind(row: Opcode | None) -> int:
    if row is None:
        return _OTHER
    if row.imm is Imm.BLOCK:
        return _BLOCK
    if row.name == "end":
        return _END
    if row.name in _IN_TRY:
        return _OTHER
    if row.imm is Imm.NONE and row.name != "else":
        return _PLAIN
    if row.imm in _U32_IMMEDIATES:
        return _U32
    return {Imm.MEMARG: _MEMARG, Imm.I32: _I32}.get(row.imm, _OTHER)


@cache
def _dispatch(features: frozenset[str]) -> _Dispatch:
    enabled = {row.code: row for row in ROWS if row.feature in features}
    rows = tuple(enabled.get(byte) for byte in range(256))
    return _Dispatch(
        rows,
        tuple(_kind(row) for row in rows),
        {
            prefix: {code & 0xFFFF: row for code, row in enabled.items() if code >> 16 == prefix}
            for prefix in PREFIXES
        },
    )


def decode_body(module: ParsedModule, index_of_defined: int) -> Body:
    """Decodes the body of a defined function.

    Args:
        module: as :func:`~wasinn_runtime.binary.decoder.decode` returned it.
        index_of_defined: position among the defined functions, so without imports.

    Raises:
        Malformed: with the function's label and the offset in the module.
        Invalid: a type has an index that does not exist, or an offset is beyond its memory's
            addresses.
    """
    place = module.code[index_of_defined]
    try:
        return _decode_body(module, place.start, place.end)
    except (Malformed, Invalid) as error:
        label = module.function_label(module.imported_functions + index_of_defined)
        raise type(error)(error.message, error.offset, module.where, label) from None


def _decode_body(module: ParsedModule, start: int, end: int) -> Body:
    reader = TypeReader(module, start)
    try:
        runs = _locals(reader)
    except IndexError:
        raise reader.malformed(UNEXPECTED_END, len(module.data)) from None
    instructions, pos = decode_instructions(
        module, reader.pos, end, has_data_count=module.data_count is not None
    )
    if pos != end:
        raise Malformed(
            f"section size mismatch: the body ends at {pos:#x}, but its size says {end:#x}",
            pos,
            module.where,
        )
    return Body(runs, instructions, start, end)


def _locals(reader: TypeReader) -> list[tuple[int, ValType]]:
    runs: list[tuple[int, ValType]] = []
    total = 0
    for _ in range(reader.length()):
        at = reader.pos
        count = reader.u32()
        type_ = reader.value_type()
        total += count
        if total > MAX_LOCALS:
            message = f"too many locals: {total} and more, at most {MAX_LOCALS} are supported"
            raise reader.malformed(message, at)
        if count:
            runs.append((count, type_))
    return runs


def decode_instructions(
    module: ParsedModule, pos: int, limit: int, *, has_data_count: bool
) -> tuple[list[Instruction], int]:
    """Decodes an expression up to the ``end`` that closes it, which is the last one returned.

    Args:
        module: gives the bytes, and the types and memories that were read before.
        pos: offset of the first instruction.
        limit: no instruction may start here or later.
        has_data_count: whether ``memory.init`` and ``data.drop`` may occur.

    Returns:
        The instructions, and the position after the final ``end``.

    Raises:
        Malformed: as the binary grammar demands.
        Invalid: as for :func:`decode_body`.
    """
    try:
        return _expression(module, pos, limit, has_data_count)
    except IndexError:
        raise Malformed(UNEXPECTED_END, len(module.data), module.where) from None


def _expression(
    module: ParsedModule, pos: int, limit: int, has_data_count: bool
) -> tuple[list[Instruction], int]:
    data, where = module.data, module.where
    dispatch = _dispatch(module.features)
    rows = dispatch.rows
    kinds = dispatch.kinds
    readers = READERS
    out: list[Instruction] = []
    append = out.append
    immediate: object
    # What every open block takes beside its end.
    takes: list[int] = []
    reader: TypeReader | None = None
    while pos < limit:
        at = pos
        byte = data[pos]
        pos += 1
        kind = kinds[byte]
        if kind == _U32:
            immediate = data[pos]
            pos += 1
            if immediate >= 128:
                immediate, pos = unsigned(data, pos - 1, 32, where)
            append((rows[byte], immediate, at))  # type: ignore[arg-type]  # only _OTHER has None
        elif kind == _PLAIN:
            append((rows[byte], None, at))  # type: ignore[arg-type]
        elif kind == _I32:
            immediate = data[pos]
            pos += 1
            if immediate >= 128:
                immediate, pos = signed(data, pos - 1, 32, where)
            elif immediate >= 64:
                immediate -= 128
            append((rows[byte], immediate, at))  # type: ignore[arg-type]
        elif kind == _MEMARG:
            align = data[pos]
            offset = data[pos + 1]
            if align < 32 and offset < 128:
                pos += 2
                append((rows[byte], (align, offset, 0), at))  # type: ignore[arg-type]
            else:
                row = rows[byte]
                assert row is not None
                immediate, pos = memarg(module, row, pos)
                append((row, immediate, at))
        elif kind == _END:
            append((rows[byte], None, at))  # type: ignore[arg-type]
            if not takes:
                return out, pos
            takes.pop()
        elif kind == _BLOCK:
            row = rows[byte]
            assert row is not None
            immediate = data[pos]
            if immediate < EMPTY_BLOCK:
                pos += 1
            elif immediate == EMPTY_BLOCK:
                immediate = None
                pos += 1
            else:
                reader = reader or TypeReader(module)
                reader.pos = pos
                immediate = block_type(reader)
                pos = reader.pos
            append((row, immediate, at))
            takes.append(_TAKES.get(row.name, _NOTHING))
        else:
            found = rows[byte]
            if found is None:
                if byte not in PREFIXES:
                    raise Malformed(_illegal(byte, f"{byte:02x}"), at, where)
                number = data[pos]
                pos += 1
                if number >= 128:
                    number, pos = unsigned(data, pos - 1, 32, where)
                found = dispatch.prefixed[byte].get(number)
                if found is None:
                    code = prefixed(byte, number) if number < 1 << 16 else -1
                    raise Malformed(_illegal(code, f"{byte:02x} {number}"), at, where)
            if found.imm is Imm.NONE:
                if byte not in PREFIXES:
                    _in_block(found, takes, at, where)
                append((found, None, at))
                continue
            reader = reader or TypeReader(module)
            reader.pos = pos
            if not has_data_count and found in _NEED_DATA_COUNT:
                raise Malformed(f"data count section required by {found.name}", pos, where)
            immediate = readers[found](reader, found)
            pos = reader.pos
            append((found, immediate, at))
            if found.imm is Imm.TRY_TABLE:
                takes.append(_NOTHING)
            elif found.name in _IN_TRY:
                _in_block(found, takes, at, where)
    raise _unfinished(data, limit, where)


def _illegal(code: int, what: str) -> str:
    row = BY_CODE.get(code)
    if row is not None:
        return f"illegal opcode {what}: {row.name} {needs(row.feature)}"
    if code in REFUSED:
        return f"illegal opcode {what}: {needs(REFUSED[code])}"
    return f"illegal opcode {what}: no such instruction"


def _in_block(row: Opcode, takes: list[int], at: int, where: str) -> None:
    """An else, catch, catch_all or delegate: only of the blocks that take them."""
    wanted = _ELSE if row.name == "else" else _CATCHES
    if not (takes and takes[-1] == wanted):
        its = "if" if wanted == _ELSE else "try"
        raise Malformed(f"END opcode expected: {row.name} without its {its}", at, where)
    if row.name == "delegate":
        takes.pop()
    elif row.name != "catch":
        takes[-1] = _NOTHING


def _unfinished(data: bytes, limit: int, where: str) -> Malformed:
    """The error for an expression whose range is over while a block or itself is still open.

    The suite words it by what a reader that ignores the range meets next.
    """
    if limit >= len(data):
        return Malformed(UNEXPECTED_END, len(data), where)
    ends = [row.code for row in ROWS if row.name == "end"]
    if data[limit] in ends:
        message = f"section size mismatch: the final end lies outside, at {limit:#x}"
        return Malformed(message, limit, where)
    return Malformed("END opcode expected: the function body is over before it", limit, where)
