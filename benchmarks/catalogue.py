"""The list of compute kernels: what each one stresses and how much of it is timed.

The kernels themselves are C files in ``kernels/``; how they are built is in ``toolchain``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError

__all__ = ["KERNELS", "Kernel", "kernels_named"]

_FOLDER = Path(__file__).parent / "kernels"


@dataclass(frozen=True, slots=True)
class Kernel:
    """One C file with ``int64_t run(int32_t n)``.

    Attributes:
        name: the file's name without ``.c``.
        group: what it stresses: integer, float, memory, calls, indirect or branches.
        timed_n: ``n`` for a run of about half a second natively.
        tiny_n: ``n`` for a run of at most some milliseconds, for warming up and for tests.
    """

    name: str
    group: str
    timed_n: int
    tiny_n: int

    @property
    def source(self) -> Path:
        return _FOLDER / f"{self.name}.c"

    @property
    def header(self) -> Path:
        return _FOLDER / "kernel.h"

    @property
    def wasm(self) -> Path:
        return _FOLDER / f"{self.name}.wasm"


KERNELS: tuple[Kernel, ...] = (
    Kernel("crc32", "integer", 2_500, 3),
    Kernel("sha256", "integer", 90_000, 20),
    Kernel("sieve", "integer", 500, 2),
    Kernel("blur", "integer", 800, 2),
    Kernel("mandelbrot", "float", 1_700, 40),
    Kernel("nbody", "float", 4_000_000, 1_000),
    Kernel("matmul", "float", 270, 1),
    Kernel("spectral_norm", "float", 2_700, 50),
    Kernel("fft", "float", 1_100, 2),
    Kernel("triad", "memory", 50, 1),
    Kernel("list_chase", "memory", 2_500, 1),
    Kernel("memmove", "memory", 15_000, 5),
    Kernel("fib", "calls", 40, 18),
    Kernel("ackermann", "calls", 90, 1),
    Kernel("dispatch", "indirect", 250, 1),
    Kernel("heapsort", "indirect", 180, 2),
    Kernel("quicksort", "branches", 90, 1),
    Kernel("bytecode", "branches", 100_000, 300),
)


def kernels_named(names: tuple[str, ...]) -> tuple[Kernel, ...]:
    """The kernels with these names, in the catalogue's order; all if there are none.

    Raises:
        BenchmarkError: a name is not in the catalogue.
    """
    known = [kernel.name for kernel in KERNELS]
    for name in names:
        if name not in known:
            raise BenchmarkError(f"no kernel is called {name!r}; there are {', '.join(known)}")
    return tuple(kernel for kernel in KERNELS if not names or kernel.name in names)
