"""Answers to questions, against the rules of SQuAD's script written out again."""

from __future__ import annotations

import collections
import math
import re
import string
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wasinn_host.evaluate.metrics import (
    Bootstrap,
    Metric,
    answer_score,
    normalised_answer,
    qa_metrics,
    score_answers,
)
from wasinn_runtime.errors import UsageError

FEW = Bootstrap(resamples=50)

WORDS = st.lists(
    st.sampled_from(["the", "The", "a", "an", "Norman", "norman", "1066", "B.C.", "-", "'s", " "]),
    max_size=5,
).map(" ".join)


def of_squad(answer: str, references: list[str]) -> tuple[int, float]:
    """The script's functions for version 2.0, step by step."""

    def normalise(text: str) -> str:
        text = "".join(char for char in text.lower() if char not in set(string.punctuation))
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", text, flags=re.UNICODE).split())

    def f1(right: list[str], given: list[str]) -> float:
        if not right or not given:
            return float(right == given)
        same = sum((collections.Counter(right) & collections.Counter(given)).values())
        if same == 0:
            return 0.0
        precision, recall = same / len(given), same / len(right)
        return 2 * precision * recall / (precision + recall)

    right = [text for text in references if normalise(text)] or [""]
    return (
        max(int(normalise(text) == normalise(answer)) for text in right),
        max(f1(normalise(text).split(), normalise(answer).split()) for text in right),
    )


@settings(max_examples=300, deadline=None)
@given(answer=WORDS, references=st.lists(WORDS, max_size=3))
def test_scores_are_those_of_squads_script(answer: str, references: list[str]) -> None:
    exact, f1, answerable = answer_score(answer, references)
    assert (exact, f1) == pytest.approx(of_squad(answer, references))
    assert answerable == any(map(normalised_answer, references))


@pytest.mark.parametrize(
    ("answer", "references", "exact", "f1"),
    [
        ("The Normans", ["Normans"], True, 1.0),
        ("in the 10th century", ["10th century"], False, 0.8),
        ("10th", ["11th century", "the 10th century"], False, 2 / 3),
        ("10th century", ["10th  century!"], True, 1.0),
        ("", ["Normans"], False, 0.0),
        ("", [], True, 1.0),
        ("", ["", "the"], True, 1.0),
        ("the", [], True, 1.0),
        ("Normans", [], False, 0.0),
        ("no no no", ["no no yes"], False, 2 / 3),
        ("Été", ["été"], True, 1.0),
    ],
)
def test_by_hand(answer: str, references: list[str], exact: bool, f1: float) -> None:
    found = answer_score(answer, references)
    assert found[0] == exact
    assert found[1] == pytest.approx(f1)


def test_normalised() -> None:
    assert normalised_answer("  The U.S.A.'s  theatre, an\tact ") == "usas theatre act"


def test_metrics_by_hand() -> None:
    scored = score_answers(["red", "big red", "", "blue"], [["red"], ["red"], [], []])
    assert scored.exact.tolist() == [True, False, True, False]
    assert scored.f1.tolist() == pytest.approx([1, 2 / 3, 1, 0])
    assert scored.answerable.tolist() == [True, True, False, False]
    found = qa_metrics(scored.exact, scored.f1, scored.answerable, options=FEW)
    assert {name: metric.value for name, metric in found.items()} == pytest.approx(
        {
            "exact": 0.5,
            "f1": (1 + 2 / 3 + 1) / 4,
            "answerable_exact": 0.5,
            "answerable_f1": 5 / 6,
            "unanswerable_exact": 0.5,
        }
    )


def test_without_unanswerable_questions_there_is_one_kind() -> None:
    found = qa_metrics([True, False], [1.0, 0.5], [True, True], options=FEW)
    assert list(found) == ["exact", "f1"]
    only = qa_metrics([True, False], [1.0, 0.0], [False, False], options=FEW)
    assert only["answerable_f1"] == Metric(None, note="not defined: no row has a score")
    assert only["unanswerable_exact"].value == 0.5


