"""How much one guest may compute: so many computations at a time, so many seconds in all.

Guests without such limits have no budget, and pay nothing for there being this module. Seconds are
those of the clock on the wall, of each computation: two at a time use up two in a second.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Final

from wasinn_host.nn.cancel import GuestInterrupt, cancel_all
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.plugin import ExecutionContext

__all__ = ["ComputeBudget"]

_LOOK_S: Final = 0.02
"""How often who waits for a turn looks whether the guest must stop, and a cancel is repeated."""


class ComputeBudget:
    """One guest's. Safe for its threads.

    Args:
        at_a_time: computations that may run at a time; others wait for their turn. None for any.
        seconds: what all of them together may take; None for any.
    """

    def __init__(self, at_a_time: int | None, seconds: float | None) -> None:
        self._at_a_time = math.inf if at_a_time is None else at_a_time
        self._seconds = math.inf if seconds is None else seconds
        self._changed = threading.Condition()
        self._running: list[ExecutionContext] = []
        self._spent = 0.0
        self._counted_until = 0.0
        self._timekeeper: threading.Thread | None = None
        self._wakes_at = math.inf
        self._is_closed = False

    @property
    def spent_s(self) -> float:
        """Seconds used up so far."""
        with self._changed:
            self._count()
            return self._spent

    def run(
        self,
        compute: Callable[[], None],
        context: ExecutionContext,
        interrupt: GuestInterrupt | None,
    ) -> None:
        """Calls ``compute`` when it is its turn.

        Args:
            compute: runs the context's graph.
            context: is cancelled when the seconds are used up meanwhile, if it can be.
            interrupt: the guest's; ends the wait.

        Raises:
            WasiNnError: ``too_large`` when the seconds are used up, before or meanwhile;
                ``runtime_error`` when the guest must stop; what ``compute`` raises.
        """
        with self._changed:
            self._wait_for_turn(interrupt)
            self._count()
            self._require_seconds()
            self._running.append(context)
            self._keep_time()
        try:
            compute()
        except WasiNnError:
            with self._changed:
                self._count()
                self._require_seconds()  # it was ended for that, whatever the backend says
            raise
        finally:
            with self._changed:
                self._count()
                self._running.remove(context)
                self._changed.notify_all()

    def close(self) -> None:
        """Ends the thread that keeps time."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _wait_for_turn(self, interrupt: GuestInterrupt | None) -> None:
        while len(self._running) >= self._at_a_time:
            if interrupt is not None and interrupt.is_set():
                raise WasiNnError(ErrorKind.RUNTIME_ERROR, "the guest is being stopped")
            self._changed.wait(_LOOK_S)

    def _count(self) -> None:
        now = time.monotonic()
        self._spent += len(self._running) * (now - self._counted_until)
        self._counted_until = now

    def _require_seconds(self) -> None:
        if self._spent >= self._seconds:
            raise WasiNnError(
                ErrorKind.TOO_LARGE,
                f"the guest's computations took {self._spent:.3f} s, "
                f"its limit is {self._seconds:g} s",
            )

    def _ends_at(self) -> float:
        """When what runs now will have used up the seconds."""
        if not self._running:
            return math.inf
        return self._counted_until + (self._seconds - self._spent) / len(self._running)

    def _keep_time(self) -> None:
        ends_at = self._ends_at()
        if ends_at == math.inf:
            return
        if self._timekeeper is None:
            self._timekeeper = threading.Thread(
                target=self._watch, name="wasinn-nn-budget", daemon=True
            )
            self._timekeeper.start()
        elif ends_at < self._wakes_at:  # mostly it is not: the end only moves on while nothing runs
            self._changed.notify_all()

    def _watch(self) -> None:
        with self._changed:
            while not self._is_closed:
                self._count()
                left_s = self._ends_at() - time.monotonic()
                if left_s <= 0:
                    cancel_all(self._running)
                    left_s = _LOOK_S
                self._wakes_at = time.monotonic() + left_s
                self._changed.wait(None if left_s == math.inf else min(left_s, 3600.0))
