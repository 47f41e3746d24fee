"""Loads, computes and unloads a backend's sample again and again; prints resident bytes as JSON.

nn_rounds.py MODULE:CLASS ROUNDS
"""

from __future__ import annotations

import gc
import json
import sys
from importlib.metadata import EntryPoint

from wasinn_host.nn import BackendRegistry, GraphRegistry, NnContext, Target
from wasinn_host.nn.plugin import Backend


def resident_bytes() -> int:
    """Pages of this process that are in memory."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def main() -> None:
    """A tenth of the rounds as a warm-up, then all of them."""
    cls: type[Backend] = EntryPoint("", sys.argv[1], "").load()
    cls.isolates_guests = False  # so that what the library takes is in this process
    rounds = int(sys.argv[2])
    sample = cls({}).samples()[0]
    backends = BackendRegistry(discover=False, routes={sample.encoding: "measured"})
    backends.add("measured", cls)
    context = NnContext(GraphRegistry(backends))

    def work(count: int) -> None:
        parts = [memoryview(part) for part in sample.parts]
        for _ in range(count):
            graph = context.load(parts, sample.encoding, Target.AUTO)
            handle = context.init_execution_context(graph)
            for index, tensor in enumerate(sample.inputs):
                context.set_input(handle, index, tensor)
            context.compute(handle)
            context.get_output(handle, 0)
            context.finalize_execution_context(handle)
            context.unload(graph)

    work(max(1, rounds // 10))
    before = resident_bytes()
    work(rounds)
    print(json.dumps({"before": before, "after": resident_bytes()}))


if __name__ == "__main__":
    main()
