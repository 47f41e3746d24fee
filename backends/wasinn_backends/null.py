"""A backend that computes nothing: output i is input i. For tests, and to measure the host alone.

It is never chosen by itself: it reads the encoding ``null``, and any other encoding only where the
user routes that to it. Not a simulation of any accelerator.

Delays and faults on demand come from the options, and from the model itself where its first part
is a JSON object such as ``{"fault": "compute", "delay_s": 0.5}``.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from wasinn_host.nn.plugin import (
    ANY_ENCODING,
    Backend,
    Device,
    ErrorKind,
    ExecutionContext,
    Graph,
    ModelSource,
    Sample,
    Target,
    Tensor,
    TensorSpec,
    TensorType,
    WasiNnError,
)

__all__ = ["NullBackend"]

_FAULTS: Final = ("load", "create_context", "set_input", "compute", "get_output", "close")
_MAX_DELAY_S: Final = 3600.0
_MAX_INPUTS: Final = 1024


@dataclass(frozen=True, slots=True)
class _Plan:
    """What shall happen: sleep before each compute, and raise in a method."""

    delay_s: float = 0.0
    fault: str = ""

    @classmethod
    def parse(cls, values: Mapping[str, object], base: _Plan) -> _Plan:
        """Reads options or a model's JSON.

        Raises:
            WasiNnError: ``invalid_argument`` for an unknown name or a bad value.
        """
        unknown = sorted(set(values) - {"delay_s", "fault"})
        if unknown:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"null: unknown setting {unknown[0]!r}; there is: delay_s, fault",
            )
        fault = values.get("fault", base.fault)
        if fault not in ("", *_FAULTS):
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"null: unknown fault {fault!r}; there is: {', '.join(_FAULTS)}",
            )
        given = values.get("delay_s", base.delay_s)
        try:
            delay_s = float(given)  # type: ignore[arg-type]  # anything else raises
        except (TypeError, ValueError):
            delay_s = -1.0
        if not 0.0 <= delay_s <= _MAX_DELAY_S:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"null: delay_s: expected 0 to {_MAX_DELAY_S:.0f} seconds, got {given!r}",
            )
        return cls(delay_s, str(fault))

    def fail(self, method: str) -> None:
        """Raises what no host plans for, when this is the method to fail in."""
        if self.fault == method:
            raise ZeroDivisionError(f"null backend: fault on demand in {method}")


class NullBackend(Backend):
    """Echoes; see the module."""

    api_version = 1
    encodings = frozenset({"null", ANY_ENCODING})
    options: ClassVar[Mapping[str, str]] = {
        "delay_s": "seconds that each compute takes",
        "fault": f"method that raises: {', '.join(_FAULTS)}",
    }

    def __init__(self, options: Mapping[str, str]) -> None:
        self._plan = _Plan.parse(options, _Plan())

    def devices(self) -> Sequence[Device]:
        return (Device("null", Target.CPU, "echo, no computation"),)

    def load(self, source: ModelSource, device: Device) -> Graph:
        parts = source.read()
        plan = self._plan
        if parts and parts[0].startswith(b"{"):
            try:
                settings = json.loads(parts[0])
            except (ValueError, RecursionError) as error:
                raise WasiNnError(
                    ErrorKind.INVALID_ENCODING, f"null: the model is not JSON: {error}"
                ) from error
            plan = _Plan.parse(settings, plan)
        plan.fail("load")
        return _NullGraph(plan)

    def samples(self) -> Sequence[Sample]:
        tensors = (
            Tensor(TensorType.U8, (3,), memoryview(b"abc")),
            Tensor(TensorType.I32, (1, 2), memoryview(struct.pack("<2i", 3, -4))),
        )
        return (Sample("null", (b"{}",), tensors, tensors),)


class _NullGraph(Graph):
    def __init__(self, plan: _Plan) -> None:
        self._plan = plan

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return ()  # it takes whatever comes, so it can not say

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return ()

    def create_context(self) -> ExecutionContext:
        self._plan.fail("create_context")
        return _NullContext(self._plan)

    def close(self) -> None:
        self._plan.fail("close")


class _NullContext(ExecutionContext):
    """Inputs as they came, and those of them that the last compute made outputs."""

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self._inputs: dict[int, Tensor] = {}
        self._outputs: dict[int, Tensor] = {}
        self._cancelled = threading.Event()

    def set_input(self, index: int, tensor: Tensor) -> None:
        self._plan.fail("set_input")
        if index >= _MAX_INPUTS:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT, f"null: input {index}: expected 0 to {_MAX_INPUTS - 1}"
            )
        self._inputs[index] = Tensor(tensor.type, tensor.shape, memoryview(bytes(tensor.data)))

    def compute(self) -> None:
        plan = self._plan
        self._outputs = {}
        plan.fail("compute")
        if not self._inputs:
            raise WasiNnError(ErrorKind.INVALID_ARGUMENT, "null: no input is set")
        if plan.delay_s:
            self._cancelled.clear()
            if self._cancelled.wait(plan.delay_s):
                raise WasiNnError(ErrorKind.RUNTIME_ERROR, "null: compute was cancelled")
        # The tensors are never written to again: a later set_input makes new ones.
        self._outputs = dict(self._inputs)

    def cancel(self) -> None:
        self._cancelled.set()

    def get_output(self, index: int) -> Tensor:
        self._plan.fail("get_output")
        output = self._outputs.get(index)
        if output is None:
            known = ", ".join(map(str, sorted(self._outputs))) or "none, compute first"
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT, f"null: no output {index}; there is: {known}"
            )
        return output

    def close(self) -> None:
        self._inputs.clear()
        self._outputs = {}
