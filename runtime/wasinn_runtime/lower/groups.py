"""Some of a module's functions as one unit of LLVM IR: what lazy and tiered modes compile.

Calls inside the group are direct, so that LLVM may inline them; all others go through the callee's
CodeEntry, whatever runs it at the moment.
"""

from __future__ import annotations

from collections.abc import Mapping

from wasinn_runtime.abi.layout import VMLayout
from wasinn_runtime.binary.code import Body
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.lower.convention import native_name, tail_alias, tail_name, tail_symbols
from wasinn_runtime.lower.loop_entry import Loop, NoLoopEntry, loop_entry, loop_entry_name
from wasinn_runtime.lower.outline import ENTRIES_SYMBOL
from wasinn_runtime.lower.ssa import lower_function
from wasinn_runtime.lower.units import preamble

__all__ = ["group_unit"]


def group_unit(
    module: ParsedModule,
    layout: VMLayout,
    places: Mapping[int, int],
    bodies: Mapping[int, Body],
    loop: Loop | None = None,
    quick: bool = False,
) -> str:
    """The functions, and a table of their entries in the order given.

    Args:
        module: the module they belong to.
        layout: of its VMContext.
        places: which FuncRef belongs to a function that can be reached by reference.
        bodies: the decoded, validated bodies by function index, imports counted.
        loop: a loop of the first function that the last entry of the table is for; the entry is
            null when the loop can not have one.
        quick: for LLVM's quick code generator, see ``lower_function``.

    Raises:
        Invalid: a function would become far more IR than its size explains.
    """
    parts = [
        lower_function(module, layout, places, index, body, bodies, quick)
        for index, body in bodies.items()
    ]
    if loop is not None:
        first = next(iter(bodies))
        entry = f"@{loop_entry_name(first, loop.number)}"
        try:
            parts.append(loop_entry(module, layout, places, first, bodies[first], bodies, loop))
        except NoLoopEntry:
            entry = "null"
    functions = "\n".join(parts)
    parts = [preamble(users=functions), functions]
    defined, jumped_to = tail_symbols(functions)
    parts.extend(tail_alias(index) for index in sorted(jumped_to - defined))
    symbols = [tail_name(i) if i in defined else native_name(i) for i in bodies]
    entries = [f"ptr @{symbol}" for symbol in symbols]
    if loop is not None:
        entries.append(f"ptr {entry}")
    listed = ", ".join(entries)
    parts.append(f"@{ENTRIES_SYMBOL} = constant [{len(entries)} x ptr] [{listed}]")
    return "\n".join(parts)
