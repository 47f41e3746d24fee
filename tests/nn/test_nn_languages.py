"""One application in C, Rust and AssemblyScript, built for each ABI: all get the same answers.

The modules are committed; that their sources give the same is the last test, where compilers are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from examples.build import MissingToolError
from tests.backends.onnx_models import DTYPES, ONNX_TYPES, doubling
from tests.nn.languages import GUESTS, LANGUAGES, LanguageGuest, install_assemblyscript
from tests.nn.streaming_backend import StreamingBackend
from wasinn_backends.onnx import OnnxBackend
from wasinn_host.host import Guest, Host
from wasinn_host.nn import Target, TensorType
from wasinn_runtime import Config
from wasinn_runtime.engines.modes import MODES

# What the application numbers as 0, 1 and 2; each ABI has its own number for them.
KINDS = (TensorType.F32, TensorType.U8, TensorType.I32)
COUNT = 6


def _host(mode: str) -> Iterator[Host]:
    with Host(Config(mode=mode), backend_options={"onnx": {"threads": "1"}}) as host:
        host.backends.add("onnx", OnnxBackend)
        host.backends.add("ggml", StreamingBackend)
        host.graphs.register("speller", "ggml", Target.CPU, builders=[b"GGUF"])
        yield host


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    yield from _host("auto")


@pytest.fixture(scope="module", params=MODES)
def host_of_each_mode(request: pytest.FixtureRequest) -> Iterator[Host]:
    yield from _host(request.param)


def _number(guest: Guest, name: str, *args: int) -> int:
    value = guest.call(name, *args)
    assert isinstance(value, int)
    return value


def ask(guest: Guest, kind: int, model: bytes) -> tuple[int, bytes]:
    """The error number, and the buffer that the answer is written to, which was full of 0xee."""
    result = _number(guest, "result")
    guest.memory.write(_number(guest, "arena"), model)
    guest.memory.write(result, b"\xee" * 64)
    errno = _number(guest, "ask", len(model), kind, COUNT)
    return errno, guest.memory.read(result, 64)


def check_answers(guest: Guest, abi: str) -> None:
    for kind, tensor_type in enumerate(KINDS):
        errno, seen = ask(guest, kind, doubling(ONNX_TYPES[tensor_type]))
        assert errno == 0, (tensor_type, guest.last_nn_error)
        expected = (2 * np.arange(1, COUNT + 1)).astype(DTYPES[tensor_type]).tobytes()
        size = len(expected)
        assert seen == expected + b"\xee" * (64 - size), tensor_type
        assert _number(guest, "written") == (-(-size // 4) if abi == "legacy" else size)


def complete(guest: Guest, config: bytes, prompt: bytes) -> tuple[int, bytes]:
    name = b"speller"
    guest.memory.write(_number(guest, "arena"), name + config + prompt)
    ended = _number(guest, "complete", len(name), len(config), len(prompt))
    return ended, guest.memory.read(_number(guest, "result"), _number(guest, "written"))


def check_streaming(guest: Guest) -> None:
    assert complete(guest, b"", b"hello") == (100, b"HELLO")
    assert complete(guest, b'{"letters": 3}', b"hello") == (101, b"HEL")
    assert complete(guest, b"", b"x" * 17) == (102, b"")


def check(guest: Guest, abi: str) -> None:
    """Everything that the application of this ABI does."""
    assert ask(guest, 0, b"no model")[0] == 2
    check_answers(guest, abi)
    if abi == "wasmedge":
        check_streaming(guest)
        assert guest.nn is not None
        assert guest.nn.model_bytes == guest.nn.tensor_bytes == 0, "it gave everything back"


@pytest.mark.parametrize("made", GUESTS, ids=lambda g: f"{g.language}-{g.abi}")
def test_an_application_of_each_language_and_abi(host: Host, made: LanguageGuest) -> None:
    with host.open(made.prebuilt) as guest:
        check(guest, made.abi)


@pytest.mark.parametrize("made", GUESTS, ids=lambda g: f"{g.language}-{g.abi}")
def test_in_each_mode(host_of_each_mode: Host, made: LanguageGuest) -> None:
    with host_of_each_mode.open(made.prebuilt) as guest:
        check(guest, made.abi)


@pytest.mark.parametrize("language", LANGUAGES)
def test_old_applications_do_number_otherwise(host: Host, language: str) -> None:
    """By the witx file's order of today, what they mean as u8 are f64 of the wrong size."""
    with host.open(LanguageGuest(language, "old").prebuilt, nn_abi="witx") as guest:
        assert ask(guest, 0, doubling())[0] == 0
        assert ask(guest, 1, doubling(ONNX_TYPES[TensorType.U8]))[0] == 1


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return install_assemblyscript(tmp_path_factory.mktemp("assemblyscript"))
    except MissingToolError as error:
        pytest.skip(str(error))


# Those of the old numbering have the same sources, and compilers take long.
REBUILT = [guest for guest in GUESTS if guest.abi != "old" or guest.language == "c"]


@pytest.mark.slow
@pytest.mark.parametrize("made", REBUILT, ids=lambda g: f"{g.language}-{g.abi}")
def test_rebuilt_applications_do_the_same(
    host: Host, made: LanguageGuest, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    output = tmp_path / made.prebuilt.name
    wants_node = made.language == "assemblyscript"
    try:
        made.build(output, request.getfixturevalue("node_modules") if wants_node else None)
    except MissingToolError as error:
        assert made.language == "rust", "zig is there wherever these tests are"
        pytest.skip(str(error))
    with host.open(output) as guest:
        check(guest, made.abi)
