"""Makes many instances of one module in one process and says what memory they take.

Usage: python idle_instances.py ENGINE FILE COUNT, ENGINE being wasmtime or one of wasinn's modes.
Prints {"before": .., "after": ..}: this process's share of memory (PSS) in bytes, before the module
was loaded and with all instances alive, each of which has been called once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

Make = Callable[[], object]


def pss_bytes() -> int:
    """This process's proportional set size."""
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/smaps_rollup has no Pss")


def in_wasmtime() -> Callable[[bytes], Make]:
    """wasmtime with its defaults."""
    import wasmtime

    engine = wasmtime.Engine()

    def load(data: bytes) -> Make:
        module = wasmtime.Module(engine, data)

        def make() -> object:
            store = wasmtime.Store(engine)
            instance = wasmtime.Instance(store, module, [])
            run = instance.exports(store)["run"]
            assert isinstance(run, wasmtime.Func)
            run(store, 1)
            return store, instance

        return make

    return load


def in_wasinn(mode: str) -> Callable[[bytes], Make]:
    """wasinn in one mode."""
    import wasinn_runtime as wasinn

    engine = wasinn.Engine(wasinn.Config(mode))

    def load(data: bytes) -> Make:
        module = wasinn.Module(engine, data)

        def make() -> object:
            instance = wasinn.Instance(wasinn.Store(engine), module, [])
            run = instance.exports["run"]
            assert isinstance(run, wasinn.Func)
            run(1)
            return instance

        return make

    return load


def main(engine: str, file: str, count: int) -> None:
    """Make them and report."""
    load = in_wasmtime() if engine == "wasmtime" else in_wasinn(engine)
    data = Path(file).read_bytes()
    before = pss_bytes()
    make = load(data)
    alive = [make() for _ in range(count)]
    after = pss_bytes()
    assert len(alive) == count
    print(json.dumps({"before": before, "after": after}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
