"""The classic interpreter's control flow: blocks, branches, returns, and what moves values.

Where a branch goes is in the side table (``valid/side_table.py``), whose current entry stp points
to. The caller's registers are in a control frame, see ``threaded.ControlFrame`` and ``Frame``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wasinn_runtime.abi.layout import StoreContext
from wasinn_runtime.lower.classic_body import CLASSIC, STATES, Body, Code
from wasinn_runtime.lower.threaded import ControlFrame, Header
from wasinn_runtime.lower.writer import INVARIANT, STATE, UNPREDICTABLE
from wasinn_runtime.spec.traps import TrapCode
from wasinn_runtime.spec.types import ValType

__all__ = [
    "CONTROL",
    "ENTRY_BYTES",
    "WIDE",
    "Control",
    "Frame",
    "Write",
    "copy_cells",
    "drop_and_take",
    "leave",
    "minus",
    "restore",
]

# Of the side table, see valid/side_table.py.
ENTRY_BYTES = 16

Write = Callable[[Body], None]

_I32, _I64, _FUNCREF, _V128 = ValType.I32, ValType.I64, ValType.FUNCREF, ValType.V128


class Frame(ControlFrame):
    """What a call of this interpreter leaves beyond that."""

    STP = 40  # ptr
    CD = 48  # ptr Code
    BYTES = 64


@dataclass(frozen=True, slots=True)
class Control:
    """How an instruction of control flow is handled.

    Attributes:
        write: writes the handler.
        any_state: whether it has a version for each state, or only for state 0.
    """

    write: Write
    any_state: bool = True


# --- branches -----------------------------------------------------------------------------------


def _of_entry(b: Body, entry: str, offset: int) -> str:
    value = b.let(f"load i32, ptr {b.field(entry, offset)}, {INVARIANT}")
    return b.let(f"sext i32 {value} to i64")


def _target(b: Body, entry: str) -> tuple[str, str]:
    """Where a branch goes: in the bytes, in the side table."""
    pc = b.let(f"getelementptr i8, ptr {b.origin}, i64 {_of_entry(b, entry, 0)}")
    stp = b.let(f"getelementptr i8, ptr {entry}, i64 {_of_entry(b, entry, 4)}")
    return pc, stp


def take(b: Body, entry: str) -> None:
    """End the block by a branch with this entry of the side table."""
    dropped = b.load_field(entry, 12, "i32", INVARIANT)
    plain, drops = b.new_label("plain"), b.new_label("drops")
    nothing = b.let(f"icmp eq i32 {dropped}, 0")
    b.do(f"br i1 {nothing}, label %{plain}, label %{drops}")
    b.label(drops)
    forked = b.fork()
    b.spill(STATES - 1)
    handler = f'@"{CLASSIC.name}_drop.{len(b.cells)}"'
    b.jump_in_state(handler, pc=b.origin, stp=entry, sp=b.place_below(0))
    b.join(forked)
    b.label(plain)
    pc, stp = _target(b, entry)
    b.dispatch(pc, stp)


def drop_and_take(b: Body) -> None:
    """The rest of a branch that drops operands."""
    entry = b.at["stp"]
    pc, stp = _target(b, entry)
    size = _of_entry(b, entry, 12)
    carried = _of_entry(b, entry, 8)
    labels = [b.new_label(hint) for hint in ("none", "one", "many")]
    none, one, many = labels
    b.do(f"switch i64 {carried}, label %{many} [ i64 0, label %{none} i64 1, label %{one} ]")
    forked = b.fork()
    for label, count in ((none, 0), (one, 1)):
        b.join(forked)
        b.label(label)
        kept = [b.pop(_I64) for _ in range(count)]
        b.spill(1)  # one at least is dropped, what lies below it stays
        top = b.place_below(-len(b.cells))
        b.move_stack(minus(b, top, size))
        b.cells = kept
        b.dispatch(pc, stp)
    b.join(forked)
    b.label(many)
    b.spill()
    top = b.place_below(0)
    moved = b.let(f"shl i64 {carried}, 3")
    source = minus(b, top, moved)
    copy_cells(b, minus(b, source, size), source, moved)
    b.move_stack(minus(b, top, size))
    b.dispatch(pc, stp)


def minus(b: Body, place: str, size: str) -> str:
    return b.let(f"getelementptr i8, ptr {place}, i64 {b.let(f'sub i64 0, {size}')}")


def copy_cells(b: Body, target: str, source: str, size: str) -> None:
    """Cells downwards, one by one: without a call, which would cost a native frame."""
    before = b.block
    again, more, done = b.new_label("copy"), b.new_label("cell"), b.new_label("copied")
    at, after = f"%{again}.at", f"%{again}.after"
    b.do(f"br label %{again}")
    b.label(again)
    b.do(f"{at} = phi i64 [ 0, %{before} ], [ {after}, %{more} ]")
    ends = b.let(f"icmp uge i64 {at}, {size}")
    b.do(f"br i1 {ends}, label %{done}, label %{more}")
    b.label(more)
    value = b.let(f"load volatile i64, ptr {b.let(f'getelementptr i8, ptr {source}, i64 {at}')}")
    place = b.let(f"getelementptr i8, ptr {target}, i64 {at}")
    b.do(f"store volatile i64 {value}, ptr {place}")
    b.do(f"{after} = add i64 {at}, 8")
    b.do(f"br label %{again}")
    b.label(done)


def _after_entry(b: Body, count: int = 1) -> str:
    """The side table's place when a branch is not taken."""
    return b.let(f"getelementptr inbounds i8, ptr {b.at['stp']}, i64 {count * ENTRY_BYTES}")


