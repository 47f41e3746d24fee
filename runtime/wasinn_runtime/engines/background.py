"""Compiles hot functions in a process of its own, beside the guest that runs.

A process and not a thread: lowering would take turns with the guest's host functions, and nothing
that LLVM does may end the host. It is started with the first hot function and killed with the
module or with this process.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.engines.pipes import close, receive, send, serving, start
from wasinn_runtime.errors import WasinnError
from wasinn_runtime.lower.groups import group_unit
from wasinn_runtime.lower.loop_entry import Loop
from wasinn_runtime.lower.outline import ENTRIES_SYMBOL, escaping_functions, layout_of
from wasinn_runtime.machine.native import when_gone
from wasinn_runtime.valid.function import operand_types
from wasinn_runtime.valid.validate import valid_body

if TYPE_CHECKING:
    from wasinn_runtime.engines.llvm import Target

__all__ = ["Background", "Job", "serve"]

_PROGRAM = "from wasinn_runtime.engines.background import serve; serve()"


@dataclass(frozen=True, slots=True)
class Job:
    """Functions to compile as one unit.

    Attributes:
        functions: their indices, the hot one first.
        loop: the loop of the first one, from 0, that is to have an entry as well, or None.
    """

    functions: tuple[int, ...]
    loop: int | None


Done = Callable[[Job, bytes], None]


class Background:
    """One module's compiling process, and the thread here that talks to it.

    Args:
        parsed: the module.
        opt_level: LLVM's.
        done: a method, called in that thread with each job and its linked code; its object is not
            kept alive.
    """

    def __init__(self, parsed: ParsedModule, opt_level: int, done: Done) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._process = start(_PROGRAM)
        when_gone(self, _end, self._process, self._jobs)
        hello = {
            "name": parsed.where,
            "features": sorted(parsed.features),
            "opt_level": opt_level,
        }
        threading.Thread(
            target=_drive,
            args=(self._process, hello, parsed.data, self._jobs, weakref.WeakMethod(done)),
            name="wasinn background compiler",
            daemon=True,
        ).start()

    def compile(self, job: Job) -> None:
        """Have it compiled when its turn comes; a function that can not be stays as it is."""
        self._jobs.put(job)


def _end(process: subprocess.Popen[bytes], jobs: queue.SimpleQueue[Job | None]) -> None:
    jobs.put(None)
    process.kill()
    close(process)


def _drive(
    process: subprocess.Popen[bytes],
    hello: dict[str, Any],
    data: bytes,
    jobs: queue.SimpleQueue[Job | None],
    done: weakref.WeakMethod[Done],
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    # The process ends when the module goes, or by a fault of LLVM's: the guest runs on as it is.
    with contextlib.suppress(OSError, EOFError, ValueError):
        send(process.stdin, hello, data)
        while (job := jobs.get()) is not None:
            send(process.stdin, asdict(job), b"")
            answer, image = receive(process.stdout)
            publish = done()
            if publish is not None and "error" not in answer:
                publish(job, image)
            del publish


def serve() -> None:
    """Compile jobs as they come, until the input ends."""
    source, sink = serving()
    from wasinn_runtime.engines.llvm import host_target

    target = host_target()
    with contextlib.suppress(EOFError, BrokenPipeError):
        hello, data = receive(source)
        parsed = decode(data, hello["name"], frozenset(hello["features"]))
        compiler = _Compiler(parsed, target, hello["opt_level"])
        while True:
            message, _ = receive(source)
            try:
                image = compiler.compile(message["functions"], message["loop"])
            except WasinnError as error:
                send(sink, {"error": str(error)}, b"")
            else:
                send(sink, {}, image)


class _Compiler:
    """The compiling process's view of the module."""

    def __init__(self, parsed: ParsedModule, target: Target, opt_level: int) -> None:
        self.parsed, self.target, self.opt_level = parsed, target, opt_level
        self.layout = layout_of(parsed)
        self.places = {index: i for i, index in enumerate(escaping_functions(parsed))}

    def compile(self, functions: Sequence[int], loop: int | None) -> bytes:
        from wasinn_runtime.engines.link import link
        from wasinn_runtime.engines.linked import pack
        from wasinn_runtime.engines.llvm import to_object

        bodies = {index: valid_body(self.parsed, index) for index in functions}
        hot = functions[0]
        entry = None
        if loop is not None:
            entry = Loop(loop, lambda at: operand_types(self.parsed, hot, bodies[hot], at))
        text = group_unit(self.parsed, self.layout, self.places, bodies, entry)
        return pack(link([to_object(text, self.target, self.opt_level)], (ENTRIES_SYMBOL,)))
