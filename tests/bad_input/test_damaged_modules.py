"""Damaged modules all the way: compiled and run, with limits. Refused in words, or they run.

Each example is one change or several of a valid module's bytes. What is still valid gets imports,
an instance and a call of every function it exports; it may trap and it may run out of time, and
nothing else.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.binary.sample_modules import TEXTS, samples
from tests.cli.command_line import ROOT, Wasinn
from wasinn_runtime import (
    Config,
    Engine,
    Func,
    FuncType,
    Global,
    GlobalType,
    Interrupted,
    Invalid,
    LimitExceeded,
    Linker,
    LinkError,
    Malformed,
    Module,
    Store,
    Trap,
    ValType,
    WasinnError,
)
from wasinn_runtime.engines.aot_format import is_aot
from wasinn_runtime.errors import ValueRangeError

# Bytes that mean something nearly everywhere: small numbers, types, blocks, ends, LEB128 edges.
TELLING = bytes.fromhex("00 01 02 03 04 05 0b 0c 0d 0e 0f 10 11 1a 1b 20 21 22 23 24 28 36 3f 40")
TELLING += bytes.fromhex("41 42 45 46 6a 6b 6c 6d 70 7b 7c 7d 7e 7f 80 81 d0 d2 f0 fc fd ff")
# Wide enough for a slow machine: they only tell quick from endless.
SLOWEST_S, DEADLINE_S = 20.0, 0.02
MAX_MEMORY = 64 << 20


@cache
def small_modules() -> dict[str, bytes]:
    """Modules that compile in milliseconds: the benchmarks, and two that have every section."""
    found = {path.stem: path.read_bytes() for path in (ROOT / "benchmarks").rglob("*.wasm")}
    assert len(found) >= 8
    return {name: data for name, data in [*found.items(), *_texts()] if len(data) < 3000}


def _texts() -> list[tuple[str, bytes]]:
    return [(name, samples()[name]) for name in TEXTS]


def large_modules() -> list[Path]:
    return sorted((ROOT / "examples").rglob("*.wasm"))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid module with one to three changes, most of them within the code."""
    data = bytearray(draw(st.sampled_from(sorted(small_modules().values()))))
    some_byte = st.sampled_from(TELLING) | st.integers(0, 255)
    for _ in range(draw(st.integers(1, 3))):
        last = len(data) - 1
        at = draw(st.integers(min(last, 8), last) | st.integers(last // 2, last))
        match draw(st.sampled_from(["set", "set", "set", "flip", "flip", "insert", "cut"])):
            case "set":
                data[at] = draw(some_byte)
            case "flip":
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                data[at:at] = bytes(draw(st.lists(some_byte, min_size=1, max_size=3)))
            case "cut":
                del data[at : at + draw(st.sampled_from([1, 2, 10_000]))]
        if len(data) < 9:
            break
    return bytes(data)


@pytest.fixture(scope="module", params=["llvm-jit", "auto"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """One that compiles before anything runs, and one that validates what is called."""
    return Engine(Config(request.param, cache=False, opt_level=0))


def imports(engine: Engine, store: Store, module: Module) -> Linker:
    """Definitions for imported functions and globals; memories and tables stay missing."""
    linker = Linker(engine)
    linker.allow_shadowing = True
    for where, name, ty in module.imports:
        if isinstance(ty, FuncType):
            answer = tuple(_ZEROS.get(t) for t in ty.results)
            given = answer[0] if len(answer) == 1 else answer or None
            linker.define_func(where, name, ty, lambda *_, given=given: given)
        elif isinstance(ty, GlobalType):
            linker.define(where, name, Global(store, ty, _ZEROS.get(ty.value)))
    return linker


_ZEROS = {ValType.I32: 0, ValType.I64: 0, ValType.F32: 0.0, ValType.F64: 0.0, ValType.V128: 0}
_THREES = {ValType.I32: 3, ValType.I64: 3, ValType.F32: 3.0, ValType.F64: 3.0, ValType.V128: 3}


def run(engine: Engine, data: bytes) -> str:
    """Takes a module as far as it goes; how far that was."""
    try:
        module = Module(engine, data)
    except (Malformed, Invalid) as error:
        return _told("refused", error, "<module>")
    store = Store(engine, max_memory_bytes=MAX_MEMORY)
    try:
        with store.deadline(DEADLINE_S):
            instance = imports(engine, store, module).instantiate(store, module)
            for item in instance.exports.values():
                if isinstance(item, Func):
                    _call(item)
    except (Malformed, Invalid) as error:  # of a function that is validated when it is called
        return _told("refused", error, "<module>")
    except LinkError as error:
        return _told("unlinkable", error, "")
    except LimitExceeded as error:
        return _told("limited", error, "limit")
    except Interrupted as error:
        return _told("stopped", error, "timeout")
    except Trap as error:
        return _told("trapped", error, "wasm trap: ")
    return "ran"


def _call(function: Func) -> None:
    try:
        function(*[_THREES.get(ty) for ty in function.type.params])
    except ValueRangeError:  # damage can ask for a reference that is not null
        assert any(ty not in _THREES for ty in function.type.params)
    except Interrupted:
        raise
    except Trap as error:
        _told("trapped", error, "wasm trap: ")


def _told(how: str, error: WasinnError, part: str) -> str:
    assert part in str(error)
    assert str(error).replace("\n", "").isprintable()
    return how


@pytest.mark.parametrize("name", small_modules())
def test_whole_modules_run(engine: Engine, name: str) -> None:
    """Else the tests below would show nothing."""
    assert run(engine, small_modules()[name]) in ("ran", "stopped", "trapped")


def test_damaged_modules_compile_and_run_or_are_refused(engine: Engine) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(data=damaged())
    def check(data: bytes) -> None:
        began = time.monotonic()
        seen[run(engine, data)] += 1
        assert time.monotonic() - began < SLOWEST_S

    check()
    # A property is worth little if nothing gets past validation.
    assert seen["refused"] > 100, seen
    assert seen["ran"] + seen["stopped"] + seen["trapped"] > 100, seen


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_random_bytes(engine: Engine, data: bytes) -> None:
    if not is_aot(data):  # refused by another error: it is not a damaged module
        assert run(engine, data) in ("refused", "ran")
    assert run(engine, b"\0asm\1\0\0\0" + data) in ("refused", "ran")


@pytest.mark.parametrize("name", TEXTS)
def test_cut_off_anywhere(engine: Engine, name: str) -> None:
    """The end of a section may be the end of a module that is whole, only smaller."""
    data = samples()[name]
    answers = Counter(run(engine, data[:size]) for size in range(len(data)))
    assert answers["refused"] >= len(data) - 8, answers


@pytest.mark.slow
@pytest.mark.parametrize("path", large_modules(), ids=lambda path: path.stem)
def test_damaged_examples_through_the_command(wasinn: Wasinn, path: Path, tmp_path: Path) -> None:
    """A few of each, as a person would run them: a status of the documentation, and no more."""
    rng = random.Random(path.stem)
    whole = path.read_bytes()
    for number in range(6):
        data = bytearray(whole)
        if number == 0:
            del data[rng.randrange(8, len(data)) :]
        for _ in range(3):
            data[rng.randrange(8, len(data))] = rng.choice(TELLING)
        file = tmp_path / f"{number}.wasm"
        file.write_bytes(data)
        ran = wasinn("run", "--timeout", "2", "--max-memory", "64M", file, "x")
        assert 0 <= ran.status <= 134, ran
        assert "internal error" not in ran.err
        if ran.status == 125:
            # The guest may have written before: a function is validated when it is first called.
            [told] = ran.err.split("wasinn: ")[1:]
            assert str(file) in told.splitlines()[0], ran.err