def _br(b: Body) -> None:
    take(b, b.at["stp"])


def _branch_if(b: Body, holds: str) -> None:
    """End the handler by a conditional branch whose label was read."""
    taken, after = b.new_label("taken"), b.new_label("after")
    b.do(f"br i1 {holds}, label %{taken}, label %{after}")
    forked = b.fork()
    b.label(taken)
    take(b, b.at["stp"])
    b.join(forked)
    b.label(after)
    b.at["stp"] = _after_entry(b)
    b.next()


def _br_if(b: Body) -> None:
    b.unsigned()
    _branch_if(b, b.let(f"icmp ne i32 {b.pop(_I32)}, 0"))


def _br_table(b: Body) -> None:
    wanted = b.let(f"zext i32 {b.pop(_I32)} to i64")
    last = b.unsigned()
    number = b.let(f"call i64 @llvm.umin.i64(i64 {wanted}, i64 {last})")
    offset = b.let(f"mul i64 {number}, {ENTRY_BYTES}")
    take(b, b.let(f"getelementptr i8, ptr {b.at['stp']}, i64 {offset}"))


def _br_on_null(b: Body) -> None:
    reference = b.pop(_FUNCREF)
    forked = b.fork()
    b.unsigned()
    is_null = b.let(f"icmp eq ptr {reference}, null")
    taken, after = b.new_label("taken"), b.new_label("after")
    b.do(f"br i1 {is_null}, label %{taken}, label %{after}")
    kept = b.fork()
    b.label(taken)
    b.join(forked)
    take(b, b.at["stp"])
    b.join(kept)
    b.label(after)
    b.push(_FUNCREF, reference)
    b.dispatch(b.here(), _after_entry(b))


def _br_on_non_null(b: Body) -> None:
    forked = b.fork()
    reference = b.pop(_FUNCREF)
    b.unsigned()
    is_null = b.let(f"icmp eq ptr {reference}, null")
    taken, after = b.new_label("taken"), b.new_label("after")
    b.do(f"br i1 {is_null}, label %{after}, label %{taken}")
    dropped = b.fork()
    b.label(taken)
    b.join(forked)
    take(b, b.at["stp"])
    b.join(dropped)
    b.label(after)
    b.dispatch(b.here(), _after_entry(b))


# --- blocks -------------------------------------------------------------------------------------


def _block_type(b: Body) -> None:
    if not b.short:
        _skip_type(b)
        return
    code = b.byte()
    if b.known:
        return
    is_long = b.let(f"icmp slt i8 {code}, 0")
    is_pair = b.let(f"icmp ult i8 {b.let(f'sub i8 {code}, 99')}, 2")
    b.use_twin(b.let(f"or i1 {is_long}, {is_pair}"))


def _block(b: Body) -> None:
    _block_type(b)
    b.next()


