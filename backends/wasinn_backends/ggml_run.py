"""A model of llama.cpp, and a prompt's way through it. No files, and nothing of WASI-NN."""

from __future__ import annotations

import ctypes
from typing import Any, Final

from wasinn_backends.ggml_settings import Settings
from wasinn_backends.llama_library import Llama
from wasinn_host.nn.plugin import ErrorKind, WasiNnError

__all__ = ["Model", "Run"]

_PENALISED_TOKENS: Final = 64
_ABORTED: Final = 2
_POOLING_RANK: Final = 4
_AT_ONCE: Final = 512
_EMBEDDED_AT_ONCE: Final = 8192
"""Tokens. What is computed at once takes memory by their number times the context's."""
_KEPT: Final = ("ctx_size", "batch_size", "threads", "embedding")
"""Settings that a context of llama.cpp is made with."""


class Model:
    """A model of llama.cpp, freed when nobody refers to it."""

    def __init__(
        self, llama: Llama, model: int, threads: int, ctx_size: int, cache_bytes: int
    ) -> None:
        self.llama = llama
        self.pointer = model
        self.cache_bytes = cache_bytes
        self.vocabulary = llama.c.llama_model_get_vocab(model)
        self.threads = threads
        trained = llama.c.llama_model_n_ctx_train(model)
        self.most_tokens = trained if trained > 0 else ctx_size
        self.ctx_size = min(ctx_size, self.most_tokens)

    def __del__(self) -> None:
        self.llama.c.llama_model_free(self.pointer)

    def bytes_per_token(self) -> int:
        """What a context keeps of each token: keys and values of all layers, in two bytes each."""
        c, pointer = self.llama.c, self.pointer
        heads = max(c.llama_model_n_head(pointer), 1)
        plain = c.llama_model_n_embd(pointer) // heads
        kind = self._said_of("general.architecture")
        sizes = sum(
            int(self._said_of(f"{kind}.attention.{part}_length") or plain)
            for part in ("key", "value")
        )
        # Of the first layer; a layer of another kind may have none.
        shared: int = c.llama_model_n_head_kv(pointer) or heads
        return int(2 * c.llama_model_n_layer(pointer) * shared * sizes)

    def _said_of(self, key: str) -> str:
        """A value of the model's metadata as a text; empty for none."""
        room = ctypes.create_string_buffer(64)
        size = self.llama.c.llama_model_meta_val_str(self.pointer, key.encode(), room, 64)
        return room.value.decode("utf-8", "replace") if size > 0 else ""

    def tokens(self, text: bytes) -> Any:
        """A prompt's tokens, as an array in C; what marks a text's start is added."""
        room = len(text) + 8
        while True:
            tokens = (ctypes.c_int32 * room)()
            count = self.llama.c.llama_tokenize(
                self.vocabulary, text, len(text), tokens, room, True, True
            )
            if count >= 0:
                kept = (ctypes.c_int32 * count)()
                ctypes.memmove(kept, tokens, ctypes.sizeof(kept))
                return kept
            room = -count

    def is_end(self, token: int) -> bool:
        """Whether a token ends an answer."""
        return bool(self.llama.c.llama_vocab_is_eog(self.vocabulary, token))

    def piece(self, token: int) -> bytes:
        """A token's bytes; control tokens have none."""
        room = ctypes.create_string_buffer(64)
        size = self.llama.c.llama_token_to_piece(self.vocabulary, token, room, 64, 0, False)
        if size < 0:
            room = ctypes.create_string_buffer(-size)
            size = self.llama.c.llama_token_to_piece(self.vocabulary, token, room, -size, 0, False)
        return room.raw[: max(size, 0)]


