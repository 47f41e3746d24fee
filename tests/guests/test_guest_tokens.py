"""Token ids of the semantic-search guest equal those of Hugging Face tokenizers, always."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer

from tests.guests.runners import SEMANTIC_SEARCH, Outcome, Runner, run_wasinn
from tests.guests.text_lines import HAND_WRITTEN, escaped, generated

GENERATED_LINES = 2500
SEED = 20240607

# Longer than any line here: nothing is cut off.
NO_LIMIT = 65536


def tokenize(
    runner: Runner, folder: Path, lines: Sequence[str | bytes], *options: str
) -> list[list[int]]:
    """Asks the guest for the ids of each line; ``folder`` holds vocab.txt."""
    stdin = b"".join(escaped(line) + b"\n" for line in lines)
    args = ["--vocab", "models/vocab.txt", "--tokenize", "--escapes", *options]
    result = runner(SEMANTIC_SEARCH, args, stdin=stdin, dirs={"models": folder})
    rows = [[int(number) for number in row.split()] for row in result.text.splitlines()]
    assert len(rows) == len(lines)
    return rows


def assert_same(lines: Sequence[str], ours: Sequence[Sequence[int]], reference: Tokenizer) -> None:
    """Fails with the first line whose ids differ."""
    theirs = reference.encode_batch_fast(lines)
    for line, got, expected in zip(lines, ours, theirs, strict=True):
        assert got == expected.ids, (line, [f"U+{ord(c):04X}" for c in line[:40]], expected.tokens)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """More than 2,000 lines of every kind."""
    return [*HAND_WRITTEN, *generated(GENERATED_LINES, SEED)]


@pytest.fixture
def reference(minilm_files: Path) -> Tokenizer:
    """Hugging Face's own tokenizer as the model's files describe it, without cutting or padding."""
    tokenizer = Tokenizer.from_file(str(minilm_files / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def test_same_ids(
    runner: Runner, minilm_files: Path, reference: Tokenizer, lines: list[str]
) -> None:
    assert len(lines) > 2000
    ours = tokenize(runner, minilm_files, lines, "--max-tokens", str(NO_LIMIT))
    assert_same(lines, ours, reference)


def test_same_ids_as_the_bert_preset(minilm_files: Path, lines: list[str]) -> None:
    preset = BertWordPieceTokenizer.from_file(str(minilm_files / "vocab.txt"), lowercase=True)
    ours = tokenize(run_wasinn, minilm_files, lines, "--max-tokens", str(NO_LIMIT))
    for line, got in zip(lines, ours, strict=True):
        assert got == preset.encode(line).ids, line


def test_every_word_and_piece_of_the_vocabulary(
    runner: Runner, minilm_files: Path, reference: Tokenizer
) -> None:
    tokens = (minilm_files / "vocab.txt").read_text(encoding="utf-8").splitlines()
    words = [token for token in tokens if not token.startswith("##")]
    words += [f"{start}{token[2:]}" for token in tokens if token.startswith("##") for start in "aq"]
    lines = [" ".join(words[start : start + 64]) for start in range(0, len(words), 64)]
    ours = tokenize(runner, minilm_files, lines, "--max-tokens", str(NO_LIMIT))
    assert len({number for row in ours for number in row}) > 0.9 * len(tokens)
    assert_same(lines, ours, reference)


@pytest.mark.parametrize("limit", [3, 4, 16, 128, 512])
def test_same_truncation(
    runner: Runner, minilm_files: Path, reference: Tokenizer, lines: list[str], limit: int
) -> None:
    reference.enable_truncation(limit)
    ours = tokenize(runner, minilm_files, lines, "--max-tokens", str(limit))
    assert max(map(len, ours)) == limit
    assert_same(lines, ours, reference)


def test_special_tokens_as_plain_text(
    runner: Runner, minilm_files: Path, reference: Tokenizer, lines: list[str]
) -> None:
    reference.encode_special_tokens = True
    ours = tokenize(runner, minilm_files, lines, "--literal", "--max-tokens", str(NO_LIMIT))
    assert_same(lines, ours, reference)
    sentence = ["[CLS] a [SEP]"]
    literal = tokenize(runner, minilm_files, sentence, "--literal")
    assert literal != tokenize(runner, minilm_files, sentence)


def test_malformed_utf8_counts_as_replacement_characters(
    runner: Runner, minilm_files: Path, reference: Tokenizer
) -> None:
    raw = [
        b"plain \xff\xfe bytes",
        b"cut \xc3",
        b"cut \xe4\xb8",
        b"cut \xf0\x9f\x98",
        b"overlong \xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf",
        b"surrogate \xed\xa0\x80 \xed\xbf\xbf",
        b"too large \xf4\x90\x80\x80 \xf5\x80\x80\x80",
        b"alone \x80 \xbf\xbf inside wo\x80rd caf\xc3\xa9\xc3",
        b"restart \xe4\xe4\xb8\xad \xf0\x9f\xe4\xb8\xad \xf0\x9fx",
        *(
            bytes([0x61, lead, tail, 0x62])
            for lead in range(0xC0, 0x100)
            for tail in range(0x70, 0xD0)
        ),
    ]
    ours = tokenize(runner, minilm_files, raw)
    assert_same([line.decode("utf-8", "replace") for line in raw], ours, reference)


def test_lines_without_escapes(runner: Runner, minilm_files: Path, reference: Tokenizer) -> None:
    def plain(stdin: bytes) -> Outcome:
        args = ["--vocab", "models/vocab.txt", "--tokenize"]
        return runner(SEMANTIC_SEARCH, args, stdin=stdin, dirs={"models": minilm_files})

    lines = [r"a back\slash \x41", "null\0byte", "carriage return\r", "", "last"]
    expected = [reference.encode(line).ids for line in lines]
    rows = "".join(" ".join(map(str, ids)) + "\n" for ids in expected)
    assert plain("\n".join(lines).encode()).text == rows
    assert plain(("\n".join(lines) + "\n").encode()).text == rows
    assert plain(b"").text == ""


@pytest.mark.parametrize("line", [rb"\q", rb"\x4", rb"\xg0", rb"\u00e9", b"\\"])
def test_bad_escape(runner: Runner, minilm_files: Path, line: bytes) -> None:
    args = ["--vocab", "models/vocab.txt", "--tokenize", "--escapes"]
    result = runner(
        SEMANTIC_SEARCH, args, stdin=b"x " + line + b"\n", dirs={"models": minilm_files}
    )
    assert result.status == 1
    assert b"bad escape at byte 2 of a line" in result.stderr


def character_tokenizer(reference: Tokenizer, folder: Path) -> Tokenizer:
    """A vocabulary of single characters, so that ids show exactly what the normaliser made.

    With the model's own, most characters are unknown, and [UNK] hides what became of them.
    """
    characters = [
        chr(cp)
        for cp in (*range(0x21, 0xD800), *range(0xE000, 0x20000), *range(0x2F800, 0x2FA20))
        if not chr(cp).isspace()
    ]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*special, *characters, *(f"##{character}" for character in characters)]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8", newline="\n")
    content = json.loads(reference.to_str())
    content["model"]["vocab"] = {token: number for number, token in enumerate(tokens)}
    for row in content["added_tokens"]:
        row["id"] = special.index(row["content"])
    for name, row in content["post_processor"]["special_tokens"].items():
        row["ids"] = [special.index(name)]
    return Tokenizer.from_str(json.dumps(content))


@pytest.mark.slow
def test_every_code_point(tmp_path: Path, reference: Tokenizer) -> None:
    """All 1,112,064 of them: inside a word, and beside marks that may be reordered."""
    characters = character_tokenizer(reference, tmp_path)
    every = [chr(cp) for cp in (*range(0xD800), *range(0xE000, 0x110000))]
    words = [f"a{c}b" for c in every]
    words += [f"x{c}\u302e" for c in every[:0x1F000]]
    words += [f"x\U0001d165{c}" for c in every[:0x1F000]]
    lines = [" ".join(words[start : start + 64]) for start in range(0, len(words), 64)]
    ours = tokenize(run_wasinn, tmp_path, lines, "--max-tokens", str(NO_LIMIT))
    assert_same(lines, ours, characters)


def test_normaliser_on_mixed_lines(
    runner: Runner, tmp_path: Path, reference: Tokenizer, lines: list[str]
) -> None:
    characters = character_tokenizer(reference, tmp_path)
    ours = tokenize(runner, tmp_path, lines, "--max-tokens", str(NO_LIMIT))
    assert_same(lines, ours, characters)


def test_vocabulary_lines(runner: Runner, tmp_path: Path) -> None:
    """Carriage returns and trailing spaces do not count, of equal lines the last one does."""
    lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "word \t", "", "##s", "word", "w", "last"]
    (tmp_path / "vocab.txt").write_bytes("\r\n".join(lines).encode())
    texts = ["word words w s last [MASK]", "wordword"]
    assert tokenize(runner, tmp_path, texts) == [[2, 7, 7, 6, 8, 1, 9, 1, 1, 1, 3], [2, 1, 3]]


@pytest.mark.parametrize("missing", ["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
def test_vocabulary_without_a_special_token(runner: Runner, tmp_path: Path, missing: str) -> None:
    tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "word"} - {missing}
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(tokens)))
    args = ["--vocab", "models/vocab.txt", "--tokenize"]
    result = runner(SEMANTIC_SEARCH, args, stdin=b"word\n", dirs={"models": tmp_path})
    assert (result.status, result.stdout) == (1, b"")
    assert f"the vocabulary has no {missing}".encode() in result.stderr


def test_empty_vocabulary(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"")
    args = ["--vocab", "models/vocab.txt", "--tokenize"]
    result = runner(SEMANTIC_SEARCH, args, dirs={"models": tmp_path})
    assert result.status == 1
    assert b"the vocabulary has no [UNK]" in result.stderr
