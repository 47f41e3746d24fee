"""Which spans of labelled tokens are entities, and how many of them two labellings share.

The rules are seqeval's in its ``default`` mode, those of conlleval: an entity begins at ``B-``, at
``S-``, where the type changes, and at ``I-`` or ``E-`` after ``O``, ``E-`` or ``S-``. It ends
before the next one, ``O`` or the end of the row. seqeval reads a token at a time and needs minutes
for a million rows; this reads many rows as arrays. Tests hold the two together.

Sources: seqeval 1.2.2, ``get_entities``, ``start_of_chunk`` and ``end_of_chunk``; E. Tjong Kim Sang
and F. De Meulder, Introduction to the CoNLL-2003 shared task (2003).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final, TypeAlias

import numpy as np

from wasinn_host.evaluate.extra import need
from wasinn_host.evaluate.metrics.checks import same_length, some_rows
from wasinn_host.evaluate.metrics.result import Bools, Integers
from wasinn_runtime.errors import UsageError

__all__ = ["EntityCounts", "Labelled", "entity_counts"]

#: A list of labels for each row, such as ``[["B-PER", "I-PER", "O"], ["O"]]``.
Labelled: TypeAlias = Sequence[Sequence[str]]

_O, _B, _I, _E, _S = range(5)
_TAGS: Final = {"B": _B, "I": _I, "E": _E, "S": _S}
#: The type of an entity whose labels name none, and of the token between two rows. seqeval's too.
_NO_TYPE: Final = "_"
# Tokens that are read at a time.
_CHUNK: Final = 1 << 18


@dataclass(frozen=True, slots=True)
class EntityCounts:
    """How many entities each row has.

    Attributes:
        types: those that occur in the labels or the predictions, sorted.
        right: sparse float64 [rows, types], entities that both have: the same tokens and type.
        actual: likewise, entities of the labels.
        predicted: likewise, entities of the predictions.
        tokens: int64 [rows].
        tokens_right: int64 [rows], those whose two labels are the same.
    """

    types: tuple[str, ...]
    right: Any
    actual: Any
    predicted: Any
    tokens: Integers
    tokens_right: Integers


class _Vocabulary:
    """Numbers for the labels that occur, and for their types."""

    def __init__(self) -> None:
        self.of_label: dict[str, int] = {}
        self.of_type: dict[str, int] = {_NO_TYPE: 0}
        self._tag: list[int] = []
        self._type: list[int] = []

    def add(self, labels: Sequence[str], what: str, rows: Labelled, first: int) -> None:
        """Takes in the labels of rows; those rows are for the message only."""
        try:
            different: Sequence[str] = list(dict.fromkeys(labels))
        except TypeError:  # lists in lists
            different = [label for label in labels if not isinstance(label, str)]
        for label in different:
            if isinstance(label, str) and label in self.of_label:
                continue
            parsed = _parsed(label)
            if parsed is None:
                at = next(i for i, row in enumerate(rows) if label in list(row))
                raise UsageError(
                    f"{what}: row {first + at}, token {list(rows[at]).index(label)}: expected O, "
                    f"or B-, I-, E- or S- and a type such as B-PER, got {label!r}"
                )
            tag, kind = parsed
            self.of_label[label] = len(self._tag)
            self._tag.append(tag)
            self._type.append(self.of_type.setdefault(kind, len(self.of_type)))

    def arrays(self) -> tuple[Integers, Integers]:
        """Tag and type of each label's number."""
        return np.array(self._tag, dtype=np.int64), np.array(self._type, dtype=np.int64)


def _parsed(label: Any) -> tuple[int, str] | None:
    """Tag and type; None where it is no label."""
    if label == "O":
        return _O, _NO_TYPE
    if not isinstance(label, str) or label[:1] not in _TAGS or label[1:2] not in ("", "-"):
        return None
    return _TAGS[label[0]], label[2:] or _NO_TYPE


