"""Looks through a GGUF model from a guest before llama.cpp does. Not a validator of models.

llama.cpp checks much of a file, and ends the process for some of what it finds. This is a walk of
the same tables; weights are not looked at. Refused, each with the reason:

- counts, texts and arrays that reach past the end, arrays in arrays, keys or names given twice;
- tensors of more than four dimensions, of no size, of a type that is not known, or whose data
  reaches past the end or is not aligned;
- models that are not of the kinds `ARCHITECTURES`, and numbers of layers, heads, sizes and tokens
  that are not there, out of reason or contradict one another;
- vocabularies whose lists are not of one length, and tokens that are not in them;
- models in several files.

Source: the description of GGUF in ggml's documents; ggml's table of types.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from wasinn_host.nn.plugin import ErrorKind, WasiNnError

__all__ = ["ARCHITECTURES", "TYPES", "preflight"]

ARCHITECTURES: Final = ("llama", "qwen2", "qwen3")
"""What models of guests may be; the host's user may name others as files."""

MAX_KEYS: Final = 4_096
MAX_TENSORS: Final = 65_536
MAX_ARRAY: Final = 2_000_000
MAX_TEXT: Final = 1 << 20
MAX_DIMENSIONS: Final = 4
MAX_TENSOR_BYTES: Final = 1 << 40

TYPES: Final = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    20: (32, 18),
    21: (256, 110),
    22: (256, 82),
    23: (256, 136),
    29: (256, 56),
    30: (1, 2),
    34: (256, 54),
    35: (256, 66),
    39: (32, 17),
}
"""Of each of ggml's types for weights: the elements of a block, and its bytes."""

_SCALARS: Final = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIifBQqd", strict=True))
"""The form of each type of number, in the words of ``struct``."""
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class _Array:
    """What is kept of an array: its elements' type, and how many there are."""

    kind: int
    count: int


_Value = int | float | str | _Array

_SIZES: Final = {
    "context_length": (1, 1 << 24),
    "embedding_length": (1, 1 << 20),
    "block_count": (1, 4_096),
    "feed_forward_length": (1, 1 << 24),
    "attention.head_count": (1, 4_096),
}
"""What must be there, by key behind the architecture's name, and its limits."""

_OPTIONAL_SIZES: Final = {
    "attention.head_count_kv": (1, 4_096),
    "attention.key_length": (1, 1 << 16),
    "attention.value_length": (1, 1 << 16),
    "rope.dimension_count": (1, 1 << 16),
}


def preflight(model: bytes) -> None:
    """Accepts a model or says why it is refused.

    Args:
        model: a GGUF file of version 2 or 3, little endian.

    Raises:
        WasiNnError: ``invalid_encoding`` when the bytes are no such file or contradict themselves,
            ``unsupported_operation`` for kinds of models that are not accepted from guests,
            ``too_large`` beyond the limits.
    """
    try:
        _Scan(model).model()
    except struct.error as error:
        raise _not_gguf("it ends in the middle") from error


class _Scan:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def model(self) -> None:
        if self._data[:4] != b"GGUF":
            raise _not_gguf("it does not begin with GGUF")
        self._at = 4
        version = self._number("I")
        if version not in (2, 3):
            raise _not_gguf(f"expected version 2 or 3, got {version}")
        tensors, keys = self._number("Q"), self._number("Q")
        if keys > MAX_KEYS or tensors > MAX_TENSORS:
            raise _too_large(
                f"{keys} keys and {tensors} tensors; at most {MAX_KEYS}, {MAX_TENSORS}"
            )
        values: dict[str, _Value] = {}
        for _ in range(keys):
            key = self._text()
            if key in values:
                raise _not_gguf(f"the key {key:.80} is there twice")
            values[key] = self._value(self._number("I"), f"key {key:.80}")
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment not in (8, 16, 32, 64, 128, 256, 4096):
            raise _not_gguf(f"an alignment of {alignment!r:.80}")
        names = self._tensors(tensors, alignment)
        _check_kind(values)
        _check_vocabulary(values, names)

    def _number(self, form: str) -> int:
        number: int = struct.unpack_from(f"<{form}", self._data, self._at)[0]
        self._at += struct.calcsize(f"<{form}")
        return number

    def _text(self) -> str:
        size = self._number("Q")
        if size > MAX_TEXT or self._at + size > len(self._data):
            raise _not_gguf(f"a text of {size} bytes at {self._at}")
        text = self._data[self._at : self._at + size]
        self._at += size
        try:
            return text.decode()
        except UnicodeDecodeError as error:
            raise _not_gguf(f"a text that is no UTF-8 at {self._at - size}") from error

    def _value(self, kind: int, what: str) -> _Value:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._array(what)
        form = _SCALARS.get(kind)
        if form is None:
            raise _not_gguf(f"{what} has type {kind}")
        return self._number(form)

    def _array(self, what: str) -> _Value:
        kind, count = self._number("I"), self._number("Q")
        if count > MAX_ARRAY:
            raise _too_large(f"{what} has {count} elements, more than {MAX_ARRAY}")
        if kind == _STRING:
            for _ in range(count):
                self._text()
            return _Array(kind, count)
        form = _SCALARS.get(kind)
        if form is None:  # arrays in arrays are not read, whatever is in them
            raise _not_gguf(f"{what} is an array of type {kind}")
        size = count * struct.calcsize(f"<{form}")
        if self._at + size > len(self._data):
            raise _not_gguf(f"{what} has {count} elements and reaches past the end")
        self._at += size
        return _Array(kind, count)

    def _tensors(self, count: int, alignment: int) -> dict[str, tuple[int, ...]]:
        """Their shapes by name, innermost dimension first."""
        shapes: dict[str, tuple[int, ...]] = {}
        ends = []
        for _ in range(count):
            name = self._text()
            if name in shapes or len(name.encode()) >= 64:
                raise _not_gguf(f"a tensor's name is there twice or too long: {name:.80}")
            rank = self._number("I")
            if not 1 <= rank <= MAX_DIMENSIONS:
                raise _not_gguf(f"tensor {name} has {rank} dimensions")
            shape = tuple(self._number("Q") for _ in range(rank))
            kind, offset = self._number("I"), self._number("Q")
            size = _size(shape, kind, f"tensor {name}")
            if offset % alignment:
                raise _not_gguf(f"tensor {name} lies at {offset}, not at a multiple of {alignment}")
            shapes[name] = shape
            ends.append((offset + size, name))
        start = self._at + -self._at % alignment
        for end, name in ends:
            if start + end > len(self._data):
                raise _not_gguf(f"tensor {name} reaches past the end")
        return shapes


