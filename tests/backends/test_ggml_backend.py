"""The ggml backend on real llama.cpp, with models that are written here."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf as gguf_package
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.nn.test_nn_wasmedge import STREAM
from wasinn_backends.ggml import GgmlBackend
from wasinn_backends.ggml_preflight import TYPES, preflight
from wasinn_backends.ggml_sample import gguf, spelling_metadata, spelling_model
from wasinn_backends.ggml_settings import Settings
from wasinn_host.host import Guest, Host
from wasinn_host.nn import Target, TensorType
from wasinn_host.nn.conformance import Outcome, check_backend
from wasinn_host.nn.errors import WasiNnError
from wasinn_host.nn.plugin import ErrorKind, ExecutionContext, Graph, ModelSource, Tensor
from wasinn_runtime import Config
from wasinn_runtime.engines.modes import MODES

Floats = NDArray[np.float64]
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
FIRST = 259
"""The token of ``a``: before it are three others, and one for each byte."""


@pytest.fixture(scope="module")
def backend() -> GgmlBackend:
    return GgmlBackend({"threads": "1"})


def loaded(backend: GgmlBackend, model: bytes, config: bytes = b"") -> Graph:
    """A graph of this process, without the one that guests' models get."""
    source = ModelSource("ggml", (model,), config=config)
    return backend.load(source, backend.devices()[0])


def put(context: ExecutionContext, data: bytes, index: int = 0) -> None:
    context.set_input(index, Tensor(TensorType.U8, (1,), memoryview(data)))


def said(context: ExecutionContext, index: int = 0) -> bytes:
    return bytes(context.get_output(index).data)


@pytest.fixture
def context(backend: GgmlBackend) -> Iterator[ExecutionContext]:
    graph = loaded(backend, spelling_model())
    made = graph.create_context()
    yield made
    made.close()
    graph.close()


def test_it_keeps_the_contract() -> None:
    # One thread: those of OpenMP wait busily for one another, which takes long beside other tests.
    where = "wasinn_backends.ggml:GgmlBackend"
    results = list(check_backend(where, options={"threads": "1"}))
    assert [(r.name, r.why) for r in results if r.outcome is not Outcome.PASSED] == []


def test_a_text_at_once_and_what_is_told_of_it(context: ExecutionContext) -> None:
    put(context, b"rst")
    told = json.loads(said(context, 1))  # before anything is computed
    assert (told["input_tokens"], told["output_tokens"]) == (3, 0)
    for _ in range(2):
        context.compute()
        assert said(context) == b"uvwxyz"
    told = json.loads(said(context, 1))
    assert (told["input_tokens"], told["output_tokens"]) == (3, 6)
    assert told["llama_build_number"] > 11_000


def test_a_text_token_by_token(backend: GgmlBackend) -> None:
    context: Any = loaded(backend, spelling_model()).create_context()
    put(context, b"w")
    for _ in range(2):
        for letter in (b"x", b"y", b"z"):
            context.compute_single()
            assert bytes(context.get_output_single(0).data) == letter
        assert said(context) == b"xyz"
        for _ in range(3):
            with pytest.raises(WasiNnError) as raised:
                context.compute_single()
            assert raised.value.kind is ErrorKind.END_OF_SEQUENCE
        context.fini_single()
        with pytest.raises(WasiNnError, match="there is no piece"):
            context.get_output_single(0)
    context.close()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"n-predict": 3}, b"bcd"),
        ({"n-predict": 0}, b""),
        ({"reverse-prompt": "de"}, b"bcde"),
        ({"reverse-prompt": ["zz", "c"]}, b"bc"),
        ({"temp": 0, "n-predict": 2}, b"bc"),
        ({"temp": 5.0, "top-k": 1, "n-predict": 2}, b"bc"),
        ({"batch-size": 1, "n-predict": 2, "threads": 2}, b"bc"),
        # Of the host's concern, or of nobody's.
        ({"n-gpu-layers": 99, "enable-log": True, "colour": "blue", "n-predict": 1}, b"b"),
    ],
)
def test_settings(context: ExecutionContext, settings: dict[str, object], expected: bytes) -> None:
    put(context, b"a")
    put(context, json.dumps(settings).encode(), 1)
    context.compute()
    assert said(context) == expected


def test_settings_of_the_graph_and_of_a_context(backend: GgmlBackend) -> None:
    graph = loaded(backend, spelling_model(), b'{"n-predict": 2}')
    first, second = graph.create_context(), graph.create_context()
    put(second, b'{"n-predict": 1}', 1)
    for context, expected in ((first, b"bc"), (second, b"b")):
        put(context, b"a")
        context.compute()
        assert said(context) == expected
    put(second, b"{}", 1)
    second.compute()
    assert said(second) == b"bc"


