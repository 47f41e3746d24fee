"""Python values to and from 8-byte slots, by WebAssembly type.

i32 and i64 are Python ints: results come back signed, arguments may be signed or unsigned. f32 and
f64 are floats (an f32 argument is rounded, NaN payloads survive where the platform keeps them).
externref is any Python object, funcref a Func, exnref an ExnRef; None is null for all. v128 is an
int of 128 bits, the first lane lowest; as an argument, 16 bytes may stand for it.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wasinn_runtime.errors import Internal, UsageError, ValueRangeError
from wasinn_runtime.spec.types import FuncType, RefType, ValType, ref_type

if TYPE_CHECKING:
    from wasinn_runtime.machine.store import Store

__all__ = ["from_bits", "from_slots", "result_slots", "to_bits", "to_slots"]

_CELL = 0xFFFFFFFFFFFFFFFF
_MASKS = {ValType.I32: 0xFFFFFFFF, ValType.I64: _CELL, ValType.V128: (1 << 128) - 1}
_NAMES: dict[ValType, str] = {
    **dict.fromkeys(_MASKS, "int"),
    ValType.V128: "int or 16 bytes",
    ValType.F32: "float",
    ValType.F64: "float",
    ValType.FUNCREF: "Func",
    ValType.EXNREF: "ExnRef",
}


def to_bits(store: Store, ty: ValType, value: object) -> int:
    """The slot of a value.

    Raises:
        ValueRangeError: it is of the wrong Python type or does not fit.
        UsageError: a function of another store.
    """
    if ty in _MASKS:
        mask = _MASKS[ty]
        if not isinstance(value, int):
            if ty is ValType.V128 and isinstance(value, bytes | bytearray | memoryview):
                return _vector(bytes(value))
            try:
                value = operator.index(value)  # type: ignore[arg-type]  # numpy's integers
            except TypeError:
                raise _wrong(ty, value) from None
        if not -(mask >> 1) - 1 <= value <= mask:
            raise ValueRangeError(f"{value} does not fit {ty} ({mask.bit_length()} bits)")
        return value & mask
    if ty in (ValType.F32, ValType.F64):
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise _wrong(ty, value) from None
        if ty is ValType.F64:
            return int.from_bytes(struct.pack("<d", number), "little")
        try:
            return int.from_bytes(struct.pack("<f", number), "little")
        except OverflowError:
            return 0x7F800000 if number > 0 else 0xFF800000
    if not isinstance(ty, RefType):
        raise Internal(f"a value of type {ty}")
    if value is None:
        if not ty.nullable:
            raise ValueRangeError(f"expected a value for {ty}, got None")
        return 0
    if ty.base is ValType.EXTERNREF:
        return store.extern_handle(value)
    if ty.base is ValType.EXNREF:
        return _exception_bits(store, ty, value)
    from wasinn_runtime.machine.func import Func

    if not isinstance(value, Func):
        raise _wrong(ty, value)
    if value.store is not store:
        raise UsageError("a function of another store can not be used here; stores are separate")
    if not ref_type(False, value.type).matches(ty):
        raise ValueRangeError(f"expected {ty}, got a function {value.type}")
    return value.reference


def _exception_bits(store: Store, ty: RefType, value: object) -> int:
    from wasinn_runtime.machine.exceptions import ExnRef

    if not isinstance(value, ExnRef):
        raise _wrong(ty, value)
    if value.store is not store:
        raise UsageError("an exception of another store can not be used here; stores are separate")
    return value.address


def _vector(content: bytes) -> int:
    if len(content) != 16:
        raise ValueRangeError(f"expected 16 bytes for v128, got {len(content)}")
    return int.from_bytes(content, "little")


def from_bits(store: Store, ty: ValType, bits: int) -> object:
    """The value in a slot."""
    if ty is ValType.I32:
        return ((bits & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
    if ty is ValType.I64:
        return (bits ^ (1 << 63)) - (1 << 63)
    if ty is ValType.V128:
        return bits
    if ty is ValType.F64:
        return struct.unpack("<d", bits.to_bytes(8, "little"))[0]
    if ty is ValType.F32:
        return struct.unpack("<f", (bits & 0xFFFFFFFF).to_bytes(4, "little"))[0]
    if bits == 0:
        return None
    if ty.base is ValType.EXTERNREF:
        return store.extern_object(bits)
    if ty.base is ValType.FUNCREF:
        return store.func_at(bits)
    if ty.base is ValType.EXNREF:
        from wasinn_runtime.machine.exceptions import ExnRef

        return ExnRef(store, bits)
    raise Internal(f"a value of type {ty}")


def to_slots(store: Store, types: Sequence[ValType], values: Sequence[object]) -> list[int]:
    """The slots of values; a v128 takes two."""
    slots: list[int] = []
    for ty, value in zip(types, values, strict=True):
        bits = to_bits(store, ty, value)
        slots.append(bits & _CELL)
        if ty is ValType.V128:
            slots.append(bits >> 64)
    return slots


def from_slots(store: Store, types: Sequence[ValType], slots: Sequence[int]) -> list[object]:
    """The values in slots; a v128 takes two."""
    values: list[object] = []
    cells = iter(slots)
    for ty in types:
        bits = next(cells)
        if ty is ValType.V128:
            bits |= next(cells) << 64
        values.append(from_bits(store, ty, bits))
    return values


def result_slots(store: Store, ty: FuncType, result: object, where: str) -> list[int]:
    """What a host function returned, as slots.

    Raises:
        ValueRangeError: it returned something else than its type says.
    """
    wanted = ty.results
    if not wanted:
        if result is not None:
            raise ValueRangeError(f"{where} returned {result!r}, its type has no results")
        return []
    if len(wanted) == 1:
        return to_slots(store, wanted, (result,))
    if not isinstance(result, tuple | list) or len(result) != len(wanted):
        raise ValueRangeError(f"{where} returned {result!r}, expected {len(wanted)} results")
    return to_slots(store, wanted, result)


def _wrong(ty: ValType, value: object) -> ValueRangeError:
    wanted = _NAMES.get(ty.base, "object")
    return ValueRangeError(f"expected {wanted} for {ty}, got {type(value).__name__}: {value!r:.60}")
