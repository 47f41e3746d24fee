"""What a trap leaves: every store before it, none after it, in every mode.

Each case is one that an optimiser would like to treat otherwise. The memory's 65536 bytes end
where the comments say; what is expected follows from the specification, one access at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
import wasmtime

from wasinn_runtime import Config, Engine, Instance, Memory, Module, Store, Trap
from wasinn_runtime.engines.modes import MODES

PAGE = 65536
MEMORY = "out of bounds memory access"


@pytest.fixture(params=MODES)
def build(request: pytest.FixtureRequest) -> Callable[[str], Instance]:
    engine = Engine(Config(mode=request.param, cache=False))

    def make(functions: str) -> Instance:
        text = f'(module (memory (export "memory") 1) (global $g (export "g") (mut i32)\
            (i32.const 0)) {functions})'
        return Instance(Store(engine), Module(engine, bytes(wasmtime.wat2wasm(text))))

    return make


Build = Callable[[str], Instance]


def traps(instance: Instance, *arguments: object, code: str = MEMORY) -> bytes:
    """Call ``f``, which must trap; the memory afterwards."""
    with pytest.raises(Trap) as caught:
        instance.exports.f(*arguments)
    assert caught.value.code == code
    memory = instance.exports["memory"]
    assert isinstance(memory, Memory)
    return memory.read(0, PAGE)


def test_a_load_that_nobody_needs_traps(build: Build) -> None:
    code = """(func (export "f") (param i32) (result i32)
      (i32.and (i32.load (local.get 0)) (i32.const 0)))"""
    traps(build(code), PAGE)


def test_a_load_that_one_branch_needs_traps_on_the_other(build: Build) -> None:
    code = """(func (export "f") (param i32 i32) (result i32) (local i32)
      (local.set 2 (i32.load (local.get 0)))
      (if (result i32) (local.get 1) (then (local.get 2)) (else (i32.const 7))))"""
    traps(build(code), PAGE, 0)


def test_the_first_trap_wins(build: Build) -> None:
    code = """(func (export "f") (param i32 i32) (result i32)
      (i32.div_u (i32.load (local.get 0)) (local.get 1)))"""
    traps(build(code), PAGE, 0)
    other = """(func (export "f") (param i32 i32) (result i32)
      (i32.add (i32.div_u (i32.const 1) (local.get 1)) (i32.load (local.get 0))))"""
    traps(build(other), PAGE, 0, code="integer divide by zero")


def test_a_store_that_is_written_over_later_has_happened(build: Build) -> None:
    code = """(func (export "f") (param i32) (result i32) (local i32)
      (i32.store (i32.const 8) (i32.const 1))
      (local.set 1 (i32.load (local.get 0)))
      (i32.store (i32.const 8) (i32.const 2))
      (local.get 1))"""
    assert traps(build(code), PAGE)[8] == 1


def test_a_global_that_is_set_in_a_loop_has_its_value(build: Build) -> None:
    code = """(func (export "f") (param i32) (result i32) (local i32)
      (loop $next
        (global.set $g (i32.add (global.get $g) (i32.const 1)))
        (local.set 1 (i32.add (local.get 1) (i32.load (local.get 0))))
        (local.set 0 (i32.add (local.get 0) (i32.const 4)))
        (br_if $next (i32.ne (local.get 0) (i32.const 0x7ffffff0))))
      (local.get 1))"""
    instance = build(code)
    traps(instance, PAGE - 40)
    assert instance.exports.g.value == 11


# Loops that are vectorised when they stay inside: they leave the memory in the middle of a vector.
COPY = """(func (export "f") (param $to i32) (param $from i32) (param $turns i32)
  (loop $next
    (i32.store (local.get $to) (i32.add (i32.load (local.get $from)) (i32.const 1)))
    (local.set $to (i32.add (local.get $to) (i32.const 4)))
    (local.set $from (i32.add (local.get $from) (i32.const 4)))
    (br_if $next (local.tee $turns (i32.sub (local.get $turns) (i32.const 1))))))"""


@pytest.mark.parametrize("inside", [0, 1, 3, 8, 29, 100])
def test_a_vectorised_loop_that_stores_outside(build: Build, inside: int) -> None:
    memory = traps(build(COPY), PAGE - 4 * inside, 0, 1000)
    assert memory[PAGE - 4 * inside :] == struct.pack("<I", 1) * inside
    assert memory[: PAGE - 4 * inside] == bytes(PAGE - 4 * inside)


@pytest.mark.parametrize("inside", [0, 1, 3, 8, 29, 100])
def test_a_vectorised_loop_that_loads_outside(build: Build, inside: int) -> None:
    memory = traps(build(COPY), 0, PAGE - 4 * inside, 1000)
    assert memory == struct.pack("<I", 1) * inside + bytes(PAGE - 4 * inside)


def test_a_vectorised_loop_that_stays_inside_to_the_last_byte(build: Build) -> None:
    instance = build(COPY)
    instance.exports.f(PAGE - 4000, 0, 1000)
    assert instance.exports.memory.read(PAGE - 4000, 4000) == struct.pack("<I", 1) * 1000


def test_addresses_that_wrap_around(build: Build) -> None:
    """From the last byte of the address space to the first: bounds are those of each access."""
    instance = build(COPY)
    memory = traps(instance, 0, -8, 4)
    assert memory == bytes(PAGE)
    backwards = """(func (export "f") (param $at i32)
      (loop $next
        (i32.store8 (local.get $at) (i32.const 5))
        (br_if $next (i32.ge_s (local.tee $at (i32.sub (local.get $at) (i32.const 1)))
                               (i32.const -3)))))"""
    memory = traps(build(backwards), 10)
    assert memory == b"\x05" * 11 + bytes(PAGE - 11)


@pytest.mark.parametrize(
    ("how", "start", "bound", "step", "stored"),
    [
        ("lt_u", 0, 100, 7, [*range(0, 100, 7)]),
        ("lt_s", -5, 100, 50, None),
        ("le_u", 90, 100, 5, [90, 95, 100]),
        ("ne", 0, 64, 4, [*range(0, 64, 4)]),
        ("ne", 0, 6, 4, None),
        ("gt_s", 40, -1, -8, [40, 32, 24, 16, 8, 0]),
        ("gt_u", 40, -1, -8, [40]),
        ("ge_s", 40, 0, -8, [40, 32, 24, 16, 8, 0]),
        ("ge_u", 40, 0, -8, None),
        ("lt_u", PAGE - 10, -1, 4, None),
        ("lt_s", 100, 100, 1, [100]),
    ],
)
def test_every_way_to_count(
    build: Build, how: str, start: int, bound: int, step: int, stored: list[int] | None
) -> None:
    """``stored``: where; None if the loop goes on until it leaves the memory."""
    code = f"""(func (export "f") (param $at i32) (param $bound i32) (param $step i32)
      (loop $next
        (i32.store8 (local.get $at) (i32.const 1))
        (br_if $next (i32.{how} (local.tee $at (i32.add (local.get $at) (i32.const {step})))
                                (local.get $bound)))))"""
    by_local = code.replace(f"(i32.const {step})", "(local.get $step)")
    for text in (code, by_local):
        instance = build(text)
        if stored is None:
            wanted, at = bytearray(PAGE), start
            while 0 <= at < PAGE:
                wanted[at], at = 1, at + step
            assert traps(instance, start, bound, step) == wanted
        else:
            instance.exports.f(start, bound, step)
            wanted = bytearray(PAGE)
            for at in stored:
                wanted[at] = 1
            assert instance.exports.memory.read(0, PAGE) == wanted


def test_stores_of_a_vectorised_loop_before_a_trap(build: Build) -> None:
    """LLVM would take the first loop for useless: the second writes over all of it."""
    fill = """(local.set $at (i32.const 0))
      (loop $next{0}
        (i32.store8 (local.get $at) (i32.const {0}))
        (br_if $next{0} (i32.ne (local.tee $at (i32.add (local.get $at) (i32.const 1)))
                                (i32.const 256))))"""
    code = f"""(func (export "f") (param $trap i32) (local $at i32) {fill.format(1)}
      (drop (i32.load (local.get $trap))) {fill.format(2)})"""
    assert traps(build(code), PAGE)[:256] == b"\x01" * 256


def test_stores_of_a_loop_that_is_left_early(build: Build) -> None:
    code = """(func (export "f") (param $trap i32) (local $at i32)
      (block $out
        (loop $next
          (i32.store8 (local.get $at) (i32.const 1))
          (br_if $out (i32.eq (local.tee $at (i32.add (local.get $at) (i32.const 1)))
                              (i32.const 256)))
          (br $next)))
      (drop (i32.load (local.get $trap)))
      (memory.fill (i32.const 0) (i32.const 2) (i32.const 256)))"""
    assert traps(build(code), PAGE)[:256] == b"\x01" * 256
    instance = build(code)
    instance.exports.f(0)
    assert instance.exports.memory.read(0, 257) == b"\x02" * 256 + b"\0"
