"""Values that cross between Python and the engines: made from seeds, and shown as text.

An engine's own objects (functions, host objects) are shown by what must agree about them.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterable, Sequence
from hashlib import blake2b

__all__ = ["HOST_OBJECTS", "Argument", "Signature", "arguments", "digest", "host_results", "shown"]

Argument = int | float | str | None
#: Type names of the parameters and of the results.
Signature = tuple[tuple[str, ...], tuple[str, ...]]

HOST_OBJECTS = ("one host object", "another host object")
_WIDTHS = {"i32": 32, "i64": 64}
# The quiet bit of a double, where an f32's comes to lie as well.
_QUIET = 1 << 51


def _integer(rng: random.Random, width: int) -> int:
    kind = rng.random()
    if kind < 0.4:
        value = rng.randrange(-4, 200)
    elif kind < 0.7:
        value = (1 << rng.randrange(width)) + rng.randrange(-2, 3)
    else:
        value = rng.getrandbits(width)
    value %= 1 << width
    return value - (value >> (width - 1) << width)


def _single(value: float) -> float:
    """The nearest f32."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def _float(rng: random.Random, single: bool) -> float:
    usual = (0.0, -0.0, 1.0, -1.5, math.inf, -math.inf, math.nan, 2.0**31, -(2.0**63), 1e-310)
    value = rng.choice(usual) if rng.random() < 0.6 else rng.gauss(0, 1) * 10 ** rng.randrange(40)
    return _single(value) if single else value


def arguments(rng: random.Random, types: Sequence[str]) -> list[Argument]:
    """One value for each type; a type that no engine can be given raises KeyError."""
    values: list[Argument] = []
    for name in types:
        if name in _WIDTHS:
            values.append(_integer(rng, _WIDTHS[name]))
        elif name in ("f32", "f64"):
            values.append(_float(rng, name == "f32"))
        else:
            values.append({"externref": rng.choice((None, *HOST_OBJECTS)), "funcref": None}[name])
    return values


def host_results(number: int, types: Sequence[str]) -> list[Argument]:
    """What a host function gives when it is the ``number``-th call of one."""
    return arguments(random.Random(number), types)


def shown(types: Iterable[str], values: Iterable[object]) -> str:
    """Values as text that is equal where the values have to be."""
    return " ".join(_shown(*pair) for pair in zip(types, values, strict=True))


def _shown(name: str, value: object) -> str:
    if isinstance(value, float):
        (bits,) = struct.unpack("<Q", struct.pack("<d", value))
        if name == "f32" and math.isnan(value):
            bits |= _QUIET
        return f"{value!r}:{bits:x}" if math.isnan(value) else repr(value)
    if value is None or isinstance(value, int | str):
        return repr(value)
    return "a function"


def digest(content: bytes) -> str:
    """A memory's content, short: its size, a hash, and the first bytes that are not zero."""
    rest = content.lstrip(b"\0")
    at = len(content) - len(rest)
    return f"{len(content)} bytes {blake2b(content, digest_size=8).hexdigest()}, at {at}: " + (
        rest[:16].hex() or "nothing"
    )
