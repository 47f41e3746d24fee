"""Where the command ``wasinn`` starts: which subcommand, and the process's end.

``wasinn run`` goes its own short way, without the command line library, since what it costs to
start is part of every guest's time. Everything else is looked up in ``COMMANDS`` and imported then.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from wasinn_host.cli import status
from wasinn_host.cli.boundary import guarded

__all__ = ["COMMANDS", "execute", "main"]

#: The subcommands, in the order of the help, and what each is for.
COMMANDS: dict[str, str] = {
    "run": "Run a WebAssembly guest.",
    "compile": "Compile a guest ahead of time.",
    "inspect": "Show what a module needs, offers and contains.",
    "backends": "List the plugins that run models, and why one does not.",
    "eval": "Evaluate a model on rows of data, through a guest.",
    "models": "List, fetch, build and check models.",
    "datasets": "List and check data sets for evaluation.",
    "doctor": "Say what this machine can do, and what is missing.",
}


def main() -> NoReturn:
    """The entry point: takes ``sys.argv``, ends the process."""
    _reserve_standard_descriptors()
    # Imports make many objects and no garbage; looking for some among them costs milliseconds.
    gc.disable()
    code = execute(sys.argv[1:])
    _leave(code)


def execute(words: Sequence[str]) -> int:
    """Runs a command line, without the program's name, in this process; its exit status."""
    return guarded(lambda: _dispatch(list(words)))


def _dispatch(words: list[str]) -> int:
    first = words[0] if words else "--help"
    if first == "run":
        from wasinn_host.cli.commands.run import run

        return run(words[1:])
    if first in COMMANDS or first in ("--help", "-h", "--version"):
        from wasinn_host.cli.group import invoke

        gc.enable()
        return invoke(words or ["--help"])
    if first.startswith("-") or "." in first or os.sep in first or os.path.lexists(first):
        from wasinn_host.cli.commands.run import run

        return run(words)
    from difflib import get_close_matches

    from wasinn_runtime.errors import UsageError

    near = get_close_matches(first, COMMANDS, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(
        f"{first!r} is neither a command nor a file; {hint}commands: {', '.join(COMMANDS)}"
    )


def _reserve_standard_descriptors() -> None:
    """Fills descriptors 0 to 2 that came closed, so that no file of ours gets their numbers.

    What fills them is opened the wrong way round: whoever uses one still sees an error.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if fd == 0 else os.O_RDONLY)


def _leave(code: int) -> NoReturn:
    """Ends the process at once; a failure to write the last output is told as any other.

    Python would first take every module and LLVM apart, which takes longer than a small guest.
    What guests had open is closed by now.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BrokenPipeError:
            code = code or status.UNREAD
        except (OSError, ValueError):
            code = code or status.FAILED
    os._exit(code)
