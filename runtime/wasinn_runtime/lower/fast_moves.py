"""Handlers that move values, and that go from place to place within a function.

See ``fast_handlers.py``.
"""

from __future__ import annotations

from functools import partial
from itertools import product

from wasinn_runtime.abi.layout import CodeEntry
from wasinn_runtime.lower.fast_body import Body, class_of
from wasinn_runtime.lower.fast_placed import HOT_SYMBOL
from wasinn_runtime.lower.fast_shapes import (
    COPIED,
    KINDS_OF_VALUES,
    RESULT_TYPES,
    add,
    branch,
    reads_of,
    result_name,
)
from wasinn_runtime.lower.threaded import Header
from wasinn_runtime.lower.writer import INVARIANT, LLVM_TYPE, STATE, UNPREDICTABLE
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import ValType

__all__ = ["add_moves"]

_I32, _I64, _V128 = ValType.I32, ValType.I64, ValType.V128


def _copy(ty: ValType, kind: str, b: Body) -> None:
    value = b.operand(kind, ty)
    kept = dict(b.at)
    b.to_register(ty, value)
    b.store_slot(b.slot(), ty)
    b.at.update(kept)  # a copy is no result


def _load_vector(dest: str, b: Body) -> None:
    value = b.word("<16 x i8>")
    b.words += 1
    b.result(dest, _V128, value)


def _select(register: str, kinds: str, dest: str, b: Body) -> None:
    ty = COPIED[register]
    t = LLVM_TYPE[ty]
    first, second = (b.operand(kind, ty) for kind in kinds[:2])
    condition = b.let(f"icmp ne i32 {b.operand(kinds[2], _I32)}, 0")
    chosen = f"select i1 {condition}, {t} {first}, {t} {second}, {UNPREDICTABLE}"
    b.result(dest, ty, b.let(chosen))


def _add_copies() -> None:
    for register, ty in COPIED.items():
        add(f"copy.{register}:r", partial(_copy, ty, "r"), register)
        if register in "rv":
            add(f"copy.{register}:s", partial(_copy, ty, "s"))
        for kinds in product("sri", "sri", "sr"):
            listed = "".join(kinds)
            reads = reads_of(listed, (ty, ty, _I32))
            if len(set(reads)) < len(reads) or (register == "v" and "i" in kinds):
                continue
            for dest in (">r", ">s"):
                write = partial(_select, register, listed, dest)
                add(f"select.{register}:{listed}{dest}", write, reads, register)
    add("copy.r:i", partial(_copy, _I64, "i"))
    for dest in (">r", ">s"):
        add(f"v128.const:{dest}", partial(_load_vector, dest), "", "v")


# --- control ---


def _jump(b: Body) -> None:
    b.go(b.let(f"getelementptr i8, ptr %pc, i64 {b.word()}"))


def _branch_if(kind: str, wanted: int, b: Body) -> None:
    branch(b, b.operand(kind, _I32), wanted)


def _jump_table(kind: str, b: Body) -> None:
    """Words: operand, number of the default target, the distances."""
    index = b.let(f"zext i32 {b.operand(kind, _I32)} to i64")
    last = b.word()
    number = b.let(f"call i64 @llvm.umin.i64(i64 {index}, i64 {last})")
    place = b.let(f"getelementptr i64, ptr {b.place()}, i64 {number}")
    distance = b.let(f"load i64, ptr {place}")
    b.go(b.let(f"getelementptr i8, ptr %pc, i64 {distance}"))


def _unreachable(b: Body) -> None:
    b.trap(TrapCode.UNREACHABLE)


def _out_of_bounds(b: Body) -> None:
    b.trap(TrapCode.OUT_OF_BOUNDS_MEMORY_ACCESS)


def _return(ty: ValType, kind: str, b: Body) -> None:
    b.to_register(ty, b.operand(kind, ty))
    b.store_slot(b.at["fp"], ty)
    b.leave()


def _move_down(b: Body) -> None:
    """Cells to fp from further up. Words: offset, bytes."""
    source = b.slot()
    size = b.word()
    b.do(f"call void @llvm.memmove.p0.p0.i64(ptr {b.at['fp']}, ptr {source}, i64 {size}, i1 false)")


