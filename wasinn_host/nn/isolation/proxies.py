"""The host's side: a backend, graphs and contexts that stand for those in the backend process."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from wasinn_host.nn.errors import ErrorKind, PluginError, WasiNnError
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
    Quantization,
    Target,
    Tensor,
    TensorSpec,
    TensorType,
)
from wasinn_runtime.pipes import start

__all__ = ["IsolatedBackend"]

_PROGRAM: Final = "from wasinn_host.nn.isolation.served import serve; serve()"
_TYPES: Final = {tensor_type.value: tensor_type for tensor_type in TensorType}
_GRACE_S: Final = 0.5
"""How long a computation may go on after it was cancelled, until its process is ended."""


class IsolatedBackend(Backend):
    """A backend in a process of its own.

    Args:
        location: ``module:class`` of the real one.
        options: the user's.
        who: the plugin, as messages name it.
        patience_s: how long it may take to be opened at first; None for as long as it likes.

    Attributes:
        encodings: what the real one reads.
        options: what the real one can be told.

    Raises:
        PluginError: the real one can not be opened, not in that time, or breaks the contract.
        UsageError: this process does not know its Python.
    """

    api_version = 1

    def __init__(
        self,
        location: str,
        options: Mapping[str, str],
        who: str,
        patience_s: float | None = None,
    ) -> None:
        self._hello = {"location": location, "options": dict(options), "who": who}
        self._who = who
        self._lock = threading.Lock()
        self._is_closed = False
        self._process = _Process(self._hello, patience_s)
        greeting = self._process.greeting
        self.encodings = frozenset(greeting["encodings"])  # type: ignore[misc]  # of this one
        self.options = greeting["options"]  # type: ignore[misc]
        self.takes_config = bool(greeting["takes_config"])  # type: ignore[misc]
        self._devices = tuple(
            Device(**{**device, "target": Target(device["target"])})
            for device in greeting["devices"]
        )

    def devices(self) -> Sequence[Device]:
        return self._devices

    def load(self, source: ModelSource, device: Device) -> Graph:
        return _IsolatedGraph(self, source, device)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            self._process.close()

    def process(self) -> _Process:
        """The process, a new one if the last has ended.

        Raises:
            WasiNnError: ``runtime_error`` when there can be none.
        """
        with self._lock:
            if self._is_closed:
                raise WasiNnError(ErrorKind.RUNTIME_ERROR, f"{self._who}: closed by the host")
            if self._process.has_ended:
                self._process = _Process(self._hello)
            return self._process


class _Process:
    """One run of the backend process.

    Args:
        hello: which backend, and the user's options for it.
        patience_s: how long it may take until it says what it has.

    Attributes:
        greeting: what the backend said of itself.
    """

    def __init__(self, hello: Mapping[str, Any], patience_s: float | None = None) -> None:
        self._who = hello["who"]
        self._control, theirs = Connection.pair()
        self._control_lock = threading.Lock()
        self._started = threading.Event()
        self._failures: list[BaseException] = []
        self._child: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._is_late = False
        # The process is killed with the thread that started it, so that one lives as long.
        self._keeper = threading.Thread(
            target=self._keep, args=(theirs,), name="wasinn backend", daemon=True
        )
        self._keeper.start()
        self._started.wait()
        for failure in self._failures:
            self._control.close()
            raise PluginError(f"{self._who}: its process did not start: {failure}") from failure
        timer = threading.Timer(patience_s or 0, self._end_late)
        if patience_s is not None:
            timer.start()
        try:
            self._control.send(Message(text=hello))
            self.greeting = self._control.receive().text
        except Disconnected as error:
            why = f"it was not ready after {patience_s} s" if self._is_late else self.ending()
            raise PluginError(f"{self._who}: {why} while it was opened") from error
        finally:
            timer.cancel()
        if "error" in self.greeting:
            self.close()
            raise PluginError(str(self.greeting["message"]))

    @property
    def has_ended(self) -> bool:
        return self._child is None or self._child.returncode is not None  # somebody waits for it

    def ending(self) -> str:
        """How it ended, for messages. Waits for it, and makes sure that it does."""
        child = self._child
        if child is None:
            return "its process did not start"
        try:
            status = child.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return "its process answered no more and was ended"
        if status < 0:
            return f"its process was ended by {signal.Signals(-status).name}"
        return f"its process ended with status {status}"

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _end_late(self) -> None:
        self._is_late = True
        self.kill()

    def close(self) -> None:
        """Ends it, and waits until it has ended."""
        self.kill()
        self._keeper.join()

    def connect(self) -> tuple[Connection, int]:
        """A connection for one graph or context, and a number for it.

        Raises:
            Disconnected: the process is gone.
        """
        ours, theirs = Connection.pair()
        try:
            with theirs, self._control_lock:
                self._control.send(Message((Call.CONNECT,), {}, (theirs.fileno(),)))
        except BaseException:
            ours.close()
            raise
        return ours, next(self._numbers)

    def cancel(self, number: int) -> None:
        """Asks for a context's computation to end. Never blocks."""
        if self._control_lock.acquire(blocking=False):
            try:
                self._control.try_send(Message((Call.CANCEL, number)))
            finally:
                self._control_lock.release()

    def _keep(self, theirs: socket.socket) -> None:
        try:
            with theirs:
                self._child = start(_PROGRAM, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)
        except BaseException as error:
            self._failures.append(error)
            return
        finally:
            self._started.set()
        self._child.wait()
        self._control.shut()  # whoever waits for an answer need not wait for the lock
        with self._control_lock:
            self._control.close()


