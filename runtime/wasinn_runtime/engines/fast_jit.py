"""Mode ``fast-jit``: functions are compiled at their first call, with few optimisations."""

from __future__ import annotations

from wasinn_runtime.binary.code import Body
from wasinn_runtime.engines.lazy import Lazy
from wasinn_runtime.errors import Invalid, Malformed
from wasinn_runtime.lower.groups import group_unit
from wasinn_runtime.lower.outline import ENTRIES_SYMBOL

__all__ = ["FastJit"]

# How much code is compiled at a time: the function that is called and those it calls, until they
# have this many bytes. More would make a large module wait for what it never runs, less would pay
# LLVM's fixed cost of about a millisecond too often.
_GROUP_BYTES = 16 << 10


class FastJit(Lazy):
    """Groups of functions through LLVM's quick code generator."""

    def make_ready(self, index: int) -> None:
        """Compile the function, and what it calls as far as that is not much."""
        bodies = self._group(index)
        for body in bodies.values():
            for callee in self.callees(body):
                self.entries.open(callee)
        image = self.engine.image(
            "functions",
            [self.parsed.digest, *map(str, bodies)],
            lambda: group_unit(self.parsed, self.layout, self.places, bodies, vectorised=False),
            0,
            (ENTRIES_SYMBOL,),
        )
        self.entries.compiled_all([*bodies], self.link(image))

    def _group(self, first: int) -> dict[int, Body]:
        """The function and those it calls, breadth first, that are not ready yet."""
        bodies = {first: self.body(first)}
        room = _GROUP_BYTES - (bodies[first].end - bodies[first].start)
        waiting = [first]
        for caller in waiting:
            for index in sorted(self.callees(bodies[caller])):
                if index in bodies or not self.entries.is_deferred(index):
                    continue
                where = self.parsed.code[index - self.imported]
                room -= where.end - where.start
                if room < 0:
                    return bodies
                try:
                    bodies[index] = self.body(index)
                except (Malformed, Invalid):
                    continue  # its own call will tell
                waiting.append(index)
        return bodies
