"""Backends for the tests of isolation: isolated ones with samples, and ones that go wrong."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

from tests.nn.wrong_backends import Context, Doubling, Good
from wasinn_backends.null import NullBackend
from wasinn_backends.onnx import OnnxBackend
from wasinn_host.nn.isolation import IsolatedBackend
from wasinn_host.nn.plugin import (
    Backend,
    Device,
    Graph,
    ModelSource,
    Sample,
    Tensor,
    TensorType,
)


class _Isolated(IsolatedBackend):
    """With the samples of the backend inside, which only the conformance kit asks for."""

    inside: ClassVar[type[Backend]]
    encodings: ClassVar[frozenset[str]]

    def __init__(self, options: Mapping[str, str]) -> None:
        where = f"{self.inside.__module__}:{self.inside.__qualname__}"
        super().__init__(where, options, f"isolated {self.inside.__name__}")

    def samples(self) -> Sequence[Sample]:
        return self.inside({}).samples()


class IsolatedNull(_Isolated):
    inside = NullBackend
    encodings = NullBackend.encodings
    options = NullBackend.options


class IsolatedOnnx(_Isolated):
    inside = OnnxBackend
    encodings = OnnxBackend.encodings
    options = OnnxBackend.options


class _Faulty(Context):
    """What it does is the first input byte: 1 ends the process, 2 hangs, 3 hangs without a GIL."""

    def compute(self) -> None:
        super().compute()
        assert self.input is not None
        what = self.input.data[0] if self.input.data.nbytes else 0
        if what == 1:
            signal.raise_signal(signal.SIGSEGV)
        elif what == 2:
            threading.Event().wait()
        elif what == 3:
            # Holds the lock that every thread of its process needs.
            ctypes.PyDLL(None).sleep(1000)
        elif what == 4:
            time.sleep(0.3)


class _FaultyGraph(Doubling):
    context = _Faulty


class Faulty(Good):
    graph = _FaultyGraph


class EndsOnLoad(Good):
    def look_at(self, model: bytes) -> None:
        os.abort()


class EndsOnImport(Good):
    def __init__(self, options: Mapping[str, str]) -> None:
        os._exit(3)


class EndsOnClose(Good):
    def load(self, source: object, device: object) -> Graph:
        return _EndsOnClose()


class _EndsOnClose(Doubling):
    def close(self) -> None:
        os.abort()


class _Where(Context):
    """Its output is the process it computes in, as text."""

    def compute(self) -> None:
        super().compute()
        text = str(os.getpid()).encode()
        self.output = Tensor(TensorType.U8, (len(text),), memoryview(text))


class _WhereGraph(Doubling):
    context = _Where


class Careful(Good):
    """Its guests' models are computed elsewhere; one of them ends the process."""

    isolates_guests = True
    graph = _WhereGraph

    def load(self, source: ModelSource, device: Device) -> Graph:
        if source.is_trusted:
            return self.graph()
        if source.builders == (b"END",):
            os.abort()
        return super().load(source, device)
