"""The interface that backend plugins are written against. Public and versioned.

A backend is three small classes, ``Backend -> Graph -> ExecutionContext``, and an entry point in
the group ``wasinn.backends``. Everything a plugin needs is importable from this module; plugins
import nothing else of the host. ``docs/adding-a-backend.md`` builds one from nothing.

This module holds no registry, no handles and no ABI: those belong to the host. It imports no numpy;
data crosses the interface as memoryviews of bytes.

Threads: the host never calls one execution context from two threads at a time (``cancel`` is the
exception), but calls different contexts of one graph, and loads graphs, at the same time.

Optional abilities are protocols. The host looks for them on each new execution context; a plugin
that has none of them ignores them. There are `Cancellable` and `Streaming`.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, runtime_checkable

from wasinn_host.nn.errors import ErrorKind, WasiNnError

if TYPE_CHECKING:
    from pathlib import Path  # slow to import, and needed only where a model is a file

__all__ = [
    "ANY_ENCODING",
    "API_VERSION",
    "ENCODINGS",
    "Backend",
    "Cancellable",
    "Device",
    "ErrorKind",
    "ExecutionContext",
    "Graph",
    "ModelSource",
    "Quantization",
    "Sample",
    "Streaming",
    "Target",
    "Tensor",
    "TensorSpec",
    "TensorType",
    "WasiNnError",
]

API_VERSION: Final = 1
"""Raised when a plugin written for the version before would no longer work as it is."""

ENCODINGS: Final = (
    "openvino",
    "onnx",
    "tensorflow",
    "pytorch",
    "tensorflowlite",
    "ggml",
)
"""Encodings that guests can name by number. A plugin may invent more; hosts preload those."""

ANY_ENCODING: Final = "*"
"""In `Backend.encodings`: takes every encoding, but only where the host's user routes it there."""


class Target(enum.Enum):
    """Where a guest wants its graph to run. ``AUTO`` is for hosts; no guest number names it."""

    CPU = "cpu"
    GPU = "gpu"
    TPU = "tpu"
    AUTO = "auto"


class TensorType(enum.Enum):
    """Element type of a tensor; the value is its name, ``size_bytes`` its width."""

    size_bytes: int

    F16 = ("f16", 2)
    F32 = ("f32", 4)
    F64 = ("f64", 8)
    BF16 = ("bf16", 2)
    U8 = ("u8", 1)
    I32 = ("i32", 4)
    I64 = ("i64", 8)

    def __new__(cls, word: str, size_bytes: int) -> TensorType:
        member = object.__new__(cls)
        member._value_ = word
        member.size_bytes = size_bytes
        return member


@dataclass(slots=True)
class Tensor:
    """One tensor on its way in or out. Not frozen only because that makes it slow to create.

    Attributes:
        type: element type.
        shape: sizes, outermost first; ``()`` is a scalar.
        data: the elements, row-major and little endian, as one contiguous view of format ``B``.
            In `ExecutionContext.set_input` it is guest memory and only valid during the call.
    """

    type: TensorType
    shape: tuple[int, ...]
    data: memoryview


