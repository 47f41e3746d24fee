"""The classic interpreter's own opcodes: they do what the instructions they stand for do."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasmtime

from wasinn_runtime import Config, Engine, Func, Instance, Memory, Module, Store, Trap
from wasinn_runtime.binary.code import decode_body
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.lower.classic_code import PARTS, SEQUENCE_CODES, SKIP, Part, write_code
from wasinn_runtime.lower.classic_sequences import SEQUENCES
from wasinn_runtime.spec.features import ALL_FEATURES
from wasinn_runtime.spec.opcodes import ROWS, Imm
from wasinn_runtime.spec.types import ValType

TYPES = (ValType.I32, ValType.I64, ValType.F32, ValType.F64)
CODE_OF_TYPE = {ValType.I32: 0x7F, ValType.I64: 0x7E, ValType.F32: 0x7D, ValType.F64: 0x7C}
LOCALS = 2  # of each type
OPCODE = {row.name: row.code for row in ROWS}
DATA_DROP = b"\xfc\x09\x00"
"""It has a handler for operands in memory only, so that all of them are there behind it."""


def local(ty: ValType, number: int) -> int:
    return TYPES.index(ty) * LOCALS + number


class Unfit(Exception):
    """A guess of types that do not fit."""


class Written:
    """A sequence as code, with types guessed, and what must be on the stack before it.

    Raises:
        Unfit: its types do not fit.
    """

    def __init__(self, parts: list[Part], guess: random.Random) -> None:
        self.guess = guess
        self.inputs: list[ValType] = []  # deepest first
        self.stack: list[ValType] = []
        self.blocks: list[list[ValType]] = []  # what is below each block that was begun
        self.code = bytearray()
        for part in parts:
            self._write(part)

    def _take(self, wanted: ValType | None) -> ValType:
        if not self.stack:
            if self.blocks:
                raise Unfit
            self.inputs.insert(0, wanted or self.guess.choice(TYPES))
            return self.inputs[0]
        found = self.stack.pop()
        if wanted not in (None, found):
            raise Unfit
        return found

    def _write(self, part: Part) -> None:
        row, guess = part.row, self.guess
        self.code.append(row.code)
        if row.imm is Imm.LOCAL:
            ty = guess.choice(TYPES) if row.name == "local.get" else self._take(None)
            self.code.append(local(ty, guess.randrange(LOCALS)))
            if row.name != "local.set":
                self.stack.append(ty)
            return
        if row.name == "select":
            self._take(ValType.I32)
            ty = self._take(None)
            self.stack.append(self._take(ty))
            return
        if row.name in ("block", "loop", "if"):
            if row.name == "if":
                self._take(ValType.I32)
            self.code.append(0x40)
            self.blocks.append(self.stack)
            self.stack = []
            return
        if row.name == "br_if":
            self._take(ValType.I32)
            self.code.append(len(self.blocks))
            return
        if row.name == "end":
            raise Unfit
        assert row.params is not None
        assert row.results is not None
        for ty in reversed(row.params):
            self._take(ty)
        self.stack += row.results
        if row.imm in (Imm.I32, Imm.I64):
            value = guess.randrange(64) if part.size == 2 else guess.randrange(64, 8192)
            value = guess.choice((value, ~value))
            digits = [value >> 7 * i & 127 for i in range(part.size - 1)]
            self.code += bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])
        elif row.imm is Imm.MEMARG:
            self.code += bytes([0, guess.randrange(128)])
        elif row.imm is Imm.F64:
            self.code += struct.pack("<d", guess.choice((0.5, -3.0, 1e300)))
        else:
            assert row.imm is Imm.NONE, row


def sequence_code(sequence: str, guess: random.Random) -> Written:
    parts = [PARTS[name] for name in sequence.split()]
    for _ in range(50_000):
        try:
            return Written(parts, guess)
        except Unfit:
            pass
    raise AssertionError(f"{sequence}: no types fit")


def body(sequence: str, in_registers: int, guess: random.Random) -> bytes:
    """A function's code: a sequence in a block, its results left in locals."""
    written = sequence_code(sequence, guess)
    code = bytearray(b"\x02\x40")
    at = max(len(written.inputs) - in_registers, 0)
    for number, ty in enumerate(written.inputs):
        if number == at:
            code += DATA_DROP
        code += bytes([OPCODE["local.get"], local(ty, guess.randrange(LOCALS))])
    if at == len(written.inputs):
        code += DATA_DROP
    code += written.code
    stack = written.stack
    for below in (*reversed(written.blocks), None):
        for ty in reversed(stack):
            code += bytes([OPCODE["local.set"], local(ty, guess.randrange(LOCALS))])
        if below is not None:
            code += b"\x0b"
            stack = below
    code += b"\x0b"
    for number in range(len(TYPES) * LOCALS):
        code += bytes([OPCODE["local.get"], number])
    return bytes(code) + b"\x0b"


def number(value: int) -> bytes:
    return bytes([value & 127 | 128, value >> 7 & 127 | 128, value >> 14])


def section(code: int, content: bytes) -> bytes:
    return bytes([code]) + number(len(content)) + content


