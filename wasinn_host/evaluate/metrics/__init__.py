"""Metrics of predictions, each with a standard error and an interval. Pure functions of arrays.

They know no files, models or guests. ``resampling`` says how intervals are computed.
"""

from __future__ import annotations

from wasinn_host.evaluate.metrics.answers import (
    AnswerScores,
    answer_score,
    normalised_answer,
    qa_metrics,
    score_answers,
)
from wasinn_host.evaluate.metrics.calibration import Bin
from wasinn_host.evaluate.metrics.classification import Classification, classification_metrics
from wasinn_host.evaluate.metrics.regression import regression_metrics
from wasinn_host.evaluate.metrics.result import Bootstrap, Metric
from wasinn_host.evaluate.metrics.retrieval import Retrieval, retrieval_metrics
from wasinn_host.evaluate.metrics.tokens import Tokens, token_metrics

__all__ = [
    "AnswerScores",
    "Bin",
    "Bootstrap",
    "Classification",
    "Metric",
    "Retrieval",
    "Tokens",
    "answer_score",
    "classification_metrics",
    "normalised_answer",
    "qa_metrics",
    "regression_metrics",
    "retrieval_metrics",
    "score_answers",
    "token_metrics",
]
