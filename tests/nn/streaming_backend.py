"""A backend that streams: it spells its prompt in capitals, one letter a piece.

A real plugin by the contract. What a guest configures is how many letters fit: ``{"letters": 4}``.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import ClassVar

from wasinn_host.nn.plugin import (
    Backend,
    Device,
    ErrorKind,
    ExecutionContext,
    Graph,
    ModelSource,
    Target,
    Tensor,
    TensorSpec,
    TensorType,
    WasiNnError,
)

PROMPT = TensorSpec("prompt", TensorType.U8, None)
MAX_PROMPT = 16


class StreamingBackend(Backend):
    """Reads the encoding ``ggml``; `configs` are those of all loads."""

    api_version = 1
    encodings = frozenset({"ggml"})
    takes_config = True
    configs: ClassVar[list[bytes]] = []

    def devices(self) -> Sequence[Device]:
        return (Device("cpu", Target.CPU, "letters"),)

    def load(self, source: ModelSource, device: Device) -> Graph:
        self.configs.append(source.config)
        try:
            settings = json.loads(source.config or b"{}")
        except ValueError as error:
            raise WasiNnError(ErrorKind.INVALID_ENCODING, f"no JSON: {error}") from error
        return _Graph(int(settings.get("letters", 100)))


class _Graph(Graph):
    def __init__(self, letters: int) -> None:
        self._letters = letters

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return (PROMPT,)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("text", TensorType.U8, (None,)),)

    def create_context(self) -> ExecutionContext:
        return _Context(self._letters)


def _text(data: bytes) -> Tensor:
    return Tensor(TensorType.U8, (len(data),), memoryview(data))


class _Context(ExecutionContext):
    def __init__(self, letters: int) -> None:
        self._letters = letters
        self._prompt = b""
        self._output: bytes | None = None
        self._at: int | None = None
        self._cancelled = threading.Event()

    def set_input(self, index: int, tensor: Tensor) -> None:
        if index != 0:
            raise WasiNnError(ErrorKind.INVALID_ARGUMENT, f"no input {index}")
        self._prompt = bytes(tensor.data)

    def compute(self) -> None:
        self._at = None
        self._output = self._prompt[: self._letters].upper()

    def get_output(self, index: int) -> Tensor:
        if index != 0 or self._output is None:
            raise WasiNnError(ErrorKind.INVALID_ARGUMENT, f"no output {index}")
        return _text(self._output)

    def compute_single(self) -> None:
        if len(self._prompt) > MAX_PROMPT:
            raise WasiNnError(ErrorKind.PROMPT_TOO_LONG, f"at most {MAX_PROMPT} letters")
        if self._prompt.startswith(b"wait"):
            self._cancelled.clear()
            self._cancelled.wait()
            raise WasiNnError(ErrorKind.RUNTIME_ERROR, "cancelled")
        at = -1 if self._at is None else self._at
        if at + 1 >= len(self._prompt):
            raise WasiNnError(ErrorKind.END_OF_SEQUENCE, "no more letters")
        if at + 1 >= self._letters:
            raise WasiNnError(ErrorKind.CONTEXT_FULL, f"{self._letters} letters are there")
        self._at = at + 1

    def get_output_single(self, index: int) -> Tensor:
        if index != 0 or self._at is None:
            raise WasiNnError(ErrorKind.INVALID_ARGUMENT, f"no piece of output {index}")
        return _text(self._prompt[self._at : self._at + 1].upper())

    def fini_single(self) -> None:
        self._at = None

    def cancel(self) -> None:
        self._cancelled.set()
