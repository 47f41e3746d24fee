"""What can go wrong in WASI-NN, as kinds, whatever the ABI. Their numbers are in `numbering`.

WasinnError (wasinn_runtime.errors)
└── WasiNnError       a call failed; ``kind`` says how, the guest sees a number
    ├── OutputTooSmall    the guest's buffer does not hold the output; ``needed`` bytes would
    └── PluginError       a backend plugin is broken or misbehaves; the message names it
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from wasinn_runtime.errors import WasinnError

__all__ = ["ErrorKind", "OutputTooSmall", "PluginError", "WasiNnError", "near"]


class ErrorKind(enum.Enum):
    """How a WASI-NN call failed; the value is the word of the witx file, or of WasmEdge."""

    INVALID_ARGUMENT = "invalid_argument"
    INVALID_ENCODING = "invalid_encoding"
    MISSING_MEMORY = "missing_memory"
    BUSY = "busy"
    RUNTIME_ERROR = "runtime_error"
    UNSUPPORTED_OPERATION = "unsupported_operation"
    TOO_LARGE = "too_large"
    NOT_FOUND = "not_found"
    END_OF_SEQUENCE = "end_of_sequence"
    CONTEXT_FULL = "context_full"
    PROMPT_TOO_LONG = "prompt_too_long"
    MODEL_NOT_FOUND = "model_not_found"


class WasiNnError(WasinnError):
    """A WASI-NN operation failed.

    Args:
        kind: what the guest is told, through its ABI's table of numbers.
        message: for people: where, what was expected, what came, what to do.
    """

    def __init__(self, kind: ErrorKind, message: str) -> None:
        self.kind = kind
        self.message = message
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.message}"


class OutputTooSmall(WasiNnError):
    """The guest's buffer is smaller than the output.

    Args:
        needed: bytes that the output has.
        offered: bytes that the guest's buffer has.
        index: which output.
    """

    def __init__(self, needed: int, offered: int, index: int) -> None:
        self.needed = needed
        self.offered = offered
        super().__init__(
            ErrorKind.TOO_LARGE,
            f"output {index} has {needed} bytes, the guest's buffer {offered}; "
            f"call again with a buffer of at least {needed} bytes",
        )


class PluginError(WasiNnError):
    """A backend plugin can not be used, or broke the plugin contract.

    Guests see ``runtime_error``: it is not their doing.
    """

    def __init__(self, message: str) -> None:
        super().__init__(ErrorKind.RUNTIME_ERROR, message)


def near(word: str, known: Sequence[str]) -> str:
    """The part of a message that helps after an unknown word."""
    from difflib import get_close_matches

    close = get_close_matches(word, known, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}there is: {', '.join(known) or 'nothing'}"
