"""One case in every mode and in wasmtime, in this process. A crash is for the process's owner."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path

import wasmtime

import wasinn_runtime as wasinn
from tests.differential.cases import COMPARABLE, Case, Unusable, module_of
from tests.differential.players import WasinnPlayer, WasmtimePlayer, plan
from tests.differential.records import Record, common_steps, difference
from tests.differential.variants import VARIANTS
from wasinn_runtime.binary.code import decode_body
from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.engines.modes import FEATURES_OF_MODE
from wasinn_runtime.spec.features import ALL_FEATURES

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
    return COMPARABLE.intersection(*(FEATURES_OF_MODE[VARIANTS[name].mode] for name in modes))


@remembered
def _reference(*, canonical: bool = True) -> wasmtime.Engine:
    return WasmtimePlayer.engine(canonical=canonical)


@remembered
def _engine(mode: str, cache: Path | None) -> wasinn.Engine:
    return VARIANTS[mode].engine(cache)


def check(case: Case, modes: Sequence[str], cache: Path | None = None) -> Verdict:
    """Make the case's module and compare."""
    try:
        data = module_of(case)
    except Unusable as error:
        return Verdict(VerdictKind.UNUSABLE, str(error))
    return check_module(data, case.seed, modes, cache)


def check_module(
    data: bytes, seed: int, modes: Sequence[str], cache: Path | None = None
) -> Verdict:
    """Run a module everywhere and compare.

    A module that gives the reference other results when it leaves NaNs as the machine makes them
    is compared only up to there. With legacy exceptions our modes are compared with each other.

    Args:
        data: the module.
        seed: for the arguments of the calls.
        modes: of our engine.
        cache: where compiled code is kept, if anywhere.
    """
    try:
        calls = plan(data, seed)
        records = [
            WasinnPlayer(_engine(mode, cache), VARIANTS[mode]).play(data, calls) for mode in modes
        ]
        # Without the reference, the first of our own has to do.
        has_reference = not _has_legacy_exceptions(data)
        reference = WasmtimePlayer(_reference()).play(data, calls) if has_reference else records[0]
    except Unusable as error:
        return Verdict(VerdictKind.UNUSABLE, str(error))
    except wasinn.WasinnError as error:
        return Verdict(VerdictKind.DIFFERENT, f"{type(error).__name__}: {error}")
    why = _first_difference(reference, records)
    if why is None:
        return Verdict(VerdictKind.SAME, steps=len(reference.steps))
    if not has_reference:
        return Verdict(VerdictKind.DIFFERENT, why)
    # Any NaN that the reference gives is as good as another, and what depends on it as well.
    other = WasmtimePlayer(_reference(canonical=False)).play(data, calls)
    alike = common_steps(reference, other)
    if alike == len(reference.steps):
        return Verdict(VerdictKind.DIFFERENT, why)
    before = _first_difference(reference.first(alike), [r.first(alike) for r in records])
    if before is not None:
        return Verdict(VerdictKind.DIFFERENT, before)
    return Verdict(VerdictKind.UNUSABLE, f"it depends on which NaN arithmetic gives: {why}")


def _has_legacy_exceptions(data: bytes) -> bool:
    """Whether the reference can not run the module."""
    parsed = decode(data, "module", ALL_FEATURES)
    return any(
        row.feature == "legacy-exceptions"
        for number in range(len(parsed.code))
        for row, _, _ in decode_body(parsed, number).instructions
    )


def _first_difference(reference: Record, ours: Sequence[Record]) -> str | None:
    for record in ours:
        why = difference(reference, record)
        if why is not None:
            return why
    for record in ours[1:]:
        why = difference(ours[0], record, exactly=True)
        if why is not None:
            return why
    return None
