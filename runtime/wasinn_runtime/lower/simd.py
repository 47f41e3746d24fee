"""What the vector instructions mean, as LLVM IR. See ``meanings.py`` and ``state.py``.

A vector is ``<16 x i8>`` between instructions; each looks at it as the lanes of its shape, which
costs nothing. What some CPU does better than LLVM makes of it, ``simd_support.py`` says by CPU.

Lanes and masks are immediates, but each may also be an LLVM value: an interpreter reads them from
its own code.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from wasinn_runtime.lower.meanings import as_i32, meaning, quieted
from wasinn_runtime.lower.registry import registrar
from wasinn_runtime.lower.simd_support import PREFIX
from wasinn_runtime.lower.state import Frame, in_place, memory_address, state
from wasinn_runtime.lower.writer import LINEAR, FunctionWriter
from wasinn_runtime.spec.opcodes import Opcode

__all__ = ["LANE_MEANINGS", "LaneMeaning", "vector_constant"]

# (writer, row, immediate, operands) -> result. The immediate is what the decoder gives, or for a
# lane an i32 and for a mask or a constant a <16 x i8>, as the name of an LLVM value.
LaneMeaning = Callable[[FunctionWriter, Opcode, object, list[str]], str]
LANE_MEANINGS: dict[str, LaneMeaning] = {}

_BYTES = "<16 x i8>"


@dataclass(frozen=True, slots=True)
class _Shape:
    """How an instruction divides a vector.

    Attributes:
        lane: LLVM's type of one.
        bits: of one.
        count: how many.
        vector: LLVM's type of all.
        overload: how the names of LLVM's intrinsics end.
        integers: the same with integers as lanes.
    """

    lane: str
    bits: int
    count: int
    vector: str
    overload: str
    integers: str


def _shape(letter: str, bits: int) -> _Shape:
    count = 128 // bits
    lane = f"i{bits}" if letter == "i" else {32: "float", 64: "double"}[bits]
    vector, integers = f"<{count} x {lane}>", f"<{count} x i{bits}>"
    return _Shape(lane, bits, count, vector, f"v{count}{letter}{bits}", integers)


_SHAPES = {
    f"{letter}{bits}x{128 // bits}": _shape(letter, bits)
    for letter, bits in (("i", 8), ("i", 16), ("i", 32), ("i", 64), ("f", 32), ("f", 64))
}
_I8, _I16, _I32, _I64, _F32, _F64 = _SHAPES.values()
_INTEGERS = {shape.bits: shape for shape in (_I8, _I16, _I32, _I64)}


def _of(row: Opcode) -> _Shape:
    """The shape that a row's meaning names last."""
    return _SHAPES[row.meaning[-1]]


# Register the meaning of a family of rows with lanes, masks or vectors as immediates.
lane_meaning = registrar(LANE_MEANINGS)


# --- constants, and one vector as another ---------------------------------------------------------


def vector_constant(bits: int) -> str:
    """A vector by its bits, the first lane lowest."""
    return _constant(_I8, bits.to_bytes(16, "little"))


def _constant(shape: _Shape, content: bytes) -> str:
    """A vector as lanes of a shape."""
    if not any(content):
        return "zeroinitializer"
    size = shape.bits // 8
    lanes = [
        f"i{shape.bits} {int.from_bytes(content[at : at + size], 'little')}"
        for at in range(0, len(content), size)
    ]
    text = f"splat ({lanes[0]})" if len(set(lanes)) == 1 else f"<{', '.join(lanes)}>"
    if shape.integers == shape.vector:
        return text
    return f"bitcast ({shape.integers} {text} to {shape.vector})"


def _content(value: str) -> bytes | None:
    """The bytes of a constant that ``vector_constant`` wrote; None for anything else."""
    if value.startswith("%"):
        return None
    if value == "zeroinitializer":
        return bytes(16)
    lanes = bytes(map(int, re.findall(r"i8 (\d+)", value)))
    return lanes * 16 if len(lanes) == 1 else lanes


