"""Calls of WASI-NN as lines like strace's. Only imported when somebody traces.

wasi_ephemeral_nn.set_input(context=0x40400000, index=0, tensor=i64[1,16] 128 bytes) = 0 (9 us)
wasi_ephemeral_nn.compute(context=0x40400000) = 1 invalid_argument: input 1 (mask) is not set
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from wasinn_host.nn.errors import WasiNnError
from wasinn_host.nn.guest import GuestCaller, GuestMemory
from wasinn_runtime.errors import MemoryAccessError

if TYPE_CHECKING:
    from wasinn_host.nn.codec import GuestFunctions

__all__ = ["traced"]

_DECIMAL: Final = frozenset({"count", "index", "out_max_bytes", "name_len", "config_len"})
_RESULTS: Final = {
    "load": ("graph", "#x"),
    "load_by_name": ("graph", "#x"),
    "load_by_name_with_config": ("graph", "#x"),
    "init_execution_context": ("context", "#x"),
    "get_output": ("written", "d"),
    "get_output_single": ("written", "d"),
    "input_count": ("count", "d"),
    "output_count": ("count", "d"),
    "describe_input": ("needed", "d"),
    "describe_output": ("needed", "d"),
}


def traced(
    codec: GuestFunctions,
    name: str,
    function: Callable[..., int],
    sink: Callable[[str], None],
) -> Callable[..., int]:
    """The same function, telling the sink about every call."""

    def call(caller: GuestCaller, *args: int) -> int:
        text = _arguments(codec, name, caller.memory, args)
        start = time.perf_counter()
        try:
            errno = function(caller, *args)
        except BaseException as error:
            sink(f"{codec.module}.{name}({text}) raised {type(error).__name__}: {error}")
            raise
        took_us = (time.perf_counter() - start) * 1e6
        if errno == 0:
            outcome = f"0{_result(name, caller.memory, args)} ({took_us:.0f} us)"
        else:
            outcome = f"{errno} {codec.last_error}"
        sink(f"{codec.module}.{name}({text}) = {outcome}")
        return errno

    return call


def _arguments(
    codec: GuestFunctions, name: str, memory: GuestMemory | None, args: tuple[int, ...]
) -> str:
    parts = []
    for parameter, value in zip(codec.parameters[name], args, strict=True):
        shown = str(value) if parameter in _DECIMAL else f"{value:#x}"
        if parameter in ("encoding", "target"):
            shown = _word(parameter, value)
        elif memory is not None and parameter in ("tensor", "name", "builders"):
            # A bad pointer is all there is to show; the call itself will say why.
            with contextlib.suppress(MemoryAccessError, WasiNnError):
                shown = _look(codec, memory, parameter, args)
        parts.append(f"{parameter}={shown}")
    return ", ".join(parts)


def _word(parameter: str, value: int) -> str:
    from wasinn_host.nn.codec import ENCODINGS_BY_NUMBER, TARGETS_BY_NUMBER

    if parameter == "encoding":
        words: tuple[str, ...] = ENCODINGS_BY_NUMBER
    else:
        words = tuple(target.value for target in TARGETS_BY_NUMBER)
    return words[value] if value < len(words) else str(value)


def _look(codec: GuestFunctions, memory: GuestMemory, parameter: str, args: tuple[int, ...]) -> str:
    from wasinn_host.nn.codec import Codec

    if parameter == "tensor" and isinstance(codec, Codec):
        tensor = codec.read_tensor(memory, args[2], args[0], args[1])
        sizes = ",".join(map(str, tensor.shape))
        return f"{tensor.type.value}[{sizes}] {tensor.data.nbytes} bytes"
    pointer, length = args[0], args[1]
    if parameter == "name":
        shown = memory.read(pointer, min(length, 80)).decode("utf-8", "backslashreplace")
        return repr(shown) + ("..." if length > 80 else "")
    sizes = ", ".join(
        f"{memory.read_u32(pointer + 8 * i + 4)} bytes" for i in range(min(length, 4))
    )
    return f"[{sizes}{', ...' if length > 4 else ''}]"


def _result(name: str, memory: GuestMemory | None, args: tuple[int, ...]) -> str:
    if name not in _RESULTS or memory is None:
        return ""
    word, form = _RESULTS[name]
    return f" {word}={format(memory.read_u32(args[-1]), form)}"
