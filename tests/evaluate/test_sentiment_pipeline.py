"""The built classifier through a guest, against a plain pipeline in Python, row by row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow.parquet
import pytest
from tokenizers import Tokenizer

from tests.evaluate.bag_of_words import GUEST
from wasinn_host.evaluate import Evaluation, evaluate
from wasinn_models import ModelStore
from wasinn_models.data.store import resolve_dataset


@pytest.mark.slow
def test_each_held_out_row_has_the_label_and_logits_of_a_plain_pipeline(tmp_path: Path) -> None:
    output = tmp_path / "out"
    results = evaluate(
        Evaluation(
            guest=str(GUEST),
            graph="sentiment",
            data="movie-reviews",
            split="test",
            task="classification",
            output=str(output),
        )
    )
    assert results["rows"] == {"requested": 2651, "evaluated": 2651, "failed": 0, "truncated": 0}
    assert results["labels"] == ["negative", "positive"]
    assert results["metrics"]["accuracy"]["value"] >= 0.77

    model = ModelStore().resolve("sentiment")
    tokenizer = Tokenizer.from_file(str(model.file("tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])
    lines = resolve_dataset("movie-reviews").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["split"] == "test"]
    found = pyarrow.parquet.read_table(output / "rows.parquet").to_pylist()
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    furthest = 0.0
    for row, ours in zip(rows, found, strict=True):
        encoding = tokenizer.encode(row["text"])
        ids = np.array([encoding.ids])
        feed = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
        logits = session.run(["logits"], feed)[0][0]
        assert ours["tokens"] == len(encoding.ids)
        assert ours["prediction"] == int(logits.argmax())
        assert results["labels"][ours["label"]] == row["label"]
        furthest = max(furthest, float(np.abs(logits - ours["logits"]).max()))
    assert furthest <= 1e-4
