"""Fits a classifier on sentence embeddings of a BERT-style encoder that stays as it is.

Logistic regression with a penalty on the squares of the weights, by Newton's method: one minimum,
found in a few steps, the same each time.

Source: T. Hastie, R. Tibshirani and J. Friedman, The Elements of Statistical Learning (2009),
section 4.4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from wasinn_models.errors import BuildError, MissingExtra

__all__ = ["Fitted", "embed", "fit", "fit_head"]

Floats = npt.NDArray[np.float64]

_BATCH: Final = 64
_MOST_TOKENS: Final = 256
_STEPS: Final = 50
_ENOUGH: Final = 1e-9
"""The largest change of a weight in a step after which there is no further one."""


class Fitted(NamedTuple):
    """A classifier of two labels.

    Attributes:
        weight: float32 [2, hidden].
        bias: float32 [2].
        accuracy: on the rows that were held out, 0 to 1.
        rows: it was fitted on.
        held_out: rows that were not used.
    """

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    accuracy: float
    rows: int
    held_out: int


def fit_head(
    model: bytes,
    tokenizer: Path,
    texts: Sequence[str],
    labels: npt.NDArray[np.int64],
    is_held_out: npt.NDArray[np.bool_],
    penalty: float,
) -> Fitted:
    """Fits a classifier.

    Args:
        model: an ONNX model with the head ``pooled``.
        tokenizer: its ``tokenizer.json``.
        texts: n of them.
        labels: int64 [n], 0 or 1.
        is_held_out: bool [n].
        penalty: half of it times the sum of squared weights is added to the sum of losses.

    Raises:
        BuildError: the texts used have not both labels, or none is held out.
        MissingExtra: the package tokenizers is not installed.
    """
    used = ~is_held_out
    if len(set(labels[used].tolist())) != 2 or not is_held_out.any():
        raise BuildError("the data have not both labels to fit on, or nothing is held out")
    vectors = embed(model, tokenizer, texts)
    weights = fit(vectors[used], labels[used].astype(np.float64), penalty)
    scores = vectors @ weights[:-1] + weights[-1]
    right = (scores > 0) == (labels == 1)
    # Half of it for each label: the probabilities are those of the one score.
    half = (weights / 2).astype(np.float32)
    return Fitted(
        np.stack([-half[:-1], half[:-1]]),
        np.array([-half[-1], half[-1]], np.float32),
        float(right[is_held_out].mean()),
        int(used.sum()),
        int(is_held_out.sum()),
    )


def embed(
    model: bytes,
    tokenizer: Path,
    texts: Sequence[str],
) -> Floats:
    """Embeddings of texts, float64 [n, hidden]. See `fit_head`."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtra("tokenizers", "fitting a classifier") from error
    import onnxruntime

    cut = Tokenizer.from_file(str(tokenizer))
    cut.no_padding()
    cut.enable_truncation(_MOST_TOKENS)
    ids = [encoding.ids for encoding in cut.encode_batch(list(texts))]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found: Any = None
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        vectors = session.run(None, _inputs([ids[row] for row in rows]))[0]
        if found is None:
            found = np.zeros((len(ids), vectors.shape[1]))
        found[rows] = vectors
    vectors_of_all: Floats = found
    return vectors_of_all


def _inputs(ids: Sequence[Sequence[int]]) -> dict[str, npt.NDArray[np.int64]]:
    width = max(map(len, ids))
    padded = np.zeros((len(ids), width), np.int64)
    mask = np.zeros_like(padded)
    for row, tokens in enumerate(ids):
        padded[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return {
        "input_ids": padded,
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(padded),
    }


def fit(vectors: Floats, labels: Floats, penalty: float) -> Floats:
    """Weights of a logistic regression, the bias last.

    Args:
        vectors: float64 [n, width].
        labels: float64 [n], 0 or 1.
        penalty: see `fit_head`; the bias has none. Above 0.

    Returns:
        float64 [width + 1].

    Raises:
        BuildError: no minimum was found.
    """
    columns = np.concatenate([vectors, np.ones((len(vectors), 1))], axis=1)
    ridge = np.full(columns.shape[1], penalty)
    ridge[-1] = 0
    weights = np.zeros(columns.shape[1])
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-(columns @ weights)))
        gradient = columns.T @ (chance - labels) + ridge * weights
        curvature = (columns * (chance * (1 - chance))[:, None]).T @ columns + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < _ENOUGH:
            return weights
    raise BuildError(f"the classifier does not settle within {_STEPS} steps")
