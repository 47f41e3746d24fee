"""The ways to run a kernel inside one process: natively, in wasmtime, in wasm3, in wasinn.

A runner only loads; it measures nothing. What it gives is the kernel's ``run``, called in this
process and this thread, so that all of them are timed alike.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

import wasmtime

import wasinn_runtime as wasinn
from benchmarks.errors import BenchmarkError

__all__ = [
    "NativeRunner",
    "Run",
    "Runner",
    "WasinnRunner",
    "Wasm3Runner",
    "WasmtimeRunner",
    "has_wasm3",
]

Run = Callable[[int], int]


class Runner(Protocol):
    """A way to run kernels."""

    def load(self, file: Path) -> Run:
        """Prepare one kernel's file in a fresh instance; compiling happens here."""


class NativeRunner:
    """A shared library, through ctypes."""

    def load(self, file: Path) -> Run:
        """See ``Runner``."""
        function = ctypes.CDLL(str(file)).run
        function.argtypes = [ctypes.c_int32]
        function.restype = ctypes.c_int64
        return cast(Run, function)


class WasmtimeRunner:
    """A module in wasmtime with its defaults: Cranelift, optimised for speed."""

    def __init__(self) -> None:
        self._engine = wasmtime.Engine()

    def load(self, file: Path) -> Run:
        """See ``Runner``."""
        store = wasmtime.Store(self._engine)
        module = wasmtime.Module(self._engine, file.read_bytes())
        function = wasmtime.Instance(store, module, []).exports(store)["run"]
        if not isinstance(function, wasmtime.Func):
            raise BenchmarkError(f"{file.name}: export 'run' is not a function")
        callee = function
        return lambda n: cast(int, callee(store, n))


def has_wasm3() -> bool:
    """Whether the ``pywasm3`` package is there."""
    return importlib.util.find_spec("wasm3") is not None


class Wasm3Runner:
    """A module in wasm3, an interpreter in C, through its Python binding.

    Raises:
        BenchmarkError: the binding is not installed.
    """

    def __init__(self) -> None:
        if not has_wasm3():
            raise BenchmarkError("pywasm3 is not installed: pip install pywasm3")
        self._wasm3 = importlib.import_module("wasm3")
        self._kept: object = None

    def load(self, file: Path) -> Run:
        """See ``Runner``.

        Raises:
            RuntimeError: wasm3 refuses the module.
        """
        environment = self._wasm3.Environment()
        runtime = environment.new_runtime(1 << 20)
        module = environment.parse_module(file.read_bytes())
        runtime.load(module)
        function = runtime.find_function("run")
        self._kept = (environment, runtime, module)  # the function does not keep them alive
        return cast(Run, function)


class WasinnRunner:
    """A module in wasinn, in one mode.

    Args:
        mode: one of ``wasinn_runtime``'s modes.
        cache: False compiles each time.
    """

    def __init__(self, mode: str = "llvm-jit", cache: bool = True) -> None:
        self._engine = wasinn.Engine(wasinn.Config(mode, cache=cache))

    def load(self, file: Path) -> Run:
        """See ``Runner``."""
        store = wasinn.Store(self._engine)
        module = wasinn.Module(self._engine, file.read_bytes(), file.name)
        function = wasinn.Instance(store, module, []).exports["run"]
        if not isinstance(function, wasinn.Func):
            raise BenchmarkError(f"{file.name}: export 'run' is not a function")
        return cast(Run, function)
