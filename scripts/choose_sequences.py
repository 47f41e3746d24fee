"""Chooses which runs of handlers the fast interpreter joins into one, by running the kernels.

    python scripts/choose_sequences.py --write

Every kernel runs once with a counter at the head of each straight piece of code; the examples'
guests are read. Then the most valuable pair of neighbours becomes one handler, again and again; its
value is how many jumps it saves, each kernel weighing the same (programs of many kinds more).
``--write`` puts the list into ``lower/fast_sequences.py``; without it the list is printed.
"""

from __future__ import annotations

import argparse
import re
import sys
from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(_ROOT), str(_ROOT / "runtime")]

from benchmarks.catalogue import KERNELS, Kernel  # noqa: E402
from wasinn_runtime import Engine, Func, Instance, Module, Store  # noqa: E402
from wasinn_runtime.engines.engine import Config  # noqa: E402
from wasinn_runtime.engines.fast_interp import FastInterp  # noqa: E402
from wasinn_runtime.lower.fast_code import Walk  # noqa: E402
from wasinn_runtime.lower.fast_handlers import HANDLERS  # noqa: E402
from wasinn_runtime.lower.fast_names import LABEL, NUMBERS, VECTORS_FROM  # noqa: E402
from wasinn_runtime.lower.fast_placed import FastCode, Handlers, place  # noqa: E402
from wasinn_runtime.lower.fast_write import Sequences, write_code  # noqa: E402
from wasinn_runtime.lower.threaded import Header  # noqa: E402

_TARGET = _ROOT / "runtime" / "wasinn_runtime" / "lower" / "fast_sequences.py"
_NAMES = ["", *HANDLERS]
# Larger programs count by what stands in them, so that the list is not one for the kernels alone.
_PROGRAMS = ("hello/hello", "rust-files/rust-files", "semantic-search/semantic-search")
_READ = 1.0
_LEAVING = ("call", "return_call", "throw")
# What a sequence may not contain: it has no use there.
_ALONE = {"count", "hot", "in_try"}
_GROUP_WEIGHTS = {"programs": 3.0, "simd": 0.5}


@dataclass(slots=True)
class _Piece:
    """A straight piece of code and how often it ran."""

    parts: list[tuple[str, ...]]
    weight: float = 0.0


class _Counting:
    """Rewrites functions with a counter at the head of every piece."""

    def __init__(self) -> None:
        self.pieces: list[tuple[_Piece, array[int], int]] = []

    def write(self, walk: Walk, handlers: Handlers, entries: int) -> FastCode:
        numbers, words, targets = walk.numbers, walk.words, walk.targets
        walk.numbers, walk.words, walk.targets = [], [], {}
        found: list[tuple[_Piece, int]] = []
        at = Header.WORDS
        fresh = True
        for position, (number, listed) in enumerate(zip(numbers, words, strict=True)):
            if fresh and number != LABEL:
                walk.numbers.append(NUMBERS["count"])
                walk.words.append((0,))
                found.append((_Piece([]), at + 1))
                at += 2
                fresh = False
            if position in targets:
                walk.targets[len(walk.numbers)] = targets[position]
            walk.numbers.append(number)
            walk.words.append(listed)
            if number == LABEL:
                fresh = True
                continue
            at += 1 + len(listed)
            found[-1][0].parts.append((_NAMES[number],))
            fresh = HANDLERS[_NAMES[number]].ends
        code = place(write_code(walk, Sequences(plain=True)), handlers, entries)
        self.pieces.extend((piece, code.words, at) for piece, at in found)
        return code


def _profile(kernel: Kernel, engine: Engine) -> list[_Piece]:
    """The pieces of a kernel; their weights are shares of all that ran."""
    module = Module.from_file(engine, kernel.wasm)
    code = module.code
    assert isinstance(code, FastInterp)
    counting = _Counting()
    handlers = code.interpreter.handlers

    def make_ready(index: int) -> None:
        walk = Walk(code.parsed, code.layout, code.places, index, code.body(index))
        walk.run(False)
        code.codes[index] = made = counting.write(walk, handlers, code.entries.address)
        code.entries.interpret(index, made.address, code.interpreter.run)

    code.make_ready = make_ready  # type: ignore[method-assign]
    run = Instance(Store(engine), module, []).exports["run"]
    assert isinstance(run, Func)
    run(kernel.tiny_n)
    total = sum(words[at] * len(piece.parts) for piece, words, at in counting.pieces)
    for piece, words, at in counting.pieces:
        piece.weight = _GROUP_WEIGHTS.get(kernel.group, 1.0) * words[at] / total
    return [piece for piece, _, _ in counting.pieces if piece.weight]


