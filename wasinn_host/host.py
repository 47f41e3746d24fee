"""Running guests from Python: one call like the command line, or an open guest with its exports.

    host = Host()
    host.preload("minilm:onnx:cpu:minilm.onnx")
    result = host.run("app.wasm", ["query"], dirs={"/data": "corpus"}, capture_output=True)

A ``Host`` holds what guests share: the engine, backend plugins, named graphs. Each guest gets a
store, descriptors and handles of its own. This is not the command line (``wasinn_host.cli``).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wasinn_host.wasi import MODULE as WASI_MODULE
from wasinn_host.wasi import Capture, Preopen, Stdio, WasiConfig, WasiContext
from wasinn_runtime import (
    Config,
    Engine,
    Func,
    GuestExit,
    Instance,
    Linker,
    Memory,
    Module,
    Store,
    UsageError,
    WasinnError,
)

if TYPE_CHECKING:
    from wasinn_host.nn import (
        BackendRegistry,
        GraphRegistry,
        NnContext,
        NnLimits,
        WasiNnError,
    )
    from wasinn_host.nn.batching import Batching
    from wasinn_host.nn.metrics import NnMetrics
    from wasinn_host.nn.routing import DeviceRule
    from wasinn_host.wasi import StdinSource, StdoutTarget

__all__ = ["Guest", "GuestFailed", "GuestOptions", "Host", "Result"]

NN_MODULES = ("wasi_ephemeral_nn", "wasi_nn", "wasinn_nn")
_RUN_ONLY = ("invoke", "values", "timeout_s", "input", "capture_output", "check")
TraceSink = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Result:
    """How a guest ended.

    Attributes:
        exit_code: the guest's own status, 0 to 2**32-1.
        stdout, stderr: what it wrote, if that was captured.
        value: what the function returned, if one was invoked by name.
        nn_error: what the latest failing WASI-NN call failed with; the guest saw a number only.
    """

    exit_code: int
    stdout: bytes | None = None
    stderr: bytes | None = None
    value: object = None
    nn_error: WasiNnError | None = None

    @property
    def text(self) -> str:
        """``stdout`` as UTF-8; what is not becomes U+FFFD.

        Raises:
            UsageError: it was not captured.
        """
        if self.stdout is None:
            raise UsageError("stdout was not captured; pass capture_output=True")
        return self.stdout.decode("utf-8", "replace")


class GuestFailed(WasinnError):
    """A guest ended with a status other than 0, and ``check=True`` was asked for.

    Attributes:
        result: how it ended.
    """

    def __init__(self, name: str, result: Result) -> None:
        self.result = result
        told = (result.stderr or b"").decode("utf-8", "replace").strip()
        message = f"{name} exited with status {result.exit_code}" + (f": {told}" if told else "")
        if result.nn_error is not None:
            message += f" (its last failing WASI-NN call: {result.nn_error})"
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class GuestOptions:
    """What a guest is given. Nothing is shared with it unless it is named here.

    Attributes:
        args: the command line after the program's name.
        env: environment variables.
        dirs: directories, from the guest's name to the host path, such as ``{"/data": "data"}``;
            or a list of ``Preopen``, which can be read-only.
        stdin, stdout, stderr: see ``wasinn_host.wasi.WasiConfig``.
        max_memory_bytes: the most that each linear memory may grow to; None for 4 GiB.
        nn_float_io: whether it gives and gets floats where a model is quantised.
        nn_abi: how it numbers element types: ``auto`` (each tensor tells), ``witx``, ``old`` or
            ``wit``.
        nn_errno: the error numbers it knows: ``witx``, ``ancient``, ``wit``; None for ``wit`` with
            the ABI of that name, and else ``witx``.
        trace_wasi, trace_nn: take a line for each call of that interface.
        program: the guest's ``argv[0]``; None for the module's file name.
    """

    args: Sequence[str | bytes] = ()
    env: Mapping[str, str] | None = None
    dirs: Mapping[str, str | os.PathLike[str]] | Sequence[Preopen] = ()
    stdin: StdinSource = Stdio.INHERIT
    stdout: StdoutTarget = Stdio.INHERIT
    stderr: StdoutTarget = Stdio.INHERIT
    max_memory_bytes: int | None = None
    nn_float_io: bool = False
    nn_abi: str = "auto"
    nn_errno: str | None = None
    trace_wasi: TraceSink | None = None
    trace_nn: TraceSink | None = None
    program: str | None = None

    def preopens(self) -> tuple[Preopen, ...]:
        if isinstance(self.dirs, Mapping):
            return tuple(Preopen(host, guest) for guest, host in self.dirs.items())
        if any(not isinstance(item, Preopen) for item in self.dirs):
            raise UsageError(
                "dirs: expected {guest's name: host path} or a list of Preopen, for example "
                f"dirs={{'/data': 'data'}}; got {self.dirs!r}"
            )
        return tuple(self.dirs)


class Guest:
    """An instance with WASI and WASI-NN of its own. Use it as a context manager.

    Attributes:
        store: its store; ``store.deadline`` and ``store.cancel`` limit its time.
        instance: the instance.
        exports: functions, memories, tables and globals by name or as attributes.
        wasi: its WASI context, or None when it imports none.
        nn: its WASI-NN context, or None when it imports none.
        last_nn_error: what its latest failing WASI-NN call failed with; ``__cause__`` is what the
            backend raised. The guest itself sees a number only.
    """

    def __init__(self, host: Host, module: Module, options: GuestOptions, store: Store) -> None:
        self.module = module
        self.store = store
        self.wasi: WasiContext | None = None
        self.nn: NnContext | None = None
        wanted = {name for name, _, _ in module.imports}
        linker = host.make_linker()
        try:
            if WASI_MODULE in wanted:
                self.wasi = _wasi_context(module, options)
                for name, ty, function in self.wasi.functions():
                    linker.define_func(
                        WASI_MODULE, name, ty, function, access_caller=True, unsigned=True
                    )
            if not wanted.isdisjoint(NN_MODULES):
                self._add_nn(host, linker, options)
            self.instance: Instance = linker.instantiate(self.store, module)
        except BaseException:
            self.close()
            raise
        self.exports = self.instance.exports

    def _add_nn(self, host: Host, linker: Linker, options: GuestOptions) -> None:
        from wasinn_host.nn import NnContext
        from wasinn_host.nn.linking import codecs_for
        from wasinn_host.nn.numbering import Numbering

        numbering = Numbering(options.nn_abi, options.nn_errno)
        self.nn = NnContext(host.graphs, host.nn_limits, float_io=options.nn_float_io)
        for codec in codecs_for(self.module.imports, self.nn, numbering, options.trace_nn):
            for name, ty, function in codec.functions():
                linker.define_func(
                    codec.module, name, ty, function, access_caller=True, unsigned=True
                )

    @property
    def last_nn_error(self) -> WasiNnError | None:
        return None if self.nn is None else self.nn.last_error

    @property
    def memory(self) -> Memory:
        """The exported memory named ``memory``.

        Raises:
            UsageError: it exports none.
        """
        memory = self.exports.get("memory")
        if not isinstance(memory, Memory):
            raise UsageError(f"{self.module.parsed.where} exports no memory named 'memory'")
        return memory

    def call(self, name: str, *args: object) -> object:
        """Call an exported function; a guest that exits raises ``GuestExit``.

        Raises:
            UsageError: there is no such function; the message lists what there is.
        """
        function = self.exports.get(name)
        if not isinstance(function, Func):
            names = [n for n, item in self.exports.items() if isinstance(item, Func)]
            known = ", ".join(names) or "none"
            raise UsageError(
                f"{self.module.parsed.where} exports no function {name!r}; its functions: {known}"
            )
        return function(*args)

    def initialize(self) -> None:
        """Run a reactor's ``_initialize``, if it has one. Once, before other calls."""
        if "_initialize" in self.exports:
            self.call("_initialize")

    def start(self) -> int:
        """Run a command's ``_start`` to its end.

        Returns:
            The exit status: 0 when it returned, else what it passed to ``proc_exit``.

        Raises:
            UsageError: it is not a command.
            Trap: and whatever else a call may raise.
        """
        if "_start" not in self.exports:
            names = ", ".join(n for n, item in self.exports.items() if isinstance(item, Func))
            raise UsageError(
                f"{self.module.parsed.where} is not a command: it exports no _start; "
                f"invoke one of its functions instead ({names or 'it exports none'})"
            )
        try:
            self.call("_start")
        except GuestExit as exit_:
            return exit_.code
        return 0

    def close(self) -> None:
        """Close its descriptors, graphs and contexts. Do not call it afterwards."""
        if self.wasi is not None:
            self.wasi.close()
        if self.nn is not None:
            self.nn.close()

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _advice(module: str, name: str) -> str:
    from wasinn_host.imports import advice

    return advice(module, name, (WASI_MODULE, *NN_MODULES))


