"""Language models in llama.cpp's format: a prompt goes in, text comes out, whole or token by token.

llama.cpp comes with the package xllamacpp and is called as C. A graph is the model; each execution
context has a context of llama.cpp of its own, made when it first computes. Guests' models are
looked through by `ggml_preflight`, and loaded in a process of their own: llama.cpp ends the process
for much of what it does not like.

Conventions are WasmEdge's: input 0 is the prompt, UTF-8 whose dimensions nobody looks at, input 1
the settings; output 0 is the text, and output 1 JSON with the numbers of tokens.
"""

from __future__ import annotations

import ctypes
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, ClassVar, Final

from wasinn_backends.common import (
    check_index,
    check_inputs_set,
    check_one_part,
    number_option,
    output_at,
    processors,
)
from wasinn_backends.ggml_preflight import preflight
from wasinn_backends.ggml_run import Model, Run
from wasinn_backends.ggml_sample import spelling_sample
from wasinn_backends.ggml_settings import Settings
from wasinn_backends.llama_library import BUILD, library
from wasinn_host.nn.plugin import (
    Backend,
    Device,
    ErrorKind,
    ExecutionContext,
    Graph,
    ModelSource,
    Sample,
    Target,
    Tensor,
    TensorSpec,
    TensorType,
    WasiNnError,
)

__all__ = ["GgmlBackend"]

_INPUTS: Final = (
    TensorSpec("prompt", TensorType.U8, None, "text"),
    TensorSpec("metadata", TensorType.U8, None, "JSON", is_optional=True),
)
_OUTPUTS: Final = (
    TensorSpec("text", TensorType.U8, (None,), "text"),
    TensorSpec("metadata", TensorType.U8, (None,), "JSON"),
)
_GPU_TYPES: Final = (1, 2)
"""ggml's numbers of a GPU with memory of its own, and without."""
_ALL_LAYERS: Final = 1 << 20
_MOST_TOKENS: Final = 1 << 24
_LONGEST_TOKEN: Final = 64
"""Bytes that a token of a long prompt may have in the mean; those of texts have three to five."""


class GgmlBackend(Backend):
    """The CPU, and the GPUs that ggml was built for and finds."""

    api_version = 1
    encodings = frozenset({"ggml"})
    takes_config = True
    isolates_guests = True
    options: ClassVar[Mapping[str, str]] = {
        "threads": "threads of one computation; 0, the default: one per processor",
        "ctx_size": "tokens of prompt and answer where the guest does not say; default: 4096",
        "cache_mib": "most memory for what one context keeps of its tokens; default: 4096",
    }

    def __init__(self, options: Mapping[str, str]) -> None:
        self._threads = number_option(options, "threads", 0, 0, 1024) or processors()
        self._ctx_size = number_option(options, "ctx_size", 4096, 1, 1 << 24)
        self._cache_bytes = number_option(options, "cache_mib", 4096, 1, 1 << 24) << 20
        self._llama = library()

    def devices(self) -> Sequence[Device]:
        found = [Device("cpu", Target.CPU, f"llama.cpp build {BUILD}, CPU")]
        c = self._llama.c
        for number in range(c.ggml_backend_dev_count()):
            device = c.ggml_backend_dev_get(number)
            if c.ggml_backend_dev_type(device) in _GPU_TYPES:
                free, total = ctypes.c_size_t(), ctypes.c_size_t()
                c.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
                words = c.ggml_backend_dev_description(device).decode("utf-8", "replace")
                found.append(Device(f"gpu:{number}", Target.GPU, words, total.value or None))
        return tuple(found)

    def load(self, source: ModelSource, device: Device) -> Graph:
        check_one_part(source, "a GGUF")
        settings = Settings().updated(source.config)
        if not source.is_trusted:
            preflight(source.builders[0])
        with _path_of(source) as path:
            pointer = self._loaded(path, device)
        model = Model(self._llama, pointer, self._threads, self._ctx_size, self._cache_bytes)
        if self._llama.c.llama_model_has_encoder(pointer):
            raise WasiNnError(
                ErrorKind.UNSUPPORTED_OPERATION,
                "models with an encoder are not there; expected one that continues a text",
            )
        return _GgmlGraph(model, settings)

    def samples(self) -> Sequence[Sample]:
        return (spelling_sample(),)

    def _loaded(self, path: bytes, device: Device) -> int:
        llama = self._llama
        parameters = llama.c.llama_model_default_params()
        chosen = (ctypes.c_void_p * 2)()  # a list that ends with a null; empty for the CPU
        parameters.n_gpu_layers = 0
        if device.target is Target.GPU:
            chosen[0] = llama.c.ggml_backend_dev_get(int(device.id.partition(":")[2]))
            parameters.n_gpu_layers = _ALL_LAYERS
        parameters.devices = ctypes.cast(chosen, ctypes.c_void_p)
        llama.forget()
        model: int | None = llama.c.llama_model_load_from_file(path, parameters)
        if not model:
            raise WasiNnError(
                ErrorKind.INVALID_ENCODING,
                f"llama.cpp, while loading: {llama.said() or 'it does not say why'}",
            )
        return model