def _size(shape: tuple[int, ...], kind: int, what: str) -> int:
    if kind not in TYPES:
        raise _not_gguf(f"{what} has elements of type {kind}")
    block, block_bytes = TYPES[kind]
    if 0 in shape or shape[0] % block:
        raise _not_gguf(f"{what} of type {kind} has shape {list(shape)}")
    size = block_bytes
    for extent in (shape[0] // block, *shape[1:]):
        size *= extent
    if size > MAX_TENSOR_BYTES:
        raise _too_large(f"{what} of shape {list(shape)} takes {size} bytes")
    return size


def _check_kind(values: dict[str, _Value]) -> None:
    kind = values.get("general.architecture")
    if kind not in ARCHITECTURES:
        raise WasiNnError(
            ErrorKind.UNSUPPORTED_OPERATION,
            f"models of guests may be of {', '.join(ARCHITECTURES)}, got {kind!r:.80}; the host's "
            "user can name another one as a file",
        )
    if "split.count" in values and values["split.count"] not in (0, 1):
        raise _not_gguf("it is one of several files")
    found = {}
    for key, (least, most) in {**_SIZES, **_OPTIONAL_SIZES}.items():
        value = values.get(f"{kind}.{key}")
        if value is None and key in _OPTIONAL_SIZES:
            continue
        if not isinstance(value, int) or not least <= value <= most:
            raise _not_gguf(f"{kind}.{key}: expected {least} to {most}, got {value!r:.80}")
        found[key] = value
    heads, width = found["attention.head_count"], found["embedding_length"]
    shared = found.get("attention.head_count_kv", heads)
    if heads % shared or (width % heads and "attention.key_length" not in found):
        raise _not_gguf(f"{width} elements, {heads} heads and {shared} of keys do not fit together")
    size = found.get("attention.key_length", width // heads)
    turned = found.get("rope.dimension_count", size)
    if turned != size or size % 2:
        raise _not_gguf(f"heads of {size} elements, of which {turned} are turned by position")
    epsilon = values.get(f"{kind}.attention.layer_norm_rms_epsilon")
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise _not_gguf(f"{kind}.attention.layer_norm_rms_epsilon: got {epsilon!r:.80}")


def _check_vocabulary(values: dict[str, _Value], shapes: dict[str, tuple[int, ...]]) -> None:
    prefix = "tokenizer.ggml."
    tokens = values.get(f"{prefix}tokens")
    if not isinstance(tokens, _Array) or tokens.kind != _STRING:
        raise _not_gguf("it has no list of tokens")
    count = tokens.count
    for name in ("scores", "token_type"):
        beside = values.get(f"{prefix}{name}")
        if beside is not None and (not isinstance(beside, _Array) or beside.count != count):
            raise _not_gguf(f"{prefix}{name} is not as long as the list of {count} tokens")
    for key, value in values.items():
        if key.startswith(prefix) and key.endswith("token_id"):
            # A number that no token has says that there is none.
            top = (1 << 32) - 1
            if not isinstance(value, int) or not (0 <= value < count or value == top):
                raise _not_gguf(f"{key:.80}: there are {count} tokens, got {value!r:.80}")
    embedding = shapes.get("token_embd.weight")
    if embedding is None or len(embedding) != 2 or embedding[1] != count:
        raise _not_gguf(
            f"token_embd.weight: expected a row for each of {count} tokens, got {embedding}"
        )


def _not_gguf(reason: str) -> WasiNnError:
    return WasiNnError(ErrorKind.INVALID_ENCODING, f"not a usable GGUF model: {reason}")


def _too_large(reason: str) -> WasiNnError:
    return WasiNnError(ErrorKind.TOO_LARGE, f"the GGUF model is too large: {reason}")