def _zero(count: int, b: Body) -> None:
    """Declared locals begin as zero. Words: offset of the first; of ``zero.n`` also bytes."""
    place = b.slot()
    size = str(8 * count) if count else b.word()
    b.do(f"call void @llvm.memset.p0.i64(ptr {place}, i8 0, i64 {size}, i1 false)")


def _count(b: Body) -> None:
    """Counts how often it is run, in its own word: for choosing sequences."""
    place = b.place()
    b.words += 1
    before = b.let(f"load i64, ptr {place}")
    b.do(f"store i64 {b.let(f'add i64 {before}, 1')}, ptr {place}")


def _hot(result: str, b: Body) -> None:
    """A safepoint of code that may move up. Words: the CodeEntry, the number of the loop.

    Every slot is in its place. When the counter is used up it calls what ``HOT_SYMBOL`` points to:
    ``i32 (entry, vm, fp, loop)``, which answers 0 to go on here, or 1 when it has run the function
    to its end and put the results at fp. It may use the value stack above the function's frame.
    """
    entry, loop = b.word("ptr"), b.word()
    counter = b.field(entry, CodeEntry.COUNT)
    left = b.let(f"sub i64 {b.let(f'load i64, ptr {counter}, {STATE}')}, 1")
    b.do(f"store i64 {left}, ptr {counter}, {STATE}")
    cold, after, leave = b.new_label("cold"), b.new_label("after"), b.new_label("leave")
    used_up = b.let(f"icmp slt i64 {left}, 0")
    b.do(f"br i1 {used_up}, label %{cold}, label %{after}, !prof !20")
    b.label(cold)
    code = b.load_field(entry, CodeEntry.CODE, "ptr", STATE)
    size = b.load_field(code, Header.FRAME_BYTES, "i64", INVARIANT)
    b.save_stacks(b.let(f"getelementptr i8, ptr {b.at['fp']}, i64 {size}"))
    hook = b.let(f"load ptr, ptr @{HOT_SYMBOL}")
    fp = b.at["fp"]
    done = b.let(f"call i32 {hook}(ptr {entry}, ptr {b.vm}, ptr {fp}, i64 {loop})")
    ended = b.let(f"icmp ne i32 {done}, 0")
    b.do(f"br i1 {ended}, label %{leave}, label %{after}")
    b.label(leave)
    kept = dict(b.at)
    ty = RESULT_TYPES.get(result)
    if ty is not None:  # its register holds the result, as after a return
        b.to_register(ty, b.let(f"load {LLVM_TYPE[ty]}, ptr {fp}, align 8"))
    b.leave()
    b.at.update(kept)
    b.label(after)
    b.next()


def _branch_null(kind: str, wanted: int, b: Body) -> None:
    reference = b.operand(kind, ValType.FUNCREF)
    is_null = b.let(f"icmp eq ptr {reference}, null")
    branch(b, b.let(f"zext i1 {is_null} to i32"), wanted)


def add_moves() -> None:
    """Put them on the list."""
    _add_copies()
    add("jump", _jump, ends=True, branches=True)
    add("unreachable", _unreachable, ends=True)
    add("out_of_bounds", _out_of_bounds, ends=True)
    for kind in "sr":
        reads = "r" if kind == "r" else ""
        for wanted in (0, 1):
            write = partial(_branch_if, kind, wanted)
            add(f"branch:{kind}?{wanted}", write, reads, "", True, True)
            write = partial(_branch_null, kind, wanted)
            add(f"branch_null:{kind}?{wanted}", write, reads, "", True, True)
        add(f"jump_table:{kind}", partial(_jump_table, kind), reads, ends=True)
    add("return", Body.leave, ends=True)
    for ty in KINDS_OF_VALUES:
        for kind in "sri" if ty is not _V128 else "sr":
            reads = class_of(ty) if kind == "r" else ""
            add(f"return.{result_name(ty)}:{kind}", partial(_return, ty, kind), reads, ends=True)
    add("move_down", _move_down)
    for count in range(9):
        add(f"zero.{count or 'n'}", partial(_zero, count))
    add("count", _count)
    for result in ("", *RESULT_TYPES):
        add(f"hot.{result}" if result else "hot", partial(_hot, result), ends=True)
