"""Each compute kernel gives one checksum in every mode, natively, in the peers. Times nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

from benchmarks.catalogue import KERNELS, Kernel, kernels_named
from benchmarks.errors import BenchmarkError
from benchmarks.runners import (
    NativeRunner,
    Runner,
    WasinnRunner,
    Wasm3Runner,
    WasmtimeRunner,
    has_wasm3,
)
from benchmarks.toolchain import build_native, zig_version
from wasinn_runtime.engines.modes import MODES
from wasinn_runtime.errors import Malformed

_ALL = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
_SCALAR = pytest.mark.parametrize(
    "kernel", [k for k in KERNELS if not k.simd], ids=lambda kernel: kernel.name
)


def _twice(runner: Runner, file: Path, n: int) -> tuple[int, int]:
    """A second call starts from the memory the first one left."""
    run = runner.load(file)
    return run(n), run(n)


def _expected(kernel: Kernel) -> tuple[int, int]:
    return _twice(WasmtimeRunner(), kernel.wasm, kernel.tiny_n)


@pytest.mark.parametrize("mode", MODES)
@_ALL
def test_mode_agrees_with_wasmtime(kernel: Kernel, mode: str) -> None:
    try:
        found = _twice(WasinnRunner(mode), kernel.wasm, kernel.tiny_n)
    except Malformed as refusal:
        if not (kernel.simd and "needs the feature simd" in str(refusal)):
            raise
        pytest.skip(f"{mode} does not have SIMD")
    assert found == _expected(kernel)


@_SCALAR
@pytest.mark.skipif(not has_wasm3(), reason="pywasm3 is not installed")
def test_wasm3_agrees_with_wasmtime(kernel: Kernel) -> None:
    assert _twice(Wasm3Runner(), kernel.wasm, kernel.tiny_n) == _expected(kernel)


@_ALL
@pytest.mark.slow
@pytest.mark.skipif(zig_version() is None, reason="native kernels take the ziglang package")
@pytest.mark.parametrize("cpu", ["baseline", "native"])
def test_native_agrees_with_wasmtime(kernel: Kernel, cpu: str) -> None:
    library = build_native(kernel, cpu)
    assert _twice(NativeRunner(), library, kernel.tiny_n) == _expected(kernel)


@_ALL
def test_every_run_is_alike(kernel: Kernel) -> None:
    # Contestants that start a process for each run are compared with others that do not.
    first, second = _expected(kernel)
    assert first == second


@_ALL
def test_checksum_depends_on_the_work(kernel: Kernel) -> None:
    run = WasmtimeRunner().load(kernel.wasm)
    assert run(kernel.tiny_n) != run(kernel.tiny_n + 1)


@_ALL
def test_module_needs_nothing(kernel: Kernel) -> None:
    module = wasmtime.Module(wasmtime.Engine(), kernel.wasm.read_bytes())
    assert [extern.name for extern in module.imports] == []
    assert "run" in [extern.name for extern in module.exports]


@_ALL
def test_simd_is_where_the_catalogue_says(kernel: Kernel) -> None:
    config = wasmtime.Config()
    config.wasm_relaxed_simd = False
    config.wasm_simd = False
    engine = wasmtime.Engine(config)
    if kernel.simd:
        with pytest.raises(wasmtime.WasmtimeError, match="SIMD"):
            wasmtime.Module(engine, kernel.wasm.read_bytes())
    else:
        wasmtime.Module(engine, kernel.wasm.read_bytes())


def test_every_source_is_in_the_catalogue() -> None:
    folder = KERNELS[0].source.parent
    assert {path.stem for path in folder.glob("*.c")} == {kernel.name for kernel in KERNELS}


def test_sizes_are_in_order() -> None:
    for kernel in KERNELS:
        assert 0 < kernel.tiny_n <= kernel.slow_n < kernel.timed_n, kernel.name


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(BenchmarkError, match=r"'crc64'.*crc32"):
        kernels_named(("crc64",))
