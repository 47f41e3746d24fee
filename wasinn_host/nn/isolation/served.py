"""The backend process: the real backend, and a thread for each graph and context that serves it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, NoReturn

from wasinn_host.nn.checks import (
    check_backend_class,
    check_context,
    check_devices,
    check_graph,
    check_option_names,
)
from wasinn_host.nn.errors import ErrorKind, PluginError, WasiNnError
from wasinn_host.nn.isolation.shared_memory import SharedMemory
from wasinn_host.nn.isolation.wire import Connection, Disconnected
from wasinn_host.nn.plugin import (
    Backend,
    Device,
    ExecutionContext,
    Graph,
    ModelSource,
    Tensor,
    TensorSpec,
    TensorType,
)
from wasinn_runtime.pipes import serving

__all__ = ["serve"]

# Outputs that come with the answer to compute: a message takes so many descriptors only.
_MOST_AT_ONCE = 32

_TYPES = {tensor_type.value: tensor_type for tensor_type in TensorType}

Answer = tuple[dict[str, Any], list[int]]


def serve() -> NoReturn:
    """Opens the backend and serves connections until the host is gone."""
    source, sink = serving()
    control = Connection(socket.socket(fileno=os.dup(source.fileno())))
    sink.close()
    try:
        hello, _ = control.receive()
        served = _Served(hello)
        control.send(served.greeting())
        while True:
            message, descriptors = control.receive()
            if "cancel" in message:
                served.cancel(message["cancel"])
            else:
                served.connect(Connection(socket.socket(fileno=descriptors[0])))
    except Disconnected:
        pass
    # Whatever still computes is of no use to anybody.
    os._exit(0)


class _Served:
    """The backend, and the contexts that can be cancelled."""

    def __init__(self, hello: dict[str, Any]) -> None:
        self._who = hello["who"]
        self._backend: Backend | None = None
        self._devices: dict[str, Device] = {}
        self._encodings: list[str] = []
        self._failure: dict[str, Any] | None = None
        self._contexts: dict[int, _ServedContext] = {}
        self._graphs: dict[int, Graph] = {}
        try:
            cls = check_backend_class(EntryPoint("", hello["location"], "").load(), self._who)
            check_option_names(cls, hello["options"], self._who)
            self._backend = cls(hello["options"])
            devices = check_devices(self._backend.devices(), self._who)
        except PluginError as error:
            self._failure = _told(error)
        except BaseException as error:  # whatever a plugin raises, SystemExit too
            told = _told(error)
            self._failure = {**told, "message": f"{self._who}: {told['message']}"}
        else:
            self._devices = {device.id: device for device in devices}
            self._encodings = sorted(cls.encodings)

    def greeting(self) -> dict[str, Any]:
        if self._failure is not None:
            return self._failure
        devices = [{**asdict(d), "target": d.target.value} for d in self._devices.values()]
        return {"encodings": self._encodings, "devices": devices}

    def cancel(self, number: int) -> None:
        context = self._contexts.get(number)
        if context is not None:
            context.cancel()

    def connect(self, connection: Connection) -> None:
        threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        """One graph or context, from its first message to its last."""
        with_calls: _ServedGraph | _ServedContext | None = None
        try:
            while True:
                message, descriptors = connection.receive()
                try:
                    if with_calls is None:
                        with_calls, answer = self._open(message, descriptors)
                    else:
                        call: Callable[..., Answer] = with_calls.calls[message["call"]]
                        answer = call(message, descriptors)
                except BaseException as error:
                    answer = _told(error), []
                connection.send(*answer)
        except Disconnected:
            pass
        finally:
            if isinstance(with_calls, _ServedGraph):
                self._graphs.pop(with_calls.number, None)
            elif with_calls is not None:
                self._contexts.pop(with_calls.number, None)
            if with_calls is not None:
                with_calls.close()
            connection.close()

    def _open(
        self, message: dict[str, Any], descriptors: list[int]
    ) -> tuple[_ServedGraph | _ServedContext, Answer]:
        assert self._backend is not None
        number = message["number"]
        if message["call"] == "load":
            parts = tuple(
                _content(fd, size) for fd, size in zip(descriptors, message["sizes"], strict=True)
            )
            source = ModelSource(message["encoding"], parts, tuple(map(Path, message["paths"])))
            device = self._devices[message["device"]]
            graph = check_graph(self._backend.load(source, device), self._who)
            self._graphs[number] = graph
            answer = {
                "inputs": [_spec(spec) for spec in graph.inputs],
                "outputs": [_spec(spec) for spec in graph.outputs],
            }
            return _ServedGraph(number, graph), (answer, [])
        graph = self._graphs[message["graph"]]
        context = check_context(graph.create_context(), self._who)
        served = _ServedContext(number, context, len(graph.outputs))
        self._contexts[number] = served
        return served, ({}, [])


class _ServedGraph:
    def __init__(self, number: int, graph: Graph) -> None:
        self.number = number
        self.graph: Graph | None = graph
        self.calls: dict[str, Callable[..., Answer]] = {"close": self._close}

    def _close(self, _message: dict[str, Any], _descriptors: list[int]) -> Answer:
        graph, self.graph = self.graph, None
        if graph is not None:
            graph.close()
        return {}, []

    def close(self) -> None:
        with contextlib.suppress(Exception):  # its host is gone, nobody is left to be told
            self._close({}, [])


class _ServedContext:
    """A context, and the memory that its inputs and outputs go through."""

    def __init__(self, number: int, context: ExecutionContext, outputs: int) -> None:
        self.number = number
        self.context: ExecutionContext | None = context
        self._output_count = outputs
        self._inputs: dict[int, SharedMemory] = {}
        self._outputs: dict[int, SharedMemory] = {}
        self.calls: dict[str, Callable[..., Answer]] = {
            "set_input": self._set_input,
            "compute": self._compute,
            "get_output": self._get_output,
            "close": self._close,
        }

    def cancel(self) -> None:
        cancel = getattr(self.context, "cancel", None)
        if cancel is not None:
            with contextlib.suppress(Exception):  # the host ends the process if it has to
                cancel()

    def _set_input(self, message: dict[str, Any], descriptors: list[int]) -> Answer:
        assert self.context is not None
        index = message["index"]
        if descriptors:
            before = self._inputs.pop(index, None)
            if before is not None:
                before.close()
            self._inputs[index] = SharedMemory.attach(descriptors[0])
        data = self._inputs[index].view[: message["size"]]
        shape = tuple(message["shape"])
        self.context.set_input(index, Tensor(_TYPES[message["type"]], shape, data))
        return {}, []

    def _compute(self, _message: dict[str, Any], _descriptors: list[int]) -> Answer:
        """Computes, and gives the outputs along, since whoever computes will ask for them."""
        assert self.context is not None
        self.context.compute()
        outputs, descriptors = [], []
        for index in range(min(self._output_count, _MOST_AT_ONCE)):
            try:
                answer, passed = self._get_output({"index": index}, [])
            except Exception:
                # Asking for it will tell.
                answer, passed = {}, []
            outputs.append(answer)
            descriptors += passed
        return {"outputs": outputs}, descriptors

    def _get_output(self, message: dict[str, Any], _descriptors: list[int]) -> Answer:
        assert self.context is not None
        index = message["index"]
        tensor = self.context.get_output(index)
        self._output_count = max(self._output_count, index + 1)
        size = tensor.data.nbytes
        memory = self._outputs.get(index)
        descriptors = []
        if memory is None or memory.size_bytes < size:
            if memory is not None:
                memory.close()
            memory = self._outputs[index] = SharedMemory.create(size)
            descriptors = [memory.fd]
        memory.view[:size] = tensor.data
        answer = {
            "type": tensor.type.value,
            "shape": list(tensor.shape),
            "size": size,
            "is_new": bool(descriptors),
        }
        return answer, descriptors

    def _close(self, _message: dict[str, Any], _descriptors: list[int]) -> Answer:
        context, self.context = self.context, None
        if context is not None:
            context.close()
        return {}, []

    def close(self) -> None:
        try:
            with contextlib.suppress(Exception):  # its host is gone, nobody is left to be told
                self._close({}, [])
        finally:
            for memory in (*self._inputs.values(), *self._outputs.values()):
                memory.close()


def _content(fd: int, size: int) -> bytes:
    memory = SharedMemory.attach(fd)
    try:
        return bytes(memory.view[:size])
    finally:
        memory.close()


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {**asdict(spec), "type": spec.type.value if spec.type else None}


def _told(error: BaseException) -> dict[str, Any]:
    if isinstance(error, WasiNnError):
        return {"error": error.kind.value, "message": error.message}
    if isinstance(error, MemoryError):
        return {"error": ErrorKind.TOO_LARGE.value, "message": "not enough memory"}
    text = " ".join(str(error).split())
    name = type(error).__name__
    return {
        "error": ErrorKind.RUNTIME_ERROR.value,
        "message": f"{name}: {text}" if text else name,
    }