def _given(options: Mapping[str, Any], others: Sequence[str] = ()) -> GuestOptions:
    """The options by name; for one that there is not, says which there are, with ``others``."""
    fields = [field.name for field in dataclasses.fields(GuestOptions)]
    for name in options:
        if name not in fields:
            from difflib import get_close_matches

            known = [*fields, *others]
            close = get_close_matches(name, known, n=1, cutoff=0.7)
            hint = f"did you mean {close[0]}? " if close else ""
            raise TypeError(f"unknown option {name!r}; {hint}there is: {', '.join(known)}")
    args = options.get("args", ())
    if isinstance(args, str | bytes):
        raise UsageError(f"args: expected a list of arguments, got {args!r}; write [{args!r}]")
    return GuestOptions(**{**options, "args": tuple(args)})


def _wasi_context(module: Module, options: GuestOptions) -> WasiContext:
    if not isinstance(options.env or {}, Mapping):
        raise UsageError(f"env: expected a mapping from names to values, got {options.env!r}")
    program = options.program or os.path.basename(module.parsed.where)
    config = WasiConfig(
        args=[program, *options.args],
        env=dict(options.env or {}),
        preopens=options.preopens(),
        stdin=options.stdin,
        stdout=options.stdout,
        stderr=options.stderr,
    )
    return WasiContext(config, trace=options.trace_wasi)


