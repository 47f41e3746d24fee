"""The example guests on small real models, against plain pipelines in Python, row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from examples import build
from tests.evaluate.bert_reference import (
    asked,
    build_encoder,
    computed,
    tokenizer_of,
    write_vocabulary,
)
from tests.guests.building import built
from tests.guests.text_lines import HAND_WRITTEN, generated
from wasinn_host.evaluate.check import check_guest
from wasinn_host.evaluate.guests.answers import OK, TRUNCATED

TEXTS = (
    *(line for line in HAND_WRITTEN if "\r" not in line),
    *generated(60, 11),
    *(("the film is good . " * n).strip() for n in (1, 49, 50, 51, 52, 70, 400)),
    *(" ".join(["the"] * n) for n in (253, 254, 255, 256, 257)),
)
WORDS = [text for text in TEXTS if text.split() == text.split(" ")]
HEADS = {"classification": 3, "token-classification": 5, "question-answering": 0, "pooled": 0}
GUESTS = {
    "text-classification": ("classification", (1, 2)),
    "text-classification-rust": ("classification", (1, 2)),
    "sentence-pairs": ("pooled", (2,)),
    "token-classification": ("token-classification", (1,)),
    "qa-spans": ("question-answering", (2,)),
    "text-embedding": ("pooled", (1,)),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model with each head, beside the vocabulary."""
    folder = write_vocabulary(tmp_path_factory.mktemp("models"))
    return {head: build_encoder(folder, head, labels) for head, labels in HEADS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(GUESTS))
def test_a_rebuilt_guest_answers_the_same(
    models: dict[str, Path], tmp_path: Path, name: str
) -> None:
    head, counts = GUESTS[name]
    fresh = built(build.GUESTS[name], tmp_path / f"{name}.wasm")
    with asked(name, models[head]) as prebuilt, asked(fresh, models[head]) as rebuilt:
        for batch in batched([(text, text)[: max(counts)] for text in TEXTS]):
            one, other = prebuilt(*batch), rebuilt(*batch)
            for array in ("status", "tokens", "counts", "numbers"):
                assert np.array_equal(getattr(one, array), getattr(other, array))
            assert [one.text(row) for row in range(len(one))] == [
                other.text(row) for row in range(len(other))
            ]