class _Remote:
    """A graph or context in one process, and the calls on it."""

    def __init__(self, process: _Process, who: str) -> None:
        self.process = process
        self._who = who
        try:
            self._connection, self.number = process.connect()
        except Disconnected as error:
            raise self._lost(error) from error

    def call(self, message: Message) -> Message:
        """Has something done there; the answer.

        Raises:
            WasiNnError: what the backend raised; or ``runtime_error``, the process is gone.
        """
        try:
            self._connection.send(message)
            answer = self._connection.receive()
        except Disconnected as error:
            raise self._lost(error) from error
        text = answer.text
        if "error" in text:
            for descriptor in answer.descriptors:
                os.close(descriptor)
            raise WasiNnError(_kind(text["error"]), str(text.get("message")))
        return answer

    @property
    def is_lost(self) -> bool:
        return self.process.has_ended

    def close(self) -> None:
        self._connection.close()

    def _lost(self, error: Disconnected) -> WasiNnError:
        return _Lost(
            ErrorKind.RUNTIME_ERROR,
            f"{self._who}: {self.process.ending()}; it is started again for the next call "
            "that needs it",
        )


class _Lost(WasiNnError):
    """The process is gone."""


class _IsolatedGraph(Graph):
    """A graph, loaded again in each new process."""

    def __init__(self, backend: IsolatedBackend, source: ModelSource, device: Device) -> None:
        self._backend = backend
        self._device = device
        self._encoding = source.encoding
        self._config = source.config
        self._paths = [str(path.absolute()) for path in source.paths]
        self._sizes = [len(part) for part in source.builders]
        self._parts: list[SharedMemory] = []
        self._lock = threading.Lock()
        self._remote: _Remote | None = None
        try:
            for part in source.builders:
                self._parts.append(_filled(part))
            answer = self._load()
        except BaseException:
            self._free()
            raise
        self._inputs = tuple(_spec(spec) for spec in answer["inputs"])
        self._outputs = tuple(_spec(spec) for spec in answer["outputs"])

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._outputs

    @property
    def who(self) -> str:
        return self._backend._who

    def create_context(self) -> ExecutionContext:
        remote, streams = self.remote_context()
        return (_IsolatedStream if streams else _IsolatedContext)(self, remote)

    def remote_context(self) -> tuple[_Remote, bool]:
        """A new context there, and whether it is a `Streaming` one."""
        graph = self.remote()
        remote = _Remote(graph.process, self.who)
        try:
            answer = remote.call(Message((Call.CREATE_CONTEXT, remote.number, graph.number)))
        except BaseException:
            remote.close()
            raise
        return remote, answer.numbers == (1,)

    def remote(self) -> _Remote:
        """Where it is loaded, now if it was lost."""
        with self._lock:
            if self._remote is None or self._remote.is_lost:
                self._load()
            assert self._remote is not None
            return self._remote

    def close(self) -> None:
        with self._lock:
            remote, self._remote = self._remote, None
            try:
                if remote is not None:
                    with contextlib.suppress(_Lost):
                        remote.call(Message((Call.CLOSE,)))
            finally:
                if remote is not None:
                    remote.close()
                self._free()

    def _load(self) -> Mapping[str, Any]:
        if self._remote is not None:
            self._remote.close()
            self._remote = None
        remote = _Remote(self._backend.process(), self.who)
        try:
            told = {
                "encoding": self._encoding,
                "device": self._device.id,
                "paths": self._paths,
                "config": self._config.hex(),
            }
            numbers = (Call.LOAD, remote.number, *self._sizes)
            descriptors = [part.fd for part in self._parts]
            answer = remote.call(Message(numbers, told, descriptors)).text
        except BaseException:
            remote.close()
            raise
        self._remote = remote
        return answer

    def _free(self) -> None:
        for part in self._parts:
            part.close()
        self._parts.clear()


