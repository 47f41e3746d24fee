"""The semantic-search guest with real models: answers, vectors, measurement, what goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from tests.guests.runners import EXAMPLES, SEMANTIC_SEARCH, Outcome, run_wasinn
from wasinn_host import Host
from wasinn_models.bert.config import BertConfig
from wasinn_models.bert.graph import bert_graph
from wasinn_models.bert.weights import random_weights
from wasinn_models.store import ResolvedModel

CORPUS = EXAMPLES / "semantic-search" / "corpus.txt"

QUESTIONS = {
    "How do plants get their energy?": "Leaves use sunlight,",
    "what makes my dough puff up": "Bread rises because yeast",
    "Why do I see the flash before hearing the bang?": "Thunder is heard after lightning",
    "How can I keep hackers out of my email?": "Use a long random password",
    "safe execution of untrusted programs": "A WebAssembly sandbox",
    "Who was the first astronaut on the lunar surface?": "The first people walked on the Moon",
}

# A vocabulary for the small models below.
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]


class Search:
    """Runs the guest with one model and one folder."""

    def __init__(self, host: Host, files: Path) -> None:
        self.host = host
        self.files = files

    def __call__(self, *args: str, stdin: bytes = b"", model: str = "model") -> Outcome:
        return run_wasinn(
            SEMANTIC_SEARCH,
            ["--vocab", "models/vocab.txt", "--model", model, *args],
            stdin=stdin,
            dirs={"models": self.files, "corpus": CORPUS.parent},
            host=self.host,
        )

    def vectors(self, lines: Sequence[str], *options: str) -> NDArray[np.float32]:
        """What --embed prints: float32 [lines, hidden]."""
        text = self("--embed", *options, stdin="\n".join(lines).encode()).text
        return np.array([row.split() for row in text.splitlines()], dtype=np.float32)


def host_with(path: Path) -> Host:
    """A host that offers the ONNX file as the model "model"."""
    host = Host()
    host.preload(f"model:onnx:cpu:{path}")
    return host


@pytest.fixture(scope="module")
def search(minilm: ResolvedModel) -> Search:
    """The guest with MiniLM."""
    return Search(host_with(minilm.path), minilm.directory)


def small_search(model: onnx.ModelProto, folder: Path) -> Search:
    """The guest with a model made for a test, and a vocabulary of letters."""
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    onnx.save(model, str(folder / "model.onnx"))
    return Search(host_with(folder / "model.onnx"), folder)


def small_bert(hidden: int) -> onnx.ModelProto:
    """One layer of random weights."""
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    return bert_graph(config, random_weights(config, "embedding", seed=1), "embedding")


def reference_vectors(model: Path, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """The same from ONNX Runtime and numpy, one row at a time: float32 [rows, hidden]."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    found = []
    for row in rows:
        ids = np.array([row], dtype=np.int64)
        feed = [ids, np.ones_like(ids), np.zeros_like(ids)]
        names = [tensor.name for tensor in session.get_inputs()]
        (states,) = session.run(None, dict(zip(names, feed, strict=True)))
        mean = states[0].mean(axis=0)
        found.append(mean / np.linalg.norm(mean))
    return np.array(found, dtype=np.float32)


def test_answers_make_sense(search: Search) -> None:
    result = search("--corpus", "corpus/corpus.txt", "--top", "2", *QUESTIONS)
    lines = result.text.splitlines()
    assert len(lines) == 3 * len(QUESTIONS)
    sentences = CORPUS.read_text(encoding="utf-8").splitlines()
    for number, (question, answer) in enumerate(QUESTIONS.items()):
        asked, first, second = lines[3 * number : 3 * number + 3]
        assert asked == question
        rank, score, sentence = first.split(maxsplit=2)
        assert rank == "1"
        assert sentence.startswith(answer)
        assert sentence in sentences
        next_rank, next_score, _ = second.split(maxsplit=2)
        assert next_rank == "2"
        assert 1 >= float(score) >= float(next_score) >= -1


def test_queries_from_standard_input_get_the_same_answers(search: Search) -> None:
    asked = "\n\n".join(QUESTIONS) + "\n"
    args = ("--corpus", "corpus/corpus.txt")
    assert search(*args, stdin=asked.encode()).text == search(*args, *QUESTIONS).text
    assert search(*args).text == ""


