"""The backend process: the real backend, and a thread for each graph and context that serves it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    check_path,
)
from wasinn_host.nn.errors import ErrorKind, PluginError, WasiNnError
from wasinn_host.nn.foreign import one_line
from wasinn_host.nn.isolation.shared_memory import SharedMemory
from wasinn_host.nn.isolation.wire import (
    PIECE,
    Call,
    Connection,
    Disconnected,
    Message,
    TensorFields,
)
from wasinn_host.nn.plugin import (
    Backend,
    Device,
    ExecutionContext,
    Graph,
    ModelSource,
    Streaming,
    Tensor,
    TensorSpec,
)
from wasinn_runtime.pipes import serving

__all__ = ["serve"]

# Outputs that come with the answer to compute: a message takes so many descriptors only.
_MOST_AT_ONCE = 32

Answering = Callable[[Iterator[int], Sequence[int]], Message]


def serve() -> NoReturn:
    """Opens the backend and serves connections until the host is gone."""
    source, sink = serving()
    control = Connection(socket.socket(fileno=os.dup(source.fileno())))
    sink.close()
    try:
        served = _Served(control.receive().text)
        control.send(Message(text=served.greeting()))
        while True:
            message = control.receive()
            if message.numbers[0] == Call.CANCEL:
                served.cancel(message.numbers[1])
            else:
                served.connect(Connection(socket.socket(fileno=message.descriptors[0])))
    except Disconnected:
        pass
    # Whatever still computes is of no use to anybody.
    os._exit(0)


class _Served:
    """The backend, and the contexts that can be cancelled."""

    def __init__(self, hello: Mapping[str, Any]) -> None:
        self._who = hello["who"]
        self._backend: Backend | None = None
        self._devices: dict[str, Device] = {}
        self._encodings: list[str] = []
        self._takes_config = False
        self._options: dict[str, str] = {}
        self._failure: dict[str, Any] | None = None
        self._contexts: dict[int, _ServedContext] = {}
        self._graphs: dict[int, Graph] = {}
        try:
            path_before = list(sys.path)
            loaded = EntryPoint("", hello["location"], "").load()
            check_path(path_before, self._who)
            cls = check_backend_class(loaded, self._who)
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
            self._takes_config = cls.takes_config
            self._options = {name: str(meaning) for name, meaning in cls.options.items()}

    def greeting(self) -> dict[str, Any]:
        if self._failure is not None:
            return self._failure
        devices = [{**asdict(d), "target": d.target.value} for d in self._devices.values()]
        return {
            "encodings": self._encodings,
            "takes_config": self._takes_config,
            "options": self._options,
            "devices": devices,
        }

    def cancel(self, number: int) -> None:
        context = self._contexts.get(number)
        if context is not None:
            context.cancel()

    def connect(self, connection: Connection) -> None:
        threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        """One graph or context, from its first message to its last."""
        served: _ServedGraph | _ServedContext | None = None
        try:
            while True:
                message = connection.receive()
                try:
                    if served is None:
                        served, answer = self._open(message)
                    else:
                        numbers = iter(message.numbers)
                        answer = served.calls[next(numbers)](numbers, message.descriptors)
                except BaseException as error:
                    answer = Message(text=_told(error))
                connection.send(answer)
        except Disconnected:
            pass
        finally:
            if isinstance(served, _ServedGraph):
                self._graphs.pop(served.number, None)
            elif served is not None:
                self._contexts.pop(served.number, None)
            if served is not None:
                served.close()
            connection.close()

    def _open(self, message: Message) -> tuple[_ServedGraph | _ServedContext, Message]:
        assert self._backend is not None
        call, number, *numbers = message.numbers
        if call == Call.CREATE_CONTEXT:
            graph = self._graphs[numbers[0]]
            context = check_context(graph.create_context(), self._who)
            served = _ServedContext(number, context, len(graph.outputs))
            self._contexts[number] = served
            return served, Message((int(isinstance(context, Streaming)),))
        text = message.text
        parts = tuple(map(_content, message.descriptors, numbers))
        config = bytes.fromhex(text["config"])
        source = ModelSource(text["encoding"], parts, tuple(map(Path, text["paths"])), config)
        graph = check_graph(self._backend.load(source, self._devices[text["device"]]), self._who)
        self._graphs[number] = graph
        answer = {
            "inputs": [_spec(spec) for spec in graph.inputs],
            "outputs": [_spec(spec) for spec in graph.outputs],
        }
        return _ServedGraph(number, graph), Message(text=answer)


class _ServedGraph:
    def __init__(self, number: int, graph: Graph) -> None:
        self.number = number
        self._graph: Graph | None = graph
        self.calls: dict[int, Answering] = {Call.CLOSE: self._close}

    def _close(self, _numbers: Iterator[int], _descriptors: Sequence[int]) -> Message:
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.close()
        return Message()

    def close(self) -> None:
        with contextlib.suppress(Exception):  # its host is gone, nobody is left to be told
            self._close(iter(()), ())


class _ServedContext:
    """A context, and the memory that its inputs and outputs go through."""

    def __init__(self, number: int, context: ExecutionContext, outputs: int) -> None:
        self.number = number
        self._context: ExecutionContext | None = context
        self._output_count = outputs
        self._inputs: dict[int, SharedMemory] = {}
        self._outputs: dict[int, SharedMemory] = {}
        self.calls: dict[int, Answering] = {
            Call.SET_INPUT: self._set_input,
            Call.COMPUTE: self._compute,
            Call.GET_OUTPUT: self._get_output,
            Call.CLOSE: self._close,
        }
        if isinstance(context, Streaming):
            self._stream = context
            self.calls[Call.COMPUTE_SINGLE] = self._compute_single
            self.calls[Call.FINI_SINGLE] = self._fini_single

    def cancel(self) -> None:
        cancel = getattr(self._context, "cancel", None)
        if cancel is not None:
            with contextlib.suppress(Exception):  # the host ends the process if it has to
                cancel()

    def _set_input(self, numbers: Iterator[int], descriptors: Sequence[int]) -> Message:
        self._take_inputs([TensorFields.read(numbers)], descriptors)
        return Message()

    def _compute(self, numbers: Iterator[int], descriptors: Sequence[int]) -> Message:
        """Takes inputs, computes, and gives outputs along: whoever computes will ask for them."""
        assert self._context is not None
        self._take_inputs([TensorFields.read(numbers) for _ in range(next(numbers))], descriptors)
        self._context.compute()
        told: list[int] = []
        passed: list[int] = []
        for index in range(min(self._output_count, _MOST_AT_ONCE)):
            # One that fails is asked for again, and tells then.
            with contextlib.suppress(Exception):
                self._give_output(index, told, passed)
        return Message(told, {}, passed)

    def _get_output(self, numbers: Iterator[int], _descriptors: Sequence[int]) -> Message:
        index = next(numbers)
        told: list[int] = []
        passed: list[int] = []
        self._give_output(index, told, passed)
        if index < PIECE:
            self._output_count = max(self._output_count, index + 1)
        return Message(told, {}, passed)

    def _compute_single(self, numbers: Iterator[int], descriptors: Sequence[int]) -> Message:
        self._take_inputs([TensorFields.read(numbers) for _ in range(next(numbers))], descriptors)
        self._stream.compute_single()
        return Message()

    def _fini_single(self, _numbers: Iterator[int], _descriptors: Sequence[int]) -> Message:
        self._stream.fini_single()
        return Message()

    def _close(self, _numbers: Iterator[int], _descriptors: Sequence[int]) -> Message:
        context, self._context = self._context, None
        if context is not None:
            context.close()
        return Message()

    def close(self) -> None:
        try:
            with contextlib.suppress(Exception):  # its host is gone, nobody is left to be told
                self._close(iter(()), ())
        finally:
            for memory in (*self._inputs.values(), *self._outputs.values()):
                memory.close()

    def _take_inputs(self, tensors: Sequence[TensorFields], descriptors: Sequence[int]) -> None:
        assert self._context is not None
        passed = iter(descriptors)
        for tensor in tensors:
            # All of them, whatever the backend says of the first: the host will not send them anew.
            if tensor.is_new:
                before = self._inputs.pop(tensor.which, None)
                if before is not None:
                    before.close()
                self._inputs[tensor.which] = SharedMemory.attach(next(passed))
        for tensor in tensors:
            data = self._inputs[tensor.which].view[: tensor.size_bytes]
            self._context.set_input(tensor.which, Tensor(tensor.type, tensor.shape, data))

    def _give_output(self, index: int, told: list[int], passed: list[int]) -> None:
        """Puts an output where the host sees it, and says so in a message's parts."""
        assert self._context is not None
        if index < PIECE:
            tensor = self._context.get_output(index)
        else:
            tensor = self._stream.get_output_single(index - PIECE)
        size = tensor.data.nbytes
        memory = self._outputs.get(index)
        is_new = memory is None or memory.size_bytes < size
        if memory is None or is_new:
            if memory is not None:
                memory.close()
            memory = self._outputs[index] = SharedMemory.create(size)
        memory.view[:size] = tensor.data
        told += TensorFields.of(index, tensor, is_new).numbers()
        if is_new:
            passed.append(memory.fd)


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
    return {"error": ErrorKind.RUNTIME_ERROR.value, "message": one_line(error)}
