"""Which ABIs a module speaks, by what it imports. It links nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from wasinn_host.nn.codec import GuestFunctions
from wasinn_host.nn.context import NnContext
from wasinn_host.nn.describe import Descriptions
from wasinn_host.nn.legacy import LegacyWasiNn
from wasinn_host.nn.numbering import Numbering
from wasinn_host.nn.witx import WasiEphemeralNn
from wasinn_runtime.spec.types import FuncType

__all__ = ["codecs_for"]

_TELLING: Final = ("load", "get_output")
"""These have other types in the two ABIs; the rest have the same."""


def codecs_for(
    imports: Iterable[tuple[str, str, object]],
    context: NnContext,
    numbering: Numbering | None = None,
    trace: Callable[[str], None] | None = None,
) -> Sequence[GuestFunctions]:
    """A codec for each module of WASI-NN that is imported, and our addition to it.

    ``wasi_nn`` is WAMR's, unless the types of what is imported are those of ``wasi_ephemeral_nn``:
    some guests were built for that under the shorter name.

    Args:
        imports: module, name and type of each import.
        context: the guest's graphs and contexts.
        numbering: what the guest's numbers mean, as far as its ABI does not tell.
        trace: takes one line per call; None costs nothing.
    """
    wanted: dict[str, dict[str, object]] = {}
    for module, name, type_ in imports:
        wanted.setdefault(module, {})[name] = type_
    codecs: list[GuestFunctions] = []
    if WasiEphemeralNn.NAME in wanted:
        codecs.append(WasiEphemeralNn(context, numbering, trace))
    if LegacyWasiNn.module in wanted:
        functions = wanted[LegacyWasiNn.module]
        if any(_count(functions.get(name)) == 5 for name in _TELLING):
            codecs.append(WasiEphemeralNn(context, numbering, trace, LegacyWasiNn.module))
        else:
            codecs.append(LegacyWasiNn(context, numbering, trace))
    if Descriptions.module in wanted:
        codecs.append(Descriptions(context, numbering, trace))
    return codecs


def _count(type_: object) -> int | None:
    return len(type_.params) if isinstance(type_, FuncType) else None
