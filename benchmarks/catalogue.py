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
        group: what it stresses: integer, float, memory, calls, indirect, branches, programs (of
            more than one kind) or simd (vectors, in the source and in the module).
        timed_n: ``n`` for a run of about a tenth of a second natively.
        slow_n: ``n`` for a run of about a hundredth of a second natively, for interpreters.
        tiny_n: ``n`` for a run of at most some milliseconds, for checking and for tests.
    """

    name: str
    group: str
    timed_n: int
    slow_n: int
    tiny_n: int

    @property
    def simd(self) -> bool:
        return self.group == "simd"

    @property
    def source(self) -> Path:
        return _FOLDER / f"{self.name}.c"

    @property
    def headers(self) -> tuple[Path, ...]:
        names = ("kernel.h", "simd.h") if self.simd else ("kernel.h",)
        return tuple(_FOLDER / name for name in names)

    @property
    def wasm(self) -> Path:
        return _FOLDER / f"{self.name}.wasm"


KERNELS: tuple[Kernel, ...] = (
    Kernel("crc32", "integer", 570, 63, 3),
    Kernel("sha256", "integer", 16_000, 1_600, 20),
    Kernel("sieve", "integer", 120, 16, 2),
    Kernel("blur", "integer", 180, 19, 2),
    Kernel("mandelbrot", "float", 790, 260, 40),
    Kernel("nbody", "float", 750_000, 99_000, 1_000),
    Kernel("matmul", "float", 53, 6, 1),
    Kernel("spectral_norm", "float", 1_200, 410, 50),
    Kernel("fft", "float", 240, 19, 2),
    Kernel("triad", "memory", 12, 1, 1),
    Kernel("list_chase", "memory", 660, 62, 1),
    Kernel("memmove", "memory", 3_600, 370, 5),
    Kernel("fib", "calls", 38, 33, 18),
    Kernel("ackermann", "calls", 21, 3, 1),
    Kernel("dispatch", "indirect", 47, 6, 1),
    Kernel("heapsort", "indirect", 40, 5, 2),
    Kernel("quicksort", "branches", 20, 3, 1),
    Kernel("bytecode", "branches", 30_000, 4_000, 300),
    Kernel("coremark", "programs", 1_500, 180, 8),
    Kernel("json", "programs", 850, 93, 3),
    Kernel("wordpiece", "programs", 230, 24, 1),
    Kernel("regex", "programs", 51, 7, 1),
    Kernel("sobel", "programs", 240, 26, 2),
    Kernel("simd_saxpy", "simd", 52_000, 5_700, 10),
    Kernel("simd_dot", "simd", 23_000, 2_600, 5),
    Kernel("simd_blend", "simd", 3_900, 430, 3),
    Kernel("simd_mandelbrot", "simd", 2_100, 680, 40),
    Kernel("simd_scan", "simd", 16_000, 1_600, 5),
    Kernel("simd_dot16", "simd", 10_000, 800, 10),
    Kernel("simd_nbody", "simd", 150_000, 16_000, 200),
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