def entity_counts(labels: Labelled, predictions: Labelled) -> EntityCounts:
    """Counts the entities of each row.

    Args:
        labels: what the data says of each token.
        predictions: what the model says.

    Raises:
        UsageError: no rows, lengths that differ, or something that is no label; the message names
            the row.
    """
    sparse = need("scipy.sparse", "for metrics")

    lengths = _lengths(labels, predictions)
    words = _Vocabulary()
    tokens_right = np.zeros(len(labels), dtype=np.int64)
    found: tuple[list[Integers], ...] = ([], [], [])
    for here in _parts(lengths):
        columns = [
            _numbers(words, what, rows[here], here.start)
            for what, rows in (("labels", labels), ("predictions", predictions))
        ]
        row = np.repeat(np.arange(here.start, here.stop), lengths[here])
        tokens_right[here] = np.bincount(
            row - here.start, weights=columns[0] == columns[1], minlength=here.stop - here.start
        )
        tag, kind = words.arrays()
        types = len(words.of_type)
        of_labels, of_model = (_entities(tag[c], kind[c], row, types) for c in columns)
        begins = of_labels >= 0, of_model >= 0
        both = begins[0] & (of_labels == of_model)
        of_kind = of_labels % types, of_model % types
        for kept, at, kinds in zip(found, (both, *begins), (of_kind[0], *of_kind), strict=True):
            kept.append(np.stack([row[at], kinds[at]]))

    names = list(words.of_type)
    present = np.unique(np.concatenate([part[1] for part in chain(*found)]))
    occurring = sorted(names[i] for i in present)
    column_of = np.zeros(len(names), dtype=np.int64)
    for column, name in enumerate(occurring):
        column_of[words.of_type[name]] = column

    def counts(parts: list[Integers]) -> Any:
        line, kind = np.concatenate(parts, axis=1)
        size = (len(labels), len(occurring))
        return sparse.coo_array((np.ones(len(line)), (line, column_of[kind])), shape=size).tocsr()

    right, actual, predicted = map(counts, found)
    return EntityCounts(tuple(occurring), right, actual, predicted, lengths, tokens_right)


def _lengths(labels: Labelled, predictions: Labelled) -> Integers:
    """How many tokens each row has: int64 [rows]."""
    same_length(labels=len(labels), predictions=len(predictions))
    some_rows(len(labels), "labels")
    found = []
    for what, rows in (("labels", labels), ("predictions", predictions)):
        wrong = tuple(
            kind for kind in set(map(type, rows)) if kind is str or not hasattr(kind, "__len__")
        )
        if wrong:
            row = next(i for i, value in enumerate(rows) if type(value) in wrong)
            raise UsageError(
                f"{what}: row {row}: expected a list of labels, got {type(rows[row]).__name__}"
            )
        found.append(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)))
    one, other = found
    if (one != other).any():
        row = int(np.argmax(one != other))
        raise UsageError(
            f"row {row}: expected as many predictions as labels, got {other[row]} predictions and "
            f"{one[row]} labels"
        )
    return one


def _parts(lengths: Integers) -> Iterator[slice]:
    """All rows, some tokens at a time."""
    ends = np.cumsum(lengths)
    first = 0
    while first < len(lengths):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _CHUNK, side="right")))
        yield slice(first, last)
        first = last


def _numbers(words: _Vocabulary, what: str, rows: Labelled, first: int) -> Integers:
    flat = list(chain.from_iterable(rows))
    try:
        return _looked_up(words, flat)
    except (KeyError, TypeError):  # new ones, and lists in lists
        words.add(flat, what, rows, first)
        return _looked_up(words, flat)


def _looked_up(words: _Vocabulary, flat: list[str]) -> Integers:
    return np.fromiter(map(words.of_label.__getitem__, flat), dtype=np.int64, count=len(flat))


def _entities(tag: Integers, kind: Integers, row: Integers, types: int) -> Integers:
    """Where entities begin, a number for end and type; elsewhere -1: int64 [tokens].

    Args:
        tag: int64 [tokens], of all rows.
        kind: int64 [tokens], their types.
        row: int64 [tokens], their rows.
        types: how many there are; the number modulo it is the type.
    """
    tokens = len(tag)
    if tokens == 0:
        return np.zeros(0, dtype=np.int64)
    before = np.concatenate([[_O], tag[:-1]])
    other_type = np.concatenate([[True], kind[1:] != kind[:-1]])
    # Between two rows there is an O, so a row's first token comes after one.
    new_row = np.concatenate([[True], row[1:] != row[:-1]])
    before[new_row] = _O
    begins = _begins(before, tag, other_type)
    stops = np.append(np.flatnonzero(begins | new_row | (tag == _O)), tokens)
    start = np.flatnonzero(begins)
    end = stops[np.searchsorted(stops, start, side="right")]
    entities = np.full(tokens, -1)
    entities[start] = end * types + kind[start]
    return entities


def _begins(before: Integers, tag: Integers, other_type: Bools) -> Bools:
    """Whether an entity begins at each token: seqeval's ``start_of_chunk``."""
    after_end = (before == _O) | (before == _E) | (before == _S)
    inside = (tag == _I) | (tag == _E)
    return np.asarray((tag == _B) | (tag == _S) | (inside & after_end) | ((tag != _O) & other_type))
