"""How native entries take arguments and give results, as LLVM IR.

``fastcc`` with the context as ``swiftself``, which stays in one register across calls (r13 on
x86-64, x20 on aarch64). Arguments and results that no register is left for go through the store's
exchange area: the callee reads them before it calls anybody, the caller likewise. So no call puts
arguments on the stack, and every call in tail position can become a jump, whatever the two types
are. LLVM's own convention for that (``tailcc``) pops arguments in the callee even where there are
none, and makes ``fib`` take twice its time.

A function that jumps to one of another instance returns with that one's context in the register.
Callers through pointers must expect it (``opaque``); callers by name need not, since functions that
make tail calls have a second symbol, which they use among themselves (``tail_name``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from wasinn_runtime.abi.layout import SLOT_BYTES, StoreContext, VMContext, slot_cells
from wasinn_runtime.lower.writer import EXCHANGE, INVARIANT, LLVM_TYPE, FunctionWriter
from wasinn_runtime.spec.types import FuncType, ValType

__all__ = [
    "arguments",
    "give",
    "native_name",
    "native_params",
    "native_result",
    "opaque",
    "receive",
    "results",
    "tail_alias",
    "tail_name",
    "tail_symbols",
]

# What x86-64 has, which is less than aarch64: registers for integers, and for the rest.
_PARAMETER_REGISTERS = (6, 8)
_RESULT_REGISTERS = (3, 2)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where values of some types go.

    Attributes:
        in_registers: the numbers of those that registers hold.
        in_memory: the numbers of the others, with their offset in the exchange area.
    """

    in_registers: tuple[int, ...]
    in_memory: tuple[tuple[int, int], ...]


@cache
def _places(types: tuple[ValType, ...], registers: tuple[int, int]) -> _Places:
    left = [*registers]
    inside: list[int] = []
    outside: list[tuple[int, int]] = []
    at = 0
    for number, ty in enumerate(types):
        bank = int(ty in (ValType.F32, ValType.F64, ValType.V128))
        if left[bank]:
            left[bank] -= 1
            inside.append(number)
        else:
            outside.append((number, at))
            at += SLOT_BYTES * slot_cells((ty,))
    return _Places(tuple(inside), tuple(outside))


def _result_places(ty: FuncType) -> _Places:
    return _places(ty.results, _RESULT_REGISTERS)


def native_name(index: int) -> str:
    """The symbol of a defined function, ``index`` counting imports first."""
    return f"f{index}"


def tail_name(index: int) -> str:
    """The symbol that tail calls jump to."""
    return f"f{index}.tail"


_TAIL = re.compile(r"(^define [^\n]*?)?@f(\d+)\.tail\(", re.MULTILINE)


def tail_symbols(text: str) -> tuple[set[int], set[int]]:
    """The functions whose ``tail_name`` a piece of IR defines, and those that it jumps to."""
    defined: set[int] = set()
    used: set[int] = set()
    if ".tail(" in text:
        for definition, number in _TAIL.findall(text):
            (defined if definition else used).add(int(number))
    return defined, used


def tail_alias(index: int, linkage: str = "internal") -> str:
    """The ``tail_name`` of a function that makes no tail calls itself."""
    return f"@{tail_name(index)} = {linkage} alias i8, ptr @{native_name(index)}"


@cache
def native_result(ty: FuncType) -> str:
    """The LLVM result type of a native entry."""
    types = [LLVM_TYPE[ty.results[i]] for i in _result_places(ty).in_registers]
    if not types:
        return "void"
    return types[0] if len(types) == 1 else "{ " + ", ".join(types) + " }"


def native_params(ty: FuncType, named: bool = True) -> str:
    """The parameters of a native entry after the context: ``, i32 %p0, double %p1``."""
    inside = _places(ty.params, _PARAMETER_REGISTERS).in_registers
    return "".join(f", {LLVM_TYPE[ty.params[i]]}" + (f" %p{i}" if named else "") for i in inside)


def _exchange(w: FunctionWriter, context: str, at: int) -> str:
    store = w.load_field(context, VMContext.STORE, "ptr", INVARIANT)
    return w.field(store, StoreContext.EXCHANGE + at)


def receive(w: FunctionWriter, ty: FuncType, context: str) -> list[str]:
    """The values of all parameters, at the beginning of a function."""
    values = [f"%p{i}" for i in range(len(ty.params))]
    for i, at in _places(ty.params, _PARAMETER_REGISTERS).in_memory:
        place = _exchange(w, context, at)
        values[i] = w.let(f"load {LLVM_TYPE[ty.params[i]]}, ptr {place}, align 8, {EXCHANGE}")
    return values


def arguments(w: FunctionWriter, ty: FuncType, values: Sequence[str], context: str) -> str:
    """Put the arguments of a call in place; gives what follows the context in its list."""
    places = _places(ty.params, _PARAMETER_REGISTERS)
    for i, at in places.in_memory:
        place = _exchange(w, context, at)
        w.do(f"store {LLVM_TYPE[ty.params[i]]} {values[i]}, ptr {place}, align 8, {EXCHANGE}")
    return "".join(f", {LLVM_TYPE[ty.params[i]]} {values[i]}" for i in places.in_registers)


def results(w: FunctionWriter, ty: FuncType, returned: str, context: str) -> list[str]:
    """The values of all results right after a call that returned ``returned``."""
    places = _result_places(ty)
    values = [returned] * len(ty.results)
    if len(places.in_registers) > 1:
        struct = native_result(ty)
        for number, i in enumerate(places.in_registers):
            values[i] = w.let(f"extractvalue {struct} {returned}, {number}")
    for i, at in places.in_memory:
        place = _exchange(w, context, at)
        values[i] = w.let(f"load {LLVM_TYPE[ty.results[i]]}, ptr {place}, align 8, {EXCHANGE}")
    return values


def give(w: FunctionWriter, ty: FuncType, values: Sequence[str], context: str) -> None:
    """Return these results."""
    places = _result_places(ty)
    for i, at in places.in_memory:
        place = _exchange(w, context, at)
        w.do(f"store {LLVM_TYPE[ty.results[i]]} {values[i]}, ptr {place}, align 8, {EXCHANGE}")
    whole, struct = "poison", native_result(ty)
    if not places.in_registers:
        w.do("ret void")
        return
    if len(places.in_registers) == 1:
        whole = values[places.in_registers[0]]
    else:
        for number, i in enumerate(places.in_registers):
            t = LLVM_TYPE[ty.results[i]]
            whole = w.let(f"insertvalue {struct} {whole}, {t} {values[i]}, {number}")
    w.do(f"ret {struct} {whole}")


def opaque(w: FunctionWriter, context: str) -> str:
    """A context for one call through a pointer, which may come back with another in its place."""
    # With side effects, or LLVM folds the load of the callee into the call, across this: a cycle.
    return w.let(f'call ptr asm sideeffect "", "=r,0"(ptr {context})')
