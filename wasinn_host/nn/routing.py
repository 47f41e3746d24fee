"""Which device the host's user wants for what guests ask for. Data and its text form only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from wasinn_host.nn.errors import near
from wasinn_host.nn.plugin import Target
from wasinn_runtime.errors import UsageError

__all__ = ["TARGET_WORDS", "DeviceRule", "rule_for"]

#: What people may call a target.
TARGET_WORDS: Final = {target.value: target for target in Target} | {"npu": Target.TPU}


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """Sends what guests ask for to one backend, and perhaps to one device of it.

    Attributes:
        encoding: for models of this encoding only; empty for all.
        target: what the guest asks for.
        backend: the plugin's name.
        device: the device's id; empty for the first one of the target.
    """

    encoding: str
    target: Target
    backend: str
    device: str

    @classmethod
    def parse(cls, text: str) -> DeviceRule:
        """Reads ``[ENCODING:]TARGET=BACKEND[:DEVICE]``, for example ``gpu=openvino:gpu:1``.

        Raises:
            UsageError: says which part is wrong.
        """
        asked, equals, given = text.partition("=")
        encoding, colon, word = asked.rpartition(":")
        backend, _, device = given.partition(":")
        if not equals or not backend or given.endswith(":") or (colon and not encoding):
            raise UsageError(
                f"device {text!r}: expected [ENCODING:]TARGET=BACKEND[:DEVICE], "
                "for example gpu=onnx or onnx:cpu=openvino:cpu"
            )
        target = TARGET_WORDS.get(word)
        if target is None:
            raise UsageError(
                f"device {text!r}: unknown target {word!r}; {near(word, sorted(TARGET_WORDS))}"
            )
        return cls(encoding, target, backend, device)


def rule_for(rules: Iterable[DeviceRule], encoding: str, target: Target) -> DeviceRule | None:
    """The rule for an encoding and a target; one that names the encoding goes first."""
    fitting = [r for r in rules if r.target is target and r.encoding in ("", encoding)]
    return max(fitting, key=lambda rule: bool(rule.encoding), default=None)
