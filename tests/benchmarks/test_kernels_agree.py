"""Each compute kernel gives one checksum: natively, in wasmtime, in wasinn. Times nothing."""

from __future__ import annotations

import pytest
import wasmtime

from benchmarks.catalogue import KERNELS, Kernel, kernels_named
from benchmarks.errors import BenchmarkError
from benchmarks.runners import NativeRunner, Runner, WasinnRunner, WasmtimeRunner
from benchmarks.toolchain import zig_version

_ALL = pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)


def _twice(runner: Runner, kernel: Kernel) -> tuple[int, int]:
    """A second call starts from the memory the first one left."""
    run = runner.load(kernel)
    return run(kernel.tiny_n), run(kernel.tiny_n)


@_ALL
def test_wasinn_agrees_with_wasmtime(kernel: Kernel) -> None:
    assert _twice(WasinnRunner(), kernel) == _twice(WasmtimeRunner(), kernel)


@_ALL
@pytest.mark.slow
@pytest.mark.skipif(zig_version() is None, reason="native kernels take the ziglang package")
@pytest.mark.parametrize("cpu", ["baseline", "native"])
def test_native_agrees_with_wasmtime(kernel: Kernel, cpu: str) -> None:
    assert _twice(NativeRunner(cpu), kernel) == _twice(WasmtimeRunner(), kernel)


@_ALL
def test_checksum_depends_on_the_work(kernel: Kernel) -> None:
    run = WasmtimeRunner().load(kernel)
    assert run(kernel.tiny_n) != run(kernel.tiny_n + 1)


@_ALL
def test_module_needs_nothing(kernel: Kernel) -> None:
    module = wasmtime.Module(wasmtime.Engine(), kernel.wasm.read_bytes())
    assert [extern.name for extern in module.imports] == []
    assert "run" in [extern.name for extern in module.exports]


def test_every_source_is_in_the_catalogue() -> None:
    folder = KERNELS[0].source.parent
    assert {path.stem for path in folder.glob("*.c")} == {kernel.name for kernel in KERNELS}


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(BenchmarkError, match=r"'crc64'.*crc32"):
        kernels_named(("crc64",))
