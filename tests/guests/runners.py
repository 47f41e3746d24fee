"""Runs a command guest on an engine: ours, and wasmtime as a second opinion. Not a fixture.

Tests reach engines through ``Runner`` only, so that how a guest is started is said in one place.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import wasmtime

from wasinn_host import Host, Trap

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

HELLO = EXAMPLES / "hello" / "hello.wasm"
RUST_FILES = EXAMPLES / "rust-files" / "rust-files.wasm"
SEMANTIC_SEARCH = EXAMPLES / "semantic-search" / "semantic-search.wasm"

# The status that stands for a trap, as on the command line.
TRAPPED = 134

# A guest that runs longer than this hangs; none of these tests comes near it.
TIMEOUT_S = 300.0

# What a wasi-nn import answers where there is no backend: unsupported_operation.
NO_NEURAL_NETWORKS = 6


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: The guest's exit status, or TRAPPED.
        stdout: What it wrote to standard output.
        stderr: What it wrote to standard error.
    """

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output of a guest that must have succeeded."""
        assert self.status == 0, (self.status, self.stderr.decode("utf-8", "replace"))
        assert self.stderr == b""
        return self.stdout.decode("utf-8")


class Runner(Protocol):
    """Runs a guest to its end."""

    def __call__(
        self,
        wasm: Path,
        args: Sequence[str] = (),
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        dirs: Mapping[str, Path] | None = None,
    ) -> Outcome:
        """Starts ``wasm`` with ``args`` behind its name.

        Args:
            wasm: The module.
            args: Command line arguments.
            stdin: All of standard input.
            env: Environment variables.
            dirs: Directories, from the guest's name to the host's path.
        """


@functools.cache
def shared_host() -> Host:
    """One host for all tests, which keeps compiled modules."""
    return Host()


def run_wasinn(
    wasm: Path,
    args: Sequence[str] = (),
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    dirs: Mapping[str, Path] | None = None,
    host: Host | None = None,
) -> Outcome:
    """A Runner: this project."""
    from wasinn_host import Capture

    out, err = Capture(), Capture()
    try:
        status = (
            (host or shared_host())
            .run(
                wasm,
                args,
                input=stdin,
                stdout=out,
                stderr=err,
                env=env or {},
                dirs=dirs or {},
                timeout_s=TIMEOUT_S,
            )
            .exit_code
        )
    except Trap:
        status = TRAPPED
    return Outcome(status, out.data, err.data)


@functools.cache
def _wasmtime_engine() -> wasmtime.Engine:
    return wasmtime.Engine()


@functools.cache
def _wasmtime_module(wasm: Path, modified_ns: int) -> wasmtime.Module:
    return wasmtime.Module.from_file(_wasmtime_engine(), str(wasm))


def run_wasmtime(
    wasm: Path,
    args: Sequence[str] = (),
    *,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    dirs: Mapping[str, Path] | None = None,
) -> Outcome:
    """A Runner: wasmtime, whose wasi-nn imports all answer "unsupported"."""
    module = _wasmtime_module(wasm, wasm.stat().st_mtime_ns)
    linker = wasmtime.Linker(_wasmtime_engine())
    linker.define_wasi()
    for wanted in module.imports:
        if wanted.module == "wasi_ephemeral_nn" and wanted.name is not None:
            assert isinstance(wanted.type, wasmtime.FuncType)
            linker.define_func(
                wanted.module, wanted.name, wanted.type, lambda *_: NO_NEURAL_NETWORKS
            )
    with TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        streams = {name: Path(folder, name) for name in ("stdin", "stdout", "stderr")}
        streams["stdin"].write_bytes(stdin)
        config = wasmtime.WasiConfig()
        config.argv = [wasm.name, *args]
        config.env = list((env or {}).items())
        config.stdin_file = str(streams["stdin"])
        config.stdout_file = str(streams["stdout"])
        config.stderr_file = str(streams["stderr"])
        for guest_name, path in (dirs or {}).items():
            config.preopen_dir(str(path), guest_name)
        store = wasmtime.Store(_wasmtime_engine())
        stack.callback(store.close)
        store.set_wasi(config)
        start = linker.instantiate(store, module).exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        try:
            start(store)
            status = 0
        except wasmtime.ExitTrap as exit_:
            status = exit_.code
        except wasmtime.Trap:
            status = TRAPPED
        return Outcome(status, streams["stdout"].read_bytes(), streams["stderr"].read_bytes())


RUNNERS: Mapping[str, Runner] = {"wasinn": run_wasinn, "wasmtime": run_wasmtime}
