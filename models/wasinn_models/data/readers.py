"""Raw files of data sets as rows of one form."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from wasinn_models.atomic import write_whole
from wasinn_models.errors import BuildError

__all__ = ["READERS", "Row", "readers_digest", "rows_of", "write_rows"]

HELD_OUT: Final = 0.25
"""The share of rows that nothing is fitted on."""


class Row(NamedTuple):
    """A row of text with what people think of it.

    Attributes:
        id: of the row, its own within the data.
        text: of people.
        label: what it is counted as.
        rating: the mean of people's ratings.
        split: ``train``, or ``test`` for what is held out.
    """

    id: str
    text: str
    label: str
    rating: float
    split: str


def _rated_sentences(path: Path) -> Iterator[Row]:
    """Lines of an id, the mean of ratings from -4 to 4, and a text, with tabs between.

    A rating above 0 is ``positive``, any other ``negative``. A quarter of the rows is held out:
    those whose ids have the smallest SHA-256, so the split is the same everywhere.
    """
    found = []
    for number, line in enumerate(_lines(path), 1):
        fields = line.split("\t")
        try:
            id_, rating, text = fields
            value = float(rating)
        except ValueError:
            value = math.nan
        if not -4 <= value <= 4:
            raise BuildError(
                f"{path}, line {number}: expected an id, a rating from -4 to 4 and a text, with "
                f"tabs between, got {line[:60]!r}"
            )
        found.append((id_, value, text))
    held_out = set(sorted((id_ for id_, *_ in found), key=_hash)[: round(len(found) * HELD_OUT)])
    for id_, value, text in found:
        label = "positive" if value > 0 else "negative"
        yield Row(id_, text, label, value, "test" if id_ in held_out else "train")


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{path}: can not be read: {error}") from error


READERS: Final[Mapping[str, Callable[[Path], Iterator[Row]]]] = {
    "rated-sentences": _rated_sentences,
}


def rows_of(reader: str, path: Path) -> list[Row]:
    """The rows of a raw file.

    Args:
        reader: one of `READERS`.
        path: the file.

    Raises:
        BuildError: it can not be read, or is not what the reader reads.
    """
    rows = list(READERS[reader](path))
    if len({row.id for row in rows}) < len(rows):
        raise BuildError(f"{path}: expected different ids")
    return rows


def readers_digest() -> str:
    """SHA-256 of the readers' own source: a changed reader makes other rows."""
    return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


def write_rows(reader: str, path: Path, target: Path) -> None:
    """Writes the rows of a raw file as JSON lines.

    Raises:
        BuildError: as `rows_of`.
        StoreError: it can not be written.
    """
    lines = (json.dumps(row._asdict(), ensure_ascii=False) for row in rows_of(reader, path))
    with write_whole(target) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
