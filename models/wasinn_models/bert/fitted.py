"""A classifier fitted on a catalogue's data: files in, one file out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wasinn_models.bert.config import BertConfig
from wasinn_models.bert.fit import fit_head
from wasinn_models.bert.graph import bert_graph
from wasinn_models.bert.weights import read_weights, write_classifier
from wasinn_models.data.readers import rows_of
from wasinn_models.errors import BuildError
from wasinn_models.manifest import Fit

__all__ = ["fit_classifier"]


def fit_classifier(config: Path, weights: Path, files: Path, fit: Fit, target: Path) -> str:
    """Fits a classifier on sentence embeddings, and writes it.

    Args:
        config, weights: of the encoder.
        files: the folder of the data and the tokenizer.
        fit: what is fitted on what.
        target: where it is written, see ``weights.write_classifier``.

    Returns:
        what was done and how good it is, as a sentence's end.

    Raises:
        BuildError: the data are not what the reader reads, or have another label.
        MissingExtra: a package is not installed.
        StoreError: it can not be written.
    """
    rows = rows_of(fit.reader, files / fit.data)
    unknown = sorted({row.label for row in rows} - set(fit.labels))
    if unknown:
        raise BuildError(f"{fit.data}: label {unknown[0]!r}; expected {' or '.join(fit.labels)}")
    shape = BertConfig.from_file(config)
    model = bert_graph(shape, read_weights(weights, shape, "pooled"), "pooled")
    found = fit_head(
        model.SerializeToString(),
        files / fit.tokenizer,
        [row.text for row in rows],
        np.array([fit.labels.index(row.label) for row in rows]),
        np.array([row.split == "test" for row in rows]),
        fit.penalty,
    )
    classifier = {"classifier.weight": found.weight, "classifier.bias": found.bias}
    write_classifier(target, classifier, fit.labels)
    return (
        f"fitted on {found.rows} sentences; accuracy on the {found.held_out} held out: "
        f"{found.accuracy:.4f}"
    )
