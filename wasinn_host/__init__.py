"""Host untrusted WebAssembly guests and give them neural networks through WASI-NN.

>>> from wasinn_host import Host
>>> Host().run("hello.wasm", ["world"], capture_output=True).text
'hello, world\\n'

Names are looked up when they are used: the command line must be able to answer Ctrl-C from its
first moment on, and what is behind them takes a while to import.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wasinn_host.host import Guest, GuestFailed, GuestOptions, Host, Result
    from wasinn_host.wasi import Capture, Preopen, Stdio
    from wasinn_runtime import Config, GuestExit, Interrupted, LinkError, Trap, WasinnError

__all__ = [
    "Capture",
    "Config",
    "Guest",
    "GuestExit",
    "GuestFailed",
    "GuestOptions",
    "Host",
    "Interrupted",
    "LinkError",
    "Preopen",
    "Result",
    "Stdio",
    "Trap",
    "WasinnError",
]

_WHERE = {
    **dict.fromkeys(("Guest", "GuestFailed", "GuestOptions", "Host", "Result"), "wasinn_host.host"),
    **dict.fromkeys(("Capture", "Preopen", "Stdio"), "wasinn_host.wasi"),
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(_WHERE.get(name, "wasinn_runtime")), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
