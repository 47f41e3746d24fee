"""The ways to run a kernel: natively through ctypes, in wasmtime, in wasinn.

A runner only loads; it measures nothing. What it gives is the kernel's ``run``, called in this
process and this thread, so that all of them are timed alike.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Protocol, cast

import wasmtime

import wasinn_runtime as wasinn
from benchmarks.catalogue import Kernel
from benchmarks.errors import BenchmarkError
from benchmarks.toolchain import build_native

__all__ = ["NativeRunner", "Run", "Runner", "WasinnRunner", "WasmtimeRunner"]

Run = Callable[[int], int]


class Runner(Protocol):
    """A way to run kernels."""

    @property
    def name(self) -> str:
        """Its column's heading."""

    def load(self, kernel: Kernel) -> Run:
        """Prepare one kernel in a fresh instance; compiling happens here."""


class NativeRunner:
    """The kernel as a shared library, compiled by zig for ``cpu``: "baseline" or "native"."""

    def __init__(self, cpu: str) -> None:
        self.cpu = cpu
        self.name = "native" if cpu == "baseline" else "native tuned"

    def load(self, kernel: Kernel) -> Run:
        """See ``Runner``.

        Raises:
            BenchmarkError: zig is missing.
        """
        function = ctypes.CDLL(str(build_native(kernel, self.cpu))).run
        function.argtypes = [ctypes.c_int32]
        function.restype = ctypes.c_int64
        return cast(Run, function)


class WasmtimeRunner:
    """The module in wasmtime with its defaults: Cranelift, optimised for speed."""

    name = "wasmtime"

    def __init__(self) -> None:
        self._engine = wasmtime.Engine()

    def load(self, kernel: Kernel) -> Run:
        """See ``Runner``."""
        store = wasmtime.Store(self._engine)
        module = wasmtime.Module(self._engine, _module_bytes(kernel))
        function = wasmtime.Instance(store, module, []).exports(store)["run"]
        if not isinstance(function, wasmtime.Func):
            raise BenchmarkError(f"{kernel.wasm.name}: export 'run' is not a function")
        callee = function
        return lambda n: cast(int, callee(store, n))


class WasinnRunner:
    """The module in wasinn with its defaults."""

    name = "wasinn"

    def __init__(self) -> None:
        self._engine = wasinn.Engine()

    def load(self, kernel: Kernel) -> Run:
        """See ``Runner``."""
        store = wasinn.Store(self._engine)
        module = wasinn.Module(self._engine, _module_bytes(kernel))
        function = wasinn.Instance(store, module, []).exports["run"]
        if not isinstance(function, wasinn.Func):
            raise BenchmarkError(f"{kernel.wasm.name}: export 'run' is not a function")
        return cast(Run, function)


def _module_bytes(kernel: Kernel) -> bytes:
    if not kernel.wasm.exists():
        raise BenchmarkError(
            f"{kernel.wasm.name} is missing; `python -m benchmarks build` makes it"
        )
    return kernel.wasm.read_bytes()