@dataclass(frozen=True, slots=True)
class Quantization:
    """How a tensor's integers stand for numbers: ``number = scale * (integer - zero_point)``."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a graph says about one of its inputs or outputs.

    Attributes:
        name: the model's name for it; may be empty.
        type: element type, or None when WASI-NN has no such type (``native_type`` says which), or
            the model leaves the type open.
        shape: sizes, None where any size goes; the whole is None when even the rank is open.
        native_type: the model format's own word for the element type, for messages. Bytes with a
            sign, which WASI-NN has no type for, may travel as ``u8``; this is ``int8`` then.
        quantization: of a tensor of integers that stand for other numbers, the same for all of
            them; None where the elements are what they say.
        is_optional: of an input that need not be set. They come after those that must be.
    """

    name: str
    type: TensorType | None
    shape: tuple[int | None, ...] | None
    native_type: str = ""
    quantization: Quantization | None = None
    is_optional: bool = False

    def check(self, tensor: Tensor, index: int) -> None:
        """Refuses a tensor that does not fit, before any library sees it.

        Checks type, rank, fixed sizes, and that the data is as long as the shape says.

        Args:
            tensor: what the guest gave.
            index: the input's index, for the message.

        Raises:
            WasiNnError: ``unsupported_operation`` when the model wants a type that WASI-NN lacks,
                ``invalid_argument`` for every other mismatch.
        """
        if tensor.type is not self.type:
            if self.type is None:
                raise WasiNnError(
                    ErrorKind.UNSUPPORTED_OPERATION,
                    f"input {index} ({self.name}) is a {self.native_type}, "
                    "which WASI-NN tensors can not carry",
                )
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"input {index} ({self.name}): expected {self.type.value} elements, "
                f"got {tensor.type.value}",
            )
        shape = tensor.shape
        if self.shape is not None:
            if len(shape) != len(self.shape):
                raise WasiNnError(
                    ErrorKind.INVALID_ARGUMENT,
                    f"input {index} ({self.name}): expected {len(self.shape)} dimensions "
                    f"{self._shape_text()}, got {len(shape)} {list(shape)}",
                )
            for want, got in zip(self.shape, shape, strict=True):
                if want is not None and want != got:
                    raise WasiNnError(
                        ErrorKind.INVALID_ARGUMENT,
                        f"input {index} ({self.name}): expected shape {self._shape_text()}, "
                        f"got {list(shape)}",
                    )
        size_bytes = tensor.type.size_bytes
        for size in shape:  # Python integers: no overflow, however large the guest's sizes are
            size_bytes *= size
        if size_bytes != tensor.data.nbytes:
            raise WasiNnError(
                ErrorKind.INVALID_ARGUMENT,
                f"input {index} ({self.name}): shape {list(shape)} of {tensor.type.value} "
                f"takes {size_bytes} bytes, got {tensor.data.nbytes}",
            )

    def _shape_text(self) -> str:
        sizes = self.shape or ()
        return "[" + ", ".join("?" if s is None else str(s) for s in sizes) + "]"


@dataclass(frozen=True, slots=True)
class Device:
    """Something a backend can run graphs on.

    Attributes:
        id: unique within the backend, for example ``cpu`` or ``gpu:1``.
        target: which guest target it answers to; never ``AUTO``.
        description: for people, for example the product name.
        memory_bytes: memory the device has for itself, None when it has none or nobody knows.
    """

    id: str
    target: Target
    description: str
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model to load: either bytes from a guest, or files that the host's user named.

    Attributes:
        encoding: one of the backend's encodings.
        builders: the guest's byte strings, in order; empty for files. Untrusted: nothing in them
            may become a path, a URL or a command.
        paths: the host's files, in order; empty for guest bytes. Trusted: a backend may open
            further files that they refer to.
        config: what the guest wants of a named model, as a rule JSON; empty for nothing, and
            always for a backend that does not say `Backend.takes_config`. Untrusted.
    """

    encoding: str
    builders: tuple[bytes, ...] = ()
    paths: tuple[Path, ...] = ()
    config: bytes = b""

    @property
    def is_trusted(self) -> bool:
        """Whether the model comes from the host's user instead of a guest."""
        return bool(self.paths)

    def read(self) -> tuple[bytes, ...]:
        """The model's parts as bytes, wherever they come from.

        Raises:
            WasiNnError: ``model_not_found`` when a file can not be read.
        """
        if not self.paths:
            return self.builders
        parts = []
        for path in self.paths:
            try:
                parts.append(path.read_bytes())
            except OSError as error:
                raise WasiNnError(
                    ErrorKind.MODEL_NOT_FOUND,
                    f"model file {path} can not be read: {error.strerror}",
                ) from error
        return tuple(parts)