def test_standard_errors() -> None:
    """Of the mean of all rows, and of the mean of those that have an answer."""
    random = np.random.default_rng(0)
    f1 = random.random(6000)
    answerable = random.random(6000) < 0.3
    found = qa_metrics(f1 > 0.5, f1, answerable, options=Bootstrap(3000))
    assert found["f1"].standard_error == pytest.approx(f1.std() / math.sqrt(6000), rel=0.06)
    kept = f1[answerable]
    error = kept.std() / math.sqrt(len(kept))
    assert found["answerable_f1"].standard_error == pytest.approx(error, rel=0.06)


def test_intervals_cover_the_truth() -> None:
    covered = dict.fromkeys(("exact", "f1", "answerable_f1", "unanswerable_exact"), 0)
    truth = {"exact": 0.6, "f1": 0.7, "answerable_f1": 0.7, "unanswerable_exact": 0.6}
    for seed in range(300):
        random = np.random.default_rng(seed)
        exact = random.random(150) < 0.6
        # 1 where exact, else 0.25 on average: 0.7 in all.
        f1 = np.where(exact, 1.0, random.random(150) / 2)
        found = qa_metrics(exact, f1, random.random(150) < 0.5, options=Bootstrap(300))
        for name in covered:
            metric = found[name]
            assert metric.low is not None
            assert metric.high is not None
            covered[name] += metric.low <= truth[name] <= metric.high
    for name, times in covered.items():
        assert 0.9 <= times / 300 <= 0.99, name


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(WORDS, st.lists(WORDS, max_size=2)), min_size=1, max_size=10),
    data_=st.data(),
)
def test_the_order_of_rows_changes_no_value(
    rows: list[tuple[str, list[str]]], data_: st.DataObject
) -> None:
    def values(these: list[tuple[str, list[str]]]) -> dict[str, float | None]:
        scored = score_answers(*zip(*these, strict=True))
        found = qa_metrics(scored.exact, scored.f1, scored.answerable, options=FEW)
        return {name: metric.value for name, metric in found.items()}

    assert values(data_.draw(st.permutations(rows))) == pytest.approx(values(rows))


@settings(max_examples=50, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=10))
def test_perfect_answers(answers: list[str]) -> None:
    scored = score_answers(answers, [["something else", answer] for answer in answers])
    for row, answer in enumerate(answers):
        if normalised_answer(answer):  # an empty one is no answer to a question that has one
            assert scored.exact[row]
            assert scored.f1[row] == 1
    scored = score_answers(answers, [[answer] for answer in answers])
    found = qa_metrics(scored.exact, scored.f1, scored.answerable, options=FEW)
    assert {metric.value for metric in found.values()} <= {1, None}
    assert found["f1"].value == 1


@pytest.mark.parametrize(
    ("answers", "references", "message"),
    [
        ([], [], "answers: expected at least 1 row, got none"),
        (["a"], [], "expected as many rows in each, got answers 1, references 0"),
        (["a", 3], [["a"], ["a"]], "answers: row 1: expected a text, got int"),
        (["a"], ["a"], "references: row 0: expected a list of texts, got a"),
        (["a"], [None], "references: row 0: expected a list of texts, got None"),
        (["a"], [[None]], r"references: row 0: expected a list of texts, got \[None\]"),
    ],
)
def test_what_is_refused(answers: Any, references: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        score_answers(answers, references)


def test_scores_are_checked() -> None:
    with pytest.raises(UsageError, match="f1: row 1: expected a finite number, got nan"):
        qa_metrics([1, 0], [1, math.nan], [True, True])
    with pytest.raises(UsageError, match="got exact 2, f1 2, answerable 1"):
        qa_metrics([1, 0], [1, 0], [True])
    with pytest.raises(UsageError, match="exact: expected at least 1 row, got none"):
        qa_metrics([], [], [])
