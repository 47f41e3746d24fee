"""Divides a module's functions into parts that compile in about the same time. Compiles nothing.

What calls each other should stay together, since nothing is inlined across parts but small copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wasinn_runtime.binary.code import decode_body
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.lower.outline import callees, escaping_functions
from wasinn_runtime.lower.units import Part

__all__ = ["call_graph", "divide"]

# Below that a part costs more than it saves.
_LEAST_PART_BYTES = 16 << 10
# A function as small as this is worth a copy in each part that calls it.
_COPY_BYTES = 160
# Each function costs LLVM something, however short it is.
_FUNCTION_BYTES = 24


def call_graph(module: ParsedModule) -> dict[int, set[int]]:
    """The defined functions that each defined function calls by number.

    Raises:
        Malformed: a body can not be decoded.
    """
    first = module.imported_functions
    return {
        first + i: {c for c in callees(decode_body(module, i)) if c >= first}
        for i in range(len(module.code))
    }


def divide(module: ParsedModule, graph: Mapping[int, set[int]], most: int) -> list[Part]:
    """Parts of about equal size, at most so many; the first holds the table of entries.

    Args:
        module: a module whose function indices are valid.
        graph: who calls whom.
        most: how many parts there may be.
    """
    first = module.imported_functions
    sizes = [c.end - c.start + _FUNCTION_BYTES for c in module.code]
    count = max(1, min(most, sum(sizes) // _LEAST_PART_BYTES))
    escaping = {i for i in escaping_functions(module) if i >= first}
    groups = _groups(graph, escaping, sizes, first, sum(sizes) // (4 * count))
    owner: dict[int, int] = {}
    total, filled, number = sum(sizes), 0, 0
    for group in groups:
        owner.update(dict.fromkeys(group, number))
        filled += sum(sizes[i - first] for i in group)
        if filled * count >= total * (number + 1):
            number = min(number + 1, count - 1)
    members: list[set[int]] = [set() for _ in range(count)]
    for index, number in owner.items():
        members[number].add(index)
    copies: list[set[int]] = []
    shared = set(escaping)
    for own in members:
        outside = {c for i in own for c in graph[i]} - own
        small = {c for c in outside if sizes[c - first] <= _COPY_BYTES}
        # A copy may not be inlined after all, and calls what its original calls.
        shared |= outside | ({c for i in small for c in graph[i]} - own)
        copies.append(small)
    parts = [
        Part(frozenset(own), frozenset(own & shared), frozenset(small), has_entries=number == 0)
        for number, (own, small) in enumerate(zip(members, copies, strict=True))
    ]
    return [p for p in parts if p.own or p.has_entries]


def _groups(
    graph: Mapping[int, set[int]],
    escaping: set[int],
    sizes: Sequence[int],
    first: int,
    most_bytes: int,
) -> list[list[int]]:
    """Functions with one caller go with it, where it is inlined whatever its size.

    In the order of the module, where neighbours come from the same source file.
    """
    callers: dict[int, int] = {}
    for caller, called in graph.items():
        for c in called:
            callers[c] = caller if c not in callers else -1
    members: dict[int, list[int]] = {i: [i] for i in graph}
    root = {i: i for i in graph}
    weight = {i: sizes[i - first] for i in graph}
    for i in graph:
        caller = callers.get(i, -1)
        if caller < 0 or i in escaping:
            continue
        into, gone = root[caller], root[i]
        if into != gone and weight[into] + weight[gone] <= most_bytes:
            weight[into] += weight[gone]
            members[into] += members[gone]
            for j in members.pop(gone):
                root[j] = into
    return sorted(members.values(), key=min)