class Host:
    """What guests share: an engine, backend plugins, named graphs, extra imports. Thread-safe.

    Args:
        config: how modules are compiled.
        nn_limits: what each guest may use of WASI-NN; None for the defaults.
        backend_options: options of backend plugins, by plugin name.
        backend_routes: for each encoding, the name of the only plugin to ask.
        device_rules: which backend and device to use for a target.
        device_fallback: is told when a model goes to the CPU since nobody offers the target that
            the guest asked for; None makes that an error of the guest's call.
        isolate_backends: whether each backend runs in a process of its own, so that a fault in a
            model or a driver does not reach this one.
        batching: how computations of many guests on one graph become one; None for not at all.
        metrics: what counts what guests ask of graphs, or None.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        nn_limits: NnLimits | None = None,
        backend_options: Mapping[str, Mapping[str, str]] | None = None,
        backend_routes: Mapping[str, str] | None = None,
        device_rules: Sequence[DeviceRule] = (),
        device_fallback: Callable[[str], None] | None = None,
        isolate_backends: bool = False,
        batching: Batching | None = None,
        metrics: NnMetrics | None = None,
    ) -> None:
        self.engine = Engine(config)
        self.nn_limits = nn_limits
        self._backend_options = backend_options
        self._backend_routes = backend_routes
        self._device_rules = device_rules
        self._device_fallback = device_fallback
        self._isolate_backends = isolate_backends
        self._batching = batching
        self._metrics = metrics
        self._definitions: list[Callable[[Linker], None]] = []
        self._lock = threading.Lock()
        self._graphs: GraphRegistry | None = None

    @property
    def graphs(self) -> GraphRegistry:
        """The named graphs, and through them the backend plugins. Made when first asked for."""
        from wasinn_host.nn import BackendRegistry, GraphRegistry

        with self._lock:
            if self._graphs is None:
                self._graphs = GraphRegistry(
                    BackendRegistry(
                        options=self._backend_options,
                        routes=self._backend_routes,
                        rules=self._device_rules,
                        fallback=self._device_fallback,
                        isolate=self._isolate_backends,
                    ),
                    batching=self._batching,
                    metrics=self._metrics,
                )
            return self._graphs

    @property
    def backends(self) -> BackendRegistry:
        """The backend plugins; ``backends.add`` registers one of the running program."""
        return self.graphs.backends

    def close(self) -> None:
        """Let go of graphs and backends. Guests that are still open must not compute any more."""
        with self._lock:
            graphs, self._graphs = self._graphs, None
        if graphs is not None:
            graphs.close()
            graphs.backends.close()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def preload(self, spec: str) -> None:
        """Give guests a graph by name. The model is loaded when first asked for, once.

        Args:
            spec: ``NAME:ENCODING:TARGET:PATH``, for example ``minilm:onnx:cpu:model.onnx``.

        Raises:
            UsageError: the text is not of that form, or the name is taken.
        """
        from wasinn_host.nn import PreloadSpec

        self.graphs.preload(PreloadSpec.parse(spec))

    def define(self, add: Callable[[Linker], None]) -> None:
        """Offer further imports to every guest: ``add`` is called with each guest's linker."""
        self._definitions.append(add)

    def make_linker(self) -> Linker:
        """A linker with the further imports."""
        linker = Linker(self.engine, _advice)
        for add in self._definitions:
            add(linker)
        return linker

    def load(self, module: Module | bytes | str | os.PathLike[str]) -> Module:
        """Compile a module from a file or from bytes, or take it from the cache.

        Raises:
            OSError: the file can not be read.
            Malformed, Invalid: it is not a module.
        """
        if isinstance(module, Module):
            return module
        if isinstance(module, bytes | bytearray | memoryview):
            return Module(self.engine, bytes(module))
        return Module.from_file(self.engine, Path(module))

    def open(self, module: Module | bytes | str | os.PathLike[str], **options: Any) -> Guest:
        """An instance to call into, after ``_initialize`` if it has one.

        Args:
            module: a file, bytes, or a loaded module.
            options: see ``GuestOptions``.
        """
        loaded, given = self.load(module), _given(options)
        store = Store(self.engine, max_memory_bytes=given.max_memory_bytes)
        guest = Guest(self, loaded, given, store)
        try:
            guest.initialize()
        except BaseException:
            guest.close()
            raise
        return guest

    def run(
        self,
        module: Module | bytes | str | os.PathLike[str],
        args: Iterable[str | bytes] = (),
        *,
        invoke: str | None = None,
        values: Sequence[object] = (),
        timeout_s: float | None = None,
        input: str | bytes | None = None,
        capture_output: bool = False,
        check: bool = False,
        **options: Any,
    ) -> Result:
        """Run a guest from start to end, as ``wasinn run`` does.

        Args:
            module: a file, bytes, or a loaded module.
            args: the guest's command line, after the program's name.
            invoke: call this export instead of ``_start``.
            values: its arguments.
            timeout_s: seconds of wall time from instantiation on; works on every thread.
            input: all of standard input.
            capture_output: keep what it writes in the result (at most 64 MiB a stream).
            check: raise ``GuestFailed`` for a status other than 0.
            options: see ``GuestOptions``.

        Raises:
            Trap: the guest trapped; ``Interrupted`` when the time was over.
            Malformed, Invalid, LinkError: it can not run at all.
            GuestFailed: with ``check``.
        """
        prepared = _Run(self, self.load(module), args, options, input, capture_output)
        return prepared.run(invoke, values, timeout_s, check)

    async def run_async(
        self,
        module: Module | bytes | str | os.PathLike[str],
        args: Iterable[str | bytes] = (),
        **options: Any,
    ) -> Result:
        """``run`` in a worker thread, without blocking the event loop. Takes the same arguments.

        Cancelling the task ends the guest.
        """
        import asyncio  # slow to import, and only needed here

        names = ("invoke", "values", "timeout_s", "check")
        how = {name: options.pop(name) for name in names if name in options}
        text, capture = options.pop("input", None), options.pop("capture_output", False)
        loaded = await asyncio.to_thread(self.load, module)
        prepared = _Run(self, loaded, args, options, text, capture)
        try:
            return await asyncio.to_thread(prepared.run, **how)
        except asyncio.CancelledError:
            prepared.cancel()
            raise


