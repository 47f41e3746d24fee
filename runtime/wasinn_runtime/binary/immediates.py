"""The immediates of instructions from bytes: one reader for each kind. Opcodes are in code.py.

The commonest encodings of the commonest kinds never come here; ``code.py`` reads them in place.

Source: WebAssembly core specification 3.0, section 5.4.
"""

from __future__ import annotations

from collections.abc import Callable

from wasinn_runtime.binary.module import Catch, ParsedModule
from wasinn_runtime.binary.reader import signed, unsigned
from wasinn_runtime.binary.types import TypeReader, needs
from wasinn_runtime.errors import Invalid, Malformed
from wasinn_runtime.spec.limits import MAX_RESULTS
from wasinn_runtime.spec.opcodes import ROWS, Imm, Opcode
from wasinn_runtime.spec.types import ValType

__all__ = ["EMPTY_BLOCK", "READERS", "block_type", "memarg"]

EMPTY_BLOCK = 0x40
# Of the flags of a memory access.
_HAS_MEMORY = 0x40


def block_type(reader: TypeReader) -> int | ValType | None:
    at = reader.pos
    code = reader.data[at]
    if EMPTY_BLOCK < code < 0x80:
        return reader.value_type()
    if code == EMPTY_BLOCK:
        reader.pos += 1
        return None
    index, reader.pos = signed(reader.data, at, 33, reader.where)
    if index < 0:
        raise reader.malformed("malformed block type", at)
    return index


def _memory_index(reader: TypeReader) -> int:
    if reader.has("multi-memory"):
        return reader.u32()
    at = reader.pos
    index = reader.byte()
    if index != 0:
        hint = f": memory {index} {needs('multi-memory')}" if index < 128 else ""
        raise reader.malformed(f"zero byte expected for a memory index{hint}", at)
    return 0


def memarg(module: ParsedModule, row: Opcode, pos: int) -> tuple[tuple[int, int, int], int]:
    """Alignment, offset and memory index of a memory access, and the position after it."""
    data, where, start = module.data, module.where, pos
    if data[pos] < 32 and data[pos + 1] < 128:
        return (data[pos], data[pos + 1], 0), pos + 2
    align, pos = unsigned(data, pos, 32, where)
    memory = 0
    if align >= _HAS_MEMORY and align < 2 * _HAS_MEMORY and "multi-memory" in module.features:
        align -= _HAS_MEMORY
        memory, pos = unsigned(data, pos, 32, where)
    if align >= _HAS_MEMORY or (align >= 32 and "multi-memory" not in module.features):
        hint = f": a memory index {needs('multi-memory')}" if align & _HAS_MEMORY else ""
        raise Malformed(f"malformed memop flags {align:#x}{hint}", start, where)
    at = pos
    bits = 64 if "memory64" in module.features else 32
    offset, pos = unsigned(data, pos, bits, where)
    if offset >> 32:
        _check_offset(module, row, (align, offset, memory), at)
    return (align, offset, memory), pos


def _check_offset(module: ParsedModule, row: Opcode, found: tuple[int, int, int], at: int) -> None:
    """An offset beyond 4 GiB, which a 32-bit memory does not have.

    Memories that are not there, and wrong alignments, are validation's affair, and come first.
    """
    align, offset, memory = found
    if memory >= len(module.memories) or 1 << align > row.access_bytes:
        return
    if module.memories[memory].address is ValType.I32:
        message = f"offset out of range: {offset}, but memory {memory} has 32-bit addresses"
        raise Invalid(message, at, module.where)


def _catches(reader: TypeReader) -> tuple[Catch, ...]:
    found = []
    for _ in range(reader.length()):
        at = reader.pos
        kind = reader.byte()
        if kind > 3:
            raise reader.malformed(f"malformed catch clause {kind:#04x}", at)
        tag = reader.u32() if kind < 2 else None
        found.append(Catch(tag, reader.u32(), bool(kind & 1)))
    return tuple(found)


def _u32(reader: TypeReader, row: Opcode) -> object:
    return reader.u32()


def _two_u32(reader: TypeReader, row: Opcode) -> object:
    return reader.u32(), reader.u32()


