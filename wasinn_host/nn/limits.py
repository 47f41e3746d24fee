"""How much of WASI-NN one guest may use, and how the host's user configures it. Data only."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Final

from wasinn_host.nn.errors import near
from wasinn_runtime.errors import UsageError

__all__ = ["NnLimits"]


_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(frozen=True, slots=True)
class NnLimits:
    """Bounds for one guest. What goes beyond them is answered with ``too_large``.

    Attributes:
        graphs: graph handles alive at a time.
        contexts: execution contexts alive at a time.
        model_bytes: sum of the bytes of models the guest has loaded itself and not unloaded;
            named graphs, which the host loads, do not count.
        tensor_bytes: sum of the bytes of input tensors held by the guest's contexts.
        builders: parts of one model.
        rank: dimensions of one tensor. 32 is what numpy 1 can hold.
        name_bytes: length of a graph's name in UTF-8.
        config_bytes: length of what a guest gives along with a graph's name.
        configured_graphs: named graphs with such a configuration that the guest holds: the host may
            have to load the model once more for each.
        computes: computations that run at a time; others wait for their turn. None for any.
        compute_seconds: what all the guest's computations together may take, None for any. One that
            runs then is cancelled where its backend can do that.
    """

    graphs: int = 64
    contexts: int = 256
    model_bytes: int = 2 << 30
    tensor_bytes: int = 1 << 30
    builders: int = 64
    rank: int = 32
    name_bytes: int = 1024
    config_bytes: int = 1 << 20
    configured_graphs: int = 4
    computes: int | None = None
    compute_seconds: float | None = None

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if value is None and entry.default is None:
                continue
            kinds = (int, float) if entry.name == "compute_seconds" else int
            if isinstance(value, bool) or not isinstance(value, kinds) or not value >= 0:
                raise UsageError(
                    f"NnLimits.{entry.name}: expected a number of 0 or more, got {value!r}"
                )
        if self.computes == 0:
            raise UsageError("NnLimits.computes: expected at least 1, for none would ever run")

    @classmethod
    def parse(cls, texts: Iterable[str]) -> NnLimits:
        """Reads ``NAME=VALUE`` words; what none names keeps its default.

        Args:
            texts: such as ``graphs=4``, ``model-bytes=64M`` or ``compute-seconds=2.5``.

        Raises:
            UsageError: which word is wrong, and what it could have been.
        """
        names = {entry.name.replace("_", "-"): entry.name for entry in fields(cls)}
        values: dict[str, int | float] = {}
        for text in texts:
            word, _, value = text.partition("=")
            if word not in names:
                raise UsageError(f"limit {text!r}: unknown limit {word!r}; {near(word, [*names])}")
            if names[word] in values:
                raise UsageError(f"limit {text!r}: there is one for {word} already")
            values[names[word]] = _number(text, names[word], value)
        return cls(**values)  # type: ignore[arg-type]  # _number gives each what it takes


def _number(text: str, name: str, value: str) -> int | float:
    if name == "compute_seconds":
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            raise UsageError(f"limit {text!r}: expected seconds of 0 or more, for example 2.5")
        return seconds
    digits = value.rstrip("kKmMgG") if name.endswith("_bytes") else value
    unit = value[len(digits) :].lower()
    if not (digits.isascii() and digits.isdigit()) or unit not in _UNITS or len(digits) > 18:
        units = ", or one with k, M or G" if name.endswith("_bytes") else ""
        raise UsageError(f"limit {text!r}: expected a number of 0 or more{units}")
    return int(digits) * _UNITS[unit]
