"""Metrics of predictions, each with a standard error and an interval. Pure functions of arrays.

They know no files, models or guests. ``resampling`` says how intervals are computed.
"""

from __future__ import annotations

from wasinn_host.evaluate.metrics.answers import (
    AnswerScores,
    answer_score,
    normalised_answer,
    qa,
    score_answers,
)
from wasinn_host.evaluate.metrics.calibration import Bin
from wasinn_host.evaluate.metrics.classification import Classification, classification
from wasinn_host.evaluate.metrics.regression import regression
from wasinn_host.evaluate.metrics.result import Bootstrap, Metric
from wasinn_host.evaluate.metrics.retrieval import Retrieval, retrieval
from wasinn_host.evaluate.metrics.tokens import Tokens, tokens

__all__ = [
    "AnswerScores",
    "Bin",
    "Bootstrap",
    "Classification",
    "Metric",
    "Retrieval",
    "Tokens",
    "answer_score",
    "classification",
    "normalised_answer",
    "qa",
    "regression",
    "retrieval",
    "score_answers",
    "tokens",
]
