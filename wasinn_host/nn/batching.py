"""Batching: computations of many guests on one graph, at about the same time, become one.

It wraps a graph and knows no backend. Requests go together along the first axis if all else of
their shapes is equal; nothing is padded. A graph is batched if each input and output says that its
first axis may have any size, and if the first batch gives each request what it gets alone. Whatever
is different passes through as it is.

A request that finds nobody else is computed at once, in its guest's thread. Those that come
meanwhile wait for the next batch, and that one waits a little for more if the last had several.
When a batch fails, each request is computed alone: one guest's mistake is not another's error.

Not every device gains: one that computes several requests side by side may lose. So from time to
time a few requests go as they would without batching, and what was faster goes on.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.plugin import (
    Cancellable,
    ExecutionContext,
    Graph,
    Streaming,
    Tensor,
    TensorSpec,
)
from wasinn_host.nn.tensors import difference
from wasinn_runtime.errors import UsageError

__all__ = ["Batching", "batched"]

# Requests with batches before the first few without; those few; and requests until the next trial.
_FIRST: Final = 64
_TRIAL: Final = 2 * (os.cpu_count() or 1)
_OFTEN: Final = 2048
# A batch's sums may be added in another order than a single row's.
_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Batching:
    """How much goes into one batch.

    Attributes:
        max: requests in one batch.
        wait_s: how long a batch waits for more requests, in seconds.
    """

    max: int = 32
    wait_s: float = 0.002

    def __post_init__(self) -> None:
        if not 1 <= self.max <= 1 << 16:
            raise UsageError(f"batching: max: expected 1 to 65536, got {self.max}")
        if not 0 <= self.wait_s <= 60:
            raise UsageError(f"batching: wait: expected 0 to 60 s, got {self.wait_s}")

    @classmethod
    def parse(cls, text: str) -> Batching:
        """Reads ``max=32,wait=2ms``; each part may be left out.

        Raises:
            UsageError: says what is wrong.
        """
        known: dict[str, float] = {}
        for part in text.split(","):
            name, equals, value = part.partition("=")
            unit = next((u for u in ("us", "ms", "s") if name == "wait" and value.endswith(u)), "")
            try:
                number = float(value.removesuffix(unit))
            except ValueError:
                number = math.nan
            if name not in ("max", "wait") or not equals or not math.isfinite(number):
                raise UsageError(
                    f"batching {text!r}: expected max=REQUESTS,wait=TIME, for example "
                    "max=32,wait=2ms"
                )
            if name == "wait" and not unit:
                raise UsageError(f"batching {text!r}: wait needs a unit: us, ms or s")
            known[name] = number * {"us": 1e-6, "ms": 1e-3}.get(unit, 1.0)
        default = cls()
        return cls(int(known.get("max", default.max)), known.get("wait", default.wait_s))


def batched(graph: Graph, batching: Batching) -> Graph:
    """The graph with batching, or as it is where it can not be batched."""
    specs = (*graph.inputs, *graph.outputs)
    if not graph.inputs or not graph.outputs or not all(map(_is_open, specs)):
        return graph
    return _BatchedGraph(graph, batching)


def _is_open(spec: TensorSpec) -> bool:
    return spec.type is not None and bool(spec.shape) and (spec.shape or (0,))[0] is None


class _Request:
    """One guest's inputs on their way to becoming outputs.

    Attributes:
        goes_through: whether its guest's thread computes it, beside others.
        is_alone: whether its guest's thread computes it, and nobody else computes.
    """

    __slots__ = (
        "done",
        "error",
        "goes_through",
        "inputs",
        "is_alone",
        "is_given_up",
        "outputs",
    )

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        self.inputs = inputs
        self.outputs: tuple[Tensor, ...] = ()
        self.error: BaseException | None = None
        self.is_given_up = False
        self.goes_through = False
        self.is_alone = False
        self.done = threading.Event()

    @property
    def rows(self) -> int:
        return self.inputs[0].shape[0]

    @property
    def kind(self) -> object:
        """Equal for requests that may go together; a value of its own for one that may not."""
        if self.rows == 0 or any(tensor.shape[0] != self.rows for tensor in self.inputs):
            return self
        return tuple(tensor.shape[1:] for tensor in self.inputs)


class _Pace:
    """Which is faster, with batches or without: some requests of each are timed, now and then.

    Only what happens while two or more requests are under way counts. Its owner holds a lock.

    Attributes:
        is_batching: what is done now.
        is_trial: whether that is what was slower before.
    """

    def __init__(self) -> None:
        self.is_batching = True
        self.is_trial = False
        self._goal = _FIRST
        self._admitted = 0
        self._rates = {True: 0.0, False: 0.0}
        self._under_way = 0
        self._since = 0.0
        self._busy_s = 0.0
        self._done = 0
        self._ended = 0

    def begin(self) -> None:
        """A request comes."""
        self._under_way += 1
        if self._under_way == 2:
            self._since = time.perf_counter()

    def goes_through(self) -> bool:
        """Whether one more may go as it would without batching."""
        if self.is_batching or (self.is_trial and self._admitted >= self._goal):
            return False
        self._admitted += 1
        return True

    def end(self, count: int, went_through: bool) -> None:
        """Requests are done."""
        now = time.perf_counter()
        counts = self._under_way > 1
        if counts:
            self._busy_s += now - self._since
            self._since = now
        self._under_way -= count
        if went_through is not self.is_batching:
            self._ended += count
            self._done += count * counts
        # A trial also ends when some of its requests had no company any more.
        if self._done >= self._goal or (self.is_trial and self._ended >= self._goal):
            self._decide()

    def restart(self) -> None:
        """What was measured so far does not count."""
        self._busy_s, self._done, self._ended, self._admitted = 0.0, 0, 0, 0
        self._since = time.perf_counter()

    def stop(self) -> None:
        """No batches any more."""
        self.is_batching, self.is_trial, self._goal = False, False, sys.maxsize

    def _decide(self) -> None:
        self._rates[self.is_batching] = self._done / max(self._busy_s, 1e-9)
        if self.is_trial:
            self.is_batching = self._rates[True] >= self._rates[False]
            self.is_trial, self._goal = False, _OFTEN
        else:
            self.is_batching = not self.is_batching
            self.is_trial, self._goal = True, _TRIAL
        self.restart()


class _BatchedGraph(Graph):
    def __init__(self, graph: Graph, batching: Batching) -> None:
        self._graph = graph
        self._batching = batching
        self._changed = threading.Condition()
        self._pace = _Pace()
        self._waiting: list[_Request] = []
        self._is_busy = False
        self._through = 0
        self._last_size = 1
        self._is_closed = False
        self._worker: _Worker | None = None

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._graph.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._graph.outputs

    def create_context(self) -> ExecutionContext:
        own = self._graph.create_context()
        # What is computed piece by piece can not wait for others.
        return own if isinstance(own, Streaming) else _BatchedContext(self, own)

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            worker = self._worker
            self._changed.notify_all()
        try:
            if worker is not None:
                worker.close()
        finally:
            self._graph.close()

    def enter(self, request: _Request) -> bool:
        """Has a request computed, and waits until it is, or is given up.

        Returns:
            Whether the caller is to compute it instead, and to call `leave` then.
        """
        with self._changed:
            pace = self._pace
            pace.begin()
            request.goes_through = pace.goes_through()
            request.is_alone = not request.goes_through and (
                pace.is_batching and not (self._is_busy or self._waiting) and self._last_size == 1
            )
            if request.goes_through:
                self._through += 1
                return True
            if request.is_alone:
                self._is_busy = True
                return True
            if self._worker is None:
                self._worker = _Worker(self, self._graph)
            self._waiting.append(request)
            self._changed.notify_all()
        request.done.wait()
        return request.goes_through

    def leave(self, request: _Request) -> None:
        """The caller has computed a request."""
        with self._changed:
            if request.goes_through:
                self._through -= 1
            else:
                self._is_busy = False
                self._last_size = 1
            self._pace.end(1, request.goes_through)
            self._changed.notify_all()

    def give_up(self, request: _Request) -> None:
        """Lets a request end now. Its batch goes on, unless nobody wants it any more."""
        request.error = WasiNnError(ErrorKind.RUNTIME_ERROR, "the computation was cancelled")
        request.is_given_up = True
        request.done.set()
        worker = self._worker
        if worker is not None:
            worker.cancel_unwanted()

    def collect(self, is_proven: bool) -> list[_Request]:
        """The next batch, once there is one and nobody computes; empty when the graph closes.

        Args:
            is_proven: whether batches are known to give what single requests do. Until then they
                have two, since those are computed once more.
        """
        most = self._batching.max if is_proven else min(2, self._batching.max)
        with self._changed:
            while not self._is_closed and not self._is_turn():
                self._changed.wait()
            if self._last_size > 1:
                end = time.monotonic() + self._batching.wait_s
                while len(self._waiting) < most and not self._is_closed:
                    left = end - time.monotonic()
                    if left <= 0:
                        break
                    self._changed.wait(left)
            if self._is_closed:
                return []
            kind = self._waiting[0].kind
            batch = [each for each in self._waiting if each.kind == kind][:most]
            taken = set(map(id, batch))
            self._waiting = [each for each in self._waiting if id(each) not in taken]
            self._is_busy = True
            return batch

    def computed(self, size: int, was_proof: bool) -> None:
        """Lets the next ones begin, after so many requests at once."""
        with self._changed:
            self._is_busy = False
            self._last_size = size
            self._pace.end(size, False)
            if was_proof:
                self._pace.restart()
            self._changed.notify_all()

    def stop(self) -> None:
        """Makes no batches any more."""
        with self._changed:
            self._pace.stop()
            self._changed.notify_all()

    def _is_turn(self) -> bool:
        """Whether a batch may begin. Requests that are to go through are sent on their way."""
        while self._waiting and self._pace.goes_through():
            request = self._waiting.pop(0)
            if request.is_given_up:
                self._pace.end(1, True)
                continue
            self._through += 1
            request.goes_through = True
            request.done.set()
        in_trial = self._through > 0 and not self._pace.is_batching
        return bool(self._waiting) and not self._is_busy and not in_trial


class _Worker:
    """The thread that computes batches, and its context."""

    def __init__(self, queue: _BatchedGraph, graph: Graph) -> None:
        self._queue = queue
        self._graph = graph
        self._context = graph.create_context()
        self._output_count = len(graph.outputs)
        self._batch: list[_Request] = []
        self._is_proven = False
        self._thread = threading.Thread(target=self._loop, name="wasinn batching", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._thread.join()
        self._context.close()

    def cancel_unwanted(self) -> None:
        batch = self._batch
        if batch and all(each.is_given_up for each in batch):
            context = self._context
            if isinstance(context, Cancellable):
                context.cancel()

    def _loop(self) -> None:
        while taken := self._queue.collect(self._is_proven):
            was_proven = self._is_proven
            self._batch = batch = [each for each in taken if not each.is_given_up]
            try:
                if len(batch) > 1:
                    self._compute_together(batch)
                else:
                    self._compute_each(batch)
            finally:
                self._batch = []
                self._queue.computed(len(taken), self._is_proven is not was_proven)
                for each in batch:
                    each.done.set()

    def _compute_each(self, batch: Sequence[_Request]) -> None:
        for request in batch:
            if not request.is_given_up:
                try:
                    request.outputs = self._computed(request.inputs)
                except BaseException as error:
                    request.error = request.error or error

    def _compute_together(self, batch: Sequence[_Request]) -> None:
        inputs = tuple(
            replace(
                tensor,
                shape=(sum(each.rows for each in batch), *tensor.shape[1:]),
                data=memoryview(b"".join(each.inputs[index].data for each in batch)),
            )
            for index, tensor in enumerate(batch[0].inputs)
        )
        try:
            shares = self._shared_out(self._computed(inputs), [each.rows for each in batch])
        except Exception:
            # Somebody's input is wrong, or it is too much at a time: each is told of its own.
            self._compute_each(batch)
            return
        if not self._is_proven and not self._prove(batch, shares):
            return
        for request, outputs in zip(batch, shares, strict=True):
            request.outputs = outputs

    def _prove(self, batch: Sequence[_Request], shares: Sequence[tuple[Tensor, ...]]) -> bool:
        """Whether each request of a batch gets what it gets alone. If not, it has that now."""
        self._compute_each(batch)
        for request, outputs in zip(batch, shares, strict=True):
            if request.error is None:
                for got, want in zip(outputs, request.outputs, strict=True):
                    why = difference(got, want, _TOLERANCE)
                    if why:
                        self._refuse(why)
                        return False
        self._is_proven = True
        return True

    def _refuse(self, why: str) -> None:
        self._queue.stop()
        logging.getLogger("wasinn.nn").warning(
            "a graph is not batched any more: a batch does not give what single requests do: %s",
            why,
        )

    def _computed(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Copies of the outputs."""
        for index, tensor in enumerate(inputs):
            self._context.set_input(index, tensor)
        self._context.compute()
        outputs = map(self._context.get_output, range(self._output_count))
        return tuple(replace(each, data=memoryview(bytes(each.data))) for each in outputs)

    def _shared_out(
        self, outputs: Sequence[Tensor], rows: Sequence[int]
    ) -> Sequence[tuple[Tensor, ...]]:
        """Each request's rows of the outputs."""
        total = sum(rows)
        for index, tensor in enumerate(outputs):
            if not tensor.shape or tensor.shape[0] != total:
                self._refuse(f"output {index} has shape {list(tensor.shape)} for {total} rows")
                raise WasiNnError(ErrorKind.RUNTIME_ERROR, "the outputs can not be shared out")
        shares = []
        at = 0
        for count in rows:
            shares.append(
                tuple(
                    replace(
                        tensor,
                        shape=(count, *tensor.shape[1:]),
                        data=tensor.data[
                            tensor.data.nbytes * at // total : tensor.data.nbytes
                            * (at + count)
                            // total
                        ],
                    )
                    for tensor in outputs
                )
            )
            at += count
        return shares