class _GgmlGraph(Graph):
    """A model. Contexts hold on to it: it is freed with the last of them."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self._model: Model | None = model
        self._settings = settings

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return _INPUTS

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return _OUTPUTS

    def create_context(self) -> ExecutionContext:
        assert self._model is not None
        return _GgmlContext(self._model, self._settings)

    def close(self) -> None:
        self._model = None


class _Answer:
    """What was said to a prompt so far."""

    def __init__(self) -> None:
        self.text = bytearray()
        self.piece: bytes | None = None
        self.tokens = 0
        self.unread: int | None = None
        self.is_ended = False


class _GgmlContext(ExecutionContext):
    def __init__(self, model: Model, settings: Settings) -> None:
        self._model = model
        self._of_graph = self._settings = settings
        self._prompt: Any = None
        self._run: Run | None = None
        # A flag, and a zero behind it: see `Llama.is_set`.
        self._abort = ctypes.create_string_buffer(2)
        self._answer = _Answer()
        self._output: bytes | None = None
        self._is_streaming = False

    def set_input(self, index: int, tensor: Tensor) -> None:
        check_index(_INPUTS, index)
        if tensor.type is not TensorType.U8:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"input {index} ({_INPUTS[index].name}): expected u8 elements, "
                f"got {tensor.type.value}",
            )
        data = bytes(tensor.data)
        if index == 1:
            self._settings = self._of_graph.updated(data)
            return
        most = min(self._model.most_tokens, _MOST_TOKENS) * _LONGEST_TOKEN
        if len(data) > most:  # before the tokenizer, which is made for prompts
            raise WasiNnError(
                ErrorKind.PROMPT_TOO_LONG,
                f"the prompt has {len(data)} bytes, expected at most {most} for a model of "
                f"{self._model.most_tokens} tokens",
            )
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT, f"input 0 (prompt): expected UTF-8: {error}"
            ) from error
        self._prompt = self._model.tokens(data)

    def compute(self) -> None:
        self.fini_single()
        self._output = None
        self._begin()
        if self._settings.embedding:
            assert self._run is not None
            numbers = self._run.embedding()
            self._output = json.dumps({"n_embedding": len(numbers), "embedding": numbers}).encode()
            return
        try:
            while self._step():
                pass
        except WasiNnError as error:
            if error.kind is ErrorKind.CONTEXT_FULL:  # what there was room for can be read
                self._output = bytes(self._answer.text)
            raise
        self._output = bytes(self._answer.text)

    def compute_single(self) -> None:
        if self._settings.embedding:
            raise WasiNnError(
                ErrorKind.UNSUPPORTED_OPERATION, "an embedding does not come piece by piece"
            )
        if not self._is_streaming:
            self._output = None
            self._begin()
            self._is_streaming = True
        self._abort[0] = b"\0"
        self._answer.piece = None
        if not self._step():
            raise WasiNnError(ErrorKind.END_OF_SEQUENCE, "the answer is at its end")
        self._output = bytes(self._answer.text)

    def get_output_single(self, index: int) -> Tensor:
        if index == 1:
            return self.get_output(1)
        if index != 0 or self._answer.piece is None or not self._is_streaming:
            raise WasiNnError(ErrorKind.INVALID_ARGUMENT, f"output {index}: there is no piece")
        return _bytes_tensor(self._answer.piece)

    def fini_single(self) -> None:
        self._is_streaming = False
        self._answer.piece = None

    def get_output(self, index: int) -> Tensor:
        if index == 1 and self._prompt is not None:
            return _bytes_tensor(self._metadata())
        texts = None if self._output is None else (self._output, b"")
        return _bytes_tensor(output_at(texts, index, ("text", "metadata")))

    def cancel(self) -> None:
        self._abort[0] = b"\1"

    def close(self) -> None:
        if self._run is not None:
            self._run.close()
            self._run = None

    def _metadata(self) -> bytes:
        """In WasmEdge's words; the prompt's tokens are known before anything is computed."""
        told = {
            "input_tokens": len(self._prompt),
            "output_tokens": self._answer.tokens,
            "llama_build_number": BUILD,
            "llama_commit": self._model.llama.commit.decode("utf-8", "replace"),
        }
        return json.dumps(told).encode()

    def _begin(self) -> None:
        """Reads the prompt anew."""
        check_inputs_set(_INPUTS, (self._prompt, None))
        self._abort[0] = b"\0"
        self._answer = _Answer()
        if self._run is None or not self._run.serves(self._settings):
            self.close()
            self._run = Run(self._model, self._settings, self._abort)
        count = len(self._prompt)
        if not count:
            raise WasiNnError(ErrorKind.INVALID_ARGUMENT, "input 0 (prompt): it has no tokens")
        # One place stays for an answer.
        if count >= self._run.size + self._settings.embedding:
            raise WasiNnError(
                ErrorKind.PROMPT_TOO_LONG,
                f"the prompt has {count} tokens, the context has room for {self._run.size}",
            )
        self._run.start(self._prompt, self._settings)

    def _step(self) -> bool:
        """One more token of the answer; False at its end.

        Raises:
            WasiNnError: ``context_full``, or that it was cancelled.
        """
        run, answer, settings = self._run, self._answer, self._settings
        assert run is not None
        if 0 <= settings.n_predict <= answer.tokens:
            return False
        if answer.is_ended or answer.text.endswith(settings.reverse_prompts or (b"\0\0",)):
            return False
        if answer.unread is not None:
            if run.used >= run.size:
                raise WasiNnError(
                    ErrorKind.CONTEXT_FULL,
                    f"the context of {run.size} tokens is full after {answer.tokens} of the answer",
                )
            run.read(answer.unread)
            answer.unread = None
        token = run.next()
        if self._model.is_end(token):
            answer.is_ended = True
            return False
        answer.unread = token
        answer.tokens += 1
        answer.piece = self._model.piece(token)
        answer.text += answer.piece
        return True


def _bytes_tensor(data: bytes) -> Tensor:
    return Tensor(TensorType.U8, (len(data),), memoryview(data))


@contextmanager
def _path_of(source: ModelSource) -> Iterator[bytes]:
    """A path that llama.cpp can open while the block lasts: of the user's file, or of a copy."""
    if source.is_trusted:
        if not source.paths[0].is_file():
            raise WasiNnError(
                ErrorKind.MODEL_NOT_FOUND, f"model file {source.paths[0]} can not be read"
            )
        yield os.fsencode(source.paths[0])
        return
    # Without a name anywhere; in memory, where the system has such files.
    with _unnamed() as file:
        file.write(source.builders[0])
        file.flush()
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}".encode()


def _unnamed() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("model"), "wb")
    return tempfile.TemporaryFile()
