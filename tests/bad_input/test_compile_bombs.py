"""Small modules that are made to keep a compiler busy: compiled in bounded time, or refused.

Each in a process of its own with a limit on processor time and address space, since a compiler that
has lost its way can be stopped in no other manner. Sizes are what a few hundred kilobytes can do.
"""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.binary.wasm_bytes import (
    HEADER,
    I32,
    I64,
    body,
    func_type,
    function_module,
    name,
    section,
    u32,
    vec,
)
from tests.cli.command_line import COMMAND, SOURCES

# Several times what they take (at most 6 s), for slow machines.
CPU_S, ADDRESS_BYTES = 60, 24 << 30


def _nest(count: int, opener: bytes, inside: bytes = b"") -> bytes:
    return function_module(opener * count + inside + b"\x0b" * count, params=I32)


def _branches(count: int) -> bytes:
    """Nested blocks, and from the innermost a branch to each of them."""
    branches = b"".join(b"\x20\0\x0d" + u32(i) for i in range(count))
    return function_module(b"\x02\x40" * count + branches + b"\x0b" * count, params=I32)


def _tables(count: int) -> bytes:
    """In 256 blocks, that many ``br_table`` of 256 rows."""
    table = b"\x02\x40\x20\0\x0e" + vec([u32(i) for i in range(256)]) + u32(0) + b"\x0b"
    return function_module(b"\x02\x40" * 256 + table * count + b"\x0b" * 256, params=I32)


def _wide_table(count: int) -> bytes:
    rows = vec([u32(i % 2) for i in range(count)])
    code = b"\x02\x40\x02\x40\x20\0\x0e" + rows + u32(0) + b"\x0b\x0b"
    return function_module(code, params=I32)


def _counted(count: int) -> bytes:
    """For each local: add one to it."""
    return b"".join(b"\x20" + u32(i) + b"\x41\1\x6a\x21" + u32(i) for i in range(1, count + 1))


def _locals(count: int, loops: int) -> bytes:
    """Locals that all change in the innermost of nested loops."""
    code = b"\x03\x40" * loops + _counted(count) + b"\x20\0\x0d\0\x0b" * loops
    return function_module(code, params=I32, runs=[(count, I32)])


def _typed(code: bytes, k: int) -> bytes:
    """Functions of no and of ``k`` parameters and results, and one with the code."""
    return (
        HEADER
        + section(1, vec([func_type(b"", I64 * k), func_type(I64 * k), func_type(I32)]))
        + section(3, vec([u32(0), u32(1), u32(2)]))
        + section(7, vec([name("f") + b"\0\2"]))
        + section(
            10,
            vec([body(b"\x42\1" * k), body(b""), body(code)]),
        )
    )


COMPILED: dict[str, Callable[[], bytes]] = {
    "nested blocks": lambda: _nest(100_000, b"\x02\x40"),
    "nested loops": lambda: _nest(100_000, b"\x03\x40"),
    "nested ifs": lambda: _nest(30_000, b"\x20\0\x04\x40", b"\x41\7\x21\0"),
    "loops that loop": lambda: _locals(0, 3000),
    "branches out": lambda: _branches(20_000),
    "br_tables": lambda: _tables(128),
    "a wide br_table": lambda: _wide_table(200_000),
    "locals": lambda: function_module(b"\x20\0\x1a", params=I32, runs=[(49_999, I32)]),
    "locals in a loop": lambda: _locals(49_000, 1),
    "locals in loops": lambda: _locals(3000, 3000),
    "deep operands": lambda: function_module(
        b"\x20\0" * 100_000 + b"\x6a" * 99_999 + b"\x1a", params=I32
    ),
    "divisions": lambda: function_module(b"\x20\0" + b"\x20\0\x6d" * 20_000 + b"\x1a", params=I32),
    "dead code": lambda: function_module(b"\0" * 300_000),
    "many results": lambda: _typed(b"\x10\0\x10\1" * 3, 1000),
}
REFUSED: dict[str, Callable[[], bytes]] = {
    "results that stay": lambda: _typed(b"\x10\0" * 1200 + b"\x10\1" * 1200, 1000),
    "results that go": lambda: _typed(b"\x02\x40\x10\0\x0c\0\x0b" * 1200, 1000),
    "results on many edges": lambda: _typed(
        b"\x02\0\x10\0\x41\0\x0e" + vec([u32(0)] * 100_000) + u32(0) + b"\x0b\x10\1", 1000
    ),
}


def inspect(path: Path, cache: Path) -> subprocess.CompletedProcess[str]:
    """Compiles a module through the command, and runs it if it has a start."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S + 5))
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_BYTES, ADDRESS_BYTES))

    kept = {key: value for key, value in os.environ.items() if not key.startswith("WASINN_")}
    return subprocess.run(
        [*COMMAND, "run", "--mode=llvm-jit", "--timeout=5", "--trace=compile", str(path)],
        env={**kept, "PYTHONPATH": os.pathsep.join(SOURCES), "WASINN_CACHE_DIR": str(cache)},
        preexec_fn=limit,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", COMPILED)
def test_compiled_in_time(kind: str, tmp_path: Path, cache_dir: Path) -> None:
    path = tmp_path / "bomb.wasm"
    path.write_bytes(COMPILED[kind]())
    assert path.stat().st_size < 1_000_000
    done = inspect(path, cache_dir)
    # There is nothing to call, which is told after it was compiled.
    assert "an object file of" in done.stderr, done
    assert done.returncode == 125, done
    assert "exports no _start" in done.stderr


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_in_time(kind: str, tmp_path: Path, cache_dir: Path) -> None:
    """A few bytes that stand for a thousand values each: minutes of work from some kilobytes."""
    path = tmp_path / "bomb.wasm"
    path.write_bytes(REFUSED[kind]())
    done = inspect(path, cache_dir)
    assert (done.returncode, done.stdout) == (125, ""), done
    assert done.stderr.startswith(f"wasinn: {path}:0x")
    assert "too complex" in done.stderr
    assert "use fewer parameters and results" in done.stderr
