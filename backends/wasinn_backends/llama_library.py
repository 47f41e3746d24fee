"""llama.cpp's functions in C, as far as the ggml backend calls them. No policy, no Python objects.

They are taken from the library within the package xllamacpp, which has llama.cpp built in and shows
its interface in C. Structures have no versions there: what is known of them here is for one release
of the package (`VERSION`), and is compared with the defaults that the library gives.

Source: llama.h and ggml-backend.h of llama.cpp.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import threading
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int, c_int32, c_size_t, c_uint32, c_void_p
from pathlib import Path
from typing import Any, Final

from wasinn_host.nn.plugin import ErrorKind, WasiNnError

__all__ = ["ContextParams", "Llama", "library"]

VERSION: Final = "2026.10.11549"
BUILD: Final = int(VERSION.rpartition(".")[2])
"""llama.cpp's own number of what that release has built in; the library says 0."""

_ERROR_LEVEL: Final = 4
_MOST_LINES: Final = 20

_Tokens = POINTER(c_int32)


class ModelParams(ctypes.Structure):
    """``llama_model_params``."""

    _fields_ = [
        ("devices", c_void_p),
        ("tensor_buft_overrides", c_void_p),
        ("n_gpu_layers", c_int32),
        ("split_mode", c_int32),
        ("rest", c_int32 * 4),
        ("pointers", c_void_p * 4),
        ("flags", ctypes.c_uint8 * 8),
    ]


class ContextParams(ctypes.Structure):
    """``llama_context_params``."""

    _fields_ = [
        ("n_ctx", c_uint32),
        ("n_batch", c_uint32),
        ("n_ubatch", c_uint32),
        ("n_seq_max", c_uint32),
        ("counts", c_uint32 * 3),
        ("n_threads", c_int32),
        ("n_threads_batch", c_int32),
        ("context_type", c_int32),
        ("rope_scaling_type", c_int32),
        ("pooling_type", c_int32),
        ("attention_type", c_int32),
        ("flash_attn_type", c_int32),
        ("numbers", c_float * 8),
        ("evaluation", c_void_p * 2),
        ("type_k", c_int32),
        ("type_v", c_int32),
        ("callbacks", c_void_p * 3),
        ("embeddings", c_bool),
        ("offload_kqv", c_bool),
        ("no_perf", c_bool),
        ("flags", c_bool * 5),
        ("samplers", c_void_p * 3),
    ]


class Batch(ctypes.Structure):
    """``llama_batch``."""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", _Tokens),
        ("rest", c_void_p * 5),
    ]


class _ChainParams(ctypes.Structure):
    _fields_ = [("no_perf", c_bool)]


_FUNCTIONS: Final[dict[str, tuple[Any, ...]]] = {
    # The result first, then the arguments.
    "llama_backend_init": (None,),
    "llama_model_default_params": (ModelParams,),
    "llama_context_default_params": (ContextParams,),
    "llama_model_load_from_file": (c_void_p, c_char_p, ModelParams),
    "llama_model_free": (None, c_void_p),
    "llama_model_get_vocab": (c_void_p, c_void_p),
    "llama_model_n_ctx_train": (c_int32, c_void_p),
    "llama_model_n_embd": (c_int32, c_void_p),
    "llama_model_n_embd_out": (c_int32, c_void_p),
    "llama_model_n_layer": (c_int32, c_void_p),
    "llama_model_n_head": (c_int32, c_void_p),
    "llama_model_n_head_kv": (c_int32, c_void_p),
    "llama_model_meta_val_str": (c_int32, c_void_p, c_char_p, c_char_p, c_size_t),
    "llama_model_has_encoder": (c_bool, c_void_p),
    "llama_init_from_model": (c_void_p, c_void_p, ContextParams),
    "llama_free": (None, c_void_p),
    "llama_pooling_type": (c_int32, c_void_p),
    "llama_set_abort_callback": (None, c_void_p, c_void_p, c_void_p),
    "llama_get_memory": (c_void_p, c_void_p),
    "llama_memory_clear": (None, c_void_p, c_bool),
    "llama_batch_get_one": (Batch, _Tokens, c_int32),
    "llama_decode": (c_int32, c_void_p, Batch),
    "llama_get_embeddings_ith": (POINTER(c_float), c_void_p, c_int32),
    "llama_get_embeddings_seq": (POINTER(c_float), c_void_p, c_int32),
    "llama_tokenize": (c_int32, c_void_p, c_char_p, c_int32, _Tokens, c_int32, c_bool, c_bool),
    "llama_token_to_piece": (c_int32, c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool),
    "llama_vocab_is_eog": (c_bool, c_void_p, c_int32),
    "llama_sampler_chain_default_params": (_ChainParams,),
    "llama_sampler_chain_init": (c_void_p, _ChainParams),
    "llama_sampler_chain_add": (None, c_void_p, c_void_p),
    "llama_sampler_init_greedy": (c_void_p,),
    "llama_sampler_init_dist": (c_void_p, c_uint32),
    "llama_sampler_init_top_k": (c_void_p, c_int32),
    "llama_sampler_init_top_p": (c_void_p, c_float, c_size_t),
    "llama_sampler_init_min_p": (c_void_p, c_float, c_size_t),
    "llama_sampler_init_temp": (c_void_p, c_float),
    "llama_sampler_init_penalties": (c_void_p, c_int32, c_float, c_float, c_float),
    "llama_sampler_sample": (c_int32, c_void_p, c_void_p, c_int32),
    "llama_sampler_free": (None, c_void_p),
    "llama_log_set": (None, c_void_p, c_void_p),
    "ggml_backend_dev_count": (c_size_t,),
    "ggml_backend_dev_get": (c_void_p, c_size_t),
    "ggml_backend_dev_type": (c_int, c_void_p),
    "ggml_backend_dev_description": (c_char_p, c_void_p),
    "ggml_backend_dev_memory": (None, c_void_p, POINTER(c_size_t), POINTER(c_size_t)),
}

