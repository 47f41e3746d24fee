"""What a handler of the fast interpreter is, and the list that the ``fast_*`` files fill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product

from wasinn_runtime.lower.fast_body import Body, class_of
from wasinn_runtime.spec.types import Limits, MemoryType, TableType, ValType

__all__ = [
    "COPIED",
    "HANDLERS",
    "KINDS_OF_VALUES",
    "MEMORY",
    "RESULT_TYPES",
    "SHARED_MEMORY",
    "SHARING_MATTERS",
    "TABLE",
    "Shape",
    "add",
    "branch",
    "kinds_of",
    "reads_of",
    "result_name",
]


@dataclass(slots=True)
class Shape:
    """One handler. Not frozen: each start makes thousands, which would take twice as long then.

    Attributes:
        write: writes its work; what comes after it is somebody else's affair.
        reads: the registers that hold operands of it.
        result: the register of its result, or nothing.
        ends: whether it goes on by itself, so that nothing can follow it in a sequence.
        branches: whether its last word is the distance to a target.
    """

    write: Callable[[Body], None]
    reads: str = ""
    result: str = ""
    ends: bool = False
    branches: bool = False


HANDLERS: dict[str, Shape] = {}
"""By name, in the order of the interpreter's table."""

_I32, _I64, _F32, _F64, _V128 = ValType.I32, ValType.I64, ValType.F32, ValType.F64, ValType.V128
# References are kept alike.
KINDS_OF_VALUES = (_I32, _I64, _F32, _F64, _V128, ValType.FUNCREF)
COPIED = {"r": _I64, "d": _F64, "f": _F32, "v": _V128}
# What is known of a memory or table, by what that adds to a handler's name. Memory 0 has nothing to
# add when it is of 32 bits.
MEMORY = {
    "": MemoryType(Limits(0)),
    "@32": MemoryType(Limits(0)),
    "@64": MemoryType(Limits(0), _I64),
}
# To a few instructions it matters whether the memory is shared.
SHARED_MEMORY = {
    "@32shared": MemoryType(Limits(0), shared=True),
    "@64shared": MemoryType(Limits(0), _I64, shared=True),
}
SHARING_MATTERS = frozenset({"atomic.wait", "atomic.notify", "memory.grow"})
TABLE = {
    "": TableType(ValType.FUNCREF, Limits(0)),
    "@64": TableType(ValType.FUNCREF, Limits(0), _I64),
}


def add(
    name: str,
    write: Callable[[Body], None],
    reads: str = "",
    result: str = "",
    ends: bool = False,
    branches: bool = False,
) -> None:
    """Put a handler on the list."""
    assert name not in HANDLERS, name
    HANDLERS[name] = Shape(write, reads, result, ends, branches)


@cache
def reads_of(kinds: str, types: tuple[ValType, ...]) -> str:
    """The registers that operands of these kinds are in."""
    return "".join(class_of(ty) for kind, ty in zip(kinds, types, strict=True) if kind == "r")


def result_name(ty: ValType) -> str:
    """How handlers of calls and returns name a type."""
    return "ref" if ty.is_ref else ty.value


RESULT_TYPES = {result_name(ty): ty for ty in KINDS_OF_VALUES}


@cache
def kinds_of(
    types: tuple[ValType, ...],
    rare: bool = False,
    constant_first: bool = True,
    constants_only: bool = False,
) -> tuple[str, ...]:
    """The kinds of operands that handlers exist for; slots alone are among them.

    Args:
        types: of the operands.
        rare: slots alone.
        constant_first: whether the first of two may be a constant.
        constants_only: whether all may be.
    """
    if rare or len(types) > 2:
        return ("s" * len(types),)
    found = []
    for listed in product("sri", repeat=len(types)):
        kinds = "".join(listed)
        registers = reads_of(kinds, types)
        if len(set(registers)) < len(registers):
            continue  # each holds one value
        if any(kind == "i" and ty is _V128 for kind, ty in zip(kinds, types, strict=True)):
            continue
        if kinds and kinds.count("i") == len(kinds) and not constants_only:
            continue
        if kinds.startswith("i") and not constant_first:
            continue
        found.append(kinds)
    return tuple(found)


def branch(b: Body, value: str, wanted: int) -> None:
    """End the handler: to the target if an i32 is not zero (or, ``wanted`` 0, is zero)."""
    holds = b.let(f"icmp {'ne' if wanted else 'eq'} i32 {value}, 0")
    taken, after = b.new_label("taken"), b.new_label("after")
    distance_at = b.place()
    b.words += 1
    b.do(f"br i1 {holds}, label %{taken}, label %{after}")
    b.label(taken)
    distance = b.let(f"load i64, ptr {distance_at}")
    b.go(b.let(f"getelementptr i8, ptr %pc, i64 {distance}"))
    b.label(after)
    b.next()
