"""``wasinn run``: a guest from start to end. Its options are in ``run_options``."""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from wasinn_host.cli import status
from wasinn_host.cli.ctrl_c import ends_at_once
from wasinn_host.cli.module_file import read_module
from wasinn_host.cli.run_options import RunOptions, parse
from wasinn_host.cli.talk import put, safe, say
from wasinn_host.host import NN_MODULES, Host
from wasinn_runtime.engines.engine import Config
from wasinn_runtime.engines.module import Module
from wasinn_runtime.errors import GuestExit, Interrupted, LimitExceeded, Trap, UsageError
from wasinn_runtime.spec.types import FuncType

if TYPE_CHECKING:
    from wasinn_host.nn.limits import NnLimits
    from wasinn_host.nn.metrics import NnMetrics
    from wasinn_models.progress import Progress

__all__ = ["run"]


def run(words: Sequence[str]) -> int:
    """Does what the words after ``wasinn run`` say; the exit status.

    Raises:
        WasinnError, OSError: it could not be run.
    """
    options = parse(words)
    if options.help:
        from wasinn_host.cli.run_help import help_text

        put(help_text())
        return 0
    metrics = _metrics(options)
    host = Host(
        Config(mode=options.mode, validate=options.validate, cache=options.cache),
        backend_options=options.nn_options,
        backend_routes=options.nn_backends,
        device_rules=options.nn_devices,
        device_fallback=say if options.nn_fallback else None,
        isolate_backends=options.nn_isolate,
        batching=options.nn_batch,
        metrics=metrics,
        nn_limits=_nn_limits(options),
    )
    with host:
        with ends_at_once():
            module = _load(host, options)
        values = _values(module, options)
        _prepare_models(host, module, options)
        if sys.stdout is not None:
            sys.stdout.flush()
        # A guest whose output nobody reads ends as any other program does.
        before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        gc.freeze()
        gc.enable()
        try:
            return _run(host, module, options, values)
        finally:
            signal.signal(signal.SIGPIPE, before)
            if metrics is not None and options.nn_metrics is not None:
                metrics.write(options.nn_metrics)


def _load(host: Host, options: RunOptions) -> Module:
    # By its name, not by its content: no file that passes for a module may bring native code.
    if options.path.endswith(".aot"):
        return _load_image(host, options)
    data = read_module(options.path)
    if options.traces.isdisjoint(("decode", "validate", "compile")):
        return Module(host.engine, data, options.path)
    from wasinn_host.cli.stages import load_traced

    return load_traced(
        host.engine, data, options.path, options.traces, lambda stage, text: say(text, stage)
    )


def _load_image(host: Host, options: RunOptions) -> Module:
    began = time.perf_counter()
    module = Module.from_aot(host.engine, options.path)
    if "compile" in options.traces:
        took_ms = (time.perf_counter() - began) * 1000
        say(f"{options.path}: compiled ahead of time, loaded in {took_ms:.1f} ms", "compile")
    return module


