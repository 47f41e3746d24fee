"""Compiling the parts of a module in processes of their own, since LLVM takes turns within one.

The processes run this Python with ``serve``, get the module once and then parts to compile, over
pipes. They end when their input does, or when the process that started them ends.
"""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.errors import (
    Internal,
    Invalid,
    LimitExceeded,
    Malformed,
    UsageError,
    WasinnError,
)
from wasinn_runtime.lower.units import Part
from wasinn_runtime.pipes import close, receive, send, serving, start
from wasinn_runtime.valid.validate import validate

if TYPE_CHECKING:
    from wasinn_runtime.engines.aot_compile import AotOptions, Progress
    from wasinn_runtime.engines.llvm import Target

__all__ = ["compile_parts", "serve"]

_PROGRAM = "from wasinn_runtime.engines.parallel import serve; serve()"
_Message = Mapping[str, Any]
# What compiling may raise.
_KINDS: dict[str, Callable[..., WasinnError]] = {
    kind.__name__: kind for kind in (Internal, Invalid, LimitExceeded, Malformed, UsageError)
}


def compile_parts(
    parsed: ParsedModule,
    parts: Sequence[Part],
    target: Target,
    options: AotOptions,
    stage: Callable[[str, float], None],
    tell: Progress,
) -> list[bytes]:
    """Compile parts, each in one of ``options.jobs`` processes.

    Args:
        stage: told of each stage's seconds.
        tell: told how far it is.

    Returns:
        An object file for each part, in order.

    Raises:
        Malformed, Invalid: why it is not a module.
        Internal: a process ended before its work did.
    """
    team = _Team(parsed, parts, target, options, stage, tell)
    try:
        return team.run()
    except (Malformed, Invalid):
        validate(parsed)  # of several defects, tell the one that one process would
        raise


class _Team:
    """The processes, and a thread here to talk to each."""

    def __init__(
        self,
        parsed: ParsedModule,
        parts: Sequence[Part],
        target: Target,
        options: AotOptions,
        stage: Callable[[str, float], None],
        tell: Progress,
    ) -> None:
        self.parsed, self.parts = parsed, parts
        self.hello = {
            "name": parsed.where,
            "features": sorted(parsed.features),
            "target": asdict(target),
            "options": {
                "opt_level": options.opt_level,
                "verify_ir": options.verify_ir,
                "migratable": options.migratable,
            },
        }
        self.jobs = min(options.jobs, len(parts))
        self.stage, self.tell = stage, tell
        self.objects: list[bytes] = [b""] * len(parts)
        self.waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
        first = parsed.imported_functions
        self.sizes = [
            sum(parsed.code[i - first].end - parsed.code[i - first].start for i in p.own)
            for p in parts
        ]
        for number in sorted(range(len(parts)), key=lambda n: -self.sizes[n]):
            self.waiting.put(number)
        self.events: queue.SimpleQueue[tuple[int, object]] = queue.SimpleQueue()
        self.processes: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._is_over = False

    def run(self) -> list[bytes]:
        done, total = 0, sum(self.sizes)
        self.tell("compile", 0, total)
        # Daemons: nothing waits for them when the compilation is given up.
        threads = [threading.Thread(target=self._drive, daemon=True) for _ in range(self.jobs)]
        try:
            for thread in threads:
                thread.start()
            for _ in self.parts:
                number, outcome = self.events.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                done += self.sizes[number]
                self.tell("compile", done, total)
        finally:
            with self._lock:
                self._is_over = True
                for process in self.processes:
                    process.kill()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            for process in self.processes:
                close(process)
        return self.objects

    def _start(self) -> subprocess.Popen[bytes] | None:
        """A process of the team; None if it is not needed any more."""
        with self._lock:
            if self._is_over:
                return None
            self.processes.append(start(_PROGRAM))
            return self.processes[-1]

    def _drive(self) -> None:
        process = None
        try:
            # Here, since Ctrl-C ends the main thread wherever it is: also between a process's start
            # and its being known.
            process = self._start()
            if process is None:
                return
            assert process.stdin is not None
            assert process.stdout is not None
            send(process.stdin, self.hello, self.parsed.data)
            while True:
                try:
                    number = self.waiting.get_nowait()
                except queue.Empty:
                    return
                part = self.parts[number]
                send(process.stdin, _as_message(part), b"")
                answer, image = receive(process.stdout)
                if "error" in answer:
                    raise _revived(answer["error"])
                for name, seconds in answer["seconds"]:
                    self.stage(name, seconds)
                self.objects[number] = image
                self.events.put((number, None))
        except (OSError, EOFError) as error:
            if process is None:
                self.events.put((-1, error))
                return
            code = process.wait()
            ended = f"signal {-code}" if code < 0 else f"status {code}"
            self.events.put(
                (-1, _because(Internal(f"a compiling process ended by {ended}"), error))
            )
        except BaseException as error:
            self.events.put((-1, error))


def _because(error: WasinnError, cause: BaseException) -> WasinnError:
    error.__cause__ = cause
    return error


# --- messages -------------------------------------------------------------------------------------


def _as_message(part: Part) -> _Message:
    return {
        "own": sorted(part.own),
        "shared": sorted(part.shared),
        "copies": sorted(part.copies),
        "has_entries": part.has_entries,
    }


def _as_part(message: _Message) -> Part:
    sets = {key: frozenset(message[key]) for key in ("own", "shared", "copies")}
    return Part(**sets, has_entries=message["has_entries"])


def _described(error: WasinnError) -> _Message:
    kind = type(error).__name__
    if isinstance(error, Malformed | Invalid):
        arguments = [error.message, error.offset, error.where, error.function]
    else:
        arguments = [str(error)]
    return {"kind": kind, "arguments": arguments}


def _revived(message: _Message) -> WasinnError:
    """The error that a process met, as the one that it was."""
    return _KINDS[message["kind"]](*message["arguments"])


# --- the other side -------------------------------------------------------------------------------


def serve() -> None:
    """Compile parts as they come, until the input ends."""
    source, sink = serving()
    from wasinn_runtime.engines.aot_compile import AotOptions, object_of_part
    from wasinn_runtime.engines.llvm import Target

    try:
        hello, data = receive(source)
        parsed = decode(data, hello["name"], frozenset(hello["features"]))
        target, options = Target(**hello["target"]), AotOptions(**hello["options"])
        while True:
            message, _ = receive(source)
            seconds: list[tuple[str, float]] = []
            try:
                image = object_of_part(
                    parsed,
                    _as_part(message),
                    target,
                    options,
                    lambda name, spent: seconds.append((name, spent)),  # noqa: B023
                )
            except WasinnError as error:
                send(sink, {"error": _described(error)}, b"")
            else:
                send(sink, {"seconds": seconds}, image)
    except (EOFError, BrokenPipeError):
        return