def _view(w: FunctionWriter, value: str, shape: _Shape) -> str:
    """A vector as its lanes."""
    if shape is _I8:
        return value
    content = _content(value)
    if content is not None:
        return _constant(shape, content)
    # What the instruction before has just put together need not be taken apart.
    made, last = f"  {value} = bitcast {shape.vector} ", w.lines[-1]
    if last.startswith(made):
        return last[len(made) : -len(f" to {_BYTES}")]
    return w.let(f"bitcast {_BYTES} {value} to {shape.vector}")


def _views(w: FunctionWriter, values: list[str], shape: _Shape) -> list[str]:
    # From the last on: it is the likeliest to be a view already.
    return [_view(w, value, shape) for value in reversed(values)][::-1]


def _whole(w: FunctionWriter, value: str, vector: str) -> str:
    """Lanes as a vector again."""
    return value if vector == _BYTES else w.let(f"bitcast {vector} {value} to {_BYTES}")


def _pick(w: FunctionWriter, vector: str, value: str, lanes: range) -> str:
    """Some lanes of a vector."""
    mask = ", ".join(f"i32 {lane}" for lane in lanes)
    return w.let(f"shufflevector {vector} {value}, {vector} poison, <{len(lanes)} x i32> <{mask}>")


def _joined(w: FunctionWriter, half: str, low: str, high: str, count: int) -> str:
    """Two vectors of half the size as one of ``count`` lanes."""
    mask = ", ".join(f"i32 {lane}" for lane in range(count))
    return w.let(f"shufflevector {half} {low}, {half} {high}, <{count} x i32> <{mask}>")


def _spread(w: FunctionWriter, shape: _Shape, value: str) -> str:
    """A vector all of whose lanes are one value."""
    v, n = shape.vector, shape.count
    first = w.let(f"insertelement {v} poison, {shape.lane} {value}, i32 0")
    return w.let(f"shufflevector {v} {first}, {v} poison, <{n} x i32> zeroinitializer")


def _narrowed(w: FunctionWriter, shape: _Shape, value: str) -> str:
    """A scalar operand as a lane."""
    return w.let(f"trunc i32 {value} to {shape.lane}") if shape.bits < 32 else value


def _call(w: FunctionWriter, name: str, result: str, *operands: tuple[str, str]) -> str:
    """A function of ``simd_support.py``."""
    listed = ", ".join(f"{t} {value}" for t, value in operands)
    return w.let(f"call {result} @{PREFIX}{name}({listed})")


# --- with immediates ------------------------------------------------------------------------------


@lane_meaning("v128.const")
def _const(w: FunctionWriter, row: Opcode, immediate: object, a: list[str]) -> str:
    if isinstance(immediate, str):
        return immediate
    assert isinstance(immediate, int)
    return vector_constant(immediate)


@lane_meaning("lanes.shuffle")
def _shuffle(w: FunctionWriter, row: Opcode, immediate: object, a: list[str]) -> str:
    if isinstance(immediate, tuple):
        mask = ", ".join(f"i32 {lane}" for lane in immediate)
        return w.let(f"shufflevector {_BYTES} {a[0]}, {_BYTES} {a[1]}, <16 x i32> <{mask}>")
    mask = str(immediate)
    # Lanes beyond the first vector give 0 there, and those of the first do beyond the second.
    first = _call(w, "swizzle", _BYTES, (_BYTES, a[0]), (_BYTES, mask))
    beyond = w.let(f"sub {_BYTES} {mask}, splat (i8 16)")
    second = _call(w, "swizzle", _BYTES, (_BYTES, a[1]), (_BYTES, beyond))
    return w.let(f"or {_BYTES} {first}, {second}")


@lane_meaning("lanes.extract")
def _extract(w: FunctionWriter, row: Opcode, immediate: object, a: list[str]) -> str:
    shape = _SHAPES[row.meaning[1]]
    value = w.let(f"extractelement {shape.vector} {_view(w, a[0], shape)}, i32 {immediate}")
    if len(row.meaning) == 2:
        return value
    return w.let(f"{row.meaning[2]} {shape.lane} {value} to i32")


