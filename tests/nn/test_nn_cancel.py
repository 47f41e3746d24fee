"""A deadline or a cancel ends a computation; computations without one are left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.nn.fake_guest import FakeInterrupt, Guest
from wasinn_host.nn import GraphRegistry, NnContext, TensorType

LONG = b'{"delay_s": 60}'


@pytest.fixture
def interrupt() -> Iterator[FakeInterrupt]:
    value = FakeInterrupt()
    yield value
    value.close()


def _running(guest: Guest, model: bytes) -> tuple[int, threading.Thread, list[int]]:
    context = guest.open(model)
    assert guest.set_input(context, 0, TensorType.U8, (1,), b"a") == 0
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(guest.compute(context)))
    thread.start()
    return context, thread, results


def test_an_interrupt_ends_a_running_compute(
    null_graphs: GraphRegistry, interrupt: FakeInterrupt
) -> None:
    guest = Guest(NnContext(null_graphs), interrupt=interrupt)
    _context, thread, results = _running(guest, LONG)
    time.sleep(0.1)
    assert thread.is_alive()
    start = time.perf_counter()
    interrupt.set()
    thread.join(10)
    assert results == [5]
    assert time.perf_counter() - start < 5
    assert "cancelled" in guest.error()
    guest.codec.context.close()


def test_no_compute_starts_after_the_interrupt(
    null_graphs: GraphRegistry, interrupt: FakeInterrupt
) -> None:
    guest = Guest(NnContext(null_graphs), interrupt=interrupt)
    interrupt.set()
    _context, thread, results = _running(guest, LONG)
    thread.join(10)
    assert results == [5]
    assert "being stopped" in guest.error()


def test_a_guest_works_again_after_its_interrupt_was_taken_back(
    null_graphs: GraphRegistry, interrupt: FakeInterrupt
) -> None:
    guest = Guest(NnContext(null_graphs), interrupt=interrupt)
    for _round in range(3):
        context, thread, results = _running(guest, LONG)
        time.sleep(0.05)
        interrupt.set()
        thread.join(10)
        assert results == [5]
        interrupt.clear()
        short = guest.open(b'{"delay_s": 0.05}')
        assert guest.set_input(short, 0, TensorType.U8, (1,), b"a") == 0
        assert guest.compute(short) == 0
        for handle in (context, short):
            guest.codec.context.finalize_execution_context(handle)
    guest.codec.context.close()


def test_other_guests_are_not_disturbed(
    null_graphs: GraphRegistry, interrupt: FakeInterrupt
) -> None:
    second_interrupt = FakeInterrupt()
    first = Guest(NnContext(null_graphs), interrupt=interrupt)
    second = Guest(NnContext(null_graphs), interrupt=second_interrupt)
    _context, first_thread, first_results = _running(first, LONG)
    _context, second_thread, second_results = _running(second, b'{"delay_s": 0.5}')
    interrupt.set()
    first_thread.join(10)
    assert first_results == [5]
    second_thread.join(10)
    assert second_results == [0]
    first.codec.context.close()
    second.codec.context.close()
    second_interrupt.close()


def test_computing_starts_one_watching_thread_for_all(
    null_graphs: GraphRegistry, interrupt: FakeInterrupt
) -> None:
    for _ in range(5):
        guest = Guest(NnContext(null_graphs), interrupt=interrupt)
        context = guest.open(b"")
        assert guest.set_input(context, 0, TensorType.U8, (1,), b"a") == 0
        assert guest.compute(context) == 0
        guest.codec.context.close()
    names = [thread.name for thread in threading.enumerate()]
    assert names.count("wasinn-nn-cancel") == 1