def test_seeds_and_penalties_reach_the_sampler(backend: GgmlBackend) -> None:
    context = loaded(backend, random_model()[0]).create_context()
    put(context, b"a")

    def answer(**settings: float) -> bytes:
        given = {"n-predict": 60, **{name.replace("_", "-"): v for name, v in settings.items()}}
        put(context, json.dumps(given).encode(), 1)
        context.compute()
        return said(context)

    wild: dict[str, Any] = {"temp": 5.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    assert answer(**wild, seed=1) == answer(**wild, seed=1)
    assert answer(**wild, seed=1) != answer(**wild, seed=2)
    plain = answer(temp=0)
    assert plain == answer(temp=0)
    for name in ("repeat_penalty", "presence_penalty", "frequency_penalty"):
        assert answer(temp=0, **{name: 20.0}) != plain


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ('{"n-predict": "3"}', ErrorKind.INVALID_ARGUMENT, "n-predict: expected a whole number"),
        ('{"n-predict": 1.5}', ErrorKind.INVALID_ARGUMENT, "got 1.5"),
        ('{"n-predict": true}', ErrorKind.INVALID_ARGUMENT, "got True"),
        ('{"temp": -1}', ErrorKind.INVALID_ARGUMENT, "temp: expected a number from 0 to 100"),
        ('{"temp": NaN}', ErrorKind.INVALID_ARGUMENT, "got nan"),
        ('{"temp": 1e999}', ErrorKind.INVALID_ARGUMENT, "got inf"),
        ('{"enable-log": 1}', ErrorKind.INVALID_ARGUMENT, "enable-log: expected true or false"),
        ('{"temp": 1' + "0" * 400 + "}", ErrorKind.INVALID_ARGUMENT, "temp: expected a number"),
        ('{"reverse-prompt": "\\ud800"}', ErrorKind.INVALID_ARGUMENT, "a text of whole characters"),
        ('{"reverse-prompt": [1]}', ErrorKind.INVALID_ARGUMENT, "reverse-prompt: expected a text"),
        ('{"tensor-split": 5}', ErrorKind.INVALID_ARGUMENT, "tensor-split: expected a text"),
        ('{"grammar": "root ::= x"}', ErrorKind.UNSUPPORTED_OPERATION, "has no grammars"),
        ('{"json-schema": "{}"}', ErrorKind.UNSUPPORTED_OPERATION, "has no JSON schemas"),
        ('{"image": "/etc/passwd"}', ErrorKind.UNSUPPORTED_OPERATION, "has no images"),
        ("{", ErrorKind.INVALID_ENCODING, "metadata is no JSON"),
        ("[]", ErrorKind.INVALID_ENCODING, "expected a JSON object, got list"),
        ("[" * 100_000, ErrorKind.INVALID_ENCODING, "metadata is no JSON"),
        (" " * (1 << 21), ErrorKind.TOO_LARGE, "more than 1048576"),
    ],
)
def test_bad_settings(text: str, kind: ErrorKind, words: str) -> None:
    with pytest.raises(WasiNnError) as raised:
        Settings().updated(text.encode())
    assert raised.value.kind is kind
    assert words in raised.value.message
    assert len(raised.value.message) < 500


def test_contexts_have_room_for_so_much(backend: GgmlBackend, context: ExecutionContext) -> None:
    put(context, b'{"ctx-size": 8}', 1)
    put(context, b"abc")
    with pytest.raises(WasiNnError) as raised:
        context.compute()
    assert raised.value.kind is ErrorKind.CONTEXT_FULL
    assert "8 tokens is full" in raised.value.message
    assert said(context) == b"defghi"  # there is room for five, and one is not read
    put(context, b"abcdefgh")
    with pytest.raises(WasiNnError, match="the prompt has 8 tokens") as raised:
        context.compute()
    assert raised.value.kind is ErrorKind.PROMPT_TOO_LONG
    put(context, b'{"ctx-size": 129}', 1)
    with pytest.raises(WasiNnError, match="made for 128 tokens, got 129"):
        context.compute()
    put(context, b"{}", 1)
    put(context, b"xy")
    context.compute()
    assert said(context) == b"z"


