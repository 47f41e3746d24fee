"""The table of batch evaluation: rows a second through a guest, beside pipelines in plain Python.

The pipelines do what guest and evaluator do: tokens, batches, the model, the best label. One
is the best that we can write, with Hugging Face's tokenizers and batches sorted by length; the
other is what most people write first, a row at a time. Loading is not counted on any side.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.errors import BenchmarkError
from benchmarks.measure import Sample, interleave, median_ratio
from benchmarks.report import Bar, Json, Result, Table
from wasinn_host.evaluate import Evaluation, evaluate
from wasinn_models import ModelStore
from wasinn_models.data.store import resolve_dataset

__all__ = ["evaluation_table"]

_GUEST = Path(__file__).parents[1] / "examples" / "text-classification" / "text-classification.wasm"
_OURS, _BEST, _OBVIOUS = "wasinn eval", "best Python", "obvious Python"
_BATCH = 32
_MOST_TOKENS = 256
_BEST_RATIO, _OBVIOUS_RATIO = 1.0, 1.2


def _rows(count: int) -> list[dict[str, Any]]:
    lines = resolve_dataset("movie-reviews").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:count]]


def _ours(graph: str, data: Path) -> Callable[[], Sample]:
    def work() -> Sample:
        with tempfile.TemporaryDirectory() as folder:
            results = evaluate(
                Evaluation(
                    guest=str(_GUEST),
                    graph=graph,
                    data=str(data),
                    task="classification",
                    output=f"{folder}/out",
                    batch_rows=_BATCH,
                )
            )
        if results["rows"]["failed"]:
            raise BenchmarkError(f"{graph}: {results['failures'][0]['error']}")
        seconds = float(results["duration_s"])
        return Sample(seconds, seconds)

    return work


def _pipeline(graph: str, texts: list[str], batch: int) -> Callable[[], Sample]:
    """Tokens, batches by length, the model, labels. A batch of 1 is taken as the texts come."""
    try:
        import onnxruntime
        from tokenizers import Tokenizer
    except ImportError as error:
        raise BenchmarkError(f"the pipelines need tokenizers: {error}") from error
    model = ModelStore().resolve(graph)
    tokenizer = Tokenizer.from_file(str(model.file("tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_MOST_TOKENS)
    session = onnxruntime.InferenceSession(model.path, providers=["CPUExecutionProvider"])

    def run(ids: list[list[int]]) -> Any:
        padded = np.zeros((len(ids), max(map(len, ids))), np.int64)
        mask = np.zeros_like(padded)
        for row, tokens in enumerate(ids):
            padded[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        feed = {"input_ids": padded, "attention_mask": mask, "token_type_ids": mask * 0}
        return session.run(["logits"], feed)[0].argmax(axis=1)

    def work() -> Sample:
        began = time.perf_counter()
        labels = np.zeros(len(texts), np.int64)
        if batch == 1:
            for row, text in enumerate(texts):
                labels[row] = run([tokenizer.encode(text).ids])[0]
        else:
            ids = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
            order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
            for start in range(0, len(order), batch):
                chosen = order[start : start + batch]
                labels[chosen] = run([ids[row] for row in chosen])
        seconds = time.perf_counter() - began
        return Sample(seconds, seconds)

    return work


def evaluation_table(rounds: int, rows: int = 1024) -> Result:
    """Rows a second of the classifier ``sentiment``, in float32 and int8.

    Args:
        rounds: how often each way is measured.
        rows: how many sentences.

    Raises:
        BenchmarkError: a row fails, or tokenizers is not installed.
    """
    sentences = _rows(rows)
    texts = [row["text"] for row in sentences]
    lines, bars = [], []
    data: dict[str, Json] = {"rounds": rounds, "rows": rows}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_text("".join(json.dumps(row) + "\n" for row in sentences), encoding="utf-8")
        for graph in ("sentiment:float32", "sentiment:int8"):
            found = interleave(
                {
                    _OURS: _ours(graph, path),
                    _BEST: _pipeline(graph, texts, _BATCH),
                    _OBVIOUS: _pipeline(graph, texts, 1),
                },
                rounds,
            )
            speeds = {way: [rows / s for s in runs.wall_s] for way, runs in found.items()}
            for way, each in speeds.items():
                figures = (statistics.median(each), max(each), min(each))
                lines.append((graph, way, *(f"{figure:.0f}" for figure in figures)))
                data[f"{graph}, {way}"] = list(each)
            for way, least in ((_BEST, _BEST_RATIO), (_OBVIOUS, _OBVIOUS_RATIO)):
                ratio = median_ratio(speeds[_OURS], speeds[way])
                bars.append(Bar(f"{graph}: rows/s over {way}", ratio, least, at_least=True))
    return Result(
        name="evaluation",
        table=Table(
            title=f"{rows} sentences through text and model, rows a second, {rounds} rounds",
            headings=("model", "way", "median", "fastest", "slowest"),
            rows=tuple(lines),
            left=2,
        ),
        bars=tuple(bars),
        data=data,
    )
