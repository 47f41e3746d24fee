"""Where rows come from: which reader, which rows of it, and in what order."""

from __future__ import annotations

import contextlib
import itertools
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from wasinn_host.evaluate.data.datasets import (
    HUB,
    is_saved,
    read_hub,
    read_saved,
    sha256_of_hub,
    sha256_of_saved,
)
from wasinn_host.evaluate.data.delimited import read_delimited
from wasinn_host.evaluate.data.errors import DataError
from wasinn_host.evaluate.data.lines import read_lines
from wasinn_host.evaluate.data.parquet import read_parquet
from wasinn_host.evaluate.hashes import sha256_of

__all__ = ["FORMATS", "STANDARD_INPUT", "Data", "find_data", "open_data"]

STANDARD_INPUT: Final = "-"

_Reader = Callable[[BinaryIO, str], Iterator[Mapping[str, Any]]]
_TEXT_READERS: Final[Mapping[str, _Reader]] = {
    "jsonl": read_lines,
    "csv": lambda file, name: read_delimited(file, name, ","),
    "tsv": lambda file, name: read_delimited(file, name, "\t"),
}
_ENDINGS: Final = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
FORMATS: Final = (*_TEXT_READERS, "parquet")
_SplitReader = Callable[[str, str | None], Iterator[Mapping[str, Any]]]
# Formats that know splits themselves: what reads them, and what they stay the same by.
_WITH_SPLITS: Final[Mapping[str, tuple[_SplitReader, Callable[[str], str | None]]]] = {
    "datasets": (read_saved, sha256_of_saved),
    "hub": (read_hub, sha256_of_hub),
}


@dataclass(frozen=True, slots=True)
class Data:
    """A data set, and which of its rows are meant.

    Attributes:
        source: a file's path, ``-`` for standard input, or what ``data.datasets`` reads.
        format: one of `FORMATS`; ``datasets`` and ``hub`` for what ``data.datasets`` reads.
        split: only rows whose column ``split`` says this, or of that split; None for all.
        sample: this many rows, chosen by ``seed``; None for all.
        seed: of the sample.
        limit: no more than the first so many.
        shard: ``(i, n)``: only each n-th row, from the i-th on, counted from 0.
    """

    source: str
    format: str
    split: str | None = None
    sample: int | None = None
    seed: int = 0
    limit: int | None = None
    shard: tuple[int, int] | None = None

    def __iter__(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Each row with its number, counted from 0 in what ``split`` leaves of the data.

        Raises:
            DataError: which file and line are wrong.
            OSError: the file can not be read.
        """
        numbered: Iterator[tuple[int, Mapping[str, Any]]] = enumerate(self._of_split())
        if self.sample is not None:
            chosen = self._chosen()
            numbered = ((number, row) for number, row in numbered if number in chosen)
        if self.shard is not None:
            first, step = self.shard
            numbered = ((number, row) for number, row in numbered if number % step == first)
        return itertools.islice(numbered, self.limit)

    def sha256(self) -> str | None:
        """Of the file or directory; None of what can be another the next time.

        Raises:
            OSError: the file can not be read.
        """
        if self.source == STANDARD_INPUT:
            return None
        _, hashed = _WITH_SPLITS.get(self.format, (None, sha256_of))
        return hashed(self.source)

    def _of_split(self) -> Iterator[Mapping[str, Any]]:
        if self.format in _WITH_SPLITS:
            read, _ = _WITH_SPLITS[self.format]
            yield from read(self.source, self.split)
            return
        if self.split is None:
            yield from self._all()
            return
        known: set[str] = set()
        found = False
        for number, row in enumerate(self._all()):
            if "split" not in row:
                raise DataError(
                    f"{self.source}, row {number}: no column 'split' to find {self.split!r} in; "
                    f"there is: {', '.join(row)}"
                )
            if row["split"] == self.split:
                found = True
                yield row
            elif len(known) < 20:
                known.add(str(row["split"]))
        if not found:
            there = ", ".join(sorted(known)) or "no row at all"
            raise DataError(f"{self.source}: no row of split {self.split!r}; there is: {there}")

    def _all(self) -> Iterator[Mapping[str, Any]]:
        if self.format == "parquet":
            yield from read_parquet(Path(self.source))
            return
        with self._opened() as file:
            name = "standard input" if self.source == STANDARD_INPUT else self.source
            yield from _TEXT_READERS[self.format](file, name)

    def _opened(self) -> contextlib.AbstractContextManager[BinaryIO]:
        if self.source == STANDARD_INPUT:
            return contextlib.nullcontext(sys.stdin.buffer)
        return open(self.source, "rb")

    def _chosen(self) -> frozenset[int]:
        assert self.sample is not None
        if self.source == STANDARD_INPUT:
            raise DataError("a sample is chosen in a first pass, which standard input has not")
        count = sum(1 for _ in self._of_split())
        if self.sample > count:
            raise DataError(
                f"{self.source}: a sample of {self.sample} rows was asked for; it has {count}"
            )
        return frozenset(random.Random(self.seed).sample(range(count), self.sample))


def find_data(name: str) -> str:
    """What data are read from: a path, ``-``, ``hf:NAME``, or for a name of ``wasinn datasets``
    its file, which is fetched if need be.

    Raises:
        DataError: it is none of them.
        ModelError: the data set can not be had.
    """
    if name == STANDARD_INPUT or name.startswith(HUB) or Path(name).exists():
        return name
    from wasinn_models.data.store import dataset_store

    store = dataset_store()
    if name in store.catalogue.names():
        return str(store.resolve(name).path)
    known = ", ".join(store.catalogue.names())
    raise DataError(f"{name}: no such file, nor one of `wasinn datasets`: {known}")


def open_data(
    source: str,
    format: str | None = None,
    *,
    split: str | None = None,
    sample: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    shard: tuple[int, int] | None = None,
) -> Data:
    """The data under a name.

    Args:
        source: a path, ``-``, or ``hf:NAME``.
        format: one of `FORMATS`; None to tell by the path's ending or the directory's files.
        split, sample, seed, limit, shard: see `Data`.

    Raises:
        DataError: there is no such file, or its format is not known.
    """
    if source.startswith(HUB):
        format = "hub"
    elif Path(source).is_dir() and is_saved(Path(source)):
        format = "datasets"
    elif format is None:
        format = _ENDINGS.get(Path(source).suffix.lower())
        if source == STANDARD_INPUT:
            format = "jsonl"
        elif format is None:
            raise DataError(
                f"{source}: can not tell its format by the name; expected one that ends in "
                f"{', '.join(_ENDINGS)}, or say which of {', '.join(FORMATS)} it is"
            )
    elif format not in FORMATS:
        raise DataError(f"unknown format {format!r}; there is: {', '.join(FORMATS)}")
    has_file = source != STANDARD_INPUT and format not in _WITH_SPLITS
    if has_file and not Path(source).is_file():
        raise DataError(f"{source}: no such file")
    if format == "parquet" and source == STANDARD_INPUT:
        raise DataError("Parquet can not be read from standard input; give a file")
    if shard is not None and not 0 <= shard[0] < shard[1]:
        raise DataError(f"shard: expected i of n with 0 <= i < n, got {shard[0]} of {shard[1]}")
    for name, value in (("sample", sample), ("limit", limit)):
        if value is not None and value < 1:
            raise DataError(f"{name}: expected 1 or more rows, got {value}")
    return Data(source, format, split, sample, seed, limit, shard)
