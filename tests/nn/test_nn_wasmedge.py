"""What WasmEdge adds to wasi_ephemeral_nn, with a compiled guest, also through every wrapper."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nn.fake_guest import Guest as DirectGuest
from tests.nn.streaming_backend import StreamingBackend
from wasinn_backends.null import NullBackend
from wasinn_host.host import Guest, Host
from wasinn_host.nn import (
    BackendRegistry,
    GraphRegistry,
    NnContext,
    NnLimits,
    PreloadSpec,
    Target,
    TensorType,
)
from wasinn_host.nn.batching import Batching
from wasinn_host.nn.isolation import IsolatedBackend
from wasinn_host.nn.metrics import NnMetrics
from wasinn_runtime import Interrupted

STREAM = Path(__file__).with_name("guests") / "stream.wasm"


class IsolatedStreaming(IsolatedBackend):
    encodings = frozenset({"ggml"})

    def __init__(self, options: object) -> None:
        where = f"{StreamingBackend.__module__}:{StreamingBackend.__qualname__}"
        super().__init__(where, {}, "isolated")


def _register(host: Host, is_isolated: bool) -> None:
    host.backends.add("ggml", IsolatedStreaming if is_isolated else StreamingBackend)
    host.backends.add("null", NullBackend)
    host.graphs.register("speller", "ggml", Target.CPU, builders=[b"GGUF"])
    host.graphs.register("echo", "null", Target.CPU, builders=[b""])


@pytest.fixture(params=["direct", "isolated", "batched", "measured", "all"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    kind = request.param
    with Host(
        batching=Batching() if kind in ("batched", "all") else None,
        metrics=NnMetrics() if kind in ("measured", "all") else None,
    ) as made:
        _register(made, kind in ("isolated", "all"))
        yield made


@pytest.fixture
def guest(host: Host) -> Iterator[Guest]:
    with host.open(STREAM) as opened:
        yield opened


def _complete(guest: Guest, name: bytes, config: bytes, prompt: bytes) -> tuple[object, bytes]:
    arena, text = guest.call("arena"), guest.call("text")
    assert isinstance(arena, int)
    assert isinstance(text, int)
    guest.memory.write(arena, name + config + prompt)
    ended = guest.call("complete", len(name), len(config), len(prompt))
    size = guest.call("text_size")
    assert isinstance(size, int)
    return ended, guest.memory.read(text, size)


def test_a_text_piece_by_piece(guest: Guest) -> None:
    assert _complete(guest, b"speller", b"", b"hello") == (100, b"HELLO")
    # Its handles are all given back: again and again it works.
    for _ in range(300):
        assert _complete(guest, b"speller", b"", b"hi") == (100, b"HI")


def test_a_configuration_reaches_the_backend(guest: Guest) -> None:
    assert _complete(guest, b"speller", b'{"letters": 3}', b"hello") == (101, b"HEL")
    assert _complete(guest, b"speller", b'{"letters": ', b"hello")[0] == 2
    assert _complete(guest, b"speller", b"", b"hello") == (100, b"HELLO")


def test_a_prompt_that_is_too_long(guest: Guest) -> None:
    assert _complete(guest, b"speller", b"", b"x" * 17) == (102, b"")


def test_a_deadline_ends_a_piece(guest: Guest) -> None:
    with pytest.raises(Interrupted), guest.store.deadline(0.3):
        _complete(guest, b"speller", b"", b"wait")


def test_a_backend_that_computes_all_at_once(guest: Guest) -> None:
    assert _complete(guest, b"echo", b"", b"hello")[0] == 1
    assert "can not stream" in str(guest.last_nn_error)
    assert _complete(guest, b"echo", b"{}", b"hello")[0] == 1
    assert "takes no configuration" in str(guest.last_nn_error)


def test_an_unloaded_graphs_context_goes_on(null_graphs: GraphRegistry) -> None:
    guest = DirectGuest(NnContext(null_graphs))
    assert guest.load(b"model") == 0
    graph = guest.result
    assert guest.init(graph) == 0
    context = guest.result
    assert guest.call("unload", graph) == 0
    assert guest.call("unload", graph) == 1
    assert guest.init(graph) == 1
    assert "stale" in guest.error()
    assert guest.codec.context.model_bytes == 5
    assert guest.set_input(context, 0, TensorType.U8, (2,), b"ab") == 0
    assert guest.compute(context) == 0
    assert guest.get_output(context, 0, 2) == (0, b"ab")
    assert guest.call("finalize_execution_context", context) == 0
    assert guest.codec.context.model_bytes == 0
    assert guest.codec.context.tensor_bytes == 0
    assert guest.call("finalize_execution_context", context) == 1
    assert guest.compute(context) == 1


@pytest.mark.parametrize("name", ["compute_single", "fini_single", "unload"])
def test_wrong_handles(null_graphs: GraphRegistry, name: str) -> None:
    guest = DirectGuest(NnContext(null_graphs))
    context = guest.open(b"model")
    for handle in (0, 77, context + 1, 0xFFFF_FFFF):
        assert guest.call(name, handle) == 1


@pytest.fixture
def graphs() -> Iterator[GraphRegistry]:
    StreamingBackend.configs.clear()
    backends = BackendRegistry(discover=False)
    backends.add("ggml", StreamingBackend)
    made = GraphRegistry(backends)
    made.register("speller", "ggml", Target.CPU, builders=[b"GGUF"])
    yield made
    made.close()
    backends.close()


def _load(guest: DirectGuest, config: bytes, name: bytes = b"speller") -> int:
    where = guest.put(name), len(name), guest.put(config), len(config), guest.RESULT
    return guest.call("load_by_name_with_config", *where)


def test_each_configuration_is_loaded_once(graphs: GraphRegistry) -> None:
    guests = [DirectGuest(NnContext(graphs)) for _ in range(3)]
    threads = [
        threading.Thread(target=_load, args=(guest, config))
        for guest in guests
        for config in (b"", b'{"letters": 1}', b'{"letters": 2}', b'{"letters": 1}')
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(StreamingBackend.configs) == [b"", b'{"letters": 1}', b'{"letters": 2}']


def test_a_configured_graph_goes_with_its_last_holder(graphs: GraphRegistry) -> None:
    guests = [DirectGuest(NnContext(graphs)) for _ in range(2)]
    for guest in guests:
        assert _load(guest, b"{}") == 0
    guests[0].codec.context.close()
    assert _load(guests[1], b"{}") == 0
    assert StreamingBackend.configs == [b"{}"]
    guests[1].codec.context.close()
    assert _load(guests[0], b"{}") == 0
    assert StreamingBackend.configs == [b"{}", b"{}"]


def test_a_configuration_that_fails_is_tried_again(graphs: GraphRegistry) -> None:
    guest = DirectGuest(NnContext(graphs))
    for _ in range(2):
        assert _load(guest, b"junk") == 2
    assert StreamingBackend.configs == [b"junk", b"junk"]


def test_configurations_are_limited(graphs: GraphRegistry) -> None:
    guest = DirectGuest(NnContext(graphs, NnLimits(config_bytes=4)))
    assert _load(guest, b"{  }") == 0
    assert _load(guest, b"{   }") == 7
    assert _load(guest, b"{}", b"nobody") == 8
    assert _load(guest, b"{}", b"\xff") == 1
    at = guest.put(b"speller")
    assert guest.call("load_by_name_with_config", at, 7, 0xFFFF_FFFF, 2, guest.RESULT) == 1
    assert guest.call("load_by_name_with_config", at, 7, at, 2, 0xFFFF_FFFF) == 1


def test_a_piece_larger_than_the_buffer(graphs: GraphRegistry) -> None:
    guest = DirectGuest(NnContext(graphs))
    assert _load(guest, b"") == 0
    assert guest.init(guest.result) == 0
    context = guest.result
    assert guest.set_input(context, 0, TensorType.U8, (1,), b"a prompt") == 0
    out = guest.put(b"??")
    assert guest.call("get_output_single", context, 0, out, 2, guest.RESULT) == 1
    assert guest.call("compute_single", context) == 0
    assert guest.call("get_output_single", context, 0, out, 0, guest.RESULT) == 7
    assert guest.result == 1
    assert guest.call("get_output_single", context, 1, out, 2, guest.RESULT) == 1
    assert guest.call("get_output_single", context, 0, out, 2, guest.RESULT) == 0
    assert guest.memory.read(out, 2) == b"A?"
    assert guest.call("fini_single", context) == 0
    assert guest.call("get_output_single", context, 0, out, 2, guest.RESULT) == 1
    assert guest.compute(context) == 0
    assert guest.get_output(context, 0, 9) == (0, b"A PROMPT")


def test_a_named_models_file_is_missing(graphs: GraphRegistry, tmp_path: Path) -> None:
    graphs.preload(PreloadSpec("gone", "ggml", Target.CPU, tmp_path / "gone.gguf"))
    guest = DirectGuest(NnContext(graphs))
    assert _load(guest, b"", b"gone") == 103
    assert _load(guest, b"{}", b"gone") == 103
