"""Settings of language models that mean harm: none becomes a path, a command or output."""

from __future__ import annotations

import json

import pytest

from tests.hostile.child import Canaries, run_case
from wasinn_backends.ggml import GgmlBackend
from wasinn_host.nn import WasiNnError
from wasinn_host.nn.plugin import ErrorKind, ModelSource, Tensor, TensorType

NAMES = (
    "secret",
    "../secret",
    "/etc/passwd",
    "http://localhost/",
    "; touch pwned",
    "$(touch pwned)",
)
REFUSED = ("grammar", "json-schema", "mmproj", "image", "tts", "model-vocoder")
IGNORED = ("model", "lora", "log-file", "path-prompt-cache", "control-vector", "no such key")
BAD: tuple[tuple[bytes, ErrorKind], ...] = (
    (b"{", ErrorKind.INVALID_ENCODING),
    (b"\xff\xfe", ErrorKind.INVALID_ENCODING),
    (b"[" * 100_000, ErrorKind.INVALID_ENCODING),
    (b'{"seed": ' + b"9" * 100_000 + b"}", ErrorKind.INVALID_ENCODING),
    (b"[]", ErrorKind.INVALID_ENCODING),
    (b" " * (2 << 20), ErrorKind.TOO_LARGE),
    (b'{"ctx-size": 1e400}', ErrorKind.INVALID_ARGUMENT),
    (b'{"ctx-size": 4294967296}', ErrorKind.INVALID_ARGUMENT),
    (b'{"temp": NaN}', ErrorKind.INVALID_ARGUMENT),
    (b'{"threads": true}', ErrorKind.INVALID_ARGUMENT),
    (b'{"n-predict": -99}', ErrorKind.INVALID_ARGUMENT),
    (b'{"reverse-prompt": [1]}', ErrorKind.INVALID_ARGUMENT),
)


def u8(data: bytes) -> Tensor:
    return Tensor(TensorType.U8, (len(data),), memoryview(data))


def settings() -> None:
    backend = GgmlBackend({"threads": "1"})
    (sample,) = backend.samples()
    device = backend.devices()[0]
    graph = backend.load(ModelSource("ggml", sample.parts), device)
    context = graph.create_context()

    def refused(text: bytes) -> WasiNnError:
        with pytest.raises(WasiNnError) as caught:
            context.set_input(1, u8(text))
        with pytest.raises(WasiNnError) as of_load:
            backend.load(ModelSource("ggml", sample.parts, config=text), device)
        assert of_load.value.kind is caught.value.kind
        assert len(str(caught.value)) < 500
        return caught.value

    for name in NAMES:
        for key in REFUSED:
            error = refused(json.dumps({key: name}).encode())
            assert error.kind is ErrorKind.UNSUPPORTED_OPERATION
            assert key in str(error)
        context.set_input(1, u8(json.dumps(dict.fromkeys(IGNORED, name)).encode()))
    for text, kind in BAD:
        assert refused(text).kind is kind, text[:40]
    loud = {"enable-log": True, "enable-debug-log": True, "stream-stdout": True}
    context.set_input(1, u8(json.dumps(loud).encode()))
    context.set_input(0, sample.inputs[0])
    context.compute()
    assert bytes(context.get_output(0).data) == bytes(sample.outputs[0].data)
    context.close()
    graph.close()


def test_settings_that_mean_harm(canaries: Canaries) -> None:
    run_case(settings, canaries)


def test_settings_that_ask_for_noise(capfd: pytest.CaptureFixture[str]) -> None:
    settings()
    assert capfd.readouterr() == ("", "")
