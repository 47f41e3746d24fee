"""WebAssembly values as words of a command line, and back. Not how slots hold them."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from wasinn_runtime.errors import UsageError
from wasinn_runtime.spec.types import FuncType, ValType

__all__ = ["parse_values", "shown"]

_BITS = {ValType.I32: 32, ValType.I64: 64, ValType.V128: 128}


def parse_values(words: Sequence[str], ty: FuncType, name: str) -> list[object]:
    """The arguments of a function.

    Integers are decimal or 0x..., signed or unsigned; floats decimal, hexadecimal (0x1.8p3), inf
    or nan; of references only ``null`` can be written.

    Args:
        words: one for each parameter.
        ty: the function's type.
        name: the function's, for messages.

    Raises:
        UsageError: too many, too few, or one that is not of its type.
    """
    if len(words) != len(ty.params):
        raise UsageError(
            f"{name} has the type {ty}: expected {len(ty.params)} arguments, got {len(words)}"
        )
    return [
        _value(word, param, f"argument {index} of {name}")
        for index, (word, param) in enumerate(zip(words, ty.params, strict=True), 1)
    ]


def _value(word: str, ty: ValType, where: str) -> object:
    if ty in _BITS:
        try:
            number = int(word, 0)
        except ValueError:
            raise UsageError(f"{where}: expected an integer for {ty}, got {word!r}") from None
        bits = _BITS[ty]
        if not -(1 << (bits - 1)) <= number < 1 << bits:
            raise UsageError(f"{where}: {word} does not fit {ty} ({bits} bits)")
        return number
    if ty in (ValType.F32, ValType.F64):
        try:
            return float.fromhex(word) if "0x" in word.lower() else float(word)
        except (ValueError, OverflowError):
            raise UsageError(f"{where}: expected a number for {ty}, got {word!r}") from None
    if word != "null":
        raise UsageError(f"{where}: expected null, the only {ty} that has a name, got {word!r}")
    return None


def shown(value: object, ty: ValType) -> str:
    """A result as ``parse_values`` would read it, in as few digits as give it back."""
    if value is None:
        return "null"
    if ty is ValType.V128 and isinstance(value, int):
        return f"{value:#034x}"
    if ty is ValType.F32 and isinstance(value, float):
        return _shortest_f32(value)
    if ty in (ValType.FUNCREF, ValType.EXTERNREF):
        return str(ty)
    return str(value)


def _shortest_f32(value: float) -> str:
    exact = struct.pack("<f", value)
    for digits in range(6, 9):
        shorter = float(f"{value:.{digits}g}")
        try:
            if struct.pack("<f", shorter) == exact:
                return str(shorter)
        except OverflowError:  # rounded up past the largest f32
            continue
    return str(float(f"{value:.9g}"))