def _if_holds(b: Body, holds: str) -> None:
    """End the handler by an if whose type was read."""
    then, otherwise = b.new_label("then"), b.new_label("otherwise")
    b.do(f"br i1 {holds}, label %{then}, label %{otherwise}")
    forked = b.fork()
    b.label(otherwise)
    pc, stp = _target(b, b.at["stp"])
    b.dispatch(pc, stp)
    b.join(forked)
    b.label(then)
    b.at["stp"] = _after_entry(b)
    b.next()


def _if(b: Body) -> None:
    _block_type(b)
    _if_holds(b, b.let(f"icmp ne i32 {b.pop(_I32)}, 0"))


def _else(b: Body) -> None:
    """The part before it is over: to the end."""
    pc, stp = _target(b, b.at["stp"])
    b.dispatch(pc, stp)


def _delegate(b: Body) -> None:
    b.unsigned()
    b.next()


def _unreachable(b: Body) -> None:
    b.trap(TrapCode.UNREACHABLE)


# --- returns ------------------------------------------------------------------------------------


def restore(b: Body) -> str:
    """Take the caller's registers from the control stack; gives its pc."""
    cs, fp = b.at["cs"], b.at["fp"]

    def load(offset: int) -> str:
        return b.let(f"load ptr, ptr {b.field(cs, offset)}")

    current = b.field(b.store_context(), StoreContext.CURRENT)
    b.do(f"store ptr {load(Frame.CURRENT)}, ptr {current}, {STATE}")
    pc = load(Frame.PC)
    code = load(Frame.CD)
    b.at.update(
        fp=load(Frame.FP),
        vm=load(Frame.VM),
        mem=load(Frame.MEM),
        stp=load(Frame.STP),
        cd=code,
        dt=b.load_field(code, Code.HANDLERS, "ptr", INVARIANT),
        cs=b.let(f"getelementptr i8, ptr {cs}, i64 {Frame.BYTES}"),
    )
    b.move_stack(fp)
    return pc


def leave(b: Body) -> None:
    """Return: results go where the arguments were."""
    count = b.of_code(Header.RESULT_CELLS)
    fp = b.at["fp"]
    none, one, many = (b.new_label(hint) for hint in ("none", "one", "many"))
    b.do(f"switch i64 {count}, label %{many} [ i64 1, label %{one} i64 0, label %{none} ]")
    forked = b.fork()
    b.label(one)
    value = b.pop(_I64)
    pc = restore(b)
    b.cells = [value]
    b.dispatch(pc)
    b.join(forked)
    b.label(none)
    b.cells = []
    b.dispatch(restore(b))
    b.join(forked)
    b.label(many)
    b.spill()
    size = b.let(f"shl i64 {count}, 3")
    copy_cells(b, fp, minus(b, b.place_below(0), size), size)
    pc = restore(b)
    b.move_stack(b.let(f"getelementptr i8, ptr {fp}, i64 {size}"))
    b.dispatch(pc)


# --- locals and what has no type of its own -----------------------------------------------------


def _local(b: Body) -> str:
    number = b.unsigned()
    return b.let(f"getelementptr inbounds i64, ptr {b.at['fp']}, i64 {number}")


def _local_get(b: Body) -> None:
    b.cells.append(b.let(f"load i64, ptr {_local(b)}, align 8"))
    b.next()


def _local_set(b: Body) -> None:
    b.do(f"store i64 {b.pop(_I64)}, ptr {_local(b)}, align 8")
    b.next()


def _local_tee(b: Body) -> None:
    value = b.pop(_I64)
    b.do(f"store i64 {value}, ptr {_local(b)}, align 8")
    b.cells.append(value)
    b.next()


def _drop(b: Body) -> None:
    b.pop(_I64)
    b.next()


def _select(b: Body) -> None:
    _choose(b, _I64)
    b.next()


def _select_typed(b: Body) -> None:
    _skip_types(b)
    _select(b)


def _choose(b: Body, ty: ValType) -> None:
    condition = b.let(f"icmp ne i32 {b.pop(_I32)}, 0")
    second, first = b.pop(ty), b.pop(ty)
    t = "i64" if ty is _I64 else "<16 x i8>"
    chosen = f"select i1 {condition}, {t} {first}, {t} {second}, {UNPREDICTABLE}"
    b.push(ty, b.let(chosen))


def _skip_types(b: Body) -> None:
    """The one type of a select, after how many there are."""
    b.unsigned()
    _skip_type(b)