def batched(rows: list[tuple[str, ...]], size: int = 16) -> list[list[tuple[str, ...]]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def assert_close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    assert found.shape == expected.shape
    assert np.abs(found - expected).max(initial=0) <= 1e-4


def test_each_guest_is_looked_at() -> None:
    assert set(GUESTS) == {name for name, guest in build.GUESTS.items() if guest.is_reactor}


@pytest.mark.parametrize(
    ("name", "texts"), [(name, n) for name, (_, counts) in GUESTS.items() for n in counts]
)
def test_the_check_passes(models: dict[str, Path], name: str, texts: int) -> None:
    graph = f"onnx:cpu:{models[GUESTS[name][0]]}"
    findings = list(check_guest(str(build.GUESTS[name].prebuilt), graph, texts=texts))
    assert len(findings) == 8
    assert [finding for finding in findings if not finding.is_kept] == []


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("name", ["text-classification", "text-classification-rust"])
def test_text_classification(models: dict[str, Path], name: str, columns: int) -> None:
    model = models["classification"]
    whole, tokenizer = (tokenizer_of(model.parent) for _ in range(2))
    tokenizer.enable_truncation(256, strategy="longest_first")
    rows = [(text, TEXTS[(i * 7 + 3) % len(TEXTS)])[:columns] for i, text in enumerate(TEXTS)]
    statuses: set[int] = set()
    with asked(name, model) as ask:
        for batch in batched(rows):
            encodings = [tokenizer.encode(*row) for row in batch]
            (expected,) = computed(model, encodings)
            answers = ask(*batch)
            logits = answers.numbers.reshape(len(batch), 3)
            assert_close(logits, expected)
            assert logits.argmax(1).tolist() == expected.argmax(1).tolist()
            assert answers.tokens.tolist() == [len(encoding.ids) for encoding in encodings]
            cut = [len(whole.encode(*row).ids) > 256 for row in batch]
            assert answers.status.tolist() == [TRUNCATED if is_cut else OK for is_cut in cut]
            statuses.update(answers.status.tolist())
    assert statuses == {OK, TRUNCATED}


def embedded(model: Path, texts: list[str]) -> tuple[NDArray[np.float32], list[int]]:
    """Vectors of length 1, and numbers of tokens."""
    tokenizer = tokenizer_of(model.parent)
    tokenizer.enable_truncation(256)
    encodings = [tokenizer.encode(text) for text in texts]
    (vectors,) = computed(model, encodings)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / lengths, [len(encoding.ids) for encoding in encodings]


def test_text_embedding(models: dict[str, Path]) -> None:
    with asked("text-embedding", models["pooled"]) as ask:
        for batch in batched([(text,) for text in TEXTS]):
            expected, tokens = embedded(models["pooled"], [text for (text,) in batch])
            answers = ask(*batch)
            vectors = answers.numbers.reshape(len(batch), -1)
            assert_close(vectors, expected)
            assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-6
            assert answers.tokens.tolist() == tokens


def test_sentence_pairs(models: dict[str, Path]) -> None:
    rows = [(text, TEXTS[(i * 5 + 1) % len(TEXTS)]) for i, text in enumerate(TEXTS)]
    with asked("sentence-pairs", models["pooled"]) as ask:
        for batch in batched(list(rows)):
            (a, a_tokens), (b, b_tokens) = (
                embedded(models["pooled"], [row[side] for row in batch]) for side in (0, 1)
            )
            answers = ask(*batch)
            assert answers.counts.tolist() == [1] * len(batch)
            assert_close(answers.numbers, (a * b).sum(1).astype(np.float32))
            assert answers.tokens.tolist() == [sum(n) for n in zip(a_tokens, b_tokens, strict=True)]
        (same,) = ask.numbers(("the good film", "The GOOD  film"))
        assert same[0] == pytest.approx(1.0, abs=1e-6)


def first_tokens(text: str, starts: list[int]) -> list[int | None]:
    """For each word the first token that starts in it; None where there is none."""
    firsts: list[int | None] = []
    at = 0
    for word in text.split(" ") if text else []:
        inside = [n for n, start in enumerate(starts) if at <= start < at + len(word)]
        firsts.append(inside[0] if inside else None)
        at += len(word) + 1
    return firsts


@pytest.mark.parametrize("outside", [0, 4])
def test_token_classification(models: dict[str, Path], outside: int) -> None:
    model = models["token-classification"]
    tokenizer = tokenizer_of(model.parent)
    few = without = 0
    with asked("token-classification", model, "--outside", str(outside)) as ask:
        for batch in batched([(text,) for text in WORDS]):
            wholes = [tokenizer.encode(text) for (text,) in batch]
            tokenizer.enable_truncation(256)
            (logits,) = computed(model, [tokenizer.encode(text) for (text,) in batch])
            tokenizer.no_truncation()
            answers = ask(*batch)
            ends = np.cumsum(answers.counts)
            for row, whole in enumerate(wholes):
                text = batch[row][0]
                firsts = first_tokens(text, [span[0] for span in whole.offsets[1:-1]])
                # Words from the first one on that begins beyond the cut are not there.
                cut = [word for word, n in enumerate(firsts) if n is not None and n >= 254]
                is_cut = len(whole.ids) > 256
                # Words without tokens in front of it belong to it.
                seen = cut[0] if cut else len(firsts)
                while is_cut and seen and firsts[seen - 1] is None:
                    seen -= 1
                expected = [
                    outside if n is None else int(logits[row, n + 1].argmax())
                    for n in firsts[:seen]
                ]
                found = answers.numbers[ends[row] - answers.counts[row] : ends[row]]
                assert found.tolist() == expected, ascii(text)
                assert answers.status[row] == (TRUNCATED if is_cut else OK)
                few += seen < len(firsts)
                without += None in firsts[:seen]
    assert few > 3
    assert without > 3


def best_span(
    starts: NDArray[np.float32], ends: NDArray[np.float32], most: int
) -> tuple[np.float32, int, int]:
    """The best start + end of a window's context, with start <= end < start + most."""
    scores = np.where(
        np.triu(np.ones((len(starts), len(starts)))) * np.tri(len(starts), k=most - 1),
        starts[:, None] + ends[None, :],
        -np.inf,
    )
    at = int(scores.argmax())
    return scores.flat[at], at // len(starts), at % len(starts)


def answered(
    model: Path, question: str, context: str, most: int, stride: int, *, may_be_empty: bool
) -> tuple[str, float, int]:
    """Answer, score and number of windows, by Hugging Face's windows."""
    tokenizer = tokenizer_of(model.parent)
    asked_for = tokenizer.encode(question, add_special_tokens=False)
    if len(asked_for.ids) > 64:
        question = question[: asked_for.offsets[63][1]]
    room = most - 3 - min(64, len(asked_for.ids))
    tokenizer.enable_truncation(most, stride=room - stride, strategy="only_second")
    encoding = tokenizer.encode(question, context)
    windows = [encoding, *encoding.overflowing]
    all_starts, all_ends = computed(model, windows)
    best, empty = (-np.inf, ""), np.inf
    for window, starts, ends in zip(windows, all_starts, all_ends, strict=True):
        empty = min(empty, float(starts[0] + ends[0]))
        places = [n for n, sequence in enumerate(window.sequence_ids) if sequence == 1]
        if places:
            score, start, end = best_span(starts[places], ends[places], 30)
            span = (window.offsets[places[start]][0], window.offsets[places[end]][1])
            if score > best[0]:
                best = (float(score), context[span[0] : span[1]])
    if best[0] == -np.inf or (may_be_empty and empty > best[0]):
        best = (empty, "")
    return best[1], best[0], len(windows)


@pytest.mark.parametrize(
    ("args", "most", "stride"),
    [((), 384, 128), (("--empty",), 384, 128), (("--max-tokens", "96", "--stride", "9"), 96, 9)],
    ids=["plain", "empty", "small"],
)
def test_qa_spans(models: dict[str, Path], args: tuple[str, ...], most: int, stride: int) -> None:
    model = models["question-answering"]
    questions = ("is the film good ?", "", "中文 é 😀", "the " * 64, "the " * 65 + "unbreakable")
    words = [text for text in TEXTS if len(text) < 400]
    contexts = [
        "",
        "\u200b",
        "good",
        *TEXTS[:20],
        *(" ".join(words[start : start + 9]) for start in range(0, len(words), 9)),
        " ".join(words * 2),
        *(" ".join(["the"] * n) for n in (29, 30, 31, 375, 376, 377, 504, 505)),
    ]
    rows = [(questions[i % len(questions)], context) for i, context in enumerate(contexts)]
    empty = windows = 0
    with asked("qa-spans", model, *args) as ask:
        for batch in batched(list(rows), 12):
            answers = ask(*batch)
            for row, (question, context) in enumerate(batch):
                text, score, count = answered(
                    model, question, context, most, stride, may_be_empty="--empty" in args
                )
                assert answers.text(row) == text, (ascii(question), ascii(context))
                assert answers.text(row) in context
                assert answers.numbers[row] == pytest.approx(score, abs=1e-4)
                assert answers.status[row] == (TRUNCATED if "unbreakable" in question else OK)
                empty += not text
                windows = max(windows, count)
    assert windows > 40
    assert (empty > 5) == ("--empty" in args)
