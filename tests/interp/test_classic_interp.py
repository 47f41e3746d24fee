"""The classic interpreter: immediates of any length, side tables, values of two cells, calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime

from benchmarks.catalogue import KERNELS, Kernel
from wasinn_runtime import Config, Engine, Exhaustion, Func, Instance, Linker, Module, Store, Trap
from wasinn_runtime.binary.code import decode_body
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.engines.interp import Interp
from wasinn_runtime.spec.features import ALL_FEATURES
from wasinn_runtime.spec.types import FuncType, ValType
from wasinn_runtime.valid.side_table import ENTRY_BYTES, SideTable, make_side_table
from wasinn_runtime.valid.tries import CLAUSE_WORDS, RANGE_WORDS
from wasinn_runtime.valid.validate import validate_function, validate_sections

Load = Callable[[bytes], Module]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """Modules run by the classic interpreter, whatever the default is."""
    directory: Path = tmp_path_factory.mktemp("classic")
    engine = Engine(Config(cache_dir=directory, verify_ir=True))

    def make(data: bytes) -> Module:
        module = Module.__new__(Module)
        module._set_up(engine, decode(data, "test", ALL_FEATURES), Interp)
        return module

    return make


def wat(text: str) -> bytes:
    return bytes(wasmtime.wat2wasm(text))


def exported(load: Load, data: bytes, name: str = "f") -> Func:
    module = load(data)
    function = Instance(Store(module.engine), module, []).exports[name]
    assert isinstance(function, Func)
    return function


# --- immediates ---------------------------------------------------------------------------------


def unsigned(value: int, size: int) -> bytes:
    """A LEB128 number in exactly so many bytes."""
    digits = [value >> 7 * i & 127 for i in range(size)]
    return bytes([*(d | 128 for d in digits[:-1]), digits[-1]])


def signed(value: int, size: int) -> bytes:
    return unsigned(value & ((1 << 7 * size) - 1), size)


def section(number: int, content: bytes) -> bytes:
    return bytes([number]) + unsigned(len(content), 5) + content


def module_of(code: bytes) -> bytes:
    """A module whose function 0, ``f`` from i32 to i32, has this code; 1 doubles; a memory."""
    double = bytes([0, 0x20, 0, 0x20, 0, 0x6A, 0x0B])
    body = bytes([1, 1, 0x7F]) + code + b"\x0b"
    return b"\0asm\1\0\0\0" + b"".join(
        (
            section(1, bytes([1, 0x60, 1, 0x7F, 1, 0x7F])),
            section(3, bytes([2, 0, 0])),
            section(4, bytes([1, 0x70, 0, 1])),
            section(5, bytes([1, 0, 1])),
            section(6, bytes([1, 0x7F, 1, 0x41, 0, 0x0B])),
            section(7, bytes([1, 1, ord("f"), 0, 0])),
            section(9, bytes([1, 0, 0x41, 0, 0x0B, 1, 1])),
            section(10, bytes([2, *unsigned(len(body), 2)]) + body + bytes([len(double)]) + double),
        )
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_immediates_of_every_length(load: Load, size: int) -> None:
    def u(value: int) -> bytes:
        return unsigned(value, size)

    code = b"".join(
        (
            b"\x20" + u(0) + b"\x41" + signed(-7, size) + b"\x6a",  # x - 7
            b"\x10" + u(1),  # doubled
            b"\x21" + u(1),
            b"\x41" + signed(16, size) + b"\x20" + u(1) + b"\x36" + u(2) + u(4),  # stored at 20
            b"\x02\x40\x41" + signed(0, size) + b"\x0d" + u(0) + b"\x0b",
            b"\x03\x40\x20" + u(1) + b"\x45\x0d" + u(0) + b"\x0b",
            b"\x41" + signed(20, size) + b"\x28" + u(2) + u(0) + b"\x24" + u(0),
            b"\x23" + u(0) + b"\x41" + signed(0, size) + b"\x11" + u(0) + u(0),  # doubled again
            b"\x22" + u(1),
        )
    )
    f = exported(load, module_of(code))
    assert f(10) == 12
    assert f(-1) == -32


@pytest.mark.parametrize("value", [0, 63, 64, -64, -65, 8191, -8192, 1 << 20, -(1 << 20), 1 << 31])
def test_constants(load: Load, value: int) -> None:
    narrow = value - (1 << 32) if value >> 31 == 1 else value
    text = f"""(module (func (export "f") (param i64) (result i64 i32 i32)
      (i64.add (local.get 0) (i64.const {value << 31})) (i32.const {narrow})
      (i32.and (i32.add (i32.wrap_i64 (local.get 0)) (i32.const {narrow}))
        (i32.const {narrow}))))"""
    f = exported(load, wat(text))
    both = narrow & (narrow + 5)
    both = (both + (1 << 31)) % (1 << 32) - (1 << 31)
    assert f(5) == ((value << 31) + 5, narrow, both)


# --- what is done without a jump ----------------------------------------------------------------


@pytest.mark.parametrize("operands", [0, 1, 2])
@pytest.mark.parametrize("blocks", range(1, 12))
def test_any_number_of_blocks_begins_at_once(load: Load, blocks: int, operands: int) -> None:
    labels = " ".join(map(str, range(blocks)))
    body = f"(br_table {labels} (local.get 1))"
    for number in range(blocks):
        body = f"(block {body}) (local.set 2 (i32.add (local.get 2) (i32.const {1 << number})))"
    text = f"""(module (func (export "f") (param i32 i32) (result i32) (local i32)
      {"(i32.const 100) " * operands} (local.set 2 (local.get 0)) {body}
      (local.get 2) {"i32.add " * operands}))"""
    f = exported(load, wat(text))
    for label in range(blocks):
        passed = sum(1 << number for number in range(label, blocks))
        assert f(1000, label) == 1000 + passed + 100 * operands


def test_what_follows_a_branch_that_is_not_taken(load: Load) -> None:
    text = """(module (memory 1) (func (export "f") (param i32 i32) (result i32)
      (block (result i32)
        (i32.const 1) (i64.const 9) (drop)
        (drop (br_if 0 (i32.const 7) (i32.eqz (local.get 0))))
        (block
          (br_if 0 (i32.eqz (local.tee 1 (i32.add (local.get 1) (i32.const 1)))))
          (br_if 0 (local.tee 1 (i32.load (local.get 1))))
          (drop (br_if 1 (i32.const 8) (i32.eqz (local.get 1)))))
        (drop) (i32.add (local.get 1) (i32.const 100)))))"""
    f = exported(load, wat(text))
    assert f(0, 5) == 7
    assert f(1, -1) == 100
    assert f(1, 5) == 8


# --- side tables --------------------------------------------------------------------------------


def side_table(text: str) -> tuple[bytes, SideTable]:
    data = wat(text)
    parsed = decode(data, "test", ALL_FEATURES)
    validate_sections(parsed)
    body = decode_body(parsed, 0)
    validate_function(parsed, 0, body)
    return data, make_side_table(parsed, 0, body)


def test_a_branch_goes_past_what_does_nothing() -> None:
    data, table = side_table(
        "(module (func (block (br_if 0 (i32.const 1)) nop) (block (loop (br 0)))))"
    )
    assert len(table.words) * 4 == 2 * ENTRY_BYTES
    first = data.index(b"\x0d", table.first)
    target = first + table.words[0]
    assert data[target] == 0x0C  # the br: block and loop are passed
    assert table.words[1] == ENTRY_BYTES
    assert data.index(b"\x0c", first) + table.words[4] == target
    assert table.words[5] == 0


def test_a_branch_says_what_it_drops() -> None:
    _, table = side_table(
        """(module (func (result i64) (block (result i64)
             (i32.const 1) (f32.const 2) (i64.const 3) (br 0))))"""
    )
    assert list(table.words[2:4]) == [1, 16]
    assert table.operand_cells == 3


def test_untyped_instructions_have_entries_only_among_vectors() -> None:
    _, narrow = side_table("(module (func (drop (i32.const 1))))")
    assert not narrow.words
    _, wide = side_table("(module (func (local v128) (drop (local.get 0)) (drop (i32.const 1))))")
    assert wide.is_wide
    assert [wide.words[0], wide.words[4]] == [2, 1]
    assert wide.local_cells == 2


def test_tries_are_listed_from_inside_with_all_that_applies() -> None:
    data, table = side_table(
        """(module (tag $a) (tag $b)
          (func (block $out (try_table (catch $a $out)
            (try_table (catch $b $out) (call 0))))))"""
    )
    count, *_ = table.tries
    assert count == 2
    inner, outer = (table.tries[1 + RANGE_WORDS * i :][:RANGE_WORDS] for i in range(2))
    assert outer[0] < inner[0] < inner[1] < outer[1]
    clauses = [table.tries[inner[3] + CLAUSE_WORDS * i] for i in range(inner[2])]
    assert clauses == [1, 0]
    call = data.index(b"\x10", table.first) - table.first
    assert inner[0] <= call < inner[1]


# --- running ------------------------------------------------------------------------------------


def test_vectors_beside_other_values(load: Load) -> None:
    f = exported(
        load,
        wat("""(module (func (export "f") (param i32 v128 i64) (result i64) (local v128 i32)
          (local.set 3 (select (local.get 1) (v128.const i64x2 7 8) (local.get 0)))
          (drop (local.get 1)) (drop (local.get 0))
          (local.set 4 (select (i32.const 5) (i32.const 6) (local.get 0)))
          (i64.add (i64.extend_i32_u (local.get 4))
            (i64.add (local.get 2) (block $b (result i64)
              (local.get 3) (i64x2.extract_lane 1 (local.get 3)) (br $b))))))"""),
    )
    vector = 40 << 64 | 30
    assert f(1, vector, 100) == 145
    assert f(0, vector, 100) == 114


def test_recursion_ends_in_exhaustion_and_the_store_goes_on(load: Load) -> None:
    module = load(
        wat("""(module (func $down (export "f") (param i32) (result i32)
          (if (result i32) (local.get 0)
            (then (i32.add (call $down (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
            (else (i32.const 0)))))""")
    )
    f = Instance(Store(module.engine), module, []).exports["f"]
    assert isinstance(f, Func)
    assert f(10_000) == 10_000
    with pytest.raises(Exhaustion):
        f(-1)
    assert f(10_000) == 10_000


def test_a_trap_names_the_function_that_ran(load: Load) -> None:
    f = exported(
        load,
        wat("""(module (memory 1) (func $inner (param i32) (result i32) (i32.load (local.get 0)))
          (func (export "f") (param i32) (result i32) (call $inner (local.get 0))))"""),
    )
    assert f(8) == 0
    with pytest.raises(Trap) as caught:
        f(-4)
    assert caught.value.function is not None
    assert "inner" in caught.value.function


def test_a_host_function_calls_back(load: Load) -> None:
    module = load(
        wat("""(module (import "host" "again" (func $again (param i32) (result i32)))
          (func (export "f") (param i32) (result i32)
            (i32.mul (local.get 0) (if (result i32) (local.get 0)
              (then (call $again (i32.sub (local.get 0) (i32.const 1))))
              (else (i32.const 1))))))""")
    )
    store, linker = Store(module.engine), Linker(module.engine)
    functions: list[Func] = []
    one = FuncType((ValType.I32,), (ValType.I32,))
    linker.define_func("host", "again", one, lambda n: functions[0](n) or 1)
    f = linker.instantiate(store, module).exports["f"]
    assert isinstance(f, Func)
    functions.append(f)
    assert f(6) == 720


def test_tail_calls_take_no_room(load: Load) -> None:
    f = exported(
        load,
        wat("""(module (func $odd (param i64 i32) (result i32)
            (if (result i32) (i64.eqz (local.get 0)) (then (i32.const 1))
              (else (return_call $even (i64.sub (local.get 0) (i64.const 1))))))
          (func $even (export "f") (param i64) (result i32)
            (if (result i32) (i64.eqz (local.get 0)) (then (i32.const 0))
              (else (return_call $odd (i64.sub (local.get 0) (i64.const 1)) (i32.const 9))))))"""),
    )
    assert f(1_000_001) == 1


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_kernels_give_what_compiled_code_gives(load: Load, kernel: Kernel) -> None:
    data = kernel.wasm.read_bytes()
    engine = Engine(Config(mode="llvm-jit"))
    compiled = Instance(Store(engine), Module(engine, data), []).exports["run"]
    assert isinstance(compiled, Func)
    run = exported(load, data, "run")
    for _ in range(2):  # a second call starts from the memory that the first one left
        assert run(kernel.tiny_n) == compiled(kernel.tiny_n)