_DEFAULTS: Final = {
    "n_ctx": 512,
    "n_batch": 2048,
    "n_ubatch": 512,
    "n_seq_max": 1,
    "n_threads": 4,
    "n_threads_batch": 4,
    "pooling_type": -1,
    "type_k": 1,
    "type_v": 1,
    "embeddings": False,
    "offload_kqv": True,
    "no_perf": True,
}
"""What ``llama_context_default_params`` gives, where the fields are where they should be."""

_LogCallback = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)


class Llama:
    """The functions, under their names in C without ``llama_``; and why the last load failed.

    Raises:
        WasiNnError: ``unsupported_operation``: the package is not there, or not of that release.
    """

    def __init__(self) -> None:
        self.c = _opened()
        for name, (result, *arguments) in _FUNCTIONS.items():
            function = getattr(self.c, name)
            function.restype, function.argtypes = result, arguments
        self._heard = threading.local()
        self._check_layout()
        self._log = _LogCallback(self._listen)  # kept: the library calls it until the end
        self.c.llama_log_set(ctypes.cast(self._log, c_void_p), None)
        self.c.llama_backend_init()
        # A function in C that is true where the memory it is told of does not begin with a zero:
        # the library asks it between operations, from threads that Python knows nothing of.
        self.is_set = ctypes.cast(ctypes.CDLL(None).strlen, c_void_p)
        self.commit = c_char_p.in_dll(self.c, "LLAMA_COMMIT").value or b""

    def _listen(self, level: int, text: bytes | None, _: object) -> None:
        lines = getattr(self._heard, "lines", None)  # None in threads of the library's own
        if level >= _ERROR_LEVEL and text and lines is not None and len(lines) < _MOST_LINES:
            lines.append(" ".join(text.decode("utf-8", "replace").split()))

    def forget(self) -> None:
        """Drops what the library said to this thread."""
        self._heard.lines = []

    def said(self) -> str:
        """What the library called an error, in this thread since `forget`."""
        return "; ".join(self._heard.lines)[:400]

    def _check_layout(self) -> None:
        model, context = self.c.llama_model_default_params(), self.c.llama_context_default_params()
        found = [model.n_gpu_layers, model.split_mode]
        found += [getattr(context, name) for name in _DEFAULTS]
        if found != [-1, 1, *_DEFAULTS.values()]:
            raise WasiNnError(
                ErrorKind.UNSUPPORTED_OPERATION,
                f"xllamacpp {VERSION}: its structures are not as expected; install it from PyPI",
            )


_lock: Final = threading.Lock()
_made: list[Llama] = []


def library() -> Llama:
    """The one there is in this process.

    Raises:
        WasiNnError: as `Llama`.
    """
    with _lock:
        if not _made:
            _made.append(Llama())
        return _made[0]


def _opened() -> ctypes.CDLL:
    try:
        version = importlib.metadata.version("xllamacpp")
    except importlib.metadata.PackageNotFoundError as error:
        raise WasiNnError(
            ErrorKind.UNSUPPORTED_OPERATION,
            "xllamacpp is not installed; install wasinn-host[ggml]",
        ) from error
    if version != VERSION:
        raise WasiNnError(
            ErrorKind.UNSUPPORTED_OPERATION,
            f"expected xllamacpp {VERSION}, whose structures in C are known here, got {version}; "
            "install wasinn-host[ggml]",
        )
    spec = importlib.util.find_spec("xllamacpp")
    folders = (spec.submodule_search_locations or []) if spec is not None else []
    libraries = [path for folder in folders for path in Path(folder).glob("xllamacpp*.so")]
    try:
        return ctypes.CDLL(str(libraries[0]))
    except (OSError, IndexError) as error:
        raise WasiNnError(
            ErrorKind.UNSUPPORTED_OPERATION,
            f"xllamacpp's library can not be loaded ({error}); on Debian it needs libgomp1",
        ) from error
