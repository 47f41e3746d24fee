"""WASI preview 1 for guests: arguments, environment, files, streams, clocks. Not WASI-NN.

    with WasiContext(WasiConfig(args=["app"], preopens=[Preopen("data", "/data")])) as wasi:
        for name, type_, function in wasi.functions():
            linker.define_func(MODULE, name, type_, function, access_caller=True, unsigned=True)

The package opens nothing that the configuration does not name. Files are opened relative to a
preopened directory and never outside it (``paths``).
"""

from __future__ import annotations

from wasinn_host.wasi.abi import Errno
from wasinn_host.wasi.config import (
    Capture,
    Preopen,
    StdinSource,
    Stdio,
    StdoutTarget,
    WasiConfig,
)
from wasinn_host.wasi.context import WasiContext
from wasinn_host.wasi.signatures import MODULE
from wasinn_host.wasi.trace import TraceSink

__all__ = [
    "MODULE",
    "Capture",
    "Errno",
    "Preopen",
    "StdinSource",
    "Stdio",
    "StdoutTarget",
    "TraceSink",
    "WasiConfig",
    "WasiContext",
]
