"""Mode ``auto``: the fast interpreter at once, compiled code for what turns out to be hot.

A module whose AOT image is in the cache is served from there. Otherwise functions begin in the fast
interpreter, in code that counts calls and loop iterations. One whose counter is used up is compiled
in the background together with the small functions it calls. From then on its callers find the
compiled code; who is inside one of its loops moves there at the loop's next turn. The image is made
beside guests that run long, for the runs that follow.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from wasinn_runtime.abi.layout import CodeEntry
from wasinn_runtime.engines.aot import AotCode, cached_image
from wasinn_runtime.engines.core import core
from wasinn_runtime.engines.fast_interp import FastInterp, is_at_hand
from wasinn_runtime.errors import Invalid, LimitExceeded, Malformed
from wasinn_runtime.machine import native

if TYPE_CHECKING:
    from wasinn_runtime.binary.code import Body
    from wasinn_runtime.engines.background import Background, Job
    from wasinn_runtime.engines.module import Module

__all__ = ["Tiered", "auto"]

# Calls and loop iterations until a function counts as hot: well under a millisecond of
# interpreting, against tens of milliseconds of compiling.
_HOT = 5_000
# Until a hot function's code looks again whether it is compiled: some milliseconds. It is told by
# its counter, but may just then be writing back what it read there before.
_AGAIN = 1 << 20
# How much of what a hot function calls is compiled with it, to be inlined.
_GROUP_BYTES = 4 << 10
# How much code LLVM compiles in the time that making the interpreter takes.
_SOONER_BYTES = 64 << 10
# Of processes that this one was forked from. Never let go of: what their threads held locked when
# they forked stays locked here.
_left_behind: list[Background] = []


def auto(module: Module) -> AotCode | Tiered:
    """The best that can be had at once."""
    image = cached_image(module)
    if image is None and (module.parsed.code_bytes > _SOONER_BYTES or is_at_hand(module.engine)):
        return Tiered(module)
    return AotCode(module, image, has_bodies=True)


class Tiered(FastInterp):
    """A module that moves from the interpreter to compiled code, function by function."""

    counts = True

    def __init__(self, module: Module) -> None:
        super().__init__(module)
        self.interpreter.hot.value = core().addresses["wasinn_hot"]
        self._background: Background | None = None
        self._process = os.getpid()
        self._requested: set[tuple[int, int]] = set()
        self._compiled: set[int] = set()
        # What the functions of a job call, while it is being compiled.
        self._called: dict[Job, set[int]] = {}
        self._ways: dict[int, native.Cells] = {}

    def make_ready(self, index: int) -> None:
        """Rewrite a function for the interpreter, with counters, and publish it."""
        self.entries.set_count(index, _HOT)
        super().make_ready(index)

    def heat(self, index: int, loop: int) -> None:
        """Have a hot function compiled, once for itself and once for each loop it was hot in."""
        with self._lock:
            # With compiled code there, it is a loop without an entry that asks.
            self.entries.set_count(index, _HOT if index in self._compiled else _AGAIN)
            if self._process != os.getpid():
                self._begin_again()
            if (index, loop) in self._requested:
                return
            self._requested.add((index, loop))
            try:
                self._request(index, loop)
            except (ImportError, MemoryError, OSError, RuntimeError, LimitExceeded):
                # No descriptor, thread or memory is left for it: the guest runs on as it is.
                self._requested.discard((index, loop))

    def _begin_again(self) -> None:
        """In a forked process: nobody here works on what was asked for before."""
        if self._background is not None:
            _left_behind.append(self._background)
        self._background = None
        self._process = os.getpid()
        self._requested.clear()
        self._called.clear()

    def _request(self, index: int, loop: int) -> None:
        # Most guests have nothing hot: what compiling needs is imported here.
        from wasinn_runtime.engines.background import Background, Job
        from wasinn_runtime.lower.loop_entry import has_loop_entries

        body = self.body(index)
        if loop and not has_loop_entries(body):
            if index in self._compiled or (index, 0) in self._requested:
                return
            loop = 0
        if index not in self._ways:
            self._ways[index] = _no_ways(body)
        bodies = self._group(index, body)
        job = Job(tuple(bodies), loop - 1 if loop else None)
        if self._background is None:
            level, cache = self.engine.config.opt_level, self.engine.cache
            self._background = Background(self.parsed, level, cache, self._publish)
        self._called[job] = set().union(*map(self.callees, bodies.values()))
        self._background.compile(job)

    def _group(self, hot: int, body: Body) -> dict[int, Body]:
        """The hot function and small ones that it calls, those that can be validated."""
        group, room = {hot: body}, _GROUP_BYTES
        for index in sorted(self.callees(body)):
            where = self.parsed.code[index - self.imported]
            if index == hot or where.end - where.start > room:
                continue
            try:
                group[index] = self.body(index)
            except (Malformed, Invalid):
                continue  # its own call will tell
            room -= where.end - where.start
        return group

    def _publish(self, job: Job, image: bytes) -> None:
        """Put compiled code in place; called in the background's thread."""
        count = len(job.functions) + (job.loop is not None)
        table = (ctypes.c_uint64 * count).from_address(self.link(image))
        with self._lock:
            # Two threads may have asked for the same; then its callees are open by now.
            for callee in self._called.pop(job, ()):
                self.entries.open(callee)
            hot = job.functions[0]
            if hot not in self._compiled:
                self._compiled.add(hot)
                self.entries.compiled(hot, table[0])
            ways = self._ways[hot]
            ways[1] = self.entries.get(hot, CodeEntry.ARRAY)
            if job.loop is not None:
                ways[2 + job.loop] = table[count - 1]
            self.entries.set_ways(hot, ctypes.addressof(ways))
            self.entries.set_count(hot, 0)  # who still interprets it looks again at once


def _no_ways(body: Body) -> native.Cells:
    """Room for the ways out of a function: how many, from its beginning, from each loop."""
    count = 1 + sum(row.meaning[0] == "loop" for row, _, _ in body.instructions)
    ways = native.buffer(8 * (1 + count))
    ways[0] = count
    return ways
