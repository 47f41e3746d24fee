"""Where exceptions end: each becomes one message and one exit status. No traceback for bad input.

Only a defect of our own shows a traceback, and only with ``WASINN_DEBUG=1``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from wasinn_host.cli import status
from wasinn_host.cli.talk import say

__all__ = ["explain", "guarded"]


def guarded(work: Callable[[], int]) -> int:
    """Runs a command and flushes what it wrote.

    Args:
        work: gives the exit status.

    Returns:
        Its status, or the one for how it failed; the failure has been told on standard error.
    """
    try:
        code = work()
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BaseException as error:
        return explain(error)


def explain(error: BaseException) -> int:
    """Tells why something failed, on standard error; the exit status for it."""
    if isinstance(error, KeyboardInterrupt):
        say("interrupted")
        return status.INTERRUPTED
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, BrokenPipeError):
        return status.UNREAD
    if isinstance(error, OSError):
        say(_of_system(error))
        return status.FAILED
    if isinstance(error, MemoryError):
        say("out of memory")
        return status.FAILED
    if isinstance(error, ImportError):
        say(f"the installation is incomplete: {error}; `wasinn doctor` says what is missing")
        return status.FAILED
    from wasinn_runtime.errors import Internal, Interrupted, Trap, WasinnError

    if isinstance(error, Interrupted):
        say(f"the guest was stopped: {error.code}")
        return status.TIMED_OUT if error.code == "timeout" else status.FAILED
    from wasinn_runtime.machine.exceptions import WasmException

    if isinstance(error, Trap | WasmException):
        say(str(error))
        return status.TRAPPED
    if isinstance(error, WasinnError) and not isinstance(error, Internal):
        say(str(error))
        return status.FAILED
    return _defect(error)


def _of_system(error: OSError) -> str:
    """An error of the operating system in one line: what, then why."""
    why = error.strerror or str(error) or type(error).__name__
    names = [
        os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)
    ]
    return f"{' and '.join(names)}: {why}" if names else why


def _defect(error: BaseException) -> int:
    if os.environ.get("WASINN_DEBUG") == "1":
        import traceback

        say("".join(traceback.format_exception(error)))
    text = " ".join(str(error).split())
    say(
        f"internal error: {type(error).__name__}: {text}\n"
        "This is a defect of wasinn. Please report it with the command line and the module; "
        "WASINN_DEBUG=1 shows where it happened."
    )
    return status.FAILED
