"""What a guest may set of a language model, as the JSON that WasmEdge's guests send.

Keys are WasmEdge's. Those that say where a model runs or what is logged are the host's decision:
they are checked and not followed. Keys that would change the answer and are not there are refused;
unknown ones are ignored, as WasmEdge does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from wasinn_host.nn.plugin import ErrorKind, WasiNnError

__all__ = ["Settings"]

MOST_BYTES: Final = 1 << 20
_MOST_TOKENS: Final = 1 << 24


@dataclass(frozen=True, slots=True)
class Settings:
    """How a context computes.

    Attributes:
        ctx_size: tokens of prompt and answer together; 0: as the backend's option says.
        batch_size: tokens of the prompt that are computed at once.
        threads: of one computation, at most those of the backend's option; 0: so many.
        n_predict: how many tokens the answer has at most; negative: as many as fit.
        temp: temperature; 0 takes the likeliest token.
        top_k: of how many tokens one is chosen; 0: of all.
        top_p: of which share, likeliest first.
        min_p: from which part of the likeliest token's probability on.
        repeat_penalty: divides the scores of the last 64 tokens; 1: does not.
        presence_penalty: subtracted from their scores.
        frequency_penalty: subtracted for each time they were there.
        seed: of the choice.
        reverse_prompts: texts that end an answer, in UTF-8.
        embedding: whether the prompt's embedding is computed, instead of an answer.
    """

    ctx_size: int = 0
    batch_size: int = 512
    threads: int = 0
    n_predict: int = -1
    temp: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0xFFFF_FFFF
    reverse_prompts: tuple[bytes, ...] = ()
    embedding: bool = False

    def updated(self, text: bytes) -> Settings:
        """These with what a guest's JSON says; none for no bytes.

        Raises:
            WasiNnError: ``invalid_encoding`` for what is no JSON object, ``invalid_argument`` for a
                value of another type or out of its limits, ``unsupported_operation`` for what is
                not there.
        """
        if not text:
            return self
        values: dict[str, Any] = {}
        for key, value in _parsed(text).items():
            if key in _REFUSED:
                if value not in (None, "", False, [], {}):
                    raise WasiNnError(
                        ErrorKind.UNSUPPORTED_OPERATION,
                        f"metadata {key}: the ggml backend has no {_REFUSED[key]}",
                    )
            elif key in _KEYS:
                name, read = _KEYS[key]
                read_value = read(key, value)
                if name:
                    values[name] = read_value
        return replace(self, **values)


def _parsed(text: bytes) -> Mapping[str, Any]:
    if len(text) > MOST_BYTES:
        raise WasiNnError(
            ErrorKind.TOO_LARGE, f"metadata: {len(text)} bytes, more than {MOST_BYTES}"
        )
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WasiNnError(
            ErrorKind.INVALID_ENCODING, f"metadata is no JSON: {str(error)[:200]}"
        ) from error
    if not isinstance(parsed, dict):
        raise WasiNnError(
            ErrorKind.INVALID_ENCODING,
            f"metadata: expected a JSON object, got {type(parsed).__name__}",
        )
    return parsed


def _wrong(key: str, expected: str, value: object) -> WasiNnError:
    return WasiNnError(
        ErrorKind.INVALID_ARGUMENT, f"metadata {key}: expected {expected}, got {value!r:.100}"
    )


def _integer(least: int, most: int) -> Callable[[str, object], int]:
    def read(key: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _wrong(key, f"a whole number from {least} to {most}", value)
        return value

    return read


def _number(least: float, most: float) -> Callable[[str, object], float]:
    def read(key: str, value: object) -> float:
        if (
            not isinstance(value, (int, float))
            or isinstance(value, bool)
            or not least <= value <= most  # nor NaN
        ):
            raise _wrong(key, f"a number from {least:g} to {most:g}", value)
        return float(value)

    return read


def _boolean(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong(key, "true or false", value)
    return value


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise _wrong(key, "a text", value)
    return value


def _texts(key: str, value: object) -> tuple[bytes, ...]:
    given: list[object] = value if isinstance(value, list) else [value]
    texts = [text for text in given if isinstance(text, str)]
    if len(given) > 64 or len(texts) < len(given):
        raise _wrong(key, "a text, or at most 64 of them", value)
    try:
        return tuple(text.encode() for text in texts if text)
    except UnicodeEncodeError as error:  # half of a pair of surrogates, which JSON can spell
        raise _wrong(key, "a text of whole characters", value) from error


_SIGNED: Final = 1 << 31

_KEYS: Final[Mapping[str, tuple[str, Callable[[str, object], Any]]]] = {
    "ctx-size": ("ctx_size", _integer(0, _MOST_TOKENS)),
    "batch-size": ("batch_size", _integer(1, _MOST_TOKENS)),
    "threads": ("threads", _integer(0, 1024)),
    "n-predict": ("n_predict", _integer(-2, _MOST_TOKENS)),
    "temp": ("temp", _number(0, 100)),
    "top-k": ("top_k", _integer(0, _MOST_TOKENS)),
    "top-p": ("top_p", _number(0, 1)),
    "min-p": ("min_p", _number(0, 1)),
    "repeat-penalty": ("repeat_penalty", _number(1e-3, 1e3)),
    "presence-penalty": ("presence_penalty", _number(-1e3, 1e3)),
    "frequency-penalty": ("frequency_penalty", _number(-1e3, 1e3)),
    "seed": ("seed", lambda key, value: _integer(-1, 0xFFFF_FFFF)(key, value) & 0xFFFF_FFFF),
    "reverse-prompt": ("reverse_prompts", _texts),
    "embedding": ("embedding", _boolean),
    # The host's decisions.
    "ubatch-size": ("", _integer(1, _MOST_TOKENS)),
    "n-gpu-layers": ("", _integer(-_SIGNED, _SIGNED - 1)),
    "main-gpu": ("", _integer(-_SIGNED, _SIGNED - 1)),
    "tensor-split": ("", _text),
    "split-mode": ("", _text),
    "use-mmap": ("", _boolean),
    "enable-log": ("", _boolean),
    "enable-debug-log": ("", _boolean),
    "stream-stdout": ("", _boolean),
}
"""Our name of each key, empty for what is not followed, and how its value is read."""

_REFUSED: Final[Mapping[str, str]] = {
    "grammar": "grammars",
    "json-schema": "JSON schemas",
    "mmproj": "images",
    "image": "images",
    "tts": "speech",
    "model-vocoder": "speech",
}