def test_a_context_takes_no_more_memory_than_the_option_says() -> None:
    backend = GgmlBackend({"threads": "1", "cache_mib": "1"})
    # 64 elements for keys and for values, of two bytes, in one layer: 256 bytes for a token.
    model = spelling_model(1 << 20)
    context = loaded(backend, model, b'{"ctx-size": 4096}').create_context()
    put(context, b"y")
    context.compute()
    assert said(context) == b"z"
    put(context, b'{"ctx-size": 4097}', 1)
    with pytest.raises(WasiNnError, match="4097 tokens take 1048832 bytes, more than the 1048576"):
        context.compute()


@pytest.mark.parametrize("prompt", [b"\xff", b"a\xc3", b"\xed\xa0\x80"])
def test_prompts_are_utf_8(context: ExecutionContext, prompt: bytes) -> None:
    with pytest.raises(WasiNnError, match="expected UTF-8") as raised:
        put(context, prompt)
    assert raised.value.kind is ErrorKind.INVALID_ARGUMENT


def test_a_prompt_that_can_not_fit_is_not_looked_at(context: ExecutionContext) -> None:
    put(context, b"a" * 8192)
    with pytest.raises(WasiNnError, match="the prompt has 8193 bytes, expected at most 8192") as r:
        put(context, b"a" * 8193)
    assert r.value.kind is ErrorKind.PROMPT_TOO_LONG


def test_prompts_of_all_kinds(context: ExecutionContext) -> None:
    put(context, b"")
    with pytest.raises(WasiNnError, match="it has no tokens"):
        context.compute()
    for prompt in ("\0", "é€𝄞", "</s>", "x\0y", " a ", "a" * 60):
        put(context, prompt.encode())
        put(context, b'{"n-predict": 1}', 1)
        context.compute()
        assert said(context).isalpha()


def test_an_embedding(context: ExecutionContext) -> None:
    put(context, b"abc")
    put(context, b'{"embedding": true}', 1)
    context.compute()
    first = json.loads(said(context))
    assert first["n_embedding"] == len(first["embedding"]) == 64
    assert abs(sum(x * x for x in first["embedding"]) - 1) < 1e-5
    put(context, b"abd")
    context.compute()
    assert json.loads(said(context))["embedding"] != first["embedding"]
    with pytest.raises(WasiNnError, match="does not come piece by piece"):
        context.compute_single()  # type: ignore[attr-defined]
    put(context, b"{}", 1)
    context.compute()
    assert said(context) == b"efghijklmnopqrstuvwxyz"


def test_contexts_of_one_graph_compute_at_once(backend: GgmlBackend) -> None:
    graph = loaded(backend, spelling_model())
    found: dict[int, bool] = {}

    def work(number: int) -> None:
        context = graph.create_context()
        put(context, ALPHABET[number].encode())
        expected = ALPHABET[number + 1 :].encode()
        for _ in range(20):
            context.compute()
            found[number] = found.get(number, True) and said(context) == expected
        context.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(6), True)


def test_contexts_outlive_their_graph(backend: GgmlBackend) -> None:
    graph = loaded(backend, spelling_model())
    context = graph.create_context()
    graph.close()
    put(context, b"y")
    context.compute()
    assert said(context) == b"z"


# --- a model with every part, against numpy -------------------------------------------------------


WIDTH, LAYERS, HEADS, SHARED, INNER = 32, 2, 4, 2, 48


