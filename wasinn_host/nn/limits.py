"""How much of WASI-NN one guest may use, and how the host's user configures it. Data only."""

from __future__ import annotations

from dataclasses import dataclass, fields

from wasinn_runtime.errors import UsageError

__all__ = ["NnLimits"]


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
    """

    graphs: int = 64
    contexts: int = 256
    model_bytes: int = 2 << 30
    tensor_bytes: int = 1 << 30
    builders: int = 64
    rank: int = 32
    name_bytes: int = 1024
    config_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not isinstance(value, int) or value < 0:
                raise UsageError(
                    f"NnLimits.{entry.name}: expected a number of 0 or more, got {value!r}"
                )
