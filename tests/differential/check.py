"""One case in every mode and in wasmtime, in this process. A crash is for the process's owner."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path

import wasmtime

import wasinn_runtime as wasinn
from tests.differential.cases import COMPARABLE, Case, Unusable, module_of, resizes_floats
from tests.differential.players import Player, WasinnPlayer, WasmtimePlayer, plan
from tests.differential.records import Record, difference
from wasinn_runtime.engines.modes import FEATURES_OF_MODE

__all__ = ["Verdict", "VerdictKind", "check", "check_module", "common_features"]


class VerdictKind(enum.Enum):
    """How a case ended."""

    SAME = "same"
    UNUSABLE = "unusable"
    DIFFERENT = "different"
    CRASHED = "crashed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a case ended, and why, in words."""

    kind: VerdictKind
    why: str = ""
    steps: int = 0

    @property
    def is_finding(self) -> bool:
        return self.kind in (VerdictKind.DIFFERENT, VerdictKind.CRASHED)


def common_features(modes: Sequence[str]) -> frozenset[str]:
    """What modules may use that are to run in all these modes and in wasmtime."""
    return COMPARABLE.intersection(*(FEATURES_OF_MODE[mode] for mode in modes))


@remembered
def _reference() -> wasmtime.Engine:
    return WasmtimePlayer.engine()


@remembered
def _engine(mode: str, cache: Path | None) -> wasinn.Engine:
    return wasinn.Engine(wasinn.Config(mode=mode, cache=cache is not None, cache_dir=cache))


def check(case: Case, modes: Sequence[str], cache: Path | None = None) -> Verdict:
    """Make the case's module and compare."""
    try:
        data = module_of(case)
    except Unusable as error:
        return Verdict(VerdictKind.UNUSABLE, str(error))
    # Our own modules make these canonical, and mutated ones have none.
    return check_module(data, case.seed, modes, cache, any_nans=case.source == "smith")


def check_module(
    data: bytes,
    seed: int,
    modes: Sequence[str],
    cache: Path | None = None,
    *,
    any_nans: bool = False,
) -> Verdict:
    """Run a module everywhere and compare.

    Args:
        data: the module.
        seed: for the arguments of the calls.
        modes: of our engine.
        cache: where compiled code is kept, if anywhere.
        any_nans: what wasmtime alone has otherwise is no finding in a module that brings floats
            to another width: the NaN that comes of that may be any of several.
    """
    try:
        calls = plan(data, seed)
        players: list[Player] = [WasmtimePlayer(_reference())]
        players += [WasinnPlayer(_engine(mode, cache)) for mode in modes]
        records = [player.play(data, calls) for player in players]
    except Unusable as error:
        return Verdict(VerdictKind.UNUSABLE, str(error))
    except wasinn.WasinnError as error:
        return Verdict(VerdictKind.DIFFERENT, f"{type(error).__name__}: {error}")
    why = _first_difference(records)
    if why is not None and any_nans and _among_modes(records[1:]) is None and resizes_floats(data):
        return Verdict(VerdictKind.UNUSABLE, f"it resizes floats, whose NaNs may differ: {why}")
    if why is not None:
        return Verdict(VerdictKind.DIFFERENT, why)
    return Verdict(VerdictKind.SAME, steps=len(records[0].steps))


def _first_difference(records: Sequence[Record]) -> str | None:
    reference, *ours = records
    for record in ours:
        why = difference(reference, record)
        if why is not None:
            return why
    return _among_modes(ours)


def _among_modes(records: Sequence[Record]) -> str | None:
    for record in records[1:]:
        why = difference(records[0], record, exactly=True)
        if why is not None:
            return why
    return None
