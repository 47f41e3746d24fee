"""Handles: opaque, typed, owned, and not given out twice."""

from __future__ import annotations

import itertools
import threading

import pytest

from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_host.nn.handles import CONTEXT_TAG, GRAPH_TAG, HandleTable, next_owner


def test_handles_are_small_positive_and_distinct() -> None:
    graphs: HandleTable[str] = HandleTable(GRAPH_TAG, 1, 10)
    contexts: HandleTable[str] = HandleTable(CONTEXT_TAG, 1, 10)
    handles = [graphs.add("a"), graphs.add("b"), contexts.add("c")]
    assert len(set(handles)) == 3
    assert all(0 < handle < 1 << 31 for handle in handles)
    assert graphs.get(handles[1]) == "b"


def test_a_dropped_handle_is_not_given_out_again() -> None:
    table: HandleTable[int] = HandleTable(GRAPH_TAG, 1, 2)
    seen = set()
    for value in range(1000):
        handle = table.add(value)
        assert table.remove(handle) == value
        assert handle not in seen
        seen.add(handle)


def test_serials_that_come_around_skip_live_handles() -> None:
    table: HandleTable[str] = HandleTable(CONTEXT_TAG, 127, 10)
    first = table.add("first")
    table._issued = 1 << 22  # as after four million allocations
    second = table.add("second")
    assert second != first
    assert (table.get(first), table.get(second)) == ("first", "second")


@pytest.mark.parametrize(
    ("handle", "reason"),
    [
        (0, "not a handle"),
        (0xFFFF_FFFF, "not a handle"),
        (CONTEXT_TAG << 29 | 5 << 22, "handle of an execution context"),
        (GRAPH_TAG << 29 | 6 << 22, "another guest"),
        (GRAPH_TAG << 29 | 5 << 22 | 0, "stale"),
        (GRAPH_TAG << 29 | 5 << 22 | 77, "never given out"),
    ],
)
def test_messages_say_why_a_handle_is_wrong(handle: int, reason: str) -> None:
    table: HandleTable[str] = HandleTable(GRAPH_TAG, 5, 10)
    table.remove(table.add("gone"))
    with pytest.raises(WasiNnError, match=reason) as caught:
        table.get(handle)
    assert caught.value.kind is ErrorKind.INVALID_ARGUMENT


def test_owners_go_around() -> None:
    owners = [next_owner() for _ in range(300)]
    assert set(owners) == set(range(1, 128))
    assert all(a != b for a, b in itertools.pairwise(owners))


def test_threads_never_share_a_handle_nor_exceed_the_capacity() -> None:
    table: HandleTable[int] = HandleTable(GRAPH_TAG, 1, 500)
    got: list[int] = []
    kinds: list[ErrorKind] = []

    def work() -> None:
        for value in range(200):
            try:
                got.append(table.add(value))
            except WasiNnError as error:
                kinds.append(error.kind)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == len(set(got)) == len(table) == 500
    assert kinds == [ErrorKind.TOO_LARGE] * 300
