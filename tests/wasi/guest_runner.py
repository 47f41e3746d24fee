"""Runs compiled guests: our engine with our WASI, or wasmtime with its own. No tests here."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import wasmtime

from wasinn_host.wasi import MODULE, Capture, Preopen, StdinSource, WasiConfig, WasiContext
from wasinn_host.wasi.paths import Resolver
from wasinn_host.wasi.trace import TraceSink
from wasinn_runtime import Engine, GuestExit, Instance, Linker, Module, Store

GUESTS = Path(__file__).parent / "guests"


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    status: int
    stdout: str
    stderr: str


def instantiate(engine: Engine, wasm: Path, context: WasiContext, store: Store) -> Instance:
    """Link a guest with WASI only."""
    linker = Linker(engine)
    for name, type_, function in context.functions():
        linker.define_func(MODULE, name, type_, function, access_caller=True, unsigned=True)
    return linker.instantiate(store, Module(engine, wasm.read_bytes(), wasm.name))


def run_ours(
    engine: Engine,
    wasm: Path,
    config: WasiConfig,
    *,
    timeout_s: float | None = 60,
    resolver: Resolver | None = None,
    trace: TraceSink | None = None,
) -> Outcome:
    """Run a command; streams that ``config`` leaves alone are captured."""
    stdout, stderr = Capture(), Capture()
    defaults = WasiConfig()
    if config.stdout is defaults.stdout:
        config = replace(config, stdout=stdout)
    if config.stderr is defaults.stderr:
        config = replace(config, stderr=stderr)
    status = 0
    with WasiContext(config, resolver=resolver, trace=trace) as context:
        store = Store(engine)
        instance = instantiate(engine, wasm, context, store)
        with store.deadline(timeout_s):
            try:
                instance.exports["_start"]()  # type: ignore[operator]
            except GuestExit as exit_:
                status = exit_.code
    return Outcome(status, stdout.text, stderr.text)


def run_wasmtime(
    wasm: Path,
    *,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    preopens: Sequence[Preopen] = (),
    stdin: StdinSource = b"",
) -> Outcome:
    """The same on wasmtime, for comparison."""
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store = wasmtime.Store(engine)
    with tempfile.TemporaryDirectory() as scratch:
        streams = Path(scratch)
        assert isinstance(stdin, bytes)
        (streams / "in").write_bytes(stdin)
        wasi = wasmtime.WasiConfig()
        wasi.argv = list(args)
        wasi.env = list((env or {}).items())
        wasi.stdin_file = str(streams / "in")
        wasi.stdout_file = str(streams / "out")
        wasi.stderr_file = str(streams / "err")
        for preopen in preopens:
            wasi.preopen_dir(str(preopen.host), preopen.guest_name)
        store.set_wasi(wasi)
        instance = linker.instantiate(store, wasmtime.Module.from_file(engine, str(wasm)))
        status = 0
        try:
            instance.exports(store)["_start"](store)  # type: ignore[operator]
        except wasmtime.ExitTrap as exit_:
            status = exit_.code
        del instance, store
        return Outcome(
            status, (streams / "out").read_text("utf-8"), (streams / "err").read_text("utf-8")
        )