@lane_meaning("lanes.replace")
def _replace(w: FunctionWriter, row: Opcode, immediate: object, a: list[str]) -> str:
    shape = _of(row)
    v, vector = shape.vector, _view(w, a[0], shape)
    lane = _narrowed(w, shape, a[1])
    changed = w.let(f"insertelement {v} {vector}, {shape.lane} {lane}, i32 {immediate}")
    return _whole(w, changed, v)


# --- the whole vector ---------------------------------------------------------------------------


@meaning("v128.not")
def _not(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    return w.let(f"xor {_BYTES} {a[0]}, splat (i8 -1)")


@meaning("v128.bits")
def _bits(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    return w.let(f"{row.meaning[1]} {_BYTES} {a[0]}, {a[1]}")


@meaning("v128.andnot")
def _andnot(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    return w.let(f"and {_BYTES} {a[0]}, {w.let(f'xor {_BYTES} {a[1]}, splat (i8 -1)')}")


@meaning("v128.bitselect")
def _bitselect(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    first, second, mask = a
    ones = w.let(f"and {_BYTES} {first}, {mask}")
    inverse = w.let(f"xor {_BYTES} {mask}, splat (i8 -1)")
    return w.let(f"or {_BYTES} {ones}, {w.let(f'and {_BYTES} {second}, {inverse}')}")


@meaning("v128.any_true")
def _any_true(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    number = w.let(f"bitcast {_BYTES} {a[0]} to i128")
    return as_i32(w, w.let(f"icmp ne i128 {number}, 0"))


@meaning("lanes.swizzle")
def _swizzle(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    return _call(w, "swizzle", _BYTES, (_BYTES, a[0]), (_BYTES, a[1]))


# --- lanes of integers ----------------------------------------------------------------------------


@meaning("lanes.splat")
def _splat(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape, value = _of(row), a[0]
    # Known here, it is known to those who ask for a constant beside them.
    known = re.fullmatch(r"-?\d+|bitcast \(i\d+ (\d+) to \w+\)", value)
    if known:
        number = int(known[1] or value) % (1 << shape.bits)
        return _constant(_I8, number.to_bytes(shape.bits // 8, "little") * shape.count)
    return _whole(w, _spread(w, shape, _narrowed(w, shape, value)), shape.vector)


def _flags(w: FunctionWriter, condition: str, shape: _Shape) -> str:
    """A bit for each lane as a lane of that bit."""
    wide = w.let(f"sext <{shape.count} x i1> {condition} to {shape.integers}")
    return _whole(w, wide, shape.integers)


@meaning("lanes.icmp")
def _icmp(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape = _of(row)
    x, y = _views(w, a, shape)
    return _flags(w, w.let(f"icmp {row.meaning[1]} {shape.vector} {x}, {y}"), shape)


@meaning("lanes.int")
def _int(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape = _of(row)
    x, y = _views(w, a, shape)
    return _whole(w, w.let(f"{row.meaning[1]} {shape.vector} {x}, {y}"), shape.vector)


@meaning("lanes.int2")
def _int2(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape = _of(row)
    v = shape.vector
    x, y = _views(w, a, shape)
    name = f"llvm.{row.meaning[1]}.{shape.overload}"
    return _whole(w, w.let(f"call {v} @{name}({v} {x}, {v} {y})"), v)


@meaning("lanes.shift")
def _shift(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape, amount = _of(row), a[1]
    v, value = shape.vector, _view(w, a[0], shape)
    if amount.startswith("%"):
        amount = w.let(f"and i32 {amount}, {shape.bits - 1}")
        if shape.bits == 64:
            amount = w.let(f"zext i32 {amount} to i64")
        by = _spread(w, shape, _narrowed(w, shape, amount))
    else:
        by = f"splat ({shape.lane} {int(amount) % shape.bits})"
    return _whole(w, w.let(f"{row.meaning[1]} {v} {value}, {by}"), v)


@meaning("lanes.abs")
def _abs(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape = _of(row)
    v, value = shape.vector, _view(w, a[0], shape)
    return _whole(w, w.let(f"call {v} @llvm.abs.{shape.overload}({v} {value}, i1 false)"), v)


@meaning("lanes.neg")
def _neg(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    v, value = _of(row).vector, _view(w, a[0], _of(row))
    return _whole(w, w.let(f"sub {v} zeroinitializer, {value}"), v)


@meaning("lanes.popcnt")
def _popcnt(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    return w.let(f"call {_BYTES} @llvm.ctpop.v16i8({_BYTES} {a[0]})")


@meaning("lanes.average")
def _average(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape = _of(row)
    wide = f"<{shape.count} x i{2 * shape.bits}>"
    x, y = (w.let(f"zext {shape.vector} {value} to {wide}") for value in _views(w, a, shape))
    one = f"splat (i{2 * shape.bits} 1)"
    total = w.let(f"add {wide} {w.let(f'add {wide} {x}, {y}')}, {one}")
    half = w.let(f"lshr {wide} {total}, {one}")
    return _whole(w, w.let(f"trunc {wide} {half} to {shape.vector}"), shape.vector)


@meaning("lanes.all_true")
def _all_true(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape = _of(row)
    zero = w.let(f"icmp eq {shape.vector} {_view(w, a[0], shape)}, zeroinitializer")
    number = w.let(f"bitcast <{shape.count} x i1> {zero} to i{shape.count}")
    return as_i32(w, w.let(f"icmp eq i{shape.count} {number}, 0"))


@meaning("lanes.bitmask")
def _bitmask(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape = _of(row)
    signs = w.let(f"icmp slt {shape.vector} {_view(w, a[0], shape)}, zeroinitializer")
    number = w.let(f"bitcast <{shape.count} x i1> {signs} to i{shape.count}")
    return w.let(f"zext i{shape.count} {number} to i32")


@meaning("lanes.narrow")
def _narrow(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape = _of(row)
    bits, count = shape.bits, shape.count // 2
    source, half = _INTEGERS[2 * bits], f"<{count} x i{bits}>"
    v = source.vector
    low, high = (
        (-(1 << bits - 1), (1 << bits - 1) - 1) if row.meaning[1] == "s" else (0, 2**bits - 1)
    )
    halves = []
    for value in _views(w, a, source):
        for name, bound in (("smax", low), ("smin", high)):
            operands = f"{v} {value}, {v} splat (i{2 * bits} {bound})"
            value = w.let(f"call {v} @llvm.{name}.{source.overload}({operands})")
        halves.append(w.let(f"trunc {v} {value} to {half}"))
    low_half, high_half = halves
    return _whole(w, _joined(w, half, low_half, high_half, shape.count), shape.vector)


def _extended_half(w: FunctionWriter, row: Opcode, value: str) -> str:
    """Half of the lanes of half the width, as lanes of the row's shape."""
    shape = _of(row)
    _, extension, which, _ = row.meaning
    source, n = _INTEGERS[shape.bits // 2], shape.count
    lanes = range(n) if which == "low" else range(n, 2 * n)
    half = _pick(w, source.vector, _view(w, value, source), lanes)
    return w.let(f"{extension} <{n} x {source.lane}> {half} to {shape.vector}")


@meaning("lanes.extend")
def _extend(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    return _whole(w, _extended_half(w, row, a[0]), _of(row).vector)


@meaning("lanes.extmul")
def _extmul(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    v = _of(row).vector
    x, y = (_extended_half(w, row, value) for value in a)
    return _whole(w, w.let(f"mul {v} {x}, {y}"), v)


@meaning("lanes.pairwise")
def _pairwise(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape = _of(row)
    source = _INTEGERS[shape.bits // 2]
    operand = (source.vector, _view(w, a[0], source))
    total = _call(w, ".".join(("pairwise", *row.meaning[1:])), shape.vector, operand)
    return _whole(w, total, shape.vector)


@meaning("lanes.dot")
def _dot(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    wide, v = "<8 x i32>", _I32.vector
    x, y = (w.let(f"sext {_I16.vector} {value} to {wide}") for value in _views(w, a, _I16))
    product = w.let(f"mul nsw {wide} {x}, {y}")
    even, odd = (_pick(w, wide, product, range(first, 8, 2)) for first in (0, 1))
    return _whole(w, w.let(f"add {v} {even}, {odd}"), v)


@meaning("lanes.q15mulr")
def _q15mulr(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    v = _I16.vector
    x, y = _views(w, a, _I16)
    return _whole(w, _call(w, "q15mulr", v, (v, x), (v, y)), v)


@meaning("lanes.dot7")
def _dot7(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    v = _I16.vector
    return _whole(w, _call(w, "dot7", v, (_BYTES, a[0]), (_BYTES, a[1])), v)


@meaning("lanes.dot7_add")
def _dot7_add(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    v = _I32.vector
    addend = _view(w, a[2], _I32)
    pairs = _call(w, "dot7", _I16.vector, (_BYTES, a[0]), (_BYTES, a[1]))
    total = _call(w, "pairwise.sext.i32x4", v, (_I16.vector, pairs))
    return _whole(w, w.let(f"add {v} {total}, {addend}"), v)


# --- lanes of floats ------------------------------------------------------------------------------

# What LLVM folds an operation with to its other operand, or that operand's negation, and loses
# that WebAssembly quiets a signalling NaN there.
_FOLDED = {"fadd": (-0.0,), "fsub": (0.0, -0.0), "fmul": (1.0, -1.0), "fdiv": (1.0, -1.0)}


def _is_folded(instruction: str, shape: _Shape, value: str) -> bool:
    """Whether a lane of a constant is one with which an operation may be folded."""
    content = _content(value)
    if content is None:
        return False
    size, code = shape.bits // 8, "<f" if shape.bits == 32 else "<d"
    lanes = {content[at : at + size] for at in range(0, 16, size)}
    return any(struct.pack(code, number) in lanes for number in _FOLDED[instruction])


@meaning("lanes.float")
def _float(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape, instruction = _of(row), row.meaning[1]
    v = shape.vector
    x, y = _views(w, a, shape)
    if any(_is_folded(instruction, shape, value) for value in a):
        x, y = (quieted(w, v, shape.overload, value) for value in (x, y))
    return _whole(w, w.let(f"{instruction} {v} {x}, {y}"), v)


@meaning("lanes.fcmp")
def _fcmp(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape = _of(row)
    x, y = _views(w, a, shape)
    return _flags(w, w.let(f"fcmp {row.meaning[1]} {shape.vector} {x}, {y}"), shape)


@meaning("lanes.float1")
def _float1(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape = _of(row)
    v, value = shape.vector, _view(w, a[0], shape)
    return _whole(w, w.let(f"call {v} @llvm.{row.meaning[1]}.{shape.overload}({v} {value})"), v)


@meaning("lanes.fneg")
def _fneg(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    v, value = _of(row).vector, _view(w, a[0], _of(row))
    return _whole(w, w.let(f"fneg {v} {value}"), v)


@meaning("lanes.minmax")
def _minmax(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    v = _of(row).vector
    x, y = _views(w, a, _of(row))
    return _whole(w, _call(w, ".".join(row.meaning[1:]), v, (v, x), (v, y)), v)


@meaning("lanes.pick")
def _lesser_or_greater(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    # The first operand unless the second is less, or greater: no arithmetic, NaNs stay as they are.
    v = _of(row).vector
    x, y = _views(w, a, _of(row))
    left, right = (y, x) if row.meaning[1] == "least" else (x, y)
    better = w.let(f"fcmp olt {v} {left}, {right}")
    return _whole(w, w.let(f"select <{_of(row).count} x i1> {better}, {v} {y}, {v} {x}"), v)


@meaning("lanes.fma")
def _fma(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape = _of(row)
    v = shape.vector
    x, y, z = _views(w, a, shape)
    if row.meaning[1] == "minus":
        x = w.let(f"fneg {v} {x}")
    return _whole(w, w.let(f"call {v} @llvm.fma.{shape.overload}({v} {x}, {v} {y}, {v} {z})"), v)


@meaning("lanes.convert")
def _convert(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    shape, source = _of(row), _I32.vector
    value = _view(w, a[0], _I32)
    if shape is _F64:
        source, value = "<2 x i32>", _pick(w, source, value, range(2))
    return _whole(w, w.let(f"{row.meaning[1]} {source} {value} to {shape.vector}"), shape.vector)


@meaning("lanes.trunc_sat")
def _trunc_sat(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    v, value = _of(row).vector, _view(w, a[0], _of(row))
    name = ".".join(("trunc_sat", *row.meaning[1:]))
    return _whole(w, _call(w, name, _I32.vector, (v, value)), _I32.vector)


@meaning("lanes.demote")
def _demote(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    value = _view(w, a[0], _F64)
    # LLVM folds a promotion and the demotion after it into nothing; the quieting must stay.
    if any(line.startswith(f"  {value} = fpext ") for line in w.lines[-2:]):
        value = quieted(w, _F64.vector, _F64.overload, value)
    low = w.let(f"fptrunc {_F64.vector} {value} to <2 x float>")
    return _whole(w, _joined(w, "<2 x float>", low, "zeroinitializer", 4), _F32.vector)


@meaning("lanes.promote")
def _promote(w: FunctionWriter, row: Opcode, a: list[str]) -> str:
    low = _pick(w, _F32.vector, _view(w, a[0], _F32), range(2))
    return _whole(w, w.let(f"fpext <2 x float> {low} to {_F64.vector}"), _F64.vector)


# --- memory ---------------------------------------------------------------------------------------


def _loaded(f: Frame, row: Opcode, immediate: object, index: str, t: str) -> str:
    address = memory_address(f, row, immediate, index)
    return f.w.let(f"load {in_place(f)}{t}, ptr {address}, align 1, {LINEAR}")


def _lane_of(row: Opcode, immediate: object) -> tuple[_Shape, object]:
    """The shape that an access of one lane sees, and which lane it is."""
    assert isinstance(immediate, tuple)
    return _INTEGERS[8 * row.access_bytes], immediate[3]


@state("load.extend")
def _load_extend(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    bits, extension = int(row.meaning[2]), row.meaning[3]
    source, target = f"<{64 // bits} x i{bits}>", f"<{64 // bits} x i{2 * bits}>"
    value = _loaded(f, row, immediate, a[0], source)
    return [_whole(f.w, f.w.let(f"{extension} {source} {value} to {target}"), target)]


@state("load.splat")
def _load_splat(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    shape = _INTEGERS[8 * row.access_bytes]
    value = _loaded(f, row, immediate, a[0], shape.lane)
    return [_whole(f.w, _spread(f.w, shape, value), shape.vector)]


@state("load.zero")
def _load_zero(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    shape = _INTEGERS[8 * row.access_bytes]
    value = _loaded(f, row, immediate, a[0], shape.lane)
    vector = f"insertelement {shape.vector} zeroinitializer, {shape.lane} {value}, i32 0"
    return [_whole(f.w, f.w.let(vector), shape.vector)]


@state("load.lane")
def _load_lane(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    shape, lane = _lane_of(row, immediate)
    v, vector = shape.vector, _view(f.w, a[1], shape)
    value = _loaded(f, row, immediate, a[0], shape.lane)
    changed = f.w.let(f"insertelement {v} {vector}, {shape.lane} {value}, i32 {lane}")
    return [_whole(f.w, changed, v)]


@state("store.lane")
def _store_lane(f: Frame, row: Opcode, immediate: object, a: list[str]) -> list[str]:
    shape, lane = _lane_of(row, immediate)
    vector = _view(f.w, a[1], shape)
    value = f.w.let(f"extractelement {shape.vector} {vector}, i32 {lane}")
    address = memory_address(f, row, immediate, a[0])
    f.w.do(f"store {in_place(f)}{shape.lane} {value}, ptr {address}, align 1, {LINEAR}")
    return []
