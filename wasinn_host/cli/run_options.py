"""The options of ``wasinn run``: one table, and the parser that reads it. Runs nothing.

Importing a command line library costs a large part of the time that a small guest takes from start
to end, so this command has a parser of its own; its help is laid out by the library all the same.

Options before the WebAssembly file are ours, everything after it is the guest's.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from wasinn_host.wasi.config import Preopen
from wasinn_runtime.engines.modes import DEFAULT_MODE, MODES
from wasinn_runtime.errors import UsageError

if TYPE_CHECKING:
    from wasinn_host.nn.batching import Batching
    from wasinn_host.nn.routing import DeviceRule

__all__ = [
    "HELP_FLAGS",
    "OPTIONS",
    "TRACES",
    "Option",
    "RunOptions",
    "add_nn_option",
    "looks_like_option",
    "parse",
]

HELP_FLAGS = ("--help", "-h")

#: What ``--trace`` can show.
TRACES: dict[str, str] = {
    "wasi": "each WASI call",
    "nn": "each WASI-NN call",
    "decode": "time to read the module",
    "validate": "time to check it",
    "compile": "time to compile it or take it from the cache",
}

_VALIDATE = ("lazy", "eager")
_SUFFIXES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class RunOptions:
    """What a command line says.

    Attributes:
        path: the WebAssembly file.
        args: the guest's arguments, after its name.
        mode: how the module is run.
        validate: ``lazy`` or ``eager``, see ``Config``.
        dirs: directories the guest may use.
        env: the guest's environment.
        preloads: ``NAME:ENCODING:TARGET:PATH``, or names of stored models.
        nn_backends: for an encoding, the name of the only backend plugin to ask.
        nn_options: for each backend plugin's name, its options.
        nn_devices: which backend and device to use for a target.
        nn_fallback: whether a model goes to the CPU when nobody offers its target.
        nn_isolate: whether each backend runs in a process of its own.
        nn_batch: how computations on one graph become one, or None.
        nn_float_io: whether the guest gives and gets floats where a model is quantised.
        nn_abi: how the guest numbers element types.
        nn_errno: the error numbers it knows, or None for those of the ABI.
        nn_limits: ``NAME=VALUE``, what the guest may use of WASI-NN.
        nn_metrics: the file that metrics are written to, or None.
        timeout_s: seconds of wall time, or None.
        max_memory_bytes: most that each linear memory may grow to, or None.
        invoke: the export to call instead of ``_start``, or None.
        traces: names from ``TRACES``.
        cache: whether compiled code is kept.
        help: help was asked for; the rest is not filled in.
    """

    def __init__(self) -> None:
        self.path = ""
        self.args: list[str] = []
        self.mode = DEFAULT_MODE
        self.validate = "lazy"
        self.dirs: list[Preopen] = []
        self.env: dict[str, str] = {}
        self.preloads: list[str] = []
        self.nn_backends: dict[str, str] = {}
        self.nn_options: dict[str, dict[str, str]] = {}
        self.nn_devices: list[DeviceRule] = []
        self.nn_fallback = False
        self.nn_isolate = False
        self.nn_batch: Batching | None = None
        self.nn_float_io = False
        self.nn_abi = "auto"
        self.nn_errno: str | None = None
        self.nn_limits: list[str] = []
        self.nn_metrics: str | None = None
        self.timeout_s: float | None = None
        self.max_memory_bytes: int | None = None
        self.invoke: str | None = None
        self.traces: set[str] = set()
        self.cache = True
        self.help = False


class Option:
    """A row of the table.

    Attributes:
        name: with its dashes.
        metavar: what stands for its value; empty for a flag.
        help: one sentence.
        take: puts a value into the options; raises UsageError for a bad one.
        repeatable: whether it may come more than once; of others the last one counts.
    """

    def __init__(
        self,
        name: str,
        metavar: str,
        help: str,
        take: Callable[[RunOptions, str], None],
        repeatable: bool = False,
    ) -> None:
        self.name = name
        self.metavar = metavar
        self.help = help
        self.take = take
        self.repeatable = repeatable


# --- one function per option ----------------------------------------------------------------------


def _unknown(what: str, word: str, known: Sequence[str]) -> NoReturn:
    from difflib import get_close_matches

    close = get_close_matches(word, known, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise UsageError(f"unknown {what} {word!r}; {hint}there is: {', '.join(known)}")


def _mode(options: RunOptions, text: str) -> None:
    if text not in MODES:
        _unknown("mode", text, MODES)
    options.mode = text


def _validate(options: RunOptions, text: str) -> None:
    if text not in _VALIDATE:
        _unknown("value of --validate", text, _VALIDATE)
    options.validate = text


def _dir(options: RunOptions, text: str) -> None:
    rest = text.removesuffix("::ro")
    host, _, guest = rest.partition("::")
    if not host or rest.endswith("::") or "::" in guest or guest.endswith(":ro"):
        raise UsageError(
            f"--dir {text!r}: expected HOST[::GUEST][::ro], for example data::/data::ro"
        )
    before, colon, after = host.partition(":")
    if colon and not guest and os.path.isdir(before) and not os.path.isdir(host):
        raise UsageError(
            f"--dir {text!r}: there is no such directory; two colons stand before the guest's "
            f"name for it: {before}::{after}"
        )
    options.dirs.append(Preopen(host, guest, read_only=rest is not text))


def _env(options: RunOptions, text: str) -> None:
    name, equals, value = text.partition("=")
    if not name:
        raise UsageError(f"--env {text!r}: expected NAME=VALUE, or NAME to pass ours on")
    if not equals:
        ours = os.environ.get(name)
        if ours is None:
            raise UsageError(
                f"--env {name}: there is no such variable to pass on; give a value: {name}=VALUE"
            )
        value = ours
    options.env[name] = value


def _nn_preload(options: RunOptions, text: str) -> None:
    if not text:
        raise UsageError("--nn-preload: expected NAME:ENCODING:TARGET:PATH or a model's name")
    options.preloads.append(text)


def _nn_backend(options: RunOptions, text: str) -> None:
    encoding, _, plugin = text.partition("=")
    if not (encoding and plugin):
        raise UsageError(f"--nn-backend {text!r}: expected ENCODING=PLUGIN, for example onnx=onnx")
    options.nn_backends[encoding] = plugin


def add_nn_option(found: dict[str, dict[str, str]], text: str) -> None:
    """Adds an option of a backend plugin to those that were found before.

    Raises:
        UsageError: the text is not ``PLUGIN.KEY=VALUE``.
    """
    key, equals, value = text.partition("=")
    plugin, dot, name = key.partition(".")
    if not (equals and dot and plugin and name):
        raise UsageError(
            f"--nn-option {text!r}: expected PLUGIN.KEY=VALUE, for example onnx.threads=2"
        )
    found.setdefault(plugin, {})[name] = value


def _nn_option(options: RunOptions, text: str) -> None:
    add_nn_option(options.nn_options, text)


def _nn_device(options: RunOptions, text: str) -> None:
    from wasinn_host.nn.routing import DeviceRule

    rule = DeviceRule.parse(text)
    if any((r.encoding, r.target) == (rule.encoding, rule.target) for r in options.nn_devices):
        raise UsageError(f"--nn-device {text!r}: there is one for {text.partition('=')[0]} already")
    options.nn_devices.append(rule)


def _nn_fallback(options: RunOptions, _text: str) -> None:
    options.nn_fallback = True


def _nn_isolate(options: RunOptions, _text: str) -> None:
    options.nn_isolate = True


def _nn_batch(options: RunOptions, text: str) -> None:
    from wasinn_host.nn.batching import Batching

    options.nn_batch = Batching.parse(text)


def _nn_float_io(options: RunOptions, _text: str) -> None:
    options.nn_float_io = True


def _nn_abi(options: RunOptions, text: str) -> None:
    from wasinn_host.nn.numbering import Numbering

    options.nn_abi = Numbering(text).abi


def _nn_errno(options: RunOptions, text: str) -> None:
    from wasinn_host.nn.numbering import Numbering

    options.nn_errno = Numbering(errno=text).errno


def _nn_limit(options: RunOptions, text: str) -> None:
    from wasinn_host.nn.limits import NnLimits

    NnLimits.parse([*options.nn_limits, text])
    options.nn_limits.append(text)


def _nn_metrics(options: RunOptions, text: str) -> None:
    if not text:
        raise UsageError("--nn-metrics: expected a file's name")
    options.nn_metrics = text


def _timeout(options: RunOptions, text: str) -> None:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UsageError(f"--timeout {text!r}: expected seconds above 0, for example 2.5")
    options.timeout_s = seconds


def _max_memory(options: RunOptions, text: str) -> None:
    digits = text.rstrip("kKmMgGiIbB")
    suffix = text[len(digits) :].lower()
    unit = suffix.removesuffix("ib") if suffix.endswith("ib") else suffix
    if not (digits.isascii() and digits.isdigit()) or unit not in _SUFFIXES or len(digits) > 18:
        raise UsageError(f"--max-memory {text!r}: expected bytes, or a number with k, M or G: 64M")
    size = int(digits) * _SUFFIXES[unit]
    if size == 0:
        raise UsageError(f"--max-memory {text!r}: expected more than 0 bytes")
    options.max_memory_bytes = size


def _invoke(options: RunOptions, text: str) -> None:
    options.invoke = text


def _trace(options: RunOptions, text: str) -> None:
    for name in text.split(","):
        if name not in TRACES:
            _unknown("trace", name, list(TRACES))
        options.traces.add(name)


def _no_cache(options: RunOptions, text: str) -> None:
    options.cache = False


OPTIONS: tuple[Option, ...] = (
    Option(
        "--mode", "MODE", f"How to run it: {', '.join(MODES)}; {DEFAULT_MODE} by default.", _mode
    ),
    Option(
        "--validate",
        "WHEN",
        "lazy: functions are checked when they are first called, in modes that make them ready "
        "then; eager: all before the module runs.",
        _validate,
    ),
    Option(
        "--dir",
        "HOST[::GUEST][::ro]",
        "A directory the guest may use, under the same or another name; ro: only to read.",
        _dir,
        repeatable=True,
    ),
    Option(
        "--env",
        "NAME[=VALUE]",
        "A variable of the guest's environment; without a value ours is passed on.",
        _env,
        repeatable=True,
    ),
    Option(
        "--nn-preload",
        "NAME[:ENCODING:TARGET:PATH]",
        "A model that the guest may load by name: a file, or NAME[:VARIANT] of `wasinn models`.",
        _nn_preload,
        repeatable=True,
    ),
    Option(
        "--nn-backend",
        "ENCODING=PLUGIN",
        "The only backend plugin to ask for models of an encoding.",
        _nn_backend,
        repeatable=True,
    ),
    Option(
        "--nn-option",
        "PLUGIN.KEY=VALUE",
        "An option of a backend plugin; `wasinn backends` lists them.",
        _nn_option,
        repeatable=True,
    ),
    Option(
        "--nn-device",
        "[ENCODING:]TARGET=BACKEND[:DEVICE]",
        "The only backend, and device of it, for what guests ask of a target.",
        _nn_device,
        repeatable=True,
    ),
    Option(
        "--nn-fallback",
        "",
        "Run models on the CPU, and say so, when nobody offers the target they were meant for.",
        _nn_fallback,
    ),
    Option(
        "--nn-isolate",
        "",
        "Run each backend in a process of its own, out of reach of what goes wrong in it.",
        _nn_isolate,
    ),
    Option(
        "--nn-batch",
        "max=REQUESTS,wait=TIME",
        "Compute what several threads ask of one graph together, such as max=32,wait=2ms.",
        _nn_batch,
    ),
    Option(
        "--nn-float-io",
        "",
        "Convert the floats that the guest gives and gets where a model is quantised.",
        _nn_float_io,
    ),
    Option(
        "--nn-abi",
        "ABI",
        "How the guest numbers element types: witx, old, wit; auto, where each tensor tells, by "
        "default.",
        _nn_abi,
    ),
    Option(
        "--nn-errno",
        "TABLE",
        "The error numbers that the guest knows: witx, ancient, wit; by default those of its ABI.",
        _nn_errno,
    ),
    Option(
        "--nn-limit",
        "NAME=VALUE",
        "What the guest may use of WASI-NN at most, such as graphs=4, model-bytes=64M or "
        "compute-seconds=2.5.",
        _nn_limit,
        repeatable=True,
    ),
    Option(
        "--nn-metrics",
        "FILE",
        "Write what was asked of each graph: FILE.json as JSON, all else as Prometheus reads it.",
        _nn_metrics,
    ),
    Option("--timeout", "SECONDS", "Stop the guest after that long.", _timeout),
    Option(
        "--max-memory",
        "SIZE",
        "The most that each linear memory may grow to: bytes, or with k, M or G.",
        _max_memory,
    ),
    Option(
        "--invoke",
        "NAME",
        "Call this export instead of _start; ARGS are its arguments, results are printed.",
        _invoke,
    ),
    Option(
        "--trace",
        "NAMES",
        f"Tell on standard error, comma-separated: {', '.join(TRACES)}.",
        _trace,
        repeatable=True,
    ),
    Option("--no-cache", "", "Compile anew, and keep nothing.", _no_cache),
)


# --- parsing --------------------------------------------------------------------------------------


def looks_like_option(word: str) -> bool:
    """Whether a word before the WebAssembly file is an option."""
    return word.startswith("-") and word != "-"


def parse(words: Sequence[str]) -> RunOptions:
    """Reads the words after ``wasinn run``.

    Raises:
        UsageError: which word is wrong, and what there is.
    """
    table = {option.name: option for option in OPTIONS}
    options = RunOptions()
    at = 0
    while at < len(words) and looks_like_option(words[at]):
        word = words[at]
        at += 1
        if word == "--":
            break
        if word in HELP_FLAGS:
            options.help = True
            return options
        name, equals, value = word.partition("=")
        option = table.get(name)
        if option is None:
            _unknown("option", name, [*table, HELP_FLAGS[0]])
        if not option.metavar:
            if equals:
                raise UsageError(f"{name} takes no value, got {value!r}")
        elif not equals:
            if at == len(words):
                raise UsageError(f"{name} needs a value: {name} {option.metavar}")
            value = words[at]
            at += 1
        option.take(options, value)
    if at == len(words):
        raise UsageError(
            "no WebAssembly file: expected wasinn run [OPTIONS] APP.wasm [ARGS...]; "
            "`wasinn run --help` lists the options"
        )
    options.path, options.args = words[at], list(words[at + 1 :])
    if not options.path:
        raise UsageError("the WebAssembly file's name is empty")
    return options
