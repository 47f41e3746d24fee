"""Host untrusted WebAssembly guests and give them neural networks through WASI-NN.

>>> from wasinn_host import Host
>>> Host().run("hello.wasm", ["world"], capture_output=True).text
'hello, world\\n'
"""

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
