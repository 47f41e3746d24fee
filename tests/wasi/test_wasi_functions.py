"""The list of functions: complete, of the right types, each with an implementation that fits."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import wasmtime

from tests.wasi.fake_guest import Guest
from wasinn_host.wasi import MODULE, Stdio, WasiConfig, WasiContext
from wasinn_host.wasi.abi import Errno
from wasinn_host.wasi.context import WasiContext as Context
from wasinn_host.wasi.signatures import SIGNATURES, Signature

SILENT = WasiConfig(stdin=Stdio.NULL, stdout=Stdio.NULL, stderr=Stdio.NULL)


def test_all_46_functions_are_there_once() -> None:
    with WasiContext(SILENT) as context:
        names = [name for name, _, _ in context.functions()]
    assert len(names) == len(set(names)) == 46


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda signature: signature.name)
def test_type_is_what_another_runtime_links(signature: Signature) -> None:
    """wasmtime's own WASI accepts an import only if its type is right."""
    params = " ".join(t.value for t in signature.type.params)
    result = "(result i32)" if signature.returns_errno else ""
    source = f'(module (import "{MODULE}" "{signature.name}" (func (param {params}) {result})))'
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    store.set_wasi(wasmtime.WasiConfig())
    linker.instantiate(store, wasmtime.Module(engine, source))


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda signature: signature.name)
def test_implementation_takes_the_words_of_its_type(signature: Signature) -> None:
    with Context(SILENT) as context:
        implementation = context._find(signature.name)
        assert len(inspect.signature(implementation).parameters) == 1 + signature.arity


def test_an_instance_without_memory_gets_fault_not_an_exception() -> None:
    with Guest(SILENT) as guest:
        guest.caller.memory = None
        for name in ("fd_write", "args_get", "random_get", "poll_oneoff", "path_open"):
            signature = next(row for row in SIGNATURES if row.name == name)
            words = [1] * signature.arity
            assert guest.call(name, *words) is Errno.FAULT


def test_closing_twice_is_harmless_and_then_nothing_is_open() -> None:
    guest = Guest(SILENT)
    assert guest.context.open_descriptors == 3
    guest.close()
    guest.context.close()
    assert guest.context.open_descriptors == 0
    assert guest.write(1, b"x")[0] is Errno.BADF


def test_importing_the_package_loads_nothing_heavy() -> None:
    """Only what the engine has loaded anyway, and small modules in C."""
    code = (
        "import importlib.util, sys, types, wasinn_runtime\n"
        # The parent package without its own imports, which are not in question here.
        "parent = types.ModuleType('wasinn_host')\n"
        "spec = importlib.util.find_spec('wasinn_host')\n"
        "for name in [name for name in sys.modules if name.startswith('wasinn_host')]:\n"
        "    del sys.modules[name]\n"
        "parent.__path__ = spec.submodule_search_locations\n"
        "sys.modules['wasinn_host'] = parent\n"
        "before = set(sys.modules)\n"
        "import wasinn_host.wasi\n"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "wasinn_host" in loaded
    assert loaded <= {"wasinn_host", "fcntl", "select"}
