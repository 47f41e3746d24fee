"""Instances of one module: what they share, what they must not, and what they leave behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import wasmtime

from wasinn_runtime import (
    Engine,
    Func,
    FuncType,
    HostFunc,
    Instance,
    Memory,
    Module,
    Store,
    Table,
    TableType,
    Trap,
    ValType,
)
from wasinn_runtime.spec.types import Limits

# Enough that instances share an image; the segments overlap, and end in the middle of pages.
DATA = bytes(range(1, 252)) * 200
TEXT = "".join(f"\\{b:02x}" for b in DATA)
WAT = f"""(module (memory (export "memory") 2 20)
  (func (export "peek") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "poke") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
  (func (export "grow") (result i32) (memory.grow (i32.const 3)))
  (data (i32.const 100) "{TEXT}")
  (data (i32.const 4090) "over the edge")
  (data (i32.const 4095) "LAST"))"""
EXPECTED = bytearray(0x20000)
EXPECTED[100 : 100 + len(DATA)] = DATA
EXPECTED[4090:4103] = b"over the edge"
EXPECTED[4095:4099] = b"LAST"


def shared(engine: Engine, wat: str = WAT) -> Module:
    """A module whose instances share images from now on: the first makes none."""
    module = Module(engine, wasmtime.wat2wasm(wat))
    Instance(Store(engine), module)
    return module


def memory_of(instance: Instance, name: str = "memory") -> Memory:
    memory = instance.exports[name]
    assert isinstance(memory, Memory)
    return memory


def contents(instance: Instance) -> bytes:
    return bytes(memory_of(instance).view())


def test_every_instance_begins_with_the_same_memory(engine: Engine) -> None:
    module = Module(engine, wasmtime.wat2wasm(WAT))
    alive = [Instance(Store(engine), module) for _ in range(3)]
    assert not memory_of(alive[0]).region.is_initialised, "one instance needs no image"
    assert memory_of(alive[1]).region.is_initialised
    assert all(contents(instance) == EXPECTED for instance in alive)


def test_what_one_instance_writes_no_other_sees(engine: Engine) -> None:
    module = shared(engine)
    first, second = (Instance(Store(engine), module) for _ in range(2))
    first.exports.poke(100, 77)
    memory_of(first).write(4000, b"x" * 9000)
    assert first.exports.peek(100) == 77
    assert contents(second) == EXPECTED
    assert contents(Instance(Store(engine), module)) == EXPECTED


def test_a_place_that_is_used_again_is_clean(engine: Engine) -> None:
    module, blank = shared(engine), Module(engine, wasmtime.wat2wasm(WAT.split("(data")[0] + ")"))
    for _ in range(3):
        for which, begin in ((module, bytes(EXPECTED)), (blank, bytes(0x20000))):
            instance = Instance(Store(engine), which)
            assert contents(instance) == begin
            assert instance.exports.grow() == 2
            assert bytes(memory_of(instance).view(0x20000)) == bytes(3 << 16)
            memory_of(instance).view()[:] = b"\xff" * (5 << 16)
            del instance
            gc.collect()
            instance = Instance(Store(engine), which)
            memory_of(instance).view()[:] = b"\xee" * (2 << 16)
            end = 2 << 16
            with pytest.raises(Trap, match="out of bounds"):
                instance.exports.peek(end)
            del instance


def test_places_are_used_again_without_the_collector(engine: Engine) -> None:
    module = shared(engine)
    host = HostFunc(FuncType((), ()), lambda caller: caller.memory.write(0, b"1"), True)
    calls = wasmtime.wat2wasm(
        '(module (import "" "" (func $f)) (memory (export "memory") 1)'
        ' (func (export "run") (call $f)))'
    )
    calling = Module(engine, calls)
    gc.collect()
    gc.disable()
    try:
        bases = set()
        for _ in range(20):
            instance = Instance(Store(engine), module)
            instance.exports.poke(0, 1)
            bases.add(memory_of(instance).region.base)
            del instance
        assert len(bases) == 1
        bases.clear()
        for _ in range(20):
            instance = Instance(Store(engine), calling, [host])
            instance.exports.run()
            bases.add(memory_of(instance).region.base)
            del instance
        assert len(bases) == 1
    finally:
        gc.enable()


def test_idle_instances_share_their_data(engine: Engine) -> None:
    wat = f'(module (memory 33) (data (i32.const 0) "{"0123456789abcdef" * 0x10000}"))'
    module = shared(engine, wat)

    def private_bytes() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private"))

    Instance(Store(engine), module)
    before = private_bytes()
    alive = [Instance(Store(engine), module) for _ in range(40)]
    assert private_bytes() - before < 8 << 20, "40 instances have 40 MiB of data"
    assert len(alive) == 40


def in_table(engine: Engine, segments: str) -> tuple[Store, Table, Module]:
    """A module whose function, in the table of somebody else, reads from its memory."""
    store = Store(engine)
    table = Table(store, TableType(ValType.FUNCREF, Limits(1, 1)))
    wat = f"""(module (import "" "" (table 1 1 funcref)) (memory 1)
      (func $peek (param i32) (result i32) (i32.load8_u (local.get 0)))
      (elem (i32.const 0) $peek) {segments.replace("DATA", TEXT)})"""
    return store, table, Module(engine, wasmtime.wat2wasm(wat))


@pytest.mark.parametrize(
    ("segments", "seen"),
    [
        # A segment of data that does not fit leaves those before it.
        ('(data (i32.const 0) "DATA") (data (i32.const 65535) "ab")', DATA[0]),
        ('(data (i32.const 65535) "ab") (data (i32.const 0) "DATA")', 0),
        # Elements come before data.
        ('(elem (i32.const 1) $peek) (data (i32.const 0) "DATA")', 0),
    ],
)
def test_segments_before_one_that_does_not_fit_stay(
    engine: Engine, segments: str, seen: int
) -> None:
    store, table, module = in_table(engine, segments)
    for _ in range(3):
        table[0] = None
        with pytest.raises(Trap, match="out of bounds"):
            Instance(store, module, [table])
        peek = table[0]
        assert isinstance(peek, Func)
        assert peek(0) == seen


def test_segments_whose_place_an_import_gives(engine: Engine) -> None:
    base = Module(engine, wasmtime.wat2wasm('(module (global (export "g") i32 (i32.const 7)))'))
    module = Module(
        engine,
        wasmtime.wat2wasm(
            f"""(module (import "" "" (global i32)) (memory (export "memory") 2)
              (data (i32.const 0) "{TEXT}") (data (global.get 0) "moved")
              (data (i32.const 9) "last"))"""
        ),
    )
    for _ in range(3):
        store = Store(engine)
        given = Instance(store, base).exports.g
        found = memory_of(Instance(store, module, [given])).read(0, 20)
        assert found == DATA[:7] + b"mo" + b"last" + DATA[13:20]


def test_several_memories_and_wide_ones(engine: Engine) -> None:
    if not {"multi-memory", "memory64"} <= features_of(engine):
        pytest.skip("the mode has one memory of 32 bits")
    module = Module(
        engine,
        wasmtime.wat2wasm(
            f"""(module (memory (export "a") 1) (memory (export "b") i64 2 4)
              (memory (export "c") 1)
              (data (memory 0) (i32.const 1) "{TEXT}") (data (memory 1) (i64.const 2) "{TEXT}")
              (data (memory 2) (i32.const 3) "small"))"""
        ),
    )
    for _ in range(3):
        instance = Instance(Store(engine), module)
        a, b, c = (memory_of(instance, name) for name in "abc")
        assert a.read(0, 9) == b"\0" + DATA[:8]
        assert b.read(0, 9) == b"\0\0" + DATA[:7]
        assert c.read(0, 9) == b"\0\0\0small\0"
        b.write(0, b"dirty")


def features_of(engine: Engine) -> frozenset[str]:
    from wasinn_runtime.engines.modes import FEATURES_OF_MODE

    return frozenset(FEATURES_OF_MODE[engine.config.mode])


def test_a_thousand_instances_leave_nothing(engine: Engine) -> None:
    module = shared(engine)

    def taken() -> tuple[int, int]:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        return len(os.listdir("/proc/self/fd")), pages * 4096

    def live_and_die(module: Module) -> None:
        alive = [Instance(Store(engine), module) for _ in range(1000)]
        for instance in alive:
            instance.exports.poke(0, 1)

    live_and_die(module)
    fds, address_space = taken()
    live_and_die(module)
    after = taken()
    assert after[0] == fds
    assert after[1] - address_space < 16 << 20
    del module
    assert taken()[0] == fds - 1, "the image has gone with its module"


def run(code: str, engine: Engine) -> None:
    """A program of its own, which has WAT, DATA and ``make()``: a module that shares images."""
    begin = f"""
        import os, resource, sys
        import wasmtime
        from wasinn_runtime import Config, Engine, Instance, Module, Store
        engine = Engine(Config(mode={engine.config.mode!r}))
        DATA = bytes(range(1, 252)) * 200
        text = "".join(f"\\\\{{b:02x}}" for b in DATA)
        WAT = f'(module (memory (export "memory") 2) (data (i32.const 0) "{{text}}"))'
        def make():
            module = Module(engine, wasmtime.wat2wasm(WAT))
            Instance(Store(engine), module)
            return module
        def begins_right(instance):
            return bytes(instance.exports.memory.view(0, len(DATA))) == DATA
        def is_shared(instance):
            return instance.exports.memory.region.is_initialised
        """
    program = textwrap.dedent(begin) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("end\n", 0), done.stderr


def test_without_descriptors_data_is_copied(engine: Engine) -> None:
    run(
        """
        module = make()
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        for _ in range(3):
            instance = Instance(Store(engine), module)
            assert begins_right(instance) and not is_shared(instance)
        print("end")
        """,
        engine,
    )


def test_descriptors_closed_by_somebody(engine: Engine) -> None:
    """Programs that become daemons close whatever is open; others may get the numbers."""
    run(
        """
        module = make()
        first = Instance(Store(engine), module)
        assert is_shared(first)
        os.closerange(3, 1000)
        others = [os.open("/dev/zero", os.O_RDONLY) for _ in range(20)]
        second = Instance(Store(engine), module)
        assert begins_right(first) and begins_right(second) and not is_shared(second)
        del first, second, module
        assert all(os.fstat(other) for other in others)
        print("end")
        """,
        engine,
    )


def test_a_forked_process_has_memories_of_its_own(engine: Engine) -> None:
    run(
        """
        module = make()
        mine = Instance(Store(engine), module)
        child = os.fork()
        if not child:
            mine.exports.memory.write(0, b"child")
            other = Instance(Store(engine), module)
            right = begins_right(other) and is_shared(other)
            other.exports.memory.write(0, b"child")
            del other
            os._exit(0 if right and begins_right(Instance(Store(engine), module)) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert begins_right(mine) and begins_right(Instance(Store(engine), module))
        print("end")
        """,
        engine,
    )


def test_in_a_small_address_space(engine: Engine) -> None:
    run(
        """
        resource.setrlimit(resource.RLIMIT_AS, (20 << 30, 20 << 30))
        module = make()
        for _ in range(5):
            instance = Instance(Store(engine), module)
            assert begins_right(instance) and is_shared(instance)
            instance.exports.memory.write(0, b"dirty")
            del instance
        # Another kind of memory finds the place that waits for this one.
        WAT = WAT.replace("memory\\") 2", "memory\\") 3")
        assert begins_right(Instance(Store(engine), make()))
        print("end")
        """,
        engine,
    )


def test_deadlines_that_are_over_do_not_pile_up(engine: Engine) -> None:
    from wasinn_runtime.machine import interrupt

    store = Store(engine)
    before = len(interrupt._clock._heap)
    for _ in range(1000):
        with store.deadline(3600.0):
            pass
    assert len(interrupt._clock._heap) < before + 200
    with store.deadline(3600.0), store.deadline(0.05):
        assert store.interrupt.wait(20), "those that are left still work"