def test_a_sentence_finds_itself(search: Search) -> None:
    sentences = CORPUS.read_text(encoding="utf-8").splitlines()
    result = search("--corpus=corpus/corpus.txt", "--top=1", "--", *sentences)
    answers = [line.split(maxsplit=2) for line in result.text.splitlines()[1::2]]
    assert answers == [["1", "1.0000", sentence] for sentence in sentences]


def test_columns_line_up(search: Search) -> None:
    count = len(CORPUS.read_text(encoding="utf-8").splitlines())
    result = search("--corpus", "corpus/corpus.txt", "--top", "1000", "tides")
    rows = result.text.splitlines()[1:]
    assert len(rows) == count
    assert [int(row[:4]) for row in rows] == list(range(1, count + 1))
    scores = [float(row[4:13]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert all(row[13:15] == "  " and row[15] != " " for row in rows)


def test_vectors_match_the_reference(search: Search, minilm: ResolvedModel) -> None:
    lines = [*QUESTIONS, "", "a", "日本語 and émigrés", "word " * 300]
    tokenizer = Tokenizer.from_file(str(minilm.directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)
    expected = reference_vectors(minilm.path, [tokenizer.encode(line).ids for line in lines])
    got = search.vectors(lines)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize("batch", [1, 2, 3, 1024])
def test_batches_do_not_change_vectors(search: Search, batch: int) -> None:
    lines = ["short", "a sentence that is quite a lot longer than the others here", "", "a b c"]
    np.testing.assert_allclose(
        search.vectors(lines, "--batch", str(batch)), search.vectors(lines), atol=2e-6
    )


def test_bench_prints_one_plausible_number(search: Search) -> None:
    median_ns = int(search("--bench", "5").text)
    assert 10_000 < median_ns < 60_000_000_000


@pytest.mark.parametrize("hidden", [8, 384, 1000])
def test_any_width_of_the_hidden_states(tmp_path: Path, hidden: int) -> None:
    """Wider ones than the guest guesses make it ask again with a larger buffer."""
    small = small_search(small_bert(hidden), tmp_path)
    rows = [[2, *(WORDS.index(letter) for letter in letters), 3] for letters in ("abc", "zebra")]
    got = small.vectors(["a b c", "z e b r a"])
    np.testing.assert_allclose(got, reference_vectors(tmp_path / "model.onnx", rows), atol=2e-6)


def one_input_model(element: int, expression: str) -> onnx.ModelProto:
    """A model in ONNX's text form, with BERT's input names and another meaning.

    Args:
        element: Element type of the inputs.
        expression: What ``last_hidden_state`` is, in terms of ``input_ids``.
    """
    kind = onnx.TensorProto.DataType.Name(element).lower()
    inputs = ", ".join(
        f"{kind}[b, s] {name}" for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 13]>\n'
        f"other ({inputs}) => (float[b, s, h] last_hidden_state) {{\n{expression}\n}}"
    )


def test_model_with_other_inputs(tmp_path: Path) -> None:
    axes = "axes = Constant <value_ints = [2]> ()\n"
    model = one_input_model(
        onnx.TensorProto.FLOAT, f"{axes} last_hidden_state = Unsqueeze (input_ids, axes)"
    )
    result = small_search(model, tmp_path)("--embed", stdin=b"a\n")
    assert (result.status, result.stdout) == (1, b"")
    assert b"input 0 (input_ids) of shape [1, 3] was refused" in result.stderr
    assert b"setting an input: invalid_argument (wasi-nn error 1)" in result.stderr


def test_model_with_an_output_of_another_size(tmp_path: Path) -> None:
    model = one_input_model(
        onnx.TensorProto.INT64,
        "axes = Constant <value_ints = [0, 1]> ()\n"
        "f = Cast <to = 1> (input_ids)\n"
        "g = ReduceMean <axes = [0, 1], keepdims = 1> (f)\n"
        "last_hidden_state = Unsqueeze (g, axes)",
    )
    result = small_search(model, tmp_path)("--embed", stdin=b"a\n")
    assert result.status == 1
    assert b"output 0 has 4 bytes, which is no float32 [1, 3, hidden]" in result.stderr


def test_model_that_answers_with_nan(tmp_path: Path) -> None:
    model = one_input_model(
        onnx.TensorProto.INT64,
        "axes = Constant <value_ints = [2]> ()\n"
        "f = Cast <to = 1> (input_ids)\n"
        "u = Unsqueeze (f, axes)\n"
        "zero = Sub (u, u)\n"
        "last_hidden_state = Div (zero, zero)",
    )
    result = small_search(model, tmp_path)("--embed", stdin=b"a\n")
    assert (result.status, result.stdout) == (1, b"")
    assert b"output 0 holds numbers that are not finite" in result.stderr


def test_text_longer_than_the_model_allows(tmp_path: Path) -> None:
    small = small_search(small_bert(8), tmp_path)
    assert small.vectors(["a " * 100], "--max-tokens", "64").shape == (1, 8)
    result = small("--embed", "--max-tokens", "65", stdin=b"a " * 100)
    assert (result.status, result.stdout) == (1, b"")
    assert b"computing: runtime_error (wasi-nn error 5)" in result.stderr


def test_unknown_model(search: Search) -> None:
    result = search("--embed", model="no such model", stdin=b"a\n")
    assert result.status == 1
    assert result.stderr == (
        b"semantic-search: model 'no such model': the host has no model of this name"
        b" (wasi-nn error 8)\n"
    )


def test_corpus_without_sentences(tmp_path: Path) -> None:
    small = small_search(small_bert(8), tmp_path)
    for content in (b"", b"\n \n\t\r\n"):
        (tmp_path / "corpus.txt").write_bytes(content)
        result = small("--corpus", "models/corpus.txt", "a")
        assert result.status == 1
        assert b"'models/corpus.txt' holds no sentences" in result.stderr


def test_corpus_lines(tmp_path: Path) -> None:
    """Blank lines are left out, of equal sentences the earlier comes first."""
    small = small_search(small_bert(8), tmp_path)
    (tmp_path / "corpus.txt").write_bytes(b"q r s\r\n\n  \na b\nA B\nno line feed")
    result = small("--corpus", "models/corpus.txt", "--top", "9", "--batch", "2", "a b")
    rows = [line.split(maxsplit=2)[1:] for line in result.text.splitlines()[1:]]
    assert rows[:2] == [["1.0000", "a b"], ["1.0000", "A B"]]
    assert sorted(sentence for _, sentence in rows[2:]) == ["no line feed", "q r s"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--corpus", "models/none.txt"], "cannot open 'models/none.txt'"),
        (["--corpus", "elsewhere.txt"], "cannot open 'elsewhere.txt'"),
        (["--corpus", "models"], "cannot read 'models'"),
    ],
)
def test_corpus_that_cannot_be_read(search: Search, args: list[str], message: str) -> None:
    result = search(*args, "query")
    assert (result.status, result.stdout) == (1, b"")
    assert message.encode() in result.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "--vocab FILE is missing"),
        (["--vocab"], "--vocab needs a value"),
        (["--vocab", "v"], "--model NAME is missing"),
        (["--vocab", "v", "--model", "m"], "--corpus FILE is missing"),
        (["--vocab", "v", "--embed"], "--model NAME is missing"),
        (["--vocab", "v", "--tokenize", "extra"], "unexpected argument 'extra'"),
        (["--tokenize", "--embed"], "give only one of"),
        (["--top", "0"], "--top takes a number from 1 to 1000000, not '0'"),
        (["--top", "4x"], "not '4x'"),
        (["--batch=1025"], "--batch takes a number from 1 to 1024, not '1025'"),
        (["--batch", "99999999999999999999999"], "--batch takes a number"),
        (["--max-tokens", ""], "--max-tokens takes a number from 3 to 65536, not ''"),
        (["--frobnicate"], "unknown option '--frobnicate'"),
    ],
)
def test_wrong_command_lines(args: list[str], message: str) -> None:
    result = run_wasinn(SEMANTIC_SEARCH, args)
    assert (result.status, result.stdout) == (2, b"")
    assert result.stderr.startswith(b"semantic-search: ")
    assert message.encode() in result.stderr
    assert result.stderr.count(b"\n") == 1


def test_help() -> None:
    text = run_wasinn(SEMANTIC_SEARCH, ["--help"]).text
    source = (EXAMPLES / "semantic-search" / "options.c").read_text()
    for option in ("vocab", "model", "corpus", "top", "batch", "max-tokens", "bench", "escapes"):
        assert f"--{option}" in text
        assert f'"--{option}"' in source