def _values(module: Module, options: RunOptions) -> list[object]:
    """The arguments for ``--invoke``; none without it."""
    if options.invoke is None:
        return []
    functions = {name: ty for name, ty in module.exports if isinstance(ty, FuncType)}
    if options.invoke not in functions:
        from difflib import get_close_matches

        near = get_close_matches(options.invoke, functions, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise UsageError(
            f"{options.path} exports no function {options.invoke!r}; {hint}"
            f"it exports: {', '.join(functions) or 'none'}"
        )
    from wasinn_host.cli.values import parse_values

    return parse_values(options.args, functions[options.invoke], options.invoke)


def _run(host: Host, module: Module, options: RunOptions, values: list[object]) -> int:
    sinks: dict[str, Callable[[str], None]] = {
        name: _sink(name) for name in ("wasi", "nn") if name in options.traces
    }
    try:
        result = host.run(
            module,
            () if options.invoke is not None else options.args,
            invoke=options.invoke,
            values=values,
            timeout_s=options.timeout_s,
            dirs=options.dirs,
            env=options.env,
            max_memory_bytes=options.max_memory_bytes,
            nn_float_io=options.nn_float_io,
            nn_abi=options.nn_abi,
            nn_errno=options.nn_errno,
            trace_wasi=sinks.get("wasi"),
            trace_nn=sinks.get("nn"),
        )
    except GuestExit as exit_:  # while it was being made, by a start function
        return status.of_guest(exit_.code)
    except Interrupted as stop:
        if stop.code != "timeout":
            raise
        say(f"{options.path}: timeout: the guest was stopped after {options.timeout_s:g} s")
        return status.TIMED_OUT
    except Trap as trap:
        say(f"{options.path}: {trap}")
        return status.TRAPPED
    except LimitExceeded as error:
        say(f"{options.path}: {error}")
        return status.FAILED
    if result.exit_code and result.nn_error is not None:
        say(f"{options.path}: its last failing WASI-NN call: {result.nn_error}")
        if os.environ.get("WASINN_DEBUG") == "1":
            import traceback

            say("".join(traceback.format_exception(result.nn_error)))
    if options.invoke is not None and result.exit_code == 0:
        _print_results(module, options.invoke, result.value)
    return status.of_guest(result.exit_code)


def _sink(name: str) -> Callable[[str], None]:
    """Takes lines of a trace. They hold text of the guest's."""

    def write(line: str) -> None:
        if sys.stderr is not None:
            sys.stderr.write(f"{name}: {safe(line)}\n")

    return write


def _print_results(module: Module, name: str, value: object) -> None:
    from wasinn_host.cli.values import shown

    ty = next(t for n, t in module.exports if n == name and isinstance(t, FuncType))
    values = value if len(ty.results) > 1 and isinstance(value, tuple) else (value,)
    for result, one in zip(ty.results, values, strict=False):
        put(f"{shown(one, result)}\n")


def _metrics(options: RunOptions) -> NnMetrics | None:
    if options.nn_metrics is None:
        return None
    from wasinn_host.nn.metrics import NnMetrics

    return NnMetrics()


# --- models ---------------------------------------------------------------------------------------


def _nn_limits(options: RunOptions) -> NnLimits | None:
    if not options.nn_limits:
        return None
    from wasinn_host.nn.limits import NnLimits

    return NnLimits.parse(options.nn_limits)


def _prepare_models(host: Host, module: Module, options: RunOptions) -> None:
    """Loads what ``--nn-preload`` names, so that a bad model is told of before the guest runs."""
    given = (options.nn_options, options.nn_backends, options.nn_devices)
    if not (options.preloads or any(given)):
        return
    from wasinn_host.nn import WasiNnError

    if any(given):
        _check_backend_options(host, options)
    names = set()
    for text in options.preloads:
        name = text.partition(":")[0]
        if name in names:
            raise UsageError(f"--nn-preload {text!r}: the name {name!r} is given twice")
        names.add(name)
        try:
            # NAME:VARIANT has one colon, a file's form three or more.
            if text.count(":") <= 1:
                _preload_stored(host, name, text)
            else:
                _preload_file(host, text)
        except WasiNnError as error:
            raise UsageError(f"--nn-preload {text!r}: {error}") from error
    if options.preloads and all(name not in NN_MODULES for name, _, _ in module.imports):
        say(f"{options.path} does not import {NN_MODULES[0]}: it will not use the preloaded models")


def _preload_file(host: Host, text: str) -> None:
    from wasinn_host.nn import PreloadSpec

    spec = PreloadSpec.parse(text)
    # Tell apart what the person can fix from what the backend says of the file.
    with open(spec.path, "rb"):
        pass
    host.graphs.preload(spec, eager=True)


def _preload_stored(host: Host, name: str, text: str) -> None:
    from wasinn_host.nn import Target
    from wasinn_models.errors import ModelError
    from wasinn_models.store import ModelStore

    with _progress() as progress:
        try:
            model = ModelStore(progress=progress, notice=say).resolve(text)
        except ModelError as error:
            path = text.replace("=", ":").rpartition(":")[2]
            if os.path.isfile(path) or "." in path:
                stem = os.path.basename(path).partition(".")[0] or "model"
                raise UsageError(
                    f"{error}; a file is given with its name, encoding and target: "
                    f"--nn-preload {stem}:onnx:cpu:{path}"
                ) from error
            raise
    host.graphs.register(name, model.encoding, Target.AUTO, paths=model.paths, eager=True)


class _progress:  # noqa: N801  (reads as a verb where it is used)
    """Shows how a download goes; costs nothing when the model is already there."""

    def __enter__(self) -> Progress:
        from contextlib import ExitStack

        self._stack = ExitStack()
        shown: list[Progress] = []

        def report(label: str, done: int, total: int | None) -> None:
            if not shown:
                from wasinn_models.rich_progress import progress_bar

                shown.append(self._stack.enter_context(progress_bar()))
            shown[0](label, done, total)

        return report

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _check_backend_options(host: Host, options: RunOptions) -> None:
    """An option for a plugin that is not there, or that it refuses, is an error of the command."""
    named = [("--nn-option", name) for name in options.nn_options]
    named += [("--nn-backend", name) for name in options.nn_backends.values()]
    named += [("--nn-device", rule.backend) for rule in options.nn_devices]
    only = {name for _, name in named}
    reports = {report.name: report for report in host.backends.report(only=only)}
    for option, name in named:
        if name not in reports:
            raise UsageError(
                f"{option}: there is no backend plugin {name!r}; "
                f"there is: {', '.join(sorted(reports)) or 'none'}"
            )
        if reports[name].error:
            raise UsageError(f"{option}: {reports[name].error}")
