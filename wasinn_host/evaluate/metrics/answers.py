"""Answers to questions: SQuAD's exact match and F1, the best over the reference answers.

Source: P. Rajpurkar et al., Know what you don't know: unanswerable questions for SQuAD (2018), and
its evaluation script for version 2.0. Its rules are for English: ASCII punctuation and the articles
a, an and the are left out, and case does not matter.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike

from wasinn_host.evaluate.metrics.checks import numbers, same_length, some_rows
from wasinn_host.evaluate.metrics.means import mean_metrics
from wasinn_host.evaluate.metrics.result import Bools, Bootstrap, Floats, Metric
from wasinn_runtime.errors import UsageError

__all__ = ["AnswerScores", "answer_score", "normalised_answer", "qa_metrics", "score_answers"]

_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)
_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True, slots=True)
class AnswerScores:
    """What each row's answer is worth.

    Attributes:
        exact: bool [rows], whether the answer is a reference answer, once normalised.
        f1: float64 [rows], 0 to 1.
        answerable: bool [rows], whether there is a reference answer that is not empty.
    """

    exact: Bools
    f1: Floats
    answerable: Bools


def normalised_answer(text: str) -> str:
    """The text in lower case, without punctuation, articles and more than one space in a row."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def answer_score(answer: str, references: Sequence[str]) -> tuple[bool, float, bool]:
    """Exact match, F1 of words, and whether the question has an answer.

    A question has none if all its references are empty once normalised. Then an answer that is
    empty, once normalised, gets 1 and any other 0.

    Args:
        answer: the model's; empty for none.
        references: those that are right; none for a question without an answer.
    """
    given = normalised_answer(answer)
    right = [text for text in map(normalised_answer, references) if text]
    if not right:
        return not given, float(not given), False
    return given in right, max(_f1(given.split(), text.split()) for text in right), True


def _f1(given: list[str], right: list[str]) -> float:
    common = sum((Counter(given) & Counter(right)).values())
    return 2 * common / (len(given) + len(right))


def score_answers(answers: Sequence[str], references: Sequence[Sequence[str]]) -> AnswerScores:
    """``answer_score`` of each row.

    Args:
        answers: the model's, one for each row.
        references: the right ones, a list for each row.

    Raises:
        UsageError: no rows, lengths that differ, or something that is no text; the message names
            the row.
    """
    same_length(answers=len(answers), references=len(references))
    some_rows(len(answers), "answers")
    exact = np.zeros(len(answers), dtype=np.bool_)
    f1 = np.zeros(len(answers))
    answerable = np.zeros(len(answers), dtype=np.bool_)
    for row, (answer, right) in enumerate(zip(answers, references, strict=True)):
        _check(row, answer, right)
        exact[row], f1[row], answerable[row] = answer_score(answer, right)
    return AnswerScores(exact, f1, answerable)


def _check(row: int, answer: Any, references: Any) -> None:
    if not isinstance(answer, str):
        raise UsageError(f"answers: row {row}: expected a text, got {type(answer).__name__}")
    if (
        isinstance(references, str)
        or not isinstance(references, Iterable)
        or not all(isinstance(text, str) for text in references)
    ):
        raise UsageError(f"references: row {row}: expected a list of texts, got {references!s:.80}")


def qa_metrics(
    exact: ArrayLike, f1: ArrayLike, answerable: ArrayLike, *, options: Bootstrap | None = None
) -> dict[str, Metric]:
    """``exact`` and ``f1``; with questions that have no answer also these of each kind.

    These are ``answerable_exact``, ``answerable_f1`` and ``unanswerable_exact``; F1 of a question
    without an answer is its exact match. All are from 0 to 1, where SQuAD's script gives percent.

    Args:
        exact: bool [rows].
        f1: float64 [rows], 0 to 1.
        answerable: bool [rows], whether the question has an answer.
        options: how intervals are computed.

    Raises:
        UsageError: no rows, lengths that differ, a score that is not finite.
    """
    scores = {
        "exact": numbers(np.asarray(exact, dtype=np.float64), "exact"),
        "f1": numbers(f1, "f1"),
    }
    has = np.asarray(answerable, dtype=np.bool_)
    same_length(exact=len(scores["exact"]), f1=len(scores["f1"]), answerable=len(has))
    if not has.all():
        for name in ("exact", "f1"):
            scores[f"answerable_{name}"] = np.where(has, scores[name], np.nan)
        scores["unanswerable_exact"] = np.where(has, np.nan, scores["exact"])
    return mean_metrics(scores, options or Bootstrap())