@dataclass(frozen=True, slots=True)
class Sample:
    """A small model and a computation whose result is known, for the conformance kit.

    Attributes:
        encoding: one of the backend's encodings.
        parts: the model, as a guest would give it.
        inputs: one tensor for each input.
        outputs: what they must give, one tensor for each output.
        tolerance: how far a float may be from what it must be, as a part of the larger of 1 and
            the expected number; integers must be equal.
    """

    encoding: str
    parts: tuple[bytes, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    tolerance: float = 1e-5


class Backend(ABC):
    """Loads graphs of some encodings onto some devices. One object serves the whole host.

    Attributes:
        api_version: the `API_VERSION` that the plugin was written for; set it to a literal number,
            not to `API_VERSION` itself.
        encodings: what `load` accepts, in lower case; `ANY_ENCODING` for everything.
        options: names and one-line descriptions of what the user may configure.
        takes_config: whether guests may give a `ModelSource.config` along.
        isolates_guests: whether guests' own models are loaded and computed in a process of their
            own, also where the user does not isolate backends. For libraries that trust what a
            model says.
    """

    api_version: ClassVar[int]
    encodings: ClassVar[frozenset[str]]
    options: ClassVar[Mapping[str, str]] = {}
    takes_config: ClassVar[bool] = False
    isolates_guests: ClassVar[bool] = False

    def __init__(self, options: Mapping[str, str]) -> None:  # noqa: B027
        """Takes the user's options; the host has checked the names against `options`.

        Raises:
            WasiNnError: ``invalid_argument`` for a bad value.
        """

    @abstractmethod
    def devices(self) -> Sequence[Device]:
        """What there is to run on, best first. Asked once."""

    @abstractmethod
    def load(self, source: ModelSource, device: Device) -> Graph:
        """Makes a graph ready to run.

        Args:
            source: the model.
            device: one of `devices()`.

        Raises:
            WasiNnError: ``invalid_encoding`` when the bytes are no model of that encoding,
                ``invalid_argument`` for a wrong number of parts, ``unsupported_operation`` for a
                model that can not or must not run here, ``too_large`` when memory is short.
                Any other exception becomes ``runtime_error``.
        """

    def samples(self) -> Sequence[Sample]:
        """Small models that this backend can run, for ``wasinn backends check``."""
        return ()

    def close(self) -> None:  # noqa: B027  (an optional hook, not a forgotten body)
        """Frees what the backend holds. Its graphs are closed before."""


class Graph(ABC):
    """A loaded model. Shared by many contexts, and by many guests when it was preloaded."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs, by index."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs, by index."""

    @abstractmethod
    def create_context(self) -> ExecutionContext:
        """A fresh context: no inputs set, nothing computed. May be called by many threads."""

    def close(self) -> None:  # noqa: B027
        """Frees the model. Its contexts are closed before. Called once."""


class ExecutionContext(ABC):
    """Inputs, a computation and its outputs. Belongs to one guest."""

    @abstractmethod
    def set_input(self, index: int, tensor: Tensor) -> None:
        """Copies a tensor in; the copy stays until the index is set again.

        ``tensor.data`` is guest memory: copy it once, straight to where `compute` wants it, and
        keep no reference. `TensorSpec.check` does the usual checks; whether dimensions and data
        must agree is the backend's decision, since some encodings pass plain text.

        Raises:
            WasiNnError: ``invalid_argument`` for a wrong index, type, shape or size.
        """

    @abstractmethod
    def compute(self) -> None:
        """Runs the graph. Should release the GIL while it does.

        Raises:
            WasiNnError: ``invalid_argument`` when inputs are missing; ``runtime_error`` otherwise.
        """

    @abstractmethod
    def get_output(self, index: int) -> Tensor:
        """An output of the last `compute`. Its data stays unchanged until the next call of
        `compute` or `close`; the host copies it out before that.

        Raises:
            WasiNnError: ``invalid_argument`` for a wrong index, or when nothing was computed.
        """

    def close(self) -> None:  # noqa: B027
        """Frees the context. Called once, and no other method after it."""


@runtime_checkable
class Cancellable(Protocol):
    """An execution context whose `compute` can be ended from another thread."""

    def cancel(self) -> None:
        """Makes a running `compute` raise soon. May come from any thread, repeatedly, and when
        nothing runs; it must not block. It concerns the running `compute`, not later ones."""


@runtime_checkable
class Streaming(Protocol):
    """An execution context that can compute piece by piece, such as a text one token at a time.

    All contexts of a graph can, or none. A run begins with the first `compute_single` and ends with
    `fini_single`, `compute` or `close`. A context that is `Cancellable` ends `compute_single` too.
    """

    def compute_single(self) -> None:
        """Computes the next piece.

        Raises:
            WasiNnError: ``end_of_sequence`` when there is none, ``context_full``,
                ``prompt_too_long``, or as `ExecutionContext.compute`.
        """

    def get_output_single(self, index: int) -> Tensor:
        """The last piece of an output; its data stays unchanged until the next call of any other
        method than this and `ExecutionContext.get_output`.

        Raises:
            WasiNnError: ``invalid_argument`` for a wrong index, or when there is no piece.
        """

    def fini_single(self) -> None:
        """Ends the run. No error when there is none."""
