"""One computation as a compiled guest asks for it: engine, host, codec and backend, all real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wasinn_host.host import Host
from wasinn_host.nn.plugin import Backend, Target
from wasinn_host.nn.routing import DeviceRule

PROBE = Path(__file__).parents[1] / "nn" / "guests" / "probe.wasm"


def ask(
    backend: type[Backend],
    encoding: str,
    model: tuple[bytes, ...],
    x: np.ndarray[Any, Any],
    shape: tuple[int, ...],
) -> np.ndarray[Any, Any]:
    """What a guest gets for one float32 input.

    Args:
        backend: who computes.
        encoding: the model's.
        model: its parts.
        x: float32, of two dimensions.
        shape: of output 0, which is float32 too.
    """
    y = np.empty(shape, np.float32)
    host = Host(device_rules=[DeviceRule.parse("cpu=tested")])
    try:
        host.graphs.backends.add("tested", backend)
        host.graphs.register("m", encoding, Target.CPU, builders=model)
        with host.open(host.load(PROBE)) as guest:
            arena, place = guest.call("arena"), guest.call("input")
            assert isinstance(arena, int)
            assert isinstance(place, int)
            guest.memory.write(arena, b"m")
            assert guest.call("load_by_name", arena, 1, arena + 8) == 0
            graph = guest.memory.read_u32(arena + 8)
            assert guest.call("init_execution_context", graph, arena) == 0
            context = guest.memory.read_u32(arena)
            dims, record, out = arena + 16, arena + 32, arena + 1024
            guest.memory.write(dims, np.array(x.shape, "<u4").tobytes())
            guest.memory.write(place, x.tobytes())
            fields = np.array([dims, x.ndim, 1, place, x.nbytes], "<u4")
            guest.memory.write(record, fields.tobytes())
            assert guest.call("set_input", context, 0, record) == 0
            assert guest.call("compute", context) == 0
            assert guest.call("get_output", context, 0, out, y.nbytes, arena) == 0
            y[:] = np.frombuffer(guest.memory.read(out, y.nbytes), np.float32).reshape(shape)
    finally:
        host.close()
    return y