class _Run:
    """One run of a guest from start to end; ``cancel`` may come from any thread, at any time."""

    def __init__(
        self,
        host: Host,
        module: Module,
        args: Iterable[str | bytes],
        options: dict[str, Any],
        input: str | bytes | None,
        capture_output: bool,
    ) -> None:
        self._host = host
        self._module = module
        self._out = self._err = None
        for name in ("stdout", "stderr"):
            if capture_output and name in options:
                raise UsageError(f"capture_output keeps {name} too: give one of the two")
        if input is not None and "stdin" in options:
            raise UsageError("input is all of stdin: give one of the two")
        if capture_output:
            self._out = options["stdout"] = Capture()
            self._err = options["stderr"] = Capture()
        if input is not None:
            options["stdin"] = input
        self._options = _given({"args": args, **options}, _RUN_ONLY)
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._cancelled = False

    def cancel(self) -> None:
        with self._lock:
            self._cancelled = True
            if self._store is not None:
                self._store.cancel()

    def _began(self, store: Store) -> None:
        with self._lock:
            self._store = store
            if self._cancelled:
                store.cancel()

    def run(
        self,
        invoke: str | None = None,
        values: Sequence[object] = (),
        timeout_s: float | None = None,
        check: bool = False,
    ) -> Result:
        store = Store(self._host.engine, max_memory_bytes=self._options.max_memory_bytes)
        self._began(store)
        code, value = 0, None
        guest: Guest | None = None  # a start function may exit before there is one
        opened = functools.partial(Guest, self._host, self._module, self._options, store)
        try:
            with store.deadline(timeout_s), opened() as guest:
                if invoke is None:
                    code = guest.start()
                else:
                    guest.initialize()
                    value = guest.call(invoke, *values)
        except GuestExit as exit_:
            code = exit_.code
        finally:
            self._module.keep()
        out, err = _written(self._out), _written(self._err)
        nn_error = None if guest is None else guest.last_nn_error
        result = Result(code, out, err, value, nn_error)
        if check and code:
            raise GuestFailed(self._module.parsed.where, result)
        return result


def _written(capture: Capture | None) -> bytes | None:
    return None if capture is None else capture.data