def random_model() -> tuple[bytes, dict[str, Floats]]:
    """A llama whose weights are random, large enough that each part shows; and the weights."""
    source = np.random.default_rng(4)
    metadata = dict(spelling_metadata(128))
    count, size = FIRST + len(ALPHABET), WIDTH // HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (count, WIDTH),
        "output_norm.weight": (WIDTH,),
        "output.weight": (count, WIDTH),
    }
    for layer in range(LAYERS):
        parts = {
            "attn_norm": (WIDTH,),
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (SHARED * size, WIDTH),
            "attn_v": (SHARED * size, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "ffn_norm": (WIDTH,),
            "ffn_gate": (INNER, WIDTH),
            "ffn_up": (INNER, WIDTH),
            "ffn_down": (WIDTH, INNER),
        }
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in parts.items()}
    weights = {
        name: source.normal(1 if "norm" in name else 0, 0.4, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    weights["output.weight"][:3] = 0  # it never ends
    metadata |= {
        "llama.embedding_length": WIDTH,
        "llama.block_count": LAYERS,
        "llama.feed_forward_length": INNER,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": SHARED,
        "llama.rope.dimension_count": size,
    }
    return gguf(metadata, weights), {n: w.astype(np.float64) for n, w in weights.items()}


def numpy_llama(weights: Mapping[str, Floats], tokens: list[int]) -> Floats:
    """The scores of what comes after these tokens, in float64, written for reading."""
    size, count = WIDTH // HEADS, len(tokens)

    def norm(name: str, x: Floats) -> Floats:
        return np.asarray(
            x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * weights[f"{name}.weight"]
        )

    angles = np.arange(count)[:, None] / 10000 ** (np.arange(0, size, 2) / size)

    def turned(x: Floats) -> Floats:  # [tokens, heads, size], neighbours in pairs
        even, odd = x[..., ::2], x[..., 1::2]
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        return np.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(x.shape)

    x = weights["token_embd.weight"][tokens]
    for layer in range(LAYERS):

        def dense(name: str, x: Floats, layer: int = layer) -> Floats:
            return np.asarray(x @ weights[f"blk.{layer}.{name}.weight"].T)

        h = norm(f"blk.{layer}.attn_norm", x)
        q = turned(dense("attn_q", h).reshape(count, HEADS, size))
        k = turned(dense("attn_k", h).reshape(count, SHARED, size))
        v = dense("attn_v", h).reshape(count, SHARED, size)
        k, v = (each.repeat(HEADS // SHARED, 1) for each in (k, v))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(size)
        scores += np.triu(np.full((count, count), -np.inf), 1)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        x = x + dense("attn_output", np.einsum("hij,jhd->ihd", shares, v).reshape(count, WIDTH))
        h = norm(f"blk.{layer}.ffn_norm", x)
        gate = dense("ffn_gate", h)
        x = x + dense("ffn_down", gate / (1 + np.exp(-gate)) * dense("ffn_up", h))
    return np.asarray(norm("output_norm", x)[-1] @ weights["output.weight"].T)


def test_what_a_model_says_is_what_numpy_computes(backend: GgmlBackend) -> None:
    model, weights = random_model()
    preflight(model)
    context = loaded(backend, model, b'{"temp": 0, "n-predict": 1}').create_context()
    source = np.random.default_rng(6)
    seen = set()
    for _ in range(40):
        letters = source.integers(0, 26, source.integers(1, 12))
        scores = numpy_llama(weights, [FIRST + int(letter) for letter in letters])
        best = np.argsort(scores)[::-1]
        if scores[best[0]] - scores[best[1]] < 0.1:
            continue  # too near to tell float32 from float64
        put(context, "".join(ALPHABET[letter] for letter in letters).encode())
        context.compute()
        token = int(best[0])
        expected = ALPHABET[token - FIRST].encode() if token >= FIRST else bytes([token - 3])
        assert said(context) == expected
        seen.add(token)
    assert len(seen) > 10


def test_our_table_of_types_is_ggmls() -> None:
    known = {int(kind): sizes for kind, sizes in gguf_package.GGML_QUANT_SIZES.items()}
    assert {kind: known[kind] for kind in TYPES} == TYPES


def test_our_files_are_gguf(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(spelling_model())
    reader = gguf_package.GGUFReader(path)
    assert reader.fields["general.architecture"].contents() == "llama"
    assert reader.fields["llama.context_length"].contents() == 128
    shapes = {tensor.name: tuple(tensor.data.shape) for tensor in reader.tensors}
    assert shapes["token_embd.weight"] == (FIRST + 26, 64)


def test_a_model_that_does_not_continue_texts_gives_embeddings_alone(
    backend: GgmlBackend, tmp_path: Path
) -> None:
    """A BERT with random weights, which llama.cpp would end the process for when asked for more."""
    source = np.random.default_rng(8)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"\u2581{c}" for c in ALPHABET)]
    metadata: dict[str, Any] = {
        "general.architecture": "bert",
        "bert.context_length": 64,
        "bert.embedding_length": 32,
        "bert.block_count": 1,
        "bert.feed_forward_length": 48,
        "bert.attention.head_count": 4,
        "bert.attention.layer_norm_epsilon": 1e-5,
        "bert.attention.causal": False,
        "bert.pooling_type": 1,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * 5 + [1] * len(ALPHABET),
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.padding_token_id": 0,
    }
    shapes = {
        "token_embd.weight": (len(tokens), 32),
        "token_types.weight": (2, 32),
        "position_embd.weight": (64, 32),
        "token_embd_norm.weight": (32,),
        "token_embd_norm.bias": (32,),
    }
    square: dict[str, tuple[int, ...]] = {
        f"{part}.{kind}": (32, 32) if kind == "weight" else (32,)
        for part in ("attn_q", "attn_k", "attn_v", "attn_output")
        for kind in ("weight", "bias")
    }
    norms = ("attn_output_norm", "layer_output_norm")
    square |= {f"{norm}.{kind}": (32,) for norm in norms for kind in ("weight", "bias")}
    square |= {"ffn_up.weight": (48, 32), "ffn_up.bias": (48,)}
    square |= {"ffn_down.weight": (32, 48), "ffn_down.bias": (32,)}
    weights = {
        name: source.normal(0, 0.3, shape)
        for name, shape in (*shapes.items(), *((f"blk.0.{n}", s) for n, s in square.items()))
    }
    path = tmp_path / "bert.gguf"
    path.write_bytes(gguf(metadata, weights))
    with pytest.raises(WasiNnError, match="models of guests may be of llama"):
        preflight(path.read_bytes())
    graph = backend.load(ModelSource("ggml", paths=(path,)), backend.devices()[0])
    context: Any = graph.create_context()
    put(context, b"a b c")
    for compute in (context.compute, context.compute_single):
        with pytest.raises(WasiNnError, match="does not continue texts; ask it for an embedding"):
            compute()
    put(context, b'{"embedding": true, "batch-size": 4}', 1)
    context.compute()
    first = json.loads(said(context))
    assert first["n_embedding"] == len(first["embedding"]) == 32
    put(context, b"a " * 60)
    context.compute()
    assert json.loads(said(context)) != first
    context.close()


# --- through guests -------------------------------------------------------------------------------


def complete(guest: Guest, name: bytes, config: bytes, prompt: bytes) -> tuple[object, bytes]:
    arena, text = guest.call("arena"), guest.call("text")
    assert isinstance(arena, int)
    assert isinstance(text, int)
    guest.memory.write(arena, name + config + prompt)
    ended = guest.call("complete", len(name), len(config), len(prompt))
    size = guest.call("text_size")
    assert isinstance(size, int)
    return ended, guest.memory.read(text, size)


@pytest.mark.parametrize("mode", MODES)
def test_a_compiled_guest_in_each_mode(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(spelling_model())
    with Host(Config(mode=mode), backend_options={"ggml": {"threads": "1"}}) as host:
        host.graphs.register("file", "ggml", Target.CPU, paths=[path])
        host.graphs.register("bytes", "ggml", Target.CPU, builders=[spelling_model()])
        with host.open(STREAM) as guest:
            for name in (b"file", b"bytes"):
                assert complete(guest, name, b"", b"wx") == (100, b"yz")
                assert complete(guest, name, b'{"n-predict": 2}', b"b") == (100, b"cd")
                assert complete(guest, name, b'{"ctx-size": 4}', b"ab") == (101, b"cde")
                assert complete(guest, name, b'{"ctx-size": 4}', b"abcdef") == (102, b"")
                assert complete(guest, name, b"{", b"b")[0] == 2
                assert complete(guest, name, b'{"grammar": "x"}', b"b")[0] == 6


def test_a_long_answer_ends_when_it_is_cancelled(backend: GgmlBackend) -> None:
    """The random model goes on until its context is full, which takes long."""
    model, _ = random_model()
    model = model.replace(  # trained for more
        b"llama.context_length\x04\0\0\0\x80\0\0\0", b"llama.context_length\x04\0\0\0\0\0\1\0"
    )
    context: Any = loaded(backend, model, b'{"ctx-size": 65536}').create_context()
    put(context, b"abc")
    timer = threading.Timer(0.5, context.cancel)
    timer.start()
    began = time.monotonic()
    with pytest.raises(WasiNnError, match="ended from outside"):
        context.compute()
    assert 0.3 < time.monotonic() - began < 20
    timer.join()
    put(context, b'{"ctx-size": 64, "n-predict": 1}', 1)
    context.compute()
    context.close()


def test_bad_options() -> None:
    for options, words in (
        ({"threads": "many"}, "option threads: expected a number"),
        ({"ctx_size": "0"}, "option ctx_size: expected a number from 1"),
    ):
        with pytest.raises(WasiNnError, match=words):
            GgmlBackend(options)


def test_files_that_are_no_models(backend: GgmlBackend, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    device = backend.devices()[0]
    with pytest.raises(WasiNnError, match="can not be read") as raised:
        backend.load(ModelSource("ggml", paths=(path,)), device)
    assert raised.value.kind is ErrorKind.MODEL_NOT_FOUND
    for content in (b"", b"no model", spelling_model()[:1000]):
        path.write_bytes(content)
        with pytest.raises(WasiNnError, match=r"llama\.cpp, while loading: .") as raised:
            backend.load(ModelSource("ggml", paths=(path,)), device)
        assert raised.value.kind is ErrorKind.INVALID_ENCODING
