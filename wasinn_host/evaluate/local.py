"""Guests in threads of this process. A guest that breaks is replaced, its batch asked anew."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

from wasinn_host.evaluate.guests.answers import Answers, GuestBroke
from wasinn_host.evaluate.plan import Batch

__all__ = ["AskedGuest", "Done", "Worker", "compute"]


class AskedGuest(Protocol):
    """A guest of either form."""

    def ask(self, rows: Sequence[Sequence[str]], timeout_s: float | None) -> Answers: ...

    def cancel(self) -> None: ...

    def close(self) -> None: ...


class Done(NamedTuple):
    """What came of a batch.

    Attributes:
        batch: which.
        answers: of its rows.
        seconds: it took.
    """

    batch: Batch
    answers: Answers
    seconds: float


class Worker:
    """One guest after the other. For one thread.

    Args:
        start: makes a guest.
        row_timeout_s: how long a row may take.
        stop: once set, a guest that breaks is not replaced.
    """

    def __init__(
        self,
        start: Callable[[], AskedGuest],
        row_timeout_s: float | None,
        stop: threading.Event,
    ) -> None:
        self._start = start
        self._stop = stop
        self._row_timeout_s = row_timeout_s
        self._guest: AskedGuest | None = None

    def compute(self, batch: Batch) -> Done:
        """A batch's answers; of a row that breaks guests, that it failed.

        Raises:
            GuestBroke: no guest starts.
        """
        began = time.perf_counter()
        answers = self._ask([row.texts for row in batch.rows])
        return Done(batch, answers, time.perf_counter() - began)

    def _ask(self, rows: Sequence[Sequence[str]]) -> Answers:
        timeout_s = None if self._row_timeout_s is None else self._row_timeout_s * len(rows)
        if self._guest is None:
            self._guest = self._start()
        try:
            return self._guest.ask(rows, timeout_s)
        except GuestBroke as error:
            self.close()
            if self._stop.is_set():
                raise
            if error.is_hopeless:
                raise
            if len(rows) == 1:
                return Answers.failed(str(error))
        # One of them breaks it: look for it by halves.
        half = len(rows) // 2
        return Answers.joined([self._ask(rows[:half]), self._ask(rows[half:])])

    def cancel(self) -> None:
        """Stops what its guest does. From any thread."""
        guest = self._guest
        if guest is not None:
            guest.cancel()

    def close(self) -> None:
        """Ends its guest."""
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.close()


def compute(
    batches: Iterator[Batch], workers: Sequence[Worker], stop: threading.Event
) -> Iterator[Done]:
    """Has workers compute batches; gives what is done in whatever order it is done.

    Args:
        batches: taken as workers become free, two ahead of each.
        workers: each gets a thread.
        stop: once set, no further batch is begun; is set when the caller takes no more.

    Raises:
        GuestBroke: no guest starts.
    """
    free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in workers:
        free.put(worker)

    def one(batch: Batch) -> Done | None:
        if stop.is_set():
            return None
        worker = free.get()
        try:
            return worker.compute(batch)
        finally:
            free.put(worker)

    done: queue.SimpleQueue[Future[Done | None]] = queue.SimpleQueue()
    running = 0
    with ThreadPoolExecutor(len(workers), "wasinn eval") as pool:
        try:
            for batch in batches:
                pool.submit(one, batch).add_done_callback(done.put)
                running += 1
                while running >= 3 * len(workers):
                    found = done.get().result()
                    running -= 1
                    if found is not None:
                        yield found
            while running:
                found = done.get().result()
                running -= 1
                if found is not None:
                    yield found
        finally:
            if running:  # whoever takes what is done takes no more
                stop.set()
                for worker in workers:
                    worker.cancel()
