"""Runs the checks in a process of their own, one after the other, and survives what that one does.

A check that ends the process, or takes too long, has failed; the next one gets a new process.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Final

from wasinn_host.nn.conformance.checks import CHECKS
from wasinn_host.nn.conformance.subject import CheckFailed, CheckSkipped, Subject
from wasinn_host.nn.discovery import ENTRY_POINT_GROUP
from wasinn_host.nn.errors import ErrorKind, WasiNnError
from wasinn_runtime.errors import WasinnError
from wasinn_runtime.pipes import close, receive, send, serving, start

__all__ = ["CheckResult", "Model", "Outcome", "check_backend", "checks_by_name", "serve"]

_PROGRAM = "from wasinn_host.nn.conformance.kit import serve; serve()"
# Not a check of its own list: without it there is nothing to give the others.
_DOOR: Final = "door"
_DOOR_MEANS: Final = "The plugin can be imported, keeps the contract's form, and can be made."


class Outcome(enum.Enum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What came of one check.

    Attributes:
        name: the check's.
        means: what must hold, in one line.
        outcome: whether it does.
        why: what the plugin did and what it should have done, or why nothing was checked.
        seconds: how long it took.
    """

    name: str
    means: str
    outcome: Outcome
    why: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the user's to check with, beside the plugin's own samples.

    Attributes:
        encoding: one of the backend's.
        paths: its files, one for each part. They are given to the backend as a guest would.
    """

    encoding: str
    paths: tuple[Path, ...]


def checks_by_name() -> dict[str, str]:
    """Every check and what it means, in the order in which they run."""
    named = {check.__name__.replace("_", "-"): _first_line(check) for check in CHECKS}
    return {_DOOR: _DOOR_MEANS, **named}


def check_backend(
    location: str,
    *,
    options: Mapping[str, str] | None = None,
    models: Sequence[Model] = (),
    timeout_s: float = 120.0,
) -> Iterator[CheckResult]:
    """Checks a backend plugin; results come as they are there.

    Args:
        location: ``module:class``, as an entry point names it.
        options: for the backend.
        models: to check with, beside what its `Backend.samples` gives.
        timeout_s: how long one check may take.

    Yields:
        one result for each check.

    Raises:
        WasiNnError: ``not_found`` when a model file can not be read.
    """
    hello = {
        "location": location,
        "options": dict(options or {}),
        "models": [[m.encoding, [_text(path) for path in m.paths]] for m in models],
    }
    child: _Child | None = None
    shut = ""
    try:
        for name, means in checks_by_name().items():
            began = time.monotonic()
            if shut:
                outcome, why = Outcome.SKIPPED, shut
            else:
                child = child or _Child(hello)
                outcome, why = child.check(name, timeout_s)
                if child.is_gone:
                    child = None
            if name == _DOOR and outcome is not Outcome.PASSED:
                shut = "the plugin can not be opened"
            yield CheckResult(name, means, outcome, why, time.monotonic() - began)
    finally:
        if child is not None:
            child.end()


class _Child:
    """The process with the plugin in it."""

    def __init__(self, hello: Mapping[str, Any]) -> None:
        self._process: subprocess.Popen[bytes] = start(_PROGRAM)
        self.is_gone = False
        with contextlib.suppress(OSError):  # it is gone already; the first check will tell
            send(self._process.stdin, hello, b"")

    def check(self, name: str, timeout_s: float) -> tuple[Outcome, str]:
        timed_out = threading.Event()

        def give_up() -> None:
            timed_out.set()
            self._process.kill()

        timer = threading.Timer(timeout_s, give_up)
        timer.start()
        try:
            send(self._process.stdin, {"check": name}, b"")
            answer, _ = receive(self._process.stdout)
        except (OSError, EOFError, ValueError):
            self.end()
            if timed_out.is_set():
                return Outcome.FAILED, f"it took longer than {timeout_s:g} s, and was ended"
            return Outcome.FAILED, f"the process ended: {_ending(self._process.returncode)}"
        finally:
            timer.cancel()
        return Outcome(answer["outcome"]), answer["why"]

    def end(self) -> None:
        self.is_gone = True
        self._process.kill()
        close(self._process)


def serve() -> None:
    """The process's side: opens the plugin and runs checks as they are asked for."""
    source, sink = serving()
    with tempfile.TemporaryFile() as printed, contextlib.suppress(EOFError, BrokenPipeError):
        os.dup2(printed.fileno(), 1)
        hello, _ = receive(source)
        served = _Served(hello)
        while True:
            message, _ = receive(source)
            outcome, why = served.run(message["check"])
            sys.stdout.flush()
            if size := printed.seek(0, io.SEEK_END):
                printed.seek(0)
                text = printed.read(200)
                printed.truncate(0)
                outcome, why = (
                    Outcome.FAILED,
                    f"{size} bytes were written to standard output, which is the guest's: {text!r}",
                )
            send(sink, {"outcome": outcome.value, "why": why}, b"")


class _Served:
    def __init__(self, hello: Mapping[str, Any]) -> None:
        self._hello = hello
        self._subject: Subject | None = None
        self._checks = {check.__name__.replace("_", "-"): check for check in CHECKS}

    def run(self, name: str) -> tuple[Outcome, str]:
        try:
            subject = self._open()
            if name != _DOOR:
                self._checks[name](subject)
        except CheckSkipped as skipped:
            return Outcome.SKIPPED, str(skipped)
        except (CheckFailed, WasinnError) as failed:
            return Outcome.FAILED, str(failed)
        except BaseException as error:  # whatever a plugin raises, SystemExit too
            return Outcome.FAILED, f"{type(error).__name__}: {error}"
        return Outcome.PASSED, ""

    def _open(self) -> Subject:
        if self._subject is None:
            hello = self._hello
            cls = EntryPoint("", hello["location"], ENTRY_POINT_GROUP).load()
            models = [
                (encoding, tuple(base64.b64decode(part) for part in parts))
                for encoding, parts in hello["models"]
            ]
            self._subject = Subject(cls, hello["options"], models)
        return self._subject


def _first_line(check: object) -> str:
    return (check.__doc__ or "").partition("\n")[0]


def _text(path: Path) -> str:
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise WasiNnError(
            ErrorKind.NOT_FOUND, f"model file {path} can not be read: {error.strerror}"
        ) from error


def _ending(status: int) -> str:
    if status < 0:
        return signal.Signals(-status).name
    return f"exit status {status}"
