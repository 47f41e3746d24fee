"""Runs a WASI command in wasmtime, as ``wasinn run`` does: compiled code is kept between runs.

Usage: python wasmtime_wasi.py APP.wasm [ARGS...]; where it is kept is the system's cache folder.
"""

from __future__ import annotations

import sys

import wasmtime


def main(arguments: list[str]) -> int:
    """Run the module with these arguments; its exit status."""
    config = wasmtime.Config()
    config.cache = True
    engine = wasmtime.Engine(config)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    wasi = wasmtime.WasiConfig()
    wasi.argv = arguments
    wasi.inherit_stdin()
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    store = wasmtime.Store(engine)
    store.set_wasi(wasi)
    module = wasmtime.Module.from_file(engine, arguments[0])
    start = linker.instantiate(store, module).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    try:
        start(store)
    except wasmtime.ExitTrap as stop:
        return stop.code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
