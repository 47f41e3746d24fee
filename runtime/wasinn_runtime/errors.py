"""Every error the runtime raises, as one tree. Not the texts: those are written where things fail.

WasinnError
├── Malformed            bytes that are not a WebAssembly module
├── Invalid              a module that breaks a validation rule
├── LinkError            an import that is missing or does not match
├── UnusableImage        an AOT file that is damaged, or made for something else than this
├── Trap                 the guest did what the specification stops; ``code`` is its text
│   ├── Exhaustion       call stack exhausted
│   └── Interrupted      a deadline passed or somebody cancelled the call
├── WasmException        the guest threw and nobody in it caught (``machine/exceptions.py``)
├── GuestExit            the guest asked to end (``proc_exit``); not a failure by itself
├── MemoryAccessError    the host asked for guest bytes outside the memory (also an IndexError)
├── UsageError           the embedding program called the API wrongly
│   └── ValueRangeError  a Python value does not fit its WebAssembly type
├── LimitExceeded        a limit the embedder set was reached
└── Internal             our own defect; please report it
"""

from __future__ import annotations

__all__ = [
    "Exhaustion",
    "GuestExit",
    "Internal",
    "Interrupted",
    "Invalid",
    "LimitExceeded",
    "LinkError",
    "Malformed",
    "MemoryAccessError",
    "Trap",
    "UnusableImage",
    "UsageError",
    "ValueRangeError",
    "WasinnError",
]


class WasinnError(Exception):
    """The root: catching it catches everything this project raises on purpose."""


class ModuleError(WasinnError):
    """A defect of a module's bytes, with the place where it was seen.

    Args:
        message: the specification's wording, then details.
        offset: byte offset from the module's first byte, or None when there is no single place.
        where: name of the module (a path, or ``<module>``).
        function: index and name of the function, such as ``function 12 (score)``.
    """

    def __init__(
        self,
        message: str,
        offset: int | None = None,
        where: str = "<module>",
        function: str | None = None,
    ) -> None:
        self.message = message
        self.offset = offset
        self.where = where
        self.function = function
        super().__init__(message)

    def __str__(self) -> str:
        place = self.where if self.offset is None else f"{self.where}:{self.offset:#x}"
        inside = f" {self.function}:" if self.function else ""
        return f"{place}:{inside} {self.message}"


class Malformed(ModuleError):
    """The bytes are not a WebAssembly module (binary grammar of the specification)."""


class Invalid(ModuleError):
    """The module breaks a validation rule of the specification."""


class LinkError(WasinnError):
    """An import has no definition, or one of another kind or type."""


class UnusableImage(WasinnError):
    """An AOT file that can not be run here.

    Args:
        reason: what was expected, what is in the file, what to do.
        where: name of the file.
    """

    def __init__(self, reason: str, where: str) -> None:
        self.reason = reason
        self.where = where
        super().__init__(f"{where}: {reason}")


class Trap(WasinnError):
    """Execution stopped as the specification demands.

    Args:
        code: the specification's text, for example ``integer divide by zero``.
        function: the guest function it happened in, where known.
    """

    def __init__(self, code: str, function: str | None = None) -> None:
        self.code = code
        self.function = function
        super().__init__(code)

    def __str__(self) -> str:
        inside = f" in {self.function}" if self.function else ""
        return f"wasm trap: {self.code}{inside}"


class Exhaustion(Trap):
    """The guest used up its call stack."""


class Interrupted(Trap):
    """A deadline passed, or the call was cancelled. The instance must not be called again."""


class GuestExit(WasinnError):
    """The guest ended itself with an exit status.

    Args:
        code: the status, 0 to 2**32-1; 0 means success.
    """

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"guest exited with status {code}")


class MemoryAccessError(WasinnError, IndexError):
    """A range of linear memory that the host was asked to touch lies outside it."""


class UsageError(WasinnError):
    """The embedding program used the API in a way that can not work."""


class ValueRangeError(UsageError, ValueError, TypeError):
    """A Python value does not fit the WebAssembly type it was given for."""


class LimitExceeded(WasinnError):
    """A limit that the embedder set stops the operation."""


class Internal(WasinnError):
    """Our own defect. The message says what to report."""