class _BatchedContext(ExecutionContext):
    """A guest's inputs, and its outputs, which come from a batch or from its own context."""

    def __init__(self, graph: _BatchedGraph, own: ExecutionContext) -> None:
        self._graph = graph
        self._own = own
        self._inputs: dict[int, Tensor] = {}
        self._outputs: tuple[Tensor, ...] | None = None
        self._request: _Request | None = None
        self._has_own_outputs = False

    def set_input(self, index: int, tensor: Tensor) -> None:
        specs = self._graph.inputs
        if index >= len(specs):
            # The backend's own words for it.
            self._own.set_input(index, tensor)
        else:
            specs[index].check(tensor, index)
            self._inputs[index] = replace(tensor, data=memoryview(bytes(tensor.data)))

    def compute(self) -> None:
        self._outputs = None
        self._has_own_outputs = False
        if len(self._inputs) < len(self._graph.inputs):
            self._compute_own()
            return
        request = self._request = _Request(
            tuple(self._inputs[index] for index in range(len(self._inputs)))
        )
        is_mine = self._graph.enter(request)
        self._request = None
        if is_mine:
            try:
                if not request.is_given_up:
                    self._compute_own()
            finally:
                self._graph.leave(request)
        if request.error is not None:
            raise request.error
        if not is_mine:
            self._outputs = request.outputs

    def get_output(self, index: int) -> Tensor:
        if self._outputs is not None and index < len(self._outputs):
            return self._outputs[index]
        if self._outputs is not None:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"output {index}: the model has {len(self._outputs)} outputs",
            )
        if not self._has_own_outputs:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT, f"output {index}: there is none before compute"
            )
        return self._own.get_output(index)

    def cancel(self) -> None:
        request, own = self._request, self._own
        if request is not None:
            self._graph.give_up(request)
        elif isinstance(own, Cancellable):
            own.cancel()

    def close(self) -> None:
        self._inputs.clear()
        self._outputs = None
        self._own.close()

    def _compute_own(self) -> None:
        for index, tensor in self._inputs.items():
            self._own.set_input(index, tensor)
        self._own.compute()
        self._has_own_outputs = True
