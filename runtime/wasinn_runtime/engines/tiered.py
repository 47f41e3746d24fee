"""Mode ``auto``: the fast interpreter at once, compiled code for what turns out to be hot.

A module whose AOT image is in the cache is served from there. Otherwise functions begin in the fast
interpreter, in code that counts calls and loop iterations. One whose counter is used up is compiled
in the background together with the small functions it calls. From then on its callers find the
compiled code; who is inside one of its loops moves there at the loop's next turn.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import CodeEntry
from wasinn_runtime.binary.code import Body
from wasinn_runtime.engines.aot import AotCode, cached_image
from wasinn_runtime.engines.background import Background, Job
from wasinn_runtime.engines.core import core, runtime_imports
from wasinn_runtime.engines.fast_interp import FastInterp
from wasinn_runtime.engines.link import Code, load
from wasinn_runtime.engines.symbols import FunctionMap
from wasinn_runtime.errors import Invalid, Malformed
from wasinn_runtime.lower.fast_families import fast_code
from wasinn_runtime.lower.loop_entry import has_loop_entries
from wasinn_runtime.lower.outline import ENTRIES_SYMBOL
from wasinn_runtime.lower.units import callees
from wasinn_runtime.machine import native

if TYPE_CHECKING:
    from wasinn_runtime.engines.module import Module

__all__ = ["Tiered", "auto"]

# Calls and loop iterations until a function counts as hot: well under a millisecond of
# interpreting, against tens of milliseconds of compiling.
_HOT = 5_000
_NEVER = 1 << 62
# How much of what a hot function calls is compiled with it, to be inlined.
_GROUP_BYTES = 4 << 10


def auto(module: Module) -> AotCode | Tiered:
    """The best that can be had at once."""
    image = cached_image(module)
    return Tiered(module) if image is None else AotCode(module, image, has_bodies=True)


class Tiered(FastInterp):
    """A module that moves from the interpreter to compiled code, function by function."""

    def __init__(self, module: Module) -> None:
        super().__init__(module)
        self.interpreter.hot.value = core().addresses["wasinn_hot"]
        self._module = module
        self._background: Background | None = None
        self._requested: set[tuple[int, int]] = set()
        self._compiled: set[int] = set()
        self._native: list[Code] = []
        self._ways: dict[int, native.Cells] = {}
        self._loops: dict[int, int] = {}

    def make_ready(self, index: int) -> None:
        """Rewrite a function for the interpreter, with counters, and publish it."""
        body = self.body(index)
        self._loops[index] = sum(row.meaning[0] == "loop" for row, _, _ in body.instructions)
        code = fast_code(
            self.parsed,
            self.layout,
            self.places,
            self.entries.address,
            index,
            body,
            self.interpreter.sequences,
            hot=True,
        )
        self.codes[index] = code
        self.entries.set_count(index, _HOT)
        self.entries.interpret(index, code.address, self.interpreter.run)

    def heat(self, index: int, loop: int) -> None:
        """Have a hot function compiled, once for itself and once for each loop it was hot in."""
        with self._lock:
            # Until there is compiled code nobody need ask again; then loops without an entry may.
            self.entries.set_count(index, _HOT if index in self._compiled else _NEVER)
            if (index, loop) in self._requested:
                return
            self._requested.add((index, loop))
            body = self.body(index)
            if loop and not has_loop_entries(body):
                if index in self._compiled or (index, 0) in self._requested:
                    return
                loop = 0
            job = Job(self._group(index, body), loop - 1 if loop else None)
            if self._background is None:
                level = self.engine.config.opt_level
                self._background = Background(self.parsed, level, self._publish)
            self._background.compile(job)

    def _group(self, hot: int, body: Body) -> tuple[int, ...]:
        """The hot function and small ones that it calls, those that can be validated."""
        group, room = [hot], _GROUP_BYTES
        for index in sorted(callees(body)):
            if index < self.imported or index == hot:
                continue
            where = self.parsed.code[index - self.imported]
            if where.end - where.start > room:
                continue
            try:
                self.body(index)
            except (Malformed, Invalid):
                continue  # its own call will tell
            room -= where.end - where.start
            group.append(index)
        return tuple(group)

    def _publish(self, job: Job, image: bytes) -> None:
        """Put compiled code in place; called in the background's thread."""
        code = load(image, (ENTRIES_SYMBOL,), runtime_imports())
        with self._lock:
            for index in job.functions:
                for callee in callees(self.body(index)):
                    if callee >= self.imported:
                        self.entries.open(callee)
            self._native.append(code)
            self.engine.add_map(FunctionMap(self._module, code))
            count = len(job.functions) + (job.loop is not None)
            table = (ctypes.c_uint64 * count).from_address(code.addresses[ENTRIES_SYMBOL])
            hot = job.functions[0]
            if hot not in self._compiled:
                self._compiled.add(hot)
                self.entries.compiled(hot, table[0])
            self._add_way(hot, 0, self.entries.get(hot, CodeEntry.ARRAY))
            if job.loop is not None:
                self._add_way(hot, job.loop + 1, table[count - 1])
            self.entries.set_count(hot, 0)  # who still interprets it looks again at once

    def _add_way(self, index: int, loop: int, address: int) -> None:
        """Let the interpreter leave a function for compiled code, at its beginning or a loop."""
        ways = self._ways.get(index)
        if ways is None:
            count = self._loops[index] + 1
            ways = self._ways[index] = native.buffer(8 * (count + 1))
            ways[0] = count
        ways[1 + loop] = address
        self.entries.set_ways(index, ctypes.addressof(ways))
