"""What functions of a module were rewritten to for the fast interpreter, from one run to the next.

Decoding, validating and rewriting a function is Python, and most of a large guest's start. What
comes out depends on the module's bytes alone, so it is kept: one entry of the cache of compiled
code for each module, with all functions that some run needed. It is written when a run is over, and
only when making what is new took longer than writing does.

That a function is in the entry also says that it is valid: the entry's name has the digest of the
module's bytes, and only what was validated was ever rewritten.
"""

from __future__ import annotations

from array import array

from wasinn_runtime.engines.cache import CodeCache
from wasinn_runtime.lower.fast_placed import WrittenCode

__all__ = ["KeptCode"]

# How long making new functions must have taken to be worth writing all of them.
_WORTH_S = 0.002
# What is kept of one module at most.
_MOST_BYTES = 64 << 20
_WORD_BYTES, _NUMBER_BYTES = 8, 4
# The entry: how many functions; for each its index and the lengths of its three arrays; then all
# words, then the other arrays of each. All but the words are 4-byte numbers; an even count of them
# comes before the words, which are so aligned.
_ROW = 4


class KeptCode:
    """The rewritten functions of one module. Not for several threads at once.

    Args:
        cache: where they are kept; None: nowhere.
        options: what decides the code beside the module.
        digest: of the module's bytes.
    """

    def __init__(self, cache: CodeCache | None, options: str, digest: bytes) -> None:
        self._cache = cache
        self._new: dict[int, WrittenCode] = {}
        self._new_s = 0.0
        content = None
        if cache is not None:
            self._key = CodeCache.key("fast-code", options, digest)
            content = cache.get(self._key)
        self._open(content or bytes(2 * _NUMBER_BYTES))

    def _open(self, content: bytes) -> None:
        """Take over an entry's content, in place of everything."""
        self._new.clear()
        whole = memoryview(content)
        self._numbers = whole.cast("I")
        self._words = whole[: len(content) // _WORD_BYTES * _WORD_BYTES].cast("q")
        count = self._numbers[0]
        rows = self._numbers[2 : 2 + _ROW * count].tolist()
        self._bytes = len(content)
        # Of each function: lengths of its arrays, where its words are, where the rest.
        self._rows: dict[int, tuple[int, int, int, int, int]] = {}
        word = (2 + _ROW * count) // 2
        number = 2 * (word + sum(rows[1::_ROW]))
        for at in range(0, len(rows), _ROW):
            index, words, handlers, entries = rows[at : at + _ROW]
            self._rows[index] = words, handlers, entries, word, number
            word += words
            number += handlers + entries

    def get(self, index: int) -> WrittenCode | None:
        """A function's code, if it was ever made."""
        row = self._rows.get(index)
        if row is None:
            return self._new.get(index)
        words, handlers, entries, word, number = row
        middle = number + handlers
        return WrittenCode(
            array("q", self._words[word : word + words].tobytes()),
            array("I", self._numbers[number:middle].tobytes()),
            array("I", self._numbers[middle : middle + entries].tobytes()),
        )

    def add(self, index: int, code: WrittenCode, took_s: float) -> None:
        """Remember what a function was rewritten to, and how long that took."""
        size = _WORD_BYTES * len(code.words)
        size += _NUMBER_BYTES * (_ROW + len(code.handlers) + len(code.entries))
        if self._cache is not None and self._bytes + size <= _MOST_BYTES:
            self._bytes += size
            self._new[index] = code
            self._new_s += took_s

    def save(self) -> None:
        """Write the entry if it is worth it."""
        if self._cache is None or not self._new or self._new_s < _WORTH_S:
            return
        self._new_s = 0.0
        content = self._packed()
        self._cache.put(self._key, content)
        self._open(content)

    def _packed(self) -> bytes:
        functions = [(index, self.get(index)) for index in (*self._rows, *self._new)]
        rows = array("I", [len(functions), 0])
        words, numbers = array("q"), array("I")
        for index, code in functions:
            assert code is not None
            rows.extend((index, len(code.words), len(code.handlers), len(code.entries)))
            words += code.words
            numbers += code.handlers
            numbers += code.entries
        return rows.tobytes() + words.tobytes() + numbers.tobytes()
