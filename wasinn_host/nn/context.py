"""The core model of WASI-NN for one guest: its graphs, its contexts, its limits. No ABI in here.

Codecs translate one ABI's pointers and numbers into these calls and `WasiNnError` into that ABI's
error numbers. Between this table and the backends there is room for wrappers: they implement
`Graph` and `ExecutionContext` around another one, and nothing here can tell.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from wasinn_host.nn.cancel import CancelWatch, GuestInterrupt
from wasinn_host.nn.checks import check_context
from wasinn_host.nn.errors import ErrorKind, OutputTooSmall, WasiNnError
from wasinn_host.nn.foreign import one_line
from wasinn_host.nn.graphs import GraphRegistry, SharedGraph
from wasinn_host.nn.handles import CONTEXT_TAG, GRAPH_TAG, HandleTable, next_owner
from wasinn_host.nn.limits import NnLimits
from wasinn_host.nn.plugin import (
    Cancellable,
    ExecutionContext,
    Graph,
    Streaming,
    Target,
    Tensor,
    TensorSpec,
    TensorType,
)

if TYPE_CHECKING:
    from wasinn_host.nn.compute_budget import ComputeBudget
    from wasinn_host.nn.quantized import FloatIo

__all__ = ["NnContext"]


class _Entry:
    """An execution context of the guest. The lock makes two threads on one context take turns."""

    __slots__ = ("cancellable", "context", "input_bytes", "is_closed", "lock", "shared")

    def __init__(self, context: ExecutionContext, shared: SharedGraph) -> None:
        self.context = context
        self.shared = shared
        self.lock = threading.Lock()
        self.input_bytes: dict[int, int] = {}
        self.cancellable: Cancellable | None = context if isinstance(context, Cancellable) else None
        self.is_closed = False


class NnContext:
    """All that one guest has of WASI-NN. Safe for the guest's threads.

    Args:
        graphs: the host's named graphs and backends, shared with other guests.
        limits: what this guest may use.
        float_io: whether the guest gives and gets floats where a model is quantised, see
            `wasinn_host.nn.quantized`.

    Attributes:
        last_error: what the latest failing call failed with; codecs note it, whichever ABI the call
            came through. Its ``__cause__`` is what the backend raised.
    """

    def __init__(
        self, graphs: GraphRegistry, limits: NnLimits | None = None, *, float_io: bool = False
    ) -> None:
        self._float_io = float_io
        self.limits = limits or NnLimits()
        self._registry = graphs
        owner = next_owner()
        self._graphs: HandleTable[SharedGraph] = HandleTable(GRAPH_TAG, owner, self.limits.graphs)
        self._contexts: HandleTable[_Entry] = HandleTable(CONTEXT_TAG, owner, self.limits.contexts)
        self._budget_lock = threading.Lock()
        self._model_bytes = 0
        self._tensor_bytes = 0
        self._configured = 0
        self._watches: dict[int, CancelWatch] = {}
        self._compute_budget = _compute_budget(self.limits)
        self.last_error: WasiNnError | None = None

    @property
    def model_bytes(self) -> int:
        """Bytes of the models that the guest loaded itself and still holds."""
        return self._model_bytes

    @property
    def compute_s(self) -> float | None:
        """Seconds that the guest's computations took; None when no limit has them counted."""
        return None if self._compute_budget is None else self._compute_budget.spent_s

    @property
    def tensor_bytes(self) -> int:
        """Bytes of the input tensors that the guest's contexts hold."""
        return self._tensor_bytes

    def load(self, builders: Sequence[memoryview], encoding: str, target: Target) -> int:
        """Loads a model from the guest's memory; the limits are checked before anything is copied.

        Args:
            builders: the model's parts, in guest memory.
            encoding: a backend's encoding, or ``autodetect``.
            target: where to run it.

        Returns:
            a graph handle.

        Raises:
            WasiNnError: ``too_large`` beyond a limit, else as `load_model`.
        """
        self._graphs.reserve_check()
        if len(builders) > self.limits.builders:
            raise WasiNnError(
                ErrorKind.TOO_LARGE,
                f"the model has {len(builders)} parts, the limit is {self.limits.builders}",
            )
        size = sum(view.nbytes for view in builders)
        with self._budget_lock:
            if self._model_bytes + size > self.limits.model_bytes:
                raise WasiNnError(
                    ErrorKind.TOO_LARGE,
                    f"a model of {size} bytes, with {self._model_bytes} held already, exceeds "
                    f"the guest's limit of {self.limits.model_bytes} bytes of models",
                )
            self._model_bytes += size
        try:
            # One copy, and the only one: what is checked must be what is loaded, whatever other
            # threads of the guest write meanwhile.
            parts = tuple(bytes(view) for view in builders)
            loaded = self._registry.load(encoding, target, parts)
        except BaseException:
            self._return_model_bytes(size)
            raise
        return self._add_graph(SharedGraph(loaded, lambda: self._return_model_bytes(size)))

    def load_by_name(self, name: str, config: bytes = b"") -> int:
        """A graph handle for one of the host's named graphs.

        Args:
            name: the registered one.
            config: what the guest wants of it, for the backend to read; empty for nothing.

        Raises:
            WasiNnError: ``not_found`` for an unknown name, ``invalid_argument`` for a config that
                its backend does not take, ``too_large`` beyond a limit, else what loading raises.
        """
        self._graphs.reserve_check()
        if not config:
            return self._add_graph(self._registry.get(name))
        with self._budget_lock:
            if self._configured == self.limits.configured_graphs:
                raise WasiNnError(
                    ErrorKind.TOO_LARGE,
                    f"the guest holds {self._configured} named graphs with a configuration of its "
                    "own, which is its limit",
                )
            self._configured += 1
        try:
            shared = self._registry.get(name, config)
        except BaseException:
            self._return_configured()
            raise
        return self._add_graph(shared.counted(self._return_configured))

    def init_execution_context(self, graph: int, *, float_io: bool = False) -> int:
        """A handle of a new context for a graph.

        Args:
            graph: its handle.
            float_io: whether this one converts floats, also if the guest's others do not.

        Raises:
            WasiNnError: ``invalid_argument`` for a wrong handle, ``too_large`` beyond the limit.
        """
        shared = self._graphs.get(graph).retain()
        try:
            self._contexts.reserve_check()
            with _backend_errors(shared, "create_context"):
                wrap = _float_io(shared.graph) if self._float_io or float_io else None
                context = check_context(shared.graph.create_context(), shared.who)
                if wrap is not None:
                    context = wrap.around(context)
            return self._contexts.add(_Entry(context, shared))
        except BaseException:
            shared.release()
            raise

    def set_input(self, handle: int, index: int, tensor: Tensor) -> None:
        """Copies a tensor into a context. See `ExecutionContext.set_input`.

        Raises:
            WasiNnError: ``invalid_argument`` for a wrong handle, ``too_large`` beyond the limit of
                tensor bytes, else what the backend raises.
        """
        entry = self._contexts.get(handle)
        with entry.lock:
            if entry.is_closed:
                raise _gone(handle)
            more = tensor.data.nbytes - entry.input_bytes.get(index, 0)
            if more:
                self._take_tensor_bytes(more)
            try:
                entry.context.set_input(index, tensor)
            except BaseException as error:
                self._return_tensor_bytes(more)
                _reraise(error, entry.shared, "set_input")
            if more:
                entry.input_bytes[index] = tensor.data.nbytes

    def compute(self, handle: int, interrupt: GuestInterrupt | None = None) -> None:
        """Runs a context's graph, until it is done or the guest is interrupted.

        Args:
            handle: the context.
            interrupt: the guest's; ends the computation where the backend can do that.

        Raises:
            WasiNnError: ``invalid_argument`` for a wrong handle, else what the backend raises.
        """
        entry = self._contexts.get(handle)
        with entry.lock:
            if entry.is_closed:
                raise _gone(handle)
            self._run(entry, entry.context.compute, "compute", interrupt)

    def compute_single(self, handle: int, interrupt: GuestInterrupt | None = None) -> None:
        """Computes the next piece of a context's outputs, as `compute`.

        Raises:
            WasiNnError: ``invalid_argument`` for a wrong handle or a backend that can not stream,
                ``end_of_sequence`` when there is no further piece, else what the backend raises.
        """
        entry = self._contexts.get(handle)
        with entry.lock:
            if entry.is_closed:
                raise _gone(handle)
            self._run(entry, _streaming(entry).compute_single, "compute_single", interrupt)

    def fini_single(self, handle: int) -> None:
        """Ends a run of `compute_single`.

        Raises:
            WasiNnError: ``invalid_argument`` for a wrong handle or a backend that can not stream.
        """
        entry = self._contexts.get(handle)
        with entry.lock:
            if entry.is_closed:
                raise _gone(handle)
            streaming = _streaming(entry)
            with _backend_errors(entry.shared, "fini_single"):
                streaming.fini_single()

    def get_output(self, handle: int, index: int) -> Tensor:
        """An output for host code: type, shape, and data that is a copy of its own.

        Raises:
            WasiNnError: ``invalid_argument`` for a wrong handle or index, or before `compute`.
        """
        entry = self._contexts.get(handle)
        with entry.lock:
            if entry.is_closed:
                raise _gone(handle)
            with _backend_errors(entry.shared, "get_output"):
                tensor = entry.context.get_output(index)
            return Tensor(tensor.type, tensor.shape, memoryview(bytes(tensor.data)))

    def copy_output(self, handle: int, index: int, out: memoryview) -> int:
        """Copies an output into the guest's buffer, once.

        Args:
            handle: the context.
            index: which output.
            out: the guest's buffer, format ``B``; what goes beyond the output stays untouched.

        Returns:
            bytes written.

        Raises:
            OutputTooSmall: nothing was written; it says how much is needed.
            WasiNnError: ``invalid_argument`` for a wrong handle or index, or before `compute`.
        """
        entry = self._contexts.get(handle)
        with entry.lock:
            if entry.is_closed:
                raise _gone(handle)
            return _copy(entry, entry.context.get_output, index, out, "get_output")

    def copy_output_single(self, handle: int, index: int, out: memoryview) -> int:
        """Copies the last piece of an output into the guest's buffer, as `copy_output`."""
        entry = self._contexts.get(handle)
        with entry.lock:
            if entry.is_closed:
                raise _gone(handle)
            get = _streaming(entry).get_output_single
            return _copy(entry, get, index, out, "get_output_single")

    def input_type(self, handle: int, index: int) -> TensorType | None:
        """The element type that a context's graph wants for an input; None where it says none.

        Raises:
            WasiNnError: ``invalid_argument`` for a wrong handle, else what the backend raises.
        """
        shared = self._contexts.get(handle).shared
        with _backend_errors(shared, "inputs"):
            inputs = shared.graph.inputs
            return inputs[index].type if index < len(inputs) else None

    def graph(self, handle: int) -> Graph:
        """The graph under a handle, for host code.

        Raises:
            WasiNnError: ``invalid_argument`` for a wrong handle.
        """
        return self._graphs.get(handle).graph

    def inputs(self, handle: int) -> tuple[TensorSpec, ...]:
        """What the graph under a handle says of its inputs.

        Raises:
            WasiNnError: ``invalid_argument`` for a wrong handle, else what the backend raises.
        """
        shared = self._graphs.get(handle)
        with _backend_errors(shared, "inputs"):
            return shared.graph.inputs

    def outputs(self, handle: int) -> tuple[TensorSpec, ...]:
        """What the graph under a handle says of its outputs, as `inputs`."""
        shared = self._graphs.get(handle)
        with _backend_errors(shared, "outputs"):
            return shared.graph.outputs

    def unload(self, handle: int) -> None:
        """Gives a graph handle back. Its contexts keep working.

        Raises:
            WasiNnError: ``invalid_argument`` for a wrong handle.
        """
        _release(self._graphs.remove(handle))

    def finalize_execution_context(self, handle: int) -> None:
        """Gives a context back, after waiting for another thread's call on it.

        Raises:
            WasiNnError: ``invalid_argument`` for a wrong handle.
        """
        self._drop_entry(self._contexts.remove(handle))

    def close(self) -> None:
        """Gives everything back. The guest must not run any more."""
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()
        if self._compute_budget is not None:
            self._compute_budget.close()
        for entry in self._contexts.clear():
            self._drop_entry(entry)
        for shared in self._graphs.clear():
            _release(shared)

    def _run(
        self,
        entry: _Entry,
        compute: Callable[[], None],
        method: str,
        interrupt: GuestInterrupt | None,
    ) -> None:
        if self._compute_budget is not None:
            compute = partial(self._compute_budget.run, compute, entry.context, interrupt)
        cancellable = entry.cancellable
        if interrupt is None or cancellable is None:
            with _backend_errors(entry.shared, method):
                compute()
            return
        watch = self._watches.get(id(interrupt)) or self._watch(interrupt)
        is_free_to_run = watch.enter(cancellable)
        try:
            if not is_free_to_run:
                raise WasiNnError(ErrorKind.RUNTIME_ERROR, "the guest is being stopped")
            compute()
        except BaseException as error:
            _reraise(error, entry.shared, method)
        finally:
            watch.leave(cancellable)

    def _add_graph(self, shared: SharedGraph) -> int:
        try:
            return self._graphs.add(shared)
        except BaseException:
            shared.release()
            raise

    def _drop_entry(self, entry: _Entry) -> None:
        with entry.lock:
            entry.is_closed = True
            self._return_tensor_bytes(sum(entry.input_bytes.values()))
            try:
                with _backend_errors(entry.shared, "close"):
                    entry.context.close()
            finally:
                _release(entry.shared)

    def _return_model_bytes(self, size: int) -> None:
        with self._budget_lock:
            self._model_bytes -= size

    def _return_configured(self) -> None:
        with self._budget_lock:
            self._configured -= 1

    def _return_tensor_bytes(self, size: int) -> None:
        with self._budget_lock:
            self._tensor_bytes -= size

    def _take_tensor_bytes(self, more: int) -> None:
        with self._budget_lock:
            total = self._tensor_bytes + more
            if more > 0 and total > self.limits.tensor_bytes:
                raise WasiNnError(
                    ErrorKind.TOO_LARGE,
                    f"{more} more bytes of input tensors, with {self._tensor_bytes} held already, "
                    f"exceed the guest's limit of {self.limits.tensor_bytes} bytes",
                )
            self._tensor_bytes = total

    def _watch(self, interrupt: GuestInterrupt) -> CancelWatch:
        with self._budget_lock:
            return self._watches.setdefault(id(interrupt), CancelWatch(interrupt))


