"""What the examples' tokenizer makes of texts and pairs, against Hugging Face tokenizers."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples import build
from tests.evaluate.bert_reference import (
    Asked,
    asked,
    build_echo,
    byte_span,
    tokenizer_of,
    write_vocabulary,
)
from tests.guests.building import built
from tests.guests.text_lines import HAND_WRITTEN, generated

SHOW = {suffix: Path(__file__).with_name(f"show_tokens.{suffix}") for suffix in ("c", "rs")}
# Characters of all kinds that the tokenizer tells apart, and some that are in the vocabulary.
CHARACTERS = st.one_of(
    st.sampled_from(
        "abcdeE ThgoqQxX.,-'[]#éÉüßİǅſ中文日한각가हि。！😀👍©\t\n\x00\u200b\u00ad\ufffd"
    ),
    st.sampled_from("\u0301\u0308\u0327\u0345\u093c\u20dd\u3000\u00a0\u2028\U0001d15e\uf900ﬁ≮"),
    st.characters(exclude_categories=["Cs"]),
)
PARTS = st.one_of(
    st.text(CHARACTERS, max_size=12),
    st.sampled_from(
        ("[SEP]", "[CLS]", "[MASK]", " the film ", "unbreakable", "PLAYING", "Zoë", "[")
    ),
    st.sampled_from(("a" * 101, "é" * 100, "word " * 9, "e\u0301" * 101 + "x")),
)
TEXTS = st.lists(PARTS, max_size=6).map("".join)
MANY = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_vocabulary(tmp_path_factory.mktemp("tokens"))
    build_echo(folder)
    return folder


@pytest.fixture(scope="module", params=["uncased", "cased"])
def cased(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "cased")


def show_guest(language: str, folder: Path) -> Path:
    """The guest that shows tokens, compiled with the examples' own commands."""
    name = {"c": "text-classification", "rs": "text-classification-rust"}[language]
    sources = (str(SHOW[language]), *build.GUESTS[name].sources[1:])
    guest = build.Guest(name, sources, 300_000, is_reactor=True)
    return built(guest, folder / f"show-{language}.wasm")


@pytest.fixture(scope="module", params=sorted(SHOW))
def show(request: pytest.FixtureRequest, folder: Path, cased: bool) -> Iterator[Asked]:
    with asked(
        show_guest(request.param, folder), folder / "echo.onnx", *["--cased"][: int(cased)]
    ) as it:
        yield it


def is_reordered(text: str) -> bool:
    """Whether canonical decomposition moves characters: then offsets may be a neighbour's."""
    # What cleaning removes separates nothing.
    kept = [c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Co") and c != "\ufffd"]
    parts = [unicodedata.normalize("NFD", character) for character in kept]
    return unicodedata.normalize("NFD", "".join(kept)) != "".join(parts)


def assert_same_tokens(show: Asked, folder: Path, cased: bool, texts: list[str]) -> None:
    tokenizer = tokenizer_of(folder, cased=cased)
    shown = show.numbers(*[(text,) for text in texts])
    for text, numbers in zip(texts, shown, strict=True):
        encoding = tokenizer.encode(text, add_special_tokens=False)
        expected: list[tuple[int, ...]] = [
            (number, *byte_span(text, span))
            for number, span in zip(encoding.ids, encoding.offsets, strict=True)
        ]
        found = [tuple(row) for row in numbers.reshape(-1, 3).tolist()]
        assert [row[0] for row in found] == [row[0] for row in expected], ascii(text)
        if cased or not is_reordered(text):
            assert found == expected, ascii(text)


@MANY
@given(st.lists(TEXTS, min_size=1, max_size=8))
def test_ids_and_offsets(show: Asked, folder: Path, cased: bool, texts: list[str]) -> None:
    assert_same_tokens(show, folder, cased, texts)


def test_ids_and_offsets_of_hard_lines(show: Asked, folder: Path, cased: bool) -> None:
    assert_same_tokens(show, folder, cased, [*HAND_WRITTEN, *generated(1500, 20250711)])


@pytest.mark.parametrize("most", [8, 9, 12, 257])
@pytest.mark.parametrize("name", ["text-classification", "text-classification-rust"])
def test_rows_as_the_model_gets_them(folder: Path, name: str, most: int) -> None:
    """Ids, mask and types of single texts and pairs, cut as ``longest_first`` cuts them."""
    tokenizer = tokenizer_of(folder)
    tokenizer.enable_truncation(most, strategy="longest_first")
    whole = tokenizer_of(folder)
    pad = whole.token_to_id("[PAD]")
    with asked(name, folder / "echo.onnx", "--max-tokens", str(most)) as ask:

        def check(rows: list[tuple[str, ...]]) -> None:
            answers = ask(*rows)
            width = int(answers.counts[0])
            shown = answers.numbers.reshape(len(rows), width)
            assert width == answers.tokens.max()
            for place, row in enumerate(rows):
                encoding = tokenizer.encode(*row)
                expected = [
                    number * 4 + 2 + type_id
                    for number, type_id in zip(encoding.ids, encoding.type_ids, strict=True)
                ]
                padding = [pad * 4] * (width - len(expected))
                assert shown[place].tolist() == expected + padding, ascii(row)
                assert answers.tokens[place] == len(expected)
                is_cut = len(whole.encode(*row).ids) > most
                assert answers.status[place] == int(is_cut), ascii(row)

        @MANY
        @given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8))
        def pairs(rows: list[tuple[str, str]]) -> None:
            check(list(rows))
            check([row[:1] for row in rows])

        pairs()
        # All lengths around the limit, of either text.
        for a in range(most + 2) if most < 20 else (0, 127, 128, 129, 254, 255, 256, 257, 300):
            rows = [("the " * a, "film " * b) for b in (0, 1, a, most // 2, most - 2, most + 3)]
            check(list(rows))
            check([row[:1] for row in rows])