def _block(reader: TypeReader, row: Opcode) -> object:
    return block_type(reader)


def _integer(reader: TypeReader, row: Opcode) -> object:
    bits = 32 if row.imm is Imm.I32 else 64
    value, reader.pos = signed(reader.data, reader.pos, bits, reader.where)
    return value


def _bits(reader: TypeReader, row: Opcode) -> object:
    start = reader.skip(_SIZES[row.imm])
    return int.from_bytes(reader.data[start : reader.pos], "little")


_SIZES = {Imm.F32: 4, Imm.F64: 8, Imm.V128: 16}


def _lanes(reader: TypeReader, row: Opcode) -> object:
    start = reader.skip(16)
    return tuple(reader.data[start : reader.pos])


def _lane(reader: TypeReader, row: Opcode) -> object:
    return reader.byte()


def _access(reader: TypeReader, row: Opcode) -> object:
    found, reader.pos = memarg(reader.module, row, reader.pos)
    return found


def _access_lane(reader: TypeReader, row: Opcode) -> object:
    found, reader.pos = memarg(reader.module, row, reader.pos)
    return (*found, reader.byte())


def _memory(reader: TypeReader, row: Opcode) -> object:
    return _memory_index(reader)


def _two_memories(reader: TypeReader, row: Opcode) -> object:
    return _memory_index(reader), _memory_index(reader)


def _data_memory(reader: TypeReader, row: Opcode) -> object:
    return reader.u32(), _memory_index(reader)


def _labels(reader: TypeReader, row: Opcode) -> object:
    labels = tuple([reader.u32() for _ in range(reader.length())])
    return labels, reader.u32()


def _types(reader: TypeReader, row: Opcode) -> object:
    return tuple([reader.value_type() for _ in range(reader.count(MAX_RESULTS, "types"))])


def _null(reader: TypeReader, row: Opcode) -> object:
    return reader.null_type()


def _try_table(reader: TypeReader, row: Opcode) -> object:
    return block_type(reader), _catches(reader)


def _zero(reader: TypeReader, row: Opcode) -> object:
    at = reader.pos
    if reader.byte() != 0:
        raise reader.malformed(f"zero byte expected after {row.name}", at)
    return None


_Reading = Callable[[TypeReader, Opcode], object]
_BY_KIND: dict[Imm, _Reading] = {
    **dict.fromkeys((Imm.LABEL, Imm.FUNC, Imm.LOCAL, Imm.GLOBAL, Imm.TABLE), _u32),
    **dict.fromkeys((Imm.DATA, Imm.ELEM, Imm.TYPE, Imm.TAG), _u32),
    **dict.fromkeys((Imm.TYPE_TABLE, Imm.ELEM_TABLE, Imm.TABLE_TABLE), _two_u32),
    **dict.fromkeys((Imm.I32, Imm.I64), _integer),
    **dict.fromkeys((Imm.F32, Imm.F64, Imm.V128), _bits),
    Imm.BLOCK: _block,
    Imm.LABELS: _labels,
    Imm.MEMARG: _access,
    Imm.MEMARG_LANE: _access_lane,
    Imm.MEMORY: _memory,
    Imm.MEMORY_MEMORY: _two_memories,
    Imm.DATA_MEMORY: _data_memory,
    Imm.REF_TYPE: _null,
    Imm.TYPES: _types,
    Imm.LANE: _lane,
    Imm.LANES: _lanes,
    Imm.TRY_TABLE: _try_table,
    Imm.ZERO: _zero,
}


def _readers() -> dict[Opcode, _Reading]:
    """The reader of every row that has immediates.

    Raises:
        NotImplementedError: at import, naming the rows without one.
    """
    rows = [row for row in ROWS if row.imm is not Imm.NONE]
    missing = [row.name for row in rows if row.imm not in _BY_KIND]
    if missing:
        raise NotImplementedError(f"no reader for the immediates of {', '.join(missing)}")
    return {row: _BY_KIND[row.imm] for row in rows}


READERS = _readers()
"""By row, how to read what follows the opcode; the reader stands there."""