def _gone(handle: int) -> WasiNnError:
    """Another thread gave the context back while this one waited for its turn."""
    return WasiNnError(
        ErrorKind.INVALID_ARGUMENT, f"{handle:#x} is stale: that context was given back"
    )


def _streaming(entry: _Entry) -> Streaming:
    if not isinstance(entry.context, Streaming):
        raise WasiNnError(
            ErrorKind.INVALID_ARGUMENT,
            f"{entry.shared.who}: computes all at once, it can not stream; call compute",
        )
    return entry.context


def _copy(
    entry: _Entry, get: Callable[[int], Tensor], index: int, out: memoryview, method: str
) -> int:
    try:
        data = get(index).data
        size = data.nbytes
        if size > out.nbytes:
            raise OutputTooSmall(size, out.nbytes, index)
        out[:size] = data
    except BaseException as error:
        _reraise(error, entry.shared, method)
    return size


def _compute_budget(limits: NnLimits) -> ComputeBudget | None:
    if limits.computes is None and limits.compute_seconds is None:
        return None
    from wasinn_host.nn.compute_budget import ComputeBudget

    return ComputeBudget(limits.computes, limits.compute_seconds)


def _float_io(graph: Graph) -> FloatIo | None:
    if all(spec.quantization is None for spec in (*graph.inputs, *graph.outputs)):
        return None
    from wasinn_host.nn.quantized import FloatIo  # it needs numpy, which takes long to import

    return FloatIo(graph)


def _release(shared: SharedGraph) -> None:
    with _backend_errors(shared, "close"):
        shared.release()


def _reraise(error: BaseException, shared: SharedGraph, method: str) -> NoReturn:
    """Raises what a backend raised as the guest's error, whatever it was, chained to it.

    Interrupts of the host's user (KeyboardInterrupt, SystemExit) stay what they are.
    """
    if isinstance(error, WasiNnError) or not isinstance(error, Exception):
        raise error
    if isinstance(error, MemoryError):
        raise WasiNnError(
            ErrorKind.TOO_LARGE, f"{shared.who}: {method}() ran out of memory"
        ) from error
    raise WasiNnError(
        ErrorKind.RUNTIME_ERROR, f"{shared.who}: {method}() failed: {one_line(error)}"
    ) from error


class _backend_errors:  # noqa: N801  (reads as a phrase: with _backend_errors(...))
    """Passes whatever a backend raises inside the block through `_reraise`."""

    __slots__ = ("_method", "_shared")

    def __init__(self, shared: SharedGraph, method: str) -> None:
        self._shared = shared
        self._method = method

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            _reraise(error, self._shared, self._method)
