"""Which ABIs a module speaks, by what it imports. It links nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from wasinn_host.nn.codec import Codec
from wasinn_host.nn.context import NnContext
from wasinn_host.nn.legacy import LegacyWasiNn
from wasinn_host.nn.witx import WasiEphemeralNn
from wasinn_runtime.spec.types import FuncType

__all__ = ["codecs_for"]

_TELLING: Final = ("load", "get_output")
"""These have other types in the two ABIs; the rest have the same."""


def codecs_for(
    imports: Iterable[tuple[str, str, object]],
    context: NnContext,
    trace: Callable[[str], None] | None = None,
) -> Sequence[Codec]:
    """A codec for each module of WASI-NN that is imported.

    ``wasi_nn`` is WAMR's, unless the types of what is imported are those of ``wasi_ephemeral_nn``:
    some guests were built for that under the shorter name.

    Args:
        imports: module, name and type of each import.
        context: the guest's graphs and contexts.
        trace: takes one line per call; None costs nothing.
    """
    wanted: dict[str, dict[str, object]] = {}
    for module, name, type_ in imports:
        wanted.setdefault(module, {})[name] = type_
    codecs: list[Codec] = []
    if WasiEphemeralNn.NAME in wanted:
        codecs.append(WasiEphemeralNn(context, trace))
    if LegacyWasiNn.module in wanted:
        functions = wanted[LegacyWasiNn.module]
        if any(_count(functions.get(name)) == 5 for name in _TELLING):
            codecs.append(WasiEphemeralNn(context, trace, LegacyWasiNn.module))
        else:
            codecs.append(LegacyWasiNn(context, trace))
    return codecs


def _count(type_: object) -> int | None:
    return len(type_.params) if isinstance(type_, FuncType) else None
