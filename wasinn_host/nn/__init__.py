"""WASI-NN: the core model, its codecs, and the interface that backend plugins implement.

Knows no engine beyond a caller with a memory, and no machine learning library: those live in
plugins. Names are imported on first use, so that a guest without neural networks pays nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wasinn_host.nn.context import NnContext
    from wasinn_host.nn.discovery import BackendRegistry, PluginReport
    from wasinn_host.nn.errors import ErrorKind, OutputTooSmall, PluginError, WasiNnError
    from wasinn_host.nn.graphs import GraphRegistry, PreloadSpec
    from wasinn_host.nn.limits import NnLimits
    from wasinn_host.nn.plugin import Target, TensorType
    from wasinn_host.nn.witx import WasiEphemeralNn

__all__ = [
    "BackendRegistry",
    "ErrorKind",
    "GraphRegistry",
    "NnContext",
    "NnLimits",
    "OutputTooSmall",
    "PluginError",
    "PluginReport",
    "PreloadSpec",
    "Target",
    "TensorType",
    "WasiEphemeralNn",
    "WasiNnError",
]

_HOME = {
    "BackendRegistry": "discovery",
    "ErrorKind": "errors",
    "GraphRegistry": "graphs",
    "NnContext": "context",
    "NnLimits": "limits",
    "OutputTooSmall": "errors",
    "PluginError": "errors",
    "PluginReport": "discovery",
    "PreloadSpec": "graphs",
    "Target": "plugin",
    "TensorType": "plugin",
    "WasiEphemeralNn": "witx",
    "WasiNnError": "errors",
}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