class Run:
    """A prompt and what has been said to it. Owns a context of llama.cpp and a sampler."""

    def __init__(self, model: Model, settings: Settings, abort: Any) -> None:
        self._model, self._settings, self._abort = model, settings, abort
        self._c = model.llama.c
        self._sampler = 0
        self._context = 0
        self.size = settings.ctx_size or model.ctx_size
        if self.size > model.most_tokens:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"metadata ctx-size: the model was made for {model.most_tokens} tokens, "
                f"got {self.size}",
            )
        if settings.embedding:  # which is of what is computed at once
            self.size = min(self.size, _EMBEDDED_AT_ONCE)
        needed = self.size * model.bytes_per_token()
        if needed > model.cache_bytes:
            raise WasiNnError(
                ErrorKind.TOO_LARGE,
                f"metadata ctx-size: {self.size} tokens take {needed} bytes, more than the "
                f"{model.cache_bytes} of the option cache_mib",
            )
        parameters = self._c.llama_context_default_params()
        parameters.n_ctx = self.size
        parameters.n_batch = min(settings.batch_size, self.size)
        parameters.n_ubatch = min(parameters.n_batch, _AT_ONCE)
        threads = min(settings.threads or model.threads, model.threads)
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.embeddings = settings.embedding
        if settings.embedding:
            parameters.n_batch = parameters.n_ubatch = self.size
        model.llama.forget()
        self._context = self._c.llama_init_from_model(model.pointer, parameters) or 0
        if not self._context:
            raise WasiNnError(
                ErrorKind.TOO_LARGE,
                f"llama.cpp can not make a context of {self.size} tokens: {model.llama.said()}",
            )
        self._memory = self._c.llama_get_memory(self._context)
        self._check_able()
        self._c.llama_set_abort_callback(
            self._context, model.llama.is_set, ctypes.cast(abort, ctypes.c_void_p)
        )
        self.used = 0

    def _check_able(self) -> None:
        """Raises for what llama.cpp would end the process at, or read too far."""
        if self._settings.embedding:
            is_able = self._c.llama_pooling_type(self._context) != _POOLING_RANK
            why = "ranks texts, and has no embeddings"
        else:
            is_able = self._memory is not None
            why = "does not continue texts; ask it for an embedding"
        if not is_able:
            self.close()
            raise WasiNnError(ErrorKind.UNSUPPORTED_OPERATION, f"the model {why}")

    def serves(self, settings: Settings) -> bool:
        """Whether it can compute with these, too."""
        return all(getattr(settings, name) == getattr(self._settings, name) for name in _KEPT)

    def start(self, tokens: Any, settings: Settings) -> None:
        """Reads the prompt, in place of what was there."""
        c = self._c
        if self._memory is not None:
            c.llama_memory_clear(self._memory, True)
        self._free_sampler()
        self._sampler = _sampler(c, settings)
        self.used = 0
        step = self.size if settings.embedding else min(settings.batch_size, self.size)
        for at in range(0, len(tokens), step):
            part = (ctypes.c_int32 * min(step, len(tokens) - at))(*tokens[at : at + step])
            self._decode(part)

    def next(self) -> int:
        """Chooses a token; it is read when the next one is wanted."""
        token: int = self._c.llama_sampler_sample(self._sampler, self._context, -1)
        return token

    def read(self, token: int) -> None:
        self._decode((ctypes.c_int32 * 1)(token))

    def _decode(self, tokens: Any) -> None:
        if self._abort[0] != b"\0":  # what does not run on the CPU is ended between tokens alone
            raise WasiNnError(ErrorKind.RUNTIME_ERROR, "llama.cpp: ended from outside")
        batch = self._c.llama_batch_get_one(tokens, len(tokens))
        self._model.llama.forget()
        status = self._c.llama_decode(self._context, batch)
        if status:
            why = "ended from outside" if status == _ABORTED else self._model.llama.said()
            raise WasiNnError(
                ErrorKind.RUNTIME_ERROR, f"llama.cpp, while computing: {why or status}"
            )
        self.used += len(tokens)

    def embedding(self) -> list[float]:
        """Of what was read, of length 1."""
        size = self._c.llama_model_n_embd_out(self._model.pointer)
        values = self._c.llama_get_embeddings_seq(self._context, 0)
        if not values:  # a model that does not pool: the last token's
            values = self._c.llama_get_embeddings_ith(self._context, -1)
        numbers = [float(values[i]) for i in range(size)]
        length = sum(number * number for number in numbers) ** 0.5 or 1.0
        return [number / length for number in numbers]

    def _free_sampler(self) -> None:
        if self._sampler:
            self._c.llama_sampler_free(self._sampler)
            self._sampler = 0

    def close(self) -> None:
        self._free_sampler()
        if self._context:
            self._c.llama_free(self._context)
            self._context = 0


def _sampler(c: Any, settings: Settings) -> int:
    """A chain that chooses tokens; the last link decides."""
    chain: int = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
    links = [
        c.llama_sampler_init_penalties(
            _PENALISED_TOKENS,
            settings.repeat_penalty,
            settings.frequency_penalty,
            settings.presence_penalty,
        )
    ]
    if settings.temp > 0:
        links += [
            c.llama_sampler_init_top_k(settings.top_k),
            c.llama_sampler_init_top_p(settings.top_p, 1),
            c.llama_sampler_init_min_p(settings.min_p, 1),
            c.llama_sampler_init_temp(settings.temp),
            c.llama_sampler_init_dist(settings.seed),
        ]
    else:
        links.append(c.llama_sampler_init_greedy())
    for link in links:
        c.llama_sampler_chain_add(chain, link)
    return chain