def _read(path: Path, engine: Engine) -> list[_Piece]:
    """The pieces of a program that is not run; each weighs the same, all together ``_READ``."""
    module = Module.from_file(engine, path)
    code = module.code
    assert isinstance(code, FastInterp)
    pieces: list[_Piece] = []
    for number in range(len(code.parsed.code)):
        index = code.imported + number
        walk = Walk(code.parsed, code.layout, code.places, index, code.body(index))
        walk.run(False)
        parts: list[tuple[str, ...]] = []
        for handler in walk.numbers:
            if handler != LABEL:
                parts.append((_NAMES[handler],))
            if handler == LABEL or HANDLERS[_NAMES[handler]].ends:
                pieces.append(_Piece(parts))
                parts = []
    total = sum(len(piece.parts) for piece in pieces)
    for piece in pieces:
        piece.weight = _READ / total
    return [piece for piece in pieces if len(piece.parts) > 1]


def _may_join(first: tuple[str, ...], second: tuple[str, ...], longest: int) -> bool:
    if len(first) + len(second) > longest or HANDLERS[first[-1]].ends:
        return False
    # LLVM would fold these two into nothing: see the meaning of ``resize``.
    if ".promote_" in first[-1] and ".demote_" in second[0]:
        return False
    parts = first + second
    # What leaves the function has its other half in the unit without vectors.
    if any(NUMBERS[part] >= VECTORS_FROM for part in parts) and parts[-1].startswith(_LEAVING):
        return False
    return not _ALONE & {*parts}


def choose(pieces: list[_Piece], count: int, longest: int) -> list[tuple[str, ...]]:
    """The most valuable sequences. Pieces come out rewritten.

    Args:
        pieces: what ran.
        count: how many sequences to choose.
        longest: the most handlers in one.
    """
    chosen: list[tuple[str, ...]] = []
    values: Counter[tuple[tuple[str, ...], tuple[str, ...]]] = Counter()
    where: dict[tuple[tuple[str, ...], tuple[str, ...]], set[int]] = {}

    def note(number: int, sign: int) -> None:
        piece = pieces[number]
        for pair in zip(piece.parts, piece.parts[1:], strict=False):
            values[pair] += sign * piece.weight  # type: ignore[assignment]
            where.setdefault(pair, set()).add(number)

    for number in range(len(pieces)):
        note(number, 1)
    while len(chosen) < count:
        allowed = (pair for pair in values if _may_join(*pair, longest))
        best = max(allowed, key=lambda pair: values[pair], default=None)
        if best is None or values[best] <= 1e-9:
            break
        joined = best[0] + best[1]
        if joined not in chosen:
            chosen.append(joined)
        for number in sorted(where[best]):
            note(number, -1)
            parts, old = [], pieces[number].parts
            at = 0
            while at < len(old):
                if at + 1 < len(old) and (old[at], old[at + 1]) == best:
                    parts.append(joined)
                    at += 2
                else:
                    parts.append(old[at])
                    at += 1
            pieces[number].parts = parts
            note(number, 1)
        del values[best]
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="how many sequences")
    parser.add_argument("--longest", type=int, default=8, help="the most handlers in one")
    parser.add_argument("--write", action="store_true", help="replace the list in the sources")
    options = parser.parse_args()
    engine = Engine(Config(mode="fast-interp"))
    pieces: list[_Piece] = []
    for kernel in KERNELS:
        pieces += _profile(kernel, engine)
    for program in _PROGRAMS:
        pieces += _read(_ROOT / "examples" / f"{program}.wasm", engine)
    before = sum(p.weight * len(p.parts) for p in pieces)
    chosen = choose(pieces, options.count, options.longest)
    after = sum(p.weight * len(p.parts) for p in pieces)
    print(f"{len(chosen)} sequences leave {after / before:.0%} of the jumps", file=sys.stderr)
    listed = "\n".join("+".join(parts) for parts in chosen)
    if not options.write:
        print(listed)
        return
    text = _TARGET.read_text(encoding="utf-8")
    text = re.sub(r'(?s)_LISTED = """\n.*?"""', f'_LISTED = """\n{listed}\n"""', text)
    _TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
