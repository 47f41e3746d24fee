"""Compiles hot functions in a process of its own, beside the guest that runs.

A process and not a thread: lowering would take turns with the guest's host functions, and nothing
that LLVM does may end the host. It is started with the first hot function whose code is not in the
cache yet, and killed with the module or with this process. A second one makes the module's AOT
image for later runs, once this one has taken about as long as that will.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from wasinn_runtime.binary.decoder import decode
from wasinn_runtime.binary.module import ParsedModule
from wasinn_runtime.engines.aot import image_key
from wasinn_runtime.engines.cache import CodeCache, generator_digest
from wasinn_runtime.engines.compile import module_key
from wasinn_runtime.errors import LimitExceeded, UsageError, WasinnError
from wasinn_runtime.lower.groups import group_unit
from wasinn_runtime.lower.loop_entry import Loop
from wasinn_runtime.lower.outline import ENTRIES_SYMBOL, escaping_functions, layout_of
from wasinn_runtime.machine.native import when_gone
from wasinn_runtime.pipes import close, receive, send, serving, start
from wasinn_runtime.valid.function import OperandTypes
from wasinn_runtime.valid.validate import valid_body

if TYPE_CHECKING:
    from wasinn_runtime.engines.llvm import Target

__all__ = ["Background", "Job", "serve"]

_PROGRAM = "from wasinn_runtime.engines.background import serve; serve()"

# About what LLVM takes for a byte of WebAssembly. Waiting for as long at least doubles no guest's
# processor time, and nothing is compiled for those that end soon.
_SECONDS_PER_BYTE = 60e-6
_LEAST_SECONDS = 1.0
# LLVM needs up to a gigabyte for so much, and half a minute.
_MOST_IMAGE_BYTES = 512 << 10
_NICE = 10


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
        cache: where compiled code is kept, if anywhere.
        done: a method, called in that thread with each job and its linked code; its object is not
            kept alive.
    """

    def __init__(
        self, parsed: ParsedModule, opt_level: int, cache: CodeCache | None, done: Done
    ) -> None:
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        compiler = _Child(parsed, opt_level)
        when_gone(self, _end, compiler, self._jobs)
        if cache is not None and parsed.code_bytes <= _MOST_IMAGE_BYTES:
            _make_image_later(self, parsed, opt_level, cache)
        key_of = _key_of(parsed, opt_level)
        threading.Thread(
            target=_drive,
            args=(compiler, cache, key_of, self._jobs, weakref.WeakMethod(done)),
            name="wasinn background compiler",
            daemon=True,
        ).start()

    def compile(self, job: Job) -> None:
        """Have it compiled when its turn comes; a function that can not be stays as it is."""
        self._jobs.put(job)


def _key_of(parsed: ParsedModule, opt_level: int) -> Callable[[Job], str]:
    """Under what each job's code is in the cache."""
    return lambda job: module_key("hot", parsed, opt_level, repr(job))


def _make_image_later(
    owner: object, parsed: ParsedModule, opt_level: int, cache: CodeCache
) -> None:
    """Make a module's AOT image for the cache, unless the owner goes before it is worth it."""
    compiler, gone = _Child(parsed, opt_level), threading.Event()
    when_gone(owner, _end_image, compiler, gone)
    seconds = max(_LEAST_SECONDS, parsed.code_bytes * _SECONDS_PER_BYTE)
    key = image_key(parsed, opt_level)

    def make() -> None:
        if not gone.wait(seconds) and key not in cache:
            with contextlib.suppress(OSError, EOFError, ValueError, UsageError):
                image = compiler.ask({"functions": None})
                compiler.end()
                if image is not None:
                    cache.put(key, image)

    threading.Thread(target=make, name="wasinn image compiler", daemon=True).start()


def _end_image(compiler: _Child, gone: threading.Event) -> None:
    gone.set()
    compiler.end()


class _Child:
    """A compiling process, there from the first question on."""

    def __init__(self, parsed: ParsedModule, opt_level: int) -> None:
        self._hello = {
            "name": parsed.where,
            "features": sorted(parsed.features),
            "opt_level": opt_level,
        }
        self._data = parsed.data
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    def ask(self, message: Mapping[str, Any]) -> bytes | None:
        """What comes of a job, or of one for no functions, see ``serve``; None if nothing can.

        Raises:
            OSError, EOFError, ValueError: there is no process, or none any more.
        """
        with self._lock:
            if self._ended:
                raise EOFError
            process, is_new = self._process, self._process is None
            if process is None:
                process = self._process = start(_PROGRAM, quiet=True)
        assert process.stdin is not None
        assert process.stdout is not None
        if is_new:
            send(process.stdin, self._hello | {"build": generator_digest()}, self._data)
        send(process.stdin, message, b"")
        answer, image = receive(process.stdout)
        return None if "error" in answer else image

    def end(self) -> None:
        with self._lock:
            self._ended = True
            if self._process is not None:
                self._process.kill()
                close(self._process)


def _end(compiler: _Child, jobs: queue.SimpleQueue[Job | None]) -> None:
    jobs.put(None)
    compiler.end()


def _drive(
    compiler: _Child,
    cache: CodeCache | None,
    key_of: Callable[[Job], str],
    jobs: queue.SimpleQueue[Job | None],
    done: weakref.WeakMethod[Done],
) -> None:
    # The process ends when the module goes, or by a fault of LLVM's, or there is no memory for its
    # code: the guest runs on as it is.
    with contextlib.suppress(OSError, EOFError, ValueError, UsageError, LimitExceeded, MemoryError):
        while (job := jobs.get()) is not None:
            image, key = None, ""
            if cache is not None:
                key = key_of(job)
                image = cache.get(key)
            is_new = image is None
            image = image or compiler.ask(asdict(job))
            publish = done()
            if publish is not None and image is not None:
                publish(job, image)
            del publish
            if cache is not None and is_new and image is not None:
                cache.put(key, image)


def serve() -> None:
    """Compile jobs as they come, until the input ends; one for no functions asks for the image."""
    source, sink = serving()
    from wasinn_runtime.engines.llvm import host_target

    target = host_target()
    with contextlib.suppress(EOFError, BrokenPipeError):
        hello, data = receive(source)
        if hello["build"] != generator_digest():
            return  # installed over the version that asks, whose code fits no other
        parsed = decode(data, hello["name"], frozenset(hello["features"]))
        compiler = _Compiler(parsed, target, hello["opt_level"])
        while True:
            message, _ = receive(source)
            try:
                if message["functions"] is None:
                    image = compiler.image()
                else:
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

    def image(self) -> bytes:
        """The module's AOT image, while others may have the processor first."""
        from wasinn_runtime.engines.aot_compile import AotOptions, compile_image

        os.nice(_NICE)
        parsed = self.parsed
        options = AotOptions(opt_level=self.opt_level, features=parsed.features)
        return bytes(compile_image(parsed.data, parsed.where, options).image)

    def compile(self, functions: Sequence[int], loop: int | None) -> bytes:
        """Functions as one unit, linked; with an entry for the first one's loop of a number."""
        from wasinn_runtime.engines.link import link
        from wasinn_runtime.engines.linked import pack
        from wasinn_runtime.engines.llvm import to_object

        bodies = {index: valid_body(self.parsed, index) for index in functions}
        hot = functions[0]
        entry = None
        if loop is not None:
            entry = Loop(loop, OperandTypes(self.parsed, hot, bodies[hot]))
        text = group_unit(self.parsed, self.layout, self.places, bodies, entry)
        return pack(link([to_object(text, self.target, self.opt_level)], (ENTRIES_SYMBOL,)))
