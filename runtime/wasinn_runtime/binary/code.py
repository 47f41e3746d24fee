"""Instructions from bytes: function bodies and constant expressions. Checks grammar, not types.

One loop dispatches on the opcode byte through tables derived from the opcode table. It is the
hottest Python of a cold start, so the common short encodings are read in place, and the end of
the data is noticed by IndexError rather than asked for at every byte.

Source: WebAssembly core specification 2.0, section 5.4.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

from wasinn_runtime.binary.module import Instruction, ParsedModule
from wasinn_runtime.binary.reader import (
    REF_TYPES,
    UNEXPECTED_END,
    VALUE_TYPES,
    Reader,
    signed,
    unsigned,
)
from wasinn_runtime.errors import Malformed
from wasinn_runtime.spec.limits import MAX_LOCALS, MAX_RESULTS
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

__all__ = ["Body", "decode_body", "decode_instructions", "value_type"]


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
    """

    locals: list[tuple[int, ValType]]
    instructions: list[Instruction]
    start: int
    end: int
    select_types: dict[int, ValType] = field(default_factory=dict)


# What the loop does for an opcode byte. The numbers follow how often code needs them.
_PLAIN, _U32, _MEMARG, _I32, _BLOCK, _END, _OTHER = range(7)
_U32_IMMEDIATES = {Imm.LABEL, Imm.FUNC, Imm.LOCAL, Imm.GLOBAL, Imm.TABLE, Imm.DATA, Imm.ELEM}


@dataclass(frozen=True, slots=True)
class _Dispatch:
    """By opcode byte: the row (None for illegal ones and prefixes) and the kind of reading."""

    rows: tuple[Opcode | None, ...]
    kinds: tuple[int, ...]
    prefixed: dict[int, Opcode]


def _kind(row: Opcode | None) -> int:
    if row is None:
        return _OTHER
    if row.imm is Imm.BLOCK:
        return _BLOCK
    if row.name == "end":
        return _END
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
        {code: row for code, row in enabled.items() if code > 255},
    )


def decode_body(module: ParsedModule, index_of_defined: int) -> Body:
    """Decodes the body of a defined function.

    Args:
        module: as :func:`~wasinn_runtime.binary.decoder.decode` returned it.
        index_of_defined: position among the defined functions, so without imports.

    Raises:
        Malformed: with the function's label and the offset in the module.
    """
    place = module.code[index_of_defined]
    try:
        return _decode_body(module, place.start, place.end)
    except Malformed as error:
        label = module.function_label(module.imported_functions + index_of_defined)
        raise Malformed(error.message, error.offset, module.where, label) from None


def _decode_body(module: ParsedModule, start: int, end: int) -> Body:
    reader = Reader(module.data, module.where, start)
    try:
        runs = _locals(reader, module.features)
    except IndexError:
        raise reader.malformed(UNEXPECTED_END, len(module.data)) from None
    instructions, pos = decode_instructions(
        module.data,
        reader.pos,
        end,
        module.where,
        module.features,
        has_data_count=module.data_count is not None,
    )
    if pos != end:
        raise Malformed(
            f"section size mismatch: the body ends at {pos:#x}, but its size says {end:#x}",
            pos,
            module.where,
        )
    return Body(runs, instructions, start, end)


def _locals(reader: Reader, features: frozenset[str]) -> list[tuple[int, ValType]]:
    runs: list[tuple[int, ValType]] = []
    total = 0
    for _ in range(reader.length()):
        at = reader.pos
        count = reader.u32()
        type_ = value_type(reader, features)
        total += count
        if total > MAX_LOCALS:
            message = f"too many locals: {total} and more, at most {MAX_LOCALS} are supported"
            raise reader.malformed(message, at)
        if count:
            runs.append((count, type_))
    return runs


def value_type(reader: Reader, features: frozenset[str]) -> ValType:
    """Reads a value type."""
    at = reader.pos
    code = reader.byte()
    type_ = VALUE_TYPES.get(code)
    if type_ is None:
        raise reader.malformed(f"malformed value type {code:#04x}", at)
    if type_ is ValType.V128 and "simd" not in features:
        raise reader.malformed(f"malformed value type: v128 {needs('simd')}", at)
    return type_


def decode_instructions(
    data: bytes,
    pos: int,
    limit: int,
    where: str,
    features: frozenset[str],
    *,
    has_data_count: bool,
) -> tuple[list[Instruction], int]:
    """Decodes an expression up to the ``end`` that closes it, which is the last one returned.

    Args:
        data: the whole module.
        pos: offset of the first instruction.
        limit: no instruction may start here or later.
        where: the module's name in messages.
        features: the proposals whose instructions exist.
        has_data_count: whether ``memory.init`` and ``data.drop`` may occur.

    Returns:
        The instructions, and the position after the final ``end``.

    Raises:
        Malformed: as the binary grammar demands.
    """
    try:
        return _expression(data, pos, limit, where, features, has_data_count)
    except IndexError:
        raise Malformed(UNEXPECTED_END, len(data), where) from None