class _IsolatedContext(ExecutionContext):
    """A context; a new one, without inputs, once its process was lost and an input is set.

    An input that fits what the graph says of it goes along with the next computation.
    """

    def __init__(self, graph: _IsolatedGraph, remote: _Remote) -> None:
        self._graph = graph
        self._remote: _Remote | None = remote
        self._inputs: dict[int, SharedMemory] = {}
        self._pending: dict[int, TensorFields] = {}
        self._memories: dict[int, SharedMemory] = {}
        self._outputs: dict[int, Tensor] = {}
        self._cancelled_at: float | None = None

    def set_input(self, index: int, tensor: Tensor) -> None:
        if self._remote is None or self._remote.is_lost:
            self._forget()
            self._remote, _ = self._graph.remote_context()
        specs = self._graph.inputs
        says_enough = index < len(specs) and specs[index].shape is not None
        if says_enough:
            specs[index].check(tensor, index)
        size = tensor.data.nbytes
        memory, before = self._inputs.get(index), self._pending.get(index)
        if memory is None or memory.size_bytes < size:
            fields = TensorFields.of(index, tensor, True)
            if memory is not None:
                memory.close()
            memory = self._inputs[index] = SharedMemory.create(size)
        else:
            fields = TensorFields.of(index, tensor, before is not None and before.is_new)
        memory.view[:size] = tensor.data
        self._pending[index] = fields
        if not says_enough:
            # Only the backend can tell whether it is right.
            self._call(Call.SET_INPUT, [self._pending.pop(index)])

    def compute(self) -> None:
        self._compute(Call.COMPUTE)

    def get_output(self, index: int) -> Tensor:
        tensor = self._outputs.get(index)
        if tensor is None:
            self._take_outputs(self._call(Call.GET_OUTPUT, (), index))
            tensor = self._outputs[index]
        return tensor

    def cancel(self) -> None:
        remote = self._remote
        if remote is None:
            return
        now = time.monotonic()
        since = self._cancelled_at
        if since is None:
            self._cancelled_at = now
        elif now - since > _GRACE_S:
            remote.process.kill()
        remote.process.cancel(remote.number)

    def close(self) -> None:
        try:
            if self._remote is not None:
                with contextlib.suppress(_Lost):
                    self._remote.call(Message((Call.CLOSE,)))
        finally:
            self._forget()

    def _compute(self, call: Call) -> None:
        self._outputs.clear()
        self._cancelled_at = None
        pending, self._pending = self._pending, {}
        answer = self._call(call, [*pending.values()], len(pending))
        self._take_outputs(answer)

    def _call(self, call: Call, tensors: Sequence[TensorFields], *numbers: int) -> Message:
        if self._remote is None:
            raise WasiNnError(
                ErrorKind.RUNTIME_ERROR,
                f"{self._graph.who}: the context went with its process; set its inputs again",
            )
        told = [call, *numbers]
        for tensor in tensors:
            told += tensor.numbers()
        passed = [self._inputs[tensor.which].fd for tensor in tensors if tensor.is_new]
        try:
            return self._remote.call(Message(told, {}, passed))
        except _Lost:
            self._forget()
            raise

    def _forget(self) -> None:
        remote, self._remote = self._remote, None
        if remote is not None:
            remote.close()
        self._outputs.clear()
        self._pending.clear()
        for memory in (*self._inputs.values(), *self._memories.values()):
            memory.close()
        self._inputs.clear()
        self._memories.clear()

    def _take_outputs(self, answer: Message) -> None:
        """Outputs in shared memory; what the process says of them is not trusted."""
        numbers, descriptors = iter(answer.numbers), iter(answer.descriptors)
        try:
            for first in numbers:
                told = TensorFields.read(itertools.chain((first,), numbers))
                index = told.which
                if told.is_new:
                    memory = SharedMemory.attach(next(descriptors))
                    before = self._memories.pop(index, None)
                    if before is not None:
                        before.close()
                    self._memories[index] = memory
                memory = self._memories[index]
                if told.size_bytes > memory.size_bytes:
                    raise ValueError("an output larger than its memory")
                data = memory.view[: told.size_bytes]
                self._outputs[index] = Tensor(told.type, told.shape, data)
        except (KeyError, ValueError, StopIteration, OSError, Disconnected) as error:
            raise PluginError(
                f"{self._graph.who}: its process answered what it must not: {error!r}"
            ) from error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


class _IsolatedStream(_IsolatedContext):
    """A context that computes piece by piece."""

    def compute_single(self) -> None:
        self._compute(Call.COMPUTE_SINGLE)

    def get_output_single(self, index: int) -> Tensor:
        return self.get_output(PIECE + index)

    def fini_single(self) -> None:
        self._outputs.clear()
        self._call(Call.FINI_SINGLE, ())


def _filled(part: bytes) -> SharedMemory:
    memory = SharedMemory.create(len(part))
    memory.view[:] = part
    return memory


def _spec(told: Mapping[str, Any]) -> TensorSpec:
    quantization = told["quantization"]
    return TensorSpec(
        str(told["name"]),
        _TYPES[told["type"]] if told["type"] else None,
        None if told["shape"] is None else tuple(told["shape"]),
        str(told["native_type"]),
        Quantization(**quantization) if quantization else None,
        bool(told["is_optional"]),
    )


def _kind(word: object) -> ErrorKind:
    try:
        return ErrorKind(word)
    except ValueError:
        return ErrorKind.RUNTIME_ERROR