def _skip_type(b: Body) -> None:
    """A type that may have any length: (ref null? heap) is two numbers."""
    is_pair = b.let(f"icmp ult i8 {b.let(f'sub i8 {b.byte()}, 99')}, 2")  # 0x63, 0x64
    b.skip(-1)
    at = b.let(f"getelementptr i8, ptr {b.here()}, i64 {b.let(f'zext i1 {is_pair} to i64')}")
    b.read_at(at)
    b.signed()


# The same where operands may take two cells.


def _if_wide(b: Body, condition: str, write: Callable[[Body, ValType], None]) -> None:
    """End the handler by one of two ways of writing it."""
    wide, narrow = b.new_label("wide"), b.new_label("narrow")
    b.do(f"br i1 {condition}, label %{wide}, label %{narrow}")
    forked = b.fork()
    for label, ty in ((wide, _V128), (narrow, _I64)):
        b.join(forked)
        b.label(label)
        write(b, ty)


def _by_map(write: Callable[[Body, ValType, str], None]) -> Write:
    """A local that the function's map of locals finds."""

    def handler(b: Body) -> None:
        number = b.unsigned()
        place = b.let(f"getelementptr i32, ptr {b.of_code(Code.LOCALS, 'ptr')}, i64 {number}")
        entry = b.let(f"zext i32 {b.let(f'load i32, ptr {place}, {INVARIANT}')} to i64")
        offset = b.let(f"lshr i64 {entry}, 1")
        local = b.let(f"getelementptr i8, ptr {b.at['fp']}, i64 {offset}")
        two = b.let(f"trunc i64 {entry} to i1")
        _if_wide(b, two, lambda body, ty: write(body, ty, local))

    return handler


def _wide_get(b: Body, ty: ValType, local: str) -> None:
    b.push(ty, b.let(f"load {_SLOT[ty]}, ptr {local}, align 8"))
    b.next()


def _wide_set(b: Body, ty: ValType, local: str) -> None:
    b.do(f"store {_SLOT[ty]} {b.pop(ty)}, ptr {local}, align 8")
    b.next()


def _wide_tee(b: Body, ty: ValType, local: str) -> None:
    b.do(f"store {_SLOT[ty]} {b.peek(ty)}, ptr {local}, align 8")
    b.next()


_SLOT = {_I64: "i64", _V128: "<16 x i8>"}


def _by_entry(write: Callable[[Body, ValType], None], typed: bool = False) -> Write:
    """What the side table knows the operands' cells of."""

    def handler(b: Body) -> None:
        if typed:
            _skip_types(b)
        cells = b.load_field(b.at["stp"], 0, "i32", INVARIANT)
        b.at["stp"] = _after_entry(b)
        _if_wide(b, b.let(f"icmp eq i32 {cells}, 2"), write)

    return handler


def _wide_drop(b: Body, ty: ValType) -> None:
    b.pop(ty)
    b.next()


def _wide_select(b: Body, ty: ValType) -> None:
    _choose(b, ty)
    b.next()


CONTROL: dict[str, Control] = {
    "nop": Control(Body.next),
    "block": Control(_block),
    "loop": Control(_block),
    "if": Control(_if),
    "else": Control(_else),
    "try": Control(_block),
    "try_table": Control(_else, False),
    "catch": Control(_else, False),
    "catch_all": Control(_else, False),
    "delegate": Control(_delegate, False),
    "end": Control(Body.next),  # a function's last is a return, see classic_code.py
    "unreachable": Control(_unreachable, False),
    "br": Control(_br),
    "br_if": Control(_br_if),
    "br_table": Control(_br_table),
    "br_on_null": Control(_br_on_null, False),
    "br_on_non_null": Control(_br_on_non_null, False),
    "return": Control(leave),
    "local.get": Control(_local_get),
    "local.set": Control(_local_set),
    "local.tee": Control(_local_tee),
    "drop": Control(_drop),
    "select": Control(_select),
    "select t": Control(_select_typed, False),
}
"""By name, for functions whose operands and locals are all of one cell each."""

WIDE: dict[str, Control] = {
    "local.get": Control(_by_map(_wide_get)),
    "local.set": Control(_by_map(_wide_set)),
    "local.tee": Control(_by_map(_wide_tee)),
    "drop": Control(_by_entry(_wide_drop)),
    "select": Control(_by_entry(_wide_select)),
    "select t": Control(_by_entry(_wide_select, typed=True), False),
}
"""Those that are different where values may take two cells."""
