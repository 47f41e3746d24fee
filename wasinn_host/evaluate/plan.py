"""How rows become batches. A function of the data and the settings alone.

Which rows are computed together decides the last bits of what a model says of them. So the same
data with the same settings give the same batches in each run, on each engine, and after a restart.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Batch", "Row", "Window", "batches", "windows"]


class Row(NamedTuple):
    """A row of data, as a task reads it.

    Attributes:
        number: in the data, from 0.
        id: the data's own, or the number.
        texts: what the guest gets.
        expected: what the task measures by; its own kind of value.
    """

    number: int
    id: str
    texts: tuple[str, ...]
    expected: object


@dataclass(frozen=True, slots=True)
class Window:
    """Rows that are read, sorted and kept together.

    Attributes:
        number: from 0.
        rows: in the data's order.
    """

    number: int
    rows: Sequence[Row]


class Batch(NamedTuple):
    """Rows that are computed together.

    Attributes:
        window: the window's number.
        batches: how many the window has.
        place: which of them this is.
        rows: its rows.
    """

    window: int
    batches: int
    place: int
    rows: Sequence[Row]


def windows(rows: Iterable[Row], size: int) -> Iterator[Window]:
    """The rows, ``size`` at a time."""
    stream = iter(rows)
    for number in itertools.count():
        taken = list(itertools.islice(stream, size))
        if not taken:
            return
        yield Window(number, taken)


def batches(window: Window, size: int) -> list[Batch]:
    """The window's rows by length, ``size`` at a time, so that a batch needs little padding."""
    ordered = sorted(window.rows, key=lambda row: sum(map(len, row.texts)))
    chunks = [ordered[at : at + size] for at in range(0, len(ordered), size)]
    return [Batch(window.number, len(chunks), place, rows) for place, rows in enumerate(chunks)]