def _expression(
    data: bytes,
    pos: int,
    limit: int,
    where: str,
    features: frozenset[str],
    has_data_count: bool,
) -> tuple[list[Instruction], int]:
    dispatch = _dispatch(features)
    rows = dispatch.rows
    kinds = dispatch.kinds
    out: list[Instruction] = []
    append = out.append
    immediate: object
    # Of every open block: whether an else may still follow.
    may_else: list[bool] = []
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
            if align >= 32:
                align, pos = unsigned(data, pos, 32, where)
                if align >= 32:
                    raise Malformed(f"malformed memop flags {align:#x}", at + 1, where)
            else:
                pos += 1
            offset = data[pos]
            pos += 1
            if offset >= 128:
                offset, pos = unsigned(data, pos - 1, 32, where)
            append((rows[byte], (align, offset, 0), at))  # type: ignore[arg-type]
        elif kind == _END:
            append((rows[byte], None, at))  # type: ignore[arg-type]
            if not may_else:
                return out, pos
            may_else.pop()
        elif kind == _BLOCK:
            row = rows[byte]
            assert row is not None
            immediate, pos = _block_type(data, pos, where, features)
            append((row, immediate, at))
            may_else.append(row.name == "if")
        else:
            found = rows[byte]
            if found is None:
                if byte not in PREFIXES:
                    raise Malformed(_illegal(byte, f"{byte:#04x}"), at, where)
                number, pos = unsigned(data, pos, 32, where)
                # A code has room for 16 bits of number; more would run into the prefix.
                found = dispatch.prefixed.get(prefixed(byte, number)) if number < 1 << 16 else None
                if found is None:
                    code = prefixed(byte, number) if number < 1 << 16 else -1
                    raise Malformed(_illegal(code, f"{byte:#04x} {number}"), at, where)
            if found.imm is Imm.NONE:
                if found.name == "else":
                    if not (may_else and may_else[-1]):
                        raise Malformed("END opcode expected: else without its if", at, where)
                    may_else[-1] = False
                append((found, None, at))
                continue
            reader = Reader(data, where, pos)
            immediate = _immediate(reader, found, features, has_data_count)
            pos = reader.pos
            append((found, immediate, at))
    raise _unfinished(data, limit, where)


def _illegal(code: int, what: str) -> str:
    row = BY_CODE.get(code)
    if row is not None:
        return f"illegal opcode {what}: {row.name} {needs(row.feature)}"
    if code in REFUSED:
        return f"illegal opcode {what}: needs {REFUSED[code]}, which is not supported"
    return f"illegal opcode {what}: no such instruction"


def needs(feature: str) -> str:
    """How a refusal names what would be needed."""
    return f"needs the feature {feature}, which is not enabled; compile without it, or enable it"


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


_EMPTY_BLOCK = 0x40


def _block_type(
    data: bytes, pos: int, where: str, features: frozenset[str]
) -> tuple[int | ValType | None, int]:
    code = data[pos]
    if code == _EMPTY_BLOCK:
        return None, pos + 1
    if code < _EMPTY_BLOCK:
        return code, pos + 1
    if code < 0x80:
        reader = Reader(data, where, pos)
        return value_type(reader, features), reader.pos
    index, after = signed(data, pos, 33, where)
    if index < 0:
        raise Malformed("malformed block type", pos, where)
    return index, after


def _zero(reader: Reader) -> int:
    """A memory index, of which there is only one."""
    at = reader.pos
    if reader.byte() != 0:
        raise reader.malformed("zero byte expected for a memory index", at)
    return 0


def _immediate(
    reader: Reader, row: Opcode, features: frozenset[str], has_data_count: bool
) -> object:
    """The rarer immediates."""
    at = reader.pos
    imm = row.imm
    if imm in (Imm.DATA, Imm.DATA_MEMORY) and not has_data_count:
        raise reader.malformed(f"data count section required by {row.name}", at)
    if imm in _U32_IMMEDIATES:
        return reader.u32()
    if imm is Imm.I64:
        value, reader.pos = signed(reader.data, at, 64, reader.where)
        return value
    if imm in (Imm.F32, Imm.F64):
        size = 4 if imm is Imm.F32 else 8
        reader.skip(size)
        return int.from_bytes(reader.data[at : at + size], "little")
    if imm is Imm.MEMORY:
        return _zero(reader)
    if imm is Imm.MEMORY_MEMORY:
        return _zero(reader), _zero(reader)
    if imm is Imm.DATA_MEMORY:
        return reader.u32(), _zero(reader)
    if imm in (Imm.TYPE_TABLE, Imm.ELEM_TABLE, Imm.TABLE_TABLE):
        return reader.u32(), reader.u32()
    if imm is Imm.LABELS:
        labels = tuple(reader.u32() for _ in range(reader.length()))
        return labels, reader.u32()
    if imm is Imm.TYPES:
        return tuple(
            value_type(reader, features) for _ in range(reader.count(MAX_RESULTS, "types"))
        )
    if imm is Imm.REF_TYPE:
        type_ = REF_TYPES.get(reader.byte())
        if type_ is None:
            raise reader.malformed("malformed reference type", at)
        return type_
    if imm is Imm.LANE:
        return reader.byte()
    if imm is Imm.V128:
        reader.skip(16)
        return int.from_bytes(reader.data[at : at + 16], "little")
    if imm is Imm.LANES:
        reader.skip(16)
        return tuple(reader.data[at : at + 16])
    if imm is Imm.MEMARG_LANE:
        return (*_memarg(reader), reader.byte())
    raise NotImplementedError(f"no reader for immediates of {row.name}: {imm.value}")


def _memarg(reader: Reader) -> tuple[int, int, int]:
    """Alignment, offset and memory index of a memory access."""
    at = reader.pos
    align = reader.u32()
    if align >= 32:
        raise reader.malformed(f"malformed memop flags {align:#x}", at)
    return align, reader.u32(), 0