def module_of(bodies: list[bytes]) -> bytes:
    """A module that exports functions ``0``, ``1``, ... of these bodies and a memory of a page."""
    types = bytes(CODE_OF_TYPE[ty] for ty in TYPES for _ in range(LOCALS))
    signature = bytes([len(types)]) + types
    names = [str(i).encode() for i in range(len(bodies))]
    exports = b"".join(
        bytes([len(name)]) + name + b"\0" + number(i) for i, name in enumerate(names)
    )
    data = bytes(range(1, 256)) * 8
    count = number(len(bodies))
    return b"\0asm\1\0\0\0" + b"".join(
        (
            section(1, b"\1\x60" + signature + signature),
            section(3, count + bytes(len(bodies))),
            section(5, b"\1\0\1"),
            section(7, number(len(bodies) + 1) + exports + b"\1m\2\0"),
            section(12, b"\2"),
            section(10, count + b"".join(number(len(b) + 1) + b"\0" + b for b in bodies)),
            section(11, b"\2\1\0" + b"\0\x41\0\x0b" + number(len(data)) + data),
        )
    )


def arguments(guess: random.Random) -> Iterator[list[int | float]]:
    for small in (0, 1, 300, 40_000, 1 << 31):
        whole = [guess.randrange(-small, small) if small else 0 for _ in range(2 * LOCALS)]
        yield [*whole, *(guess.randrange(-9, 9) / 2 for _ in range(2 * LOCALS))]


def bits(values: object) -> list[object]:
    """To compare: NaN as NaN, whichever it is."""
    assert isinstance(values, tuple | list)
    return [str(value) for value in values]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    directory: Path = tmp_path_factory.mktemp("sequences")
    return Engine(Config(mode="interp", cache_dir=directory))


@pytest.mark.parametrize("in_registers", [0, 1, 2])
def test_a_sequence_does_what_its_instructions_do(engine: Engine, in_registers: int) -> None:
    guess = random.Random(in_registers)
    tried = [sequence for sequence in SEQUENCES for _ in range(3)]
    data = module_of([body(sequence, in_registers, guess) for sequence in tried])
    parsed = decode(data, "test", ALL_FEATURES)
    store = Store(engine)
    exports = Instance(store, Module(engine, data), []).exports
    other_store = wasmtime.Store()
    other_module = wasmtime.Module(other_store.engine, data)
    others = wasmtime.Instance(other_store, other_module, []).exports(other_store)
    memory, other_memory = exports["m"], others["m"]
    assert isinstance(memory, Memory)
    assert isinstance(other_memory, wasmtime.Memory)
    trapped = 0
    for index, sequence in enumerate(tried):
        assert SEQUENCE_CODES[sequence] in code_of(parsed, index), sequence
        ours, theirs = exports[str(index)], others[str(index)]
        assert isinstance(ours, Func)
        assert isinstance(theirs, wasmtime.Func)
        for values in arguments(guess):
            try:
                expected = theirs(other_store, *values)
            except wasmtime.Trap:
                trapped += 1
                with pytest.raises(Trap):
                    ours(*values)
            else:
                assert bits(ours(*values)) == bits(expected), (sequence, values)
            assert bytes(memory.read(0, 65536)) == bytes(other_memory.read(other_store)), sequence
    assert 0 < trapped < len(tried)


def code_of(parsed: ParsedModule, index: int) -> bytes:
    code = write_code(parsed.data, decode_body(parsed, index).instructions, False)
    return code.tobytes()


def test_overlapping_sequences_keep_their_immediates() -> None:
    data = bytes(
        wasmtime.wat2wasm(
            """(module (memory 1) (func (param i32 i32) (local i32)
              (local.set 2 (i32.add (i32.load8_u (i32.add (local.get 0) (local.get 1)))
                (local.get 2)))))"""
        )
    )
    parsed = decode(data, "test", ALL_FEATURES)
    instructions = decode_body(parsed, 0).instructions
    code = code_of(parsed, 0)
    start = instructions[0][2]
    changed = {at - start for _, _, at in instructions if code[at - start] != data[at]}
    assert len(changed) >= 3
    same = set(range(instructions[-1][2] - start)) - changed
    assert all(code[at] == data[start + at] for at in same)


@pytest.mark.parametrize("blocks", [2, 100, 127, 128, 129, 300])
def test_blocks_that_begin_together_are_skipped(engine: Engine, blocks: int) -> None:
    labels = " ".join(map(str, range(blocks)))
    text = f"""(module (func (export "f") (param i32) (result i32) (local i32)
      {"(block " * blocks} (br_table {labels} (local.get 0))
      {") (local.set 1 (i32.add (local.get 1) (i32.const 1)))" * blocks}
      (block (block (block nop))) (loop nop) (local.get 1)))"""
    data = bytes(wasmtime.wat2wasm(text))
    assert SKIP in code_of(decode(data, "test", ALL_FEATURES), 0)
    f = Instance(Store(engine), Module(engine, data), []).exports["f"]
    assert isinstance(f, Func)
    for label in (0, 1, blocks - 1, blocks + 5):
        assert f(label) == blocks - min(label, blocks - 1)
