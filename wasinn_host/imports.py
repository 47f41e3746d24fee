"""Whose an import is that this host does not give, and what to do about it. It defines no imports.

Guests come from tool chains that each leave imports of their own behind, and from other hosts.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Final

__all__ = ["advice"]

_MODULES: Final = {
    "wasi_unstable": "the preview of WASI before wasi_snapshot_preview1; build the guest anew "
    "with a tool chain that targets wasm32-wasip1",
    "wasi_snapshot_preview2": "there is no core module of this name in any WASI; build the guest "
    "for wasm32-wasip1",
    "wasi": "wasi-threads: threads that a guest starts, which this host does not have; build the "
    "guest without threads",
    "wbg": "the JavaScript half of wasm-bindgen; build the guest for wasm32-wasip1, without it",
    "__wbindgen_placeholder__": "what wasm-bindgen replaces after the build; build the guest for "
    "wasm32-wasip1, without it",
    "go": "Go's JavaScript runtime; build the guest with GOOS=wasip1",
    "gojs": "Go's JavaScript runtime; build the guest with GOOS=wasip1",
    "spectest": "the test harness of the WebAssembly specification",
}
_PREFIXES: Final = {
    "wasi:nn/": "WASI-NN for components; a core module imports it from wasi_ephemeral_nn or "
    "wasi_nn, which this host has",
    "wasi:": "WASI for components; a core module imports it from wasi_snapshot_preview1, which "
    "this host has: build the guest for wasm32-wasip1",
    "wasi_ephemeral_": "a proposal of WASI; of those this host has wasi_ephemeral_nn alone",
    "wasmedge_": "a plugin of WasmEdge, which this host does not have",
}
_OF_ASSEMBLYSCRIPT: Final = frozenset({"abort", "seed", "trace"})
_LEFT_UNDEFINED: Final = (
    "a host program's own, or left undefined when the guest was linked; a Python program gives it "
    "with Host.define"
)


def advice(module: str, name: str, offered: Sequence[str]) -> str:
    """What would provide an import.

    Args:
        module: the module's name, which nobody defines.
        name: the import's.
        offered: the modules that guests of this host can import from.
    """
    near = difflib.get_close_matches(module, offered, 1, cutoff=0.8)
    if module in _MODULES:
        return _MODULES[module]
    if near:
        return f"did you mean {near[0]}?"
    for prefix, text in _PREFIXES.items():
        if module.startswith(prefix):
            return text
    if module == "env":
        return _of_env(name)
    return f"{_LEFT_UNDEFINED}; this host has {', '.join(offered)}"


def _of_env(name: str) -> str:
    if name in _OF_ASSEMBLYSCRIPT:
        return (
            f"AssemblyScript's; build the guest with --use {name}= to do without, or with its "
            "shim for WASI"
        )
    if name == "memory":
        return "a memory of the host's; build the guest without --import-memory"
    if name.startswith(("emscripten_", "_emscripten_", "__syscall_", "invoke_")):
        return "Emscripten's JavaScript runtime; build the guest with -sSTANDALONE_WASM"
    return _LEFT_UNDEFINED
