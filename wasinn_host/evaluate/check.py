"""Whether a guest keeps the contract: it is asked, and what it answers is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from wasinn_host.evaluate.evaluation import Evaluation
from wasinn_host.evaluate.guests.answers import FAILED, Answers, GuestBroke
from wasinn_host.evaluate.host_side import HostSide, find_graph
from wasinn_host.evaluate.local import AskedGuest

__all__ = ["Finding", "check_guest"]

_TIMEOUT_S: Final = 60.0
_COLUMNS: Final = ("text", "text_pair")
_PLAIN: Final = ("A plain sentence.", "Another one, which is a little longer than the first.")
_ODD: Final = (
    "",
    " ",
    "\n\t\0",
    "naïve café, ﬁne",
    "日本語の文章",
    "\U0001f600 \u202eright to left\u202c \u200b",
    '"quoted" \\ {"id": 7}',
    "a" * 5000,
    "word " * 5000,
)


class Finding(NamedTuple):
    """About one rule of the contract.

    Attributes:
        rule: in words.
        is_kept: whether the guest keeps it.
        why: not; or a figure.
    """

    rule: str
    is_kept: bool
    why: str = ""


def check_guest(
    guest: str, graph: str, *, texts: int = 1, assets: str | None = None, args: Sequence[str] = ()
) -> Iterator[Finding]:
    """Looks at each rule; ends at the first one without which the others can not be looked at.

    Args:
        guest: the module's path.
        graph: the model, see `Evaluation`.
        texts: how many a row has.
        assets, args: see `Evaluation`.

    Raises:
        UsageError: something given is wrong, the guest has neither form.
    """
    evaluation = Evaluation(
        guest=guest, graph=graph, data="-", task="", output="", assets=assets, args=args
    )
    with HostSide(evaluation, find_graph(graph), _COLUMNS[:texts]) as side:
        yield Finding("it has the exports of one of the two forms", True)
        try:
            asked = side.start()
        except GuestBroke as error:
            yield Finding("it starts", False, str(error))
            return
        yield Finding("it starts", True)
        try:
            yield from _asked(asked, texts)
        finally:
            asked.close()


def _asked(asked: AskedGuest, texts: int) -> Iterator[Finding]:
    rows = [tuple([text] * texts) for text in (*_PLAIN, *_ODD)]
    try:
        first = asked.ask(rows[:2], _TIMEOUT_S)
    except GuestBroke as error:
        yield Finding("it answers each row of a batch", False, str(error))
        return
    failed = first.status == FAILED
    yield Finding(
        "it answers each row of a batch",
        not failed.any(),
        f"row {int(failed.argmax())} failed: {first.text(int(failed.argmax()))}"
        if failed.any()
        else f"{int(first.counts[0])} numbers, {len(first.text(0))} characters of text",
    )
    is_finite = bool(np.isfinite(first.numbers).all())
    yield Finding("its numbers are finite", is_finite)
    try:
        again = asked.ask(rows[:2], _TIMEOUT_S)
        alone = [asked.ask(rows[i : i + 1], _TIMEOUT_S) for i in range(2)]
        odd = asked.ask(rows, _TIMEOUT_S)
        asked.ask(rows[:1] * 100, _TIMEOUT_S)
    except GuestBroke as error:
        yield Finding("it answers batches of all sizes, and texts of all kinds", False, str(error))
        return
    yield Finding("it answers batches of all sizes, and texts of all kinds", len(odd) == len(rows))
    yield Finding("the same batch gives the same answers", _same(first, again, 0.0))
    yield Finding(
        "a row's answer does not depend on the others of its batch",
        _same(first, Answers.joined(alone), 1e-4),
    )
    yield Finding(
        "it says how many tokens the model saw",
        bool((first.tokens > 0).all()),
        "" if (first.tokens > 0).all() else "reports will not show lengths",
    )


def _same(a: Answers, b: Answers, tolerance: float) -> bool:
    return (
        np.array_equal(a.counts, b.counts)
        and np.array_equal(a.status, b.status)
        and [a.text(i) for i in range(len(a))] == [b.text(i) for i in range(len(b))]
        and bool(np.allclose(a.numbers, b.numbers, rtol=tolerance, atol=tolerance))
    )
